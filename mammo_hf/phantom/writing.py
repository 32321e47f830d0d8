"""A phantom on disk, laid out as CBIS-DDSM is: three folders of DICOM files and four tables."""

from __future__ import annotations

import csv
import hashlib
import json
import os
import shutil
from collections import Counter
from collections.abc import Iterable, Iterator
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from pydicom.uid import ImplicitVRLittleEndian, SecondaryCaptureImageStorage
from tqdm.auto import tqdm

from ..dicom.writer import mammogram_dataset
from ..errors import UsageError
from ..files import MARKER
from .exam import IDENTITY, VIEWS, Case, PhantomExam, check_size, draw_case, official_test_patients, paint_exam, stream
from .parenchyma import DENSITIES

# The four case-description tables of CBIS-DDSM, with their own column names, value forms and line breaks.


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


FULL, CROPPED, MASKS = "full mammogram images", "cropped images", "ROI mask images"
_PREFIX = {"mass": "Mass", "calcification": "Calc"}
_SPLIT = {"train": "Training", "test": "Test"}
# what a digitised film in CBIS-DDSM does not say: side, view, spacing, how values relate to X-rays
_UNSAID: dict[str, Any] = dict.fromkeys(
    (
        *("PresentationIntentType", "ImageType", "PositionerType", "AcquisitionContextSequence", "BurnedInAnnotation"),
        *(
            "AnatomicRegionSequence",
            "PresentationLUTShape",
            "PixelIntensityRelationship",
            "PixelIntensityRelationshipSign",
        ),
        *(
            "RescaleIntercept",
            "RescaleSlope",
            "RescaleType",
            "LossyImageCompression",
            "ImagerPixelSpacing",
            "Manufacturer",
        ),
    )
)


@dataclass(frozen=True)
class PhantomSummary:
    """What was written.

    Attributes:
        out: The folder.
        patients: How many patients.
        images: How many whole images, four a patient.
        labelled_images: How many of them show a finding and stand in a table.
        test_patients: How many patients are in the official test split.
        pathologies: Patients by pathology.
        kinds: Patients by kind of finding.
        densities: Patients by density class.
    """

    out: Path
    patients: int
    images: int
    labelled_images: int
    test_patients: int
    pathologies: dict[str, int] = field(default_factory=dict)
    kinds: dict[str, int] = field(default_factory=dict)
    densities: dict[str, int] = field(default_factory=dict)


@dataclass(frozen=True)
class _Settings:
    """What decides every pixel; written to the marker file and mixed into every UID."""

    seed: int
    size: tuple[int, int]
    mass_share: float
    lesion_scale: float
    lesion_contrast: float
    lesion_halo: float


def write_phantom(
    out: str | os.PathLike[str],
    *,
    patients: int,
    seed: int = 0,
    size: tuple[int, int] = (1024, 512),
    test_fraction: float = 0.25,
    mass_share: float = 0.65,
    lesion_scale: float = 1.0,
    lesion_contrast: float = 1.0,
    lesion_halo: float = 0.0,
    num_proc: int | None = None,
    progress: bool = True,
) -> PhantomSummary:
    """Draw patients and write them as CBIS-DDSM is laid out.

    The same arguments give the same bytes, whatever ``num_proc``. A phantom that is already in ``out`` is replaced.

    Args:
        out: The folder: new, empty, or holding an earlier phantom.
        patients: How many; each has four whole images, two of them with a finding.
        seed: 0 or more.
        size: (height, width) of the whole images, at least 96 x 48.
        test_fraction: Share of the patients in the official test split, in [0, 1].
        mass_share: Share of masses among the findings; the others are calcifications, which vanish in small images.
        lesion_scale: Enlarges the findings.
        lesion_contrast: Strengthens the findings.
        lesion_halo: Darkens the fat around the findings, over their own contrast.
        num_proc: How many processes draw; by default one a core.
        progress: Show a progress bar.

    Raises:
        UsageError: An argument is out of its range, ``out`` holds something else, or it cannot be written.
    """
    settings = _Settings(seed, (int(size[0]), int(size[1])), mass_share, lesion_scale, lesion_contrast, lesion_halo)
    _check(patients, test_fraction, num_proc, size)
    cases = [_case(index, settings) for index in range(patients)]
    in_test = official_test_patients(cases, test_fraction, seed=seed)
    jobs = [(case, "test" if case.patient_index in in_test else "train", settings) for case in cases]
    folder = Path(out)
    try:
        _clear(folder, {"patients": patients, "test_fraction": test_fraction, **asdict(settings)})
        rows: list[Described] = []
        done = _write_all(folder, jobs, num_proc or min(_cores(), patients))
        for written in tqdm(done, total=patients, desc="phantom", unit="patient", disable=not progress):
            rows += written
        rows.sort(key=lambda row: (row.case.patient_index, row.view))
        write_tables(folder, rows, seed=seed)
    except OSError as error:
        reason = f"cannot be written ({error.strerror or error})"
        raise UsageError(reason, source=out, remedy="choose a folder you can write to, with enough room") from error
    return PhantomSummary(
        out=folder,
        patients=patients,
        images=4 * patients,
        labelled_images=len(rows),
        test_patients=len(in_test),
        pathologies=_counts(case.pathology for case in cases),
        kinds=_counts(case.draft.kind for case in cases),
        densities=_counts(case.density for case in cases),
    )


def _counts(values: Iterator[str]) -> dict[str, int]:
    return dict(sorted(Counter(values).items()))


def _check(patients: int, test_fraction: float, num_proc: int | None, size: tuple[int, int]) -> None:
    if patients < 1:
        raise UsageError(f"must be 1 or more, not {patients}", source="patients")
    if num_proc is not None and num_proc < 1:
        raise UsageError(f"must be 1 or more, not {num_proc}", source="num_proc")
    if not 0.0 <= test_fraction <= 1.0:
        raise UsageError(f"must lie between 0 and 1, not {test_fraction}", source="test_fraction")
    check_size(size)


def _cores() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _case(index: int, settings: _Settings) -> Case:
    return draw_case(
        index,
        seed=settings.seed,
        mass_share=settings.mass_share,
        lesion_scale=settings.lesion_scale,
        lesion_contrast=settings.lesion_contrast,
        lesion_halo=settings.lesion_halo,
    )


def _clear(folder: Path, described: dict[str, object]) -> None:
    """Make the folder ready, taking away an earlier phantom and nothing else; the marker is the first thing in it."""
    if folder.exists() and not folder.is_dir():
        raise UsageError("is a file, not a folder", source=folder, remedy="give a new or empty folder")
    if folder.is_dir() and any(folder.iterdir()) and not (folder / MARKER).is_file():
        raise UsageError("is not empty and holds no phantom", source=folder, remedy="give a new or empty folder")
    folder.mkdir(parents=True, exist_ok=True)
    for name in (FULL, CROPPED, MASKS):
        if (folder / name).is_dir():
            shutil.rmtree(folder / name)
    for kind in _PREFIX:
        for split in _SPLIT:
            (folder / table_name(kind, split)).unlink(missing_ok=True)
    (folder / MARKER).write_text(json.dumps(described, indent=2, sort_keys=True) + "\n", encoding="utf-8")


def _write_all(folder: Path, jobs: list[tuple[Case, str, _Settings]], num_proc: int) -> Iterator[list[Described]]:
    if num_proc == 1:
        for job in jobs:
            yield _write_patient(folder, *job)
        return
    with ProcessPoolExecutor(num_proc) as pool:
        futures = [pool.submit(_write_patient, folder, *job) for job in jobs]
        try:
            for future in as_completed(futures):
                yield future.result()
        finally:
            pool.shutdown(cancel_futures=True)


def _write_patient(folder: Path, case: Case, split: str, settings: _Settings) -> list[Described]:
    exam = paint_exam(case, seed=settings.seed, size=settings.size, pathology=case.pathology)
    paths = _Paths(folder, case, split, settings)
    for (laterality, view), image in exam.images.items():
        paths.save(image, FULL, f"{laterality}_{view}")
    return [_write_finding(exam, case, split, view, paths) for view in VIEWS]


def _write_finding(exam: PhantomExam, case: Case, split: str, view: str, paths: _Paths) -> Described:
    film = f"{case.laterality}_{view}"
    image, mask = exam.images[case.laterality, view], exam.masks[case.laterality, view]
    paths.save(image[_around(mask)], CROPPED, f"{film}_1")
    paths.save(np.where(mask, np.uint8(255), np.uint8(0)), MASKS, f"{film}_1")
    # the published tables number the files from 0, whereas the downloads call them 1-1.dcm and 1-2.dcm
    first, second = ("000000.dcm", "000001.dcm") if case.draft.kind == "mass" else ("000001.dcm", "000000.dcm")
    return Described(
        case=case,
        view=view,
        split=split,
        image_path=paths.stated(film, "000000.dcm"),
        cropped_path=paths.stated(f"{film}_1", first),
        mask_path=paths.stated(f"{film}_1", second),
    )


def _around(mask: np.ndarray) -> tuple[slice, slice]:
    """The mask's box and a fifth of its longer side around it."""
    spans = [np.flatnonzero(mask.any(axis=axis)) for axis in (1, 0)]
    margin = 1 + max(int(span[-1] - span[0]) for span in spans) // 5
    top, left = (max(0, int(span[0]) - margin) for span in spans)
    return np.s_[top : int(spans[0][-1]) + margin + 1, left : int(spans[1][-1]) + margin + 1]


@dataclass(frozen=True)
class _Paths:
    """Where one patient's files lie and what they are called in the tables."""

    folder: Path
    case: Case
    split: str
    settings: _Settings

    def name(self, rest: str) -> str:
        """Folder name and PatientID, as in ``Mass-Training_P_00001_LEFT_CC``."""
        kind, split = _PREFIX[self.case.draft.kind], _SPLIT[self.split]
        return f"{kind}-{split}_{patient_name(self.case.patient_index)}_{rest}"

    def uid(self, *what: str) -> str:
        """A UID below 2.25 (PS3.5 B.2) that follows from the phantom's settings and what it names."""
        text = json.dumps([asdict(self.settings), *what], sort_keys=True)
        return f"2.25.{int.from_bytes(hashlib.sha256(text.encode()).digest()[:16], 'big')}"

    def stated(self, rest: str, file: str) -> str:
        """The path as the tables state it."""
        name = self.name(rest)
        return f"{name}/{self.uid(name, 'study')}/{self.uid(name, 'series')}/{file}"

    def save(self, pixels: np.ndarray, top: str, rest: str) -> None:
        """Write one image; a crop and its mask share study and series, as published."""
        name = self.name(rest)
        number = 2 if top == MASKS else 1
        dataset = mammogram_dataset(
            pixels,
            laterality=None,
            view=None,
            TransferSyntaxUID=ImplicitVRLittleEndian,
            SOPClassUID=SecondaryCaptureImageStorage,
            SOPInstanceUID=self.uid(name, top),
            StudyInstanceUID=self.uid(name, "study"),
            SeriesInstanceUID=self.uid(name, "series"),
            SeriesDescription=top,
            InstanceNumber=str(number),
            PatientID=name,
            PatientName=name,
            ConversionType="WSD",
            **_UNSAID,
        )
        path = self.folder / top / Path(self.stated(rest, f"1-{number}.dcm"))
        path.parent.mkdir(parents=True, exist_ok=True)
        dataset.save_as(path, enforce_file_format=True)
