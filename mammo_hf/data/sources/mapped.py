"""A collection that a mapping describes: its own tables read, joined, and each image's rows brought together."""

from __future__ import annotations

import fnmatch
import itertools
import os
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from ...errors import DataError
from ..schema import task_list
from ..table import MammoTable, Rejected
from .contents import Contents
from .delimited import read_columns, read_table
from .mapped_rows import table_rows
from .mapping import Field, Join, Mapping, read_mapping
from .table_records import ImageRows, Record
from .walking import find_tables, missing_files, walk

_HEADER_COLUMNS = (
    *("patient_id", "study_uid", "instance_uid", "series_description"),
    *("laterality", "view", "age", "vendor"),
)
MAPPINGS = Path(__file__).parent / "mappings"


class MappedSource:
    """A source made of a mapping; it has what a source's module has.

    Args:
        mapping: The mapping.
    """

    def __init__(self, mapping: Mapping) -> None:
        self.mapping = mapping
        self.NAME = mapping.name
        self.LICENCE = mapping.licence
        self.TASKS = dict(mapping.tasks)
        self.QUIRKS = mapping.quirks
        split = mapping.columns.get("split")
        self.OFFICIAL_SPLIT = f"by {split.template}" if split is not None and split.columns() else "none"
        joined = [join.table for join in mapping.joins if not join.optional]
        events = mapping.follow_up.table if mapping.follow_up is not None else None
        needed = list(dict.fromkeys(name for name in (mapping.table, *joined, events) if name))
        self._tables = needed
        self.LOOKS_FOR = f"{' and '.join(needed)}, in the folder or at most two folders below"

    @classmethod
    def from_toml(cls, path: str | Path) -> MappedSource:
        """The source of a mapping file; the value of an entry point in a package of your own.

        Raises:
            UsageError: There is no such file.
            DataError: It is no mapping.
        """
        return cls(read_mapping(path))

    def recognises(self, root: Path) -> bool:
        """Whether a folder holds the mapping's tables, with the columns that the mapping names."""
        found = find_tables(root, [name.lower() for name in self._tables])
        if len(found) < len(self._tables):
            return False
        if self.mapping.table is None:
            joins = [join for join in self.mapping.joins if not join.optional]
            return all(set(join.key.columns()) <= set(read_columns(found[join.table.lower()])) for join in joins)
        return _own_columns(self.mapping) <= set(read_columns(found[self.mapping.table.lower()]))

    def load(self, root: Path, max_missing: float = 0.5) -> MammoTable:
        """Reads the collection.

        Args:
            root: The folder that holds tables and images.
            max_missing: Share of the tables' files that may be missing.

        Returns:
            The table. Its `notes` count what was not found or left out, its `rejected` lists it.

        Raises:
            DataError: A table or column is not there, a value is wrong or contradicts another, or too many files are
                missing; names table, row and column.
        """
        root = Path(root)
        names = {*self._tables, *(join.table for join in self.mapping.joins)}
        found = find_tables(root, [name.lower() for name in names])
        absent = [name for name in self._tables if name.lower() not in found]
        if absent:
            raise DataError(f"has no table {absent[0]}", source=root, remedy=f"{self.NAME} needs {self.LOOKS_FOR}")
        rejected: list[Rejected] = []
        notes: list[str] = []
        if self.mapping.table is None:
            records = list(_header_records(root, rejected))
        else:
            path = found[self.mapping.table.lower()]
            records, notes = self._table_records(path, root, rejected, max_missing)
        _check_all_columns(self.mapping, found)
        for join in self.mapping.joins:
            if join.table.lower() in found:
                records, lonely = _joined(records, join, found[join.table.lower()], _named_columns(self.mapping))
                notes += lonely
        images: dict[str, ImageRows] = {}
        for record in records:
            images.setdefault(record.path, ImageRows(record.path, [])).records.append(record)
        rows, more = table_rows(self.mapping, list(images.values()), root, rejected, _events(self.mapping, found))
        if not rows:
            reason = f"; the first: {rejected[0].source}: {rejected[0].reason}" if rejected else ""
            raise DataError(f"holds no image that can be used{reason}", source=root, remedy=self.LOOKS_FOR)
        return MammoTable.from_rows(
            rows,
            tasks=task_list(self.mapping.tasks),
            salt_name="private" if self.mapping.is_private else self.NAME,
            notes=[*notes, *more],
            rejected=rejected,
        )

    def _table_records(
        self, table: Path, root: Path, rejected: list[Rejected], max_missing: float
    ) -> tuple[list[Record], list[str]]:
        mapping = self.mapping
        assert mapping.path is not None
        rows = read_table(table, _named_columns(mapping))
        _check_columns(table, rows, _own_columns(mapping))
        files = _Files([table.parent, root], root, rejected)
        records, missing, total = [], [], 0
        for number, row in enumerate(rows, start=1):
            if any(row.get(column) not in allowed for column, allowed in mapping.where.items()):
                continue
            total += 1
            place = f"{table}, row {number}"
            wanted = mapping.path.text(row).replace("\n", "")
            file = files.find(wanted)
            if file is None:
                missing.append(wanted)
                rejected.append(Rejected(place, f"there is no file {wanted}"))
                continue
            matched = mapping.pattern.search(os.path.basename(file)) if mapping.pattern is not None else None
            groups = {} if matched is None else {key: value or "" for key, value in matched.groupdict().items()}
            records.append(Record(file, wanted, place, [{**row, **groups}]))
        return records, missing_files(missing, total, max_missing, table)


def _own_columns(mapping: Mapping) -> set[str]:
    """The columns that the images' table itself must have: those of its paths, and all others if nothing is joined."""
    fields: list[Field] = [mapping.path] if mapping.path is not None else []
    groups = set(mapping.pattern.groupindex) if mapping.pattern is not None else set()
    own = {name for field in fields for name in field.columns()}
    others = set() if mapping.joins else _all_columns(mapping)
    return (own | others) - groups | set(mapping.where)


def _all_columns(mapping: Mapping) -> set[str]:
    """Every column that the mapping's templates name, but for keys and matches of joins."""
    fields = [*mapping.columns.values(), *mapping.labels.values()]
    for value in mapping.findings.values():
        fields += value if isinstance(value, tuple) else [value]
    follow_up = mapping.follow_up.columns() if mapping.follow_up is not None else set()
    return {name for field in fields for name in field.columns()}.union(follow_up)


def _named_columns(mapping: Mapping) -> set[str]:
    """Every column that the mapping names in any place: the others are not kept."""
    keys = [field for join in mapping.joins for field in (join.key, *join.match)]
    events = mapping.follow_up.event_columns() if mapping.follow_up is not None else set()
    return _own_columns(mapping) | _all_columns(mapping) | events | {name for key in keys for name in key.columns()}


def _check_all_columns(mapping: Mapping, found: dict[str, Path]) -> None:
    """Checks that each column stands in one of the tables: a name that none has would be null everywhere, unseen.

    Raises:
        DataError: One does not. While an optional table is not there, nobody can know.
    """
    if any(join.table.lower() not in found for join in mapping.joins):
        return
    known = set(_HEADER_COLUMNS) if mapping.table is None else set(read_columns(found[mapping.table.lower()]))
    known |= set(mapping.pattern.groupindex) if mapping.pattern is not None else set()
    for join in mapping.joins:
        known |= set(read_columns(found[join.table.lower()]))
    missing = sorted(_all_columns(mapping) - known)
    if missing:
        names = ", ".join(name for name in (mapping.table, *(join.table for join in mapping.joins)) if name)
        raise DataError(f"no table has a column '{missing[0]}'", source=names, remedy="correct mapping or table")


def _check_columns(table: Path, rows: list[dict[str, str]], needed: set[str]) -> None:
    if not rows:
        raise DataError("has no rows", source=table, remedy="give the whole table")
    missing = sorted(needed - rows[0].keys())
    if missing:
        raise DataError(
            f"has no column '{missing[0]}'", source=table, remedy=f"needs the columns {', '.join(sorted(needed))}"
        )


class _Files:
    """Finds the file that a row means: below one of the folders, or with ``**/`` in front anywhere below the root."""

    def __init__(self, folders: Iterable[Path], root: Path, rejected: list[Rejected]) -> None:
        self._folders = list(dict.fromkeys(folders))
        self._root = root
        self._rejected = rejected
        self._names: dict[str, list[str]] | None = None

    def find(self, wanted: str) -> str | None:
        """The file's path; ``None`` where there is none, or where a name with ``*`` fits several."""
        if wanted.startswith("**/"):
            names = self._all_names()
            pattern = wanted.removeprefix("**/")
            fitting = fnmatch.filter(names, pattern) if "*" in pattern else [pattern]
            paths = [path for name in fitting for path in names.get(name, ())]
            return paths[0] if len(paths) == 1 else None
        places = (folder / wanted for folder in self._folders if wanted)
        return next((os.path.normpath(place) for place in places if place.is_file()), None)

    def _all_names(self) -> dict[str, list[str]]:
        if self._names is None:
            self._names = {}
            for path in walk(self._root, self._rejected, lambda entry: True):
                self._names.setdefault(os.path.basename(path), []).append(path)
        return self._names


def _header_records(root: Path, rejected: list[Rejected]) -> Iterator[Record]:
    """The files themselves as a table: what each header says, under the names that a mapping may use."""
    contents = Contents()
    for path in walk(root, rejected):
        facts = contents.facts(path)
        if facts is None:
            rejected.append(Rejected(path, contents.problems[path]))
            continue
        row = {name: getattr(facts, name) for name in _HEADER_COLUMNS}
        row |= {"laterality": facts.laterality.value, "view": facts.view.value}
        yield Record(path, facts.instance_uid or os.path.relpath(path, root), os.path.relpath(path, root), [row])


def _events(mapping: Mapping, found: dict[str, Path]) -> list[Record]:
    """The rows of the follow-up's own table."""
    if mapping.follow_up is None or mapping.follow_up.table is None:
        return []
    path = found[mapping.follow_up.table.lower()]
    rows = read_table(path, _named_columns(mapping))
    _check_columns(path, rows, mapping.follow_up.event_columns())
    return [Record("", "", f"{path}, row {number}", [row]) for number, row in enumerate(rows, start=1)]


def _joined(records: list[Record], join: Join, table: Path, keep: set[str]) -> tuple[list[Record], list[str]]:
    """Each record with the columns of the rows of a second table that fit it."""
    rows = read_table(table, keep)
    _check_columns(table, rows, set(join.key.columns()))
    by_key: dict[str, list[dict[str, str]]] = {}
    for row in rows:
        by_key.setdefault(join.key.text(row), []).append(row)
    result: list[Record] = []
    used: set[str] = set()
    for record in records:
        contexts: list[dict[str, Any]] = []
        for context in record.contexts:
            keys = dict.fromkeys(field.text(context) for field in join.match)
            fitting = list(itertools.chain.from_iterable(by_key.get(key, []) for key in keys))
            used.update(key for key in keys if key in by_key)
            # what the images' own table says is not overwritten by a column of the same name
            contexts += [{**row, **context} for row in fitting] or [context]
        result.append(record._replace(contexts=contexts))
    lonely = len(by_key) - len(used)
    return result, [f"{lonely} of {len(by_key)} keys of {table.name} fit no image"] if lonely else []
