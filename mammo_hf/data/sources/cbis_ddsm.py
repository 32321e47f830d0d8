"""CBIS-DDSM: digitised films with mass and calcification findings, masks and an official split.

The tables and the files are joined by patient, side and view, never by path text alone, so any download's layout will
do. A film that was published in both the mass and the calcification set (71 are, the very same scan) has a row for each
file, and each row carries all findings of the film: else sixteen films with a malignant lesion would pass as benign in
the other set.
"""

from __future__ import annotations

from pathlib import Path

from ...errors import DataError
from ..privacy import salted_hash
from ..schema import task_list
from ..table import MammoTable, Moved, Rejected
from .cbis_ddsm_cases import CaseDescriptions
from .cbis_ddsm_files import parse_name
from .cbis_ddsm_gathering import gather_files, no_image, tell_by_header
from .cbis_ddsm_join import sort_files
from .cbis_ddsm_notes import addition_notes, collection_notes, listed_regions, without_film, without_split
from .cbis_ddsm_rows import NAME, TASKS, film_rows
from .cbis_ddsm_sides import sides_of_patients
from .cbis_ddsm_tables import TABLES, read_case_descriptions
from .contents import Contents
from .unlabelled import unlabelled_rows
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
    files, listed = gather_files(root, dicom_path, rejected)
    named, strangers = tell_by_header(files, contents)
    if not named and len(cases.missing) == len(TABLES):
        cases = read_case_descriptions(root)  # says that there is nothing of the collection
    images = sort_files(named, contents)
    splits, moved = sides_of_patients(cases, named)
    rows, mask_counts = film_rows(images, cases.by_film(), splits, contents)
    others, left_out = unlabelled_rows(strangers, contents, source=NAME, tasks=tuple(TASKS), rejected=rejected)
    if not rows and not others:
        raise no_image(root, cases, files)
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
