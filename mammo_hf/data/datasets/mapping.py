"""Mapping: a small TOML file that says how the columns of a collection's own tables become those of the schema.

Every value is a template: ``"{Patient ID}"`` is a column, ``"images/{study_id}/{image_id}.dicom"`` a text around
columns, ``"CC"`` a constant. If a table uses other terms, ``{ from = "...", values = { THEIRS = "ours" } }`` translates
them; the terms in ``unknown`` become null, and any other term is an error that names row and column.
"""

from __future__ import annotations

import re
import tomllib
from collections.abc import Iterable, Sequence
from collections.abc import Mapping as Mapped
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any, NamedTuple

from ...errors import DataError, UsageError
from ..schema import TASKS
from ..terms import terms_of_source
from .synonyms import is_null

TABLE_COLUMN = "table"  # column that holds the table's name if several tables are read as one
FOLLOW_UP = "cancer_within_years"  # the task that is computed from years or dates
HEADER_COLUMNS = (  # what the files' headers say, under the names that a mapping with headers = true may use
    *("patient_id", "study_uid", "instance_uid", "series_description"),
    *("laterality", "view", "age", "vendor"),
)
COLUMNS = ("image_id", "patient", "exam", "laterality", "view", "age", "vendor", "stratum", "split")
_NUMBERS = {"box": 4, "box_size": 4, "circle": 3, "image_size": 2}
ROWS = ("image", "lesion")
ACCEPT = {  # what a check of identities refuses unless the mapping accepts it
    "patient_spellings": "patients that differ only as 1, 1.0 and 0001 do are different patients",
    "rounded_patients": "patient numbers such as 1.23457E+11 are whole",
    "one_patient": "all images are of one patient",
    "exam_within_patient": "exams of two patients may have the same name",
}
_YEARS, _DATES = ("years_to_cancer", "years_followed"), ("exam_date", "cancer_date", "seen_date")
KEYS: Mapped[str, Sequence[str]] = {  # of each part of a mapping; a FIELD is a template with a translation
    "": (
        *("name", "title", "licence", "private", "terms", "quirks", "citation", "images", "columns", "rows", "accept"),
        *("join", "tasks", "findings"),
    ),
    "images": ("table", "headers", "path", "views", "pattern", "where"),
    "columns": COLUMNS,
    "join": ("table", "key", "match", "optional"),
    "tasks.NAME": ("labels", "by_breast", "severity"),
    f"tasks.{FOLLOW_UP}": (*_YEARS, *_DATES, "date_format", "table", "patient"),
    "findings": ("kind", "pathology", "box", "box_size", "boxes", "circle", "shapes", "mask_path", "image_size"),
    "FIELD": ("from", "match", "to", "values", "unknown", "separator"),
}
_REMEDY = "see docs/data.md for a mapping"
_BRACES = re.compile(r"\{([^{}]+)\}")


@dataclass(frozen=True)
class Field:
    """Template, with the translation of its values.

    Attributes:
        template: Text with columns in braces.
        values: From the terms of the table to ours; empty: the terms are ours already, except for the case.
        unknown: Terms for not known; an empty value always is.
        separator: Text between several values in one cell; ``None``: a cell holds one value.
        match: Regular expression; what it finds in the filled template is replaced by `to`, and if it finds nothing
            the value is not known.
        to: Replacement of the match, with \\1 for the first group.
    """

    template: str
    values: Mapped[str, str] = field(default_factory=dict)
    unknown: tuple[str, ...] = ()
    separator: str | None = None
    match: re.Pattern[str] | None = None
    to: str = r"\1"

    @cached_property
    def _single(self) -> str | None:
        """Column that is the whole template, the usual case; ``None`` for any other template."""
        found = _BRACES.fullmatch(self.template)
        return found[1] if found else None

    def columns(self) -> list[str]:
        """Return the columns that the template names."""
        return _BRACES.findall(self.template)

    def text(self, row: Mapped[str, str]) -> str:
        """Fill the template from a row; a column that the row lacks is empty."""
        if self._single is not None:
            text = row.get(self._single, "").strip()
        else:
            text = _BRACES.sub(lambda found: row.get(found[1], ""), self.template).strip()
        if self.match is None:
            return text
        found = self.match.search(text)
        return found.expand(self.to) if found else ""

    def words(self, row: Mapped[str, str]) -> list[str]:
        """Return the known values in a row, several if there is a separator."""
        text = self.text(row)
        parts = [part.strip(" []'\"") for part in text.split(self.separator)] if self.separator else [text]
        return [word for word in parts if word in self.values or not (word in self.unknown or is_null(word))]


@dataclass(frozen=True)
class Join:
    """Second table: its rows are joined to the rows of the images of which any `match` equals its `key`."""

    table: str
    key: Field
    match: tuple[Field, ...]
    optional: bool


class Record(NamedTuple):
    """One row of a table about an image.

    Attributes:
        path: Path of the image.
        name: Name of the file in the table.
        place: Table and row, for messages.
        contexts: Columns of the row; with joined tables there is one for each combination of rows that fit.
    """

    path: str
    name: str
    place: str
    contexts: list[dict[str, str]]


class Mapping:
    """Content of a mapping file, checked.

    Args:
        content: Content of the TOML file.

    Raises:
        KeyError: A key is missing.
        ValueError: A key is unknown, or its value is wrong; names the key.
    """

    def __init__(self, content: Mapped[str, Any]) -> None:
        _check_keys(content, KEYS[""], "")
        self.name: str = content["name"]
        self.licence: str = content["licence"]
        cited = {"citation": content["citation"]} if "citation" in content else {}
        self.terms: Mapped[str, str] = cited | content.get("terms", {})
        terms_of_source(self.name, self.licence, self.terms)  # says which key is wrong
        self.is_private = bool(content.get("private", False))
        self.quirks = tuple(content.get("quirks", ()))
        self.title: str = content.get("title", self.name)
        self.rows = _one_of(content.get("rows", ROWS[0]), ROWS, "rows")
        self.accept = frozenset(_one_of(name, ACCEPT, "accept") for name in content.get("accept", ()))
        self._read_images(content["images"])
        _check_keys(content["columns"], COLUMNS, "columns.")
        self.columns = {name: as_field(value, f"columns.{name}") for name, value in content["columns"].items()}
        for name in ("laterality", "view") if self.views else ():
            self.columns.setdefault(name, Field(f"{{{name}}}"))
        if "patient" not in self.columns:
            raise ValueError("columns.patient is needed: splits are by patient")
        self.joins = tuple(_join(join) for join in content.get("join", ()))
        self.tasks: dict[str, tuple[str, ...]] = {}
        self.labels: dict[str, Field] = {}
        self.by_breast: set[str] = set()
        self.severity: set[str] = set()
        self.follow_up: dict[str, Any] = {}  # fields by the keys of the task, and texts of date_format and table
        for name, given in content.get("tasks", {}).items():
            self._read_task(name, given)
        self.findings = _findings(content.get("findings", {}))

    def _read_images(self, images: Mapped[str, Any]) -> None:
        _check_keys(images, KEYS["images"], "images.")
        if ("table" in images) == bool(images.get("headers")):
            raise ValueError("images needs either a table, or headers = true if the files themselves are the table")
        if "table" in images and ("path" in images) == ("views" in images):
            raise ValueError("images.path must say which file belongs to a row, or images.views which files do")
        self.table: str | None = images.get("table")
        self.views: dict[str, str] = dict(images.get("views", {}))
        paths = images.get("path", "{path}" if self.views else [])
        # several are tried in this order
        self.paths = tuple(as_field(path, "images.path") for path in (paths if isinstance(paths, list) else [paths]))
        self.pattern = re.compile(images["pattern"]) if "pattern" in images else None
        self.where = {name: tuple(values) for name, values in images.get("where", {}).items()}

    def _read_task(self, name: str, given: Mapped[str, Any]) -> None:
        if name == FOLLOW_UP and "from" not in given:
            self.tasks[name], self.follow_up = TASKS[name], _follow_up(given)
            return
        others = KEYS["tasks.NAME"]
        _check_keys(given, (*KEYS["FIELD"], *others), f"tasks.{name}.")
        template = {key: value for key, value in given.items() if key not in others}
        self.labels[name] = as_field(template, f"tasks.{name}")
        self.tasks[name] = _labels(name, given, self.labels[name])
        if given.get("by_breast"):
            self.by_breast.add(name)
        if given.get("severity"):
            self.severity.add(name)

    def tables(self) -> list[str]:
        """Return the tables that must exist."""
        names = [self.table, *(join.table for join in self.joins if not join.optional), self.follow_up.get("table")]
        return list(dict.fromkeys(name for name in names if name))

    def locations(self) -> str:
        """Return what the findings' locations are, in words."""
        words = {"mask_path": "masks", "shapes": "outlines", "circle": "circles", "boxes": "boxes"}
        words |= {"box": "boxes", "box_size": "boxes"}
        return ", ".join(dict.fromkeys(words[key] for key in self.findings if key in words)) or "none"

    def own_columns(self) -> set[str]:
        """Return the columns of the images' own table: those of its paths, and all others if nothing is joined."""
        groups = set(self.pattern.groupindex) if self.pattern is not None else set()
        others = set() if self.joins else self.used_columns()
        if self.views:  # their names are taken apart by side, so only the files' own columns are sure
            return names_of(map(Field, self.views.values())) | set(self.where)
        return (names_of(self.paths) | others) - groups - {TABLE_COLUMN} | set(self.where)

    def used_columns(self) -> set[str]:
        """Return every column that gives a fact, a label or a finding."""
        fields = [*self.columns.values(), *self.labels.values()]
        for value in self.findings.values():
            fields += value if isinstance(value, tuple) else [value]
        dates = () if "table" in self.follow_up else ("cancer_date", "seen_date")
        return names_of(fields) | names_of(self.follow_up.get(key) for key in (*_YEARS, "exam_date", *dates))

    def event_columns(self) -> set[str]:
        """Return the columns of the follow-up's own table."""
        keys = ("patient", "cancer_date", "seen_date") if "table" in self.follow_up else ()
        return names_of(self.follow_up[key] for key in keys)

    def all_columns(self) -> set[str]:
        """Return every column that the mapping names anywhere: the others are not kept."""
        keys = [field for join in self.joins for field in (join.key, *join.match)]
        return self.own_columns() | self.used_columns() | self.event_columns() | names_of(keys)


def read_mapping(path: str | Path) -> Mapping:
    """Read a mapping.

    Raises:
        UsageError: There is no such file.
        DataError: It is not TOML, or a key is missing, unknown or wrong; names the key.
    """
    path = Path(path)
    try:
        content = tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise UsageError("cannot be read", source=path, remedy="a mapping is a TOML file") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise DataError(f"is not TOML: {error}", source=path, remedy=_REMEDY) from error
    return parse_mapping(content, path)


def parse_mapping(content: Mapped[str, Any], source: object) -> Mapping:
    """Check the content of a mapping.

    Args:
        content: Content of the TOML file.
        source: Name for messages.

    Raises:
        DataError: A key is missing, unknown or wrong; names the key.
    """
    try:
        return Mapping(content)
    except (KeyError, TypeError, ValueError, re.error) as error:
        problem = f"key {error} is missing" if isinstance(error, KeyError) else str(error)
        raise DataError(problem, source=source, remedy=_REMEDY) from error


def names_of(fields: Iterable[Field | None]) -> set[str]:
    """Return the columns that templates name."""
    return {name for field in fields if field is not None for name in field.columns()}


def _labels(name: str, given: Mapped[str, Any], field: Field) -> tuple[str, ...]:
    if "labels" in given:
        return tuple(given["labels"])
    if name not in TASKS:
        common = ", ".join(TASKS)
        raise ValueError(f"tasks.{name} is not a common task ({common}): it needs its labels, least severe first")
    used = set(field.values.values()) or set(TASKS[name])
    if not used <= set(TASKS[name]):
        raise ValueError(f"tasks.{name}.values must lead to {', '.join(TASKS[name])}")
    return tuple(label for label in TASKS[name] if label in used)


def _follow_up(given: Mapped[str, Any]) -> dict[str, Any]:
    prefix = f"tasks.{FOLLOW_UP}"
    _check_keys(given, KEYS[prefix], f"{prefix}.")
    if ("table" in given) != ("patient" in given) or ("table" in given and "exam_date" not in given):
        raise ValueError(f"{prefix}.table and patient go together, with dates")
    if set(given) - {"date_format", "table", "patient"} not in (set(_YEARS), set(_DATES)):
        raise ValueError(f"{prefix} needs {' and '.join(_YEARS)}, or {', '.join(_DATES[:2])} and {_DATES[2]}")
    texts = ("date_format", "table")
    return {key: value if key in texts else as_field(value, f"{prefix}.{key}") for key, value in given.items()}


def _join(given: Mapped[str, Any]) -> Join:
    _check_keys(given, KEYS["join"], "join.")
    match = given["match"] if isinstance(given["match"], list) else [given["match"]]
    fields = tuple(as_field(value, "join.match") for value in match)
    return Join(given["table"], as_field(given["key"], "join.key"), fields, bool(given.get("optional", False)))


def _findings(given: Mapped[str, Any]) -> dict[str, Any]:
    """Return the field of each key; for a box, a circle and a size a tuple of fields."""
    _check_keys(given, KEYS["findings"], "findings.")
    result: dict[str, Any] = {}
    for key, value in given.items():
        if key not in _NUMBERS:
            result[key] = as_field(value, f"findings.{key}")
        elif len(value) == _NUMBERS[key]:
            result[key] = tuple(as_field(number, f"findings.{key}") for number in value)
        else:
            raise ValueError(f"findings.{key} has {len(value)} numbers")
    return result


def as_field(given: object, key: str) -> Field:
    """Return the field that a template, or a table with its translation, states.

    Args:
        given: Value of a mapping's key.
        key: Name of the key, for messages.

    Raises:
        ValueError: It is neither, or has an unknown key.
    """
    if isinstance(given, str):
        return Field(given)
    if not isinstance(given, dict):
        raise ValueError(f"{key} must be a template, or a table with {', '.join(KEYS['FIELD'])}")
    _check_keys(given, KEYS["FIELD"], f"{key}.")
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


def _one_of(given: str, known: Iterable[str], key: str) -> str:
    if given not in known:
        raise ValueError(f"{key} is '{given}'; it must be one of {', '.join(known)}")
    return given


def _check_keys(given: Mapped[str, Any], keys: Sequence[str], prefix: str) -> None:
    for key in given:
        if key not in keys:
            raise ValueError(f"{prefix}{key} is not a key of a mapping; known are {', '.join(keys)}")
