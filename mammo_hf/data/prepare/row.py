"""One image of a table as one prepared row: the single function that a process, a pool and a cluster all run."""

from __future__ import annotations

import json
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

import datasets
import numpy as np
import pyarrow as pa

from ...errors import MammoError, UsageError
from ...geometry import Geometry
from .breast_cells import packed_breast
from .files import readable
from .keys import Keys, fit_parameters
from .lesions import lesion_map

if TYPE_CHECKING:
    from ...image_processing_mammo import MammoImageProcessor
    from ..table import MammoTable

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
    def of(cls, table: MammoTable, processor: MammoImageProcessor, lesion_task: str | None) -> Recipe:
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
