"""Overrides: exam, side and view of files whose header has them wrong or that have none, and files to skip, as a table.

    path,exam,laterality,view,skip
    exam1/0003.dcm,,L,,
    exam1/0004.dcm,,R,MLO,
    films/17.png,17,L,CC,
    phantoms,,,,yes

An empty cell leaves the header's value. Names of columns, words and paths are taken as in a table of labels, in five
languages; a path is relative to the table or to the images' folder, and a folder names all images below it.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from ..dicom import Laterality, View
from ..errors import DataError, UsageError, did_you_mean
from ..notes import Note
from .datasets.synonyms import is_unknown, our_word, plain, synonyms
from .datasets.tables import read_table, row_number
from .privacy import PRIVATE, private_salt, salted_hash

if TYPE_CHECKING:
    from .collection import Collection
    from .datasets.contents import Files

COLUMNS = ("path", "exam", "laterality", "view", "skip")
_WORDS = COLUMNS[2:]  # those whose cells are words that are known
_ABOVE = 3  # folders above those of the images in which paths are looked for
SKIPPED = "is skipped, as the overrides file asks"


class Override(NamedTuple):
    """One row of an overrides file.

    Attributes:
        laterality: "L" or "R" in place of the header's; "": the header's holds.
        view: View, such as "MLO", in place of the header's; "": the header's holds.
        skip: Whether the file is left out.
        exam: Name of its exam in place of the StudyInstanceUID; "": the header's holds.
    """

    laterality: str = ""
    view: str = ""
    skip: bool = False
    exam: str = ""


Overrides = Mapping[str, Override]  # by the real path of the file
NOTHING = Override()


def read_overrides(table: str | os.PathLike[str] | None, folders: Iterable[str | os.PathLike[str]] = ()) -> Overrides:
    """Read an overrides file.

    Args:
        table: Table with the columns path, exam, laterality, view and skip, path and one more at least; ``None``: no
            overrides.
        folders: Folders of the images, which paths may be relative to.

    Raises:
        UsageError: The table does not exist.
        DataError: A column or word is not known, a path names no file, or two rows contradict each other; names row
            and column.
    """
    if table is None:
        return {}
    from .datasets.contents import Files  # brings `datasets`, which reading files alone does not need

    path = Path(table)
    if not path.is_file():
        raise UsageError("no such file", source=path, remedy=f"overrides are a table with {', '.join(COLUMNS)}")
    rows = read_table(path)
    columns = _columns(rows[0], path) if rows else {}
    places = [Path(folder).absolute() for folder in folders]
    # one table serves a whole archive, of which a part may be read
    above = [parent for place in places for parent in place.parents[:_ABOVE]]
    files = Files([path.parent, Path(), *above, *places], [], is_own=True)
    found: dict[str, Override] = {}
    unmatched: list[tuple[int, str]] = []
    for position, row in enumerate(rows, start=1):
        number = row_number(row, position)
        cells = {name: row[columns[name]] if name in columns else "" for name in COLUMNS}
        override = _override(cells, path, number)
        named = _files(files, cells["path"], path, number)
        unmatched += [] if named else [(number, cells["path"])]
        for file in map(os.path.realpath, named):
            if found.setdefault(file, override) != override:
                problem = f"says something else of {cells['path']!r} than an earlier row"
                raise DataError(problem, source=_place(path, number, "path"), remedy="leave one of them out")
    if unmatched:
        _refuse_unmatched(unmatched, len(rows), path, [path.parent, *places])
    return found


def override_of(overrides: Overrides, file: str | os.PathLike[str]) -> Override:
    """Return what the overrides say of a file."""
    return overrides.get(os.path.realpath(file), NOTHING) if overrides else NOTHING


def with_overrides(collection: Collection, table: str | os.PathLike[str]) -> Collection:
    """Return a collection with the exams, sides and views of an overrides file, without the files that it skips.

    Rows whose side or view changes have the names of these facts in a further column ``overridden``, so that their
    images are read with them.

    Raises:
        MammoError: In the cases of `read_overrides`.
    """
    from .collection import Rejected

    folders = {os.path.dirname(os.path.abspath(path)) for path in collection.column("path")}
    common = os.path.commonpath(folders) if folders else "."
    overrides = read_overrides(table, [collection.root or common, common])
    rows = [override_of(overrides, path) for path in collection.column("path")]
    names = ("laterality", "view", *(["exam"] if any(one.exam for one in rows) else []))
    columns: dict[str, list[str | None]] = {name: collection.column(name) for name in names}
    hashed = partial(salted_hash, salt=private_salt() if collection.salt_name == PRIVATE else collection.salt_name)
    stated = [one._replace(exam=hashed(one.exam)) if one.exam else one for one in rows]
    columns["overridden"] = [_changed(override) or None for override in rows]
    for name in names:
        columns[name] = [getattr(one, name) or given for one, given in zip(stated, columns[name], strict=True)]
    result = collection.with_columns(**columns)
    # Leave out what is skipped, whatever else was wrong with it
    skipped = [path for path, one in zip(collection.column("path"), rows, strict=True) if one.skip]
    others = [one.source for one in collection.rejected if override_of(overrides, one.source).skip]
    if skipped:
        result = result.where(lambda row: row["path"] not in set(skipped))
    result.rejected = [one for one in collection.rejected if one.source not in others]
    result.rejected += [Rejected(path, SKIPPED, "skipped") for path in dict.fromkeys(skipped + others)]
    changed = sum(one != NOTHING for one in rows if not one.skip)
    return result.with_notes(Note("images_overridden", count=changed)) if changed else result


def _changed(override: Override) -> str:
    return " ".join(name for name in ("laterality", "view") if getattr(override, name) and not override.skip)


def _columns(row: Mapping[str, str], table: Path) -> dict[str, str]:
    """Return the table's name of each of `COLUMNS` that it has."""
    columns: dict[str, str] = {}
    for name in row:
        ours = "skip" if plain(name) == "skip" else synonyms()["columns"].get(plain(name), "")
        if ours not in COLUMNS:
            remedy = f"{did_you_mean(name.lower(), COLUMNS)}use {', '.join(COLUMNS)}"
            raise DataError(f"has a column '{name}', which is none of an overrides file", source=table, remedy=remedy)
        if columns.setdefault(ours, name) != name:
            problem = f"has two columns of the {ours}: '{columns[ours]}' and '{name}'"
            raise DataError(problem, source=table, remedy="leave one of them out")
    if "path" not in columns or len(columns) == 1:
        problem = "has no column path" if "path" not in columns else "says nothing of the files that it names"
        raise DataError(problem, source=table, remedy=f"use {', '.join(COLUMNS)}")
    return columns


def _override(cells: Mapping[str, str], table: Path, number: int) -> Override:
    exam, side, view, skip = ("" if is_unknown(cells[name]) else cells[name] for name in COLUMNS[1:])
    known = {
        "laterality": our_word("laterality", side) or "",
        "view": our_word("view", view) or "",
        "skip": our_word("cancer", skip) or "",  # the words for yes and no
    }
    words = {"laterality": "L or R", "view": ", ".join(one.value for one in View if one.value), "skip": "yes or no"}
    for name, word in zip(_WORDS, (side, view, skip), strict=True):
        if word and (not known[name] or known[name] == Laterality.BOTH.value):
            raise DataError(f"{word!r} is not known", source=_place(table, number, name), remedy=f"use {words[name]}")
    return Override(known["laterality"], known["view"], known["skip"] == "yes", exam)


def _files(files: Files, wanted: str, table: Path, number: int) -> list[str]:
    try:
        return files.find(wanted)
    except DataError as error:
        raise DataError(error.problem, source=_place(table, number, "path"), remedy=error.remedy) from error


def _refuse_unmatched(unmatched: list[tuple[int, str]], total: int, table: Path, folders: list[Path]) -> None:
    number, wanted = unmatched[0]
    near = ""
    for folder in folders:
        place = (folder / wanted.replace("\\", "/")).parent
        near = near or (did_you_mean(Path(wanted).name, os.listdir(place)) if place.is_dir() else "")
    problem = f"there is no file {wanted!r} ({len(unmatched)} of {total} rows name none)"
    remedy = f"{near}give paths relative to this table or to the images' folder"
    raise DataError(problem, source=_place(table, number, "path"), remedy=remedy)


def _place(table: Path, number: int, column: str) -> str:
    return f"{table}, row {number}, column '{column}'"
