from __future__ import annotations

from pathlib import Path

import numpy as np
import pydicom
import pytest
from pydicom.uid import (
    BreastTomosynthesisImageStorage,
    DigitalMammographyXRayImageStorageForPresentation,
    DigitalMammographyXRayImageStorageForProcessing,
    ExplicitVRBigEndian,
    ImplicitVRLittleEndian,
)

from mammo_hf.dicom import Laterality, MammogramError, Photometric, View, mammogram_dataset, read_mammogram

PIXELS = np.arange(12, dtype=np.uint16).reshape(3, 4)


def test_a_saved_dataset_is_a_file_that_any_reader_takes(tmp_path: Path) -> None:
    path = tmp_path / "a.dcm"
    mammogram_dataset(PIXELS, laterality="R", view=View.MLO, bits_stored=12, photometric="MONOCHROME1").save_as(path)
    dataset = pydicom.dcmread(path)
    np.testing.assert_array_equal(dataset.pixel_array, PIXELS)
    assert dataset.SOPClassUID == dataset.file_meta.MediaStorageSOPClassUID
    assert dataset.SOPClassUID == DigitalMammographyXRayImageStorageForPresentation
    assert dataset.SOPInstanceUID == dataset.file_meta.MediaStorageSOPInstanceUID
    assert (dataset.ImageLaterality, dataset.ViewPosition) == ("R", "MLO")
    assert dataset.ViewCodeSequence[0].CodeValue == "399368009"
    assert (dataset.BitsStored, dataset.HighBit, dataset.PresentationLUTShape) == (12, 11, "INVERSE")


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.int8, np.int16])
def test_what_is_written_is_read_back_whole(dtype: type) -> None:
    image = read_mammogram(mammogram_dataset(PIXELS.astype(dtype), laterality="R", view="XCCL"))
    np.testing.assert_array_equal(image.pixels[0], PIXELS)
    assert image.pixels.dtype == dtype
    header = image.header
    assert (header.laterality, header.view, header.photometric) == (
        Laterality.RIGHT,
        View.XCCL,
        Photometric.MONOCHROME2,
    )
    assert (header.bits_stored, header.contradictions) == (8 * np.dtype(dtype).itemsize, ())


def test_the_same_arguments_give_the_same_bytes_and_others_other_uids(tmp_path: Path) -> None:
    for name, keywords in {"a": {}, "b": {}, "c": {"PatientID": "x"}, "d": {"view": "MLO"}}.items():
        mammogram_dataset(PIXELS, **keywords).save_as(tmp_path / name)
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()
    uids = {pydicom.dcmread(tmp_path / name).SOPInstanceUID for name in "abcd"}
    assert len(uids) == 3


def test_keywords_replace_add_and_take_out() -> None:
    dataset = mammogram_dataset(
        PIXELS, laterality=None, view=None, Modality="OT", PatientID="P_1", Manufacturer=None, SOPInstanceUID="1.2.3"
    )
    assert (dataset.Modality, dataset.PatientID) == ("OT", "P_1")
    assert dataset.SOPInstanceUID == dataset.file_meta.MediaStorageSOPInstanceUID == "1.2.3"
    for keyword in ("Manufacturer", "ImageLaterality", "ViewPosition", "ViewCodeSequence"):
        assert keyword not in dataset


def test_the_sop_class_follows_the_kind_of_image() -> None:
    processing = mammogram_dataset(PIXELS, PresentationIntentType="FOR PROCESSING")
    assert processing.SOPClassUID == DigitalMammographyXRayImageStorageForProcessing
    # PS3.3 C.8.11.3: what a detector gives is linear in the beam
    assert processing.PixelIntensityRelationship == "LIN"
    assert mammogram_dataset(PIXELS).PixelIntensityRelationship == "LOG"
    volume = mammogram_dataset(np.stack([PIXELS, PIXELS]))
    assert (volume.SOPClassUID, volume.NumberOfFrames) == (BreastTomosynthesisImageStorage, 2)


@pytest.mark.parametrize("syntax", [ImplicitVRLittleEndian, ExplicitVRBigEndian])
def test_other_uncompressed_syntaxes(tmp_path: Path, syntax: pydicom.uid.UID) -> None:
    mammogram_dataset(PIXELS, TransferSyntaxUID=syntax).save_as(tmp_path / "a")
    dataset = pydicom.dcmread(tmp_path / "a")
    assert dataset.file_meta.TransferSyntaxUID == syntax
    np.testing.assert_array_equal(dataset.pixel_array, PIXELS)


@pytest.mark.parametrize(
    ("pixels", "bits", "message"),
    [
        (np.zeros(4, np.uint8), None, "not a mammogram"),
        (np.zeros((2, 2)), None, "not a mammogram"),
        (np.zeros((2, 2), np.int32), None, "not a mammogram"),
        (np.zeros((0, 2), np.uint8), None, "not a mammogram"),
        (np.full((2, 2), 4096, np.uint16), 12, "values from 4096 to 4096 do not fit into 12 bits"),
        (np.full((2, 2), -2049, np.int16), 12, "do not fit into 12 bits"),
        (np.zeros((2, 2), np.uint8), 9, "do not fit into 9 bits"),
    ],
)
def test_what_is_no_image_is_refused(pixels: np.ndarray, bits: int | None, message: str) -> None:
    with pytest.raises(MammogramError, match=message):
        mammogram_dataset(pixels, bits_stored=bits)
