from __future__ import annotations

import numpy as np
import pytest
from pydicom.dataset import Dataset
from pydicom.uid import (
    UID,
    BreastProjectionXRayImageStorageForPresentation,
    BreastTomosynthesisImageStorage,
    DigitalMammographyXRayImageStorageForPresentation,
    SecondaryCaptureImageStorage,
)

from mammo_hf.dicom import ImageKind, Implant, ViewModifier, mammogram_dataset, read_mammogram
from mammo_hf.dicom.header import find_exposure, find_implant, find_kind

DIGITAL = DigitalMammographyXRayImageStorageForPresentation


def header(**keywords: object) -> Dataset:
    dataset = Dataset()
    for keyword, value in keywords.items():
        setattr(dataset, keyword, value)
    return dataset


@pytest.mark.parametrize(
    ("sop_class", "image_type", "description", "frames", "kind"),
    [
        (DIGITAL, ["ORIGINAL", "PRIMARY", ""], "", 1, ImageKind.FFDM),
        (DIGITAL, ["DERIVED", "PRIMARY", "TOMO", "GENERATED_2D", "150000"], "", 1, ImageKind.SYNTHETIC),
        (SecondaryCaptureImageStorage, ["DERIVED", "PRIMARY", "TOMO", "GENERATED_2D"], "", 1, ImageKind.SYNTHETIC),
        (SecondaryCaptureImageStorage, ["DERIVED", "SECONDARY"], "L CC C-View", 1, ImageKind.SYNTHETIC),
        (DIGITAL, ["DERIVED", "PRIMARY"], "R MLO S-View", 1, ImageKind.SYNTHETIC),
        (DIGITAL, ["ORIGINAL", "PRIMARY", "TOMO_PROJ", "RIGHT"], "", 1, ImageKind.TOMOSYNTHESIS_PROJECTION),
        (BreastProjectionXRayImageStorageForPresentation, [], "", 1, ImageKind.TOMOSYNTHESIS_PROJECTION),
        (BreastTomosynthesisImageStorage, ["DERIVED", "PRIMARY", "TOMO"], "", 60, ImageKind.TOMOSYNTHESIS),
        (BreastTomosynthesisImageStorage, ["DERIVED", "PRIMARY", "TOMO", "GENERATED_2D"], "", 1, ImageKind.SYNTHETIC),
        (BreastTomosynthesisImageStorage, ["DERIVED", "PRIMARY", "TOMO"], "", 1, ImageKind.TOMOSYNTHESIS),
        (SecondaryCaptureImageStorage, [], "full mammogram images", 1, ImageKind.FILM),
        ("1.2.3", [], "", 1, ImageKind.UNKNOWN),
    ],
)
def test_kinds_are_distinguished(
    sop_class: UID, image_type: list[str], description: str, frames: int, kind: ImageKind
) -> None:
    dataset = header(SOPClassUID=sop_class, ImageType=image_type, SeriesDescription=description)
    assert find_kind(dataset, frames, []) is kind


def test_exposure_and_implant_are_read() -> None:
    dataset = mammogram_dataset(
        np.zeros((4, 5), np.uint8),
        KVP="29",
        Exposure="98",
        ManufacturerModelName="Senographe Pristina",
        BodyPartThickness="57.5",
        CompressionForce="88",
        BreastImplantPresent="YES",
    )
    found = read_mammogram(dataset).header
    assert (found.kvp, found.exposure_mas, found.thickness_mm, found.compression_force_n) == (29, 98, 57.5, 88)
    assert found.model_name == "Senographe Pristina"
    assert found.implant is Implant.PRESENT


@pytest.mark.parametrize(
    "given", [{"ExposureInmAs": 98.4}, {"ExposureInuAs": "98400"}, {"ExposureInuAs": "98400", "Exposure": "98"}]
)
def test_the_most_exact_exposure_is_taken(given: dict[str, object]) -> None:
    assert find_exposure(header(**given), [])[1] == pytest.approx(98.4)


def test_a_volume_holds_them_in_its_acquisition_sequence() -> None:
    dataset = header(XRay3DAcquisitionSequence=[header(KVP="31", BodyPartThickness="40")])
    notes: list[str] = []
    assert find_exposure(dataset, notes) == (31, None, None, 40)
    assert find_kind(dataset, 60, notes) is ImageKind.UNKNOWN
    assert notes == ["has 60 frames and is not a tomosynthesis by its SOP class"]


def test_zero_and_silence_are_none_and_nonsense_is_reported() -> None:
    notes: list[str] = []
    dataset = header(KVP="0", CompressionForce="-4")
    assert find_exposure(dataset, notes) == (None, None, None, None)
    assert find_implant(dataset, (ViewModifier.IMPLANT_DISPLACED,), notes) is Implant.UNKNOWN
    assert notes == ["CompressionForce is not positive"]
    notes.clear()
    denied = find_implant(header(BreastImplantPresent="NO"), (ViewModifier.IMPLANT_DISPLACED,), notes)
    assert denied is Implant.ABSENT
    assert notes == ["BreastImplantPresent says NO, the view's modifier says implant displaced"]
