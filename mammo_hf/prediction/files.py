"""Which files are to be read: all images below a folder, or those of a list."""

from __future__ import annotations

import csv
import os
from collections.abc import Sequence
from pathlib import Path

from ..data.sources.walking import is_dicom_entry, walk
from ..errors import UsageError

_PICTURES = (".png", ".tif", ".tiff", ".jpg", ".jpeg", ".pgm")
_LISTS = (".txt", ".csv")
_COLUMNS = ("path", "file")


def files_below(folder: str | os.PathLike[str]) -> list[str]:
    """The DICOM files and pictures below a folder, in order, by their paths from it.

    Raises:
        UsageError: There is none.
    """
    found = sorted(os.path.relpath(path, folder) for path in walk(os.fspath(folder), [], _is_image))
    if not found:
        raise UsageError("holds no DICOM file and no picture", source=folder, remedy="check the path")
    return found


def _is_image(entry: os.DirEntry[str]) -> bool:
    hidden = entry.name.startswith(".")
    return not hidden and (os.path.splitext(entry.name)[1].lower() in _PICTURES or is_dicom_entry(entry))


def files_to_read(inputs: Sequence[str]) -> list[str]:
    """The files that arguments name, in their order.

    Args:
        inputs: Images, folders of images, lists of paths (``.txt``, one a line), and tables (``.csv``) with a column
            ``path`` or ``file``. Paths in a list count from its own folder.

    Raises:
        UsageError: A folder or list that holds nothing, or a list that cannot be read.
    """
    found: list[str] = []
    for given in inputs:
        if os.path.isdir(given):
            found += [os.path.join(given, file) for file in files_below(given)]
        elif given.lower().endswith(_LISTS):
            found += _listed(Path(given))
        elif len(inputs) == 1 and not os.path.exists(given):
            raise UsageError("no such file or folder", source=given, remedy="check the path")
        else:
            found.append(given)
    return found


def _listed(path: Path) -> list[str]:
    try:
        text = path.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", None) or "is not UTF-8"
        raise UsageError(f"cannot be read as a list ({reason})", source=path, remedy="give one path a line") from error
    if path.suffix.lower() == ".txt":
        named = [line.strip() for line in text.splitlines() if line.strip()]
    else:
        table = csv.DictReader(text.splitlines())
        column = next((name for name in table.fieldnames or () if name.strip().lower() in _COLUMNS), None)
        if column is None:
            raise UsageError("has no column path or file", source=path, remedy="name the column of paths so")
        named = [row[column].strip() for row in table if (row[column] or "").strip()]
    if not named:
        raise UsageError("names no file", source=path, remedy="give one path a line")
    return [os.path.normpath(os.path.join(path.parent, one)) for one in named]
