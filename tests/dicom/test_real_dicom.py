"""Real files of many makers: each is read right, or refused for its true reason."""

from __future__ import annotations

import time
from io import BytesIO
from pathlib import Path

import numpy as np
import pydicom
import pytest

from mammo_hf.dicom import (
    Laterality,
    Mammogram,
    MammogramError,
    Photometric,
    PresentationIntent,
    Vendor,
    View,
    read_mammogram,
)
from mammo_hf.dicom.display import Display
from mammo_hf.dicom.intensity import intensity_table
from mammo_hf.dicom.pixels import image_pixel

# what the reader says of every file; texts are parts of the error, tuples are
# (rows, columns, bits, signed, photometric, laterality, view, rule)
EXPECTED: dict[str, str | tuple] = {
    "dcm4che/3gb-bulk-data-truncated": "is an MR image",
    "dcm4che/no_preamble_dicm_in_data": "holds no pixel data",
    "dcm4che/report_dfl": "is a report",
    "dcm4che/test16signed.dcm": (512, 512, 16, True, "MONOCHROME2", "", "", "window (LINEAR)"),
    "dcm4che/will-jxl.dcm": "is an ultrasound image",
    "fo-dicom/CR-MONO1-10-chest": (440, 440, 10, False, "MONOCHROME1", "", "", "window (LINEAR)"),
    "fo-dicom/CR-ModalitySequenceLUT.dcm": (1576, 1976, 10, False, "MONOCHROME1", "", "", "full range (no window)"),
    "fo-dicom/D_CLUNIE_CT1_RLE_FRAGS.dcm": "is a CT image",
    "fo-dicom/GH133.dcm": (3062, 2394, 12, False, "MONOCHROME2", "R", "MLO", "VOI LUT 'NORMAL'"),
    "fo-dicom/GH177_D_CLUNIE_CT1_IVRLE_BigEndian_undefined_length.dcm": "is damaged, or cut short",
    "fo-dicom/GH227.dcm": (512, 512, 8, False, "MONOCHROME2", "", "", "full range (no window)"),
    "fo-dicom/GH364.dcm": "is an ultrasound image",
    "fo-dicom/Issue1097_FailToOpenDeflatedFileWithSQ.dcm": "holds no pixel data",
    "fo-dicom/OutOfBoundsOverlay.dcm": (788, 1318, 12, False, "MONOCHROME2", "L", "CC", "window (LINEAR)"),
    "gcp/example-mg.dcm": "is a colour image",
    "gcp/example-redacted-mg-jp2k.dcm": "is a colour image",
    "highdicom/dx_image.dcm": (169, 211, 8, False, "MONOCHROME1", "L", "", "window (LINEAR)"),
    "nema/MG1_J2KI": (4664, 3064, 12, False, "MONOCHROME2", "L", "MLO", "window (LINEAR)"),
    "nema/MG1_JPLY": (4664, 3064, 12, False, "MONOCHROME2", "L", "MLO", "window (LINEAR)"),
    **{
        f"nema/RG3_{codec}": (1760, 1760, 10, False, "MONOCHROME1", "R", "", "window (LINEAR)")
        for codec in ("J2KR", "JLSL", "JLSN", "RLE")
    },
    "nema/XA1_JLSL": "is an angiogram",
    "nema/XA1_JPLL": "is an angiogram",
    "pydicom/ExplVR_BigEndNoMeta.dcm": "is not a DICOM file",
    "pydicom/ExplVR_LitEndNoMeta.dcm": "is a radiotherapy plan",
    "pydicom/JPEGLSNearLossless_16.dcm": (50, 10, 16, False, "MONOCHROME2", "", "", "full range (no window)"),
    "pydicom/UN_sequence.dcm": "holds no pixel data",
    "pydicom/badVR.dcm": "is a radiotherapy dose",
    "pydicom/image_dfl.dcm": (512, 512, 8, False, "MONOCHROME2", "", "", "full range (no window)"),
    "pydicom/meta_missing_tsyntax.dcm": "PhotometricInterpretation is missing",
    "pydicom/no_meta.dcm": "is not a DICOM file",
    "pydicom/no_meta_group_length.dcm": "holds no pixel data",
    "pydicom/rtplan_truncated.dcm": "is a radiotherapy plan",
    "pydicom-data/HTJ2KLossless_08_RGB.dcm": "is a colour image",
    "pydicom-data/JLSL_08_07_0_1F.dcm": (128, 128, 7, False, "MONOCHROME2", "", "", "full range (no window)"),
    "pydicom-data/JLSL_16_15_1_1F.dcm": (128, 128, 15, True, "MONOCHROME2", "", "", "full range (no window)"),
    "pydicom-data/emri_small_jpeg_2k_lossless_too_short.dcm": "is an MR image",
    "pydicom-data/liver_nonbyte_aligned_deflate.dcm": "is a segmentation",
    "pydicom-data/mlut_18.dcm": (512, 512, 12, True, "MONOCHROME2", "", "", "full range (no window)"),
    "pydicom-data/vlut_04.dcm": (512, 512, 8, False, "MONOCHROME2", "", "", "VOI LUT"),
    "pylibjpeg-data/966.dcm": "cannot be decoded",
    "pylibjpeg-data/966_fixed.dcm": (2128, 2000, 12, False, "MONOCHROME1", "R", "", "window (LINEAR)"),
    "pylibjpeg-data/JPEGLosslessP14SV1_1s_1f_u_16_16.dcm": (
        *(535, 800, 16, False, "MONOCHROME2", "", ""),
        "full range (no window)",
    ),
    "weasis-dicom-tools/imageForPrLUTs.dcm": (512, 512, 8, False, "MONOCHROME2", "", "", "full range (no window)"),
    "weasis-dicom-tools/overlay.dcm": (512, 512, 12, False, "MONOCHROME2", "", "", "full range (no window)"),
    "weasis-dicom-tools/prLUTs.dcm": "is a presentation state",
    "weasis-dicom-tools/signed-raw-9bit.dcm": (512, 512, 9, True, "MONOCHROME2", "", "", "full range (no window)"),
}


def as_found(mammogram: Mammogram) -> tuple:
    header = mammogram.header
    facts = (header.rows, header.columns, header.bits_stored, header.signed, header.photometric.value)
    return (*facts, header.laterality.value, header.view.value, mammogram.intensity_source)


@pytest.mark.filterwarnings("ignore")
def test_every_file_is_read_or_refused_for_its_true_reason(real_dicom: Path) -> None:
    pytest.importorskip("imagecodecs")
    named = set()
    for path in sorted(path for path in real_dicom.rglob("*") if path.is_file() and path.suffix != ".md"):
        name = str(path.relative_to(real_dicom))
        started = time.process_time()
        try:
            found: str | tuple = as_found(read_mammogram(path, any_anatomy=True))
        except MammogramError as error:
            found = str(error)
        assert time.process_time() - started < 30, name
        expected = EXPECTED.get(name, "not a mammogram")
        if isinstance(expected, str):
            assert isinstance(found, str), name
            assert expected in found, name
        else:
            assert found == expected, name
        named.add(name)
    assert set(EXPECTED) <= named


def test_the_sigmoid_and_the_lut_of_one_header_give_the_same_picture(real_dicom: Path) -> None:
    dataset = pydicom.dcmread(real_dicom / "fo-dicom" / "GH133.dcm")
    image = image_pixel(dataset, [])
    assert (image.bits_stored, image.signed, image.photometric) == (12, False, Photometric.MONOCHROME2)
    by_lut, by_window = (
        intensity_table(
            dataset, image, PresentationIntent.UNKNOWN, Display(prefer=prefer), lambda: np.zeros((1, 1), np.uint16)
        )
        for prefer in ("lut", "window")
    )
    assert (by_lut.source, by_window.source) == ("VOI LUT 'NORMAL'", "window 'NORMAL' (SIGMOID)")
    # both to the half step of 12 bits that rounding the LUT's entries leaves, and float32
    assert np.abs(by_lut.values - by_window.values).max() * 4095 <= 0.5 + 1e-3
    assert by_lut.values.max() > 0.99
    # padding is 0 to 30; the sigmoid is small but not nothing beyond it
    assert not by_window.values[:31].any()
    assert by_window.values[31] > 0


def test_a_mammogram_of_the_field(real_dicom: Path) -> None:
    pytest.importorskip("imagecodecs")
    mammogram = read_mammogram(real_dicom / "fo-dicom" / "GH133.dcm")
    header = mammogram.header
    assert (header.laterality, header.view, header.vendor) == (Laterality.RIGHT, View.MLO, Vendor.GE)
    assert (header.intent, header.contradictions) == (PresentationIntent.FOR_PRESENTATION, ())
    assert header.spacing_mm == pytest.approx((0.0940909, 0.0940909))
    assert (int(mammogram.pixels.min()), int(mammogram.pixels.max())) == (0, 3471)
    intensity = mammogram.intensity(0)
    # the breast of a right MLO lies at the right edge, the air is black
    assert intensity[:, -300:].mean() > 0.2
    assert intensity[:, :300].mean() < 0.01


def test_magnification_is_taken_off_the_spacing(real_dicom: Path) -> None:
    pytest.importorskip("imagecodecs")
    header = read_mammogram(real_dicom / "fo-dicom" / "OutOfBoundsOverlay.dcm").header
    assert header.spacing_mm == pytest.approx((0.085 / 1.0433386837881, 0.085 / 1.0433386837881))


@pytest.mark.filterwarnings("ignore")
def test_every_transfer_syntax_decodes_as_pydicom_does(real_dicom: Path) -> None:
    """The files of other modalities, taken for mammograms, so that each codec and byte order is seen."""
    pytest.importorskip("imagecodecs")
    syntaxes = set()
    for folder in ("cornerstone3D", "dicomParser", "pydicom", "pydicom-data", "fo-dicom"):
        for path in sorted((real_dicom / folder).iterdir()):
            try:
                dataset = pydicom.dcmread(path)
                expected = dataset.pixel_array
            except Exception:
                continue  # broken on purpose, or of a codec that is not there: the test above says what we make of it
            if dataset.get("Modality") not in ("CT", "MR", "NM"):
                continue
            dataset.Modality = "MG"
            mammogram = read_mammogram(dataset, any_anatomy=True)
            np.testing.assert_array_equal(mammogram.pixels.reshape(expected.shape), expected, err_msg=path.name)
            syntaxes.add(str(dataset.file_meta.TransferSyntaxUID))
    assert len(syntaxes) >= 10


def test_truncated_pixels_of_the_field(real_dicom: Path) -> None:
    dataset = pydicom.dcmread(BytesIO((real_dicom / "pydicom" / "MR_truncated.dcm").read_bytes()))
    dataset.Modality = "MG"
    with pytest.raises(MammogramError, match="cut short"):
        read_mammogram(dataset, any_anatomy=True)
