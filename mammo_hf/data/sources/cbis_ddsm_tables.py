"""CBIS-DDSM's four case description tables: one row an abnormality, with its pathology and the film that shows it.

Lee et al., "A curated mammography data set for use in computer-aided detection and diagnosis research",
Scientific Data 4:170177 (2017).
"""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Iterator
from pathlib import Path

from ...errors import DataError
from .cbis_ddsm_cases import Abnormality, CaseDescriptions, Film, patient_name
from .delimited import read_text
from .walking import find_tables

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
