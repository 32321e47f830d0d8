"""load: the function through which every collection enters, whatever form it has."""

from __future__ import annotations

import dataclasses
import inspect
import os
from collections.abc import Iterable, Mapping
from pathlib import Path
from shlex import quote
from typing import Any

from datasets import Dataset

from ..errors import DataError, UsageError, check_number, did_you_mean
from ..files import MARKER
from ..isolation import isolating
from ..notes import Note
from ..plugins import plugin_errors
from . import READING
from .collection import Collection
from .datasets import folder as folder_source
from .datasets.contents import Files
from .datasets.csv_source import MappedSource
from .datasets.discovery import find_source, looked_for, source_names, sources_of
from .datasets.mapping import ACCEPT, Field, parse_mapping
from .datasets.mapping import COLUMNS as MAPPED_COLUMNS
from .datasets.own_table import draft, is_lesion, side_of
from .datasets.tables import SUFFIXES as TABLE_SUFFIXES
from .datasets.tables import cell_text, read_table
from .overrides import with_overrides
from .privacy import PRIVATE
from .schema import COLUMNS, OPTIONAL, TASKS, Row, task_list
from .terms import OWN_IMAGES, PHANTOMS, read_terms, terms_of_source, terms_of_text

HUB = "hub:"  # begins the name of a data set on the Hugging Face Hub
TABLE = "table"  # the name of a collection that was given as rows
HEADER = ("use_descriptions", "any_anatomy")  # how headers are read: settings of the image processor, too
_SHOWN = 10  # columns that a note names
OPTIONS = (*READING, *HEADER)  # of every source


@isolating()
def load(source: Any, root: str | Path | None = None, *, terms: str | None = None, **options: Any) -> Collection:
    """Read a collection, one row per image.

    Args:
        source: Folder of a collection, which is recognised by its files, or of any images, which are then unlabelled;
            a table with a row per image, "labels.csv" or "labels.xlsx", whose columns are known by their names; a
            source's name with its folder, "cbis-ddsm:data/cbis", or alone, with `root`; a mapping in the folder of its
            tables, "data/ours/ours.toml"; a folder or URL that ``mammo-hf prepare`` wrote; a data set on the Hugging
            Face Hub with either, "hub:owner/name" or "hub:owner/name@revision"; a list of image files; a pandas
            DataFrame or a `datasets.Dataset` with a row per image.
        root: Folder of the collection; for a table, a mapping or rows the folder of their images, if it is another. In
            one text it is after a colon, "labels.csv:data/films".
        terms: Terms of own images, such as "allowed: ethics vote 12/2024": whether weights that are trained on them may
            be published (allowed, allowed with attribution, ask, not allowed), a colon, and the clause that says so.
        **options: Options of the source. Every source takes ``max_missing``, the fraction of a table's files that may
            be missing; ``dicom_path``, a text file with one path per line of further unlabelled images; ``stratum``,
            the column whose values splits are balanced in; ``overrides``, a table of files whose header is wrong, see
            `mammo_hf.data.overrides`; ``accept``, checks of identities that need not pass
            (`mammo_hf.data.datasets.mapping.ACCEPT`), as far as it has tables; and of images that are in no table
            ``use_descriptions`` and ``any_anatomy``, as for `MammoImageProcessor`. Tables take ``mapping``: from a
            column of the schema (path, patient, exam, laterality, view, age, vendor, split) or a task to the column
            that holds it, if its name is not understood, or to a table as in a mapping file.

    Returns:
        The collection as its source states it, without a split of our own. Its `notes` say what was moved, not found or
        left out.

    Raises:
        UsageError: An unknown source or option, a folder that does not exist, or an unfinished prepared folder.
        DataError: No source recognises the folder, or the collection cannot be read.
    """
    options = {name: value for name, value in options.items() if value is not None}
    accept = options.get("accept", ())
    options = {**options, "accept": (accept,) if isinstance(accept, str) else tuple(accept)} if accept else options
    missing = options.get("max_missing")
    if missing is not None:
        check_number("max_missing", missing, isinstance(missing, (int, float)) and 0 <= missing <= 1, "from 0 to 1")
    for name in options.get("accept", ()):
        if name not in ACCEPT:
            known = "; ".join(f"{check}: {meaning}" for check, meaning in ACCEPT.items())
            raise UsageError(f"is '{name}'", source="accept", remedy=f"{did_you_mean(name, ACCEPT)}known: {known}")
    collection = _load_any(source, root, options)
    return collection if terms is None else with_stated_terms(collection, terms)


def with_stated_terms(collection: Collection, text: str) -> Collection:
    """Return the collection of own images with the terms that their owner states.

    Raises:
        UsageError: The collection is a public one, which states its own.
    """
    if collection.salt_name != PRIVATE:
        raise UsageError(
            f"{collection.salt_name} states its own terms", source="terms", remedy="leave it out; it is for own images"
        )
    collection = collection.with_notes()
    collection.terms = (terms_of_text(text, OWN_IMAGES),)
    return collection


def on_this_machine(source: Any) -> Any:
    """Return the folder of a data set that is named on the Hub, downloaded if it is not in the cache; others as is.

    Raises:
        UsageError: There is no such data set, or the Hub cannot be reached.
    """
    if not (isinstance(source, str) and source.startswith(HUB)):
        return source
    from ..models.checkpoint import locate_dataset  # imports torch, which tables do not need

    return str(locate_dataset(source.removeprefix(HUB)))


def _load_any(source: Any, root: str | Path | None, options: dict[str, Any]) -> Collection:
    source = on_this_machine(source)
    if isinstance(source, str | os.PathLike):
        return _load_place(os.fspath(source), root, options)
    if isinstance(source, Dataset) or type(source).__name__ == "DataFrame":
        rows = _dicts(source)
        return _load_rows(rows, TABLE, [Path(root or ".")], options)
    if isinstance(source, Iterable):
        _check_options(options, (), "a list of files")
        loaded = _load_files([Path(root or ".") / file for file in source], Path(root or "."), options)
        return _completed(loaded, options)
    raise UsageError(
        f"is a {type(source).__name__}", source="source", remedy="give a folder, a list of files, or a table of images"
    )


def _load_files(files: list[Path], root: Path, options: Mapping[str, Any]) -> Collection:
    collection = folder_source.load(root, files, **_of_headers(options))
    collection.terms = (terms_of_source(OWN_IMAGES, folder_source.LICENCE, None),)
    return collection


# A place: a folder that is recognised, a table, or a source's name with its folder.


def _load_place(source: str, root: str | Path | None, options: dict[str, Any]) -> Collection:
    if root is None and ("://" in source or (Path(source) / "layout.json").is_file()):
        return _prepared(source, options)
    name, place, options = _parts(source, options) if root is None else _named(source, root, options)
    if name is not None and Path(name).suffix.lower() in TABLE_SUFFIXES:
        folders = [Path(name).parent, *([_folder(place)] if place else [])]
        return _load_table(Path(name), folders, options)
    folder = _folder(place)
    module = _recognise(folder) if name is None else find_source(name)
    known = [parameter for parameter in inspect.signature(module.load).parameters if parameter != "root"]
    _check_options(options, known, module.NAME)
    own = {name: value for name, value in options.items() if name in known}
    with plugin_errors("source", module.NAME):
        collection: Collection = module.load(folder, **own)
    if isinstance(collection, Collection):
        collection.root = str(folder)
        name = OWN_IMAGES if collection.salt_name == PRIVATE else module.NAME
        stated = terms_of_source(name, module.LICENCE, getattr(module, "TERMS", None))
        collection.terms = (PHANTOMS,) if (folder / MARKER).is_file() else (stated,)
        left = {name: options[name] for name in options if name not in own or name in HEADER}
        collection = _completed(collection, left)
    return collection


def _named(source: str, root: str | Path, options: dict[str, Any]) -> tuple[str | None, str | Path, dict[str, Any]]:
    """Return the source's name, the folder and the options, if the folder was given apart."""
    suffix = Path(source).suffix.lower()
    if suffix == ".toml":
        return "csv", root, {"mapping": source, **options}
    return source, root, options


def _prepared(folder: str, options: dict[str, Any]) -> Collection:
    from .prepare.folder import prepared_table  # imports transformers, which tables of source files do not need

    stratum = {name: options[name] for name in options if name == "stratum"}
    if len(options) > len(stratum):
        name = next(name for name in options if name not in stratum)
        raise UsageError("has no effect on prepared images", source=name, remedy="give it to mammo-hf prepare")
    collection = prepared_table(folder)
    collection.root = folder
    found = read_terms(folder)
    if found is None:  # prepared before terms were recorded
        sources = [find_source(name) for name in sorted({*collection.column("source")}.intersection(source_names()))]
        found = tuple(terms_of_source(one.NAME, one.LICENCE, getattr(one, "TERMS", None)) for one in sources)
    collection.terms = found
    return _completed(collection, stratum)


def _parts(source: str, options: dict[str, Any]) -> tuple[str | None, str | Path, dict[str, Any]]:
    """Return the source's name, the folder and the options that a single text states; the name may be missing."""
    path = Path(source).expanduser()
    if not path.exists():
        name, colon, folder = source.rpartition(":")
        suffix = Path(name).suffix.lower()
        if colon and (suffix in TABLE_SUFFIXES or suffix == ".toml"):
            return _named(str(Path(name).expanduser()), folder, options)
    name, colon, folder = source.partition(":")
    if colon and (name in source_names() or not path.exists()):
        return name, folder, options
    if path.suffix.lower() == ".toml" and not path.is_dir():
        return "csv", path.parent, {"mapping": path, **options}
    if path.suffix.lower() in TABLE_SUFFIXES and not path.is_dir():
        return str(path), "", options
    return None, source, options


def _folder(path: str | Path) -> Path:
    folder = Path(path).expanduser()
    if not folder.exists():
        if str(path) in source_names():
            raise UsageError("needs the collection's folder too", source=path, remedy=f"give both, as in {path}:FOLDER")
        raise UsageError("no such folder", source=path, remedy="give the folder that holds the collection")
    if not folder.is_dir():
        remedy = f"save a table as {', '.join(TABLE_SUFFIXES[:3])}, or give its folder, or in Python a DataFrame"
        raise UsageError("is neither a folder nor a table that is read", source=path, remedy=remedy)
    return folder


def _recognise(folder: Path) -> Any:
    fitting = sources_of(folder)
    if len(fitting) == 1:
        return fitting[0]
    if fitting:
        names = ", ".join(source.NAME for source in fitting)
        remedy = f"name one, as in {fitting[0].NAME}:{folder}"
        raise DataError(f"may be several collections: {names}", source=folder, remedy=remedy)
    if folder_source.has_images(folder):
        return folder_source
    remedy = (
        f"give a folder of images, a table with a row per image (labels.csv), or a known collection: {looked_for()}"
    )
    raise DataError("holds no known collection, and no image", source=folder, remedy=remedy)


def _check_options(options: Mapping[str, Any], known: Iterable[str], what: str) -> None:
    known = list(dict.fromkeys([*known, *OPTIONS]))
    for option in options:
        if option not in known:
            remedy = f"{did_you_mean(option, known)}its options: {', '.join(known)}"
            raise UsageError(f"is not an option of {what}", source=option, remedy=remedy)


def _of_headers(options: Mapping[str, Any]) -> dict[str, bool]:
    return {name: options[name] for name in HEADER if name in options}


def _completed(collection: Collection, options: Mapping[str, Any]) -> Collection:
    """Apply the options that a source does not take itself; what it has no tables for has no effect."""
    if options.get("dicom_path") is not None:
        collection = folder_source.with_listed_images(collection, options["dicom_path"], **_of_headers(options))
    if options.get("stratum") is not None:
        collection = collection.with_stratum(options["stratum"])
    if options.get("overrides") is not None:
        collection = with_overrides(collection, options["overrides"])
    return collection


# Rows: an own table in a file, a pandas DataFrame or a `datasets.Dataset`. Columns are known by their names, or mapped.


def _load_table(path: Path, folders: list[Path], options: dict[str, Any]) -> Collection:
    if not path.is_file():
        raise UsageError("no such file", source=path, remedy="give a table with a row per image")
    collection = _load_rows(read_table(path), str(path), folders, options)
    collection.root = str(folders[-1])
    return collection


def _load_rows(rows: list[Row], source: str, folders: list[Path], options: dict[str, Any]) -> Collection:
    """Read rows.

    Rows in the full schema are taken as they are. Otherwise names are read as by a private mapping: patients become
    hashes under this user's salt, sides, views, ages and vendors are normalised, and the columns of tasks are labels.
    Without patients and labels the rows are a list of files, and the headers say the rest.
    """
    _check_options(options, ("mapping",), "a table of images")
    if not rows:
        raise DataError("has no rows", source=source, remedy="give a row per image")
    mapping = options.get("mapping") or {}
    names: set[str] = set(rows[0])
    if not mapping and names >= set(COLUMNS) - set(OPTIONAL):
        tasks = [name for name in TASKS if name in names]
        wanted = names & {*COLUMNS, *tasks}
        kept = [{name: row[name] for name in wanted} for row in rows]
        return _completed(Collection.from_rows(kept, tasks=task_list(tasks), salt_name=PRIVATE), options)
    for row in rows:  # in place: a million rows take a gigabyte
        row.update({name: _text(value, source) for name, value in row.items() if not isinstance(value, str)})
    unread: list[Note] = []
    about = {name: options[name] for name in ("max_missing", "accept") if name in options}
    rest: dict[str, Any] = {name: value for name, value in options.items() if name not in ("mapping", *about)}
    if isinstance(mapping, str | os.PathLike):
        mapped = MappedSource.from_toml(os.fspath(mapping))
    else:
        find = Files(folders, [], is_own=True).find
        content, problems = draft(rows, find, _given(names, mapping))
        _refuse_problems(problems, source)
        if rest.get("stratum") in names and rest["stratum"] not in COLUMNS:
            content["columns"]["stratum"] = f"{{{rest.pop('stratum')}}}"
        unread = _unread(list(rows[0]), content, source)
        if "patient" not in content["columns"]:  # and no labels: a list of files
            template = Field(content["images"].get("path", "{path}"))
            paths = [template.text(row) for row in rows]
            found = [path for name in paths for path in find(name) or [name]]
            return _completed(_load_files([Path(path) for path in found], folders[-1], rest), rest).with_notes(*unread)
        mapped = MappedSource(parse_mapping(content, source))
    return _completed(mapped.load_rows(rows, source, folders, **about), rest).with_notes(*unread)


def _given(names: set[str], given: Mapping[str, Any]) -> dict[str, Any]:
    """Return the fields that an argument ``mapping`` gives, checked, by the name of the column or task."""
    known = ("path", *MAPPED_COLUMNS, *TASKS)
    fields: dict[str, Any] = {}
    for name, value in given.items():
        own_task = isinstance(value, Mapping) and "labels" in value
        if name not in known and not own_task:
            remedy = f"{did_you_mean(name, known)}known: {', '.join(known)}, or a task with its labels"
            raise UsageError("is not a column of the schema or a common task", source=name, remedy=remedy)
        if isinstance(value, str) and value not in names:
            remedy = f"{did_you_mean(value, names)}its columns: {', '.join(sorted(names))}"
            raise UsageError(f"the table has no column {value!r}", source=name, remedy=remedy)
        fields[name] = f"{{{value}}}" if isinstance(value, str) else value
    return fields


def _unread(names: list[str], content: Mapping[str, Any], source: str) -> list[Note]:
    """Return notes on the columns of a table that its draft does not use, and on a table without labels."""
    used = parse_mapping({**content, "columns": {"patient": "", **content["columns"]}}, source)
    read = used.used_columns() | used.own_columns()
    left = [" ".join(name.split()) for name in names if not {name, side_of(name)[1]} & read and not is_lesion(name)]
    shown = ", ".join(left[:_SHOWN]) + (f", and {len(left) - _SHOWN} more" if len(left) > _SHOWN else "")
    notes = [Note("columns_unread", columns=shown)] if left else []
    return notes if content["tasks"] else [Note("labels_unread"), *notes]


def _refuse_problems(problems: list[str], source: str) -> None:
    if problems:
        if source == TABLE:
            remedy = 'say it, as in mapping={"patient": "case", "path": "file"}'
        else:
            own = Path(source).with_name("own.toml")  # next to the table, where the mapping looks for it
            remedy = (
                f"write down what the columns are: mammo-hf mapping {quote(source)} > {quote(str(own))}, and load it"
            )
        raise DataError("; ".join(problems), source=source, remedy=remedy)


def _dicts(table: Any) -> list[Row]:
    """Return the rows of a DataFrame or a Dataset as dicts, images as their paths."""
    if not isinstance(table, Dataset):
        return table.to_dict("records")
    for name, feature in table.features.items():
        if getattr(feature, "decode", False):  # an image: only its path is wanted
            table = table.cast_column(name, dataclasses.replace(feature, decode=False))
    return list(table.with_format(None))


def _text(value: Any, source: str) -> str:
    """Return a value as a table in a file would hold it, an image by its path."""
    if isinstance(value, Mapping) and "path" in value:
        if not value["path"]:
            remedy = "save the images as files, and give the files"
            raise DataError("holds images without their files", source=source, remedy=remedy)
        return str(value["path"])
    return value if isinstance(value, str) else cell_text(value)
