"""A prepared folder read back: as a dataset, and as the table that it was made from."""

from __future__ import annotations

import json
import os
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import datasets
import pyarrow as pa
import pyarrow.parquet as pq

from ...errors import UsageError
from ...processing.image_processing_mammo import MammoImageProcessor
from ..collection import Collection
from ..schema import features
from .layout import FINISHED, LAYOUT, PROCESSOR, SPLIT_NAME, Folder, Layout, read_about
from .row import KEYS, SCHEMA, differences, fit_parameters

_HEAVY = ("pixels", "size", "lesions", "geometry", "breast", "labels", *KEYS)


def is_prepared(folder: str | os.PathLike[str]) -> bool:
    """Whether this is a folder that ``prepare`` has finished."""
    return Folder(folder).size(FINISHED) is not None


def is_being_prepared(folder: str | os.PathLike[str]) -> bool:
    """Whether ``prepare`` has begun this folder, whatever became of it."""
    return Folder(folder).size(LAYOUT) is not None


def prepared_processor(folder: str | os.PathLike[str]) -> MammoImageProcessor:
    """The processor that prepared a folder.

    Raises:
        UsageError: The folder is not finished.
    """
    read_about(Folder(folder))
    return MammoImageProcessor.from_dict(json.loads(Folder(folder).read_text(PROCESSOR) or "{}"))


def prepared_lesion_task(folder: str | os.PathLike[str]) -> str:
    """The task of a prepared folder's lesion maps.

    Raises:
        UsageError: The folder is not finished.
    """
    task: str = read_about(Folder(folder))["lesion_task"]
    return task


def open_prepared(folder: str | os.PathLike[str], images: Sequence[str] | None = None) -> datasets.Dataset:
    """The rows of a prepared folder: arrow is memory-mapped; parquet is unpacked into the cache of `datasets` once.

    Args:
        folder: The folder.
        images: The image_ids that are wanted; ``None``: all. Only what is wanted of a parquet folder is unpacked; of an
            arrow folder nothing is, and all rows come.

    Raises:
        UsageError: The folder is not finished.
    """
    place = Folder(folder)
    about = read_about(place)
    if about["format"] == "arrow":
        return datasets.load_from_disk(place.url_of("").rstrip("/"))
    some = images is not None and len(images) < about["images"]
    loaded: datasets.Dataset = datasets.load_dataset(
        "parquet",
        data_files={SPLIT_NAME: [place.url_of(name) for name in _layout(about).data_files()]},
        split=SPLIT_NAME,
        filters=[("image_id", "in", list(images or []))] if some else None,
    )
    return loaded


def stream_prepared(folder: str | os.PathLike[str], columns: Sequence[str]) -> datasets.IterableDataset:
    """The rows of a prepared folder of the format parquet as a stream: nothing is unpacked, nothing kept.

    Raises:
        UsageError: The folder is not finished, or of another format.
    """
    files = {SPLIT_NAME: shards_of(folder, "parquet").files}
    stream: datasets.IterableDataset = datasets.load_dataset(
        "parquet", data_files=files, split=SPLIT_NAME, streaming=True, columns=list(columns)
    )
    return stream


@dataclass(frozen=True)
class Shards:
    """The files of a prepared folder's rows, in order."""

    files: list[str]
    layout: Layout

    def __len__(self) -> int:
        return len(self.files)

    def counts(self, image_ids: Sequence[str]) -> list[int]:
        """How many of some images are in each."""
        counts = Counter(self.layout.shard_of(image_id) for image_id in image_ids)
        return [counts[number] for number in range(len(self))]


def shards_of(folder: str | os.PathLike[str], format: str) -> Shards:
    """The shards of a prepared folder.

    Raises:
        UsageError: The folder is not finished, or of another format.
    """
    place = Folder(folder)
    about = read_about(place)
    if about["format"] != format:
        raise UsageError(f"is of the format {about['format']}", source=folder, remedy=f"prepare with --format {format}")
    layout = _layout(about)
    return Shards([place.url_of(name) for name in layout.data_files()], layout)


def prepared_table(folder: str | os.PathLike[str]) -> Collection:
    """The table of a prepared folder. ``path`` is the folder and, after ``#``, the image_id; there are no findings.

    Raises:
        UsageError: The folder is not finished.
    """
    place = Folder(folder)
    about = read_about(place)
    wanted = features(about["tasks"])
    rows = _light_columns(place, about)
    ids = rows.column("image_id").to_pylist()
    columns: dict[str, Any] = {name: rows.column(name).to_pylist() for name in rows.column_names}
    columns["path"] = [f"{place.url}#{image_id}" for image_id in ids]
    for name, feature in wanted.items():
        empty: Any = [] if isinstance(feature, list | datasets.List) else None
        columns.setdefault(name, [empty] * len(ids))
    types = datasets.Features.from_arrow_schema(rows.schema) | wanted
    dataset = datasets.Dataset.from_dict({name: columns[name] for name in types}, features=datasets.Features(types))
    return Collection(dataset, tasks=about["tasks"], salt_name=about["salt_name"])


def folder_of(table: Collection) -> str | None:
    """The prepared folder that a table was read from; ``None``: it is a table of source files."""
    folder, mark, _ = table[0]["path"].rpartition("#") if len(table) else ("", "", "")
    return folder if mark and is_prepared(folder) else None


def check_canvas(folder: str | os.PathLike[str], processor: MammoImageProcessor) -> None:
    """Refuses a processor that would have put the images on another canvas.

    Raises:
        UsageError: Names the first parameter that differs.
    """
    found = differences(fit_parameters(prepared_processor(folder)), fit_parameters(processor))
    if found:
        raise UsageError(
            f"was prepared with {found[0]}", source=folder, remedy="use that, or prepare the collection again"
        )


def for_training(
    prepared: datasets.Dataset, table: Collection, tasks: list[dict[str, Any]], *, lesions: bool = True
) -> datasets.Dataset:
    """Prepared rows as a table has them now: its rows, its order, its split, and the labels of the tasks asked for.

    The pixels stay where they are; only the small columns are replaced.

    Args:
        prepared: Rows as ``open_prepared`` gives them.
        table: A part of the same images, its split as training wants it.
        tasks: The tasks of ``labels``, in order; -100 where the table has no such label.
        lesions: Whether the lesion maps are of the first of these tasks; otherwise they are left out.
    """
    place = {image_id: index for index, image_id in enumerate(table.column("image_id"))}
    found = [place.get(image_id) for image_id in prepared.select_columns(["image_id"])[:]["image_id"]]
    split = table.column("split")
    known = {task["name"] for task in table.tasks}
    labels = [_labels(table, task) if task["name"] in known else [-100] * len(table) for task in tasks]
    columns: dict[str, tuple[list[Any], Any]] = {
        "split": ([None if index is None else split[index] for index in found], datasets.Value("string")),
        "labels": (
            [None if index is None else [values[index] for values in labels] for index in found],
            datasets.List(datasets.Value("int64")),
        ),
    }
    if not lesions:
        columns["lesions"] = ([None] * len(found), datasets.Value("binary"))
    missing = [name for name in SCHEMA.names if name not in prepared.column_names]
    if missing:
        raise UsageError(
            f"was prepared by an earlier version: there is no column {missing[0]!r}",
            source="prepared images",
            remedy="prepare the collection again",
        )
    prepared = prepared.select_columns([name for name in SCHEMA.names if name not in columns])
    for name, (values, feature) in columns.items():
        prepared = prepared.add_column(name, values, feature=feature)
    order = sorted((index, row) for row, index in enumerate(found) if index is not None)
    return prepared.select([row for _, row in order])


def _labels(table: Collection, task: dict[str, Any]) -> list[int]:
    places = {label: index for index, label in enumerate(task["labels"])}
    return [places.get(label, -100) for label in table.column(task["name"])]


def _layout(about: dict[str, Any]) -> Layout:
    return Layout(about["shards"], about["format"])


def _light_columns(folder: Folder, about: dict[str, Any]) -> pa.Table:
    if about["format"] == "arrow":
        rows = open_prepared(folder.url)
        return rows.select_columns([name for name in rows.column_names if name not in _HEAVY]).with_format("arrow")[:]
    tables = []
    for name in _layout(about).data_files():
        with folder.open(name) as file, pq.ParquetFile(file) as parquet:
            names = [column for column in parquet.schema_arrow.names if column not in _HEAVY]
            tables.append(parquet.read(columns=names))
    return pa.concat_tables(tables)
