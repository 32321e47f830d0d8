"""A mapping: how the columns of a collection's own tables become those of ours, in a small TOML file.

Every value is a template: ``"{Patient ID}"`` is a column, ``"images/{study_id}/{image_id}.dicom"`` a text around
columns, ``"CC"`` a constant. Where the words differ from ours, ``{ from = "...", values = { THEIRS = "ours" } }``
translates them; what ``unknown`` lists becomes null, and any other word is an error that names row and column.
"""

from __future__ import annotations

import re
import tomllib
from collections.abc import Mapping as Mapped
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

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
