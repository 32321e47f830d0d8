"""CBIS-DDSM's files: which breast, view and abnormality a folder's name stands for, whatever the download's layout.

The releases agree in one thing alone: some folder (or the file, or the header's PatientID) is called
``Mass-Training_P_00001_LEFT_CC``, with ``_1`` and so on behind it where the image shows one abnormality. In the Imaging
Data Commons 396 series carry the short form ``P_00038_LEFT_CC.dcm``, without lesion type and split.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from ..table import Rejected
from .cbis_ddsm_cases import Film, patient_name
from .walking import walk

_NAME = re.compile(
    r"(?:(mass|calc)-(training|test)_)?p_(\d+)_(left|right)_(cc|mlo)(?:_(\d+))?(?:\.dcm|\.dicom)?", re.IGNORECASE
)
_KIND = {"mass": "mass", "calc": "calcification"}
_SPLIT = {"training": "train", "test": "test"}


class Name(NamedTuple):
    """What a name says: the film; lesion type and split unless it has the short form; the abnormality's number."""

    film: Film
    kind: str | None
    split: str | None
    number: int | None

    def text(self) -> str:
        """The name as the tables' paths write it."""
        parts = [self.film.patient, {"L": "LEFT", "R": "RIGHT"}[self.film.laterality], self.film.view]
        if self.kind is not None:
            words = {"mass": "Mass", "calcification": "Calc"}, {"train": "Training", "test": "Test"}
            parts.insert(0, f"{words[0][self.kind]}-{words[1][self.split or 'train']}")
        return "_".join(parts if self.number is None else [*parts, str(self.number)])


class ImageFile(NamedTuple):
    """A DICOM file, what its path's names say, and whether they say that it shows a region of a film only."""

    path: str
    name: Name | None
    is_region: bool


def parse_name(text: str) -> Name | None:
    """Reads a folder's name, a file's name or a PatientID; ``None`` where it is none of CBIS-DDSM's."""
    found = _NAME.fullmatch(text.strip())
    if found is None:
        return None
    kind, split, patient, laterality, view, number = found.groups()
    film = Film(patient_name(int(patient)), laterality[0].upper(), view.upper())
    return Name(
        film,
        _KIND[kind.lower()] if kind else None,
        _SPLIT[split.lower()] if split else None,
        int(number) if number else None,
    )


def parse_path(path: str, below: str = "") -> ImageFile:
    """Reads a file's path; the deepest folder that says something counts.

    Args:
        path: The file.
        below: A folder above it; only what stands below is read.
    """
    name: Name | None = None
    says_region: bool | None = None
    for part in (os.path.relpath(path, below) if below else path).split(os.sep):
        name = parse_name(part) or name
        says_region = describes_region(part, says_region)
    return ImageFile(path, name, _is_region(name, says_region))


def describes_region(folder: str, before: bool | None) -> bool | None:
    """Whether a folder's name or a description says crop or mask; `before` where it says nothing."""
    words = folder.lower()
    if "full mammogram" in words:
        return False
    return True if "cropped image" in words or "roi mask" in words else before


def _is_region(name: Name | None, says_region: bool | None) -> bool:
    return says_region if says_region is not None else name is not None and name.number is not None


def named_files(root: Path, rejected: list[Rejected]) -> Iterator[ImageFile]:
    """All DICOM files below a folder, with what the names of the folders say of them.

    Args:
        root: The collection's folder.
        rejected: Takes the folders that cannot be listed.
    """
    return (parse_path(path, str(root)) for path in walk(root, rejected))
