"""Source csv: any collection with tables of its own, read by a mapping of their columns.

The ready mappings in ``mappings/`` are sources by their own names.
"""

from __future__ import annotations

import ast
import datetime
import fnmatch
import itertools
import json
import math
import os
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from collections.abc import Mapping as Mapped
from functools import lru_cache
from pathlib import Path
from typing import Any

from ...dicom import Laterality, Vendor
from ...errors import DataError, UsageError, did_you_mean
from ...notes import Note
from ...processing.image_source import is_picture, picture_size
from ..collection import Collection, Rejected, most_severe
from ..findings import FINDING_KINDS, PATHOLOGIES, Finding, finding
from ..privacy import PRIVATE, private_salt, salted_hash
from ..schema import SPLITS, Row, age_band, age_years, is_date, task_list
from ..schema import TASKS as COMMON
from ..terms import OWN_IMAGES, terms_of_source
from .contents import Contents, Files, files_below, find_tables, has_picture_suffix, missing_files, read_shape
from .identity import check_identity
from .mapping import FOLLOW_UP, HEADER_COLUMNS, TABLE_COLUMN, Field, Join, Mapping, Record, read_mapping
from .own_table import listed, unfolded
from .synonyms import is_unknown, names_nobody, our_word, view_word
from .tables import read_columns, read_table, row_number

MAPPINGS = Path(__file__).parent / "mappings"

NAME = "csv"
LOOKS_FOR = "to be given by its mapping, as in FOLDER/my.toml"
LICENCE = "the collection's own; the mapping states it"
TASKS: dict[str, tuple[str, ...]] = {}
LOCATIONS = "what the mapping's findings say: boxes, circles, masks or outlines"
OFFICIAL_SPLIT = "what the mapping's columns.split says"
_SHOWN = 20  # different wrong words of a column, above which none is shown
FILE_OF_MANY = "\0file"  # column with the file's path if its row names several files
QUIRKS = ("Tables may have a byte order mark, be Latin-1, or be separated by commas, semicolons or tabs.",)


def recognises(root: Path) -> bool:
    """Return False: a table says nothing without its mapping."""
    return False


def load(
    root: Path, mapping: str | Path | None = None, max_missing: float = 0.5, accept: Iterable[str] = ()
) -> Collection:
    """Read a collection by a mapping.

    Args:
        root: Folder that holds tables and images.
        mapping: File of the mapping, or the name of a ready one.
        max_missing: Fraction of the tables' files that may be missing.
        accept: Checks of identities that need not pass; see `mapping.ACCEPT`.

    Raises:
        UsageError: There is no mapping.
        DataError: See `MappedSource.load`.
    """
    if mapping is None:
        raise UsageError("needs a mapping of the columns", source=NAME, remedy="give the mapping: FOLDER/my.toml")
    ready = MAPPINGS / f"{mapping}.toml"
    return MappedSource.from_toml(ready if ready.is_file() else mapping).load(root, max_missing, accept)


class MappedSource:
    """Source made of a mapping, with the names that a source's module has.

    Args:
        mapping: Mapping of the collection's tables.
    """

    def __init__(self, mapping: Mapping) -> None:
        self.mapping = mapping
        self.NAME = mapping.name
        self.__doc__ = f"{mapping.title}."
        self.LICENCE, self.TERMS = mapping.licence, mapping.terms
        self.TASKS = dict(mapping.tasks)
        self.QUIRKS = mapping.quirks
        self.LOCATIONS = mapping.locations()
        split = mapping.columns.get("split")
        self.OFFICIAL_SPLIT = f"by {split.template}" if split is not None and split.columns() else "none"
        self.LOOKS_FOR = f"{' and '.join(mapping.tables())}, in the folder or at most two folders below"

    @classmethod
    def from_toml(cls, path: str | Path) -> MappedSource:
        """Return the source of a mapping file; an entry point of another package may name it.

        Raises:
            UsageError: There is no such file.
            DataError: It is not a mapping.
        """
        return cls(read_mapping(path))

    def recognises(self, root: Path) -> bool:
        """Return whether a folder holds the mapping's tables, with the columns that the mapping names."""
        mapping = self.mapping
        found = _Tables(root, mapping.tables())
        if not all(found.has(name) for name in mapping.tables()):
            return False
        if mapping.table is not None:
            return mapping.own_columns() <= found.columns(mapping.table)
        joins = [join for join in mapping.joins if not join.optional]
        return all(set(join.key.columns()) <= found.columns(join.table) for join in joins)

    def load(self, root: Path, max_missing: float = 0.5, accept: Iterable[str] = ()) -> Collection:
        """Read the collection.

        Args:
            root: Folder that holds tables and images.
            max_missing: Fraction of the tables' files that may be missing.
            accept: Checks of identities that need not pass, in addition to those of the mapping.

        Returns:
            The collection. Its `notes` count what was not found or left out, its `rejected` lists it.

        Raises:
            DataError: A table or column does not exist, a value is wrong or contradicts another, or too many files are
                missing; names table, row and column.
        """
        root, mapping = Path(root), self.mapping
        tables = _Tables(root, [*mapping.tables(), *(join.table for join in mapping.joins)])
        absent = [name for name in mapping.tables() if not tables.has(name)]
        if absent:
            raise DataError(f"has no table {absent[0]}", source=root, remedy=f"{self.NAME} needs {self.LOOKS_FOR}")
        rejected: list[Rejected] = []
        notes: list[Note] = []
        if mapping.table is None:
            records = list(_header_records(root, rejected))
        else:
            # a wide table is taken apart by the sides in its columns' names, so each may be of use
            keep = None if mapping.views else mapping.all_columns()
            rows = tables.rows(mapping.table, keep)
            folders = [*(path.parent for path in tables.paths(mapping.table)), root]
            records, notes = self._table_records(tables.name(mapping.table), rows, folders, rejected, max_missing)
        _check_all_columns(mapping, tables)
        for join in mapping.joins:
            if tables.has(join.table):
                records, more = _joined(records, join, tables, mapping.all_columns())
                notes += more
        return self._collection(records, root, rejected, notes, _events(mapping, tables), accept)

    def load_rows(
        self,
        rows: list[dict[str, str]],
        source: str | Path,
        folders: Sequence[Path],
        max_missing: float = 0.5,
        accept: Iterable[str] = (),
    ) -> Collection:
        """Read a collection from rows in memory.

        Args:
            rows: Rows of the images' table.
            source: Name of the table in messages.
            folders: Folders that the paths of the images are relative to; the last one is the collection's.
            max_missing: Fraction of the files that may be missing.
            accept: Checks of identities that need not pass, in addition to those of the mapping.

        Raises:
            DataError: A column does not exist, a value is wrong or contradicts another, or too many files are missing.
        """
        rejected: list[Rejected] = []
        records, notes = self._table_records(source, rows, folders, rejected, max_missing)
        return self._collection(records, folders[-1], rejected, notes, [], accept)

    def _table_records(
        self,
        table: str | Path,
        rows: list[dict[str, str]],
        folders: Sequence[Path],
        rejected: list[Rejected],
        max_missing: float,
    ) -> tuple[list[Record], list[Note]]:
        mapping = self.mapping
        _check_columns(table, rows, mapping.own_columns())
        files = Files(folders, rejected, is_own=mapping.is_private)
        records, missing, total = [], [], 0
        for position, whole in enumerate(rows, start=1):
            if any(whole.get(column) not in allowed for column, allowed in mapping.where.items()):
                continue
            place = f"{table}, row {row_number(whole, position)}"
            for row in unfolded(whole, mapping.views) if mapping.views else (whole,):
                total += 1
                wanted, found = _found(files, row, place, mapping.paths)
                if not found:
                    missing.append(wanted)
                    rejected.append(Rejected(place, f"there is no file {wanted}", "missing"))
                records += [self._record(path, wanted, place, row, len(found)) for path in found]
        outside = [Note("files_elsewhere", count=files.elsewhere)] if files.elsewhere else []
        return records, [*missing_files(missing, total, max_missing, table, files.like), *outside]

    def _record(self, path: str, wanted: str, place: str, row: dict[str, str], files: int) -> Record:
        """Return the record of one file of a row; of several each is named by itself, and asked for side and view."""
        groups: dict[str, str] = {}
        if self.mapping.pattern is not None:
            matched = self.mapping.pattern.search(os.path.basename(path))
            groups = {} if matched is None else {key: value or "" for key, value in matched.groupdict().items()}
        row = {**row, **groups} if groups else row
        if files == 1:
            return Record(path, wanted, place, [row])
        return Record(path, f"{wanted} {os.path.basename(path)}", place, [{**row, FILE_OF_MANY: path}])

    def _collection(
        self,
        records: list[Record],
        root: Path,
        rejected: list[Rejected],
        notes: list[Note],
        events: list[Record],
        accept: Iterable[str],
    ) -> Collection:
        mapping = self.mapping
        images: dict[str, list[Record]] = {}
        for record in records:
            images.setdefault(record.path, []).append(record)
        accepted = mapping.accept | set(accept)
        kept, more = check_identity(mapping, list(images.values()), rejected, accepted)
        rows, found = image_rows(
            mapping, kept, root, rejected, events, exam_alone="exam_within_patient" not in accepted
        )
        for done in (images, kept, records):  # a million rows take a gigabyte
            done.clear()
        notes = [*notes, *more, *found]
        if not rows:
            reason = f"; the first: {rejected[0].source}: {rejected[0].reason}" if rejected else ""
            raise DataError(f"holds no image that can be used{reason}", source=root, remedy=self.LOOKS_FOR)
        unlabelled = sum(all(row[name] is None for name in mapping.tasks) for row in rows)
        if mapping.tasks and unlabelled:
            notes = [*notes, Note("images_without_label", count=unlabelled, total=len(rows))]
        collection = Collection.from_rows(
            rows,
            tasks=task_list(mapping.tasks, mapping.severity),
            salt_name=PRIVATE if mapping.is_private else self.NAME,
            notes=notes,
            rejected=rejected,
        )
        name = OWN_IMAGES if mapping.is_private else self.NAME
        collection.terms = (terms_of_source(name, self.LICENCE, self.TERMS),)
        return collection


# The tables: read, checked and joined into records, with the file of each.


class _Tables:
    """Tables of a folder by the names that a mapping gives them; a name with ``*`` names several, read as one."""

    def __init__(self, root: Path, names: Iterable[str]) -> None:
        self._found = find_tables(root, [name.lower() for name in names])

    def paths(self, name: str) -> list[Path]:
        """Return the files of a name, in order."""
        return [path for found, path in sorted(self._found.items()) if fnmatch.fnmatch(found, name.lower())]

    def has(self, name: str) -> bool:
        """Return whether there is a file of that name."""
        return bool(self.paths(name))

    def name(self, name: str) -> str | Path:
        """Return the file for messages, or the pattern if there are several."""
        found = self.paths(name)
        return found[0] if len(found) == 1 else found[0].parent / name

    def columns(self, name: str) -> set[str]:
        """Return the columns that all files of a name have."""
        columns = [set(read_columns(path)) for path in self.paths(name)]
        return set.intersection(*columns) | ({TABLE_COLUMN} if "*" in name else set())

    def rows(self, name: str, keep: set[str] | None) -> list[dict[str, str]]:
        """Return the rows of all files of a name; of several, each row says which table it is of."""
        if "*" not in name:
            return read_table(self.paths(name)[0], keep)
        return [{**row, TABLE_COLUMN: path.name} for path in self.paths(name) for row in read_table(path, keep)]


def _check_all_columns(mapping: Mapping, tables: _Tables) -> None:
    """Check that each column is in one of the tables: a name that none has would be null everywhere, unnoticed.

    Raises:
        DataError: One is not. While an optional table does not exist, nobody can know.
    """
    if any(not tables.has(join.table) for join in mapping.joins) or mapping.views:
        return
    known = set(HEADER_COLUMNS) if mapping.table is None else tables.columns(mapping.table)
    known |= set(mapping.pattern.groupindex) if mapping.pattern is not None else set()
    for join in mapping.joins:
        known |= tables.columns(join.table)
    missing = sorted(mapping.used_columns() - known)
    if missing:
        names = ", ".join(name for name in (mapping.table, *(join.table for join in mapping.joins)) if name)
        remedy = f"{did_you_mean(missing[0], known)}correct mapping or table"
        raise DataError(f"no table has a column '{missing[0]}'", source=names, remedy=remedy)


def _check_columns(table: str | Path, rows: list[dict[str, str]], needed: set[str]) -> None:
    if not rows:
        raise DataError("has no rows", source=table, remedy="give the whole table")
    missing = sorted(needed - rows[0].keys())
    if missing:
        # of a file only the columns that the mapping names were kept
        known = read_columns(table) if isinstance(table, Path) and table.is_file() else list(rows[0])
        has, needs = ", ".join(known[:_SHOWN]), ", ".join(sorted(needed))
        remedy = f"it has {has}; the mapping needs {needs}, and may be that of another table"
        raise DataError(f"has no column '{missing[0]}'", source=table, remedy=remedy)


def _found(files: Files, row: dict[str, str], place: str, fields: Sequence[Field]) -> tuple[str, list[str]]:
    """Return the first path of a row as the table states it, and the files of the first one that leads to any."""
    for field in fields:
        try:
            found = files.find(field.text(row))
        except DataError as error:
            problem = f"column {_named(field)} {error.problem}"
            raise DataError(problem, source=place, remedy=error.remedy) from error
        if found:
            return fields[0].text(row), found
    return fields[0].text(row), []


def _header_records(root: Path, rejected: list[Rejected]) -> Iterator[Record]:
    """Read the files themselves as a table: what each header says."""
    contents = Contents()
    for path in files_below(root, rejected):
        facts = contents.facts(path)
        if facts is None:
            rejected.append(contents.problems[path])
            continue
        row = {name: getattr(facts, name) for name in HEADER_COLUMNS}
        row |= {"laterality": facts.laterality.value, "view": facts.view.value}
        yield Record(path, facts.instance_uid or os.path.relpath(path, root), os.path.relpath(path, root), [row])


def _events(mapping: Mapping, tables: _Tables) -> list[Record]:
    """Read the rows of the follow-up's own table."""
    if "table" not in mapping.follow_up:
        return []
    name = mapping.follow_up["table"]
    rows = tables.rows(name, mapping.all_columns())
    _check_columns(tables.name(name), rows, mapping.event_columns())
    return [Record("", "", f"{tables.name(name)}, row {number}", [row]) for number, row in enumerate(rows, start=1)]


def _joined(records: list[Record], join: Join, tables: _Tables, keep: set[str]) -> tuple[list[Record], list[Note]]:
    """Add to each record the columns of the rows of a second table that fit it."""
    rows = tables.rows(join.table, keep)
    _check_columns(tables.name(join.table), rows, set(join.key.columns()))
    by_key: dict[str, list[dict[str, str]]] = {}
    for row in rows:
        by_key.setdefault(join.key.text(row), []).append(row)
    result: list[Record] = []
    used: set[str] = set()
    for record in records:
        contexts: list[dict[str, str]] = []
        for context in record.contexts:
            keys = dict.fromkeys(field.text(context) for field in join.match)
            fitting = list(itertools.chain.from_iterable(by_key.get(key, []) for key in keys))
            used.update(key for key in keys if key in by_key)
            # a joined column does not overwrite one of the same name in the images' own table
            contexts += [{**row, **context} for row in fitting] or [context]
        result.append(record._replace(contexts=contexts))
    unused = len(by_key) - len(used)
    note = Note("keys_without_image", count=unused, total=len(by_key), table=join.table)
    return result, [note] if unused else []


# The rows: facts, labels and findings of each image, checked for contradictions.


class _Faults:
    """Values that break a rule, gathered so that one error reports all words of a column with their counts."""

    def __init__(self) -> None:
        self._words: dict[tuple[str, str], Counter[str]] = {}
        self._places: dict[tuple[str, str], str] = {}

    def add(self, record: Record, field: Field, rule: str, word: str) -> None:
        """Note a value that breaks the rule of its column."""
        key = (_named(field), rule)
        self._words.setdefault(key, Counter())[word] += 1
        self._places.setdefault(key, record.place)

    def check(self) -> None:
        """Raise DataError if there are any; of many different values, which may name persons, none is shown."""
        if not self._words:
            return
        lines = []
        for (column, rule), words in self._words.items():
            shown = f": {listed(words)}" if any(words) and len(words) <= _SHOWN else ""
            shown = shown or (f" ({sum(words.values())} rows)" if sum(words.values()) > 1 else "")
            lines.append(f"column {column} {rule}{shown}")
        place = next(iter(self._places.values()))
        raise DataError("; ".join(lines), source=place, remedy="correct the table, or the mapping's values and unknown")


def image_rows(
    mapping: Mapping,
    images: Sequence[list[Record]],
    root: Path,
    rejected: list[Rejected],
    events: Sequence[Record],
    *,
    exam_alone: bool = True,
) -> tuple[list[Row], list[Note]]:
    """Make the rows of all images.

    Args:
        mapping: Mapping of the tables.
        images: All records of each image.
        root: Folder of the collection.
        rejected: List that receives masks that cannot be used.
        events: Rows of the follow-up's own table.
        exam_alone: Whether the exam's key says which exam it is, without the patient's.

    Returns:
        The rows, and notes.

    Raises:
        DataError: Values that the mapping does not know, all of a column at once, or rows that contradict each other.
    """
    salt = private_salt() if mapping.is_private else mapping.name
    rows: list[Row] = []
    faults, ages, cut = _Faults(), _Ages(mapping), _Clipped()
    for records in images:
        row = _facts(mapping, records[0], salt, faults, exam_alone)
        row["age_band"] = ages.band(row, records[0], faults)
        for name in mapping.labels:
            row[name] = _label(mapping, records, name, faults)
        row["findings"] = _findings(mapping, records, root, rejected, cut)
        rows.append(row)
    faults.check()
    _complete_splits(rows)
    for name in mapping.by_breast:
        _spread_over_breasts(rows, name, mapping.tasks[name])
    if mapping.follow_up:
        patients = [mapping.columns["patient"].text(records[0].contexts[0]) for records in images]
        for row, label in zip(rows, follow_up_labels(mapping.follow_up, images, patients, events), strict=True):
            row[FOLLOW_UP] = label
    return rows, [*ages.notes(), *cut.notes()]


def _facts(mapping: Mapping, record: Record, salt: str, faults: _Faults, exam_alone: bool) -> Row:
    """Return the row of an image without age, labels and findings."""
    context, columns = record.contexts[0], mapping.columns

    def text(name: str) -> str:
        return columns[name].text(context) if name in columns else ""

    def word(name: str, usual: Callable[[str], str]) -> str | None:
        return _word(record, columns.get(name), usual, faults)

    patient, exam = text("patient"), text("exam")
    if names_nobody(patient):
        faults.add(record, columns["patient"], "must name the patient in every row, also below merged cells", "")
    laterality = word("laterality", _side)
    if laterality not in (None, "", "L", "R"):
        faults.add(record, columns["laterality"], "must be left or right", laterality)
    view = word("view", _view)
    if view is not None and mapping.is_private and view_word(view) is None:  # a public table cannot be corrected
        faults.add(record, columns["view"], "must be a view such as CC or MLO", view)
    split = word("split", _split)
    if split not in (None, *SPLITS):
        faults.add(record, columns["split"], f"must lead to one of {', '.join(SPLITS)}", split)
    header = _header_of(context)
    return {
        "image_id": salted_hash(text("image_id") or record.name, salt),
        "path": record.path,
        "patient": salted_hash(patient, salt),
        "exam": None if names_nobody(exam) else salted_hash(exam if exam_alone else f"{patient} {exam}", salt),
        "laterality": laterality or header["laterality"],
        "view": view or header["view"],
        "vendor": word("vendor", lambda word: Vendor.from_dicom(word).value or word.lower()),
        "stratum": word("stratum", str),
        "source": mapping.name,
        "split": split,
    }


def _header_of(context: Mapped[str, str]) -> dict[str, str | None]:
    """Return side and view of an image as its header has them, if a row names several files and says neither."""
    known: dict[str, str | None] = {"laterality": None, "view": None}
    path = context.get(FILE_OF_MANY)
    facts = Contents().facts(path) if path and not has_picture_suffix(path) else None
    if facts is not None:
        known["view"] = facts.view.value or None
        known["laterality"] = facts.laterality.value if facts.laterality.value in ("L", "R") else None
    return known


@lru_cache
def _side(word: str) -> str:
    """Return L or R; empty for both breasts on one image and for what is not known; any other word is to be refused."""
    side = our_word("laterality", word) or word
    return "" if side == Laterality.BOTH.value or is_unknown(side) else side


@lru_cache
def _view(word: str) -> str:
    return view_word(word) or ("" if is_unknown(word) else word.upper())


def _split(word: str) -> str:
    return our_word("split", word) or word.lower()


def _word(record: Record, field: Field | None, usual: Callable[[str], str], faults: _Faults) -> str | None:
    """Return a single value in our terms: translated if the field has a table of values, else by the usual rule."""
    words = [] if field is None else field.words(record.contexts[0])
    if field is None or not words:
        return None
    if not field.values:
        return usual(words[0]) or None
    if words[0] not in field.values:
        faults.add(record, field, f"must be one of {', '.join(field.values)}", words[0])
    return field.values.get(words[0])


class _Ages:
    """Ages of the patients in each exam, which must agree, and how many of them are no ages."""

    def __init__(self, mapping: Mapping) -> None:
        self._mapping = mapping
        self._seen: dict[tuple[str, str], tuple[str, str]] = {}
        self._unread = 0

    def band(self, row: Row, record: Record, faults: _Faults) -> str | None:
        """Return the band of an image's age.

        Raises:
            DataError: The patient has another age in the same exam.
        """
        field = self._mapping.columns.get("age")
        age = "" if field is None else field.text(record.contexts[0])
        if field is None or is_unknown(age):
            return None
        if is_date(age):
            rule = "holds dates: a birthday identifies a person and is not read; give the age in years"
            faults.add(record, field, rule, "")
            return None
        exam = self._mapping.columns["exam"].text(record.contexts[0]) if "exam" in self._mapping.columns else ""
        before, place = self._seen.setdefault((row["patient"], exam), (age, record.place))
        if len({age_years(before), age_years(age)} - {None}) > 1:
            raise DataError(
                f"gives the patient another age than {place}",
                source=record.place,
                remedy="correct the table, or name the examinations in columns.exam",
            )
        band = age_band(age)
        self._unread += band is None
        return band

    def notes(self) -> list[Note]:
        """Return the note about values that are no ages."""
        return [Note("ages_unread", count=self._unread)] if self._unread else []


def _label(mapping: Mapping, records: Sequence[Record], name: str, faults: _Faults) -> str | None:
    """Return the most severe label within a row and its joined rows; rows of one image must agree.

    In a table of lesions the most severe label of all rows counts.
    """
    field, labels = mapping.labels[name], mapping.tasks[name]
    known: list[tuple[str, str]] = []
    for record in records:
        words = []
        for word in itertools.chain.from_iterable(field.words(context) for context in record.contexts):
            label = field.values.get(word) if field.values else word.lower()
            if label not in labels:
                faults.add(record, field, f"must be one of {', '.join(field.values or labels)}", word)
            else:
                words.append(label)
        worst = most_severe(words, labels)
        if worst is not None:
            known.append((worst, record.place))
    if mapping.rows == "lesion":
        return most_severe([label for label, _ in known], labels)
    for label, place in known[1:]:
        if label != known[0][0]:
            raise DataError(
                f"gives the same image another {name} than {known[0][1]}",
                source=place,
                remedy='keep one row per image, or say rows = "lesion" in a mapping if each row is a lesion',
            )
    return known[0][0] if known else None


def _complete_splits(rows: Iterable[Row]) -> None:
    """Complete the splits: an image without a stated one gets that of its patient's other images, or "train"."""
    stated = {row["patient"]: row["split"] for row in rows if row["split"]}
    for row in rows:
        row["split"] = row["split"] or stated.get(row["patient"], "train")


def _spread_over_breasts(rows: list[Row], task: str, labels: Sequence[str]) -> None:
    """Give every view of a breast the most severe label that any of them has."""
    breasts: dict[tuple[str, ...], list[Row]] = {}
    for row in rows:
        breasts.setdefault((row["patient"], row["exam"], row["laterality"]), []).append(row)
    for breast in breasts.values():
        label = most_severe([row[task] for row in breast], labels)
        for row in breast:
            row[task] = label


def _named(field: Field) -> str:
    return ", ".join(f"'{name}'" for name in field.columns()) or f"'{field.template}'"


def _wrong(record: Record, field: Field, rule: str) -> DataError:
    """Return the error for a value that breaks a rule; the value itself is not shown, as it may identify a person."""
    return DataError(
        f"column {_named(field)} {rule}",
        source=record.place,
        remedy="correct the table, or the mapping's values and unknown",
    )


# Findings: boxes, circles, masks and drawn shapes.

_CORNERS = 64  # of the polygon that replaces an ellipse: its area is 0.2 % too small


class _Clipped:
    """Boxes that leave their image: cut at its edge, and counted."""

    def __init__(self) -> None:
        self._count = 0

    def box(self, box: Sequence[float], size: Sequence[float] | None) -> tuple[float, ...] | None:
        """Return a box (top, left, bottom, right) within an image (rows, columns); ``None``: it is outside.

        If the size is not known, only the upper and the left edge are.
        """
        rows, columns = size or (math.inf, math.inf)
        top, left, bottom, right = box
        inside = (max(top, 0.0), max(left, 0.0), min(bottom, rows), min(right, columns))
        self._count += tuple(box) != inside
        return inside if inside[0] < inside[2] and inside[1] < inside[3] else None

    def notes(self) -> list[Note]:
        """Return the note about the boxes that were cut."""
        return [Note("boxes_cut", count=self._count)] if self._count else []


def _findings(
    mapping: Mapping, records: Sequence[Record], root: Path, rejected: list[Rejected], cut: _Clipped
) -> list[Finding]:
    found: list[Finding] = []
    if not mapping.findings:
        return found
    for record in records:
        for context in record.contexts:
            for entry in _findings_of(mapping.findings, record, context, root, rejected, cut):
                if entry not in found:
                    found.append(entry)
    return found


def _findings_of(
    fields: Mapped[str, Any],
    record: Record,
    context: Mapped[str, str],
    root: Path,
    rejected: list[Rejected],
    cut: _Clipped,
) -> list[Finding]:
    kind = _first_of(FINDING_KINDS, record, fields.get("kind"), context)
    pathology = _first_of(PATHOLOGIES[::-1], record, fields.get("pathology"), context)
    box = _box(record, fields, context, cut)
    circle = _numbers(record, fields.get("circle"), context)
    mask = fields["mask_path"].text(context) if "mask_path" in fields else ""
    shapes = fields["shapes"].text(context) if "shapes" in fields else ""
    boxes = _boxes(record, fields.get("boxes"), context)
    if boxes:
        return [finding(kind, pathology, box=one) for one in boxes]
    if shapes:
        return [finding(kind, pathology, **shape) for shape in _via_shapes(shapes, record, fields["shapes"])]
    path = _mask(mask, record, root, rejected) if mask else None
    if kind is None and box is None and circle is None and path is None:
        return []
    return [finding(kind, pathology, box=box, circle=circle, mask_path=path)]


def _first_of(order: Sequence[str], record: Record, field: Field | None, context: Mapped[str, str]) -> str | None:
    if field is None:
        return None
    translated = [field.values.get(word) if field.values else word.lower() for word in field.words(context)]
    if not set(translated) <= set(order):
        raise _wrong(record, field, f"must lead to one of {', '.join(order)}")
    return next((word for word in order if word in translated), None)


def _box(
    record: Record, fields: Mapped[str, Any], context: Mapped[str, str], cut: _Clipped
) -> tuple[float, ...] | None:
    """Return the box of a row, (top, left, bottom, right), from its corners or from x, y, width and height."""
    box = _numbers(record, fields.get("box"), context)
    if box is None:
        size = _numbers(record, fields.get("box_size"), context)
        if size is None or min(size[2:]) <= 0:  # an empty box is how some tables say none
            return None
        left, top, width, height = size
        box = [top, left, top + height, left + width]
    elif box[0] > box[2] or box[1] > box[3]:
        raise _wrong(record, fields["box"][2], "must be greater than the first corner")
    return cut.box(box, _numbers(record, fields.get("image_size"), context))


def _numbers(record: Record, fields: tuple[Field, ...] | None, context: Mapped[str, str]) -> list[float] | None:
    if fields is None or not all(field.words(context) for field in fields):
        return None
    numbers = []
    for field in fields:
        try:
            numbers.append(float(field.text(context).replace(",", ".")))
        except ValueError:
            numbers.append(math.nan)
        if not math.isfinite(numbers[-1]):
            raise _wrong(record, field, "must be a number of pixels")
    return numbers


def _boxes(record: Record, field: Field | None, context: Mapped[str, str]) -> list[tuple[float, ...]]:
    """Read boxes in one cell: a list or tuple of (top, left, bottom, right), as Python writes it."""
    if field is None or not field.words(context):
        return []
    try:
        given = ast.literal_eval(field.text(context))
        boxes = [tuple(float(value) for value in box) for box in given]
    except (ValueError, TypeError, SyntaxError):
        boxes = [()]
    if not all(len(box) == 4 and all(map(math.isfinite, box)) for box in boxes):
        raise _wrong(record, field, "must be a list of (top, left, bottom, right) in pixels")
    return boxes


def _via_shapes(text: str, record: Record, field: Field) -> list[dict[str, Any]]:
    """Read shapes as the VGG Image Annotator writes them: one JSON object or a list, x to the right, y down."""
    try:
        given = json.loads(text)
        return [found for shape in (given if isinstance(given, list) else [given]) for found in _via_shape(shape)]
    except (ValueError, KeyError, TypeError):
        raise _wrong(record, field, "must be shapes of the VGG Image Annotator in JSON") from None


def _via_shape(shape: dict[str, Any]) -> list[dict[str, Any]]:
    kind = shape.get("name")
    if kind in ("polygon", "polyline"):
        corners = list(zip(shape["all_points_y"], shape["all_points_x"], strict=True))
        return [{"polygon": corners}] if len(corners) >= 3 else []
    if kind == "circle":
        return [{"circle": (shape["cy"], shape["cx"], shape["r"])}] if shape["r"] > 0 else []
    if kind == "ellipse":
        return [{"polygon": _ellipse(shape)}]
    if kind == "rect":
        top, left = shape["y"], shape["x"]
        return [{"box": (top, left, top + shape["height"], left + shape["width"])}]
    return []  # a point or nothing: it cannot be drawn


def _ellipse(shape: dict[str, Any]) -> list[tuple[float, float]]:
    turn = float(shape.get("theta", 0))  # radians, clockwise as y points down
    corners = []
    for step in range(_CORNERS):
        x = shape["rx"] * math.cos(2 * math.pi * step / _CORNERS)
        y = shape["ry"] * math.sin(2 * math.pi * step / _CORNERS)
        column = shape["cx"] + x * math.cos(turn) - y * math.sin(turn)
        corners.append((shape["cy"] + x * math.sin(turn) + y * math.cos(turn), column))
    return corners


def _mask(wanted: str, record: Record, root: Path, rejected: list[Rejected]) -> str | None:
    path = os.path.normpath(root / wanted)
    if not os.path.isfile(path):
        rejected.append(Rejected(record.place, f"there is no mask {wanted}", "missing"))
    elif _size(path) != _size(record.path):
        rejected.append(Rejected(path, "is a mask of another size than its image", "damaged"))
    else:
        return path
    return None


def _size(path: str) -> tuple[int, int] | None:
    try:
        return picture_size(path) if is_picture(path) else read_shape(path)[0]
    except DataError:
        return None


# ``cancer_within_years``: in which year after the examination cancer was found, from a table's years or its dates.
#
# An image without cancer is ``none`` only if the patient is known to be without it for five years. If the tables end
# earlier the image is censored: its label is not known. The same holds for an image taken after a cancer was found.

_HORIZON = len(COMMON[FOLLOW_UP]) - 1  # years
_LONGEST = 50  # years; a longer time is a code for something else


def follow_up_labels(
    follow_up: Mapped[str, Any],
    images: Sequence[list[Record]],
    patients: Sequence[str],
    events: Sequence[Record] = (),
) -> list[str | None]:
    """Return the label of each image.

    Args:
        follow_up: Fields of years or dates by the keys of the mapping.
        images: All records of each image.
        patients: Patient of each image, as the tables name them.
        events: All rows of the table of events, if the follow-up has one; without it the dates of all images of a
            patient count together.

    Raises:
        DataError: A value is not a number of years, or not a date; names row and column.
    """
    if "exam_date" not in follow_up:
        return [_by_years(follow_up, records) for records in images]
    dated = [(patient, record) for records, patient in zip(images, patients, strict=True) for record in records]
    if "patient" in follow_up:
        dated = [(follow_up["patient"].text(record.contexts[0]), record) for record in events]
    known: dict[str, tuple[list[datetime.date], list[datetime.date]]] = {patient: ([], []) for patient in patients}
    for patient, record in dated:
        if patient in known:
            cancers, seen = known[patient]
            cancers += _dates(follow_up, "cancer_date", record)
            seen += _dates(follow_up, "seen_date", record)
    return [_by_dates(follow_up, records, *known[patient]) for records, patient in zip(images, patients, strict=True)]


def label_of(years_to_cancer: float | None, years_followed: float | None) -> str | None:
    """Return the label of an image.

    Args:
        years_to_cancer: Years from the examination to the first cancer, below 0 if that came first; ``None``: no
            cancer.
        years_followed: Years from the examination to the last day that the tables know of.

    Returns:
        "1" to "5": found in that year (in the first: after less than one year); "none": none within five years;
        ``None``: not known.
    """
    if years_to_cancer is not None and years_to_cancer < _HORIZON:
        return str(math.floor(years_to_cancer) + 1) if years_to_cancer >= 0 else None
    # a cancer that is found later shows that there was none before
    known = years_followed if years_to_cancer is None else years_to_cancer
    return "none" if known is not None and known >= _HORIZON else None


def _by_years(follow_up: Mapped[str, Any], records: Sequence[Record]) -> str | None:
    cancers, followed = (
        [
            years
            for record in records
            for context in record.contexts
            for years in _years(follow_up[key], record, context)
        ]
        for key in ("years_to_cancer", "years_followed")
    )
    return label_of(min(cancers, default=None), max(followed, default=None))


def _years(field: Field, record: Record, context: Mapped[str, str]) -> list[float]:
    if not field.words(context):
        return []
    try:
        years = float(field.text(context).replace(",", "."))
    except ValueError:
        raise _wrong(record, field, "must be a number of years") from None
    if not abs(years) <= _LONGEST:
        raise _wrong(record, field, f'says more than {_LONGEST} years (a code for none belongs into "unknown")')
    return [years]


def _by_dates(
    follow_up: Mapped[str, Any], records: Sequence[Record], cancers: list[datetime.date], seen: list[datetime.date]
) -> str | None:
    exam = min((day for record in records for day in _dates(follow_up, "exam_date", record)), default=None)
    if exam is None:
        return None
    first = min((_whole_years(exam, day) for day in cancers), default=None)
    return label_of(first, max((_whole_years(exam, day) for day in seen), default=None))


def _whole_years(start: datetime.date, end: datetime.date) -> int:
    """Count the years to the last anniversary: five yearly examinations later are five years, despite leap days."""
    return end.year - start.year - ((end.month, end.day) < (start.month, start.day))


def _dates(follow_up: Mapped[str, Any], key: str, record: Record) -> list[datetime.date]:
    field, form = follow_up[key], follow_up.get("date_format")
    texts = {field.text(context) for context in record.contexts if field.words(context)}
    try:
        if form is not None:
            return [datetime.datetime.strptime(text, form).date() for text in texts]
        return [datetime.date.fromisoformat(text[:10]) for text in texts]  # a time of day may follow
    except ValueError:
        form = form or "YYYY-MM-DD, or date_format must say how it is written"
        raise _wrong(record, field, f"must be a date as {form}") from None
