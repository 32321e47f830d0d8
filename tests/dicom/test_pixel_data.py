from __future__ import annotations

from io import BytesIO

import numpy as np
import pydicom
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from pydicom.dataset import Dataset
from pydicom.encaps import encapsulate
from pydicom.pixels.decoders import pyjpegls, pylibjpeg
from pydicom.uid import (
    MPEG2MPML,
    UID,
    DeflatedExplicitVRLittleEndian,
    ExplicitVRBigEndian,
    ExplicitVRLittleEndian,
    HTJ2KLossless,
    ImplicitVRLittleEndian,
    JPEG2000Lossless,
    JPEGLSLossless,
    RLELossless,
)

from mammo_hf.dicom import MammogramError, mammogram_dataset
from mammo_hf.dicom import pixels as codecs
from mammo_hf.dicom.parsing import parse
from mammo_hf.dicom.pixels import StoredFrames, image_pixel, stored_frames
from mammo_hf.notes import codes

NATIVE = [ImplicitVRLittleEndian, ExplicitVRLittleEndian, DeflatedExplicitVRLittleEndian, ExplicitVRBigEndian]
DTYPES = [np.uint8, np.uint16, np.int16]


def saved(dataset: Dataset) -> Dataset:
    file = BytesIO()
    dataset.save_as(file, enforce_file_format=True)
    return pydicom.dcmread(BytesIO(file.getvalue()))


def frames_of(dataset: Dataset) -> StoredFrames:
    header, syntax, place = parse(dataset)
    assert place is not None
    image = image_pixel(header, [])
    return stored_frames(place.inflated(image.nbytes), syntax, image)


def values_of(dataset: Dataset) -> tuple[np.ndarray, tuple[str, ...]]:
    frames = frames_of(dataset)
    values = np.stack([frames[index] for index in range(len(frames))])
    assert not any(frames[index].flags.writeable for index in range(len(frames)))
    return values, frames.notes


@given(st.data(), st.sampled_from(DTYPES), st.sampled_from(NATIVE))
def test_what_was_written_is_read(data: st.DataObject, dtype: type, syntax: UID) -> None:
    shape = data.draw(st.tuples(*[st.integers(1, 5)] * data.draw(st.integers(2, 3))))
    pixels = data.draw(arrays(dtype, shape))
    values, notes = values_of(saved(mammogram_dataset(pixels, TransferSyntaxUID=syntax)))
    np.testing.assert_array_equal(values, pixels.reshape(-1, *pixels.shape[-2:]))
    assert values.dtype == dtype
    assert values.dtype.isnative
    assert notes == ()


@given(st.data(), st.booleans(), st.integers(1, 16))
def test_bits_beyond_those_stored_are_removed_as_pydicom_does(data: st.DataObject, signed: bool, bits: int) -> None:
    words = data.draw(arrays(np.uint16, (3, 4)))
    dataset = mammogram_dataset(words.view(np.int16) if signed else words, BitsStored=bits, HighBit=bits - 1)
    np.testing.assert_array_equal(values_of(dataset)[0][0], saved(dataset).pixel_array)


def test_overlay_bits_are_reported() -> None:
    dataset = mammogram_dataset(np.array([[0x8123, 0x0FFF]], np.uint16), BitsStored=12, HighBit=11)
    values, notes = values_of(dataset)
    assert values.tolist() == [[[0x123, 0xFFF]]]
    assert notes == ("bits above the 12 stored ones were set and have been removed",)


@pytest.mark.parametrize(("high_bit", "factor"), [(15, 16), (13, 4)])
def test_a_high_bit_above_the_usual_is_obeyed_and_reported(high_bit: int, factor: int) -> None:
    pixels = np.array([[0, 5, 4095]], np.uint16)
    values, notes = values_of(mammogram_dataset(pixels * factor, BitsStored=12, HighBit=high_bit))
    assert values.tolist() == [[[0, 5, 4095]]]
    assert notes == (f"HighBit is {high_bit} with 12 bits stored",)


def test_a_high_bit_that_the_pixels_belie_is_reported() -> None:
    values, notes = values_of(mammogram_dataset(np.array([[0, 5, 4095]], np.uint16), BitsStored=12, HighBit=15))
    assert values.tolist() == [[[0, 5, 4095]]]
    assert notes == ("HighBit is 15, the pixels are in the lowest bits",)


def test_eight_bit_words_of_a_big_endian_file_are_swapped() -> None:
    dataset = mammogram_dataset(np.zeros((2, 2), np.uint8), TransferSyntaxUID=ExplicitVRBigEndian)
    dataset.add_new("PixelData", "OW", b"\2\1\4\3")
    assert values_of(dataset)[0].tolist() == [[[1, 2], [3, 4]]]
    assert saved(dataset).pixel_array.tolist() == [[1, 2], [3, 4]]


def test_uncompressed_pixels_are_not_copied() -> None:
    dataset = saved(mammogram_dataset(np.arange(12, dtype=np.uint16).reshape(3, 4), bits_stored=12))
    assert np.shares_memory(frames_of(dataset)[0], np.frombuffer(dataset.PixelData, np.uint8))


def test_a_dataset_made_in_memory_needs_no_transfer_syntax() -> None:
    dataset = mammogram_dataset(np.array([[1, 2]], np.uint16))
    del dataset.file_meta
    assert values_of(dataset)[0].tolist() == [[[1, 2]]]


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"", "cut short: 0 of 24 bytes"),
        (bytes(22), "cut short: 22 of 24 bytes"),
        (bytes(48), "24 bytes longer"),
        (bytes(24) + b"\1" * 8, "8 bytes longer"),
        (bytes(24) + b"\1" * 12, "12 bytes longer"),
    ],
)
def test_a_wrong_length_is_refused(data: bytes, message: str) -> None:
    with pytest.raises(MammogramError, match=message):
        values_of(mammogram_dataset(np.zeros((3, 4), np.uint16), PixelData=data))


@given(st.integers(3, 9), st.integers(3, 9), st.binary(max_size=24), st.booleans())
def test_bytes_behind_the_pixels_are_dropped_unless_they_are_rows_or_columns(
    rows: int, columns: int, tail: bytes, wide: bool
) -> None:
    pixels = np.arange(rows * columns, dtype=np.uint16 if wide else np.uint8).reshape(rows, columns)
    dataset = mammogram_dataset(pixels, PixelData=pixels.tobytes() + tail)
    odd = pixels.nbytes % 2
    lines = [length * pixels.itemsize for length in (rows, columns)]
    whole = any(len(tail) >= line and len(tail) % line <= len(tail) % 2 for line in lines)
    if len(tail) > odd and (len(tail) >= pixels.nbytes or (whole and any(tail))):
        with pytest.raises(MammogramError, match="bytes longer"):
            values_of(dataset)
        return
    values, notes = values_of(dataset)
    np.testing.assert_array_equal(values[0], pixels)
    assert codes(notes) == (["padding_bytes"] if len(tail) > odd else [])


def test_run_length_coding(ramp: np.ndarray) -> None:
    dataset = mammogram_dataset(ramp, bits_stored=12)
    dataset.compress(RLELossless)
    np.testing.assert_array_equal(values_of(saved(dataset))[0], ramp)


@pytest.fixture
def ramp() -> np.ndarray:
    return np.arange(2 * 40 * 48, dtype=np.uint16).reshape(2, 40, 48)


def compressed(ramp: np.ndarray) -> Dataset:
    pytest.importorskip("openjpeg")
    dataset = mammogram_dataset(ramp, bits_stored=12)
    dataset.compress(JPEG2000Lossless)
    return dataset


def test_jpeg_2000(ramp: np.ndarray) -> None:
    np.testing.assert_array_equal(values_of(saved(compressed(ramp)))[0], ramp)


@pytest.mark.parametrize(
    ("keywords", "message"),
    [
        ({"Rows": 41}, "compressed image is 40 x 48 pixels, its header says 41 x 48"),
        ({"Rows": 8000, "Columns": 8000, "NumberOfFrames": "1"}, "compressed image is 40 x 48"),
        ({"BitsAllocated": 8, "BitsStored": 8, "HighBit": 7}, "has 12 bits per pixel, its header allocates 8"),
        ({"NumberOfFrames": "3"}, "holds 2 frames, its header says 3"),
    ],
)
def test_a_codestream_that_belies_its_header_is_refused_before_decoding(
    ramp: np.ndarray, keywords: dict[str, object], message: str
) -> None:
    dataset = compressed(ramp)
    for keyword, value in keywords.items():
        setattr(dataset, keyword, value)
    with pytest.raises(MammogramError, match=message):
        values_of(dataset)


def test_run_lengths_that_cannot_fill_the_image_are_refused_before_decoding(ramp: np.ndarray) -> None:
    dataset = mammogram_dataset(ramp)
    dataset.compress(RLELossless)
    dataset.Rows = dataset.Columns = 8000
    with pytest.raises(MammogramError, match="too short"):
        values_of(dataset)


def test_a_damaged_codestream_is_refused(ramp: np.ndarray, caplog: pytest.LogCaptureFixture) -> None:
    dataset = compressed(ramp[:1])
    frame = b"\xff\x4f\xff\x51" + dataset.PixelData.split(b"\xff\x4f\xff\x51")[1][:60]
    dataset.PixelData = encapsulate([frame])
    caplog.clear()  # the encoder logs too
    with pytest.raises(MammogramError, match="cut short"):
        values_of(dataset)
    assert not caplog.records  # pydicom's own decoders log a traceback for each damaged frame
    dataset.PixelData = b"nothing like encapsulated"
    dataset["PixelData"].is_undefined_length = True
    with pytest.raises(MammogramError, match="damaged"):
        values_of(dataset)


def test_a_missing_decoder_names_the_extra(ramp: np.ndarray, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(codecs, "is_available", lambda uid: False)
    monkeypatch.setattr(pylibjpeg, "is_available", lambda uid: False)
    monkeypatch.setattr(pyjpegls, "is_available", lambda uid: False)
    codecs.find_decoder.cache_clear()
    for syntax in (JPEGLSLossless, HTJ2KLossless):
        dataset = mammogram_dataset(ramp, TransferSyntaxUID=syntax)
        dataset.PixelData = encapsulate([b"no codestream", b"no codestream"])
        with pytest.raises(MammogramError, match=r"\.\[codecs\]") as caught:
            values_of(dataset)
        assert syntax.name in str(caught.value)


@pytest.mark.parametrize(("syntax", "message"), [(MPEG2MPML, "no installed decoder"), (UID("1.2.3.4"), "not known")])
def test_other_syntaxes_are_refused_with_a_fix_that_helps(ramp: np.ndarray, syntax: UID, message: str) -> None:
    dataset = mammogram_dataset(ramp[:1])
    dataset.file_meta.TransferSyntaxUID = syntax
    dataset.PixelData = encapsulate([b"\0\0\1\xb3" + bytes(60)])
    with pytest.raises(MammogramError, match=message) as caught:
        values_of(dataset)
    assert "1.2.3.4" not in str(caught.value)
    assert "Explicit VR Little Endian" in str(caught.value)
    assert "codecs" not in str(caught.value)
