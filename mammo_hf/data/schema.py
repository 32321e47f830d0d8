"""Schema of a collection: its columns, the values that they may hold, and a check that names row, column and rule."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import Any

from datasets import Features, Value

from ..errors import DataError
from .findings import FEATURES, PATHOLOGIES, broken_rule
from .privacy import is_salted_hash

Row = dict[str, Any]

# unlabelled: the patient is in no table of labels; the images serve pre-training only
SPLITS = ("train", "validation", "test", "unlabelled")

# The common tasks and their labels, from the least to the most severe where they have such an order. A source may use
# a part of the labels, in this order.
TASKS: dict[str, tuple[str, ...]] = {
    "pathology": PATHOLOGIES,  # of a finding that was worked up, so a normal breast has none
    "density": ("a", "b", "c", "d"),
    "birads": ("1", "2", "0", "3", "4", "5", "6"),  # a recall (0) is between benign (2) and probably benign (3)
    "abnormality": ("normal", "asymmetry", "distortion", "mass", "calcification", "both"),
    "cancer": ("no", "yes"),  # of any breast
    "cancer_within_years": ("none", "5", "4", "3", "2", "1"),  # "none" only if the follow-up is long enough
    "tissue": ("fatty", "glandular", "dense"),  # the older scale of mini-MIAS
}
# Those with ordered labels: an error by two classes is worse than one by one, and a breast or exam has the most severe.
ORDINAL = ("density", "birads", "tissue", "cancer_within_years")

AGE_BANDS = ("<40", "40-49", "50-59", "60-69", "70-79", "80+")

# What each column holds. The tasks of a source are further columns, before the findings.
DESCRIPTIONS = {
    "image_id": "Salted hash of the image, 16 hexadecimal digits, the same for everybody who has it; never null.",
    "path": "Path of the file: DICOM, PNG, JPEG or PGM; never null.",
    "patient": "Salted hash of the patient, 16 hexadecimal digits; never null.",
    "exam": "Salted hash of the examination, 16 hexadecimal digits; null: not known.",
    "laterality": "Breast: L or R; null: not known.",
    "view": "Projection: CC, MLO, ... (PS3.16 CID 4014); null: not known.",
    "age_band": f"Age of the patient at the examination in years: {', '.join(AGE_BANDS)}; null: not known.",
    "vendor": "Family of the manufacturer, or scanner of a film, in lower case; null: not known.",
    "stratum": "Group in which splits are balanced: scanner, site or the like; null: not known.",
    "source": "Name of the collection; never null.",
    "split": f"Split of all images of the patient: {', '.join(SPLITS)}; never null.",
    "findings": (
        "List of findings with kind, pathology, and the location as mask_path, polygon, circle (row, column, radius) "
        "or box (top, left, bottom, right), in pixels of the source image, rows before columns; empty: none is known."
    ),
}
COLUMNS = tuple(DESCRIPTIONS)
OPTIONAL = ("age_band", "vendor", "stratum")  # the rows of a source may leave them out; they become null


def task_list(
    tasks: Iterable[str] | Mapping[str, Sequence[str]], severity: Collection[str] = ()
) -> list[dict[str, Any]]:
    """Return tasks in the form of a model's ``config.tasks``: ``[{"name": ..., "labels": [...]}, ...]``.

    Args:
        tasks: Names of common tasks, or a mapping from the name of each task to its labels.
        severity: Names of the tasks whose last label, the most severe one, is explained of every image.
    """
    named = tasks if isinstance(tasks, Mapping) else {name: TASKS[name] for name in tasks}
    return [
        {"name": name, "labels": list(labels)} | ({"severity": True} if name in severity else {})
        for name, labels in named.items()
    ]


def describe(tasks: Sequence[Mapping[str, Any]]) -> dict[str, str]:
    """Return what each column of a collection with these tasks holds."""
    labels = {
        task["name"]: f"Task, least severe label first: {', '.join(task['labels'])}; null: not known." for task in tasks
    }
    return {name: {**DESCRIPTIONS, **labels}[name] for name in features(tasks)}


def features(tasks: Sequence[Mapping[str, Any]]) -> Features:
    """Return the features of the `datasets.Dataset` behind a collection with these tasks.

    Every label column is nullable text (null: not known); `DESCRIPTIONS` says what the other columns hold.
    """
    names = [name for name in COLUMNS if name != "findings"] + [task["name"] for task in tasks]
    return Features({**{name: Value("string") for name in names}, "findings": [FEATURES]})


_AGE = re.compile(r"(\d{1,5}(?:[.,]\d+)?)\s*\+?\s*(Y|M|W|D|years?|yrs?|Jahre?|J\.?|ans|a[nñ]os|anos)?", re.IGNORECASE)
_PER_YEAR = {"M": 12.0, "W": 52.18, "D": 365.25}  # units of DICOM's Age String
_DATE = re.compile(r"\d{4}-\d\d?-\d\d?\b.*|\d\d?[./-]\d\d?[./-](?:\d\d){1,2}\b.*|(?:19|20)\d{6}|(?:18|19|20)\d\d")


def age_band(age: object) -> str | None:
    """Return the band of an age.

    Args:
        age: Years as a number or text ("61.0", "62,5"), DICOM's Age String ("730M", PS3.5 6.2), or a band itself.

    Returns:
        One of ``AGE_BANDS``, or ``None`` for anything that is not an age from 0 to 120. Bands are kept instead of
        ages because an age over 89 may identify a person.
    """
    if str(age).strip() in AGE_BANDS:
        return str(age).strip()
    years = age_years(age)
    return None if years is None else AGE_BANDS[min(max(years // 10 - 3, 0), len(AGE_BANDS) - 1)]


def age_years(age: object) -> int | None:
    """Return an age in whole years, in the forms of `age_band`; ``None`` if it is not one from 0 to 120."""
    found = _AGE.fullmatch(str(age).strip())
    years = float(found[1].replace(",", ".")) / _PER_YEAR.get((found[2] or "").upper(), 1) if found else -1
    return int(years) if 0 <= years <= 120 else None


def is_date(text: str) -> bool:
    """Return whether a text is a date or a year, such as a birthday in place of an age."""
    return _DATE.fullmatch(text.strip()) is not None


def validate(rows: Sequence[Row], tasks: Sequence[Mapping[str, Any]]) -> None:
    """Check rows against the schema.

    Args:
        rows: Rows to check, numbered from 1 in messages.
        tasks: Tasks of the collection and their labels.

    Raises:
        DataError: Names the first wrong row, its column and the rule. The value itself is not shown because it may
            identify a person.
    """
    expected = set(features(tasks))
    seen: dict[str, int] = {}
    for number, row in enumerate(rows, start=1):
        wrong = _wrong_columns(row, expected) or _wrong_fact(row) or _wrong_value(row, tasks)
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
        return column, "is not a column of the schema"
    return None


def _wrong_fact(row: Row) -> tuple[str, str] | None:
    for column in ("image_id", "patient", "exam"):
        if not is_salted_hash(row[column]) and not (column == "exam" and row[column] is None):
            return column, "must be a salted hash of 16 hexadecimal digits, never the identifier itself"
    for column in ("path", "source"):
        if not isinstance(row[column], str) or not row[column]:
            return column, "must be a text that is not empty"
    if row["view"] is not None and (not isinstance(row["view"], str) or not row["view"]):
        return "view", "must be a view such as 'CC' or 'MLO', or null"
    vendor = row.get("vendor")
    if vendor is not None and (not isinstance(vendor, str) or not vendor or vendor != vendor.strip().lower()):
        return "vendor", "must be a name in lower case, or null"
    stratum = row.get("stratum")
    if stratum is not None and (not isinstance(stratum, str) or not stratum):
        return "stratum", "must be a name, or null"
    return None


def _wrong_value(row: Row, tasks: Sequence[Mapping[str, Any]]) -> tuple[str, str] | None:
    if row["laterality"] not in ("L", "R", None):
        return "laterality", "must be 'L', 'R' or null"
    if row.get("age_band") not in (None, *AGE_BANDS):
        return "age_band", f"must be one of {', '.join(AGE_BANDS)}, or null"
    if row["split"] not in SPLITS:
        return "split", f"must be one of {', '.join(SPLITS)}"
    for task in tasks:
        if row[task["name"]] not in (None, *task["labels"]):
            return task["name"], f"must be one of {', '.join(task['labels'])}, or null"
    broken = broken_rule(row["findings"])
    return None if broken is None else ("findings", broken)
