"""The schema of a table: its columns, the words that may stand in them, and a check that names row, column and rule."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

from datasets import Features, Value

from ..errors import DataError
from .findings import FEATURES, PATHOLOGIES, broken_rule
from .privacy import is_salted_hash

Row = dict[str, Any]
SPLITS = ("train", "validation", "test", "unlabelled")


"""``unlabelled``: the patient stands in no table of labels; the images serve pre-training alone."""


TASKS: dict[str, tuple[str, ...]] = {
    "pathology": PATHOLOGIES,
    "density": ("a", "b", "c", "d"),
    "birads": ("1", "2", "0", "3", "4", "5", "6"),
    "abnormality": ("normal", "asymmetry", "distortion", "mass", "calcification", "both"),
    "cancer": ("no", "yes"),
    "cancer_within_years": ("none", "5", "4", "3", "2", "1"),
    "tissue": ("fatty", "glandular", "dense"),
}


"""The common tasks and their labels, from least to most grave where they have such an order.

``pathology`` is of a finding that was worked up, so a normal breast has none; ``cancer`` is of any breast. ``density``
and ``birads`` are BI-RADS' own; a recall (0) stands between benign (2) and probably benign (3). ``both``: mass and
calcification. ``cancer_within_years``: the least of five years within which cancer was found, ``none`` only where the
follow-up is long enough to say so. ``tissue`` is mini-MIAS' older scale of three. A source may use a part of the
labels, in this order.
"""


AGE_BANDS = ("<40", "40-49", "50-59", "60-69", "70-79", "80+")


class Column(NamedTuple):
    """What a column holds: its unit or its words, what null means ("never" where there is none), and its meaning."""

    unit: str
    null: str
    meaning: str


DESCRIPTIONS: dict[str, Column] = {
    "image_id": Column("16 hexadecimal digits", "never", "the image: a salted hash, the same for everybody who has it"),
    "path": Column("a path", "never", "the file: DICOM, PNG, JPEG or PGM"),
    "patient": Column("16 hexadecimal digits", "never", "the patient: a salted hash"),
    "exam": Column("16 hexadecimal digits", "not known", "the examination: a salted hash"),
    "laterality": Column("L or R", "not known", "the breast"),
    "view": Column("CC, MLO, ... (PS3.16 CID 4014)", "not known", "the projection"),
    "age_band": Column(f"years: {', '.join(AGE_BANDS)}", "not known", "the patient's age at the examination"),
    "vendor": Column("a name in lower case", "not known", "the manufacturer's family, or the scanner of a film"),
    "source": Column("a name", "never", "the collection"),
    "split": Column(", ".join(SPLITS), "never", "the side on which all images of the patient stand"),
    "findings": Column(
        "pixels of the source image, rows before columns",
        "never; the list is empty where no finding is known",
        "kind, pathology, and the place as mask_path, polygon, circle (row, column, radius) or box (top, left, bottom, "
        "right)",
    ),
}
COLUMNS = tuple(DESCRIPTIONS)


"""The columns of every table; a source's tasks come on top, one column a task."""


OPTIONAL = ("age_band", "vendor")


"""Columns that a source's rows may leave out; they become null."""


def task_list(tasks: Iterable[str] | Mapping[str, Sequence[str]]) -> list[dict[str, Any]]:
    """Tasks in the form of a model's ``config.tasks``: ``[{"name": ..., "labels": [...]}, ...]``.

    Args:
        tasks: Names of common tasks, or a mapping from a task's name to its labels.
    """
    if isinstance(tasks, Mapping):
        return [{"name": name, "labels": list(labels)} for name, labels in tasks.items()]
    return [{"name": name, "labels": list(TASKS[name])} for name in tasks]


def features(tasks: Sequence[Mapping[str, Any]]) -> Features:
    """The features of the `datasets.Dataset` behind a table with these tasks.

    Every label column is nullable text (null: not known); `DESCRIPTIONS` says what the other columns hold.
    """
    facts = {name: Value("string") for name in COLUMNS if name != "findings"}
    labels = {task["name"]: Value("string") for task in tasks}
    return Features({**facts, **labels, "findings": [FEATURES]})


def describe(tasks: Sequence[Mapping[str, Any]]) -> dict[str, Column]:
    """What each column of a table with these tasks holds."""
    labels = {
        task["name"]: Column(", ".join(task["labels"]), "not known", "a task, least grave label first")
        for task in tasks
    }
    facts = {name: column for name, column in DESCRIPTIONS.items() if name != "findings"}
    return {**facts, **labels, "findings": DESCRIPTIONS["findings"]}


def age_band(age: object) -> str | None:
    """The band of an age in years: a number, its text ("61.0") or DICOM's Age String ("061Y", PS3.5 6.2).

    Returns:
        One of ``AGE_BANDS``, or ``None`` for anything that is no age from 0 to 120. Bands are kept and not ages: an age
        over 89 may identify a person.
    """
    found = re.fullmatch(r"(\d{1,3})(?:\.\d+)?Y?", str(age).strip())
    years = int(found[1]) if found else -1
    if not 0 <= years <= 120:
        return None
    return AGE_BANDS[min(max(years // 10 - 3, 0), len(AGE_BANDS) - 1)]


def validate(rows: Sequence[Row], tasks: Sequence[Mapping[str, Any]]) -> None:
    """Checks rows against the schema.

    Args:
        rows: The rows, numbered from 1 in messages.
        tasks: The table's tasks and their labels.

    Raises:
        DataError: Names the first wrong row, its column and the rule. The value itself is not shown: it may identify
            a person.
    """
    expected = set(features(tasks))
    seen: dict[str, int] = {}
    for number, row in enumerate(rows, start=1):
        wrong = _wrong_columns(row, expected) or _wrong_value(row, tasks)
        if wrong is None and seen.setdefault(row["image_id"], number) != number:
            wrong = ("image_id", f"is the same as in row {seen[row['image_id']]}; each image has one row")
        if wrong is not None:
            column, rule = wrong
            raise DataError(rule, source=f"row {number}, column '{column}'", remedy="correct the table or its source")


def _wrong_columns(row: Row, expected: set[str]) -> tuple[str, str] | None:
    for column in sorted(expected - row.keys()):
        if column not in OPTIONAL:
            return column, "is missing"
    for column in sorted(row.keys() - expected):
        return column, "is no column of the schema"
    return None


def _wrong_value(row: Row, tasks: Sequence[Mapping[str, Any]]) -> tuple[str, str] | None:
    for column in ("image_id", "patient", "exam"):
        if not is_salted_hash(row[column]) and not (column == "exam" and row[column] is None):
            return column, "must be a salted hash of 16 hexadecimal digits, never the identifier itself"
    for column in ("path", "source"):
        if not isinstance(row[column], str) or not row[column]:
            return column, "must be a text that is not empty"
    if row["laterality"] not in ("L", "R", None):
        return "laterality", "must be 'L', 'R' or null"
    if row["view"] is not None and (not isinstance(row["view"], str) or not row["view"]):
        return "view", "must be a view such as 'CC' or 'MLO', or null"
    if row.get("age_band") not in (None, *AGE_BANDS):
        return "age_band", f"must be one of {', '.join(AGE_BANDS)}, or null"
    vendor = row.get("vendor")
    if vendor is not None and (not isinstance(vendor, str) or not vendor or vendor != vendor.strip().lower()):
        return "vendor", "must be a name in lower case, or null"
    if row["split"] not in SPLITS:
        return "split", f"must be one of {', '.join(SPLITS)}"
    for task in tasks:
        if row[task["name"]] not in (None, *task["labels"]):
            return task["name"], f"must be one of {', '.join(task['labels'])}, or null"
    broken = broken_rule(row["findings"])
    return None if broken is None else ("findings", broken)
