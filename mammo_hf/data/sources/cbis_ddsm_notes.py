"""What reading CBIS-DDSM moved, did not find or left out: in words with counts, and one by one."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterable, Sequence

from ..privacy import salted_hash
from ..schema import Row
from ..table import Rejected
from .cbis_ddsm_cases import CaseDescriptions
from .cbis_ddsm_files import ImageFile
from .cbis_ddsm_join import SortedFiles
from .cbis_ddsm_rows import NAME
from .contents import Contents


def collection_notes(
    cases: CaseDescriptions,
    images: SortedFiles,
    rows: Sequence[Row],
    moved: Collection[str],
    mask_counts: Counter[str],
) -> list[str]:
    """The notes on a collection as a whole; only those that have something to say."""
    hashes = {salted_hash(patient, NAME) for patient in moved}
    moved_rows = [row for row in rows if row["patient"] in hashes]
    films = {name.film for name in images.films}
    absent = [case for case in cases.abnormalities if case.film not in films]
    unknown = sum(row["pathology"] is None for row in rows)
    twice = Counter(name.film for name in images.films)
    both = sum(count > 1 for count in twice.values())
    jpegs = sum(row["path"].lower().endswith((".jpg", ".jpeg")) for row in rows)
    notes = [
        (
            cases.missing,
            f"tables not found: {', '.join(cases.missing)}; images that only they describe have no labels (TCIA has "
            "them, the Imaging Data Commons does not: put them into the folder csv of the collection)",
        ),
        (jpegs, f"{jpegs} films are JPEG: 8 of 16 bits are left, and those with loss"),
        (
            moved,
            f"{len(moved)} patients stand on both official sides and were moved to training "
            f"({len({row['patient'] for row in moved_rows})} of them with {len(moved_rows)} images here)",
        ),
        (
            absent,
            f"{len(absent)} of {len(cases.abnormalities)} table rows have no image and are left out "
            f"({len({case.film for case in absent})} films)",
        ),
        (both, f"{both} films are there more than once (mass and calcification set); each file carries all findings"),
        (images.copies, f"{images.copies} further copies of films are not used"),
        (unknown, f"{unknown} images stand in no table: without labels, in their patient's split"),
        (mask_counts["no mask"], f"{mask_counts['no mask']} of {mask_counts['findings']} findings have no mask"),
        (
            mask_counts["masks of another size"],
            f"{mask_counts['masks of another size']} masks are left out: they do not have their film's size",
        ),
    ]
    return [text for said, text in notes if said]


def listed_regions(
    listed: Collection[str], named: Iterable[ImageFile], images: SortedFiles, contents: Contents
) -> Counter[str]:
    """How many "masks" and "crops" a list of DICOM paths names, told by content: a mask has its film's size."""
    films: dict[object, set[object]] = {}
    for name, path in images.films.items():
        films.setdefault(name.film, set()).add(path)
    counts: Counter[str] = Counter()
    regions = {file.path for files in images.regions.values() for file in files}
    for file in named:
        if file.path in listed and file.path in regions and file.name is not None:
            sizes = {contents.size(str(path)) for path in films.get(file.name.film, ())} - {None}
            is_mask = contents.size(file.path) in sizes or contents.is_mask(file.path)
            counts["masks" if is_mask else "crops"] += 1
    return counts


def addition_notes(
    listed: Collection[str] | None, rows: Sequence[Row], others: Sequence[Row], left_out: Counter[str]
) -> list[str]:
    """What became of images that no table names, and of the files of a list of DICOM paths.

    Args:
        listed: The list's paths, or ``None`` where there is no list.
        rows: The rows of the collection's own films.
        others: The rows of images of unknown patients.
        left_out: How many "crops" and "masks" are not used.
    """
    notes = []
    if others:
        notes.append(f"{len(others)} images of unknown patients added without labels, under your private salt")
    left = f"{left_out['crops']} crops, {left_out['masks']} ROI masks"
    if listed is not None:
        used = [row for row in [*rows, *others] if row["path"] in listed]
        labelled = sum(row["pathology"] is not None for row in used)
        test = sum(row["split"] == "test" for row in used)
        notes.append(
            f"list of DICOM paths: {labelled} images of the tables, {len(used) - labelled} without labels; left out "
            f"of pre-training: {left}, {test} images of test patients"
        )
    elif left_out:
        notes.append(f"{left} of unknown patients are left out")
    return notes


def without_split(images: SortedFiles, splits: Collection[str]) -> list[Rejected]:
    """Films of patients of whom nothing says on which official side they stand."""
    reason = "split unknown: its official split stands in none of the tables that are there"
    return [Rejected(path, reason) for name, path in images.films.items() if name.film.patient not in splits]


def without_film(cases: CaseDescriptions, images: SortedFiles) -> list[Rejected]:
    """Rows of the tables whose film is not there, named by table and row number."""
    films = {name.film for name in images.films}
    reason = "no image of this patient, side and view is there"
    return [Rejected(case.place, reason) for case in cases.abnormalities if case.film not in films]
