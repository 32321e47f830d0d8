"""A mapping: how the columns of a collection's own tables become those of ours, in a small TOML file.

Every value is a template: ``"{Patient ID}"`` is a column, ``"images/{study_id}/{image_id}.dicom"`` a text around
columns, ``"CC"`` a constant. Where the words differ from ours, ``{ from = "...", values = { THEIRS = "ours" } }``
translates them; what ``unknown`` lists becomes null, and any other word is an error that names row and column.
"""

from __future__ import annotations

import datetime
import math
import re
import tomllib
from collections.abc import Mapping as Mapped
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

from ...errors import DataError, UsageError
from ..schema import TASKS

_PLACE = re.compile(r"\{([^{}]+)\}")
_TOP = ("name", "title", "licence", "private", "quirks", "images", "columns", "join", "tasks", "findings")
_FIELD = ("from", "match", "to", "values", "unknown", "separator")
_FOLLOW_UP = (
    *("years_to_cancer", "years_followed"),
    *("exam_date", "cancer_date", "seen_date", "date_format", "table", "patient"),
)
_COLUMNS = ("image_id", "patient", "exam", "laterality", "view", "age", "vendor", "split")


@dataclass(frozen=True)
class Field:
    """A template, with the translation of its values.

    Attributes:
        template: Text with columns in braces.
        values: From their words to ours; empty: the words are ours already, but for upper and lower case.
        unknown: Their words for not known; an empty value always is.
        separator: Where one cell holds several values.
        match: A regular expression; what it finds in the filled template is replaced by `to`, and where it finds
            nothing the value is not known.
        to: What replaces it, with \\1 for the first group.
    """

    template: str
    values: Mapped[str, str] = field(default_factory=dict)
    unknown: tuple[str, ...] = ()
    separator: str | None = None
    match: re.Pattern[str] | None = None
    to: str = r"\1"

    def columns(self) -> list[str]:
        """The columns that the template names."""
        return _PLACE.findall(self.template)

    def text(self, row: Mapped[str, str]) -> str:
        """The template filled from a row; a column that the row lacks is empty."""
        text = _PLACE.sub(lambda found: row.get(found[1], ""), self.template).strip()
        if self.match is None:
            return text
        found = self.match.search(text)
        return found.expand(self.to) if found else ""

    def words(self, row: Mapped[str, str]) -> list[str]:
        """The values in a row, several where there is a separator, without those that are not known."""
        text = self.text(row)
        parts = text.split(self.separator) if self.separator else [text]
        cleaned = [part.strip(" []'\"") if self.separator else part for part in parts]
        return [word for word in cleaned if word and word not in self.unknown]


@dataclass(frozen=True)
class Join:
    """A second table: its rows go to those rows of the images whose `match` (any of several) is its `key`."""

    table: str
    key: Field
    match: tuple[Field, ...]
    optional: bool = False


@dataclass(frozen=True)
class FollowUp:
    """Where tables say when cancer was found, and until when nobody found any: in years from the exam, or as dates.

    With a `table` the dates are of all its rows whose `patient` is the image's, whether or not they belong to an image.
    """

    years_to_cancer: Field | None = None
    years_followed: Field | None = None
    exam_date: Field | None = None
    cancer_date: Field | None = None
    seen_date: Field | None = None
    date_format: str | None = None
    table: str | None = None
    patient: Field | None = None

    def columns(self) -> set[str]:
        """The columns of the images' tables that its templates name."""
        fields = [self.years_to_cancer, self.years_followed, self.exam_date]
        fields += [self.cancer_date, self.seen_date] if self.table is None else []
        return {name for field in fields if field is not None for name in field.columns()}

    def event_columns(self) -> set[str]:
        """The columns of its own table that its templates name."""
        fields = [self.patient, self.cancer_date, self.seen_date] if self.table is not None else []
        return {name for field in fields if field is not None for name in field.columns()}


@dataclass(frozen=True)
class Mapping:
    """A mapping, as read from TOML; see `read_mapping`."""

    name: str
    licence: str
    title: str
    is_private: bool
    quirks: tuple[str, ...]
    table: str | None
    path: Field | None
    pattern: re.Pattern[str] | None
    where: Mapped[str, tuple[str, ...]]
    columns: Mapped[str, Field]
    joins: tuple[Join, ...]
    tasks: Mapped[str, tuple[str, ...]]
    labels: Mapped[str, Field]
    by_breast: frozenset[str]
    findings: Mapped[str, Any]
    follow_up: FollowUp | None = None


def read_mapping(path: str | Path) -> Mapping:
    """Reads a mapping.

    Raises:
        UsageError: There is no such file.
        DataError: It is no TOML, or a key is missing, unknown or wrong; names the key.
    """
    path = Path(path)
    try:
        content = tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise UsageError("cannot be read", source=path, remedy="a mapping is a TOML file") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise DataError(f"is no TOML: {error}", source=path, remedy="see docs/data.md for a mapping") from error
    try:
        return _mapping(content)
    except (KeyError, TypeError, ValueError, re.error) as error:
        problem = f"key {error} is missing" if isinstance(error, KeyError) else str(error)
        raise DataError(problem, source=path, remedy="see docs/data.md for a mapping") from error


def _mapping(content: dict[str, Any]) -> Mapping:
    _known(content, _TOP, "")
    images, columns = content["images"], content["columns"]
    _known(images, ("table", "headers", "path", "pattern", "where"), "images.")
    _known(columns, _COLUMNS, "columns.")
    if ("table" in images) == bool(images.get("headers")):
        raise ValueError("images needs either a table, or headers = true where the files themselves are the table")
    if "table" in images and "path" not in images:
        raise ValueError("images.path says where the file of a row lies")
    columns = {name: _field(value, f"columns.{name}") for name, value in columns.items()}
    if "patient" not in columns:
        raise ValueError("columns.patient is needed: splits are by patient")
    tasks, labels, by_breast, follow_up = {}, {}, set(), None
    for name, given in content.get("tasks", {}).items():
        if name == "cancer_within_years" and "from" not in given:
            tasks[name], follow_up = TASKS[name], _follow_up(given)
            continue
        _known(given, (*_FIELD, "labels", "by_breast"), f"tasks.{name}.")
        labels[name] = _field({key: given[key] for key in given if key not in ("labels", "by_breast")}, f"tasks.{name}")
        tasks[name] = _labels(name, given, labels[name])
        if given.get("by_breast"):
            by_breast.add(name)
    return Mapping(
        name=content["name"],
        licence=content["licence"],
        title=content.get("title", content["name"]),
        is_private=bool(content.get("private", False)),
        quirks=tuple(content.get("quirks", ())),
        table=images.get("table"),
        path=_field(images["path"], "images.path") if "path" in images else None,
        pattern=re.compile(images["pattern"]) if "pattern" in images else None,
        where={name: tuple(values) for name, values in images.get("where", {}).items()},
        columns=columns,
        joins=tuple(_join(join) for join in content.get("join", ())),
        tasks=tasks,
        labels=labels,
        by_breast=frozenset(by_breast),
        findings=_findings(content.get("findings", {})),
        follow_up=follow_up,
    )


def _labels(name: str, given: dict[str, Any], field: Field) -> tuple[str, ...]:
    if "labels" in given:
        return tuple(given["labels"])
    if name not in TASKS:
        raise ValueError(f"tasks.{name} is no common task ({', '.join(TASKS)}): it needs its labels, least grave first")
    used = set(field.values.values()) or set(TASKS[name])
    if not used <= set(TASKS[name]):
        raise ValueError(f"tasks.{name}.values must lead to {', '.join(TASKS[name])}")
    return tuple(label for label in TASKS[name] if label in used)


def _follow_up(given: dict[str, Any]) -> FollowUp:
    prefix = "tasks.cancer_within_years"
    _known(given, _FOLLOW_UP, f"{prefix}.")
    by_years, by_dates = {"years_to_cancer", "years_followed"}, {"exam_date", "cancer_date", "seen_date"}
    there = set(given) - {"date_format", "table", "patient"}
    if ("table" in given) != ("patient" in given) or ("table" in given and "exam_date" not in given):
        raise ValueError(f"{prefix}.table and patient go together, with dates")
    if there not in (by_years, by_dates):
        raise ValueError(f"{prefix} needs years_to_cancer and years_followed, or exam_date, cancer_date and seen_date")
    texts = ("date_format", "table")
    keys: dict[str, Any] = {
        key: value if key in texts else _field(value, f"{prefix}.{key}") for key, value in given.items()
    }
    return FollowUp(**keys)


def _join(given: dict[str, Any]) -> Join:
    _known(given, ("table", "key", "match", "optional"), "join.")
    match = given["match"] if isinstance(given["match"], list) else [given["match"]]
    return Join(
        given["table"],
        _field(given["key"], "join.key"),
        tuple(_field(value, "join.match") for value in match),
        bool(given.get("optional", False)),
    )


def _findings(given: dict[str, Any]) -> dict[str, Any]:
    _known(given, ("kind", "pathology", "box", "boxes", "circle", "shapes", "mask_path"), "findings.")
    result: dict[str, Any] = {}
    for key, value in given.items():
        if key in ("box", "circle"):
            if len(value) != {"box": 4, "circle": 3}[key]:
                raise ValueError(f"findings.{key} has {len(value)} places")
            result[key] = tuple(_field(place, f"findings.{key}") for place in value)
        else:
            result[key] = _field(value, f"findings.{key}")
    return result


def _field(given: object, key: str) -> Field:
    if isinstance(given, str):
        return Field(given)
    if not isinstance(given, dict):
        raise ValueError(f"{key} must be a template, or a table with {', '.join(_FIELD)}")
    _known(given, _FIELD, f"{key}.")
    if not isinstance(given["from"], str):
        raise ValueError(f"{key}.from must be a template")
    return Field(
        template=given["from"],
        values=dict(given.get("values", {})),
        unknown=tuple(given.get("unknown", ())),
        separator=given.get("separator"),
        match=re.compile(given["match"]) if "match" in given else None,
        to=given.get("to", r"\1"),
    )


def _known(given: dict[str, Any], keys: tuple[str, ...], prefix: str) -> None:
    for key in given:
        if key not in keys:
            raise ValueError(f"{prefix}{key} is no key of a mapping; known are {', '.join(keys)}")


# What a collection's tables say of an image before it is understood, and the error that names the place.


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


# ``cancer_within_years``: in which year after the examination cancer was found, from a table's years or its dates.
#
# An image without cancer is ``none`` only where the patient is known to be without it for five years. Where the tables
# end earlier the image is censored: its label is not known. So is one that was taken after a cancer had been found.


TASK = "cancer_within_years"
_HORIZON = len(TASKS[TASK]) - 1  # years
_LONGEST = 50  # years; what is longer stands for something else


class _Dates(NamedTuple):
    """What is known of a patient: the days on which cancer was found, and the last on which anything was."""

    cancers: list[datetime.date]
    seen: list[datetime.date]


def label_of(years_to_cancer: float | None, years_followed: float | None) -> str | None:
    """The label.

    Args:
        years_to_cancer: From the examination to the first cancer, below 0 where that came first; ``None``: no cancer.
        years_followed: From the examination to the last day of which the tables know.

    Returns:
        "1" to "5": found in that year (in the first: after less than one year); "none": none within five years;
        ``None``: not known.
    """
    if years_to_cancer is not None and years_to_cancer < _HORIZON:
        return str(math.floor(years_to_cancer) + 1) if years_to_cancer >= 0 else None
    # a cancer that is found later says that there was none before
    known = years_followed if years_to_cancer is None else years_to_cancer
    return "none" if known is not None and known >= _HORIZON else None


def follow_up_labels(
    follow_up: FollowUp, images: Sequence[ImageRows], patients: Sequence[str], events: Sequence[Record] = ()
) -> list[str | None]:
    """The label of each image.

    Args:
        follow_up: Where the tables say it.
        images: All rows about each image.
        patients: Each image's patient, as the tables name them.
        events: All rows of the table of events, where the follow-up has one; without it the dates of all of a patient's
            images count together.

    Raises:
        DataError: A value is no number of years, or no date; names row and column.
    """
    if follow_up.exam_date is None:
        return [_by_years(follow_up, image) for image in images]
    known: dict[str, _Dates] = {patient: _Dates([], []) for patient in patients}
    if follow_up.patient is None:
        told = [(patient, record) for image, patient in zip(images, patients, strict=True) for record in image.records]
    else:
        told = [(follow_up.patient.text(record.contexts[0]), record) for record in events]
    for patient, record in told:
        if patient in known:
            known[patient].cancers.extend(_dates(follow_up, follow_up.cancer_date, record))
            known[patient].seen.extend(_dates(follow_up, follow_up.seen_date, record))
    return [_by_dates(follow_up, image, known[patient]) for image, patient in zip(images, patients, strict=True)]


def _by_years(follow_up: FollowUp, image: ImageRows) -> str | None:
    cancers, followed = (
        [years for record in image.records for context in record.contexts for years in _years(field, record, context)]
        for field in (follow_up.years_to_cancer, follow_up.years_followed)
    )
    return label_of(min(cancers, default=None), max(followed, default=None))


def _by_dates(follow_up: FollowUp, image: ImageRows, known: _Dates) -> str | None:
    exam = min(
        (day for record in image.records for day in _dates(follow_up, follow_up.exam_date, record)), default=None
    )
    if exam is None:
        return None
    cancers = [_whole_years(exam, day) for day in known.cancers]
    followed = [_whole_years(exam, day) for day in known.seen]
    return label_of(min(cancers, default=None), max(followed, default=None))


def _whole_years(start: datetime.date, end: datetime.date) -> int:
    """Years to the last anniversary: five yearly examinations later are five years, whatever leap days lay between."""
    return end.year - start.year - ((end.month, end.day) < (start.month, start.day))


def _years(field: Field | None, record: Record, context: Mapped[str, str]) -> list[float]:
    if field is None or not field.words(context):
        return []
    try:
        years = float(field.text(context))
    except ValueError:
        raise wrong(record, field, "must be a number of years") from None
    if not abs(years) <= _LONGEST:
        raise wrong(record, field, f'says more than {_LONGEST} years (what stands for none belongs into "unknown")')
    return [years]


def _dates(follow_up: FollowUp, field: Field | None, record: Record) -> list[datetime.date]:
    if field is None:
        return []
    texts = {field.text(context) for context in record.contexts if field.words(context)}
    try:
        if follow_up.date_format is not None:
            return [datetime.datetime.strptime(text, follow_up.date_format).date() for text in texts]
        return [datetime.date.fromisoformat(text[:10]) for text in texts]  # a time of day may follow
    except ValueError:
        form = follow_up.date_format or "YYYY-MM-DD, or date_format must say how it is written"
        raise wrong(record, field, f"must be a date as {form}") from None
