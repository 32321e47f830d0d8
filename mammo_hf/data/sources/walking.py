"""Finding files: all of a kind below a folder, and a table by its name."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

import pydicom.misc

from ...errors import DataError
from ..table import Rejected

_SUFFIXES = (".dcm", ".dicom")
_DEEPEST = 2
_SHOWN = 3


def is_dicom_entry(entry: os.DirEntry[str]) -> bool:
    """Whether a folder's entry is a DICOM file, by its suffix, or by its start where it has none."""
    suffix = os.path.splitext(entry.name)[1].lower()
    if suffix and not suffix[1:].isdecimal():  # a file named by its UID alone ends in digits
        return suffix in _SUFFIXES
    try:
        return entry.name != "DICOMDIR" and pydicom.misc.is_dicom(entry.path)
    except OSError:
        return False


def walk(
    root: str | Path, rejected: list[Rejected], accepts: Callable[[os.DirEntry[str]], bool] = is_dicom_entry
) -> Iterator[str]:
    """All files of a kind below a folder, through links too. Each folder is listed once.

    Args:
        root: The collection's folder.
        rejected: Takes the folders that cannot be listed.
        accepts: Whether an entry is wanted; by default DICOM files, opened only where they have no suffix.
    """
    seen: set[tuple[int, int]] = set()
    pending = [str(root)]
    while pending:
        folder = pending.pop()
        try:
            state = os.stat(folder)
            if (state.st_dev, state.st_ino) in seen:  # a link back to a folder above, or to one already seen
                continue
            seen.add((state.st_dev, state.st_ino))
            with os.scandir(folder) as listing:
                entries = sorted(listing, key=lambda entry: entry.name)
        except OSError as error:
            rejected.append(Rejected(folder, f"cannot be listed ({error.strerror})"))
            continue
        yield from (entry.path for entry in entries if not entry.is_dir() and accepts(entry))
        pending += reversed([entry.path for entry in entries if entry.is_dir()])


def find_tables(root: str | Path, names: Iterable[str]) -> dict[str, Path]:
    """Tables by their lower-case names, in `root`, in its folder ``csv``, or up to two folders below.

    Args:
        root: The collection's folder.
        names: What is looked for, in lower case; upper and lower case do not matter in the files' names.

    Returns:
        From a table's name to its file, the shallowest, for those that are there.
    """
    wanted = set(names)
    found: dict[str, Path] = {}
    level = [Path(root)]
    for depth in range(_DEEPEST + 1):
        below: list[Path] = []
        for folder in level:
            for name, is_folder in _listing(folder):
                if is_folder:
                    below.append(folder / name)
                elif name.lower() in wanted:
                    found.setdefault(name.lower(), folder / name)
        if len(found) == len(wanted) or (depth == 0 and not below):
            break
        level = sorted(below, key=lambda folder: (folder.name.lower() != "csv", folder.name))
    return found


def _listing(folder: Path) -> list[tuple[str, bool]]:
    try:
        with os.scandir(folder) as entries:
            return sorted((entry.name, entry.is_dir()) for entry in entries)
    except OSError:
        return []  # the walk for images reports a folder that cannot be read


def missing_files(missing: list[str], total: int, limit: float, source: str | Path) -> list[str]:
    """The note about files that tables name and that are not there.

    Args:
        missing: Their paths.
        total: How many the tables name.
        limit: The share of missing files above which reading stops.
        source: The table or folder, for messages.

    Raises:
        DataError: No file is there at all, or the share is above the limit.
    """
    if not missing:
        return []
    share = len(missing) / total
    shown = ", ".join(missing[:_SHOWN]) + (", ..." if len(missing) > _SHOWN else "")
    text = f"{len(missing)} of {total} files that its table names are not there ({share:.0%})"
    if len(missing) == total or share > limit:
        raise DataError(
            f"{text}: {shown}",
            source=source,
            remedy=f"complete the download, or allow it with max_missing (now {limit:g})",
        )
    return [f"{text}; their rows are left out"]
