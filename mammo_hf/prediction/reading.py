"""Images read ahead by processes, handed over in order; a file that kills its process takes no other along."""

from __future__ import annotations

import multiprocessing
from collections import deque
from collections.abc import Iterable, Iterator
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from typing import Any

import numpy as np

from ..data.prepare.processes import follow_parent, no_interrupts
from ..errors import MammoError
from ..geometry import Geometry
from ..image_processing_mammo import MammoImageProcessor

AHEAD = 8  # images a process that wait for the model at most: they hold memory


@dataclass(frozen=True)
class ReadImage:
    """An image as the model takes it, or the reason why there is none.

    Attributes:
        index: Its place in the list.
        pixel_values: float32 (channels, height, width); ``None`` where it could not be read.
        geometry: The way back to its pixels.
        laterality: "L", "R", "B", or "" where the file does not say.
        view: As "CC", "MLO", or "".
        reason: Why it could not be read.
    """

    index: int
    pixel_values: np.ndarray | None = None
    geometry: Geometry | None = None
    laterality: str = ""
    view: str = ""
    reason: str | None = None


def read_image(processor: MammoImageProcessor, index: int, file: str) -> ReadImage:
    """Reads one file; whatever is wrong with it becomes the reason."""
    try:
        source = processor.open(file)
        facts = ("", "")
        if source.mammogram is not None:
            facts = source.mammogram.header.laterality.value, source.mammogram.header.view.value
        made = processor.preprocess(source, return_geometry=True)
        return ReadImage(index, np.asarray(made["pixel_values"][0]), made["geometry"][0], *facts)
    except MammoError as error:
        return ReadImage(index, reason=error.problem)
    except OSError as error:
        return ReadImage(index, reason=error.strerror or type(error).__name__)
    except MemoryError:
        return ReadImage(index, reason="takes more memory than there is")


class ImageReader:
    """Reads files in their order, ahead of whoever takes them.

    Args:
        processor: Makes model input of them.
        num_workers: Processes that read; 0: this one.
    """

    def __init__(self, processor: MammoImageProcessor, num_workers: int) -> None:
        self._processor, self._workers = processor, num_workers
        self._pool: ProcessPoolExecutor | None = None

    def __enter__(self) -> ImageReader:
        return self

    def __exit__(self, *exception: object) -> None:
        self._end()

    def read(self, files: Iterable[tuple[int, str]]) -> Iterator[ReadImage]:
        """The images of files, each with its place, in the files' order."""
        if not self._workers:
            yield from (read_image(self._processor, index, file) for index, file in files)
            return
        waiting: deque[tuple[int, str, Future[ReadImage]]] = deque()
        coming = iter(files)
        for index, file in coming:
            waiting.append((index, file, self._submitted(index, file)))
            if len(waiting) >= AHEAD * self._workers:
                yield self._taken(waiting)
        while waiting:
            yield self._taken(waiting)

    def _taken(self, waiting: deque[tuple[int, str, Future[ReadImage]]]) -> ReadImage:
        index, file, future = waiting.popleft()
        try:
            return future.result()
        except BrokenProcessPool:
            # one of those under way killed its process, and the pool with it: this file gets a process of its own, and
            # what was waiting is begun anew
            self._end()
            result = self._alone(index, file)
            for place, (at, of, old) in enumerate(waiting):
                if not old.done() or old.cancelled() or old.exception() is not None:
                    waiting[place] = (at, of, self._submitted(at, of))
            return result

    def _alone(self, index: int, file: str) -> ReadImage:
        with self._new_pool(1) as pool:
            try:
                return pool.submit(_work, index, file).result()
            except BrokenProcessPool:
                return ReadImage(index, reason="the process that read it was killed, perhaps for want of memory")

    def _submitted(self, index: int, file: str) -> Future[ReadImage]:
        with no_interrupts():  # a process is started here, if one is still missing
            try:
                if self._pool is None:
                    self._pool = self._new_pool(self._workers)
                return self._pool.submit(_work, index, file)
            except BrokenProcessPool as error:
                future: Future[ReadImage] = Future()
                future.set_exception(error)
                return future

    def _new_pool(self, workers: int) -> ProcessPoolExecutor:
        # spawned, not forked: the threads of the model do not survive a fork
        context = multiprocessing.get_context("spawn")
        return ProcessPoolExecutor(workers, context, _start_worker, (self._processor,))

    def _end(self) -> None:
        if self._pool is not None:
            self._pool.shutdown(wait=True, cancel_futures=True)
            self._pool = None


_WORKER: dict[str, Any] = {}


def _start_worker(processor: MammoImageProcessor) -> None:
    follow_parent()
    import torch

    torch.set_num_threads(1)  # there is a process for each core
    _WORKER["processor"] = processor


def _work(index: int, file: str) -> ReadImage:
    return read_image(_WORKER["processor"], index, file)
