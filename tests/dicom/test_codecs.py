"""Every compression that a BSD or MIT library reads, in grayscale of 8 to 16 bits."""

from __future__ import annotations

from collections.abc import Iterator
from io import BytesIO

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydicom.encaps import encapsulate, generate_frames
from pydicom.uid import (
    HTJ2K,
    JPEG2000,
    MPEG2MPML,
    UID,
    ExplicitVRLittleEndian,
    HTJ2KLossless,
    HTJ2KLosslessRPCL,
    ImplicitVRLittleEndian,
    JPEG2000Lossless,
    JPEGBaseline8Bit,
    JPEGExtended12Bit,
    JPEGLossless,
    JPEGLosslessSV1,
    JPEGLSLossless,
    JPEGLSNearLossless,
    JPIPHTJ2KReferenced,
    RLELossless,
)

from mammo_hf.dicom import MammogramError, mammogram_dataset, read_mammogram
from mammo_hf.dicom import pixels as decoders
from mammo_hf.notes import codes

imagecodecs = pytest.importorskip("imagecodecs")

ENCAPSULATED_UNCOMPRESSED = UID("1.2.840.10008.1.2.1.98")


@pytest.fixture(autouse=True)
def decoders_are_looked_for_again() -> Iterator[None]:
    yield
    decoders.find_decoder.cache_clear()


LOSSLESS = {
    JPEG2000Lossless: lambda pixels: imagecodecs.jpeg2k_encode(pixels, level=0, codecformat="j2k"),
    JPEGLSLossless: imagecodecs.jpegls_encode,
    JPEGLossless: imagecodecs.ljpeg_encode,
    JPEGLosslessSV1: lambda pixels: imagecodecs.jpeg8_encode(pixels, lossless=True, predictor=1, bitspersample=16),
    HTJ2KLossless: imagecodecs.htj2k_encode,
    HTJ2KLosslessRPCL: imagecodecs.htj2k_encode,
}


LOSSY = {
    JPEGLSNearLossless: (lambda pixels, loss: imagecodecs.jpegls_encode(pixels, level=loss), imagecodecs.jpegls_decode),
    JPEG2000: (
        lambda pixels, loss: imagecodecs.jpeg2k_encode(pixels, level=60 - loss, reversible=False, codecformat="j2k"),
        imagecodecs.jpeg2k_decode,
    ),
    HTJ2K: (
        lambda pixels, loss: imagecodecs.htj2k_encode(pixels, level=loss / 1e3, reversible=False),
        imagecodecs.htj2k_decode,
    ),
    JPEGExtended12Bit: (
        lambda pixels, loss: imagecodecs.jpeg8_encode(pixels, level=95 - 8 * loss, bitspersample=12),
        imagecodecs.jpeg8_decode,
    ),
}


@given(
    st.sampled_from(sorted(LOSSY)),
    st.integers(9, 15),
    st.integers(1, 6),
    st.sampled_from(["MONOCHROME1", "MONOCHROME2"]),
    st.integers(0, 99),
)
def test_what_lossy_compression_moves_beyond_the_range_becomes_its_end(
    syntax: str, bits: int, loss: int, photometric: str, seed: int
) -> None:
    syntax = UID(syntax)
    bits = min(bits, 11) if syntax == JPEGExtended12Bit else bits
    encode, decode = LOSSY[syntax]
    top = (1 << bits) - 1
    texture = np.random.default_rng(seed).normal(0.5, 0.5, (9, 11))
    pixels = np.round(np.kron(np.clip(texture, 0, 1), np.ones((8, 8))) * top).astype(np.uint16)
    frame = encode(pixels, loss)
    dataset = mammogram_dataset(pixels, bits_stored=bits, photometric=photometric, TransferSyntaxUID=syntax)
    dataset.PixelData = encapsulate([frame])
    mammogram = read_mammogram(dataset)
    decoded = decode(frame).astype(np.int64)
    np.testing.assert_array_equal(mammogram.frame(0), np.clip(decoded, 0, top))
    assert ("bits_saturated" in codes(mammogram.header.contradictions)) == bool((decoded > top).any())


@given(st.sampled_from(sorted(LOSSLESS)), st.integers(3, 12), st.integers(13, 16), st.booleans(), st.integers(0, 99))
def test_a_codestream_that_needs_more_bits_than_the_header_says_has_them(
    syntax: str, stored: int, bits: int, inverted: bool, seed: int
) -> None:
    pixels = np.random.default_rng(seed).integers(0, 1 << bits, (8, 9)).astype(np.uint16)
    pixels[0, 0] = (1 << bits) - 1
    syntax, photometric = UID(syntax), "MONOCHROME1" if inverted else "MONOCHROME2"
    dataset = mammogram_dataset(pixels, photometric=photometric, TransferSyntaxUID=syntax)
    dataset.BitsStored, dataset.HighBit = stored, stored - 1
    dataset.PixelData = encapsulate([LOSSLESS[syntax](pixels)])
    mammogram = read_mammogram(dataset)
    np.testing.assert_array_equal(mammogram.frame(0), pixels)
    assert "bits_stored_contradicted" in codes(mammogram.header.contradictions)
    assert mammogram.header.bits_stored >= bits


@given(st.sampled_from(["jpeg2k", "jpegls"]), st.integers(9, 16), st.integers(0, 99), st.booleans())
def test_signed_values_keep_their_sign(codec: str, bits: int, seed: int, unsigned: bool) -> None:
    pixels = np.random.default_rng(seed).integers(-(1 << bits - 1), 1 << bits - 1, (8, 9)).astype(np.int16)
    pixels[0, :2] = -(1 << bits - 1), (1 << bits - 1) - 1
    words = (pixels.view(np.uint16) & ((1 << bits) - 1)).astype(np.uint16)
    if codec == "jpegls":  # has no sign
        frame, syntax = imagecodecs.jpegls_encode(pixels.view(np.uint16)), JPEGLSLossless
    else:
        source = words if unsigned else pixels
        frame = imagecodecs.jpeg2k_encode(source, level=0, codecformat="j2k", bitspersample=bits)
        syntax = JPEG2000Lossless
    dataset = mammogram_dataset(pixels, bits_stored=bits, TransferSyntaxUID=syntax)
    dataset.PixelData = encapsulate([frame])
    np.testing.assert_array_equal(read_mammogram(dataset).frame(0), pixels)


ACTUAL = {
    **{ExplicitVRLittleEndian: None, ENCAPSULATED_UNCOMPRESSED: lambda pixels: pixels.tobytes()},
    **{JPEG2000Lossless: LOSSLESS[JPEG2000Lossless], JPEGLSLossless: LOSSLESS[JPEGLSLossless]},
    **{JPEGLossless: LOSSLESS[JPEGLossless], HTJ2KLossless: LOSSLESS[HTJ2KLossless]},
    RLELossless: lambda pixels: _encode_frame_as_run_lengths(pixels),
}


def _encode_frame_as_run_lengths(pixels: np.ndarray) -> bytes:
    dataset = mammogram_dataset(pixels, bits_stored=12)
    dataset.compress(RLELossless)
    return next(generate_frames(dataset.PixelData, number_of_frames=1))


@given(
    st.sampled_from(sorted(ACTUAL)),
    st.sampled_from([*sorted(ACTUAL), ImplicitVRLittleEndian, MPEG2MPML, JPIPHTJ2KReferenced, "1.2.3.4"]),
    st.sampled_from(["undefined", "defined", "no fragments"]),
    st.integers(0, 99),
)
def test_a_transfer_syntax_that_the_pixel_data_contradict_is_noted_and_they_are_read(
    actual: str, declared: str, form: str, seed: int
) -> None:
    pixels = np.random.default_rng(seed).integers(0, 4096, (23, 31)).astype(np.uint16)
    pixels[0, 0] = 4095
    encode = ACTUAL[actual]
    bare = form == "no fragments" and actual not in (RLELossless, ENCAPSULATED_UNCOMPRESSED)
    content = pixels.tobytes() if encode is None else encode(pixels)
    content += b"\0" * (len(content) % 2)
    dataset = mammogram_dataset(pixels, bits_stored=12)
    dataset.file_meta.TransferSyntaxUID = UID(declared)
    dataset.PixelData = content if encode is None or bare else encapsulate([content])
    dataset["PixelData"].is_undefined_length = form == "undefined" and encode is not None
    if encode is None and declared == "1.2.3.4":
        with pytest.raises(MammogramError, match="transfer syntax is not known"):  # its byte order is not, either
            read_mammogram(dataset)
        return
    mammogram = read_mammogram(dataset)
    np.testing.assert_array_equal(mammogram.frame(0), pixels)
    native = declared in (ExplicitVRLittleEndian, ImplicitVRLittleEndian)
    agrees = native if encode is None else actual == declared
    assert ("transfer_syntax_contradicted" in codes(mammogram.header.contradictions)) == (not agrees)
    assert declared != "1.2.3.4" or "1.2.3.4" not in str(mammogram.header.contradictions)


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
    monkeypatch.setattr(decoders, "is_available", lambda uid: False)
    decoders.find_decoder.cache_clear()
    pixels = picture(12)
    dataset = mammogram_dataset(pixels, bits_stored=12)
    dataset.compress(syntax)
    np.testing.assert_array_equal(read_mammogram(dataset).pixels[0], pixels)


def test_gdcm_is_never_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    # it ends the whole process on some damaged files
    monkeypatch.setattr(decoders, "is_available", lambda uid: False)
    decoders.find_decoder.cache_clear()
    pixels = picture(12)
    data = file_of(LOSSLESS[JPEGLosslessSV1](pixels), JPEGLosslessSV1, pixels, 12)
    with pytest.raises(MammogramError, match=r"no installed decoder reads JPEG Lossless.*\.\[codecs\]"):
        read_mammogram(data)
