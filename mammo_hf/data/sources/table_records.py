"""What a collection's tables say of an image before it is understood, and the error that names the place."""

from __future__ import annotations

from typing import NamedTuple

from ...errors import DataError
from .mapping import Field


class Record(NamedTuple):
    """One row about an image: its file, the file's name in the table, the place for messages, and its columns.

    With joined tables there is one context for each combination of rows that fit.
    """

    path: str
    name: str
    place: str
    contexts: list[dict[str, str]]


class ImageRows(NamedTuple):
    """All rows about one image."""

    path: str
    records: list[Record]


def wrong(record: Record, field: Field, rule: str) -> DataError:
    """The error for a value that breaks a rule: table, row and column; the value itself may identify a person."""
    columns = ", ".join(f"'{name}'" for name in field.columns()) or f"'{field.template}'"
    return DataError(
        f"column {columns} {rule}", source=record.place, remedy="correct the table, or the mapping's values and unknown"
    )
