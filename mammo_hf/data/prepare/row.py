"""One image of a table as one prepared row: the single function that a process, a pool and a cluster all run."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any, NamedTuple

import datasets
import numpy as np
import pyarrow as pa

from ...errors import MammoError, UsageError
from ...files import file_stamp, readable
from ...processing.breast import Breast
from ...processing.geometry import Geometry
from ..findings import finding_mask, read_mask

if TYPE_CHECKING:
    from ...processing.image_processing_mammo import MammoImageProcessor
    from ..collection import Collection

# Where the findings of an image lie on the model's canvas.


LESION_CELL = 4  # pixels a side of a cell of the lesion map: the patch of every Swin size
UNKNOWN_PATHOLOGY = 255  # in a lesion map: a finding is here, its label is not known


def lesion_map(findings: list[dict[str, Any]], geometry: Geometry, labels: list[str]) -> np.ndarray | None:
    """Where the findings lie on the model's canvas, in cells of 4 x 4 pixels.

    Args:
        findings: Findings of one image, as in a table's row.
        geometry: From source pixels to the canvas.
        labels: The lesion task's labels; a cell that two findings share gets the later one in this order.

    Returns:
        uint8 (height / 4, width / 4): 0 none, 1 + label, 255 where a finding's label is not known; ``None`` where there
        is no finding or one whose place is not known.
    """
    order = {label: index for index, label in enumerate(labels)}
    height, width = geometry.size
    cells = np.zeros((height // LESION_CELL, width // LESION_CELL), np.uint8)
    for finding in sorted(findings, key=lambda finding: order.get(finding["pathology"], -1)):
        mask = finding_mask(finding, geometry.source_size, read=lambda path: read_mask(readable(path)))
        if mask is None:
            return None
        coverage = geometry.mask_to_model(mask)
        coverage = coverage[: cells.shape[0] * LESION_CELL, : cells.shape[1] * LESION_CELL]
        peak = coverage.reshape(cells.shape[0], LESION_CELL, cells.shape[1], LESION_CELL).max(axis=(1, 3))
        index = order.get(finding["pathology"], -1)
        cells[peak >= 0.5] = UNKNOWN_PATHOLOGY if index < 0 else index + 1
    return cells if findings else None


# Where the breast lies on the model's canvas, as a prepared row keeps it: one bit for each 4 x 4 pixels.


def packed_breast(breast: Breast, geometry: Geometry) -> bytes:
    """The found breast on the canvas, row by row, eight cells a byte; all zero where none was found."""
    return np.packbits(breast.on_canvas(geometry, cell=LESION_CELL)).tobytes()


def unpacked_breast(packed: bytes, size: tuple[int, int]) -> np.ndarray:
    """What ``packed_breast`` packed, for a canvas of (height, width): bool (height / 4, width / 4)."""
    rows, columns = size[0] // LESION_CELL, size[1] // LESION_CELL
    bits = np.unpackbits(np.frombuffer(packed, np.uint8), count=rows * columns)
    return bits.astype(bool).reshape(rows, columns)


# What decides each part of a prepared row, as a short hash: a part is made again when its hash changes, and only then.
#
# The pixels depend on the file and on the processor's fit; normalisation and masks come later and change nothing here.
# The lesion map depends on the pixels' geometry, the findings and their mask files. Labels and split are copied.


_AFTER_THE_FIT = {"num_channels", "image_mean", "image_std", "mask_block_size", "mask_ratio", "patch_size"}
_NAMES = {"image_processor_type", "feature_extractor_type", "processor_class", "_processor_class", "auto_map"}


class Keys(NamedTuple):
    """The hashes of one row's parts, 16 hexadecimal digits each."""

    pixels: str
    lesions: str


def digest(facts: Any) -> str:
    """16 hexadecimal digits that depend on the facts, in whatever order their names stand."""
    return hashlib.sha256(json.dumps(facts, sort_keys=True, default=str).encode()).hexdigest()[:16]


def fit_parameters(processor: MammoImageProcessor) -> dict[str, Any]:
    """The processor's parameters on which the canvas depends; a parameter that is new here counts."""
    return {name: value for name, value in processor.to_dict().items() if name not in _AFTER_THE_FIT | _NAMES}


def differences(theirs: Mapping[str, Any], ours: Mapping[str, Any]) -> list[str]:
    """The parameters of two processors that differ, with both values, theirs first."""
    names = sorted(theirs.keys() | ours.keys())
    return [f"{name} {theirs.get(name)}, not {ours.get(name)}" for name in names if theirs.get(name) != ours.get(name)]


def row_keys(row: dict[str, Any], recipe: Recipe) -> Keys:
    """The keys of a table's row.

    The path is no part of them, so that a collection may move; size and time of change are.
    """
    pixels = digest([row["image_id"], file_stamp(row["path"]), recipe.fit])
    findings = [
        {**finding, "mask_path": finding.get("mask_path") and file_stamp(finding["mask_path"])}
        for finding in row["findings"] or []
    ]
    return Keys(pixels, digest([pixels, findings, recipe.lesion_task]))


FULL_SCALE = 65535
SCHEMA = pa.schema(
    [
        ("image_id", pa.string()),
        ("patient", pa.string()),
        ("split", pa.string()),
        ("laterality", pa.string()),
        ("view", pa.string()),
        ("labels", pa.list_(pa.int64())),
        ("pixels", pa.binary()),
        ("size", pa.list_(pa.int32())),
        ("lesions", pa.binary()),
        ("geometry", pa.string()),
        ("breast", pa.binary()),
    ]
)


"""The columns that training reads. A folder holds the table's other plain columns too, and the keys."""


KEYS = ("pixels_key", "lesions_key")
# paths name a person or a machine, and findings hold paths: neither is copied
_LEFT_BEHIND = ("path", "findings")
Row = dict[str, Any]
Problem = tuple[str, str]  # a file and what is wrong with it


@dataclass(frozen=True)
class Recipe:
    """How rows are prepared.

    Args:
        processor: Its ``fit`` gives the intensity on the canvas, before normalisation.
        tasks: The tasks of ``labels``, in order: ``{"name", "labels"}`` each.
        lesion_task: The task whose label a finding's place gets in the lesion map.
        copied: Names and types of the table's columns that are copied as they are.
    """

    processor: MammoImageProcessor
    tasks: tuple[dict[str, Any], ...]
    lesion_task: dict[str, Any]
    copied: tuple[tuple[str, pa.DataType], ...]

    @classmethod
    def of(cls, table: Collection, processor: MammoImageProcessor, lesion_task: str | None) -> Recipe:
        """The recipe for a table; without a lesion task it is the first, and of a table without tasks none.

        Raises:
            UsageError: The table has no such task.
        """
        tasks = {task["name"]: task for task in table.tasks}
        if lesion_task is not None and lesion_task not in tasks:
            raise UsageError(
                f"no task {lesion_task!r} in this collection", source="lesion_task", remedy=f"use {', '.join(tasks)}"
            )
        types = table.dataset.features.arrow_schema
        copied = tuple((name, types.field(name).type) for name in types.names if _is_copied(types.field(name)))
        chosen = tasks[lesion_task] if lesion_task else next(iter(tasks.values()), {"name": "", "labels": []})
        return cls(processor, tuple(tasks.values()), chosen, copied)

    @cached_property
    def fit(self) -> dict[str, Any]:
        """The processor's parameters that decide the pixels."""
        return fit_parameters(self.processor)

    @cached_property
    def schema(self) -> pa.Schema:
        """The columns of a prepared folder, with the features that `datasets` reads from the schema."""
        fields = {name: kind for name, kind in self.copied if name not in SCHEMA.names}
        fields |= {field.name: field.type for field in SCHEMA}
        fields |= dict.fromkeys(KEYS, pa.string())
        schema = pa.schema(list(fields.items()))
        features: pa.Schema = datasets.Features.from_arrow_schema(schema).arrow_schema
        return features


def _is_copied(field: pa.Field) -> bool:
    return field.name not in _LEFT_BEHIND and not pa.types.is_nested(field.type)


def prepared_row(row: Row, recipe: Recipe, keys: Keys, before: Row | None = None) -> tuple[Row, list[Problem]]:
    """Prepares one image.

    Args:
        row: A table's row.
        recipe: How.
        keys: The row's keys.
        before: The row as an earlier run prepared it; what its keys allow is taken from it.

    Returns:
        ``pixels`` uint16 (height, width) as bytes, 65535 for intensity 1; ``size`` (height, width); ``breast`` one bit
        for each 4 x 4 pixels; ``lesions`` uint8 (height / 4, width / 4) as bytes or null; ``labels`` with -100 where
        not known; ``geometry`` as JSON; the copied columns; the keys. And what was wrong with a mask: it does not take
        its film along.

    Raises:
        MammoError: The film cannot be read.
        OSError: Likewise.
    """
    problems: list[Problem] = []
    prepared = {name: row.get(name) for name, _ in recipe.copied}
    prepared["labels"] = labels_of(row, recipe.tasks)
    prepared.update(zip(KEYS, keys, strict=True))
    if before is not None and before["pixels_key"] == keys.pixels and before.get("breast") is not None:
        prepared |= {name: before[name] for name in ("pixels", "size", "geometry", "breast")}
        geometry = Geometry.from_dict(json.loads(before["geometry"]))
    else:
        intensity, geometry, breast = recipe.processor.fit_breast(readable(row["path"]))
        prepared["breast"] = packed_breast(breast, geometry)
        prepared["pixels"] = np.rint(intensity * FULL_SCALE).astype(np.uint16).tobytes()
        prepared["size"] = list(intensity.shape)
        prepared["geometry"] = json.dumps(geometry.to_dict())
    if before is not None and before["lesions_key"] == keys.lesions:
        prepared["lesions"] = before["lesions"]
        return prepared, problems
    try:
        cells = lesion_map(row["findings"] or [], geometry, recipe.lesion_task["labels"])
        prepared["lesions"] = None if cells is None else cells.tobytes()
    except (MammoError, OSError) as error:
        prepared |= {"lesions": None, "lesions_key": ""}  # no key: it is tried again
        problems.append(problem_of(error, row["path"]))
    return prepared, problems


def labels_of(row: Row, tasks: tuple[dict[str, Any], ...] | list[dict[str, Any]]) -> list[int]:
    """The index of a row's label in each task, -100 where it is not known."""
    places = [(task["labels"], row.get(task["name"])) for task in tasks]
    return [labels.index(label) if label in labels else -100 for labels, label in places]


def problem_of(error: MammoError | OSError, path: str) -> Problem:
    """A line of ``rejected.csv``: the file, and what is wrong with it."""
    if isinstance(error, MammoError):
        known = error.source is not None and not error.source.startswith("<")
        return (str(error.source) if known else path), error.problem
    return str(error.filename or path), error.strerror or type(error).__name__
