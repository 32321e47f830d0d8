"""Exams and breasts: the images that belong together, and the gravest label among them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from .table import MammoTable


class Group(NamedTuple):
    """Images of one exam, or of one breast in it.

    Attributes:
        patient: The patient's hash.
        exam: The exam's hash; ``None`` for the images of a patient of whom no exam is known, which make one group.
        laterality: "L" or "R" for a breast; ``None`` for an exam, and for images of which nothing says the side.
        rows: Places of the images in the table.
        labels: From each task to the gravest label that any of the images has; ``None`` where none has one.
    """

    patient: str
    exam: str | None
    laterality: str | None
    rows: tuple[int, ...]
    labels: dict[str, str | None]


def gravest(values: Sequence[str | None], labels: Sequence[str]) -> str | None:
    """The label that stands last in the task's order; ``None`` where none is known."""
    known = [value for value in values if value is not None]
    return max(known, key=list(labels).index, default=None)


def groups(table: MammoTable, *, by_breast: bool) -> list[Group]:
    """The table's exams, or its breasts, in the order of their first image."""
    patients, exams = table.column("patient"), table.column("exam")
    sides = table.column("laterality") if by_breast else [None] * len(table)
    rows: dict[tuple[str, str | None, str | None], list[int]] = {}
    for index, key in enumerate(zip(patients, exams, sides, strict=True)):
        rows.setdefault(key, []).append(index)
    columns = {task["name"]: (table.column(task["name"]), task["labels"]) for task in table.tasks}
    return [
        Group(
            *key,
            tuple(found),
            {name: gravest([values[row] for row in found], labels) for name, (values, labels) in columns.items()},
        )
        for key, found in rows.items()
    ]
