"""CBIS-DDSM: digitised films with mass and calcification findings, masks and an official split.

The tables and the files are joined by patient, side and view, never by path text alone, so any download's layout will
do. A film that was published in both the mass and the calcification set (71 are, the very same scan) has a row for each
file, and each row carries all findings of the film: else sixteen films with a malignant lesion would pass as benign in
the other set.
"""

from __future__ import annotations

import csv
import io
import os
import re
from collections import Counter
from collections.abc import Collection as AnyCollection
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

from ...errors import DataError, UsageError
from ...files import walk
from ..collection import Collection, Moved, Rejected, gravest
from ..findings import finding as make_finding
from ..privacy import salted_hash
from ..schema import TASKS as COMMON
from ..schema import Row, task_list
from .contents import Contents, find_tables, read_table, read_text
from .folder import Stranger, says_region, unlabelled_rows

# CBIS-DDSM's cases: films, the abnormalities that they show, and on which official side a patient stands.


class Film(NamedTuple):
    """What one film shows: the breast of a patient in one view."""

    patient: str
    laterality: str
    view: str


class Abnormality(NamedTuple):
    """One row of a table; `place` names it in messages by its table and number, without the patient."""

    kind: str
    split: str
    film: Film
    number: int
    pathology: str
    density: str | None
    place: str
    birads: str


@dataclass(frozen=True)
class CaseDescriptions:
    """The abnormalities of all tables that are there, and the names of the tables that are not."""

    abnormalities: tuple[Abnormality, ...]
    missing: tuple[str, ...]

    def official_splits(self) -> dict[str, set[str]]:
        """From each patient to the official splits that they stand in: usually one, for 31 patients two."""
        splits: dict[str, set[str]] = {}
        for row in self.abnormalities:
            splits.setdefault(row.film.patient, set()).add(row.split)
        return splits

    def by_film(self) -> dict[Film, list[Abnormality]]:
        """The abnormalities that each film shows, of masses and calcifications together."""
        films: dict[Film, list[Abnormality]] = {}
        for row in self.abnormalities:
            films.setdefault(row.film, []).append(row)
        return films


def patient_name(number: int) -> str:
    """The patient's name as the tables write it: ``P_`` and five digits."""
    return f"P_{number:05d}"


# CBIS-DDSM's four case description tables: one row an abnormality, with its pathology and the film that shows it.
#
# Lee et al., "A curated mammography data set for use in computer-aided detection and diagnosis research",
# Scientific Data 4:170177 (2017).


TABLES = {
    "mass_case_description_train_set.csv": ("mass", "train"),
    "mass_case_description_test_set.csv": ("mass", "test"),
    "calc_case_description_train_set.csv": ("calcification", "train"),
    "calc_case_description_test_set.csv": ("calcification", "test"),
}


"""From a table's file name to the kind of its abnormalities and its official split."""


_PATHOLOGY = {"MALIGNANT": "malignant", "BENIGN": "benign", "BENIGN_WITHOUT_CALLBACK": "benign"}
_DENSITY = {"0": None, "1": "a", "2": "b", "3": "c", "4": "d"}  # 0 stands in two rows: not assessed
_ASSESSMENT = ("0", "1", "2", "3", "4", "5")
_LATERALITY = {"LEFT": "L", "RIGHT": "R"}
_VIEW = {"CC": "CC", "MLO": "MLO"}
_PATIENT = re.compile(r"P_(\d+)")
# the mass tables write `breast_density`, the calcification tables `breast density`
_NEEDED = (
    "patient id",
    "left or right breast",
    "image view",
    "abnormality id",
    "breast density",
    "pathology",
    "assessment",
)


def read_case_descriptions(root: Path) -> CaseDescriptions:
    """Reads every table that is there.

    Args:
        root: The collection's folder.

    Raises:
        DataError: There is none of the four tables, or one has a wrong column or value: names table, row and column.
    """
    found = find_tables(root, TABLES)
    if not found:
        raise DataError(
            f"none of CBIS-DDSM's tables is there: {', '.join(TABLES)}",
            source=root,
            remedy="put them into that folder, into its folder csv, or at most two folders below",
        )
    rows: dict[tuple[str, Film, int], Abnormality] = {}
    for name in TABLES:
        for row in _read_table(found[name], *TABLES[name]) if name in found else ():
            before = rows.setdefault((row.kind + row.split, row.film, row.number), row)
            if before.pathology != row.pathology:
                raise DataError(
                    f"gives the same abnormality another pathology than {before.place}",
                    source=row.place,
                    remedy="restore the official table",
                )
    missing = tuple(name for name in TABLES if name not in found)
    return CaseDescriptions(tuple(rows.values()), missing)


def _read_table(path: Path, kind: str, split: str) -> Iterator[Abnormality]:
    # the official tables hold line breaks inside quoted paths: only a csv reader may cut the rows
    reader = csv.reader(io.StringIO(read_text(path), newline=""))
    columns = [column.strip().lower().replace("_", " ") for column in next(reader, [])]
    missing = [column for column in _NEEDED if column not in columns]
    if missing:
        raise DataError(f"has no column '{missing[0]}'", source=path, remedy=f"needs the columns {', '.join(_NEEDED)}")
    where = [columns.index(column) for column in _NEEDED]
    for number, cells in enumerate((cells for cells in reader if cells), start=1):
        place = f"{path}, row {number}"
        if len(cells) <= max(where):
            raise DataError("has too few columns", source=place, remedy="restore the official table")
        patient, laterality, view, abnormality, density, pathology, assessment = (
            cells[index].strip() for index in where
        )
        found = _PATIENT.fullmatch(patient)
        if found is None:
            raise _wrong(place, "patient_id", "'P_' and a number")
        if not abnormality.isdecimal():
            raise _wrong(place, "abnormality id", "a whole number")
        if density not in _DENSITY:
            raise _wrong(place, "breast density", f"one of {', '.join(_DENSITY)}")
        if assessment not in _ASSESSMENT:
            raise _wrong(place, "assessment", f"one of {', '.join(_ASSESSMENT)}")
        film = Film(
            patient_name(int(found[1])),
            _look_up(_LATERALITY, laterality, place, "left or right breast"),
            _look_up(_VIEW, view, place, "image view"),
        )
        label = _look_up(_PATHOLOGY, pathology, place, "pathology")
        yield Abnormality(kind, split, film, int(abnormality), label, _DENSITY[density], place, assessment)


def _look_up(words: dict[str, str], value: str, place: str, column: str) -> str:
    if value.upper() not in words:
        raise _wrong(place, column, f"one of {', '.join(words)}")
    return words[value.upper()]


def _wrong(place: str, column: str, rule: str) -> DataError:
    return DataError(f"column '{column}' must be {rule}", source=place, remedy="restore the official table")


# CBIS-DDSM's files: which breast, view and abnormality a folder's name stands for, whatever the download's layout.
#
# The releases agree in one thing alone: some folder (or the file, or the header's PatientID) is called ``Mass-
# Training_P_00001_LEFT_CC``, with ``_1`` and so on behind it where the image shows one abnormality. In the Imaging
# Data Commons 396 series carry the short form ``P_00038_LEFT_CC.dcm``, without lesion type and split.


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
    return (parse_path(path, str(root)) for path in walk(root, lambda *why: rejected.append(Rejected(*why))))


# CBIS-DDSM as JPEG, the release on Kaggle: which file is what stands in its ``dicom_info.csv`` alone.


TABLE = "dicom_info.csv"
_KAGGLE_COLUMNS = ("image_path", "PatientID", "SeriesDescription")


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
        missing = [column for column in _KAGGLE_COLUMNS if column not in row]
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


# CBIS-DDSM's files gathered: those below the folder and those of a list, told by their names or by their headers.


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


# CBIS-DDSM's files told apart: which file is the film, and which region file is the mask of which abnormality.


@dataclass
class SortedFiles:
    """The collection's files: one path a film file's name, the region files of each film, and how many were copies."""

    films: dict[Name, str] = field(default_factory=dict)
    regions: dict[Film, list[ImageFile]] = field(default_factory=dict)
    copies: int = 0


def sort_files(files: Iterable[ImageFile], contents: Contents) -> SortedFiles:
    """Tells films from regions.

    Args:
        files: Files with a name, the preferred ones first.
        contents: Asked only where several files claim to be the same film.
    """
    result = SortedFiles()
    claims: dict[Name, list[ImageFile]] = {}
    for file in files:
        assert file.name is not None
        if file.is_region:
            result.regions.setdefault(file.name.film, []).append(file)
        else:
            claims.setdefault(file.name._replace(number=None), []).append(file)
    for name, claimants in claims.items():
        film = claimants[0] if len(claimants) == 1 else _largest_with_grey(claimants, contents)
        result.films[name] = film.path
        for other in claimants:
            if other is film:
                continue
            if contents.size(other.path) == contents.size(film.path) and not contents.is_mask(other.path):
                result.copies += 1
            else:
                result.regions.setdefault(name.film, []).append(other)
    return result


def _largest_with_grey(claimants: Sequence[ImageFile], contents: Contents) -> ImageFile:
    """The film among files of one folder: no mask, and no smaller than any other; the first of equals."""

    def area(file: ImageFile) -> int:
        size = contents.size(file.path)
        return 0 if size is None else size[0] * size[1]

    return max(claimants, key=lambda file: (area(file) > 0 and not contents.is_mask(file.path), area(file)))


def region_files(finding: Abnormality, findings: Sequence[Abnormality], regions: Sequence[ImageFile]) -> list[str]:
    """The region files that belong to one abnormality of a film: its crop and its mask, in no particular order.

    A short name gives no lesion type, and some layouts give no number: such a file belongs to an abnormality only if
    no other of the same film can claim it.

    Args:
        finding: The abnormality.
        findings: All abnormalities of the film, `finding` among them.
        regions: All region files of the film.
    """
    exact = [file.path for file in regions if _fits(file, finding, exactly=True)]
    if exact:
        return exact
    rivals = [
        other
        for other in findings
        if other is not finding and not any(_fits(file, other, exactly=True) for file in regions)
    ]
    return [
        file.path
        for file in regions
        if _fits(file, finding, exactly=False) and not any(_fits(file, other, exactly=False) for other in rivals)
    ]


def _fits(file: ImageFile, finding: Abnormality, *, exactly: bool) -> bool:
    name = file.name
    assert name is not None
    loose = () if exactly else (None,)
    return name.kind in (finding.kind, *loose) and name.number in (finding.number, *loose)


def choose_mask(film: str, regions: Sequence[str], contents: Contents) -> tuple[str | None, bool]:
    """The mask among an abnormality's region files, by content: it has the film's size, a crop is smaller.

    Args:
        film: The film's path.
        regions: The region files' paths.
        contents: Reads the headers; pixels only where several files have the film's size, or none has.

    Returns:
        The mask's path or ``None``, and whether there is a mask that does not have the film's size.
    """
    size = contents.size(film) if regions else None
    if size is None:
        return None, False
    candidates = [path for path in regions if contents.size(path) == size]
    if len(candidates) > 1:
        candidates = [path for path in candidates if contents.is_mask(path)]
    if candidates:
        return candidates[0], False
    return None, any(contents.is_mask(path) for path in regions)


# On which side each of CBIS-DDSM's patients stands, by its tables and by the names of its series.


def sides_of_patients(cases: CaseDescriptions, named: Iterable[ImageFile]) -> tuple[dict[str, str], frozenset[str]]:
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


# CBIS-DDSM's rows: a film file, the findings of its film with their masks, and the labels that follow from them.


NAME = "cbis-ddsm"
TASKS = {
    "pathology": COMMON["pathology"],
    "density": COMMON["density"],
    "abnormality": ("mass", "calcification", "both"),
    "birads": ("1", "2", "0", "3", "4", "5"),
}


def film_rows(
    files: SortedFiles, by_film: Mapping[Film, Sequence[Abnormality]], splits: Mapping[str, str], contents: Contents
) -> tuple[list[Row], Counter[str]]:
    """A row for each film file whose patient has a split and whose header can be read where it was needed.

    Args:
        files: The collection's files.
        by_film: The abnormalities of each film.
        splits: The split of each patient.
        contents: Reads headers, to tell masks from crops.

    Returns:
        The rows in the order of the films' names, and counts of "findings", those with "no mask" and those whose
        only "masks of another size" cannot be laid over the film.
    """
    rows = []
    counts: Counter[str] = Counter()
    for name in sorted(files.films, key=Name.text):
        if name.film.patient not in splits:
            continue
        path = files.films[name]
        findings = by_film.get(name.film, ())
        entries = _findings(path, findings, files, contents, counts)
        labels = film_labels(findings)
        if not by_film:  # no table at all: then the name is what is left to tell the lesion type
            labels["abnormality"] = name.kind
        if path in contents.problems:
            continue
        rows.append(
            {
                "image_id": salted_hash(_official_name(name, findings, files), NAME),
                "path": path,
                "patient": salted_hash(name.film.patient, NAME),
                "exam": salted_hash(f"{name.film.patient} exam", NAME),  # DDSM has one examination a patient
                "laterality": name.film.laterality,
                "view": name.film.view,
                "source": NAME,
                "split": splits[name.film.patient],
                **labels,
                "findings": entries,
            }
        )
    return rows, counts


def film_labels(findings: Iterable[Abnormality]) -> dict[str, str | None]:
    """The labels of a film: malignant if any finding is, the gravest BI-RADS counts, a density only if all agree.

    Args:
        findings: All abnormalities of the film, of both kinds; none for a film that stands in no table.
    """
    findings = list(findings)
    if not findings:
        return dict.fromkeys(TASKS)
    densities = {finding.density for finding in findings} - {None}
    kinds = {finding.kind for finding in findings}
    return {
        "pathology": "malignant" if any(finding.pathology == "malignant" for finding in findings) else "benign",
        "density": densities.pop() if len(densities) == 1 else None,
        "abnormality": kinds.pop() if len(kinds) == 1 else "both",
        "birads": gravest([finding.birads for finding in findings], TASKS["birads"]),
    }


def _findings(
    path: str, findings: Sequence[Abnormality], files: SortedFiles, contents: Contents, counts: Counter[str]
) -> list[dict[str, Any]]:
    entries = []
    for finding in findings:
        candidates = region_files(finding, findings, files.regions.get(finding.film, []))
        mask, is_other_size = choose_mask(path, candidates, contents)
        counts["findings"] += 1
        counts["masks of another size" if is_other_size else "no mask"] += mask is None
        entries.append(make_finding(finding.kind, finding.pathology, mask_path=mask))
    return entries


def _official_name(name: Name, findings: Iterable[Abnormality], files: SortedFiles) -> str:
    """The film's name in the tables also where the file has the short form: one image_id in every release."""
    if name.kind is None:
        others = {(other.kind, other.split) for other in files.films if other.film == name.film}
        free = {(finding.kind, finding.split) for finding in findings} - others
        if len(free) == 1:
            kind, split = free.pop()
            name = name._replace(kind=kind, split=split)
    return name.text()


# What reading CBIS-DDSM moved, did not find or left out: in words with counts, and one by one.


def collection_notes(
    cases: CaseDescriptions,
    images: SortedFiles,
    rows: Sequence[Row],
    moved: AnyCollection[str],
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
    listed: AnyCollection[str], named: Iterable[ImageFile], images: SortedFiles, contents: Contents
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
    listed: AnyCollection[str] | None, rows: Sequence[Row], others: Sequence[Row], left_out: Counter[str]
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


def without_split(images: SortedFiles, splits: AnyCollection[str]) -> list[Rejected]:
    """Films of patients of whom nothing says on which official side they stand."""
    reason = "split unknown: its official split stands in none of the tables that are there"
    return [Rejected(path, reason) for name, path in images.films.items() if name.film.patient not in splits]


def without_film(cases: CaseDescriptions, images: SortedFiles) -> list[Rejected]:
    """Rows of the tables whose film is not there, named by table and row number."""
    films = {name.film for name in images.films}
    reason = "no image of this patient, side and view is there"
    return [Rejected(case.place, reason) for case in cases.abnormalities if case.film not in films]


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


def recognises(root: Path) -> bool:
    """Whether a folder holds one of the collection's tables, or folders named as its series are."""
    if find_tables(root, TABLES):
        return True
    folders = [*Path(root).glob("*"), *Path(root).glob("cbis_ddsm/*"), *Path(root).glob("CBIS-DDSM/*")]
    return any(parse_name(folder.name) is not None and folder.is_dir() for folder in folders)


def load(root: Path, dicom_path: str | Path | None = None, max_missing: float = 1.0) -> Collection:
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
    return Collection.from_rows(
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
