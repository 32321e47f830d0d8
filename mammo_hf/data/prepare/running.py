"""A run: a collection's images, each read once, by this process, by several, or by a Ray cluster."""

from __future__ import annotations

import hashlib
import logging
import os
import shutil
import time
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, replace
from functools import partial
from html import escape
from pathlib import Path
from typing import TYPE_CHECKING

import filelock

from ...errors import DataError, UsageError, check_choice, check_number
from ...files import MARKER, Folder, size_text, writing_errors
from ...isolation import isolating
from ...notes import counts_text
from ..collection import Collection, Rejected
from ..native_row import require_codec
from ..terms import write_terms
from .executors import Executor, Launch, Progress, here, pool
from .folder import FORMATS, Layout, finish
from .row import FIXED, STORES, Preparation, digest
from .shard import Shard, ShardResult, ShardWriter

if TYPE_CHECKING:
    from ...processing.image_processing_mammo import MammoImageProcessor

logger = logging.getLogger(__name__)
SHARD_SIZE = 128  # images: 100 MB at 896 x 448, and what a kill can cost a worker


@dataclass(frozen=True)
class RunSummary:
    """Result of a run of ``prepare``; its text is the sentences that the command prints.

    Attributes:
        folder: Prepared folder.
        images: Number of images in it.
        rejected: Number of files that were left out: lines of ``rejected.csv``.
        notes: Number of images by code of a note.
        refusals: Number of files that were left out by code of the reason.
        read: Number of images that were decoded in this run; the others were there.
        shards_written: Number of files of rows that were written in this run.
        size: Bytes of all rows' files.
        seconds: Duration of the run.
        forecast: What all images will take, if this was a trial with some of them.
    """

    folder: str
    images: int
    rejected: int
    notes: Mapping[str, int]
    refusals: Mapping[str, int]
    read: int
    shards_written: int
    size: int
    seconds: float
    forecast: str = ""

    def __str__(self) -> str:
        why = " (rejected.csv says why)" if self.rejected else ""
        speed = self.read / max(self.seconds, 1e-9)
        now = f"{self.read} read now in {self.seconds:.1f} s ({speed:.1f} images/s)" if self.read else "none read now"
        return (
            f"{self.images} images in {self.folder}, {self.rejected} left out{why}; {now}, "
            f"{self.size / max(self.images, 1) / 1e3:.0f} kB on disk per image"
            f"{counts_text(self.notes, self.refusals)}" + (f"\n{self.forecast}" if self.forecast else "")
        )


def prepare_images(
    collection: Collection,
    processor: MammoImageProcessor,
    out: str | os.PathLike[str],
    *,
    lesion_task: str | None = None,
    num_workers: int = 0,
    format: str = "arrow",
    shard_size: int = SHARD_SIZE,
    max_rejected_fraction: float = 0.5,
    executor: Executor | None = None,
    store: str = FIXED,
) -> RunSummary:
    """Run the processor once over each image of a collection and keep the results as a dataset.

    Only what is missing or has changed is computed; a run that was killed at any moment is resumed by the same call.

    Args:
        collection: Images to prepare.
        processor: Processor, saved in the folder; its ``fit`` gives the intensity on the canvas, before normalisation.
        out: Folder, or fsspec URL of one; see `mammo_hf.data.prepare.folder` for what it holds.
        lesion_task: Task that gives the findings their label in the lesion map; ``None``: the collection's first.
        num_workers: Number of processes in addition to this one; 0: none.
        format: "arrow", which is memory-mapped in training, or "parquet", which is compressed and can be streamed.
        shard_size: Approximate number of images per file.
        max_rejected_fraction: Fraction of unreadable images above which the run ends in an error.
        executor: Function that runs the shards instead of this machine's processes; see
            `mammo_hf.data.prepare.executors`.
        store: "fixed" for images on the processor's canvas, or "native" for their stored values, from which canvases of
            any size are drawn later.

    Raises:
        DataError: No image could be read, or more than ``max_rejected_fraction`` of them could not.
        UsageError: ``out`` cannot be written or its disk is full, or an argument is out of its range.
    """
    check_choice("store", store, STORES)
    if store != FIXED:
        require_codec(out)
    return run_rows(
        collection,
        Preparation.of(collection, processor, lesion_task, store),
        out,
        num_workers=num_workers,
        format=format,
        shard_size=shard_size,
        max_rejected_fraction=max_rejected_fraction,
        executor=executor,
    )


class PreparedCollection(Collection):
    """Collection of a folder that a run has made, with what the run did.

    Attributes:
        run: Images, rejected files and seconds of the run.
    """

    run: RunSummary

    @classmethod
    def of(cls, collection: Collection, summary: RunSummary) -> PreparedCollection:
        """Return the collection of a folder with the summary of the run that made it."""
        prepared = cls(collection.dataset, tasks=collection.tasks, salt_name=collection.salt_name)
        prepared.root, prepared.run, prepared.terms = collection.root, summary, collection.terms
        return prepared

    def __str__(self) -> str:
        return str(self.run)

    def __repr__(self) -> str:
        return f"Prepared{super().__repr__()[:-1]}, in {self.run.folder})"

    def _repr_html_(self) -> str:
        return f"<p>{escape(repr(self))}<br>{escape(str(self))}</p>"


@isolating()
def run_rows(
    collection: Collection,
    preparation: Preparation,
    out: str | os.PathLike[str],
    *,
    num_workers: int,
    format: str,
    shard_size: int,
    max_rejected_fraction: float,
    executor: Executor | None = None,
    launch: Launch | None = None,
) -> RunSummary:
    """Make a row of each image of a collection, and keep the rows as a dataset; see `prepare_images`.

    Args:
        launch: Processes that do this together; ``None``: this one does it alone.

    Returns:
        Summary of the run; of the processes of a launch but the first, of what they have done themselves.
    """
    _check_arguments(format, shard_size, num_workers, max_rejected_fraction)
    if not len(collection):
        raise DataError("the collection has no image to prepare", remedy="check its folder and tables")
    started, folder, first = time.monotonic(), Folder(out), launch is None or not launch.index
    run = executor or (here if num_workers == 0 else pool(num_workers))
    results: list[ShardResult] = []
    with writing_errors(folder), _alone(folder) if first else nullcontext():
        lay_out = partial(Layout.of, folder, len(collection), shard_size=shard_size, format=format)
        if first:
            preparation.claim(folder)
            _check_space(folder, lay_out(), preparation, len(collection))
        if launch is not None:
            launch.start(folder)
            run = launch.divided(run)
        layout = lay_out()
        writer = ShardWriter(folder, layout, preparation)
        with Progress(len(collection), preparation.doing, shown=first) as progress:
            for result in run(_shards(collection, layout), writer, progress):
                results.append(result)
                _check_rejected(results, len(collection), max_rejected_fraction)
        # loading may have found the same already
        rejected = list(dict.fromkeys(collection.rejected + sorted(_problems(results))))
        summary = _summary(folder, results, rejected)
        if first:
            _finish(collection, writer, sorted(result.key for result in results), rejected, summary)
        if launch is not None:
            launch.end(folder)
    return replace(summary, seconds=time.monotonic() - started)


def _check_arguments(format: str, shard_size: int, num_workers: int, max_rejected_fraction: float) -> None:
    check_choice("format", format, FORMATS)
    check_number("shard_size", shard_size, shard_size >= 1, "1 or more")
    check_number("num_workers", num_workers, num_workers >= 0, "0 or more")
    check_number("max_rejected_fraction", max_rejected_fraction, 0 <= max_rejected_fraction <= 1, "from 0 to 1")


def collection_digest(collection: Collection) -> str:
    """Return the SHA-256 of the keys of a collection's images, in whatever order it lists them."""
    return hashlib.sha256("\n".join(sorted(collection.column("image_id"))).encode()).hexdigest()


def _finish(
    collection: Collection, writer: ShardWriter, keys: list[str], rejected: list[Rejected], summary: RunSummary
) -> None:
    """Write what makes the shards a dataset."""
    facts = {
        "fingerprint": digest(keys),
        "collection": collection_digest(collection),
        **{"images": summary.images, "rejected": len(rejected), "bytes": summary.size},
        **{"salt_name": collection.salt_name, "notes": summary.notes, "refusals": summary.refusals},
    }
    write_terms(writer.folder.url, collection.terms, writer.preparation.terms)
    if collection.root is not None and (Path(collection.root) / MARKER).is_file():
        writer.folder.write_text(MARKER, (Path(collection.root) / MARKER).read_text(encoding="utf-8"))
    finish(writer.folder, writer.layout, writer.preparation, facts, rejected)


def _summary(folder: Folder, results: list[ShardResult], rejected: list[Rejected]) -> RunSummary:
    return RunSummary(
        folder=folder.url,
        images=sum(result.images for result in results),
        rejected=len(rejected),
        notes=sum((Counter(result.notes) for result in results), Counter()),
        refusals=Counter(entry.code for entry in rejected),
        read=sum(result.read for result in results),
        shards_written=sum(result.written for result in results),
        size=sum(result.size for result in results),
        seconds=0,
    )


def _shards(collection: Collection, layout: Layout) -> Iterator[Shard]:
    members: list[list[int]] = [[] for _ in range(layout.shards)]
    for index, image_id in enumerate(collection.column("image_id")):
        members[layout.shard_of(image_id)].append(index)
    for number, indices in enumerate(members):
        yield number, list(collection.dataset.select(indices))


def _problems(results: list[ShardResult]) -> list[Rejected]:
    # from a record of an earlier run they come as lists
    return [Rejected(*problem) for one in results for problems in one.problems.values() for problem in problems]


def _check_rejected(results: list[ShardResult], total: int, limit: float) -> None:
    lost = sum(result.rows - result.images for result in results)
    if not lost or (lost <= limit * total and lost < total):
        return
    source, reason, _ = _problems(results)[0]
    what = f"none of {total} images could be read" if lost == total else ""
    what = what or f"{lost} of {total} images could not be read, more than {limit:.0%}"
    raise DataError(
        f"{what}; the first: {source}: {reason}",
        remedy="check the collection's files, or allow more with max_rejected_fraction",
    )


def _check_space(folder: Folder, layout: Layout, preparation: Preparation, images: int) -> None:
    """Refuse at the start what cannot fit; the compression of parquet is not known before, so it is not checked."""
    if folder.is_remote or layout.format != "arrow":
        return
    there = sum(folder.size(name) or 0 for name in layout.data_files())
    needed = images * preparation.row_bytes - there
    free = shutil.disk_usage(folder.path("")).free
    if needed > free:
        raise UsageError(
            f"{size_text(needed)} are needed and {size_text(free)} are free",
            source=folder,
            remedy="free space, choose another folder, or use the format parquet",
        )


@contextmanager
def _alone(folder: Folder) -> Iterator[None]:
    """Let one run at a time into a folder; the lock of a killed run is free at once. Object stores have no locks."""
    if folder.is_remote:
        yield
        return
    os.makedirs(folder.path(""), exist_ok=True)
    lock = filelock.FileLock(folder.path(".lock"))
    try:
        lock.acquire(timeout=0)
    except filelock.Timeout:
        logger.warning("%s: another run prepares into this folder: waiting for it", folder)
        lock.acquire()
    try:
        folder.sweep()
        yield
    finally:
        lock.release()
