"""One image of a collection as one prepared row: the single function that a process, a pool and a cluster all run."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, Any, ClassVar

import datasets
import numpy as np
import pyarrow as pa

from ...errors import MammoError, UsageError, refusing
from ...files import Folder, file_stamp, readable
from ...isolation import read_apart
from ...notes import codes_cell
from ...processing.geometry import Geometry
from ..collection import Rejected
from ..findings import finding_mask
from ..native_row import NATIVE, native_columns, packed_lesions
from ..precedence import places_in_views
from ..prepared_row import (
    ACQUISITION,
    SCHEMA,
    UNKNOWN_PATHOLOGY,
    LesionMask,
    acquisition_columns,
    geometry_of,
    lesion_cells,
    packed_breast,
    packed_pixels,
)

if TYPE_CHECKING:
    from ...processing.breast import Breast
    from ...processing.image_processing_mammo import MammoImageProcessor
    from ...processing.image_source import ImageSource
    from ..collection import Collection
    from ..terms import Terms

# What decides each part of a prepared row, as a short hash: a part is computed again when its hash changes, and only
# then. The pixels depend on the file and on the processor's fit; normalisation and masks come later and change nothing
# here. The lesion map depends on the pixels' geometry, the findings and their mask files. Labels and split are copied.
KEYS = ("pixels_key", "lesions_key")
FINISHED, FEATURES = (
    "prepared.json",
    "features.json",
)  # files that say that a folder is finished: of images, of features
SETTINGS = "encoder.json"  # of features, written first: what their rows are made with
# paths name a person or a machine, and findings hold paths: neither is copied
_NOT_COPIED = ("path", "findings")
_AFTER_THE_FIT = {
    *("num_channels", "image_mean", "image_std", "mask_block_size", "mask_ratio", "patch_size"),
    *("image_kinds", "native_crops"),
}
_NAMES = {"image_processor_type", "feature_extractor_type", "processor_class", "_processor_class", "auto_map"}
# columns that the file and the processor decide
_OF_THE_FILE = ("pixels", "size", "geometry", "notes", "breast", *ACQUISITION)
_OF_NATIVE = (*_OF_THE_FILE, *NATIVE.names)
# kinds of stores: each image fitted to the processor's canvas, or its stored values, from which any canvas is drawn
FIXED, NATIVE_STORE = STORES = ("fixed", "native")
STORE_VERSION = 1  # of the rows of a native store; files of a later one are refused
# parameters that the canvas depends on and the rows of a native store do not
_OF_THE_CANVAS = {"size", "decode", "equalize_ranks"}
Row = dict[str, Any]


@dataclass(frozen=True)
class Preparation:
    """Processing of every image of a collection.

    Args:
        processor: Processor; its ``fit`` gives the intensity on the canvas, before normalisation.
        tasks: Tasks of ``labels``, in order: ``{"name", "labels"}`` each.
        lesion_task: Task that gives the findings their label in the lesion map.
        copied: Names and types of the collection's columns that are copied unchanged.
        precedence: Place of each image that shares its view with others, see `mammo_hf.data.precedence`.
        store: Kind of rows, one of `STORES`.
    """

    processor: MammoImageProcessor
    tasks: tuple[dict[str, Any], ...]
    lesion_task: dict[str, Any]
    copied: tuple[tuple[str, pa.DataType], ...]
    precedence: Mapping[str, int] = field(default_factory=dict, kw_only=True)
    store: str = field(default=FIXED, kw_only=True)

    # What another kind of rows has of its own, as features have.
    finished: ClassVar[str] = FINISHED
    doing: ClassVar[str] = "preparing"

    @classmethod
    def of(
        cls, collection: Collection, processor: MammoImageProcessor, lesion_task: str | None, store: str = FIXED
    ) -> Preparation:
        """Return the preparation of a collection; without a lesion task its first one is taken, if it has any.

        Raises:
            UsageError: The collection has no such task.
        """
        tasks = {task["name"]: task for task in collection.tasks}
        if lesion_task is not None and lesion_task not in tasks:
            raise UsageError(
                f"there is no task {lesion_task!r} in this collection",
                source="lesion_task",
                remedy=f"use {', '.join(tasks)}" if tasks else "leave it out",
            )
        chosen = tasks[lesion_task] if lesion_task else next(iter(tasks.values()), {"name": "", "labels": []})
        kind: dict[str, Any] = {"precedence": places_in_views(collection), "store": store}
        return cls(processor, tuple(tasks.values()), chosen, copied_columns(collection), **kind)

    @cached_property
    def fit(self) -> dict[str, Any]:
        """Parameters of the processor that decide the pixels."""
        return fit_parameters(self.processor, self.store)

    @cached_property
    def schema(self) -> pa.Schema:
        """Columns of a prepared folder, with the features that `datasets` reads from the schema."""
        fields = {name: kind for name, kind in self.copied if name not in SCHEMA.names}
        fields |= {field.name: field.type for field in SCHEMA}
        fields |= {field.name: field.type for field in NATIVE} if self.store == NATIVE_STORE else {}
        fields |= dict.fromkeys(KEYS, pa.string())
        schema: pa.Schema = datasets.Features.from_arrow_schema(pa.schema(list(fields.items()))).arrow_schema
        return schema

    def keys(self, row: Row) -> tuple[str, str]:
        """Return the hashes that decide a row's pixels and its lesion map.

        The path is no part of them, so that a collection may be moved; the file's size and time of change are.
        """
        facts = [row["image_id"], file_stamp(row["path"]), self.fit]
        pixels = digest(facts + ([given] if (given := overridden(row)) else []))
        return pixels, digest([pixels, stamped_findings(row), self.lesion_task])

    def prepared(self, row: Row, keys: tuple[str, str], before: Row | None) -> tuple[Row, list[Rejected]]:
        """Make a row, as `prepared_row` does."""
        return prepared_row(row, self, keys, before)

    def claim(self, folder: Folder) -> None:
        """Refuse a folder that holds rows of another kind.

        Raises:
            UsageError: It holds features.
        """
        if folder.size(SETTINGS) is not None:
            raise UsageError("holds features of images", source=folder, remedy="name another folder")

    def about(self, parts: Callable[[], Iterator[pa.Table]]) -> dict[str, Any]:
        """Return entries of the file that says that a folder is finished; ``parts`` reads the rows that are there."""
        kind = {"store": self.store} | ({"store_version": STORE_VERSION} if self.store == NATIVE_STORE else {})
        return {"tasks": list(self.tasks), "lesion_task": self.lesion_task["name"], **kind}

    @property
    def terms(self) -> tuple[Terms, ...]:
        """Terms of what the rows are made with, in addition to those of the images."""
        return ()

    @property
    def row_bytes(self) -> int:
        """Bytes of a row, about; 0 of a native store, as what its compression leaves is not known before."""
        if self.store == NATIVE_STORE:
            return 0
        height, width = self.processor.canvas
        return height * width * 2  # 16 bits per pixel


def copied_columns(collection: Collection) -> tuple[tuple[str, pa.DataType], ...]:
    """Return name and type of each column of a collection that a folder made from it keeps."""
    types = collection.dataset.features.arrow_schema
    kept = [(field.name, field.type) for field in types if not pa.types.is_nested(field.type)]
    return tuple(column for column in kept if column[0] not in _NOT_COPIED)


def stamped_findings(row: Row) -> list[dict[str, Any]]:
    """Return the findings of a row with the stamps of their mask files in place of the paths."""
    return [
        {**finding, "mask_path": finding.get("mask_path") and file_stamp(finding["mask_path"])}
        for finding in row["findings"] or []
    ]


def fit_parameters(processor: MammoImageProcessor, store: str = FIXED) -> dict[str, Any]:
    """Return the processor's parameters that the rows of a store depend on; a parameter that is new here counts."""
    native = store == NATIVE_STORE
    left_out = _AFTER_THE_FIT | _NAMES | (_OF_THE_CANVAS if native else set())
    if not processor.equalize_ranks:  # came later: what was prepared before it stays valid
        left_out = left_out | {"equalize_ranks"}
    found = {name: value for name, value in processor.to_dict().items() if name not in left_out}
    return found | ({"store": f"{store} {STORE_VERSION}"} if native else {})


def differences(theirs: Mapping[str, Any], ours: Mapping[str, Any]) -> list[str]:
    """Return the parameters in which two processors differ, with both values, theirs first."""
    names = sorted(theirs.keys() | ours.keys())
    return [f"{name} {theirs.get(name)}, not {ours.get(name)}" for name in names if theirs.get(name) != ours.get(name)]


def digest(facts: Any) -> str:
    """Return 16 hexadecimal digits that depend on the facts, in whatever order their names come."""
    return hashlib.sha256(json.dumps(facts, sort_keys=True, default=str).encode()).hexdigest()[:16]


def overridden(row: Row) -> dict[str, str]:
    """Return the facts of a row that the user gives in place of the header's."""
    names = {"laterality": "laterality", "view": "projection"}
    return {names[name]: row[name] for name in (row.get("overridden") or "").split()}


def prepared_row(
    row: Row, preparation: Preparation, keys: tuple[str, str], before: Row | None = None
) -> tuple[Row, list[Rejected]]:
    """Prepare one image.

    Args:
        row: Row of a collection.
        preparation: What is done to it.
        keys: Hashes of the row, from `Preparation.keys`.
        before: The row as an earlier run prepared it; whatever its keys allow is taken from it.

    Returns:
        The columns of `mammo_hf.data.prepared_row.SCHEMA`, the copied columns and the keys; and what was wrong with a
        mask, which does not make its image unreadable.

    Raises:
        MammoError: The image cannot be read.
        OSError: The source file cannot be read either.
    """
    native = preparation.store == NATIVE_STORE
    prepared = {name: row.get(name) for name, _ in preparation.copied}
    prepared["labels"] = labels_of(row, preparation.tasks)
    prepared["precedence"] = preparation.precedence.get(row["image_id"])
    prepared.update(zip(KEYS, keys, strict=True))
    of_the_file = _OF_NATIVE if native else _OF_THE_FILE
    known = before is not None and all(name in before for name in of_the_file)  # an earlier version may have had fewer
    if before is not None and known and before["pixels_key"] == keys[0] and before.get("notes") is not None:
        prepared |= {name: before[name] for name in of_the_file}
        if before["lesions_key"] == keys[1]:
            return prepared | {"lesions": before["lesions"]}, []
        geometry = geometry_of(before)
        assert geometry is not None  # every row that is prepared has one
    else:
        with refusing(row["path"]):
            read = _read_native if native else _read
            image, geometry = read_apart(read, preparation.processor, row["path"], overridden(row))
        prepared |= image
    try:
        with refusing(row["path"]):
            findings, labels = row["findings"] or [], preparation.lesion_task["labels"]
            packed = read_apart(_packed_lesions, findings, geometry, labels, native) if findings else None
    except (MammoError, OSError) as error:
        # no key: it is tried again in the next run
        return prepared | {"lesions": None, "lesions_key": ""}, [problem_of(error, row["path"])]
    return prepared | {"lesions": packed}, []


def _read(processor: MammoImageProcessor, path: str, given: dict[str, str]) -> tuple[Row, Geometry]:
    """Read one file: the columns that its pixels and the processor decide, and the geometry."""
    with refusing(path):
        source = processor.open(readable(path))
        source.override(**given)
        intensity, geometry, breast = processor.fit_breast(source)
    image: Row = {
        "breast": packed_breast(breast, geometry),
        "pixels": packed_pixels(intensity),
        "size": list(intensity.shape),
    }
    return image | _facts(source, breast, geometry), geometry


def _read_native(processor: MammoImageProcessor, path: str, given: dict[str, str]) -> tuple[Row, Geometry]:
    """Do as `_read` for a native store, which is read exactly."""
    with refusing(path):
        source = processor.with_settings({"decode": "exact"}).open(readable(path))
        source.override(**given)
        image, breast, geometry = native_columns(processor, source)
    return image | _facts(source, breast, geometry), geometry


def _facts(source: ImageSource, breast: Breast, geometry: Geometry) -> Row:
    return {
        "notes": codes_cell([*source.notes, *breast.notes]),
        **acquisition_columns(source.mammogram and source.mammogram.header),
        "geometry": json.dumps(geometry.to_dict()),
    }


def lesion_map(findings: list[dict[str, Any]], geometry: Geometry, labels: list[str]) -> np.ndarray | None:
    """Draw the findings on the model's canvas, in cells of 4 x 4 pixels.

    Args:
        findings: Findings of one image, as in a collection's row.
        geometry: Geometry from source pixels to the canvas.
        labels: Labels of the lesion task; a cell that two findings share gets the later one in this order.

    Returns:
        uint8 (height / 4, width / 4): 0 none, 1 + label, 255 if a finding's label is not known; ``None`` if there is no
        finding or one without a known location.
    """
    lesions = _lesions(findings, geometry.source_size, labels)
    return None if lesions is None else lesion_cells(lesions, geometry)


def _packed_lesions(
    findings: list[dict[str, Any]], geometry: Geometry, labels: list[str], native: bool
) -> bytes | None:
    """Return the findings as the column ``lesions`` holds them: their map, or in a native store their masks."""
    if not native:
        cells = lesion_map(findings, geometry, labels)
        return None if cells is None else cells.tobytes()
    lesions = _lesions(findings, geometry.source_size, labels)
    return None if lesions is None else packed_lesions(lesions)


def _lesions(findings: list[dict[str, Any]], size: tuple[int, int], labels: list[str]) -> list[LesionMask] | None:
    order = {label: index for index, label in enumerate(labels)}
    found: list[LesionMask] = []
    for finding in sorted(findings, key=lambda finding: order.get(finding["pathology"], -1)):
        mask = finding_mask(finding, size)
        if mask is None:
            return None
        rows, columns = (np.flatnonzero(mask.any(axis)) for axis in (1, 0))
        top, left = (int(where[0]) if len(where) else 0 for where in (rows, columns))
        index = order.get(finding["pathology"], -1)
        cut = mask[top : rows[-1] + 1, left : columns[-1] + 1] if len(rows) else mask[:0, :0]
        found.append((UNKNOWN_PATHOLOGY if index < 0 else index + 1, (top, left), cut))
    return found or None


def labels_of(row: Row, tasks: Sequence[Mapping[str, Any]]) -> list[int]:
    """Return the index of a row's label in each task, -100 if it is not known."""
    known = [(task["labels"], row.get(task["name"])) for task in tasks]
    return [labels.index(label) if label in labels else -100 for labels, label in known]


def problem_of(error: MammoError | OSError, path: str) -> Rejected:
    """Return a line of ``rejected.csv``: the file, what is wrong with it, and the code of that."""
    if isinstance(error, MammoError):
        known = error.source is not None and not error.source.startswith("<")
        return Rejected(str(error.source) if known else path, error.problem, error.code)
    return Rejected(str(error.filename or path), error.strerror or type(error).__name__, "missing")
