"""prepare: a table's images, each read once, by this process, by several, or by a Ray cluster."""

from __future__ import annotations

import logging
import os
import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

import filelock

from ...errors import DataError, UsageError
from .layout import FORMATS, Folder, Layout, finish
from .processes import Executor, Progress, here, pool
from .row import Recipe, digest
from .shard import Done, Shard, writing_errors

if TYPE_CHECKING:
    from ...processing.image_processing_mammo import MammoImageProcessor
    from ..collection import Collection

logger = logging.getLogger(__name__)
SHARD_SIZE = 128  # images: 100 MB at 896 x 448, and what a kill can cost a worker


@dataclass(frozen=True)
class Summary:
    """What a run of ``prepare`` did.

    Attributes:
        out: The folder.
        images: Images in it.
        rejected: Files that were left out: lines of ``rejected.csv``.
        read: Images that were decoded in this run; the others were there.
        shards_written: Files of rows that were written in this run.
        size: Bytes of all rows' files.
        seconds: How long the run took.
    """

    out: str
    images: int
    rejected: int
    read: int
    shards_written: int
    size: int
    seconds: float


def prepare(
    table: Collection,
    processor: MammoImageProcessor,
    out: str | os.PathLike[str],
    *,
    lesion_task: str | None = None,
    num_workers: int = 0,
    format: str = "arrow",
    shard_size: int = SHARD_SIZE,
    max_rejected: float = 0.5,
    executor: Executor | None = None,
) -> Summary:
    """Runs the processor once over each image of a table and keeps the results as a dataset.

    Only what is missing or has changed is done; a run that was killed at any moment is gone on with by the same call.

    Args:
        table: The images.
        processor: Its ``fit`` gives the intensity on the canvas, before normalisation; saved in the folder.
        out: The folder, or an fsspec URL of one; see `mammo_hf.data.prepare.layout` for what it holds.
        lesion_task: The task whose label a finding's place gets in the lesion map; ``None``: the table's first.
        num_workers: Processes beside this one; 0: none.
        format: "arrow", which is memory-mapped in training, or "parquet", which is compressed and streams.
        shard_size: About how many images a file holds.
        max_rejected: The share of images above which the run stops with an error instead of a finished folder.
        executor: Runs the shards instead of this machine's processes: see `mammo_hf.data.prepare.ray_data`.

    Raises:
        DataError: No image could be read, or more than ``max_rejected`` of them could not.
        UsageError: ``out`` cannot be written or its disk is full, or an argument is out of its range.
    """
    _check_arguments(format, shard_size, num_workers, max_rejected)
    if not len(table):
        raise DataError("the table has no image to prepare", remedy="check the collection")
    started, folder = time.monotonic(), Folder(out)
    recipe = Recipe.of(table, processor, lesion_task)
    run = executor or (here if num_workers == 0 else pool(num_workers))
    with writing_errors(folder), _alone(folder):
        layout = Layout.of(folder, len(table), shard_size=shard_size, format=format)
        _check_space(folder, layout, processor, len(table))
        finished: list[Done] = []
        with Progress(len(table)) as progress:
            for done in run(_shards(table, layout), folder, layout, recipe, progress):
                finished.append(done)
                _check_rejected(finished, len(table), max_rejected)
        return _finish(table, folder, layout, recipe, finished, started)


def _check_arguments(format: str, shard_size: int, num_workers: int, max_rejected: float) -> None:
    rules = {
        ("format", format, " or ".join(FORMATS)): format in FORMATS,
        ("shard_size", shard_size, "1 or more"): shard_size >= 1,
        ("num_proc", num_workers, "0 or more"): num_workers >= 0,
        ("max_rejected", max_rejected, "a share from 0 to 1"): 0 <= max_rejected <= 1,
    }
    for (name, value, rule), holds in rules.items():
        if not holds:
            raise UsageError(f"is {value!r}", source=name, remedy=f"it must be {rule}")


def _finish(
    table: Collection, folder: Folder, layout: Layout, recipe: Recipe, finished: list[Done], started: float
) -> Summary:
    rejected = [(entry.source, entry.reason) for entry in table.rejected]
    rejected += sorted(_problems(finished))
    images = sum(done.images for done in finished)
    size = sum(done.size for done in finished)
    facts = {
        "fingerprint": digest(sorted(done.key for done in finished)),
        **{"images": images, "rejected": len(rejected), "bytes": size, "salt_name": table.salt_name},
    }
    finish(folder, layout, recipe, facts, rejected)
    written = sum(done.written for done in finished)
    read = sum(done.read for done in finished)
    return Summary(folder.url, images, len(rejected), read, written, size, time.monotonic() - started)


def _shards(table: Collection, layout: Layout) -> Iterator[Shard]:
    members: list[list[int]] = [[] for _ in range(layout.shards)]
    for index, image_id in enumerate(table.column("image_id")):
        members[layout.shard_of(image_id)].append(index)
    for number, indices in enumerate(members):
        yield Shard(number, list(table.dataset.select(indices)))


def _problems(finished: list[Done]) -> list[tuple[str, str]]:
    return [(source, why) for done in finished for problems in done.problems.values() for source, why in problems]


def _check_rejected(finished: list[Done], total: int, limit: float) -> None:
    lost = sum(done.rows - done.images for done in finished)
    if not lost or (lost <= limit * total and lost < total):
        return
    source, reason = _problems(finished)[0]
    count = "none" if lost == total else str(lost)
    could = "could be read" if lost == total else f"could not be read, more than {limit:.0%}"
    raise DataError(
        f"{count} of {total} images {could}; the first: {source}: {reason}",
        remedy="check the collection's files, or allow more with max_rejected",
    )


def _check_space(folder: Folder, layout: Layout, processor: MammoImageProcessor, images: int) -> None:
    """Refuses at the start what cannot fit; parquet's compression is not known before, so there it says nothing."""
    if folder.is_remote or layout.format != "arrow":
        return
    there = sum(folder.size(name) or 0 for name in layout.data_files())
    height, width = processor.canvas
    needed = images * height * width * 2 - there
    free = shutil.disk_usage(folder.path("")).free
    if needed > free:
        raise UsageError(
            f"{needed / 1e9:.1f} GB are needed and {free / 1e9:.1f} GB free",
            source=folder,
            remedy="free space, name another folder, or use the format parquet",
        )


@contextmanager
def _alone(folder: Folder) -> Iterator[None]:
    """Lets one run at a time into a folder; the lock of a killed run is free at once. Object stores have no locks."""
    folder.make()
    if folder.is_remote:
        yield
        return
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
