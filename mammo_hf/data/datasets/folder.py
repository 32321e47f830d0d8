"""Source folder: any folder or list of images without labels; everything that is known is in their headers."""

from __future__ import annotations

import hashlib
import os
from collections import Counter
from collections.abc import Collection as AnyCollection
from collections.abc import Iterable, Sequence
from pathlib import Path

from ...dicom import Laterality
from ...errors import DataError
from ...notes import Note
from ..collection import Collection, Rejected
from ..privacy import PRIVATE, private_salt, salted_hash
from ..schema import TASKS as COMMON
from ..schema import Row, age_band, task_list
from ..terms import OWN_IMAGES, Terms, united
from .contents import Contents, Facts, files_below, has_picture_suffix, is_image_entry, read_list
from .tables import SUFFIXES as TABLE_SUFFIXES

NAME = "folder"
OTHERS = "images of other parts of the body, and single projections and slices of a tomosynthesis"
LOOKS_FOR = "images of any kind, DICOM, PNG, JPEG, TIFF or PGM, and no tables of another source"
LICENCE = "the collection's own"
# the columns exist, and are empty, so that the collection can be used wherever one with labels can
TASKS = {"pathology": COMMON["pathology"], "density": COMMON["density"]}
OFFICIAL_SPLIT = "none: all images are unlabelled"
QUIRKS = (
    "Patients are distinguished by PatientID; an image without one, as every picture, counts as a patient of its own.",
    "Crops, masks and other modalities are left out, recognised by modality, description and values.",
)
_RADIOGRAPHS = ("", "MG", "CR", "DX", "RG", "OT")  # OT and none: films scanned or converted without saying of what


def recognises(root: Path) -> bool:
    """Return False: this source is for folders that no other one recognises; `load` then asks `has_images`."""
    return False


def has_images(root: Path) -> bool:
    """Return whether there is an image below a folder."""
    return next(files_below(root, [], is_image_entry), None) is not None


def load(
    root: Path,
    files: Iterable[str | Path] | None = None,
    use_descriptions: bool = True,
    any_anatomy: bool = False,
) -> Collection:
    """Read the headers of all images below a folder, or of the files of a list.

    Args:
        root: Folder of the images.
        files: Images to read, DICOM or pictures; ``None``: all images below the folder.
        use_descriptions: Whether side and view may be taken from free text of a header.
        any_anatomy: Whether images are taken that are not of a breast by their header.

    Returns:
        The collection; it is empty if every image is of something else, which its notes say.

    Raises:
        DataError: There is no mammogram.
    """
    rejected: list[Rejected] = []
    contents = Contents(use_descriptions=use_descriptions, any_anatomy=any_anatomy)
    paths = files_below(root, rejected, is_image_entry) if files is None else dict.fromkeys(map(str, files))
    found = [_facts(path, contents) for path in paths]
    images = [facts for facts in found if facts is not None]
    rows, left_out = unlabelled_rows(images, contents, source=NAME, tasks=tuple(TASKS), rejected=rejected)
    rejected += contents.problems.values()
    if not rows and not left_out[OTHERS]:
        what = "images found" if files is None else "files given"
        raise DataError(f"holds no mammogram ({len(found)} {what})", source=root, remedy="check the path")
    notes = [Note("images_left_out", count=count, kind=kind) for kind, count in sorted(left_out.items()) if count]
    nameless = sum(not facts.patient_id for facts in images)
    if nameless:
        notes.append(Note("images_without_patient", count=nameless))
    tables = _tables_in(root) if files is None else []
    if tables:
        notes.append(Note("tables_unread", tables=", ".join(tables)))
    return Collection.from_rows(rows, tasks=task_list(TASKS), salt_name=PRIVATE, notes=notes, rejected=rejected)


def _tables_in(root: Path) -> list[str]:
    names = sorted(path.name for path in Path(root).iterdir() if path.suffix.lower() in TABLE_SUFFIXES)
    return names[:3] + (["..."] if len(names) > 3 else [])


def with_listed_images(collection: Collection, dicom_path: str | Path, **header: bool) -> Collection:
    """Add the images of a list to a collection, without labels, for pre-training.

    Args:
        collection: Collection of any source; images that it has already are not added.
        dicom_path: Text file with one path per line, as for `mammo_hf.data.datasets.contents.read_list`.
        header: Settings of reading headers, as for `mammo_hf.data.datasets.contents.read_facts`.

    Raises:
        UsageError: The text file does not exist.
        DataError: It names no file that exists.
    """
    rejected: list[Rejected] = []
    contents = Contents(**header)
    known = set(map(os.path.realpath, collection.column("path")))
    listed = [path for path in read_list(dicom_path, collection.root or ".", rejected) if path not in known]
    images = [facts for path in listed if (facts := _facts(path, contents)) is not None]
    tasks = [task["name"] for task in collection.tasks]
    rows, _ = unlabelled_rows(images, contents, source=NAME, tasks=tasks, rejected=rejected)
    rejected += contents.problems.values()
    result = collection.with_rows(rows, rejected).with_notes(Note("images_added", count=len(rows)))
    # nobody states the terms of what is elsewhere
    root = os.path.realpath(collection.root or ".")
    if any(os.path.commonpath([root, os.path.realpath(path)]) != root for path in listed):
        result.terms = united(collection.terms, (Terms(OWN_IMAGES, ""),))
    return result


def _facts(path: str, contents: Contents) -> Facts | None:
    if has_picture_suffix(path):  # it has no header
        return None if contents.size(path) is None else Facts(path)
    return contents.facts(path)


def unlabelled_rows(
    images: Iterable[Facts],
    contents: Contents,
    *,
    source: str,
    tasks: Sequence[str],
    rejected: list[Rejected],
    regions: AnyCollection[str] = (),
) -> tuple[list[Row], Counter[str]]:
    """Make the rows of images that no table of labels names, all of them in the split "unlabelled".

    Patients are distinguished by PatientID under this user's private salt: such images may come from anywhere, and a
    hash under a published salt could be reversed by trying. Without a PatientID each image is a patient of its own.

    Args:
        images: Facts of the images.
        contents: Cache that recognises masks by their values.
        source: Name of the collection.
        tasks: Names of the collection's tasks, all of them unknown here.
        rejected: List that receives other modalities and second copies.
        regions: Paths that are known to be crops or masks.

    Returns:
        The rows, and how many "crops", "masks" and images of something else were left out.
    """
    rows: dict[str, Row] = {}
    left_out: Counter[str] = Counter()
    for facts in images:
        if facts.modality not in _RADIOGRAPHS:
            rejected.append(Rejected(facts.path, f"is not a mammogram (modality {facts.modality})", "not_a_breast"))
        elif facts.problem:
            rejected.append(Rejected(facts.path, facts.problem, "not_a_breast"))
            left_out[OTHERS] += 1
        elif contents.is_mask(facts.path):
            left_out["masks"] += 1
        elif facts.is_region or facts.path in regions:
            left_out["crops"] += 1
        else:
            row = _row(facts, source, tasks)
            if rows.setdefault(row["image_id"], row) is not row:
                rejected.append(Rejected(facts.path, "is a second copy of another file"))
    return list(rows.values()), left_out


def _row(facts: Facts, source: str, tasks: Sequence[str]) -> Row:
    salt = private_salt()
    own = "" if facts.instance_uid and facts.patient_id else _digest(facts.path)
    return {
        "image_id": salted_hash(facts.instance_uid or own, salt),
        "path": facts.path,
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
