"""folder: any folder of DICOM files, everything from their headers, without labels."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import NamedTuple

from ...dicom import Laterality
from ...errors import DataError
from ...files import walk
from ..collection import Collection, Rejected
from ..privacy import private_salt, salted_hash
from ..schema import TASKS as COMMON
from ..schema import Row, age_band, task_list
from .contents import Contents, Facts

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


def load(root: Path) -> Collection:
    """Reads the headers of all DICOM files below a folder.

    Raises:
        DataError: There is no mammogram.
    """
    rejected: list[Rejected] = []
    contents = Contents()
    strangers, problems = [], 0
    for path in walk(root, lambda *why: rejected.append(Rejected(*why))):
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
    return Collection.from_rows(rows, tasks=task_list(TASKS), salt_name="private", notes=notes, rejected=rejected)


# Images that stand in no table of labels: what their own header says makes their row, for pre-training alone.


_RADIOGRAPHS = ("", "MG", "CR", "DX", "RG", "OT")  # OT and none: films scanned or converted without saying of what


class Stranger(NamedTuple):
    """A DICOM image of which no name tells what it is, and whether something says that it is a crop or a mask."""

    path: str
    facts: Facts
    is_region: bool


def says_region(facts: Facts) -> bool:
    """Whether the series' description says that the image is a crop or a mask."""
    words = facts.series_description.lower()
    return "crop" in words or "roi mask" in words


def unlabelled_rows(
    strangers: Iterable[Stranger], contents: Contents, *, source: str, tasks: Sequence[str], rejected: list[Rejected]
) -> tuple[list[Row], Counter[str]]:
    """Rows of whole images that no table knows; all of them in the split "unlabelled".

    Patients are told apart by PatientID under this user's private salt: such images come from anywhere, and a hash
    under a published salt could be turned back by trying. Without a PatientID each image is a patient of its own.

    Args:
        strangers: The images.
        contents: Tells masks by their values.
        source: The collection's name.
        tasks: The table's tasks, all of them unknown here.
        rejected: Takes what is no mammogram and second copies.

    Returns:
        The rows, and how many "crops" and "masks" were left out.
    """
    rows: dict[str, Row] = {}
    left_out: Counter[str] = Counter()
    for path, facts, is_region in strangers:
        if facts.modality not in _RADIOGRAPHS:
            rejected.append(Rejected(path, f"is no mammogram (modality {facts.modality})"))
            continue
        if contents.is_mask(path):
            left_out["masks"] += 1
            continue
        if is_region:
            left_out["crops"] += 1
            continue
        row = _row(path, facts, source, tasks)
        if rows.setdefault(row["image_id"], row) is not row:
            rejected.append(Rejected(path, "is a second copy of another file"))
    return list(rows.values()), left_out


def _row(path: str, facts: Facts, source: str, tasks: Sequence[str]) -> Row:
    salt = private_salt()
    own = "" if facts.instance_uid and facts.patient_id else _digest(path)
    return {
        "image_id": salted_hash(facts.instance_uid or own, salt),
        "path": path,
        "patient": salted_hash(facts.patient_id or own, salt),
        "exam": salted_hash(facts.study_uid, salt) if facts.study_uid else None,
        "laterality": facts.laterality.value if facts.laterality in (Laterality.LEFT, Laterality.RIGHT) else None,
        "view": facts.view.value or None,
        "age_band": age_band(facts.age),
        "vendor": facts.vendor or None,
        "source": source,
        "split": "unlabelled",
        **dict.fromkeys(tasks),
        "findings": [],
    }


def _digest(path: str) -> str:
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
