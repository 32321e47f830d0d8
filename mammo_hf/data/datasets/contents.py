"""What an image file is by its content: its size, whether it can be a mask, whose it is; without decoding its pixels.

Folder and series names of public releases are not to be trusted: in CBIS-DDSM's, crops lie in folders of ROI masks.
"""

from __future__ import annotations

import csv
import io
import os
from collections.abc import Collection, Iterable
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

_SIZE_TAGS = ["Columns", "Rows"]
_TAGS = [
    *_SIZE_TAGS,
    *("ImageLaterality", "Laterality", "PatientOrientation", "ViewCodeSequence", "ViewPosition"),
    *("Manufacturer", "Modality", "PatientAge", "PatientID", "SOPInstanceUID", "SeriesDescription", "StudyInstanceUID"),
]
# two values squeeze to almost nothing: run lengths take a byte for some sixty pixels, JPEG 2000 and JPEG-LS less
_MASK_BYTES_PER_PIXEL = 0.25
_PROBE = 1 << 16
_SMALL = 1 << 16  # below, the header is no small part of the file, and decoding is cheap


class Shape(NamedTuple):
    """The size of an image as (rows, columns), and whether its pixels are compressed."""

    size: tuple[int, int]
    compressed: bool


class Facts(NamedTuple):
    """What a header says of an image that nothing else tells about; texts are empty where absent."""

    modality: str
    laterality: Laterality
    view: View
    series_description: str
    patient_id: str
    study_uid: str
    instance_uid: str
    age: str = ""
    vendor: str = ""


class Contents:
    """Reads of each file what is asked, once. What cannot be read is `None`, with the reason in `problems`."""

    def __init__(self) -> None:
        self._shapes: dict[str, Shape | None] = {}
        self.problems: dict[str, str] = {}

    def size(self, path: str) -> tuple[int, int] | None:
        """(rows, columns) of an image."""
        shape = self._shape(path)
        return None if shape is None else shape.size

    def facts(self, path: str) -> Facts | None:
        """All facts of an image's header."""
        try:
            return read_facts(path)
        except DataError as error:
            self.problems[path] = error.problem
            return None

    def is_mask(self, path: str) -> bool:
        """Whether the image has at most two values. Pixels are decoded only where the bytes cannot tell."""
        shape = self._shape(path)
        if shape is None or _cannot_have_two_values(path, shape):
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

    def _shape(self, path: str) -> Shape | None:
        if path not in self._shapes:
            try:
                self._shapes[path] = read_shape(path)
            except DataError as error:
                self._shapes[path] = None
                self.problems[path] = error.problem
        return self._shapes[path]


def is_picture(path: str) -> bool:
    """Whether a file's name is that of a PNG, JPEG or PGM."""
    return path.lower().endswith((".png", ".jpg", ".jpeg", ".pgm"))


def read_shape(path: str) -> Shape:
    """Reads the size alone, which is twice as quick as `read_facts`.

    Raises:
        DataError: The file cannot be read or is no DICOM image.
    """
    if is_picture(path):
        try:
            with Image.open(path) as picture:
                return Shape((picture.height, picture.width), True)
        except OSError as error:  # pillow's for what is no picture, too
            raise DataError("is no readable picture", source=path, remedy="fetch it again") from error
    header, size = _read_header(path, _SIZE_TAGS)
    syntax = header.file_meta.get("TransferSyntaxUID")
    return Shape(size, syntax is not None and syntax not in UncompressedTransferSyntaxes)


def read_facts(path: str) -> Facts:
    """Reads a header, without the pixels.

    Raises:
        DataError: The file cannot be read or is no DICOM image.
    """
    header, _ = _read_header(path, _TAGS)
    laterality, view = find_projection(header, [])
    return Facts(
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
        raise DataError("is no readable DICOM file", source=path, remedy="fetch it again") from error
    if min(size) <= 0:
        raise DataError("is a DICOM file without an image", source=path, remedy="remove it from the data")
    return header, size


def _has_two_levels(path: str) -> bool:
    """Whether a picture is black and white but for the rings that a JPEG has along edges."""
    with Image.open(path) as picture:
        values = np.asarray(picture.convert("L"))
    peak = int(values.max())
    between = np.count_nonzero((values > peak * 0.15) & (values < peak * 0.85))
    return bool(between <= 0.005 * values.size)


def _cannot_have_two_values(path: str, shape: Shape) -> bool:
    try:
        length = os.path.getsize(path)
        if length < _SMALL:
            return False
        if shape.compressed:
            return length > _MASK_BYTES_PER_PIXEL * shape.size[0] * shape.size[1]
        # two values of one or two bytes each show at most four different bytes, wherever one looks in the pixels,
        # and in a native file nearly every byte is a pixel's
        with open(path, "rb") as file:
            for share in (0.5, 0.25, 0.75):
                file.seek(int(share * length))
                if np.unique(np.frombuffer(file.read(min(_PROBE, length // 8)), np.uint8)).size > 4:
                    return True
    except OSError:
        return True
    return False


# Finding a table by its name, and counting what is not there.


_DEEPEST = 2
_SHOWN = 3


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


# Delimited tables of any origin: with or without a byte order mark, UTF-8 or Latin-1, comma, semicolon or tab.


_DELIMITERS = ",;\t"


def read_text(path: str | Path) -> str:
    """A file's text: UTF-8, with or without a byte order mark, or else Latin-1.

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
    """The names in a table's first line; empty where there is none."""
    text = read_text(path)
    return [name.strip() for name in next(csv.reader(io.StringIO(text, newline=""), delimiter=_delimiter(text)), [])]


def read_table(path: str | Path, keep: Collection[str] | None = None) -> list[dict[str, str]]:
    """A table's rows, one dict a row; blanks and line breaks around a value are cut off, empty rows are skipped.

    The delimiter is the one of comma, semicolon and tab that stands most often in the first line.

    Args:
        path: The table.
        keep: The columns that are wanted, those of them that are there; ``None``: all. Some tables have a hundred more
            than anybody asks for, and half a million rows.

    Raises:
        DataError: The file cannot be read, has no columns, two of one name, or a row of another length.
    """
    text = read_text(path)
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=_delimiter(text))
    columns = [name.strip() for name in next(reader, [])]
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


def _delimiter(text: str) -> str:
    first = text.partition("\n")[0]
    return max(_DELIMITERS, key=first.count)
