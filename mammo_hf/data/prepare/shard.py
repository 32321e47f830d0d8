"""One shard: its rows prepared and written as one file, whole or not at all.

The order of steps makes a kill at any moment harmless: the record that a shard is done goes before its file is
replaced and comes back after. So a record never stands beside rows that it does not describe, and a run that finds no
record prepares the shard again, taking from its file whatever the keys allow.
"""

from __future__ import annotations

import errno
import json
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from ...errors import MammoError, UsageError
from .layout import Folder, Layout, mark_unfinished
from .row import KEYS, Keys, Problem, Recipe, Row, digest, labels_of, prepared_row, problem_of, row_keys

GROUP_ROWS = 16  # rows a record batch or parquet row group: what a worker holds in memory


@dataclass(frozen=True)
class Shard:
    """A shard's number and the table's rows that belong to it, in the table's order."""

    number: int
    rows: list[Row]


@dataclass
class Done:
    """What became of a shard.

    Attributes:
        key: Decided by all its rows' keys, labels and copied columns.
        rows: Rows of the table that belong to it.
        images: Rows in its file; the others could not be read.
        size: Bytes of its file.
        problems: From an image_id to the file that could not be read, the film or a mask of it, and why.
        written: Whether the file was written now; ``False``: it was up to date.
        read: How many images were decoded for it now.
    """

    key: str
    rows: int
    images: int = 0
    size: int = 0
    problems: dict[str, list[Problem]] = field(default_factory=dict)
    written: bool = False
    read: int = 0


def prepare_shard(
    shard: Shard, folder: Folder, layout: Layout, recipe: Recipe, tick: Callable[[], None] | None = None
) -> Done:
    """Brings one shard up to date.

    Args:
        shard: What belongs into it.
        folder: The prepared folder.
        layout: Its layout.
        recipe: How rows are prepared.
        tick: Called after each image that is written or rejected.

    Raises:
        UsageError: The folder cannot be written to, or its disk is full; nothing half-written is left.
    """
    keys = [row_keys(row, recipe) for row in shard.rows]
    with writing_errors(folder):
        found = _current(shard, folder, layout, recipe, keys)
        if found is not None and not _readable_now(shard, found, recipe, keys):
            return found
        done = Done(_key(shard, recipe, keys), len(shard.rows), written=True)
        before = _rows_before(folder, layout.data_file(shard.number))
        mark_unfinished(folder)
        folder.remove(layout.done_file(shard.number))
        with folder.whole_file(layout.data_file(shard.number)) as part:
            _write(part, _prepared(shard, keys, recipe, before, done, tick), layout.format, recipe.schema)
        done.size = folder.size(layout.data_file(shard.number)) or 0
        record = {name: getattr(done, name) for name in ("key", "rows", "images", "size", "problems")}
        folder.write_text(layout.done_file(shard.number), json.dumps(record))
    return done


def up_to_date(shard: Shard, folder: Folder, layout: Layout, recipe: Recipe) -> Done | None:
    """The record of a shard that needs nothing at all; ``None``: ``prepare_shard`` has to look."""
    found = _current(shard, folder, layout, recipe, [row_keys(row, recipe) for row in shard.rows])
    return None if found is None or found.problems else found


def _current(shard: Shard, folder: Folder, layout: Layout, recipe: Recipe, keys: list[Keys]) -> Done | None:
    text = folder.read_text(layout.done_file(shard.number))
    if text is None:
        return None
    record = json.loads(text)
    same = record["key"] == _key(shard, recipe, keys)
    return Done(**record) if same and folder.size(layout.data_file(shard.number)) == record["size"] else None


def _key(shard: Shard, recipe: Recipe, keys: list[Keys]) -> str:
    facts = [
        [[row.get(name) for name, _ in recipe.copied], labels_of(row, recipe.tasks), *own]
        for row, own in zip(shard.rows, keys, strict=True)
    ]
    return digest([recipe.schema.names, facts])


def _readable_now(shard: Shard, found: Done, recipe: Recipe, keys: list[Keys]) -> bool:
    """Whether anything that could not be read can be today: a codec may have been installed, a disk mounted."""
    rows = zip(shard.rows, keys, strict=True)
    again = {row["image_id"]: _try(row, recipe, own, None)[1] for row, own in rows if row["image_id"] in found.problems}
    return json.dumps(again, sort_keys=True) != json.dumps(found.problems, sort_keys=True)


def _prepared(
    shard: Shard,
    keys: list[Keys],
    recipe: Recipe,
    before: dict[str, Callable[[], Row]],
    done: Done,
    tick: Callable[[], None] | None,
) -> Iterator[Row]:
    for row, own in zip(shard.rows, keys, strict=True):
        earlier = before[row["image_id"]]() if row["image_id"] in before else None
        prepared, problems = _try(row, recipe, own, earlier)
        done.read += earlier is None or earlier["pixels_key"] != own.pixels
        if problems:
            done.problems[row["image_id"]] = problems
        if prepared is not None:
            done.images += 1
            yield prepared
        if tick is not None:
            tick()


def _try(row: Row, recipe: Recipe, keys: Keys, before: Row | None) -> tuple[Row | None, list[Problem]]:
    try:
        return prepared_row(row, recipe, keys, before)
    except (MammoError, OSError) as error:
        return None, [problem_of(error, row["path"])]


def _rows_before(folder: Folder, name: str) -> dict[str, Callable[[], Row]]:
    """From each image of a shard as it is now to a function that reads its row; none where it cannot be read."""
    if folder.size(name) is None:
        return {}
    try:
        with folder.local_copy(name) as path:
            if name.endswith(".parquet"):
                table = pq.read_table(path)
            else:
                # mapped: the rows stay readable when the file is replaced
                table = pa.ipc.open_stream(pa.memory_map(path) if not folder.is_remote else pa.OSFile(path)).read_all()
    except (OSError, pa.ArrowException):
        return {}
    if not {"image_id", *KEYS} <= set(table.schema.names):
        return {}
    images = table.column("image_id").to_pylist()
    return {image: lambda index=index: table.slice(index, 1).to_pylist()[0] for index, image in enumerate(images)}  # type: ignore[misc]


def _write(path: str, rows: Iterator[Row], format: str, schema: pa.Schema) -> None:
    group: list[Row] = []
    with pa.OSFile(path, "wb") as sink, _writer(sink, format, schema) as writer:
        for row in rows:
            group.append(row)
            if len(group) == GROUP_ROWS:
                writer.write_batch(pa.RecordBatch.from_pylist(group, schema=schema))
                group = []
        if group:
            writer.write_batch(pa.RecordBatch.from_pylist(group, schema=schema))


def _writer(sink: pa.NativeFile, format: str, schema: pa.Schema) -> Any:
    if format == "arrow":
        return pa.ipc.new_stream(sink, schema)
    # every image is new: a dictionary of them would be a second copy
    return pq.ParquetWriter(sink, schema, compression="zstd", use_dictionary=False, write_statistics=["split"])


@contextmanager
def writing_errors(folder: Folder) -> Iterator[None]:
    """Turns what the folder's disk says into an error that tells what to do.

    Raises:
        UsageError: An ``OSError`` came.
    """
    try:
        yield
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            problem, remedy = "the disk is full", "free space and run it again: it goes on where it stopped"
        else:
            # not the error's own text: arrow puts sentences there
            reason = os.strerror(error.errno) if error.errno else type(error).__name__
            problem = f"cannot be written ({reason})"
            remedy = "name a folder that you can write to"
        raise UsageError(problem, source=folder, remedy=remedy) from error
