"""CBIS-DDSM's files gathered: those below the folder and those of a list, told by their names or by their headers."""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from pathlib import Path

from ...errors import DataError, UsageError
from ..table import Rejected
from .cbis_ddsm_cases import CaseDescriptions
from .cbis_ddsm_files import ImageFile, named_files, parse_name, parse_path
from .cbis_ddsm_kaggle import jpeg_files
from .contents import Contents
from .unlabelled import Stranger, says_region


def gather_files(
    root: Path, dicom_path: str | Path | None, rejected: list[Rejected]
) -> tuple[list[ImageFile], frozenset[str] | None]:
    """The files below `root`, after those of the list, and the list's paths; a file that is in both comes once."""
    files = [*named_files(root, rejected), *jpeg_files(root, rejected)]
    if dicom_path is None:
        return files, None
    listed = read_dicom_list(dicom_path, root, rejected)
    known = {os.path.realpath(file.path) for file in listed}
    files = [*listed, *(file for file in files if os.path.realpath(file.path) not in known)]
    return files, frozenset(file.path for file in listed)


def tell_by_header(files: Iterable[ImageFile], contents: Contents) -> tuple[list[ImageFile], list[Stranger]]:
    """Parts files whose path or PatientID says what they are from those of which neither does."""
    named, strangers = [], []
    for file in files:
        if file.name is not None:
            named.append(file)
            continue
        facts = contents.facts(file.path)
        if facts is None:
            continue
        name = parse_name(facts.patient_id)
        is_region = file.is_region or says_region(facts)
        if name is None:
            strangers.append(Stranger(file.path, facts, is_region))
        else:
            named.append(ImageFile(file.path, name, is_region or name.number is not None))
    return named, strangers


def read_dicom_list(dicom_path: str | Path, root: Path, rejected: list[Rejected]) -> list[ImageFile]:
    """Reads a text file of DICOM paths.

    One path a line, absolute or relative to the text file (or else to `root`); blank lines and lines that begin with
    ``#`` are skipped.

    Args:
        dicom_path: The text file.
        root: The collection's folder.
        rejected: Takes the paths where there is no file.

    Raises:
        UsageError: The text file is not there.
        DataError: It cannot be read as text, or names no file that is there.
    """
    source = Path(dicom_path)
    if not source.is_file():
        raise UsageError("no such file", source=source, remedy="--dicom_path takes a text file of DICOM paths")
    try:
        lines = [line.strip() for line in source.read_text(encoding="utf-8-sig").splitlines()]
    except (OSError, UnicodeDecodeError) as error:
        raise DataError("cannot be read as text", source=source, remedy="give one DICOM path a line") from error
    files: dict[str, ImageFile] = {}
    for number, line in enumerate(lines, start=1):
        if not line or line.startswith("#"):
            continue
        places = [os.path.normpath(folder / line) for folder in (source.parent, root)]
        path = next((place for place in places if os.path.isfile(place)), None)
        if path is None:
            rejected.append(Rejected(places[0], f"line {number} of {source.name} names it, but there is no such file"))
        else:
            below = str(root) if Path(path).is_relative_to(root) else ""
            files.setdefault(os.path.realpath(path), parse_path(path, below))
    if not files:
        raise DataError("names no file that is there", source=source, remedy="give one DICOM path a line")
    return list(files.values())


def no_image(root: Path, cases: CaseDescriptions, files: Sequence[ImageFile]) -> DataError:
    """The error for a folder of which no image belongs to the tables."""
    example = os.path.join(root, "Mass-Training_P_00001_LEFT_CC", "...", "1-1.dcm")
    return DataError(
        f"holds no image for the {len(cases.abnormalities)} rows of its tables ({len(files)} DICOM files found)",
        source=root,
        remedy=f"each film must lie in a folder named as in the tables, as in {example}",
    )
