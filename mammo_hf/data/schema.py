"""The schema of a table: its columns, the words that may stand in them, and a check that names row, column and rule."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from datasets import Features, Value

from ..errors import DataError
from .privacy import is_salted_hash

Row = dict[str, Any]

SPLITS = ("train", "validation", "test", "unlabelled")
"""``unlabelled``: the patient stands in no table of labels; the images serve pre-training alone."""

TASKS: dict[str, tuple[str, ...]] = {
    "pathology": ("benign", "malignant"),
    "density": ("a", "b", "c", "d"),
    "abnormality": ("mass", "calcification", "both"),
}
"""The common tasks and their labels, from least to most grave where they have such an order (density a to d)."""

FINDING_KINDS = ("mass", "calcification")

_FINDING = {
    "kind": Value("string"),
    "pathology": Value("string"),
    "mask_path": Value("string"),
    "box": [Value("float64")],
    "circle": [Value("float64")],
}
_COLUMNS: dict[str, Any] = {
    "image_id": Value("string"),
    "path": Value("string"),
    "patient": Value("string"),
    "exam": Value("string"),
    "laterality": Value("string"),
    "view": Value("string"),
    "source": Value("string"),
    "split": Value("string"),
}
COLUMNS = (*_COLUMNS, "findings")
"""The columns of every table; a source's tasks come on top, one column a task."""


def task_list(names: Iterable[str]) -> list[dict[str, Any]]:
    """The named common tasks in the form of a model's ``config.tasks``: ``[{"name": ..., "labels": [...]}, ...]``."""
    return [{"name": name, "labels": list(TASKS[name])} for name in names]


def features(tasks: Sequence[Mapping[str, Any]]) -> Features:
    """The features of the `datasets.Dataset` behind a table with these tasks.

    Every label column is nullable text (null: not known). ``findings`` is a list of structs: ``box`` is
    (top, left, bottom, right) and ``circle`` (row, column, radius), both in pixels of the source image.
    """
    labels = {task["name"]: Value("string") for task in tasks}
    return Features({**_COLUMNS, **labels, "findings": [_FINDING]})


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
    if row["split"] not in SPLITS:
        return "split", f"must be one of {', '.join(SPLITS)}"
    for task in tasks:
        if row[task["name"]] not in (None, *task["labels"]):
            return task["name"], f"must be one of {', '.join(task['labels'])}, or null"
    return _wrong_finding(row["findings"])


def _wrong_finding(findings: object) -> tuple[str, str] | None:
    if not isinstance(findings, list | tuple):
        return "findings", "must be a list"
    for finding in findings:
        if not isinstance(finding, dict) or finding.keys() != _FINDING.keys():
            return "findings", f"each must have exactly the keys {', '.join(_FINDING)}"
        if finding["kind"] not in FINDING_KINDS:
            return "findings", f"'kind' must be one of {', '.join(FINDING_KINDS)}"
        if finding["pathology"] not in (None, *TASKS["pathology"]):
            return "findings", f"'pathology' must be one of {', '.join(TASKS['pathology'])}, or null"
        if finding["mask_path"] is not None and not finding["mask_path"]:
            return "findings", "'mask_path' must be a path or null"
        box, circle = finding["box"], finding["circle"]
        if box is not None and not (len(box) == 4 and box[0] < box[2] and box[1] < box[3]):
            return "findings", "'box' must be (top, left, bottom, right) with top < bottom and left < right, or null"
        if circle is not None and not (len(circle) == 3 and circle[2] > 0):
            return "findings", "'circle' must be (row, column, radius) with a radius above 0, or null"
    return None
