"""A collection that a mapping describes: its own tables read, joined, and each image's rows brought together."""

from __future__ import annotations

import ast
import fnmatch
import itertools
import json
import math
import os
from collections.abc import Iterable, Iterator, Sequence
from collections.abc import Mapping as Mapped
from pathlib import Path
from typing import Any

from PIL import Image

from ...dicom import Laterality, Vendor, View
from ...errors import DataError
from ...files import walk
from ..collection import Collection, Rejected, gravest
from ..findings import FINDING_KINDS, PATHOLOGIES, Finding, finding
from ..privacy import private_salt, salted_hash
from ..schema import SPLITS, Row, age_band, task_list
from .contents import Contents, find_tables, missing_files, read_columns, read_shape, read_table
from .mapping import TASK as FOLLOW_UP
from .mapping import Field, ImageRows, Join, Mapping, Record, follow_up_labels, read_mapping, wrong

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

    def load(self, root: Path, max_missing: float = 0.5) -> Collection:
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
        return Collection.from_rows(
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
            for path in walk(self._root, lambda *why: self._rejected.append(Rejected(*why)), lambda entry: True):
                self._names.setdefault(os.path.basename(path), []).append(path)
        return self._names


def _header_records(root: Path, rejected: list[Rejected]) -> Iterator[Record]:
    """The files themselves as a table: what each header says, under the names that a mapping may use."""
    contents = Contents()
    for path in walk(root, lambda *why: rejected.append(Rejected(*why))):
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


# From what a collection's tables say of an image to its row: facts, labels, findings, and where they contradict.


_CORNERS = 64  # of the polygon that stands for an ellipse: its area is 0.2 % too small


def table_rows(
    mapping: Mapping,
    images: Sequence[ImageRows],
    root: Path,
    rejected: list[Rejected],
    events: Sequence[Record] = (),
) -> tuple[list[Row], list[str]]:
    """The rows of all images, and notes; `events` are the rows of the follow-up's own table.

    Raises:
        DataError: A value that the mapping does not know, or rows that contradict each other.
    """
    salt = private_salt() if mapping.is_private else mapping.name
    rows: list[Row] = []
    ages: dict[tuple[str, str | None], tuple[str, str]] = {}
    for image in images:
        first = image.records[0]
        row, exam, age = _facts(mapping, first, salt)
        key = (row["patient"], exam)
        if age and ages.setdefault(key, (age, first.place))[0] != age:
            raise DataError(
                f"gives the patient another age than {ages[key][1]}",
                source=first.place,
                remedy="correct the table, or name the examinations in columns.exam",
            )
        for name in mapping.labels:
            row[name] = _label(mapping, image, name, mapping.tasks[name])
        row["findings"] = _findings(mapping, image, root, rejected)
        rows.append(row)
    _spread_over_breasts(rows, mapping)
    if mapping.follow_up is not None:
        patients = [mapping.columns["patient"].text(image.records[0].contexts[0]) for image in images]
        for row, label in zip(rows, follow_up_labels(mapping.follow_up, images, patients, events), strict=True):
            row[FOLLOW_UP] = label
    notes = []
    unlabelled = sum(all(row[name] is None for name in mapping.tasks) for row in rows)
    if mapping.tasks and unlabelled:
        notes.append(f"{unlabelled} of {len(rows)} images have no label")
    return rows, notes


def _facts(mapping: Mapping, record: Record, salt: str) -> tuple[Row, str | None, str | None]:
    """The row without labels and findings, the exam's and the age's text."""
    context = record.contexts[0]
    columns = mapping.columns

    def text(name: str) -> str:
        return columns[name].text(context) if name in columns else ""

    patient = text("patient")
    if not patient:
        raise wrong(record, columns["patient"], "must name the patient")
    exam = text("exam") or None
    sides = _word(record, columns.get("laterality"), context, _side)
    if sides not in (None, "", "L", "R"):
        raise wrong(record, columns["laterality"], "must be left or right")
    split = _word(record, columns.get("split"), context, str.lower) or "train"
    if split not in SPLITS:
        raise wrong(record, columns["split"], f"must lead to one of {', '.join(SPLITS)}")
    vendor = _word(record, columns.get("vendor"), context, lambda word: Vendor.from_dicom(word).value or word.lower())
    age = text("age") or None
    row = {
        "image_id": salted_hash(text("image_id") or record.name, salt),
        "path": record.path,
        "patient": salted_hash(patient, salt),
        "exam": None if exam is None else salted_hash(f"{patient} {exam}", salt),
        "laterality": sides or None,
        "view": _word(record, columns.get("view"), context, lambda word: View.from_dicom(word).value or word.upper()),
        "age_band": age_band(age),
        "vendor": vendor,
        "source": mapping.name,
        "split": split,
    }
    return row, exam, age


def _side(word: str) -> str:
    """L or R; empty for both breasts on one image; any other word as it is, to be refused."""
    side = Laterality.from_dicom(word)
    return {Laterality.BOTH: "", Laterality.UNKNOWN: word}.get(side, side.value)


def _word(record: Record, field: Field | None, context: Mapped[str, str], usual: Any) -> str | None:
    """A single value in our words: translated where the field has a table of words, else by the usual rule."""
    words = [] if field is None else field.words(context)
    if field is None or not words:
        return None
    if not field.values:
        return usual(words[0]) or None
    if words[0] not in field.values:
        raise wrong(record, field, f"must be one of {', '.join(field.values)}")
    return field.values[words[0]]


def _label(mapping: Mapping, image: ImageRows, name: str, labels: Sequence[str]) -> str | None:
    """The gravest label within a row and what is joined to it; rows of one image must agree."""
    field = mapping.labels[name]
    said: list[tuple[str | None, Record]] = []
    for record in image.records:
        words = []
        for context in record.contexts:
            for word in field.words(context):
                label = field.values.get(word) if field.values else word.lower()
                if label not in labels:
                    raise wrong(record, field, f"must be one of {', '.join(field.values or labels)}")
                words.append(label)
        said.append((gravest(words, labels), record))
    known = [entry for entry in said if entry[0] is not None]
    for label, record in known[1:]:
        if label != known[0][0]:
            raise DataError(
                f"gives the same image another {name} than {known[0][1].place}",
                source=record.place,
                remedy="keep one row an image, or put what differs into a joined table",
            )
    return known[0][0] if known else None


def _findings(mapping: Mapping, image: ImageRows, root: Path, rejected: list[Rejected]) -> list[Finding]:
    found: list[Finding] = []
    if not mapping.findings:
        return found
    for record in image.records:
        for context in record.contexts:
            for entry in _findings_of(mapping, record, context, root, rejected):
                if entry not in found:
                    found.append(entry)
    return found


def _findings_of(
    mapping: Mapping, record: Record, context: Mapped[str, str], root: Path, rejected: list[Rejected]
) -> list[Finding]:
    fields = mapping.findings
    kind = _first_of(FINDING_KINDS, record, fields.get("kind"), context)
    pathology = _first_of(PATHOLOGIES[::-1], record, fields.get("pathology"), context)
    box = _numbers(record, fields.get("box"), context)
    circle = _numbers(record, fields.get("circle"), context)
    mask = fields["mask_path"].text(context) if "mask_path" in fields else ""
    shapes = fields["shapes"].text(context) if "shapes" in fields else ""
    boxes = _boxes(record, fields.get("boxes"), context)
    if boxes:
        return [finding(kind, pathology, box=place) for place in boxes]
    if shapes:
        return [finding(kind, pathology, **place) for place in _via_shapes(shapes, record, fields["shapes"])]
    path = _mask(mask, record, root, rejected) if mask else None
    if kind is None and box is None and circle is None and path is None:
        return []
    return [finding(kind, pathology, box=box, circle=circle, mask_path=path)]


def _first_of(order: Sequence[str], record: Record, field: Field | None, context: Mapped[str, str]) -> str | None:
    words = [] if field is None else field.words(context)
    translated = [field.values.get(word) if field and field.values else word.lower() for word in words]
    if field is not None and not set(translated) <= set(order):
        raise wrong(record, field, f"must lead to one of {', '.join(order)}")
    return next((word for word in order if word in translated), None)


def _numbers(record: Record, fields: tuple[Field, ...] | None, context: Mapped[str, str]) -> list[float] | None:
    if fields is None or not all(field.words(context) for field in fields):
        return None
    numbers = []
    for field in fields:
        try:
            numbers.append(float(field.text(context)))
        except ValueError:
            raise wrong(record, field, "must be a number of pixels") from None
        if not math.isfinite(numbers[-1]):
            raise wrong(record, field, "must be a number of pixels")
    return numbers


def _boxes(record: Record, field: Field | None, context: Mapped[str, str]) -> list[tuple[float, ...]]:
    """Boxes in one cell, as a list or tuple of (top, left, bottom, right), in text as Python writes it."""
    if field is None or not field.words(context):
        return []
    try:
        given = ast.literal_eval(field.text(context))
        places = [tuple(float(value) for value in place) for place in given]
    except (ValueError, TypeError, SyntaxError):
        places = [()]
    if not all(len(place) == 4 and all(map(math.isfinite, place)) for place in places):
        raise wrong(record, field, "must be a list of (top, left, bottom, right) in pixels")
    return places


def _via_shapes(text: str, record: Record, field: Field) -> list[dict[str, Any]]:
    """Shapes as the VGG Image Annotator writes them: one JSON object or a list of them, x to the right, y down."""
    try:
        given = json.loads(text)
        return [place for shape in (given if isinstance(given, list) else [given]) for place in _via_shape(shape)]
    except (ValueError, KeyError, TypeError):
        raise wrong(record, field, "must be shapes of the VGG Image Annotator in JSON") from None


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
    return []  # a point or nothing: no place that can be drawn


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
        rejected.append(Rejected(record.place, f"there is no mask {wanted}"))
    elif _size(path) != _size(record.path):
        rejected.append(Rejected(path, "is a mask of another size than its image"))
    else:
        return path
    return None


def _size(path: str) -> tuple[int, int] | None:
    try:
        with Image.open(path) as picture:
            return picture.height, picture.width
    except OSError:
        pass
    try:
        return read_shape(path).size
    except DataError:
        return None


def _spread_over_breasts(rows: list[Row], mapping: Mapping) -> None:
    """Gives every view of a breast the gravest label that any of them has, for the tasks where the mapping says so."""
    for name in mapping.by_breast:
        breasts: dict[tuple[str, ...], list[Row]] = {}
        for row in rows:
            breasts.setdefault((row["patient"], row["exam"], row["laterality"]), []).append(row)
        for breast in breasts.values():
            label = gravest([row[name] for row in breast], mapping.tasks[name])
            for row in breast:
                row[name] = label
