"""Files of a collection: images known by their headers and bytes, tables found by name.

Folder and series names of public releases are not reliable: in CBIS-DDSM's, crops are in folders of ROI masks.
"""

from __future__ import annotations

import fnmatch
import os
import re
import unicodedata
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple
from urllib.parse import unquote

import numpy as np
from pydicom.dataset import Dataset
from pydicom.tag import BaseTag
from pydicom.uid import UID, UncompressedTransferSyntaxes

from ...dicom import Laterality, MammogramError, Vendor, View, read_mammogram
from ...dicom.header import check_anatomy, find_projection
from ...dicom.parsing import HOLOGIC_VOLUME, parse, text, word
from ...errors import DataError, UsageError, printable, refusing
from ...files import is_dicom_entry, walk
from ...notes import Note
from ...processing.image_source import picture_size, read_levels
from ..collection import Rejected
from .tables import read_text

_SIZE_TAGS: list[str | BaseTag] = ["Columns", "Rows"]
_TAGS: list[str | BaseTag] = [
    *_SIZE_TAGS,
    *("ImageLaterality", "Laterality", "PatientOrientation", "ViewCodeSequence", "ViewPosition"),
    *("AcquisitionDeviceProcessingDescription", "ProtocolName", "BodyPartExamined", "AnatomicRegionSequence"),
    *("SOPClassUID", "ImageType", HOLOGIC_VOLUME),
    *("Manufacturer", "Modality", "PatientAge", "PatientID", "SOPInstanceUID", "SeriesDescription", "StudyInstanceUID"),
]
# an image of two values compresses to almost nothing: run lengths take a byte for some sixty pixels, JPEG 2000 and
# JPEG-LS less
_MASK_BYTES_PER_PIXEL = 0.25
_PROBE = 1 << 16
_SEPARATORS = re.compile(r"[;|,\n]")  # of several files in one cell of a table
_SMALL = 1 << 16  # bytes; below, the header is a large part of the file, and decoding is cheap


class Facts(NamedTuple):
    """Facts from the header of an image; texts are empty if absent."""

    path: str
    modality: str = ""
    laterality: Laterality = Laterality.UNKNOWN
    view: View = View.UNKNOWN
    series_description: str = ""
    patient_id: str = ""
    study_uid: str = ""
    instance_uid: str = ""
    age: str = ""
    vendor: str = ""
    problem: str = ""  # why it is not an image of a breast

    @property
    def is_region(self) -> bool:
        """Whether the description of the series says that the image is a crop or a mask."""
        words = self.series_description.lower()
        return "crop" in words or "roi mask" in words


class Contents:
    """Cache of what was asked about image files; what cannot be read is `None`, with the reason in `problems`.

    Args:
        header: Settings of reading headers, as in `read_facts`.
    """

    def __init__(self, **header: bool) -> None:
        self._header = header
        self._shapes: dict[str, tuple[tuple[int, int], bool] | None] = {}
        self.problems: dict[str, Rejected] = {}

    def size(self, path: str) -> tuple[int, int] | None:
        """Return the size (rows, columns) of an image."""
        shape = self._shape(path)
        return None if shape is None else shape[0]

    def facts(self, path: str) -> Facts | None:
        """Return what the header of an image says."""
        try:
            return read_facts(path, **self._header)
        except DataError as error:
            self.problems[path] = Rejected(path, error.problem, error.code)
            return None

    def is_mask(self, path: str) -> bool:
        """Return whether the image has at most two values; pixels are decoded only if the bytes cannot tell."""
        shape = self._shape(path)
        if shape is None or _has_many_values(path, *shape):
            return False
        try:
            if has_picture_suffix(path):
                return _has_two_levels(path)
            return np.unique(read_mammogram(path, any_anatomy=True).pixels).size <= 2
        except DataError as error:
            self.problems[path] = Rejected(path, error.problem, error.code)
        return False

    def _shape(self, path: str) -> tuple[tuple[int, int], bool] | None:
        if path not in self._shapes:
            try:
                self._shapes[path] = read_shape(path)
            except DataError as error:
                self._shapes[path] = None
                self.problems[path] = Rejected(path, error.problem, error.code)
        return self._shapes[path]


def has_picture_suffix(path: str) -> bool:
    """Return whether the name of a file is that of a PNG, JPEG, PGM or TIFF."""
    return path.lower().endswith((".png", ".jpg", ".jpeg", ".pgm", ".tif", ".tiff"))


def has_image_suffix(path: str) -> bool:
    """Return whether the name of a file is that of a picture or of a DICOM file with its usual ending."""
    return has_picture_suffix(path) or path.lower().endswith((".dcm", ".dicom"))


def is_image_entry(entry: os.DirEntry[str]) -> bool:
    """Return whether a folder's entry is a DICOM file or a picture."""
    return has_picture_suffix(entry.name) or is_dicom_entry(entry)


def read_shape(path: str) -> tuple[tuple[int, int], bool]:
    """Read the size (rows, columns) only, which is twice as fast as `read_facts`, and whether pixels are compressed.

    Raises:
        DataError: The file cannot be read or is not a DICOM image.
    """
    if has_picture_suffix(path):
        return picture_size(path), True
    _, size, syntax = _read_header(path, _SIZE_TAGS)
    return size, bool(syntax) and syntax not in UncompressedTransferSyntaxes


def read_facts(path: str, *, use_descriptions: bool = True, any_anatomy: bool = False) -> Facts:
    """Read the header of a DICOM file, without the pixels.

    Args:
        path: Path of the file.
        use_descriptions: Whether side and view may be taken from free text.
        any_anatomy: Whether images are taken that are not of a breast by their header; they have no ``problem`` then.

    Raises:
        DataError: The file cannot be read or is not a DICOM image.
    """
    header, _, _ = _read_header(path, _TAGS)
    (laterality, _), (view, _) = find_projection(header, [], use_descriptions=use_descriptions)
    return Facts(
        path,
        modality=text(header, "Modality"),
        laterality=laterality,
        view=view,
        series_description=text(header, "SeriesDescription"),
        patient_id=text(header, "PatientID"),
        study_uid=text(header, "StudyInstanceUID"),
        instance_uid=text(header, "SOPInstanceUID"),
        age=text(header, "PatientAge"),
        vendor=Vendor.from_dicom(text(header, "Manufacturer")).value,
        problem="" if any_anatomy else _other_anatomy(header),
    )


def _other_anatomy(header: Dataset) -> str:
    try:
        check_anatomy(header, [])
    except MammogramError as error:
        return error.problem
    return ""


def _read_header(path: str, attributes: Sequence[str | BaseTag]) -> tuple[Dataset, tuple[int, int], UID]:
    """Return some attributes of a DICOM file, its size (rows, columns) and its transfer syntax."""
    with refusing(path):
        header, syntax, _ = parse(path, attributes)
        size = word(header, "Rows") or 0, word(header, "Columns") or 0
        if min(size) <= 0:
            raise DataError("is a DICOM file without an image", remedy="remove it from the data", code="not_a_breast")
        return header, size, syntax


def _has_two_levels(path: str) -> bool:
    """Return whether a picture is black and white apart from the rings that a JPEG has along edges."""
    values = read_levels(path)
    peak = int(values.max())
    between = np.count_nonzero((values > peak * 0.15) & (values < peak * 0.85))
    return bool(between <= 0.005 * values.size)


def _has_many_values(path: str, size: tuple[int, int], compressed: bool) -> bool:
    """Return whether the bytes of a file show that its image has more than two values."""
    try:
        length = os.path.getsize(path)
        if length < _SMALL:
            return False
        if compressed:
            return length > _MASK_BYTES_PER_PIXEL * size[0] * size[1]
        # two values of one or two bytes each show at most four different bytes, anywhere in the pixels, and in a
        # native file nearly every byte belongs to a pixel
        with open(path, "rb") as file:
            for fraction in (0.5, 0.25, 0.75):
                file.seek(int(fraction * length))
                if np.unique(np.frombuffer(file.read(min(_PROBE, length // 8)), np.uint8)).size > 4:
                    return True
    except OSError:
        return True
    return False


def read_list(listing: str | Path, root: str | Path, rejected: list[Rejected]) -> list[str]:
    """Read a text file of image paths.

    It holds one path per line, absolute or relative to the text file (or else to `root`); blank lines and lines that
    begin with ``#`` are skipped.

    Args:
        listing: Text file to read.
        root: Folder of the collection.
        rejected: List that receives the paths without a file.

    Returns:
        Paths of the files, each file once.

    Raises:
        UsageError: The text file does not exist.
        DataError: It cannot be read as text, or names no file that exists.
    """
    source = Path(listing)
    if not source.is_file():
        raise UsageError("no such file", source=source, remedy="dicom_path takes a text file of DICOM paths")
    files: dict[str, str] = {}
    for number, line in enumerate(read_text(source).splitlines(), start=1):
        line = line.strip()
        if not line or line.startswith("#"):
            continue
        candidates = [os.path.normpath(folder / line) for folder in (source.parent, Path(root))]
        path = next((path for path in candidates if os.path.isfile(path)), None)
        if path is None:
            reason = f"line {number} of {source.name} names it, but there is no such file"
            rejected.append(Rejected(candidates[0], reason, "missing"))
        else:
            files.setdefault(os.path.realpath(path), path)
    if not files:
        raise DataError("names no file that exists", source=source, remedy="give one DICOM path per line")
    return list(files.values())


# Finding images below a folder, and tables by their names.

_DEEPEST = 2  # folders below the root
_SHOWN = 3
_LONGEST = 200  # characters of a path in a message


def files_below(
    root: str | Path, rejected: list[Rejected], accepts: Callable[[os.DirEntry[str]], bool] = is_dicom_entry
) -> Iterator[str]:
    """Find all files of a kind below a folder; see `mammo_hf.files.walk`.

    Args:
        root: Folder of the collection.
        rejected: List that receives the folders that cannot be listed, and the files whose names are not UTF-8.
        accepts: Function that decides whether an entry is wanted; by default DICOM files.
    """
    for path in walk(
        root, lambda folder, reason: rejected.append(Rejected(printable(folder), reason, "missing")), accepts
    ):
        if printable(path) == path:
            yield path
        else:
            rejected.append(Rejected(printable(path), "its name is not UTF-8, as a table's cells are", "unsupported"))


def find_tables(root: str | Path, names: Iterable[str]) -> dict[str, Path]:
    """Find tables by their lower-case names, in `root`, in its folder ``csv``, or up to two folders below.

    Args:
        root: Folder of the collection.
        names: Names of the tables in lower case, with ``*`` for any text; the case of the files' names does not matter.

    Returns:
        From the name of each table that exists to its file; the shallowest one counts.
    """
    wanted = set(names)
    patterns = [name for name in wanted if "*" in name]
    found: dict[str, Path] = {}
    level = [Path(root)]
    for depth in range(_DEEPEST + 1):
        below: list[Path] = []
        for folder in level:
            for name, is_folder in _listing(folder):
                if is_folder:
                    below.append(folder / name)
                elif name.lower() in wanted or any(fnmatch.fnmatch(name.lower(), pattern) for pattern in patterns):
                    found.setdefault(name.lower(), folder / name)
        if (len(found) == len(wanted) and not patterns) or (depth == 0 and not below):
            break
        level = sorted(below, key=lambda folder: (folder.name.lower() != "csv", folder.name))
    return found


def _listing(folder: Path) -> list[tuple[str, bool]]:
    try:
        with os.scandir(folder) as entries:
            return sorted((entry.name, entry.is_dir()) for entry in entries)
    except OSError:
        return []  # the search for images reports a folder that cannot be read


def missing_files(
    missing: list[str],
    total: int,
    limit: float,
    source: str | Path,
    like: Callable[[str], str | None] = lambda path: None,
) -> list[Note]:
    """Return the note about files that tables name and that do not exist.

    Args:
        missing: Paths of the missing files.
        total: Number of files that the tables name.
        limit: Fraction of missing files above which reading stops.
        source: Table or folder, for messages.
        like: Function that returns a file with the name of a missing one but for its ending or folder, for messages.

    Raises:
        DataError: No file exists at all, or the fraction is above the limit.
    """
    if not missing:
        return []
    fraction = len(missing) / total
    shown = ", ".join(path[:_LONGEST] or "(empty)" for path in missing[:_SHOWN])
    shown += ", ..." if len(missing) > _SHOWN else ""
    text = f"{len(missing)} of {total} files that its table names do not exist ({fraction:.0%})"
    if not any(missing) and len(missing) == total:
        remedy = "name the files; formulas of a workbook have values once a spreadsheet program has saved it"
        raise DataError(f"names no file in any of {total} rows", source=source, remedy=remedy)
    if len(missing) == total:
        remedy = "give the images' folder too, as in TABLE:FOLDER or NAME:FOLDER"
        folder, other = os.path.split(like(missing[0]) or "")
        if _folded(missing[0]).endswith(_folded(other)):
            remedy = f"{remedy}; there is one in {folder}" if other else remedy
        else:
            remedy = f"there is {other}: give the names the ending that the files have"
        raise DataError(f"{text}: {shown}", source=source, remedy=remedy)
    if fraction > limit:
        remedy = f"complete the download, or allow it: `max_missing=1` (now {limit:g})"
        raise DataError(f"{text}: {shown}", source=source, remedy=remedy)
    return [Note("files_missing", problem=text)]


class Files:
    """Search for the files of rows: below one of the folders, or with ``**/`` in front anywhere below the last.

    Paths are taken as people write them: with backslashes, in the wrong case, with the drive or folders of another
    machine in front, a folder for all images in it, and several files in one cell. A path leads to files in the folders
    and nowhere else, with one exception: whole paths in an own table.

    Args:
        folders: Folders that paths are relative to, in this order.
        rejected: List that receives the folders that cannot be listed.
        is_own: Whether the table is the user's own: then a file may be elsewhere if its whole path is given, and not by
            a link. A public collection may be links itself, as the Hub's cache is, and its whole paths are refused.

    Attributes:
        elsewhere: Number of files that were found outside the folders, by their whole paths.
    """

    def __init__(self, folders: Iterable[Path], rejected: list[Rejected], *, is_own: bool = False) -> None:
        self._folders = list(folders)  # the last one stays last, also if it is an earlier one too
        self._is_own = is_own
        self._rejected = rejected
        self._roots = [os.path.abspath(folder) for folder in self._folders]
        self._real: dict[str, str] = {}  # from a folder to where its links lead
        self._below: dict[str, dict[str, list[str]]] = {}  # below the last folder, by lower-case name and path
        self.elsewhere = 0
        self._cut = 0  # parts of another machine in front of the last path that was found

    def find(self, wanted: str) -> list[str]:
        """Return the files that a path of a table names, in order; empty: there is none.

        Raises:
            DataError: The path leaves the folder.
        """
        given, wanted = wanted, wanted.replace("\n", "").replace("\\", "/").strip().strip("\"'")
        if not wanted:
            return []
        if wanted.startswith("**/"):
            return self._checked(self._anywhere(_folded(wanted.removeprefix("**/"))))
        if self._is_own:
            wanted = unquote(wanted.removeprefix("file://")) if wanted.startswith("file://") else wanted
            wanted = os.path.expanduser(wanted) if wanted.startswith("~") else wanted
        is_whole = os.path.isabs(wanted)
        leaves = (is_whole or ".." in wanted.split("/")) and not self._is_inside(wanted)
        if leaves and not (is_whole and (self._is_own or not os.path.exists(wanted))):
            problem = f"names a file outside its folder: {wanted}"
            raise DataError(problem, remedy="give the folder that holds both, as in TABLE:FOLDER")
        found = self._direct(wanted)
        self.elsewhere += len(found) if leaves else 0
        if found and is_whole:
            return found
        return self._checked(found or self._elsewhere(wanted)) or self._several(given)

    def like(self, wanted: str) -> str | None:
        """Return a file that has the name of a missing one but for its ending or folder; ``None``: there is none."""
        name = _folded(wanted.replace("\\", "/").rpartition("/")[2])
        found = self._index()["names"].get(name) or self._index()["stems"].get(name.rpartition(".")[0] or name, [])
        return found[0] if found else None

    def _checked(self, found: list[str]) -> list[str]:
        """Return the files that were found by a path that is not whole, if no link leads out of the folders.

        Raises:
            DataError: One does.
        """
        for path in found if self._is_own else ():
            real = self._real_path(path)
            if not any(real.startswith(os.path.join(self._real_folder(root), "")) for root in self._roots):
                problem = f"leads by a link to a file outside its folder: {path}"
                remedy = f"give that folder too, as in TABLE:{os.path.dirname(real)}, or write whole paths"
                raise DataError(problem, remedy=remedy)
        return found

    def _real_path(self, path: str) -> str:
        if os.path.islink(path):
            return os.path.realpath(path)
        folder, name = os.path.split(os.path.abspath(path))
        return os.path.join(self._real_folder(folder), name)

    def _real_folder(self, folder: str) -> str:
        if folder not in self._real:
            self._real[folder] = os.path.realpath(folder)
        return self._real[folder]

    def _several(self, cell: str) -> list[str]:
        """Return the files of a cell that names several, such as ``a.png;b.png``; empty if one of them is missing."""
        parts = [part for part in _SEPARATORS.split(cell) if part.strip()]
        found = [self.find(part) for part in parts] if len(parts) > 1 else []
        return list(dict.fromkeys(path for paths in found for path in paths)) if all(found) else []

    def _is_inside(self, wanted: str) -> bool:
        paths = [os.path.normpath(os.path.join(root, wanted)) for root in self._roots]
        return any(path.startswith(os.path.join(root, "")) for path in paths for root in self._roots)

    def _direct(self, wanted: str) -> list[str]:
        for folder in self._folders:
            path = os.path.normpath(os.path.join(folder, wanted))
            if os.path.isfile(path):
                return [path]
            if os.path.isdir(path):
                return sorted(files_below(path, self._rejected, is_image_entry))
        return []

    def _elsewhere(self, wanted: str) -> list[str]:
        """Find a path that is right but for its case, or for what is in front of it."""
        by_path = self._index()["paths"]
        parts = _folded(os.path.normpath(wanted)).strip("/").split("/")
        is_foreign = wanted.startswith("/") or ":" in parts[0] or not parts[0]
        cuts = range(len(parts)) if is_foreign else range(1)
        for cut in sorted(cuts, key=lambda cut: (cut != self._cut, cut)):
            rest = "/".join(parts[cut:])
            fitting = by_path.get(rest) or [
                path
                for name, paths in (by_path.items() if "*" in rest else ())
                if fnmatch.fnmatch(name, rest)
                for path in paths
            ]
            fitting = fitting or [
                path
                for path in self._index()["parts"].get(parts[-1], [])
                if f"/{rest}/" in _folded(path) and has_image_suffix(path)
            ]
            if fitting:
                self._cut = cut
                return sorted(fitting)
        return []

    def _anywhere(self, pattern: str) -> list[str]:
        index = self._index()
        *folders, name = pattern.split("/")
        if "*" not in pattern and not folders:
            found = index["names"].get(name, [])
            return found if len(found) == 1 else []
        # the longest part without a wildcard narrows the search
        solid = max((part for part in folders if "*" not in part), key=len, default=None)
        stem = name.split("*")[0].rstrip("._-") if not folders else ""
        pool = index["parts"].get(solid, []) if solid else index["stems"].get(stem)
        if pool is None:
            pool = [path for paths in index["paths"].values() for path in paths]
        depth = len(folders) + 1
        fitting = [path for path in pool if fnmatch.fnmatch("/".join(_folded(path).split("/")[-depth:]), pattern)]
        images = [path for path in fitting if has_image_suffix(path)]
        return sorted(images or fitting)

    def _index(self) -> dict[str, dict[str, list[str]]]:
        """Return all files below the last folder by path, name, stem and each folder on the way, each `_folded`."""
        if not self._below:
            root = os.path.normpath(self._folders[-1])
            index: dict[str, dict[str, list[str]]] = {"paths": {}, "names": {}, "stems": {}, "parts": {}}
            for path in files_below(root, self._rejected, lambda entry: True):
                path = os.path.normpath(path)
                relative = _folded(os.path.relpath(path, root).replace(os.sep, "/"))
                *folders, name = relative.split("/")
                index["paths"].setdefault(relative, []).append(path)
                index["names"].setdefault(name, []).append(path)
                for stem in dict.fromkeys((name, name.rpartition(".")[0], *_stems(name))):
                    index["stems"].setdefault(stem, []).append(path)
                for folder in dict.fromkeys(folders):
                    index["parts"].setdefault(folder, []).append(path)
            self._below = index
        return self._below


def _folded(path: str) -> str:
    """Return a path in lower case, its accents as one letter each: on a Mac they are two."""
    return (path if path.isascii() else unicodedata.normalize("NFC", path)).lower()


def _stems(name: str) -> list[str]:
    """Return the beginnings of a name before each of its dots, underscores and hyphens."""
    return [name[: found.start()] for found in re.finditer(r"[._-]", name)]
