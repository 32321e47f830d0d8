"""Phantoms on disk, laid out like CBIS-DDSM: three folders of DICOM files and four tables."""

from __future__ import annotations

import csv
import hashlib
import json
import os
import shutil
from collections.abc import Iterable, Iterator
from concurrent.futures import ProcessPoolExecutor, as_completed
from pathlib import Path
from typing import Any

import numpy as np
from pydicom.uid import ImplicitVRLittleEndian, SecondaryCaptureImageStorage
from tqdm.auto import tqdm

from ..dicom.writer import mammogram_dataset
from ..errors import UsageError
from ..files import MARKER, write_record, writing_errors
from .exam import IDENTITY, VIEWS, Case, check_size, draw_case, official_test_patients, paint_exam, stream
from .parenchyma import DENSITIES

FULL, CROPPED, MASKS = "full mammogram images", "cropped images", "ROI mask images"
SPLITS = ("train", "test")
_FEATURES = {"mass": ("mass shape", "mass margins"), "calcification": ("calc type", "calc distribution")}
_DENSITY_COLUMN = {"mass": "breast_density", "calcification": "breast density"}  # as published
_PREFIX = {"mass": "Mass", "calcification": "Calc"}
_SPLIT_NAME = {"train": "Training", "test": "Test"}
# what a digitised film in CBIS-DDSM does not state: side, view, spacing, and how values relate to X-rays
_NOT_STATED = (
    *("AcquisitionContextSequence", "AnatomicRegionSequence", "BurnedInAnnotation", "ImageType", "ImagerPixelSpacing"),
    *("LossyImageCompression", "Manufacturer", "PixelIntensityRelationship", "PixelIntensityRelationshipSign"),
    *("PositionerType", "PresentationIntentType", "PresentationLUTShape"),
    *("RescaleIntercept", "RescaleSlope", "RescaleType"),
)

# a table's kind of lesion and split, and one row of it
_Row = tuple[str, str, list[str]]


def write_phantom(
    out: str | os.PathLike[str],
    *,
    patients: int,
    seed: int = 0,
    size: tuple[int, int] = (1024, 512),
    test_fraction: float = 0.25,
    mass_fraction: float = 0.65,
    lesion_scale: float = 1.0,
    lesion_contrast: float = 1.0,
    lesion_halo: float = 0.0,
    num_workers: int | None = None,
    progress: bool = True,
) -> dict[str, list[Case]]:
    """Draw patients and write them in the layout of CBIS-DDSM.

    The same arguments give the same bytes, whatever ``num_workers``. A phantom that is already in ``out`` is replaced.

    Args:
        out: Folder to write: new, empty, or with an earlier phantom.
        patients: Number of patients; each has four whole images, two of them with a lesion.
        seed: Seed of the phantom, 0 or more.
        size: Size of the whole images, (height, width), at least 96 x 48.
        test_fraction: Fraction of the patients in the official test split, in [0, 1].
        mass_fraction: Fraction of masses among the lesions; the others are calcifications, which vanish in small
            images.
        lesion_scale: Factor of the lesions' size.
        lesion_contrast: Factor of the lesions' contrast.
        lesion_halo: Darkness of the fat around the lesions, over their contrast.
        num_workers: Number of processes that draw; by default one per core.
        progress: Whether to show a progress bar.

    Returns:
        The patients of each official split, "train" and "test".

    Raises:
        UsageError: An argument is out of its range, ``out`` holds something else, or it cannot be written.
    """
    _check(patients, test_fraction, num_workers, size)
    lesions = {"lesion_scale": lesion_scale, "lesion_contrast": lesion_contrast, "lesion_halo": lesion_halo}
    cases = [draw_case(index, seed=seed, mass_fraction=mass_fraction, **lesions) for index in range(patients)]
    in_test = official_test_patients(cases, test_fraction, seed=seed)
    jobs = [(case, SPLITS[case.patient_index in in_test]) for case in cases]
    # These names and values are hashed into every UID: other names would give other files
    settings = {"seed": seed, "size": (int(size[0]), int(size[1])), "mass_share": mass_fraction, **lesions}
    folder = Path(out)
    with writing_errors(folder):
        _clear(folder)
        write_record({"patients": patients, "test_fraction": test_fraction, **settings}, folder / MARKER)
        written = _write_all(folder, jobs, settings, num_workers or min(_cores(), patients))
        bar = tqdm(written, total=patients, desc="phantom", unit="patient", disable=None if progress else True)
        write_tables(folder, (row for rows in bar for row in rows))
    return {split: [case for case, of in jobs if of == split] for split in SPLITS}


def _check(patients: int, test_fraction: float, num_workers: int | None, size: tuple[int, int]) -> None:
    for name, value in {"patients": patients, "num_workers": num_workers}.items():
        if value is not None and value < 1:
            raise UsageError(f"must be 1 or more, not {value}", source=name)
    if not 0.0 <= test_fraction <= 1.0:
        raise UsageError(f"must be between 0 and 1, not {test_fraction}", source="test_fraction")
    check_size(size)


def _cores() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _clear(folder: Path) -> None:
    """Make the folder ready, removing an earlier phantom and nothing else."""
    if folder.exists() and not folder.is_dir():
        raise UsageError("is a file, not a folder", source=folder, remedy="give a new or empty folder")
    if folder.is_dir() and any(folder.iterdir()) and not (folder / MARKER).is_file():
        raise UsageError("is not empty and holds no phantom", source=folder, remedy="give a new or empty folder")
    folder.mkdir(parents=True, exist_ok=True)
    for name in (FULL, CROPPED, MASKS):
        if (folder / name).is_dir():
            shutil.rmtree(folder / name)
    for kind in _PREFIX:
        for split in SPLITS:
            (folder / table_name(kind, split)).unlink(missing_ok=True)


def _write_all(
    folder: Path, jobs: list[tuple[Case, str]], settings: dict[str, Any], num_workers: int
) -> Iterator[list[_Row]]:
    if num_workers == 1:
        for job in jobs:
            yield _write_patient(folder, *job, settings)
        return
    with ProcessPoolExecutor(num_workers) as pool:
        futures = [pool.submit(_write_patient, folder, *job, settings) for job in jobs]
        try:
            for future in as_completed(futures):
                yield future.result()
        finally:
            pool.shutdown(cancel_futures=True)


# The files of one patient.


def _write_patient(folder: Path, case: Case, split: str, settings: dict[str, Any]) -> list[_Row]:
    """Write a patient's images, crops and masks; return the rows of the tables, one per view with a lesion."""
    exam = paint_exam(case, seed=settings["seed"], size=settings["size"])
    name = f"{_PREFIX[case.lesion.kind]}-{_SPLIT_NAME[split]}_{patient_name(case.patient_index)}"
    for (laterality, view), image in exam.images.items():
        _save(image, folder / FULL, f"{name}_{laterality}_{view}", settings)
    # The published tables number a crop and its mask from 0, the downloads call them 1-1.dcm and 1-2.dcm
    numbers = (0, 1) if case.lesion.kind == "mass" else (1, 0)
    rows = []
    for view in VIEWS:
        film = f"{name}_{case.laterality}_{view}"
        image, mask = exam.images[case.laterality, view], exam.masks[case.laterality, view]
        _save(image[_around(mask)], folder / CROPPED, f"{film}_1", settings)
        _save(np.where(mask, np.uint8(255), np.uint8(0)), folder / MASKS, f"{film}_1", settings, number=2)
        paths = [_series(film, settings), *[_series(f"{film}_1", settings)] * 2]
        files = [f"{path}/00000{number}.dcm" for path, number in zip(paths, (0, *numbers), strict=True)]
        rows.append((case.lesion.kind, split, table_row(case, view, files, seed=settings["seed"])))
    return rows


def _save(pixels: np.ndarray, folder: Path, name: str, settings: dict[str, Any], number: int = 1) -> None:
    """Write one image; a crop and its mask share study and series, as published."""
    not_stated: dict[str, Any] = dict.fromkeys(_NOT_STATED)
    dataset = mammogram_dataset(
        pixels,
        laterality=None,
        view=None,
        TransferSyntaxUID=ImplicitVRLittleEndian,
        SOPClassUID=SecondaryCaptureImageStorage,
        SOPInstanceUID=_uid(settings, name, folder.name),
        StudyInstanceUID=_uid(settings, name, "study"),
        SeriesInstanceUID=_uid(settings, name, "series"),
        SeriesDescription=folder.name,
        InstanceNumber=str(number),
        PatientID=name,
        PatientName=name,
        ConversionType="WSD",
        **not_stated,
    )
    path = folder / _series(name, settings) / f"1-{number}.dcm"
    path.parent.mkdir(parents=True, exist_ok=True)
    dataset.save_as(path, enforce_file_format=True)


def _series(name: str, settings: dict[str, Any]) -> str:
    return f"{name}/{_uid(settings, name, 'study')}/{_uid(settings, name, 'series')}"


def _uid(settings: dict[str, Any], *what: str) -> str:
    """Return a UID below 2.25 (PS3.5 B.2) that follows from the phantom's settings and what it identifies."""
    text = json.dumps([settings, *what], sort_keys=True)
    return f"2.25.{int.from_bytes(hashlib.sha256(text.encode()).digest()[:16], 'big')}"


def _around(mask: np.ndarray) -> tuple[slice, slice]:
    """Return the mask's box with a margin of a fifth of its longer side."""
    spans = [np.flatnonzero(mask.any(axis=axis)) for axis in (1, 0)]
    margin = 1 + max(int(span[-1] - span[0]) for span in spans) // 5
    top, left = (max(0, int(span[0]) - margin) for span in spans)
    return np.s_[top : int(spans[0][-1]) + margin + 1, left : int(spans[1][-1]) + margin + 1]


# The four case-description tables of CBIS-DDSM, with their own column names, value forms and line breaks.


def table_name(kind: str, split: str) -> str:
    """Return the file name of the table of a ``kind`` of lesion and a ``split``, "train" or "test"."""
    return f"{_PREFIX[kind].lower()}_case_description_{split}_set.csv"


def patient_name(patient_index: int) -> str:
    """Return the name of a patient in the tables."""
    return f"P_{patient_index + 1:05d}"


def write_tables(out: Path, rows: Iterable[_Row]) -> None:
    """Write all four tables below ``out``, those without a row with their header alone."""
    ordered = sorted(rows, key=lambda row: (row[2][0], row[2][3]))  # by patient and view
    for kind, features in _FEATURES.items():
        columns = [
            *("patient_id", _DENSITY_COLUMN[kind], "left or right breast", "image view", "abnormality id"),
            *("abnormality type", *features, "assessment", "pathology", "subtlety"),
            *("image file path", "cropped image file path", "ROI mask file path"),
        ]
        for split in SPLITS:
            with open(out / table_name(kind, split), "w", newline="", encoding="utf-8") as file:
                writer = csv.writer(file)  # with the line ends and quotes of the published tables
                writer.writerow(columns)
                writer.writerows(cells for *table, cells in ordered if table == [kind, split])


def table_row(case: Case, view: str, paths: list[str], *, seed: int) -> list[str]:
    """Describe a lesion in one view as the tables of CBIS-DDSM do.

    Args:
        case: Facts of the patient.
        view: Either "CC" or "MLO".
        paths: Paths of image, crop and mask, relative to the folder of their kind.
        seed: Seed of the phantom.
    """
    features, assessment, pathology = _described(case, seed)
    # The published tables break the line after one of the paths: the mask's for masses, the crop's for calcifications
    broken = 2 if case.lesion.kind == "mass" else 1
    return [
        patient_name(case.patient_index),
        str(1 + DENSITIES.index(case.density)),
        case.laterality,
        view,
        "1",
        case.lesion.kind,
        *features,
        str(assessment),
        pathology,
        str(case.subtlety),
        *(path + "\n" * (place == broken) for place, path in enumerate(paths)),
    ]


def _described(case: Case, seed: int) -> tuple[tuple[str, str], int, str]:
    """Return shape terms of the lexicon, BI-RADS assessment, and the pathology in the terms of CBIS-DDSM."""
    rng, mass = stream(seed, IDENTITY, case.patient_index), case.lesion.kind == "mass"
    if case.pathology == "malignant":
        terms = ("IRREGULAR", "SPICULATED") if mass else ("PLEOMORPHIC", "CLUSTERED")
        return terms, int(rng.choice([4, 5])), "MALIGNANT"
    shape = str(rng.choice(["ROUND", "OVAL"] if mass else ["COARSE", "ROUND_AND_REGULAR"]))
    terms = (shape, "CIRCUMSCRIBED" if mass else "CLUSTERED")
    if rng.random() < 0.25:
        return terms, 2, "BENIGN_WITHOUT_CALLBACK"
    return terms, int(rng.choice([3, 4])), "BENIGN"
