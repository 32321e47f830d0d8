"""The prepared folder: which file holds which row, when it counts as finished, and how it is read back.

    data/images-00003-of-00025.arrow     rows, readable with `datasets` alone
    shards/images-00003-of-00025.json    that this shard is done, for which rows, and what was rejected
    layout.json                          how many shards there are, and their format
    preprocessor_config.json             the processor
    state.json, dataset_info.json        for ``datasets.load_from_disk`` (arrow)
    rejected.csv                         what was left out and why
    prepared.json                        written last: the folder is finished

A folder of features (`mammo_hf.encoders.embed`) has ``encoder.json``, written first, and ``features.json`` instead.

A row's shard follows from its ``image_id`` alone. A file that is added to the collection or changes touches one shard.
"""

from __future__ import annotations

import csv
import errno
import io
import json
import os
import zlib
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from typing import Any

import datasets
import pyarrow as pa
import pyarrow.parquet as pq

from ...errors import DataError, MammoError, UsageError
from ...files import Folder, safe_cell
from ...processing.image_processing_mammo import FORMAT_VERSION, MammoImageProcessor
from ..collection import Collection, Rejected
from ..native_row import NATIVE, OnCanvas, require_codec
from ..prepared_row import ACQUISITION, SCHEMA
from ..schema import features
from .row import (
    FEATURES,
    FINISHED,
    FIXED,
    KEYS,
    NATIVE_STORE,
    SETTINGS,
    STORE_VERSION,
    STORES,
    Preparation,
    Row,
    differences,
    fit_parameters,
)

FORMATS = ("arrow", "parquet")
LAYOUT, REJECTED = "layout.json", "rejected.csv"
PROCESSOR = "preprocessor_config.json"
# the name that `datasets` gives the folder's one part: load_dataset(folder, split="images")
SPLIT_NAME = "images"
_STATE, _INFO = "state.json", "dataset_info.json"
# columns that the table of a prepared folder leaves on the disk
_HEAVY = (
    *("pixels", "size", "lesions", "geometry", "notes", "breast", "labels", "features", "boxes", "scales"),
    *(*ACQUISITION, *KEYS, *NATIVE.names, "precedence"),
)

# Written.


@dataclass(frozen=True)
class Layout:
    """Number of shards and the way that they are written."""

    shards: int
    format: str

    @classmethod
    def of(cls, folder: Folder, rows: int, *, shard_size: int, format: str) -> Layout:
        """Return the folder's layout, or replace one that does not fit by a new one and remove its shards.

        A layout is kept while its shards hold between a quarter and twice of ``shard_size`` rows on average: if the
        number of shards changed with every row, all shards would have to be written again with every row.
        """
        layout, text = cls(max(1, -(-rows // shard_size)), format), folder.read_text(LAYOUT)
        if text is not None:
            found = cls._parsed(text)
            if found and found.format == format and rows <= 2 * shard_size * found.shards <= 8 * max(rows, shard_size):
                return found
            # shards that a damaged file has described are looked at one by one
            kept = [] if found else [*layout.data_files(), *map(layout.done_file, range(layout.shards))]
            mark_unfinished(folder)
            for name in [*folder.names("shards"), *folder.names("data"), _INFO]:
                if name not in kept:
                    folder.remove(name)
        folder.write_text(LAYOUT, json.dumps(asdict(layout)) + "\n")
        return layout

    @classmethod
    def _parsed(cls, text: str) -> Layout | None:
        try:
            found = cls(**json.loads(text))
        except (ValueError, TypeError):
            return None
        return found if isinstance(found.shards, int) and found.shards > 0 else None

    def shard_of(self, image_id: str) -> int:
        """Return the number of the shard that holds an image."""
        return zlib.crc32(image_id.encode()) % self.shards

    def data_file(self, shard: int) -> str:
        """Return the file of a shard's rows."""
        return f"data/{self._name(shard)}.{self.format}"

    def done_file(self, shard: int) -> str:
        """Return the file that says that a shard is done."""
        return f"shards/{self._name(shard)}.json"

    def data_files(self) -> list[str]:
        """Return all shards' files."""
        return [self.data_file(shard) for shard in range(self.shards)]

    def _name(self, shard: int) -> str:
        return f"{SPLIT_NAME}-{shard:05d}-of-{self.shards:05d}"


def mark_unfinished(folder: Folder) -> None:
    """Remove the files that say that a folder is finished, before its first shard is replaced."""
    for name in (FINISHED, FEATURES, _STATE):
        folder.remove(name)


def finish(
    folder: Folder, layout: Layout, preparation: Preparation, facts: dict[str, Any], rejected: list[Rejected]
) -> None:
    """Write what makes the shards a dataset; files that have this content already stay untouched.

    Args:
        folder: Prepared folder.
        layout: Layout of the folder.
        preparation: What was done to its rows.
        facts: Further entries of ``prepared.json``.
        rejected: Source, reason and its code of each file that was left out.

    Raises:
        OSError: The folder cannot be written to.
    """
    folder.write_text(PROCESSOR, preparation.processor.to_json_string())
    text = io.StringIO(newline="")
    csv.writer(text).writerows(map(safe_cell, row) for row in [("source", "reason", "code"), *rejected])
    folder.write_text(REJECTED, text.getvalue())
    if layout.format == "arrow":
        info = datasets.DatasetInfo(features=datasets.Features.from_arrow_schema(preparation.schema))
        folder.write_text(_INFO, json.dumps(asdict(info), indent=2, sort_keys=True))
        state = {
            **dict.fromkeys(("_format_columns", "_format_type", "_split")),
            **{"_format_kwargs": {}, "_output_all_columns": False, "_fingerprint": facts["fingerprint"]},
            "_data_files": [{"filename": name} for name in layout.data_files()],
        }
        folder.write_text(_STATE, json.dumps(state, indent=2, sort_keys=True))
    about = {**facts, **asdict(layout), **preparation.about(lambda: _parts(folder, layout))}
    folder.write_text(preparation.finished, json.dumps(about, indent=2, sort_keys=True) + "\n")


def _parts(folder: Folder, layout: Layout) -> Iterator[pa.Table]:
    """Yield the rows of each file."""
    for name in layout.data_files():
        with folder.local_copy(name) as path:
            if layout.format == "parquet":
                yield pq.read_table(path)
            else:
                yield pa.ipc.open_stream(pa.memory_map(path)).read_all()


# Read back.


@contextmanager
def _refusing_damage(folder: object) -> Iterator[None]:
    """Turn whatever a damaged file of a prepared folder raises into an error that says what to do.

    Raises:
        DataError: Something was raised, but by the system or the network.
    """
    try:
        yield
    except MammoError:
        raise
    except Exception as error:
        if isinstance(error, OSError) and error.errno not in (None, errno.ENOENT):
            raise
        raise DataError(
            f"is damaged: reading it stopped with a {type(error).__name__}",
            source=folder,
            remedy="run mammo-hf prepare again with the same arguments: what is whole is kept",
        ) from error


def is_prepared(folder: str | os.PathLike[str]) -> bool:
    """Tell whether this is a folder that ``prepare`` has finished."""
    return Folder(folder).size(FINISHED) is not None


def is_features(folder: str | os.PathLike[str]) -> bool:
    """Tell whether this is a folder of features that ``embed`` has finished."""
    return Folder(folder).size(FEATURES) is not None


def pushed_names(folder: str | os.PathLike[str]) -> list[str]:
    """Return the files of a finished folder that it takes to load it elsewhere.

    None of them names a file or a path, but for the encoder of features, if that is a folder.

    Raises:
        UsageError: The folder is not finished.
    """
    place = Folder(folder)
    rows = _layout(read_about(place)).data_files()
    records = (PROCESSOR, LAYOUT, FINISHED, FEATURES, SETTINGS, _STATE, _INFO)
    return [*rows, *(name for name in records if place.size(name) is not None)]


def read_about(folder: Folder) -> dict[str, Any]:
    """Return the content of ``prepared.json`` or, of a folder of features, of ``features.json``.

    Raises:
        UsageError: The folder is not finished.
        DataError: The file is damaged.
    """
    text = folder.read_text(FINISHED) or folder.read_text(FEATURES)
    if text is None:
        raise UsageError(
            "is not a finished prepared folder",
            source=folder,
            remedy="run mammo-hf prepare or mammo-hf embed (again: it resumes)",
        )
    with _refusing_damage(folder):
        about: dict[str, Any] = json.loads(text)
        if about["format"] not in FORMATS or not about["shards"] > 0 < about["images"]:
            raise ValueError
        for task in about["tasks"]:
            if not all(isinstance(text, str) for text in (task["name"], *task["labels"])):
                raise TypeError
    if about.get("store", FIXED) not in STORES or about.get("store_version", STORE_VERSION) != STORE_VERSION:
        problem = f"is a store of version {about.get('store_version')}, and this mammo_hf reads {STORE_VERSION}"
        raise UsageError(problem, source=folder, remedy="upgrade mammo_hf, or prepare again with this one")
    return about


def prepared_processor(folder: str | os.PathLike[str]) -> MammoImageProcessor:
    """Return the processor that prepared a folder.

    Raises:
        UsageError: The folder is not finished, or it was prepared by an earlier version.
        DataError: The processor's file is damaged.
    """
    place = Folder(folder)
    read_about(place)
    with _refusing_damage(folder):
        found = dict(json.loads(place.read_text(PROCESSOR) or ""))
    if found.get("format_version") != FORMAT_VERSION:
        raise UsageError(
            "was prepared by another version of mammo_hf, to which the same files had other pixels",
            source=folder,
            remedy="prepare again: run mammo-hf prepare with the same arguments",
        )
    with _refusing_damage(folder):
        return MammoImageProcessor.from_dict(found)


def prepared_lesion_task(folder: str | os.PathLike[str]) -> str:
    """Return the task of a prepared folder's lesion maps.

    Raises:
        UsageError: The folder is not finished.
    """
    task: str = read_about(Folder(folder))["lesion_task"]
    return task


def is_native(folder: str | os.PathLike[str]) -> bool:
    """Tell whether a finished prepared folder is a native store, from which images of any size are drawn."""
    return bool(read_about(Folder(folder)).get("store") == NATIVE_STORE)


def check_canvas(folder: str | os.PathLike[str], processor: MammoImageProcessor) -> None:
    """Refuse a processor that would have put the images on another canvas, or read them otherwise for a native store.

    Raises:
        UsageError: Names the first parameter that differs.
    """
    store = NATIVE_STORE if is_native(folder) else FIXED
    if processor.native_crops and store == FIXED:
        problem = "holds images of one size, and crops at their own resolution cannot be cut from them"
        raise UsageError(problem, source=folder, remedy=f"prepare the collection with `store={NATIVE_STORE}`")
    found = differences(fit_parameters(prepared_processor(folder), store), fit_parameters(processor, store))
    if found:
        of_size = f" (once with `store={NATIVE_STORE}` for any size)" if found[0].startswith("size ") else ""
        remedy = f"use that, or prepare the collection again{of_size}"
        raise UsageError(f"was prepared with {found[0]}", source=folder, remedy=remedy)


def open_prepared(
    folder: str | os.PathLike[str],
    images: Sequence[str] | None = None,
    processor: MammoImageProcessor | None = None,
) -> datasets.Dataset:
    """Open the rows of a prepared folder: arrow is memory-mapped; parquet is unpacked into the cache of `datasets`.

    Rows of a native store are drawn on the processor's canvas when they are read; ``with_format(None)`` gives them as
    they are stored.

    Args:
        folder: Prepared folder.
        images: The image_ids that are wanted; ``None``: all. Only these are unpacked from a parquet folder; nothing is
            unpacked from an arrow folder, and all rows are returned.
        processor: Processor that draws the rows of a native store; ``None``: the folder's own.

    Raises:
        UsageError: The folder is not finished, was prepared by an earlier version, or is a native store and its codec
            is not installed.
    """
    place = Folder(folder)
    about = read_about(place)
    some = about["format"] == "parquet" and images is not None and len(images) < about["images"]
    with _refusing_damage(folder):
        loaded: datasets.Dataset
        if about["format"] == "arrow":
            loaded = datasets.load_from_disk(place.url_of("").rstrip("/"))
            loaded.data.table.validate(full=True)
        else:
            loaded = datasets.load_dataset(
                "parquet",
                data_files={SPLIT_NAME: [place.url_of(name) for name in _layout(about).data_files()]},
                split=SPLIT_NAME,
                filters=[("image_id", "in", list(images or []))] if some else None,
            )
        if not some and len(loaded) != about["images"]:
            raise EOFError
    missing = [name for name in SCHEMA.names if name not in loaded.column_names]
    if missing and is_prepared(folder):
        problem = f"was prepared by an earlier version: there is no column {missing[0]!r}"
        raise UsageError(problem, source=folder, remedy="prepare the collection again")
    return loaded if about.get("store") != NATIVE_STORE else loaded.with_transform(_on_canvas(folder, processor))


def _on_canvas(folder: str | os.PathLike[str], processor: MammoImageProcessor | None) -> OnCanvas:
    require_codec(folder)
    return OnCanvas(processor or prepared_processor(folder))


def stream_prepared(folder: str | os.PathLike[str]) -> datasets.IterableDataset:
    """Open the columns of a prepared parquet folder that training reads as a stream: nothing is unpacked, nothing kept.

    Rows of a native store are as they are stored: `drawn_by` draws them.

    Raises:
        UsageError: The folder is not finished, or has another format.
    """
    place, layout = Folder(folder), _parquet_layout(folder)
    stream: datasets.IterableDataset = datasets.load_dataset(
        "parquet",
        data_files={SPLIT_NAME: [place.url_of(name) for name in layout.data_files()]},
        split=SPLIT_NAME,
        streaming=True,
        columns=[*SCHEMA.names, *(NATIVE.names if is_native(folder) else ())],
    )
    return stream


def drawn_by(folder: str | os.PathLike[str], processor: MammoImageProcessor) -> Callable[..., Row]:
    """Return the function that draws a row of a prepared folder, as `OnCanvas.row`; it returns a fitted one as it is.

    Raises:
        UsageError: It is a native store, and its codec is not installed.
    """
    return _on_canvas(folder, processor).row if is_native(folder) else lambda row, generator=None: row


def streamed_counts(folder: str | os.PathLike[str], image_ids: Sequence[str]) -> list[int]:
    """Count how many of some images each shard of a prepared parquet folder holds.

    Raises:
        UsageError: The folder is not finished, or has another format.
    """
    layout = _parquet_layout(folder)
    counts = Counter(map(layout.shard_of, image_ids))
    return [counts[shard] for shard in range(layout.shards)]


def prepared_table(folder: str | os.PathLike[str]) -> Collection:
    """Return the collection of a prepared folder.

    ``path`` is the folder and, after ``#``, the image_id; there are no findings.

    Raises:
        UsageError: The folder is not finished.
    """
    place = Folder(folder)
    about = read_about(place)
    wanted = features(about["tasks"])
    with _refusing_damage(folder):
        rows = _light_columns(place, about)
        if len(rows) != about["images"]:
            raise EOFError
        for task in about["tasks"]:
            known = rows.column(task["name"]).unique().to_pylist() if task["name"] in rows.column_names else []
            if not {None, *task["labels"]}.issuperset(known):
                raise ValueError
    ids = rows.column("image_id").to_pylist()
    columns: dict[str, Any] = {name: rows.column(name).to_pylist() for name in rows.column_names}
    columns["path"] = [f"{place.url}#{image_id}" for image_id in ids]
    for name, feature in wanted.items():
        empty: Any = [] if isinstance(feature, list | datasets.List) else None
        columns.setdefault(name, [empty] * len(ids))
    types = datasets.Features.from_arrow_schema(rows.schema) | wanted
    dataset = datasets.Dataset.from_dict({name: columns[name] for name in types}, features=datasets.Features(types))
    return Collection(dataset, tasks=about["tasks"], salt_name=about["salt_name"])


def folder_of(collection: Collection) -> str | None:
    """Return the prepared folder that a collection was read from; ``None``: it lists source files."""
    folder = _named_by(collection)
    return folder if folder is not None and is_prepared(folder) else None


def features_folder(images: Any) -> str | None:
    """Return the folder of features that a collection was read from, or that a path is; ``None``: it is none."""
    folder = _named_by(images) if isinstance(images, Collection) else images
    return os.fspath(folder) if isinstance(folder, str | os.PathLike) and is_features(folder) else None


def _named_by(collection: Collection) -> str | None:
    folder, mark, _ = collection[0]["path"].rpartition("#") if len(collection) else ("", "", "")
    return folder if mark else None


def for_training(
    prepared: datasets.Dataset, collection: Collection, tasks: list[dict[str, Any]], *, lesions: bool = True
) -> datasets.Dataset:
    """Return prepared rows as a collection has them now: its rows, order and split, and the labels of some tasks.

    The pixels are not copied; only the small columns are replaced.

    Args:
        prepared: Rows from ``open_prepared``.
        collection: A part of the same images, with the split that training wants.
        tasks: Tasks of ``labels``, in order; -100 if the collection has no such label.
        lesions: Whether the lesion maps belong to the first of these tasks; otherwise they are left out.
    """
    at = {image_id: index for index, image_id in enumerate(collection.column("image_id"))}
    found = [at.get(image_id) for image_id in prepared.select_columns(["image_id"])[:]["image_id"]]
    labels = known_labels(collection, tasks)
    facts = {name: collection.column(name) for name in ("split", "stratum")}
    columns: dict[str, tuple[list[Any], Any]] = {
        **{
            name: ([None if index is None else values[index] for index in found], datasets.Value("string"))
            for name, values in facts.items()
        },
        "labels": (
            [None if index is None else labels[index] for index in found],
            datasets.List(datasets.Value("int64")),
        ),
    }
    if not lesions:
        columns["lesions"] = ([None] * len(found), datasets.Value("binary"))
    native = [name for name in NATIVE.names if name in prepared.column_names]
    prepared = prepared.select_columns([name for name in (*SCHEMA.names, *native) if name not in columns])
    for name, (values, feature) in columns.items():
        prepared = prepared.add_column(name, values, feature=feature)
    order = sorted((index, row) for row, index in enumerate(found) if index is not None)
    return prepared.select([row for _, row in order])


def known_labels(collection: Collection, tasks: list[dict[str, Any]]) -> list[list[int]]:
    """Return each row's label indices of some tasks, -100 if the collection does not know them."""
    known = {task["name"] for task in collection.tasks}
    columns = []
    for task in tasks:
        indices = {label: index for index, label in enumerate(task["labels"])}
        values = collection.column(task["name"]) if task["name"] in known else [None] * len(collection)
        columns.append([indices.get(value, -100) for value in values])
    return [[column[row] for column in columns] for row in range(len(collection))]


def _layout(about: dict[str, Any]) -> Layout:
    return Layout(about["shards"], about["format"])


def _parquet_layout(folder: str | os.PathLike[str]) -> Layout:
    about = read_about(Folder(folder))
    if about["format"] != "parquet":
        raise UsageError(
            f"has the format {about['format']}, which cannot be streamed",
            source=folder,
            remedy="prepare with `format=parquet`",
        )
    return _layout(about)


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
