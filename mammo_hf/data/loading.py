"""load: the function through which every collection enters, whatever form it has."""

from __future__ import annotations

import dataclasses
import inspect
import os
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from datasets import Dataset

from ..errors import DataError, UsageError, did_you_mean
from .collection import Collection
from .datasets import folder as folder_source
from .datasets.csv_source import MappedSource
from .datasets.discovery import all_sources, find_source, source_names
from .datasets.mapping import COLUMNS as MAPPED_COLUMNS
from .datasets.mapping import parse_mapping
from .privacy import PRIVATE
from .schema import COLUMNS, OPTIONAL, TASKS, Row, task_list

TABLE = "table"  # the name of a collection that was given as rows


def load(source: Any, root: str | Path | None = None, **options: Any) -> Collection:
    """Read a collection, one row per image.

    Args:
        source: Folder of a collection, which is recognised by its files; a source's name with its folder,
            "cbis-ddsm:data/cbis", or alone, with `root`; a mapping in the folder of its tables, "data/ours/ours.toml";
            a folder or URL that ``mammo-hf prepare`` wrote; a list of image files; a pandas DataFrame or a
            `datasets.Dataset` with a row per image.
        root: Folder of the collection; for rows the folder that their paths are relative to.
        **options: Options of the source, such as ``dicom_path`` of CBIS-DDSM. Rows take ``mapping``: from a column of
            the schema (path, patient, exam, laterality, view, age, vendor, split) or a task to the column that holds
            it, if it has another name, or to a table as in a mapping file (`mammo_hf.data.datasets.mapping`).

    Returns:
        The collection as its source states it, without a split of our own. Its `notes` say what was moved, not found or
        left out.

    Raises:
        UsageError: An unknown source or option, a folder that does not exist, or an unfinished prepared folder.
        DataError: No source recognises the folder, or the collection cannot be read.
    """
    if isinstance(source, str | os.PathLike):
        return _load_place(os.fspath(source), root, options)
    if isinstance(source, Dataset) or type(source).__name__ == "DataFrame":
        return _load_rows(source, Path(root or "."), options)
    if isinstance(source, Iterable):
        _check_options(options, (), "a list of files")
        files = [Path(root or ".") / file for file in source]
        collection = folder_source.load(Path(root or "."), files)
        collection.licence = folder_source.LICENCE
        return collection
    raise UsageError(
        f"is a {type(source).__name__}", source="source", remedy="give a folder, a list of files, or a table of images"
    )


# A place: a folder that is recognised, or a source's name with its folder.


def _load_place(source: str, root: str | Path | None, options: dict[str, Any]) -> Collection:
    if root is None and ("://" in source or (Path(source) / "layout.json").is_file()):
        return _prepared(source, options)
    name, place, options = _parts(source, options) if root is None else (source, root, options)
    folder = _folder(place)
    module = _recognise(folder) if name is None else find_source(name)
    known = [parameter for parameter in inspect.signature(module.load).parameters if parameter != "root"]
    _check_options(options, known, module.NAME)
    collection: Collection = module.load(folder, **options)
    if isinstance(collection, Collection):
        collection.root, collection.licence = str(folder), collection.licence or module.LICENCE
    return collection


def _prepared(folder: str, options: dict[str, Any]) -> Collection:
    from .prepare.folder import prepared_table  # imports transformers, which tables of source files do not need

    if options:
        name = next(iter(options))
        raise UsageError("has no effect on prepared images", source=name, remedy="give it to mammo-hf prepare")
    collection = prepared_table(folder)
    known = sorted(set(collection.column("source")).intersection(source_names()))
    collection.root = folder
    collection.licence = " and ".join(find_source(name).LICENCE for name in known) or None
    return collection


def _parts(source: str, options: dict[str, Any]) -> tuple[str | None, str | Path, dict[str, Any]]:
    """Return the source's name, the folder and the options that a single text states; the name may be missing."""
    name, colon, folder = source.partition(":")
    path = Path(source).expanduser()
    if colon and (name in source_names() or not path.exists()):
        return name, folder, options
    if path.suffix.lower() == ".toml" and not path.is_dir():
        return "csv", path.parent, {"mapping": path, **options}
    return None, source, options


def _folder(path: str | Path) -> Path:
    folder = Path(path).expanduser()
    if not folder.exists():
        if str(path) in source_names():
            raise UsageError("needs the collection's folder too", source=path, remedy=f"give both, as in {path}:FOLDER")
        raise UsageError("no such folder", source=path, remedy="give the folder that holds the collection")
    if not folder.is_dir():
        raise UsageError("is not a folder", source=path, remedy="give the folder that holds the collection")
    return folder


def _recognise(folder: Path) -> Any:
    fitting = [source for source in all_sources() if source.recognises(folder)]
    if len(fitting) == 1:
        return fitting[0]
    if fitting:
        names = ", ".join(source.NAME for source in fitting)
        remedy = f"name one, as in {fitting[0].NAME}:{folder}"
        raise DataError(f"may be several collections: {names}", source=folder, remedy=remedy)
    looks_for = "; ".join(f"{source.NAME} needs {source.LOOKS_FOR}" for source in all_sources())
    raise DataError("holds no known collection", source=folder, remedy=looks_for)


def _check_options(options: Mapping[str, Any], known: Iterable[str], what: str) -> None:
    known = list(known)
    for option in options:
        if option not in known:
            remedy = f"{did_you_mean(option, known)}its options: {', '.join(known) or 'none'}"
            raise UsageError(f"is not an option of {what}", source=option, remedy=remedy)


# Rows: a pandas DataFrame or a `datasets.Dataset`, with the columns of the schema or others that are mapped.


def _load_rows(table: Any, root: Path, options: dict[str, Any]) -> Collection:
    """Read rows.

    Rows in the full schema are taken as they are. Otherwise names are read as by a private mapping: patients become
    hashes under this user's salt, sides, views, ages and vendors are normalised, and the columns of common tasks are
    labels. Without patients and labels the rows are a list of files, and the headers say the rest.
    """
    _check_options(options, ("mapping",), "a table of images")
    rows = _dicts(table)
    if not rows:
        raise DataError("has no rows", source=TABLE, remedy="give a row per image")
    mapping = options.get("mapping") or {}
    names = set(rows[0])
    if not mapping and names >= set(COLUMNS) - set(OPTIONAL):
        tasks = [name for name in TASKS if name in names]
        wanted = names & {*COLUMNS, *tasks}
        kept = [{name: row[name] for name in wanted} for row in rows]
        return Collection.from_rows(kept, tasks=task_list(tasks), salt_name=PRIVATE)
    if isinstance(mapping, str | os.PathLike):
        return MappedSource.from_toml(os.fspath(mapping)).load_rows(_texts(rows), TABLE, root)
    content = _mapping(names, mapping)
    if "patient" not in content["columns"] and not content["tasks"]:
        path = content["images"]["path"].strip("{}")
        return load([_text(row[path]) for row in rows], root)
    source = MappedSource(parse_mapping(content, TABLE))
    return source.load_rows(_texts(rows), TABLE, root)


def _mapping(names: set[str], given: Mapping[str, Any]) -> dict[str, Any]:
    """Return the content of a mapping for rows with columns of these names."""
    known = ("path", *MAPPED_COLUMNS, *TASKS)
    fields = {name: f"{{{name}}}" for name in known if name in names}
    if "image" in names:
        fields.setdefault("path", "{image}")
    for name, value in given.items():
        own_task = isinstance(value, Mapping) and "labels" in value
        if name not in known and not own_task:
            remedy = f"{did_you_mean(name, known)}known: {', '.join(known)}, or a task with its labels"
            raise UsageError("is not a column of the schema or a common task", source=name, remedy=remedy)
        if isinstance(value, str) and value not in names:
            remedy = f"{did_you_mean(value, names)}its columns: {', '.join(sorted(names))}"
            raise UsageError(f"the table has no column {value!r}", source=name, remedy=remedy)
        fields[name] = f"{{{value}}}" if isinstance(value, str) else value
    if "path" not in fields:
        raise UsageError("has no column path", source=TABLE, remedy='name it, as in mapping={"path": "file"}')
    tasks = {name: value for name, value in fields.items() if name != "path" and name not in MAPPED_COLUMNS}
    columns = {name: value for name, value in fields.items() if name in MAPPED_COLUMNS}
    if not tasks:
        columns.setdefault("split", "unlabelled")
    if tasks and "patient" not in columns:
        remedy = 'name it, as in mapping={"patient": "case"}: splits are by patient'
        raise UsageError("has no column patient", source=TABLE, remedy=remedy)
    return {
        "name": TABLE,
        "licence": folder_source.LICENCE,
        "private": True,
        "images": {"table": TABLE, "path": fields["path"]},
        "columns": columns,
        "tasks": {name: value if isinstance(value, dict) else {"from": value} for name, value in tasks.items()},
    }


def _dicts(table: Any) -> list[Row]:
    """Return the rows of a DataFrame or a Dataset as dicts, images as their paths."""
    if not isinstance(table, Dataset):
        return table.to_dict("records")
    for name, feature in table.features.items():
        if getattr(feature, "decode", False):  # an image: only its path is wanted
            table = table.cast_column(name, dataclasses.replace(feature, decode=False))
    return list(table.with_format(None))


def _texts(rows: list[Row]) -> list[dict[str, str]]:
    return [{name: _text(value) for name, value in row.items()} for row in rows]


def _text(value: Any) -> str:
    """Return a value as a table in a file would hold it."""
    if isinstance(value, Mapping) and "path" in value:
        if not value["path"]:
            remedy = "save the images as files, and give the files"
            raise DataError("holds images without their files", source=TABLE, remedy=remedy)
        return str(value["path"])
    if value is None or value != value:  # NaN
        return ""
    if isinstance(value, float) and value.is_integer():  # whole numbers with a gap become floats in pandas
        return str(int(value))
    return str(value)
