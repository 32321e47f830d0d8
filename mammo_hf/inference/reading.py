"""Archives of images: the files to read, reading ahead by processes, scoring side by side, and the outcome."""

from __future__ import annotations

import copy
import os
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from queue import SimpleQueue
from typing import Any, Generic, NamedTuple, TypeVar

import numpy as np
import torch

from ..data.datasets.tables import SUFFIXES as TABLE_SUFFIXES
from ..data.datasets.tables import read_table, read_text
from ..data.overrides import NOTHING, SKIPPED, Override, Overrides, override_of
from ..data.precedence import NO_HEADER, Precedence, precedence
from ..dicom import Laterality, View
from ..dicom.parsing import text
from ..encoders.views import Drawn, Picture, Views, drawn
from ..errors import MammoError, UsageError, refusing
from ..files import is_dicom_entry, walk
from ..isolation import Readers, read_apart
from ..notes import codes, counts_text
from ..processing.geometry import Geometry
from ..processing.image_processing_mammo import MammoImageProcessor

REJECTED = ("file", "reason", "code")  # columns of the table of rejected files


@dataclass(frozen=True)
class InferenceResult:
    """The outcome of applying a model to many images.

    Attributes:
        output: The table of scores, or the folder of pictures.
        images: Number of images in it.
        rejected: Number of files that could not be read.
        rejects: The table that lists them with the reasons; ``None`` if there are none.
        resumed: Number of files that an earlier, interrupted run had already read.
        notes: Number of images in it by code of a note.
        refusals: Number of rejected files by code of the reason.
    """

    output: Path
    images: int
    rejected: int = 0
    rejects: Path | None = None
    resumed: int = 0
    notes: Mapping[str, int] = field(default_factory=dict)
    refusals: Mapping[str, int] = field(default_factory=dict)

    def __str__(self) -> str:
        before = f", {self.resumed} of them from an earlier run" if self.resumed else ""
        rejected = f"; {self.rejected} files rejected, see {self.rejects}" if self.rejected else ""
        counts = counts_text(self.notes, self.refusals)
        return f"{self.images} images in {self.output}{before}{rejected}{counts}"


# The files to read: all images below a folder, or those of a list.

_PICTURES = (".png", ".tif", ".tiff", ".jpg", ".jpeg", ".pgm")
_LISTS = (".txt", *TABLE_SUFFIXES)
Source = str | os.PathLike[str] | Sequence[str | os.PathLike[str]]


def files_below(folder: str | os.PathLike[str]) -> list[str]:
    """Return the DICOM files and pictures below a folder, in order, as paths relative to it.

    A folder that cannot be listed is among them, so that it is rejected by its name.

    Raises:
        UsageError: There is none.
    """
    unlisted: list[str] = []  # read like files, which says what is wrong with them
    images = walk(folder, lambda path, reason: unlisted.append(path), _is_image)
    found = sorted(os.path.relpath(path, folder) for path in [*images, *unlisted])
    if not found:
        raise UsageError("contains no DICOM file and no picture", source=folder, remedy="check the path")
    return found


def _is_image(entry: os.DirEntry[str]) -> bool:
    hidden = entry.name.startswith(".")
    return not hidden and (os.path.splitext(entry.name)[1].lower() in _PICTURES or is_dicom_entry(entry))


def files_to_read(source: Source) -> list[str]:
    """Return the files that a source names, in their order.

    Args:
        source: An image, a folder of images, a list of paths (``.txt``, one per line), a table (``.csv``, ``.xlsx``)
            with a column of paths, which is known by its name, a collection, or a sequence of these. Paths in a list
            are relative to its own folder, those in a table also to one that is given after a colon,
            "labels.csv:FOLDER".

    Raises:
        UsageError: A folder or list that contains no image, or a list that cannot be read.
        DataError: A table cannot be read, or no column names files.
    """
    inputs = _named(source)
    found: list[str] = []
    for given in inputs:
        if os.path.isdir(given):
            found += [os.path.join(given, file) for file in files_below(given)]
        elif given.lower().endswith(_LISTS):
            found += _listed(Path(given))
        elif _is_table_of(given):
            table, _, folder = given.rpartition(":")
            found += _listed(Path(table), Path(folder))
        elif len(inputs) == 1 and not os.path.exists(given):
            raise UsageError("no such file or folder", source=given, remedy="check the path")
        else:
            found.append(given)
    if not found:
        raise UsageError("names no image", source="source", remedy="give at least one")
    return found


def _named(source: Source) -> list[str]:
    """Return what a source names, a collection by the paths of its images.

    Raises:
        UsageError: The collection is of prepared images or features.
    """
    column = getattr(source, "column", None)  # a collection, whose class brings `datasets`
    if column is None:
        return [os.fspath(one) for one in ([source] if isinstance(source, (str, os.PathLike)) else source)]
    paths: list[str] = column("path")
    if any("#" in path and not os.path.exists(path) for path in paths[:1]):
        remedy = "give the files that they were made from, or use `evaluate`"
        raise UsageError("lists prepared images or features, not files", source="source", remedy=remedy)
    return paths


def _is_table_of(given: str) -> bool:
    """Return whether a source is a table with the folder of its images, as `load` takes it."""
    return given.rpartition(":")[0].lower().endswith(TABLE_SUFFIXES) and not os.path.exists(given)


def _listed(path: Path, folder: Path | None = None) -> list[str]:
    if path.suffix.lower() == ".txt":
        named = [line.strip() for line in read_text(path).splitlines() if line.strip()]
        found = [os.path.normpath(os.path.join(path.parent, one)) for one in named]
    else:
        from ..data.datasets.own_table import image_files  # loads pandas, which few readings need

        found = image_files(read_table(path), path, folder)
    if not found:
        raise UsageError("names no file", source=path, remedy="give one path per line")
    return found


# Images read ahead by reader processes and returned in order.

AHEAD = 8  # most images per process that wait for the model: they hold memory


@dataclass(frozen=True)
class ReadImage:
    """An image as the model takes it, or the reason why it could not be read.

    Attributes:
        index: The file's index in the list.
        pixel_values: Normalised image, float32 (channels, height, width); ``None`` if it could not be read, or if the
            model takes views.
        views: Views that an encoder takes in its place.
        geometry: The way back to the file's pixels; that of the tiles if there are any.
        laterality: "L", "R", "B", or "" if the file does not say.
        view: "CC", "MLO" or another view, or "" if the file does not say.
        study: StudyInstanceUID, or what the user says in its place; "" if neither says.
        accession: AccessionNumber; "" if the file does not say.
        precedence: Its rank among the images of its view.
        notes: Codes of the notes on the image.
        reason: Why it could not be read.
        code: The reason's code, a key of `mammo_hf.notes.REFUSALS`.
        decoded: Way that its pixels were decoded: "exact", "1/2", "1/4", ...
    """

    index: int
    pixel_values: np.ndarray | None = None
    views: Drawn | None = None
    geometry: Geometry | None = None
    laterality: str = ""
    view: str = ""
    study: str = ""
    accession: str = ""
    precedence: Precedence = NO_HEADER
    notes: tuple[str, ...] = ()
    reason: str | None = None
    code: str = ""
    decoded: str = ""


def folders_of(source: Source) -> list[str]:
    """Return the folders of a source that paths in an overrides file may be relative to."""
    inputs = _named(source)
    places = [part for given in inputs for part in (given.rsplit(":", 1) if _is_table_of(given) else [given])]
    return list(dict.fromkeys(place if os.path.isdir(place) else os.path.dirname(place) or "." for place in places))


class Cut(NamedTuple):
    """Parts of an image that an encoder sees.

    Attributes:
        views: Choice of the views.
        tile: Side of a tile in pixels.
    """

    views: Views
    tile: int


def read_image(
    processor: MammoImageProcessor, index: int, file: str, override: Override = NOTHING, cut: Cut | None = None
) -> ReadImage:
    """Read one file; anything wrong with it becomes the reason.

    Args:
        processor: Processor that makes model input of it.
        index: The file's index in the list.
        file: Path of the file.
        override: What the user says of the file in place of its header.
        cut: What is made of it for an encoder; ``None``: a normalised image.
    """
    if override.skip:
        return ReadImage(index, reason=SKIPPED, code="skipped")
    try:
        with refusing(file):
            source = processor.open(file)
            source.override(override.laterality, override.view)
            header = None if source.mammogram is None else source.mammogram.dataset
            study, accession = (
                "" if header is None else text(header, name) for name in ("StudyInstanceUID", "AccessionNumber")
            )
            exam = override.exam or study
            facts = source.laterality, source.projection, exam, accession, precedence(source.mammogram)
            if cut is not None:
                seen = drawn(Picture.of_image(source, processor), *cut)
                return ReadImage(index, None, seen, seen.finest[1], *facts, seen.notes, decoded=source.decoded)
            made = processor.preprocess(source, return_geometry=True, return_notes=True)
        pixels, geometry = np.asarray(made["pixel_values"][0]), made["geometry"][0]
        return ReadImage(index, pixels, None, geometry, *facts, tuple(codes(made["notes"][0])), decoded=source.decoded)
    except MammoError as error:
        return ReadImage(index, reason=error.problem, code=error.code)


class ImageReader:
    """A reader of files in their order, ahead of the model.

    Args:
        processor: The processor that makes model input of them.
        num_workers: Number of processes that read; 0 reads in this one.
        overrides: What the user says of files in place of their headers.
        cut: What is made of them for an encoder; ``None``: normalised images.
    """

    def __init__(
        self,
        processor: MammoImageProcessor,
        num_workers: int,
        overrides: Overrides | None = None,
        cut: Cut | None = None,
    ) -> None:
        self.processor, self._workers, self.overrides, self._cut = processor, num_workers, overrides or {}, cut
        self._readers = Readers(num_workers) if num_workers else None

    def __enter__(self) -> ImageReader:
        return self

    def __exit__(self, *exception: object) -> None:
        if self._readers is not None:
            self._readers.__exit__(*exception)

    def read(self, files: Iterable[tuple[int, str]]) -> Iterator[ReadImage]:
        """Yield the images of files, given with their indices, in the files' order."""
        given = ((index, file, override_of(self.overrides, file), self._cut) for index, file in files)
        if self._readers is None:
            yield from (read_image(self.processor, *one) for one in given)
            return
        waiting: deque[Future[ReadImage]] = deque()
        for one in given:
            waiting.append(self._readers.submit(_read_apart, self.processor, *one))
            if len(waiting) >= AHEAD * self._workers:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()


def _read_apart(
    processor: MammoImageProcessor, index: int, file: str, override: Override, cut: Cut | None
) -> ReadImage:
    try:
        return read_apart(read_image, processor, index, file, override, cut)
    except MammoError as error:
        return ReadImage(index, reason=error.problem, code=error.code)


# Batches scored side by side, each by a thread of its own with a model of its own, which is the fastest on a CPU.
#
# Within one batch most operations are too small to be divided well, and each waits for the slowest core. Batches need
# not wait for each other.

# each replica holds the activations of a batch, and all of them share Python's lock: on a machine of many cores a few
# replicas of several threads each are as fast
MOST_REPLICAS = 8
Batch = TypeVar("Batch")
Result = TypeVar("Result")


class SideBySide(Generic[Batch, Result]):
    """A scorer of batches that takes them one by one and returns their results in the same order.

    Args:
        score: Function of a model and a batch.
        models: Models from `replicas`, one per concurrent batch. A single one scores each batch at once, with all
            threads of torch; several divide the threads.
    """

    def __init__(self, score: Callable[[Any, Batch], Result], models: list[Any]) -> None:
        self._score, self._models = score, models
        self._free: SimpleQueue[Any] = SimpleQueue()
        self._running: deque[Future[Result]] = deque()
        self._pool: ThreadPoolExecutor | None = None

    @contextmanager
    def started(self) -> Iterator[SideBySide[Batch, Result]]:
        """Hold the threads; within the block torch's operations use only the cores of their model."""
        if len(self._models) == 1:
            yield self
            return
        threads = torch.get_num_threads()
        for model in self._models:
            self._free.put(model)
        each = max(1, threads // len(self._models))
        self._pool = ThreadPoolExecutor(len(self._models), initializer=torch.set_num_threads, initargs=(each,))
        try:
            yield self
        finally:
            self._pool.shutdown(cancel_futures=True)
            self._pool = None
            # each thread has its own setting, but other libraries and later threads take the last one
            torch.set_num_threads(threads)

    def put(self, batch: Batch) -> Iterator[Result]:
        """Submit a batch; yield results that are ready, and wait while every model is busy and another batch waits."""
        if self._pool is None:
            yield self._score(self._models[0], batch)
            return
        self._running.append(self._pool.submit(self._with_a_free_one, batch))
        while self._running and (self._running[0].done() or len(self._running) > len(self._models)):
            yield self._running.popleft().result()

    def rest(self) -> Iterator[Result]:
        """Wait for the remaining batches and yield their results."""
        while self._running:
            yield self._running.popleft().result()

    def _with_a_free_one(self, batch: Batch) -> Result:
        model = self._free.get()
        try:
            return self._score(model, batch)
        finally:
            self._free.put(model)


def replicas(model: Any, threads: int) -> list[Any]:
    """Return models that share their weights, so that each batch can call its own.

    Swin's layers change while they run (they set their window and shift): one model cannot be called by two threads.

    Args:
        model: A classifier on the CPU, or one that several threads may call at once, which has a method
            ``of_one_thread``, as an exported one does.
        threads: Number of torch's threads for all of them. For 1 the model itself is returned; an exported model once
            per thread, any other up to `MOST_REPLICAS` times.
    """
    if threads == 1:
        return [model]
    if hasattr(model, "of_one_thread"):
        return [model.of_one_thread()] * threads
    shared = {id(tensor): tensor for tensor in (*model.parameters(), *model.buffers())}
    return [copy.deepcopy(model, dict(shared)) for _ in range(min(threads, MOST_REPLICAS))]


# Files of one exam.


def exams_of(files: Sequence[str], overrides: Overrides | None = None) -> list[list[tuple[str, Laterality, View]]]:
    """Return the files of each exam with the breast and view of their headers, without reading an image.

    Files of one StudyInstanceUID are an exam, or of one name that the user gives in its place; any other picture, file
    without one and file that cannot be read, which is named when its image is read, is an exam of its own.
    """
    from ..data.datasets.contents import read_facts  # brings `datasets`, which scoring images one by one does not need

    exams: dict[str, list[tuple[str, Laterality, View]]] = {}
    for index, file in enumerate(files):
        facts = None
        if not file.lower().endswith(_PICTURES):
            with suppress(MammoError):
                facts = read_facts(file, any_anatomy=True)
        study = "" if facts is None else facts.study_uid
        exam = override_of(overrides or {}, file).exam or study or f"file {index}"
        seen = (Laterality.UNKNOWN, View.UNKNOWN) if facts is None else (facts.laterality, facts.view)
        exams.setdefault(exam, []).append((file, *seen))
    return list(exams.values())
