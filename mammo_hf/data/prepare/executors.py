"""Executors that prepare the shards: this process, several of this machine, those of a launch, or a Ray cluster.

All run the same function on the same rows, so the bytes are the same. A run that dies loses nothing: a shard's file is
whole or not there.
"""

from __future__ import annotations

import json
import os
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import FIRST_COMPLETED, Future, wait
from dataclasses import asdict
from itertools import islice
from typing import Any

import numpy as np
from tqdm.auto import tqdm

from ...errors import MammoError, UsageError, install
from ...files import PART, Folder, is_remote
from ...isolation import Readers, isolating
from .folder import LAYOUT
from .shard import Shard, ShardResult, ShardWriter


class Progress:
    """The bar: images done, images per second, time left. What was there already does not count for the speed."""

    def __init__(self, total: int, doing: str = "preparing", shown: bool = True) -> None:
        self._lock = threading.Lock()
        hidden = None if shown else True  # None: hidden if there is no terminal
        self.bar = tqdm(total=total, desc=doing, unit=" images", leave=False, smoothing=0.05, disable=hidden)

    def __enter__(self) -> Progress:
        return self

    def __exit__(self, *exception: object) -> None:
        self.bar.close()

    def add(self, images: int) -> None:
        """Count images that have just been written or rejected, on any thread."""
        with self._lock:
            self.bar.update(images)

    def add_found(self, result: ShardResult) -> None:
        """Count the images of a shard if it was up to date."""
        if not (result.written or self.bar.disable):  # a bar that nobody sees holds no counts
            self.bar.initial += result.rows
            self.bar.n += result.rows
            self.bar.refresh()


# brings all shards up to date and reports each
Executor = Callable[[Iterator[Shard], ShardWriter, Progress], Iterator[ShardResult]]


def here(shards: Iterator[Shard], writer: ShardWriter, progress: Progress) -> Iterator[ShardResult]:
    """Prepare the shards in this process alone."""
    for shard in shards:
        result = writer.write(shard, lambda: progress.add(1))
        progress.add_found(result)
        yield result


def pool(num_workers: int) -> Executor:
    """Return an executor of this many reader processes, each with a thread of this process that writes what was read.

    Few shards wait at a time, so that memory does not grow with the collection.
    """

    def run(shards: Iterator[Shard], writer: ShardWriter, progress: Progress) -> Iterator[ShardResult]:
        waiting: set[Future[ShardResult]] = set()
        with Readers(num_workers) as readers:
            for shard in shards:
                found = writer.up_to_date(shard)
                if found is not None:
                    progress.add_found(found)
                    yield found
                    continue
                waiting.add(readers.submit(writer.write, shard, lambda: progress.add(1)))
                while len(waiting) >= 2 * num_workers:
                    yield from _ended(waiting, progress)
            while waiting:
                yield from _ended(waiting, progress)

    return run


def _ended(waiting: set[Future[ShardResult]], progress: Progress) -> Iterator[ShardResult]:
    """Wait for a shard to end, and take those that have ended out of those that are waited for."""
    for future in wait(waiting, return_when=FIRST_COMPLETED).done:
        waiting.remove(future)
        result = future.result()
        progress.add_found(result)
        yield result


class Launch:
    """The processes that ``accelerate launch`` or torchrun has started, filling one folder together.

    The shards are dealt out in turn. The first process lays the folder out before, and finishes it when the others have
    left the results of their shards in files; they end when it has removed these. Only the start is a barrier of torch,
    which gives up after some minutes: the processes may need very different times. If one fails, the launcher ends all.

    Args:
        state: The ``PartialState`` of accelerate.
    """

    def __init__(self, state: Any) -> None:
        self.index, self.processes, self._meet = state.process_index, state.num_processes, state.wait_for_everyone

    def start(self, folder: Folder) -> None:
        """Wait until the first process has laid out the folder.

        Raises:
            UsageError: This process does not see the folder of the first one.
        """
        if not self.index:
            self._forget(folder)
        self._meet()
        if folder.size(LAYOUT) is None:
            remedy = "name a folder on a disk that all machines share, or in an object store"
            raise UsageError("is not the folder of the launch's first process", source=folder, remedy=remedy)

    def divided(self, run: Executor) -> Executor:
        """Return an executor of this process's shards; that of the first reports the others' too."""

        def divide(shards: Iterator[Shard], writer: ShardWriter, progress: Progress) -> Iterator[ShardResult]:
            own = []
            for result in run(islice(shards, self.index, None, self.processes), writer, progress):
                own.append(asdict(result))
                yield result
            if self.index:
                writer.folder.write_text(_results_of(self.index), json.dumps(own))
                return
            for other in range(1, self.processes):
                while (text := writer.folder.read_text(_results_of(other))) is None:
                    time.sleep(POLL)
                for found in json.loads(text):
                    result = ShardResult(**found)
                    progress.add(result.rows if result.written else 0)
                    progress.add_found(result)
                    yield result

        return divide

    def end(self, folder: Folder) -> None:
        """End together: the first process has finished the folder, the others wait for that."""
        if not self.index:
            self._forget(folder)
        while folder.read_text(_results_of(self.index)) is not None:
            time.sleep(POLL)

    def _forget(self, folder: Folder) -> None:
        for name in folder.names("shards"):
            if name.startswith(_RESULTS):
                folder.remove(name)


POLL = 0.2  # seconds between two looks for another process's results
_RESULTS = f"shards/{PART}of-process-"  # as a half-written file, which the next run removes if this one is killed


def _results_of(index: int) -> str:
    return f"{_RESULTS}{index:05d}.json"


def ray_executor(address: str | None = None, *, num_cpus: int | None = None) -> Executor:
    """Return an executor on Ray; Ray Data gives each shard to a worker as a task, and runs a lost task again.

    Args:
        address: Address of a running cluster: "auto", "ray://head:10001"; ``None``: a Ray on this machine, ended
            afterwards unless the program has started one already.
        num_cpus: Workers of the Ray on this machine; ``None``: one per core.

    Raises:
        UsageError: Ray is not installed, or there is no cluster at this address.
    """
    try:
        import ray
    except ImportError as error:
        raise UsageError("Ray is not installed", source="ray", remedy=install("ray")) from error

    def run(shards: Iterator[Shard], writer: ShardWriter, progress: Progress) -> Iterator[ShardResult]:
        ours = not ray.is_initialized()
        if ours:
            _connect(ray, address, num_cpus)
        url = writer.folder.url
        # the nodes have another working directory
        elsewhere = ShardWriter(
            Folder(url if is_remote(url) else os.path.abspath(url)), writer.layout, writer.preparation
        )
        try:
            for result in _ray_results(ray, shards, elsewhere):
                progress.add(result.rows if result.written else 0)
                progress.add_found(result)
                yield result
        finally:
            if ours:
                ray.shutdown()

    return run


def _connect(ray: Any, address: str | None, num_cpus: int | None) -> None:
    try:
        # a cluster has its own CPUs; the workers' imports of ours are theirs too
        own = {"num_cpus": num_cpus, "include_dashboard": False} if address is None else {}
        ray.init(address=address, log_to_driver=False, **own)
    except (ConnectionError, ValueError, RuntimeError) as error:
        raise UsageError(
            f"no Ray can be reached ({type(error).__name__})",
            source=address or "ray",
            remedy="start one with `ray start --head`, or leave `ray_address` out",
        ) from error


def _ray_results(ray: Any, shards: Iterator[Shard], writer: ShardWriter) -> Iterator[ShardResult]:
    """Run the shards as tasks of Ray Data and yield their results as they end."""
    # the rows go to the cluster's object store once, shard by shard; a task fetches its own
    references = [ray.put(shard) for shard in shards]
    ray.data.DataContext.get_current().enable_progress_bars = False
    dataset = ray.data.range(len(references), override_num_blocks=len(references)).map_batches(
        _prepare_batch,
        batch_size=None,
        batch_format="numpy",
        fn_kwargs={"references": references, "writer": writer},
    )
    for row in dataset.iter_rows():
        result = json.loads(row["result"])
        if "error" in result:
            problem, source, remedy = result["error"]
            raise UsageError(problem, source=source, remedy=remedy)
        yield ShardResult(**result["shard"])


@isolating()
def _prepare_batch(batch: dict[str, np.ndarray], references: list[Any], writer: ShardWriter) -> dict[str, list[str]]:
    import ray

    results = []
    for number in batch["id"]:
        shard = ray.get(references[int(number)])
        try:
            result: dict[str, Any] = {"shard": asdict(writer.write(shard))}
        except MammoError as error:
            # as data: an exception would be tried again, wrapped, and reported with a page of traceback
            result = {"error": [error.problem, error.source, error.remedy]}
        results.append(json.dumps(result))
    return {"result": results}
