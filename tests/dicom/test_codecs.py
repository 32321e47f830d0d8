"""Every compression that a BSD or MIT library reads, in grayscale of 8 to 16 bits."""

from __future__ import annotations

from collections.abc import Iterator
from io import BytesIO

import numpy as np
import pytest
from pydicom.encaps import encapsulate
from pydicom.uid import (
    UID,
    HTJ2KLossless,
    HTJ2KLosslessRPCL,
    JPEG2000Lossless,
    JPEGBaseline8Bit,
    JPEGExtended12Bit,
    JPEGLossless,
    JPEGLosslessSV1,
    JPEGLSLossless,
    RLELossless,
)

from mammo_hf.dicom import MammogramError, mammogram_dataset, read_mammogram
from mammo_hf.dicom import pixels as codecs

imagecodecs = pytest.importorskip("imagecodecs")


@pytest.fixture(autouse=True)
def decoders_are_looked_for_again() -> Iterator[None]:
    yield
    codecs.find_decoder.cache_clear()


LOSSLESS = {
    JPEG2000Lossless: lambda pixels: imagecodecs.jpeg2k_encode(pixels, level=0, codecformat="j2k"),
    JPEGLSLossless: imagecodecs.jpegls_encode,
    JPEGLossless: imagecodecs.ljpeg_encode,
    JPEGLosslessSV1: lambda pixels: imagecodecs.jpeg8_encode(pixels, lossless=True, predictor=1, bitspersample=16),
    HTJ2KLossless: imagecodecs.htj2k_encode,
    HTJ2KLosslessRPCL: imagecodecs.htj2k_encode,
}


def picture(bits: int) -> np.ndarray:
    rows, columns = np.mgrid[:50, :70]
    return ((rows * 70 + columns) * ((1 << bits) - 1) // 3499).astype(np.uint8 if bits == 8 else np.uint16)


def file_of(frame: bytes, syntax: UID, pixels: np.ndarray, bits: int) -> bytes:
    dataset = mammogram_dataset(pixels, bits_stored=bits, TransferSyntaxUID=syntax)
    dataset["PixelData"].is_undefined_length = True
    dataset.PixelData = encapsulate([frame])
    file = BytesIO()
    dataset.save_as(file, enforce_file_format=True)
    return file.getvalue()


@pytest.mark.parametrize("bits", [10, 12, 14, 16])
@pytest.mark.parametrize("syntax", LOSSLESS, ids=lambda syntax: syntax.keyword)
def test_what_is_lossless_comes_back_exactly(syntax: UID, bits: int) -> None:
    pixels = picture(bits)
    mammogram = read_mammogram(file_of(LOSSLESS[syntax](pixels), syntax, pixels, bits))
    np.testing.assert_array_equal(mammogram.pixels[0], pixels)
    np.testing.assert_allclose(mammogram.intensity(0), pixels / ((1 << bits) - 1), atol=1e-6)


@pytest.mark.parametrize(("syntax", "bits"), [(JPEGBaseline8Bit, 8), (JPEGExtended12Bit, 12), (JPEGExtended12Bit, 8)])
def test_lossy_jpeg_of_eight_and_of_twelve_bits(syntax: UID, bits: int) -> None:
    pixels = picture(bits)
    frame = imagecodecs.jpeg8_encode(pixels, level=98, bitspersample=bits)
    found = read_mammogram(file_of(frame, syntax, pixels, bits)).pixels[0]
    assert np.abs(found.astype(int) - pixels).max() <= (1 << bits) // 64


def test_eight_bits_lossless() -> None:
    pixels = picture(8)
    for syntax, encode in ((JPEG2000Lossless, LOSSLESS[JPEG2000Lossless]), (JPEGLSLossless, imagecodecs.jpegls_encode)):
        np.testing.assert_array_equal(read_mammogram(file_of(encode(pixels), syntax, pixels, 8)).pixels[0], pixels)


@pytest.mark.parametrize("syntax", [JPEG2000Lossless, RLELossless])
def test_without_imagecodecs_pydicom_is_asked(syntax: UID, monkeypatch: pytest.MonkeyPatch) -> None:
    if syntax != RLELossless:
        pytest.importorskip("openjpeg")
    monkeypatch.setattr(codecs, "is_available", lambda uid: False)
    codecs.find_decoder.cache_clear()
    pixels = picture(12)
    dataset = mammogram_dataset(pixels, bits_stored=12)
    dataset.compress(syntax)
    np.testing.assert_array_equal(read_mammogram(dataset).pixels[0], pixels)


def test_gdcm_is_never_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    # it ends the whole process on some damaged files
    monkeypatch.setattr(codecs, "is_available", lambda uid: False)
    codecs.find_decoder.cache_clear()
    pixels = picture(12)
    data = file_of(LOSSLESS[JPEGLosslessSV1](pixels), JPEGLosslessSV1, pixels, 12)
    with pytest.raises(MammogramError, match=r"no installed decoder reads JPEG Lossless.*mammo-hf\[codecs\]"):
        read_mammogram(data)
