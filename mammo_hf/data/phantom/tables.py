"""The four case-description tables of CBIS-DDSM, with their own column names, value forms and line breaks."""

from __future__ import annotations

import csv
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from .cases import IDENTITY, Case, stream
from .parenchyma import DENSITIES

_FEATURES = {"mass": ("mass shape", "mass margins"), "calcification": ("calc type", "calc distribution")}
_DENSITY_COLUMN = {"mass": "breast_density", "calcification": "breast density"}  # as published
_SET_NAME = {"mass": "mass", "calcification": "calc"}


@dataclass(frozen=True)
class Described:
    """One row: an abnormality in one view. The paths are relative to the folder of its kind of image."""

    case: Case
    view: str
    split: str
    image_path: str
    cropped_path: str
    mask_path: str


def table_name(kind: str, split: str) -> str:
    """File name of the table of a finding's ``kind`` and a ``split``, "train" or "test"."""
    return f"{_SET_NAME[kind]}_case_description_{split}_set.csv"


def patient_name(patient_index: int) -> str:
    """The name a patient has in the tables."""
    return f"P_{patient_index + 1:05d}"


def write_tables(out: Path, rows: Iterable[Described], *, seed: int) -> None:
    """Write all four tables below ``out``, those without a row with their header alone."""
    rows = list(rows)
    for kind, features in _FEATURES.items():
        columns = [
            *("patient_id", _DENSITY_COLUMN[kind], "left or right breast", "image view", "abnormality id"),
            *("abnormality type", *features, "assessment", "pathology", "subtlety"),
            *("image file path", "cropped image file path", "ROI mask file path"),
        ]
        for split in ("train", "test"):
            with open(out / table_name(kind, split), "w", newline="", encoding="utf-8") as file:
                writer = csv.writer(file)  # its line ends and quotes are the published tables'
                writer.writerow(columns)
                writer.writerows(_cells(row, seed) for row in rows if (row.case.draft.kind, row.split) == (kind, split))


def _cells(row: Described, seed: int) -> list[str]:
    case = row.case
    features, assessment, pathology = _described(case, seed)
    paths = [row.image_path, row.cropped_path, row.mask_path]
    # the published tables break the line after one of the paths: the mask's for masses, the crop's for calcifications
    broken = 2 if case.draft.kind == "mass" else 1
    paths[broken] += "\n"
    return [
        patient_name(case.patient_index),
        str(1 + DENSITIES.index(case.density)),
        case.laterality,
        row.view,
        "1",
        case.draft.kind,
        *features,
        str(assessment),
        pathology,
        str(case.subtlety),
        *paths,
    ]


def _described(case: Case, seed: int) -> tuple[tuple[str, str], int, str]:
    """Shape terms of the lexicon, BI-RADS assessment, and the pathology as CBIS-DDSM words it."""
    rng = stream(seed, IDENTITY, case.patient_index)
    if case.pathology == "malignant":
        terms = ("IRREGULAR", "SPICULATED") if case.draft.kind == "mass" else ("PLEOMORPHIC", "CLUSTERED")
        return terms, int(rng.choice([4, 5])), "MALIGNANT"
    terms = (
        (str(rng.choice(["ROUND", "OVAL"])), "CIRCUMSCRIBED")
        if case.draft.kind == "mass"
        else (str(rng.choice(["COARSE", "ROUND_AND_REGULAR"])), "CLUSTERED")
    )
    if rng.random() < 0.25:
        return terms, 2, "BENIGN_WITHOUT_CALLBACK"
    return terms, int(rng.choice([3, 4])), "BENIGN"
