"""load: the door through which every collection enters, by name or recognised by its files."""

from __future__ import annotations

import inspect
from pathlib import Path
from typing import Any

from ..errors import DataError, UsageError
from .collection import Collection
from .datasets.discovery import all_sources, find_source, source_names


def load(source: str | Path, root: str | Path | None = None, **options: Any) -> Collection:
    """Reads a collection into a table, one row an image.

    Args:
        source: A source's name, such as "cbis-ddsm", with `root`; or alone, as a command line has it: the collection's
            folder, whose source is then recognised by its files; name and folder in one, "folder:/data/archive"; or a
            mapping that lies in the collection's folder, "/data/ours/ours.toml"; or what ``mammo-hf prepare`` wrote,
            folder or URL.
        root: The collection's folder.
        **options: The source's own options, such as CBIS-DDSM's `dicom_path`.

    Returns:
        The table, not yet split for validation. Its `notes` say what was moved, not found or left out.

    Raises:
        UsageError: An unknown source or option, a folder that is not there, or one that is not prepared to its end.
        DataError: No source recognises the folder, or the collection cannot be read.
    """
    if root is None and ("://" in str(source) or (Path(source) / "layout.json").is_file()):
        return _prepared(source, options)
    if root is None:
        source, root, options = _in_one(source, options)
    if root is None:
        folder = _folder(source)
        module = _recognise(folder)
    else:
        module = find_source(str(source))
        folder = _folder(root)
    known = [name for name in inspect.signature(module.load).parameters if name != "root"]
    for option in options:
        if option not in known:
            raise UsageError(
                f"is no option of {module.NAME}", source=option, remedy=f"its options: {', '.join(known) or 'none'}"
            )
    table: Collection = module.load(folder, **options)
    table.root = str(folder)
    return table


def _prepared(folder: str | Path, options: dict[str, Any]) -> Collection:
    from .prepare.folder import prepared_table  # brings transformers along, which tables of source files do without

    if options:
        name = next(iter(options))
        raise UsageError("adds nothing to images that are prepared", source=name, remedy="give it to mammo-hf prepare")
    table = prepared_table(folder)
    table.root = str(folder)
    return table


def _in_one(source: str | Path, options: dict[str, Any]) -> tuple[str | Path, str | Path | None, dict[str, Any]]:
    """What a single text says: source, folder and options; the folder is ``None`` where the text is the folder."""
    name, colon, folder = str(source).partition(":")
    path = Path(source).expanduser()
    if colon and (name in source_names() or not path.exists()):
        return name, folder, options
    if path.suffix.lower() == ".toml" and not path.is_dir():
        return "csv", path.parent, {"mapping": path, **options}
    return source, None, options


def _folder(path: str | Path) -> Path:
    folder = Path(path).expanduser()
    if not folder.exists():
        if str(path) in source_names():
            raise UsageError("needs the collection's folder too", source=path, remedy=f'load("{path}", root="...")')
        raise UsageError("no such folder", source=path, remedy="give the folder that holds the collection")
    if not folder.is_dir():
        raise UsageError("is no folder", source=path, remedy="give the folder that holds the collection")
    return folder


def _recognise(folder: Path) -> Any:
    fitting = [source for source in all_sources() if source.recognises(folder)]
    if len(fitting) == 1:
        return fitting[0]
    if fitting:
        names = ", ".join(source.NAME for source in fitting)
        raise DataError(
            f"may be several collections: {names}", source=folder, remedy=f'name one: load("{fitting[0].NAME}", root)'
        )
    looks_for = "; ".join(f"{source.NAME} needs {source.LOOKS_FOR}" for source in all_sources())
    raise DataError("holds no known collection", source=folder, remedy=looks_for)
