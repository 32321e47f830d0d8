"""CBIS-DDSM: digitised films with mass and calcification findings, masks and an official split.

Lee et al., "A curated mammography data set for use in computer-aided detection and diagnosis research", Scientific Data
4:170177 (2017). CC BY 3.0.

Four tables describe the abnormalities, one row each, with the pathology and the film that shows it. Tables and files
are joined by patient, side and view, never by the paths in the tables, so any layout of the download works. The
releases agree in one respect only: some folder (or the file, or the header's PatientID) is called ``Mass-
Training_P_00001_LEFT_CC``, followed by ``_1`` and so on if the image shows one abnormality. In the Imaging Data
Commons 396 series have the short form ``P_00038_LEFT_CC.dcm``, without lesion type and split. The release on Kaggle is
JPEG, and only its ``dicom_info.csv`` says what each file is.

A film that was published in both the mass and the calcification set (71 are, the very same scan) has a row for each
file, and each row has all findings of the film: otherwise sixteen films with a malignant lesion would count as benign
in the other set.
"""

from __future__ import annotations

import os
import re
from collections import Counter
from collections.abc import Collection as AnyCollection
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from ...errors import DataError
from ...notes import Note
from ..collection import Collection, Moved, Rejected, most_severe
from ..findings import finding as make_finding
from ..privacy import salted_hash
from ..schema import TASKS as COMMON
from ..schema import Row, task_list
from .contents import Contents, Facts, files_below, find_tables, read_list
from .folder import unlabelled_rows
from .tables import read_table

TABLES = {  # from the file name of a table to the kind of its abnormalities and its official split
    "mass_case_description_train_set.csv": ("mass", "train"),
    "mass_case_description_test_set.csv": ("mass", "test"),
    "calc_case_description_train_set.csv": ("calcification", "train"),
    "calc_case_description_test_set.csv": ("calcification", "test"),
}

NAME = "cbis-ddsm"
LOOKS_FOR = f"one or more of {', '.join(TABLES)}, in the folder or at most two folders below"
LICENCE = "CC BY 3.0, https://doi.org/10.7937/K9/TCIA.2016.7O02S9CY"
TERMS = {
    "weights": "allowed with attribution",
    "clause": "to create and Reproduce Adaptations",
    "read_at": "CC BY 3.0, section 3(b), https://creativecommons.org/licenses/by/3.0/legalcode",
    "commercial": "yes",
    "citation": "Sawyer-Lee et al. 2016, CBIS-DDSM, https://doi.org/10.7937/K9/TCIA.2016.7O02S9CY",
}
TASKS = {
    "pathology": COMMON["pathology"],
    "density": COMMON["density"],
    "abnormality": ("mass", "calcification", "both"),
    "birads": ("1", "2", "0", "3", "4", "5"),
}
LOCATIONS = "masks"
OFFICIAL_SPLIT = "by the four tables; patients in both splits go to training"
QUIRKS = (
    "Mass tables write breast_density, calcification tables breast density; paths hold line breaks.",
    "Region paths are swapped in some releases: masks and crops are distinguished by size and values.",
    "A film with several abnormalities is one row with all of them; it is malignant if any of them is.",
    "31 patients are in both official splits once masses and calcifications are joined: they go to training.",
    "Density 0 means not assessed. Only breasts with an abnormality are published.",
)


def recognises(root: Path) -> bool:
    """Return whether a folder holds one of the collection's tables, or folders named as its series are."""
    if find_tables(root, TABLES):
        return True
    folders = [*Path(root).glob("*"), *Path(root).glob("cbis_ddsm/*"), *Path(root).glob("CBIS-DDSM/*")]
    return any(parse_name(folder.name) is not None and folder.is_dir() for folder in folders)


def load(root: Path, dicom_path: str | Path | None = None, max_missing: float = 1.0) -> Collection:
    """Read the collection.

    Args:
        root: Folder that holds tables and images, in any layout that names each film's folder, file or PatientID as
            the tables do.
        dicom_path: Text file of DICOM paths, one per line. A film of the tables that it names is used for the row;
            other whole images are added without labels, for pre-training.
        max_missing: Fraction of the tables' rows whose film may be missing; any by default, because parts of the
            collection are downloaded and used alone.

    Returns:
        The collection. Its `notes` count what was moved, not found or left out, its `rejected` lists it.

    Raises:
        UsageError: `dicom_path` does not exist.
        DataError: There is nothing of the collection or no image, or a table has a wrong column or value.
    """
    root = Path(root)
    rejected: list[Rejected] = []
    contents = Contents()
    missing = [name for name in TABLES if name not in find_tables(root, TABLES)]
    # without any table the images serve pre-training
    cases = read_cases(root) if len(missing) < len(TABLES) else []
    files, listed = gather_files(root, dicom_path, rejected)
    named, unknown, regions_of_unknown = identify(files, contents)
    if not named and not cases:
        read_cases(root)  # raises: there is nothing of the collection
    films, regions, copies = sort_files(named, contents)
    splits, in_both = split_patients(cases, missing, named)
    rows, mask_counts = film_rows(films, regions, cases, splits, contents)
    others, left_out = unlabelled_rows(
        unknown, contents, source=NAME, tasks=tuple(TASKS), rejected=rejected, regions=regions_of_unknown
    )
    if not rows and not others:
        raise _no_image(root, cases, files)
    if listed is not None:
        left_out += listed_regions(listed, named, films, regions, contents)
    absent = without_film(cases, films)
    if len(absent) > max_missing * len(cases):
        raise DataError(
            f"has no film for {len(absent)} of {len(cases)} table rows",
            source=root,
            remedy=f"complete the download, or allow it with max_missing (now {max_missing:g})",
        )
    rejected += [*without_split(films, splits), *absent]
    rejected += contents.problems.values()
    notes = collection_notes(cases, missing, films, copies, rows, in_both, mask_counts)
    notes += addition_notes(listed, rows, others, left_out)
    hashes = {salted_hash(patient, NAME) for patient in in_both} & {row["patient"] for row in rows}
    reason = "is in both official splits: masses and calcifications were split separately"
    moved = [Moved(patient, "test", "train", reason) for patient in sorted(hashes)]
    about: dict[str, Any] = {"notes": notes, "rejected": rejected, "moved": moved}
    return Collection.from_rows([*rows, *others], tasks=task_list(TASKS), salt_name=NAME, **about)


def _no_image(root: Path, cases: Sequence[Case], files: Sequence[ImageFile]) -> DataError:
    example = os.path.join(root, "Mass-Training_P_00001_LEFT_CC", "...", "1-1.dcm")
    return DataError(
        f"holds no image for the {len(cases)} rows of its tables ({len(files)} DICOM files found)",
        source=root,
        remedy=f"each film must be in a folder named as in the tables, as in {example}",
    )


# The tables: one row per abnormality.

Film = tuple[str, str, str]  # patient as the tables write it, laterality, view


class Case(NamedTuple):
    """Abnormality of a film, from one row of a table; `place` names the row in messages, without the patient."""

    kind: str
    split: str
    film: Film
    number: int
    pathology: str
    density: str | None
    birads: str
    place: str


_COLUMNS: dict[str, dict[str, Any] | None] = {  # from each needed column to its values in our terms; None: any value
    "patient id": None,
    "abnormality id": None,
    "breast density": {"0": None, "1": "a", "2": "b", "3": "c", "4": "d"},  # 0 occurs in two rows: not assessed
    "assessment": {value: value for value in ("0", "1", "2", "3", "4", "5")},
    "left or right breast": {"LEFT": "L", "RIGHT": "R"},
    "image view": {"CC": "CC", "MLO": "MLO"},
    "pathology": {"MALIGNANT": "malignant", "BENIGN": "benign", "BENIGN_WITHOUT_CALLBACK": "benign"},
}


def read_cases(root: Path) -> list[Case]:
    """Read every table that exists.

    Args:
        root: Folder of the collection.

    Raises:
        DataError: There is none of the four tables, or one has a wrong column or value: names table, row and column.
    """
    found = find_tables(root, TABLES)
    if not found:
        raise DataError(
            f"holds none of CBIS-DDSM's tables: {', '.join(TABLES)}",
            source=root,
            remedy="put them into that folder, into its folder csv, or at most two folders below",
        )
    cases: dict[tuple[str, str, Film, int], Case] = {}
    for name, (kind, split) in TABLES.items():
        for number, row in enumerate(read_table(found[name]) if name in found else (), start=1):
            case = _case(row, found[name], number, kind, split)
            before = cases.setdefault((kind, split, case.film, case.number), case)
            if before.pathology != case.pathology:
                problem = f"gives the same abnormality another pathology than {before.place}"
                raise DataError(problem, source=case.place, remedy="restore the official table")
    return list(cases.values())


def _case(row: Mapping[str, str], table: Path, number: int, kind: str, split: str) -> Case:
    place = f"{table}, row {number}"
    # the mass tables write `breast_density`, the calcification tables `breast density`
    row = {column.lower().replace("_", " "): value for column, value in row.items()}
    values: dict[str, Any] = {}
    for column, terms in _COLUMNS.items():
        if column not in row:
            remedy = f"needs the columns {', '.join(_COLUMNS)}"
            raise DataError(f"has no column '{column}'", source=table, remedy=remedy)
        values[column] = row[column] if terms is None else terms.get(row[column].upper(), _COLUMNS)
        if values[column] is _COLUMNS:
            raise _wrong(place, column, f"one of {', '.join(terms or ())}")
    patient = re.fullmatch(r"P_(\d+)", values["patient id"])
    if patient is None:
        raise _wrong(place, "patient_id", "'P_' and a number")
    if not values["abnormality id"].isdecimal():
        raise _wrong(place, "abnormality id", "a whole number")
    return Case(
        kind,
        split,
        film=(patient_name(patient[1]), values["left or right breast"], values["image view"]),
        number=int(values["abnormality id"]),
        pathology=values["pathology"],
        density=values["breast density"],
        birads=values["assessment"],
        place=place,
    )


def _wrong(place: str, column: str, rule: str) -> DataError:
    return DataError(f"column '{column}' must be {rule}", source=place, remedy="restore the official table")


def patient_name(number: str) -> str:
    """Return the name of a patient as the tables write it: ``P_`` and five digits."""
    return f"P_{int(number):05d}"


# The files: which breast, view and abnormality the name of a folder stands for.

_NAME = re.compile(
    r"(?:(mass|calc)-(training|test)_)?p_(\d+)_(left|right)_(cc|mlo)(?:_(\d+))?(?:\.dcm|\.dicom)?", re.IGNORECASE
)
_KIND = {"mass": "mass", "calc": "calcification"}
_SPLIT = {"training": "train", "test": "test"}


class Name(NamedTuple):
    """Name of a series: the film; lesion type and split unless it has the short form; number of the abnormality."""

    film: Film
    kind: str | None
    split: str | None
    number: int | None

    def text(self) -> str:
        """Return the name as the tables' paths write it."""
        patient, laterality, view = self.film
        parts = [patient, {"L": "LEFT", "R": "RIGHT"}[laterality], view]
        if self.kind is not None:
            words = {"mass": "Mass", "calcification": "Calc"}, {"train": "Training", "test": "Test"}
            parts.insert(0, f"{words[0][self.kind]}-{words[1][self.split or 'train']}")
        return "_".join(parts if self.number is None else [*parts, str(self.number)])


class ImageFile(NamedTuple):
    """File, the name that its path or header gives, and whether it shows a region of a film only."""

    path: str
    name: Name | None
    is_region: bool


def parse_name(text: str) -> Name | None:
    """Read the name of a folder or a file, or a PatientID; ``None`` if it is not a name of CBIS-DDSM."""
    found = _NAME.fullmatch(text.strip())
    if found is None:
        return None
    kind, split, patient, laterality, view, number = found.groups()
    return Name(
        (patient_name(patient), laterality[0].upper(), view.upper()),
        _KIND[kind.lower()] if kind else None,
        _SPLIT[split.lower()] if split else None,
        int(number) if number else None,
    )


def parse_path(path: str, below: str = "") -> ImageFile:
    """Read the path of a file; the deepest folder with a name counts.

    Args:
        path: Path of the file.
        below: Folder above the file; only the part of the path below it is read.
    """
    name: Name | None = None
    is_region: bool | None = None
    for part in (os.path.relpath(path, below) if below else path).split(os.sep):
        name = parse_name(part) or name
        described = _describes_region(part)
        is_region = is_region if described is None else described
    return ImageFile(path, name, _has_number(name) if is_region is None else is_region)


def _describes_region(description: str) -> bool | None:
    """Return whether the name of a folder or a description says crop or mask; ``None`` if it says nothing."""
    words = description.lower()
    if "full mammogram" in words:
        return False
    return True if "cropped image" in words or "roi mask" in words else None


def _has_number(name: Name | None) -> bool:
    return name is not None and name.number is not None


def gather_files(
    root: Path, dicom_path: str | Path | None, rejected: list[Rejected]
) -> tuple[list[ImageFile], frozenset[str] | None]:
    """Return the files of the list and then those below `root`, each once, and the paths of the list."""
    files = [*(parse_path(path, str(root)) for path in files_below(root, rejected)), *jpeg_files(root, rejected)]
    if dicom_path is None:
        return files, None
    paths = read_list(dicom_path, root, rejected)
    listed = [parse_path(path, str(root) if Path(path).is_relative_to(root) else "") for path in paths]
    known = {os.path.realpath(file.path) for file in listed}
    files = [*listed, *(file for file in files if os.path.realpath(file.path) not in known)]
    return files, frozenset(file.path for file in listed)


def jpeg_files(root: Path, rejected: list[Rejected]) -> list[ImageFile]:
    """Return the JPEG files that ``dicom_info.csv`` of the release on Kaggle names; none without that table.

    The paths begin with ``CBIS-DDSM/jpeg``, wherever the release was unpacked. If a description is empty, as some are,
    the name decides: with the number of an abnormality it is a region.

    Args:
        root: Folder of the collection.
        rejected: List that receives rows whose file does not exist, or whose PatientID is not of the collection.

    Raises:
        DataError: The table lacks a column.
    """
    table = find_tables(root, ["dicom_info.csv"]).get("dicom_info.csv")
    files = []
    for number, row in enumerate(read_table(table) if table else (), start=1):
        assert table is not None
        needed = ("image_path", "PatientID", "SeriesDescription")
        missing = [column for column in needed if column not in row]
        if missing:
            raise DataError(f"has no column '{missing[0]}'", source=table, remedy=f"needs {', '.join(needed)}")
        name = parse_name(row["PatientID"])
        path = _find(row["image_path"], (Path(root), table.parent, table.parent.parent))
        if name is None:
            rejected.append(Rejected(f"{table}, row {number}", "its PatientID is not of CBIS-DDSM"))
        elif path is None:
            rejected.append(Rejected(f"{table}, row {number}", "there is no such file", "missing"))
        else:
            described = _describes_region(row["SeriesDescription"])
            files.append(ImageFile(path, name, _has_number(name) if described is None else described))
    return files


def _find(image_path: str, folders: tuple[Path, ...]) -> str | None:
    parts = image_path.split("/")
    for folder in folders:
        for below in (parts, parts[1:]):
            path = folder.joinpath(*below)
            if below and path.is_file():
                return os.path.normpath(path)
    return None


def identify(files: Iterable[ImageFile], contents: Contents) -> tuple[list[ImageFile], list[Facts], set[str]]:
    """Separate files whose path or PatientID is a name of the collection from all others.

    Returns:
        The named files; the facts of the others; the paths among the others that are crops or masks by their folder.
    """
    named, unknown, regions = [], [], set()
    for file in files:
        facts = contents.facts(file.path) if file.name is None else None
        name = file.name if facts is None else parse_name(facts.patient_id)
        if name is not None:
            is_region = file.is_region or (facts is not None and (facts.is_region or _has_number(name)))
            named.append(ImageFile(file.path, name, is_region))
        elif facts is not None:
            unknown.append(facts)
            regions.update([file.path] if file.is_region else [])
    return named, unknown, regions


# Films and regions: which file is the film, and which region file is the mask of which abnormality.

Films = dict[Name, str]  # from the name of a film, without a number, to its path
Regions = dict[Film, list[ImageFile]]  # crops and masks of each film


def sort_files(files: Iterable[ImageFile], contents: Contents) -> tuple[Films, Regions, int]:
    """Separate films from regions.

    Args:
        files: Files with a name, the preferred ones first.
        contents: Cache that is used only if several files claim to be the same film.

    Returns:
        The films, the regions, and the number of further copies of films.
    """
    films: Films = {}
    regions: Regions = {}
    copies = 0
    claims: dict[Name, list[ImageFile]] = {}
    for file in files:
        assert file.name is not None
        if file.is_region:
            regions.setdefault(file.name.film, []).append(file)
        else:
            claims.setdefault(file.name._replace(number=None), []).append(file)
    for name, claimants in claims.items():
        film = claimants[0] if len(claimants) == 1 else _largest_with_grey(claimants, contents)
        films[name] = film.path
        for other in claimants:
            if other is film:
                continue
            if contents.size(other.path) == contents.size(film.path) and not contents.is_mask(other.path):
                copies += 1
            else:
                regions.setdefault(name.film, []).append(other)
    return films, regions, copies


def _largest_with_grey(claimants: Sequence[ImageFile], contents: Contents) -> ImageFile:
    """Return the film among the files of one folder: the largest that is not a mask, and the first of equals."""

    def area(file: ImageFile) -> int:
        rows, columns = contents.size(file.path) or (0, 0)
        return rows * columns

    return max(claimants, key=lambda file: (area(file) > 0 and not contents.is_mask(file.path), area(file)))


def region_files(case: Case, cases: Sequence[Case], regions: Sequence[ImageFile]) -> list[str]:
    """Return the region files of one abnormality of a film: its crop and its mask, in no particular order.

    A short name gives no lesion type, and some layouts give no number: such a file belongs to an abnormality only if
    no other of the same film can claim it.

    Args:
        case: Abnormality whose files are wanted.
        cases: All abnormalities of the film, `case` among them.
        regions: All region files of the film.
    """
    exact = [file.path for file in regions if _fits(file, case, exactly=True)]
    if exact:
        return exact
    rivals = [
        other for other in cases if other is not case and not any(_fits(file, other, exactly=True) for file in regions)
    ]
    return [
        file.path
        for file in regions
        if _fits(file, case, exactly=False) and not any(_fits(file, other, exactly=False) for other in rivals)
    ]


def _fits(file: ImageFile, case: Case, *, exactly: bool) -> bool:
    assert file.name is not None
    loose = () if exactly else (None,)
    return file.name.kind in (case.kind, *loose) and file.name.number in (case.number, *loose)


def choose_mask(film: str, regions: Sequence[str], contents: Contents) -> tuple[str | None, bool]:
    """Choose the mask among the region files of an abnormality by content: it has the film's size, a crop is smaller.

    Args:
        film: Path of the film.
        regions: Paths of the region files.
        contents: Cache that reads headers, and pixels only if several files have the film's size, or none has.

    Returns:
        The path of the mask or ``None``, and whether there is a mask of another size than the film's.
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


# The rows: one per film file, with the findings of its film, their masks and the labels that follow from them.


def split_patients(
    cases: Sequence[Case], missing: Sequence[str], named: Iterable[ImageFile]
) -> tuple[dict[str, str], frozenset[str]]:
    """Return the split of each patient, and the patients who are in both official splits.

    These go to training: the remaining test split is then a part of the official one, so that figures on it can be
    compared, and no training case became a test case. A patient that neither the tables nor a name assign is not a
    test patient if every table exists; if one is missing, nobody can know, and the patient has no split.
    """
    names = [file.name for file in named if file.name is not None]
    stated = [(case.film[0], case.split) for case in cases]
    stated += [(name.film[0], name.split) for name in names if name.split is not None]
    official: dict[str, set[str]] = {}
    for patient, split in stated:
        official.setdefault(patient, set()).add(split)
    splits = {patient: "train" if "train" in found else "test" for patient, found in official.items()}
    if not missing:
        for name in names:
            splits.setdefault(name.film[0], "unlabelled")
    return splits, frozenset(patient for patient, found in official.items() if len(found) > 1)


def film_rows(
    films: Films, regions: Regions, cases: Iterable[Case], splits: Mapping[str, str], contents: Contents
) -> tuple[list[Row], Counter[str]]:
    """Make a row for each film file whose patient has a split and whose header could be read if it was needed.

    Args:
        films: Films of the collection.
        regions: Crops and masks of each film.
        cases: Abnormalities of all films.
        splits: Split of each patient.
        contents: Cache that distinguishes masks from crops.

    Returns:
        The rows in the order of the films' names, and the counts of "findings", of those with "no mask" and of those
        with only "masks of another size", which cannot be laid over the film.
    """
    by_film: dict[Film, list[Case]] = {}
    for case in cases:
        by_film.setdefault(case.film, []).append(case)
    rows = []
    counts: Counter[str] = Counter()
    for name in sorted(films, key=Name.text):
        path, (patient, laterality, view) = films[name], name.film
        if patient not in splits:
            continue
        shown = by_film.get(name.film, [])
        findings = _findings(path, shown, regions.get(name.film, []), contents, counts)
        if path in contents.problems:
            continue
        labels = film_labels(shown)
        if not by_film:  # without any table only the name tells the lesion type
            labels["abnormality"] = name.kind
        rows.append(
            {
                "image_id": salted_hash(_official_name(name, shown, films), NAME),
                "path": path,
                "patient": salted_hash(patient, NAME),
                "exam": salted_hash(f"{patient} exam", NAME),  # DDSM has one examination per patient
                "laterality": laterality,
                "view": view,
                "source": NAME,
                "split": splits[patient],
                **labels,
                "findings": findings,
            }
        )
    return rows, counts


def film_labels(cases: Sequence[Case]) -> dict[str, str | None]:
    """Return the labels of a film.

    It is malignant if any abnormality is, the most severe BI-RADS counts, and a density only if all agree.

    Args:
        cases: All abnormalities of the film, of both kinds; none for a film that is in no table.
    """
    if not cases:
        return dict.fromkeys(TASKS)
    densities = {case.density for case in cases} - {None}
    kinds = {case.kind for case in cases}
    return {
        "pathology": most_severe([case.pathology for case in cases], TASKS["pathology"]),
        "density": densities.pop() if len(densities) == 1 else None,
        "abnormality": kinds.pop() if len(kinds) == 1 else "both",
        "birads": most_severe([case.birads for case in cases], TASKS["birads"]),
    }


def _findings(
    path: str, cases: Sequence[Case], regions: Sequence[ImageFile], contents: Contents, counts: Counter[str]
) -> list[dict[str, Any]]:
    findings = []
    for case in cases:
        mask, is_other_size = choose_mask(path, region_files(case, cases, regions), contents)
        counts["findings"] += 1
        counts["masks of another size" if is_other_size else "no mask"] += mask is None
        findings.append(make_finding(case.kind, case.pathology, mask_path=mask))
    return findings


def _official_name(name: Name, cases: Iterable[Case], films: Films) -> str:
    """Return the film's name in the tables even if the file has the short form: one image_id in every release."""
    if name.kind is None:
        others = {(other.kind, other.split) for other in films if other.film == name.film}
        free = {(case.kind, case.split) for case in cases} - others
        if len(free) == 1:
            kind, split = free.pop()
            name = name._replace(kind=kind, split=split)
    return name.text()


# The notes: what reading moved, did not find or left out, as sentences with counts, and one by one.


def collection_notes(
    cases: Sequence[Case],
    missing: Sequence[str],
    films: Films,
    copies: int,
    rows: Sequence[Row],
    in_both: AnyCollection[str],
    masks: Mapping[str, int],
) -> list[Note]:
    """Return the notes on a collection as a whole; only those whose count is not 0."""
    hashes = {salted_hash(patient, NAME) for patient in in_both}
    moved = [row["patient"] for row in rows if row["patient"] in hashes]
    absent = without_film(cases, films)
    absent_films = len({case.film for case in cases} - {name.film for name in films})
    twice = sum(count > 1 for count in Counter(name.film for name in films).values())
    unknown = sum(row["pathology"] is None for row in rows)
    jpegs = sum(row["path"].lower().endswith((".jpg", ".jpeg")) for row in rows)
    no_mask, other_size = masks.get("no mask", 0), masks.get("masks of another size", 0)
    notes = {
        Note("tables_missing", tables=", ".join(missing)): len(missing),
        Note("images_jpeg", count=jpegs): jpegs,
        Note("patients_in_both_splits", count=len(in_both), here=len(set(moved)), images=len(moved)): len(in_both),
        Note("rows_without_image", count=len(absent), total=len(cases), films=absent_films): len(absent),
        Note("images_twice", count=twice): twice,
        Note("images_copied", count=copies): copies,
        Note("images_without_row", count=unknown): unknown,
        Note("masks_missing", count=no_mask, total=masks.get("findings", 0)): no_mask,
        Note("masks_of_other_size", count=other_size): other_size,
    }
    return [note for note, count in notes.items() if count]


def listed_regions(
    listed: AnyCollection[str], named: Iterable[ImageFile], films: Films, regions: Regions, contents: Contents
) -> Counter[str]:
    """Count the "masks" and "crops" in a list of DICOM paths by content: a mask has the size of its film."""
    paths: dict[Film, set[str]] = {}
    for name, path in films.items():
        paths.setdefault(name.film, set()).add(path)
    counts: Counter[str] = Counter()
    known = {file.path for files in regions.values() for file in files}
    for file in named:
        if file.path in listed and file.path in known and file.name is not None:
            sizes = {contents.size(path) for path in paths.get(file.name.film, ())} - {None}
            is_mask = contents.size(file.path) in sizes or contents.is_mask(file.path)
            counts["masks" if is_mask else "crops"] += 1
    return counts


def addition_notes(
    listed: AnyCollection[str] | None, rows: Sequence[Row], others: Sequence[Row], left_out: Counter[str]
) -> list[Note]:
    """Return the notes on images that no table names, and on the files of a list of DICOM paths.

    Args:
        listed: Paths of the list, or ``None`` without a list.
        rows: Rows of the collection's own films.
        others: Rows of images of unknown patients.
        left_out: Numbers of "crops" and "masks" that are not used.
    """
    notes = []
    if others:
        notes.append(Note("images_of_unknown_patients", count=len(others)))
    left = {kind: left_out[kind] for kind in ("crops", "masks")}
    if listed is not None:
        used = [row for row in [*rows, *others] if row["path"] in listed]
        labelled = sum(row["pathology"] is not None for row in used)
        test = sum(row["split"] == "test" for row in used)
        unlabelled = len(used) - labelled
        notes.append(Note("list_of_paths", labelled=labelled, unlabelled=unlabelled, test=test, **left))
    elif any(left.values()):
        notes.append(Note("regions_of_unknown_patients", **left))
    return notes


def without_split(films: Films, splits: AnyCollection[str]) -> list[Rejected]:
    """Return the films of patients whose official split is unknown."""
    reason = "split unknown: its official split is in none of the tables that exist"
    return [Rejected(path, reason) for name, path in films.items() if name.film[0] not in splits]


def without_film(cases: Iterable[Case], films: Films) -> list[Rejected]:
    """Return the rows of the tables without a film, named by table and row number."""
    there = {name.film for name in films}
    reason = "there is no image of this patient, side and view"
    return [Rejected(case.place, reason, "missing") for case in cases if case.film not in there]
