"""CBIS-DDSM: digitised films with mass and calcification findings, masks and an official split.

The tables and the files are joined by patient, side and view, never by path text alone, so any download's layout will
do. A film that was published in both the mass and the calcification set (71 are, the very same scan) has a row for each
file, and each row carries all findings of the film: else sixteen films with a malignant lesion would pass as benign in
the other set.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from pathlib import Path

from ...errors import DataError
from ..privacy import salted_hash
from ..schema import task_list
from ..table import MammoTable, Moved, Rejected
from .cbis_ddsm_files import ImageFile, named_files, parse_name, read_dicom_list
from .cbis_ddsm_join import sort_files
from .cbis_ddsm_kaggle import jpeg_files
from .cbis_ddsm_notes import addition_notes, collection_notes, listed_regions, without_film, without_split
from .cbis_ddsm_rows import NAME, TASKS, film_rows
from .cbis_ddsm_tables import TABLES, CaseDescriptions, read_case_descriptions
from .contents import Contents
from .unlabelled import Stranger, says_region, unlabelled_rows
from .walking import find_tables

LOOKS_FOR = f"one or more of {', '.join(TABLES)}, in the folder or at most two folders below"
LICENCE = "CC BY 3.0, https://doi.org/10.7937/K9/TCIA.2016.7O02S9CY"
OFFICIAL_SPLIT = "by the four tables; patients on both sides go to training"
QUIRKS = (
    "Mass tables write breast_density, calcification tables breast density; paths hold line breaks.",
    "Region paths are swapped in some releases: a mask is told from a crop by its size and values.",
    "A film with several abnormalities is one row with all of them; it is malignant if any of them is.",
    "31 patients stand on both official sides once masses and calcifications are joined: they go to training.",
    "Density 0 stands for not assessed. Only breasts with an abnormality are published.",
)

__all__ = ["LICENCE", "LOOKS_FOR", "NAME", "OFFICIAL_SPLIT", "QUIRKS", "TASKS", "load", "recognises"]


def recognises(root: Path) -> bool:
    """Whether a folder holds one of the collection's tables, or folders named as its series are."""
    if find_tables(root, TABLES):
        return True
    folders = [*Path(root).glob("*"), *Path(root).glob("cbis_ddsm/*"), *Path(root).glob("CBIS-DDSM/*")]
    return any(parse_name(folder.name) is not None and folder.is_dir() for folder in folders)


def load(root: Path, dicom_path: str | Path | None = None, max_missing: float = 1.0) -> MammoTable:
    """Reads the collection.

    Args:
        root: The folder that holds tables and images, in any layout that names each film's folder, file or PatientID
            as the tables do.
        dicom_path: A text file of DICOM paths, one a line. Where one of them is a film of the tables it is used for
            the row; other whole images are added without labels, for pre-training.
        max_missing: Share of the tables' rows whose film may be missing; all but one by default, because parts of the
            collection are downloaded and used alone.

    Returns:
        The table. Its `notes` count what was moved, not found or left out, its `rejected` lists it.

    Raises:
        UsageError: `dicom_path` is not there.
        DataError: There is nothing of the collection or no image, or a table has a wrong column or value.
    """
    root = Path(root)
    cases = _cases(root)
    rejected: list[Rejected] = []
    contents = Contents()
    files, listed = _files(root, dicom_path, rejected)
    named, strangers = _tell_by_header(files, contents)
    if not named and len(cases.missing) == len(TABLES):
        cases = read_case_descriptions(root)  # says that there is nothing of the collection
    images = sort_files(named, contents)
    splits, moved = _splits(cases, named)
    rows, mask_counts = film_rows(images, cases.by_film(), splits, contents)
    others, left_out = unlabelled_rows(strangers, contents, source=NAME, tasks=tuple(TASKS), rejected=rejected)
    if not rows and not others:
        raise _no_image(root, cases, files)
    if listed is not None:
        left_out += listed_regions(listed, named, images, contents)
    reason = "stands on both official sides: masses and calcifications were split apart"
    hashes = {salted_hash(patient, NAME) for patient in moved}
    notes = collection_notes(cases, images, rows, moved, mask_counts)
    notes += addition_notes(listed, rows, others, left_out)
    absent = without_film(cases, images)
    if len(absent) > max_missing * len(cases.abnormalities):
        raise DataError(
            f"has no film for {len(absent)} of {len(cases.abnormalities)} table rows",
            source=root,
            remedy=f"complete the download, or allow it with max_missing (now {max_missing:g})",
        )
    rejected += [*without_split(images, splits), *absent]
    rejected += [Rejected(path, reason) for path, reason in contents.problems.items()]
    return MammoTable.from_rows(
        [*rows, *others],
        tasks=task_list(TASKS),
        salt_name=NAME,
        notes=notes,
        rejected=rejected,
        moved=[
            Moved(patient, "test", "train", reason) for patient in sorted(hashes & {row["patient"] for row in rows})
        ],
    )


def _cases(root: Path) -> CaseDescriptions:
    """The tables' rows; none without any table, so that a download serves pre-training before they are there."""
    return read_case_descriptions(root) if find_tables(root, TABLES) else CaseDescriptions((), tuple(TABLES))


def _no_image(root: Path, cases: CaseDescriptions, files: Sequence[ImageFile]) -> DataError:
    example = os.path.join(root, "Mass-Training_P_00001_LEFT_CC", "...", "1-1.dcm")
    return DataError(
        f"holds no image for the {len(cases.abnormalities)} rows of its tables ({len(files)} DICOM files found)",
        source=root,
        remedy=f"each film must lie in a folder named as in the tables, as in {example}",
    )


def _files(
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


def _tell_by_header(files: Iterable[ImageFile], contents: Contents) -> tuple[list[ImageFile], list[Stranger]]:
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


def _splits(cases: CaseDescriptions, named: Iterable[ImageFile]) -> tuple[dict[str, str], frozenset[str]]:
    """The split of each patient, and those patients who stand on both official sides.

    They go to training: what remains of the test split is then a part of the official one, so that figures on it can
    be compared, and no training case was made a test case by us. A patient of whom neither the tables nor a name says
    a side is no test patient if every table is there; if one is missing, nobody can know, and the patient has no split.
    """
    sides = cases.official_splits()
    names = [file.name for file in named if file.name is not None]
    for name in names:
        if name.split is not None:
            sides.setdefault(name.film.patient, set()).add(name.split)
    splits = {patient: "train" if "train" in found else "test" for patient, found in sides.items()}
    if not cases.missing:
        for name in names:
            splits.setdefault(name.film.patient, "unlabelled")
    return splits, frozenset(patient for patient, found in sides.items() if len(found) > 1)
