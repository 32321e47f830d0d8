"""One shard: its rows prepared and written as one file, whole or not at all.

The order of steps makes a kill at any moment harmless: the record that a shard is done is removed before its file is
replaced and written after. So there is never a record next to rows that it does not describe, and a run that finds no
record prepares the shard again, taking from its file whatever the keys allow.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from ...errors import MammoError
from ...files import Folder, writing_errors
from ...notes import codes_in
from ..collection import Rejected
from .folder import Layout, mark_unfinished
from .row import KEYS, Preparation, Row, digest, labels_of, problem_of

GROUP_ROWS = 16  # rows per record batch or parquet row group: what a worker holds in memory
Shard = tuple[int, list[Row]]  # its number, and the collection's rows that belong to it, in the collection's order


@dataclass
class ShardResult:
    """Result of preparing a shard.

    Attributes:
        key: Hash that is decided by all its rows' keys, labels and copied columns.
        rows: Rows of the collection that belong to it.
        images: Rows in its file; the others could not be read.
        size: Bytes of its file.
        notes: Number of its images by code of a note.
        problems: From an image_id to the file that could not be read, the image or a mask of it, and why.
        written: Whether the file was written now; ``False``: it was up to date.
        read: Number of images that were decoded for it now.
    """

    key: str
    rows: int
    images: int = 0
    size: int = 0
    notes: dict[str, int] = field(default_factory=dict)
    problems: dict[str, list[Rejected]] = field(default_factory=dict)
    written: bool = False
    read: int = 0


class ShardWriter:
    """Worker that brings the shards of a prepared folder up to date, in this process or, pickled, in another.

    Args:
        folder: Prepared folder.
        layout: Layout of the folder.
        preparation: What is done to every row.
    """

    def __init__(self, folder: Folder, layout: Layout, preparation: Preparation) -> None:
        self.folder, self.layout, self.preparation = folder, layout, preparation

    def write(self, shard: Shard, tick: Callable[[], None] = lambda: None) -> ShardResult:
        """Bring one shard up to date.

        Args:
            shard: What belongs into it.
            tick: Function that is called after each image that is written or rejected.

        Raises:
            UsageError: The folder cannot be written to, or its disk is full; nothing half-written is left.
        """
        (number, rows), folder = shard, self.folder
        keys = [self.preparation.keys(row) for row in rows]
        data, done = self.layout.data_file(number), self.layout.done_file(number)
        with writing_errors(folder):
            found = self._current(number, rows, keys)
            if found is not None and not self._readable_now(rows, keys, found):
                return found
            result = ShardResult(self._key(rows, keys), len(rows), written=True)
            before = _rows_before(folder, data)
            mark_unfinished(folder)
            folder.remove(done)
            with folder.whole_file(data) as part:
                _write(part, self._prepared(rows, keys, before, result, tick), self.layout.format, self.schema)
            result.size = folder.size(data) or 0
            record = {name: getattr(result, name) for name in ("key", "rows", "images", "size", "notes", "problems")}
            folder.write_text(done, json.dumps(record))
        return result

    def up_to_date(self, shard: Shard) -> ShardResult | None:
        """Return the record of a shard that needs nothing at all; ``None``: `write` has to look."""
        number, rows = shard
        found = self._current(number, rows, [self.preparation.keys(row) for row in rows])
        return None if found is None or found.problems else found

    @property
    def schema(self) -> pa.Schema:
        """Columns of every shard."""
        return self.preparation.schema

    def _current(self, number: int, rows: list[Row], keys: list[tuple[str, str]]) -> ShardResult | None:
        text, data = self.folder.read_text(self.layout.done_file(number)), self.layout.data_file(number)
        try:
            record = ShardResult(**json.loads(text or ""))
            same = record.key == self._key(rows, keys) and record.size == self.folder.size(data)
        except (ValueError, TypeError):
            return None  # there is none, or it is damaged
        return record if same and (self.folder.is_remote or _images(self.folder.path(data)) == record.images) else None

    def _key(self, rows: list[Row], keys: list[tuple[str, str]]) -> str:
        chosen = self.preparation
        facts = [
            [
                [row.get(name) for name, _ in chosen.copied],
                labels_of(row, chosen.tasks),
                *own,
                chosen.precedence.get(row["image_id"]),
            ]
            for row, own in zip(rows, keys, strict=True)
        ]
        return digest([self.schema.names, facts])

    def _readable_now(self, rows: list[Row], keys: list[tuple[str, str]], found: ShardResult) -> bool:
        """Tell whether anything that could not be read can be today: a codec was installed, a disk mounted."""
        again = {
            row["image_id"]: self._try(row, own, None)[1]
            for row, own in zip(rows, keys, strict=True)
            if row["image_id"] in found.problems
        }
        return json.dumps(again, sort_keys=True) != json.dumps(found.problems, sort_keys=True)

    def _prepared(
        self,
        rows: list[Row],
        keys: list[tuple[str, str]],
        before: dict[str, Callable[[], Row]],
        result: ShardResult,
        tick: Callable[[], None],
    ) -> Iterator[Row]:
        for row, own in zip(rows, keys, strict=True):
            image_id = row["image_id"]
            earlier = before[image_id]() if image_id in before else None
            prepared, problems = self._try(row, own, earlier)
            result.read += earlier is None or earlier["pixels_key"] != own[0]
            if problems:
                result.problems[image_id] = problems
            if prepared is not None:
                result.images += 1
                for code in codes_in(prepared["notes"]):
                    result.notes[code] = result.notes.get(code, 0) + 1
                yield prepared
            tick()

    def _try(self, row: Row, keys: tuple[str, str], before: Row | None) -> tuple[Row | None, list[Rejected]]:
        try:
            return self.preparation.prepared(row, keys, before)
        except (MammoError, OSError) as error:
            return None, [problem_of(error, row["path"])]


def _rows_before(folder: Folder, name: str) -> dict[str, Callable[[], Row]]:
    """Return a function that reads its row for each image of a shard as it is now; none if it cannot be read."""
    if folder.size(name) is None:
        return {}
    try:
        with folder.local_copy(name) as path:
            # mapped: the rows stay readable when the file is replaced
            table = pq.read_table(path) if name.endswith(".parquet") else _arrow(path, folder.is_remote)
    except (OSError, ValueError, pa.ArrowException):
        return {}
    if not {"image_id", *KEYS} <= set(table.schema.names):
        return {}
    return {image: partial(_row_at, table, index) for index, image in enumerate(table.column("image_id").to_pylist())}


def _arrow(path: str, copied: bool = False) -> pa.Table:
    table = pa.ipc.open_stream(pa.OSFile(path) if copied else pa.memory_map(path)).read_all()
    table.validate(full=True)  # a damaged file may point anywhere
    return table


def _images(path: str) -> int:
    """Return the number of rows in a shard's file, -1 if it is damaged; arrow's pixels are not looked at."""
    try:
        if path.endswith(".parquet"):
            with pq.ParquetFile(path) as parquet:
                return sum(batch.num_rows for batch in parquet.iter_batches(GROUP_ROWS))
        return int(_arrow(path).num_rows)
    except (OSError, ValueError, pa.ArrowException):
        return -1


def _row_at(table: pa.Table, index: int) -> Row:
    row: Row = table.slice(index, 1).to_pylist()[0]
    return row


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
    # every image is different: a dictionary of them would be a second copy
    return pq.ParquetWriter(sink, schema, compression="zstd", use_dictionary=False, write_statistics=["split"])
