"""folder: any folder of DICOM files, everything from their headers, without labels."""

from __future__ import annotations

from pathlib import Path

from ...errors import DataError
from ..schema import TASKS as COMMON
from ..schema import task_list
from ..table import MammoTable, Rejected
from .contents import Contents
from .unlabelled import Stranger, says_region, unlabelled_rows
from .walking import walk

NAME = "folder"
LOOKS_FOR = 'to be asked for by name: load("folder", root)'
LICENCE = "the collection's own"
# the columns are there, and empty, so that such a table can stand wherever one with labels can
TASKS = {"pathology": COMMON["pathology"], "density": COMMON["density"]}
OFFICIAL_SPLIT = "none: all images are unlabelled"
QUIRKS = (
    "Patients are told apart by PatientID; an image without one is a patient of its own.",
    "Crops, masks and what is no radiograph are left out, told by modality, description and values.",
)


def recognises(root: Path) -> bool:
    """Never: a collection whose tables were mistyped would be taken for unlabelled images."""
    return False


def load(root: Path) -> MammoTable:
    """Reads the headers of all DICOM files below a folder.

    Raises:
        DataError: There is no mammogram.
    """
    rejected: list[Rejected] = []
    contents = Contents()
    strangers, problems = [], 0
    for path in walk(root, rejected):
        facts = contents.facts(path)
        if facts is None:
            problems += 1
            continue
        strangers.append(Stranger(path, facts, says_region(facts)))
    rows, left_out = unlabelled_rows(strangers, contents, source=NAME, tasks=tuple(TASKS), rejected=rejected)
    rejected += [Rejected(path, reason) for path, reason in contents.problems.items()]
    if not rows:
        raise DataError(
            f"holds no mammogram ({len(strangers) + problems} DICOM files found)", source=root, remedy="check the path"
        )
    notes = [f"{count} {what} are left out" for what, count in sorted(left_out.items()) if count]
    return MammoTable.from_rows(rows, tasks=task_list(TASKS), salt_name="private", notes=notes, rejected=rejected)
