"""Frames that end too early, and tiles that a decoder cannot be given."""

from __future__ import annotations

import struct
from io import BytesIO

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydicom.encaps import encapsulate
from pydicom.uid import HTJ2KLossless, JPEG2000Lossless, JPEGBaseline8Bit, JPEGLosslessSV1, JPEGLSLossless

from mammo_hf.dicom import MammogramError, mammogram_dataset, read_mammogram
from mammo_hf.dicom.codestream import codestream_header, ends_early
from mammo_hf.notes import codes

imagecodecs = pytest.importorskip("imagecodecs")

ROWS, COLUMNS = np.mgrid[:64, :96]
PIXELS = (40 * ROWS + 20 * COLUMNS + (ROWS * COLUMNS) % 7).astype(np.uint16)
KINDS = {
    "jpeg": (JPEGBaseline8Bit, lambda pixels: imagecodecs.jpeg8_encode((pixels >> 5).astype(np.uint8))),
    "jpeg lossless": (JPEGLosslessSV1, lambda p: imagecodecs.jpeg8_encode(p, lossless=True, bitspersample=16)),
    "jpeg-ls": (JPEGLSLossless, lambda pixels: imagecodecs.jpegls_encode(pixels)),
    "jpeg 2000": (JPEG2000Lossless, lambda p: imagecodecs.jpeg2k_encode(p, level=0, codecformat="j2k")),
    "htj2k": (HTJ2KLossless, lambda pixels: imagecodecs.htj2k_encode(pixels)),
}
DECODED_WITHOUT_END = ("jpeg", "jpeg lossless", "htj2k")


def file_of(kind: str, *frames: bytes) -> bytes:
    syntax, _ = KINDS[kind]
    eight = syntax == JPEGBaseline8Bit
    pixels = (PIXELS >> 5).astype(np.uint8) if eight else PIXELS
    pixels = np.stack([pixels] * len(frames)) if len(frames) > 1 else pixels
    dataset = mammogram_dataset(pixels, bits_stored=8 if eight else 16, TransferSyntaxUID=syntax)
    dataset["PixelData"].is_undefined_length = True
    dataset.PixelData = encapsulate(list(frames))
    file = BytesIO()
    dataset.save_as(file, enforce_file_format=True)
    return file.getvalue()


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("padding", [b"", b"\0\0", bytes(300)])
def test_a_frame_that_is_cut_short_is_refused_wherever_it_is_cut(kind: str, padding: bytes) -> None:
    frame = KINDS[kind][1](PIXELS)
    whole = read_mammogram(file_of(kind, frame)).pixels
    assert np.array_equal(read_mammogram(file_of(kind, frame + padding)).pixels, whole)
    for part in (0.3, 0.6, 0.95):
        with pytest.raises(MammogramError):
            read_mammogram(file_of(kind, frame[: int(part * len(frame))] + padding))
    with pytest.raises(MammogramError, match="end marker"):
        read_mammogram(file_of(kind, frame[:-2] + padding))


@pytest.mark.parametrize("kind", DECODED_WITHOUT_END)
def test_a_frame_without_end_is_read_and_noted_if_that_is_allowed(kind: str) -> None:
    frame = KINDS[kind][1](PIXELS)
    read = read_mammogram(file_of(kind, frame[:-2]), on_missing_end="note")
    assert "end_missing" in codes(read.header.contradictions)
    sound = read_mammogram(file_of(kind, frame), on_missing_end="note")
    assert "end_missing" not in codes(sound.header.contradictions)


def test_a_tile_part_that_lost_its_end_is_refused_although_an_end_marker_follows() -> None:
    frame = KINDS["htj2k"][1](PIXELS)
    with pytest.raises(MammogramError, match="end marker"):
        read_mammogram(file_of("htj2k", frame[: len(frame) // 2] + frame[-2:]))


def with_last_length(frame: bytes, length: int) -> bytes:
    """Write the length of a codestream's only tile part: 0 is "up to the end marker"."""
    start = frame.find(b"\xff\x90\x00\x0a")
    return frame[: start + 6] + length.to_bytes(4, "big") + frame[start + 10 :]


@given(kind=st.sampled_from(["jpeg-ls", "jpeg 2000", "htj2k"]), part=st.floats(0.1, 0.97), stated=st.booleans())
@settings(max_examples=40, deadline=None)
def test_a_frame_that_was_cut_and_ended_again_is_refused_even_if_its_lengths_agree(kind, part, stated) -> None:
    pixels = (PIXELS + np.random.default_rng(0).integers(0, 200, PIXELS.shape)).astype(np.uint16)
    frame = KINDS[kind][1](pixels)
    start = max(frame.find(b"\xff\x93"), frame.find(b"\xff\xda"), 0) + 20
    cut = frame[: start + int(part * (len(frame) - start - 8))]
    if kind != "jpeg-ls":
        cut = with_last_length(cut, len(cut) - cut.find(b"\xff\x90\x00\x0a") if stated else 0)
        whole = read_mammogram(file_of(kind, with_last_length(frame, 0))).pixels
        np.testing.assert_array_equal(whole[0], pixels)
    with pytest.raises(MammogramError):
        read_mammogram(file_of(kind, cut + b"\xff\xd9"))


@pytest.mark.parametrize("kind", ["jpeg 2000", "htj2k"])
def test_a_codestream_that_lacks_a_tile_or_a_part_of_one_is_refused(kind: str) -> None:
    frame = KINDS[kind][1](PIXELS)
    siz, part = frame.find(b"\xff\x51"), frame.find(b"\xff\x90\x00\x0a")
    two_tiles = frame[: siz + 22] + struct.pack(">I", PIXELS.shape[1] // 2) + frame[siz + 26 :]
    two_parts = frame[: part + 11] + b"\x02" + frame[part + 12 :]
    for damaged in (two_tiles, two_parts):
        with pytest.raises(MammogramError):
            read_mammogram(file_of(kind, damaged))


def test_each_frame_of_a_volume_is_looked_at_when_it_is_read() -> None:
    frame = KINDS["jpeg lossless"][1](PIXELS)
    volume = read_mammogram(file_of("jpeg lossless", frame, frame, frame[:-2]))
    assert volume.frame(1).shape == PIXELS.shape
    with pytest.raises(MammogramError, match="end marker"):
        volume.frame(2)


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("tile below the image", (60, 40, 7, 3, 60, 40, 0, 4, 1, 15, 1, 1)),
        ("tile right of the image", (60, 40, 7, 3, 60, 40, 8, 0, 1, 15, 1, 1)),
        ("tile that ends before the image", (60, 40, 7, 3, 7, 40, 0, 0, 1, 15, 1, 1)),
        ("tile that ends above the image", (60, 40, 7, 3, 60, 3, 0, 0, 1, 15, 1, 1)),
        ("no width", (60, 40, 7, 3, 0, 40, 0, 0, 1, 15, 1, 1)),
        ("no height", (60, 40, 7, 3, 60, 0, 0, 0, 1, 15, 1, 1)),
        ("an image of no size", (7, 40, 7, 3, 60, 40, 0, 0, 1, 15, 1, 1)),
        ("too many tiles", (6000, 4000, 0, 0, 1, 1, 0, 0, 1, 15, 1, 1)),
        ("no step", (60, 40, 7, 3, 60, 40, 0, 0, 1, 15, 0, 1)),
    ],
)
def test_tiles_as_no_decoder_may_be_given_are_refused(field: str, value: tuple[int, ...]) -> None:
    segment = struct.pack(">HH", 41, 0) + struct.pack(">8IHBBB", *value)
    with pytest.raises(ValueError, match=r"tile|size"):
        codestream_header(b"\xff\x4f\xff\x51" + segment)


@pytest.mark.parametrize(("offset", "value"), [(36, 2), (24, 0)])  # the tiles' row of origin, their width
def test_the_htj2k_files_that_hung_and_crashed_are_refused(offset: int, value: int) -> None:
    frame = bytearray(KINDS["htj2k"][1](PIXELS))
    siz = frame.find(b"\xff\x4f\xff\x51")
    frame[siz + offset : siz + offset + 4] = struct.pack(">I", value)
    with pytest.raises(MammogramError, match="damaged"):
        read_mammogram(file_of("htj2k", bytes(frame)))


def mammogram_like(bits: int) -> np.ndarray:
    """A breast of noise before a flat background, at the sides and below."""
    rng = np.random.default_rng(0)
    pixels = np.zeros((150, 100), np.uint16 if bits > 8 else np.uint8)
    pixels[5:120, :60] = rng.integers(1 << bits - 2, 1 << bits, (115, 60))
    return pixels


CODERS = {
    "baseline": (8, lambda pixels: imagecodecs.jpeg8_encode(pixels)),
    "best quality": (8, lambda pixels: imagecodecs.jpeg8_encode(pixels, level=100)),
    "twelve bits": (12, lambda pixels: imagecodecs.jpeg8_encode(pixels, bitspersample=12)),
    "lossless": (16, lambda pixels: imagecodecs.jpeg8_encode(pixels, lossless=True, bitspersample=16)),
    "lossless, from above": (
        *(16, lambda pixels: imagecodecs.jpeg8_encode(pixels, lossless=True, bitspersample=16, predictor=2)),
    ),
}


@pytest.mark.parametrize("coder", CODERS)
@pytest.mark.parametrize("flat", [True, False])
def test_a_jpeg_that_got_an_end_marker_after_it_was_cut_short_is_known(coder: str, flat: bool) -> None:
    bits, encode = CODERS[coder]
    pixels = mammogram_like(bits)
    if not flat:
        pixels = np.random.default_rng(1).integers(0, 1 << bits, pixels.shape).astype(pixels.dtype)
    decoded: list[bytes] = []

    def decode(frame: bytes) -> np.ndarray:
        decoded.append(frame)
        return imagecodecs.jpeg8_decode(frame)

    frame = encode(pixels)
    whole = decode(frame)
    assert not ends_early(frame, whole, decode)
    # a background needs no second look
    assert len(decoded) == 1
    start = frame.rfind(b"\xff\xda")
    for part in (0.05, 0.3, 0.5, 0.7, 0.9):
        cut = frame[: start + 12 + int(part * (len(frame) - start - 12))] + b"\xff\xd9"
        read = imagecodecs.jpeg8_decode(cut)
        # what is lost may be background that the decoder fills in as it was
        assert ends_early(cut, read, decode) or np.array_equal(read, whole), part


def test_a_file_with_such_a_frame_is_refused() -> None:
    for kind in ("jpeg", "jpeg lossless"):
        frame = KINDS[kind][1](PIXELS)
        for part in (0.3, 0.6, 0.9):
            with pytest.raises(MammogramError):
                read_mammogram(file_of(kind, frame[: int(part * len(frame))] + b"\xff\xd9"))
