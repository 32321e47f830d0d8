"""CBIS-DDSM in miniature: tables with the true column names and tiny DICOM files, in each layout that it comes in."""

from __future__ import annotations

import csv
import hashlib
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from mammo_hf.dicom import mammogram_dataset

FILM_SIZE = 96, 64
CROP_SIZE = 20, 16
TABLES = {
    ("mass", "train"): "mass_case_description_train_set.csv",
    ("mass", "test"): "mass_case_description_test_set.csv",
    ("calcification", "train"): "calc_case_description_train_set.csv",
    ("calcification", "test"): "calc_case_description_test_set.csv",
}
_COLUMNS = (
    "patient_id,{density},left or right breast,image view,abnormality id,abnormality type,{one},{two},assessment,"
    "pathology,subtlety,image file path,cropped image file path,ROI mask file path"
)


class Finding(NamedTuple):
    """One row of a table; by default a benign mass of patient 1 in the left CC view, in the training set."""

    patient: int = 1
    side: str = "LEFT"
    view: str = "CC"
    kind: str = "mass"
    split: str = "train"
    number: int = 1
    pathology: str = "BENIGN"
    density: str = "2"

    @property
    def film(self) -> str:
        words = {"mass": "Mass", "calcification": "Calc", "train": "Training", "test": "Test"}
        return f"{words[self.kind]}-{words[self.split]}_P_{self.patient:05d}_{self.side}_{self.view}"

    @property
    def region(self) -> str:
        return f"{self.film}_{self.number}"


# patient 3 is in both official splits; patient 4's film has two masses of different pathology
COLLECTION = (
    Finding(1, pathology="MALIGNANT", density="3"),
    Finding(1, view="MLO", pathology="MALIGNANT", density="3"),
    Finding(2, side="RIGHT", pathology="BENIGN_WITHOUT_CALLBACK", density="0", kind="calcification"),
    Finding(3, pathology="BENIGN"),
    Finding(3, side="RIGHT", kind="calcification", split="test", pathology="MALIGNANT"),
    Finding(4, number=1, pathology="BENIGN"),
    Finding(4, number=2, pathology="MALIGNANT"),
    Finding(5, split="test", pathology="MALIGNANT"),
    Finding(5, split="test", view="MLO", pathology="MALIGNANT"),
    Finding(6, split="test", kind="calcification", pathology="BENIGN"),
)


def write_tables(folder: Path, findings: Iterable[Finding] = COLLECTION, tables: Iterable[str] | None = None) -> None:
    """Writes the four tables, or those that are named, with line breaks inside quoted paths as in the true ones."""
    folder.mkdir(parents=True, exist_ok=True)
    for (kind, split), name in TABLES.items():
        if tables is not None and name not in tables:
            continue
        columns = _COLUMNS.format(
            density="breast_density" if kind == "mass" else "breast density",
            one="mass shape" if kind == "mass" else "calc type",
            two="mass margins" if kind == "mass" else "calc distribution",
        ).split(",")
        with open(folder / name, "w", newline="") as file:
            writer = csv.writer(file)
            writer.writerow(columns)
            for row in findings:
                if (row.kind, row.split) == (kind, split):
                    writer.writerow(_cells(row))


def _cells(row: Finding) -> Sequence[object]:
    paths = [f"{row.film}/1.3.6/1.3.7/000000.dcm", f"{row.region}/1.3.6/1.3.7/000000.dcm\n"]
    return (
        *(f"P_{row.patient:05d}", row.density, row.side, row.view, row.number, row.kind, "OVAL", "OBSCURED", 4),
        *(row.pathology, 3, *paths, f"{row.region}/1.3.6/1.3.7/000001.dcm\n"),
    )


def film_pixels(name: str) -> np.ndarray:
    """Film-sized grey values that differ from film to film."""
    seed = int.from_bytes(hashlib.sha256(name.encode()).digest()[:4], "big")
    return np.random.default_rng(seed).integers(0, 65536, FILM_SIZE, dtype=np.uint16)


def mask_pixels(size: tuple[int, int] = FILM_SIZE) -> np.ndarray:
    mask = np.zeros(size, np.uint8)
    mask[size[0] // 4 : size[0] // 2, size[1] // 4 : size[1] // 2] = 255
    return mask


def crop_pixels(name: str) -> np.ndarray:
    return film_pixels(name)[: CROP_SIZE[0], : CROP_SIZE[1]]


def write_dicom(path: Path, pixels: np.ndarray, patient_id: str, description: str = "", **keywords: object) -> Path:
    """Writes an array as the collection's files are: secondary captures of scanned films."""
    path.parent.mkdir(parents=True, exist_ok=True)
    dataset = mammogram_dataset(
        pixels, laterality=None, view=None, PatientID=patient_id, SeriesDescription=description, **keywords
    )
    dataset.save_as(path, enforce_file_format=True)
    return path


def film_path(layout: str, name: str) -> str:
    """Where a film lies."""
    return {
        "tcia": f"CBIS-DDSM/{name}/10-04-2016-DDSM-09887/1-full mammogram images-26184/1-1.dcm",
        "idc": f"cbis_ddsm/{name}/1.3.6.1/MG_1.3.6.2/0b1c.dcm",
        "by_kind": f"full mammogram images/{name}/1-1.dcm",
        "literal": f"{name}/1.3.6.1/1.3.6.2/000000.dcm",
        "uid": f"1.3.6.1/film {hashlib.sha256(name.encode()).hexdigest()}.dcm",
    }[layout]


def region_paths(layout: str, region: str) -> tuple[str, str]:
    """Where the crop and the mask of an abnormality lie."""
    digest = hashlib.sha256(region.encode()).hexdigest()
    return {
        "tcia": (
            f"CBIS-DDSM/{region}/10-04-2016-DDSM-09887/1-ROI mask images-93761/1-1.dcm",
            f"CBIS-DDSM/{region}/10-04-2016-DDSM-09887/1-ROI mask images-93761/1-2.dcm",
        ),
        "idc": (f"cbis_ddsm/{region}/1.3.6.1/MG_1.3.6.2/0b1c.dcm", f"cbis_ddsm/{region}/1.3.6.1/MG_1.3.6.2/0b1d.dcm"),
        "by_kind": (f"cropped images/{region}/1-1.dcm", f"ROI mask images/{region}/1-1.dcm"),
        "literal": (f"{region}/1.3.6.1/1.3.6.2/000000.dcm", f"{region}/1.3.6.1/1.3.6.2/000001.dcm"),
        "uid": (f"1.3.6.1/region {digest} a.dcm", f"1.3.6.1/region {digest} b.dcm"),
    }[layout]


LAYOUTS = ("tcia", "idc", "by_kind", "literal", "uid")


def write_images(
    root: Path, findings: Iterable[Finding] = COLLECTION, layout: str = "by_kind", swapped: bool = False
) -> None:
    """Writes each finding's film, crop and mask; `swapped` puts crop and mask in each other's place."""
    for row in findings:
        write_dicom(root / film_path(layout, row.film), film_pixels(row.film), row.film, "full mammogram images")
        crop, mask = region_paths(layout, row.region)
        if swapped:
            crop, mask = mask, crop
        write_dicom(root / crop, crop_pixels(row.film), row.region, "ROI mask images")
        write_dicom(root / mask, mask_pixels(), row.region, "ROI mask images")


def write_collection(root: Path, findings: Sequence[Finding] = COLLECTION, layout: str = "by_kind") -> Path:
    write_tables(root / "csv", findings)
    write_images(root, findings, layout)
    return root
