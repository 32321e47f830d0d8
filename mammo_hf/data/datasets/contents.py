"""Files of a collection: images known by their headers and bytes, tables found by name and read in any encoding.

Folder and series names of public releases are not reliable: in CBIS-DDSM's, crops are in folders of ROI masks.
"""

from __future__ import annotations

import csv
import io
import os
from collections.abc import Callable, Collection, Iterable, Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pydicom
from PIL import Image
from pydicom.uid import UncompressedTransferSyntaxes

from ...dicom import Laterality, MammogramError, Vendor, View, read_mammogram
from ...dicom.header import find_projection
from ...dicom.parsing import text
from ...errors import DataError
from ...files import is_dicom_entry, walk
from ...notes import Note
from ..collection import Rejected

_SIZE_TAGS = ["Columns", "Rows"]
_TAGS = [
    *_SIZE_TAGS,
    *("ImageLaterality", "Laterality", "PatientOrientation", "ViewCodeSequence", "ViewPosition"),
    *("Manufacturer", "Modality", "PatientAge", "PatientID", "SOPInstanceUID", "SeriesDescription", "StudyInstanceUID"),
]
# an image of two values compresses to almost nothing: run lengths take a byte for some sixty pixels, JPEG 2000 and
# JPEG-LS less
_MASK_BYTES_PER_PIXEL = 0.25
_PROBE = 1 << 16
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

    @property
    def is_region(self) -> bool:
        """Whether the description of the series says that the image is a crop or a mask."""
        words = self.series_description.lower()
        return "crop" in words or "roi mask" in words


class Contents:
    """Cache of what was asked about image files; what cannot be read is `None`, with the reason in `problems`."""

    def __init__(self) -> None:
        self._shapes: dict[str, tuple[tuple[int, int], bool] | None] = {}
        self.problems: dict[str, str] = {}

    def size(self, path: str) -> tuple[int, int] | None:
        """Return the size (rows, columns) of an image."""
        shape = self._shape(path)
        return None if shape is None else shape[0]

    def facts(self, path: str) -> Facts | None:
        """Return what the header of an image says."""
        try:
            return read_facts(path)
        except DataError as error:
            self.problems[path] = error.problem
            return None

    def is_mask(self, path: str) -> bool:
        """Return whether the image has at most two values; pixels are decoded only if the bytes cannot tell."""
        shape = self._shape(path)
        if shape is None or _has_many_values(path, *shape):
            return False
        try:
            if is_picture(path):
                return _has_two_levels(path)
            return np.unique(read_mammogram(path).pixels).size <= 2
        except MammogramError as error:
            self.problems[path] = error.problem
        except OSError:
            self.problems[path] = "the picture is damaged or cut off"
        return False

    def _shape(self, path: str) -> tuple[tuple[int, int], bool] | None:
        if path not in self._shapes:
            try:
                self._shapes[path] = read_shape(path)
            except DataError as error:
                self._shapes[path] = None
                self.problems[path] = error.problem
        return self._shapes[path]


def is_picture(path: str) -> bool:
    """Return whether the name of a file is that of a PNG, JPEG or PGM."""
    return path.lower().endswith((".png", ".jpg", ".jpeg", ".pgm"))


def read_shape(path: str) -> tuple[tuple[int, int], bool]:
    """Read the size (rows, columns) only, which is twice as fast as `read_facts`, and whether pixels are compressed.

    Raises:
        DataError: The file cannot be read or is not a DICOM image.
    """
    if is_picture(path):
        try:
            with Image.open(path) as picture:
                return (picture.height, picture.width), True
        except OSError as error:  # Pillow also raises it for a file that is not a picture
            raise DataError("is not a readable picture", source=path, remedy="fetch it again") from error
    header, size = _read_header(path, _SIZE_TAGS)
    syntax = header.file_meta.get("TransferSyntaxUID")
    return size, syntax is not None and syntax not in UncompressedTransferSyntaxes


def read_facts(path: str) -> Facts:
    """Read the header of a DICOM file, without the pixels.

    Raises:
        DataError: The file cannot be read or is not a DICOM image.
    """
    header, _ = _read_header(path, _TAGS)
    laterality, view = find_projection(header, [])
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
    )


def _read_header(path: str, tags: list[str]) -> tuple[pydicom.FileDataset, tuple[int, int]]:
    try:
        header = pydicom.dcmread(path, stop_before_pixels=True, specific_tags=tags)
        size = int(header.get("Rows") or 0), int(header.get("Columns") or 0)
    except OSError as error:
        raise DataError(f"cannot be read ({error.strerror})", source=path, remedy="check the path") from error
    except Exception as error:  # whatever a damaged header makes pydicom raise
        raise DataError("is not a readable DICOM file", source=path, remedy="fetch it again") from error
    if min(size) <= 0:
        raise DataError("is a DICOM file without an image", source=path, remedy="remove it from the data")
    return header, size


def _has_two_levels(path: str) -> bool:
    """Return whether a picture is black and white apart from the rings that a JPEG has along edges."""
    with Image.open(path) as picture:
        values = np.asarray(picture.convert("L"))
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


# Finding images below a folder, and tables by their names.

_DEEPEST = 2  # folders below the root
_SHOWN = 3


def files_below(
    root: str | Path, rejected: list[Rejected], accepts: Callable[[os.DirEntry[str]], bool] = is_dicom_entry
) -> Iterator[str]:
    """Find all files of a kind below a folder; see `mammo_hf.files.walk`.

    Args:
        root: Folder of the collection.
        rejected: List that receives the folders that cannot be listed.
        accepts: Function that decides whether an entry is wanted; by default DICOM files.
    """
    return walk(root, lambda folder, reason: rejected.append(Rejected(folder, reason)), accepts)


def find_tables(root: str | Path, names: Iterable[str]) -> dict[str, Path]:
    """Find tables by their lower-case names, in `root`, in its folder ``csv``, or up to two folders below.

    Args:
        root: Folder of the collection.
        names: Names of the tables in lower case; the case of the files' names does not matter.

    Returns:
        From the name of each table that exists to its file; the shallowest one counts.
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
        return []  # the search for images reports a folder that cannot be read


def missing_files(missing: list[str], total: int, limit: float, source: str | Path) -> list[Note]:
    """Return the note about files that tables name and that do not exist.

    Args:
        missing: Paths of the missing files.
        total: Number of files that the tables name.
        limit: Fraction of missing files above which reading stops.
        source: Table or folder, for messages.

    Raises:
        DataError: No file exists at all, or the fraction is above the limit.
    """
    if not missing:
        return []
    fraction = len(missing) / total
    shown = ", ".join(missing[:_SHOWN]) + (", ..." if len(missing) > _SHOWN else "")
    text = f"{len(missing)} of {total} files that its table names do not exist ({fraction:.0%})"
    if len(missing) == total or fraction > limit:
        raise DataError(
            f"{text}: {shown}",
            source=source,
            remedy=f"complete the download, or allow it with max_missing (now {limit:g})",
        )
    return [Note("files_missing", problem=text)]


# Delimited tables of any origin: with or without a byte order mark, UTF-8 or Latin-1, comma, semicolon or tab.

_DELIMITERS = ",;\t"


def read_text(path: str | Path) -> str:
    """Read a text file: UTF-8, with or without a byte order mark, or else Latin-1.

    Raises:
        DataError: The file cannot be read.
    """
    try:
        content = Path(path).read_bytes()
    except OSError as error:
        raise DataError(f"cannot be read ({error.strerror})", source=path, remedy="check its permissions") from error
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError:
        return content.decode("latin-1")


def read_columns(path: str | Path) -> list[str]:
    """Read the names in the first line of a table; empty if there is none."""
    return _open_table(path)[0]


def read_table(path: str | Path, keep: Collection[str] | None = None) -> list[dict[str, str]]:
    """Read the rows of a table as dicts; spaces and line breaks around a value are removed, empty rows are skipped.

    The delimiter is the one of comma, semicolon and tab that is most frequent in the first line.

    Args:
        path: Table to read.
        keep: Names of the wanted columns, as far as they exist; ``None``: all. Some tables have a hundred more than
            anybody needs, and half a million rows.

    Raises:
        DataError: The file cannot be read, has no columns, two of one name, or a row of another length.
    """
    columns, reader = _open_table(path)
    if not any(columns):
        raise DataError("has no columns", source=path, remedy="give a table whose first line names its columns")
    twice = sorted({name for name in columns if name and columns.count(name) > 1})
    if twice:
        raise DataError(f"has two columns '{twice[0]}'", source=path, remedy="rename one of them")
    kept = [(index, name) for index, name in enumerate(columns) if keep is None or name in keep]
    rows = []
    for number, cells in enumerate(reader, start=1):
        if not any(cell.strip() for cell in cells):
            continue
        if len(cells) != len(columns):
            raise DataError(
                f"has {len(cells)} values for {len(columns)} columns",
                source=f"{path}, row {number}",
                remedy="quote values that hold the delimiter",
            )
        rows.append({name: cells[index].strip() for index, name in kept})
    return rows


def _open_table(path: str | Path) -> tuple[list[str], Iterator[list[str]]]:
    text = read_text(path)
    first = text.partition("\n")[0]
    # values may hold line breaks inside quotes: only a csv reader may cut the rows
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=max(_DELIMITERS, key=first.count))
    return [name.strip() for name in next(reader, [])], reader
