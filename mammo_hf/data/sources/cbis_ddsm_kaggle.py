"""CBIS-DDSM as JPEG, the release on Kaggle: which file is what stands in its ``dicom_info.csv`` alone."""

from __future__ import annotations

import os
from pathlib import Path

from ...errors import DataError
from ..table import Rejected
from .cbis_ddsm_files import ImageFile, describes_region, parse_name
from .delimited import read_table
from .walking import find_tables

TABLE = "dicom_info.csv"
_NEEDED = ("image_path", "PatientID", "SeriesDescription")


def jpeg_files(root: Path, rejected: list[Rejected]) -> list[ImageFile]:
    """The JPEG files that the release's table names; none where the table is not there.

    The paths begin with ``CBIS-DDSM/jpeg``, wherever the release was unpacked. A description that is empty, as some
    are, leaves it to the name: with an abnormality's number it is a region.

    Args:
        root: The collection's folder.
        rejected: Takes rows whose file is not there, or whose PatientID is none of the collection's.

    Raises:
        DataError: The table lacks a column.
    """
    found = find_tables(root, [TABLE])
    if not found:
        return []
    table = found[TABLE]
    files = []
    for number, row in enumerate(read_table(table), start=1):
        missing = [column for column in _NEEDED if column not in row]
        if missing:
            raise DataError(f"has no column '{missing[0]}'", source=table, remedy=f"needs {', '.join(_NEEDED)}")
        place = f"{table}, row {number}"
        name = parse_name(row["PatientID"])
        path = _find(row["image_path"], (Path(root), table.parent, table.parent.parent))
        if name is None:
            rejected.append(Rejected(place, "its PatientID is none of CBIS-DDSM's"))
        elif path is None:
            rejected.append(Rejected(place, "there is no such file"))
        else:
            described = describes_region(row["SeriesDescription"], None)
            files.append(ImageFile(path, name, name.number is not None if described is None else described))
    return files


def _find(image_path: str, folders: tuple[Path, ...]) -> str | None:
    parts = image_path.split("/")
    for folder in folders:
        for below in (parts, parts[1:]):
            path = folder.joinpath(*below)
            if below and path.is_file():
                return os.path.normpath(path)
    return None
