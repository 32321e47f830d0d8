from __future__ import annotations

import struct
from io import BytesIO

import numpy as np
import pytest
from PIL import Image

from mammo_hf.dicom.codestream import codestream_header

GRAY = (37, 53, 8, 1)


def encoded(kind: str, samples: int = 1, **options: object) -> bytes:
    file = BytesIO()
    pixels = np.zeros((37, 53, 3) if samples == 3 else (37, 53), np.uint8)
    Image.fromarray(pixels).save(file, kind, **options)
    return file.getvalue()


@pytest.mark.parametrize("options", [{}, {"progressive": True}, {"comment": b"x" * 500}])
def test_jpeg(options: dict[str, object]) -> None:
    assert codestream_header(encoded("JPEG", **options)) == GRAY
    assert codestream_header(encoded("JPEG", 3, **options)) == (37, 53, 8, 3)


@pytest.mark.parametrize("boxes", [True, False])
def test_jpeg_2000_with_and_without_boxes(boxes: bool) -> None:
    assert codestream_header(encoded("JPEG2000", no_jp2=not boxes)) == GRAY
    assert codestream_header(encoded("JPEG2000", 3, no_jp2=not boxes)) == (37, 53, 8, 3)


def test_jpeg_2000_with_an_offset_and_signed_samples() -> None:
    segment = struct.pack(">HH8IHBBB", 41, 0, 60, 40, 7, 3, 60, 40, 0, 0, 1, 0x80 | 11, 1, 1)
    assert codestream_header(b"\xff\x4f\xff\x51" + segment) == (37, 53, 12, 1)


def test_jpeg_ls() -> None:
    frame = b"\xff\xd8\xff\xff\xf7" + struct.pack(">HBHHB", 11, 12, 37, 53, 1) + b"\1\x11\0\xff\xda\0\x08"
    assert codestream_header(frame) == (37, 53, 12, 1)


@pytest.mark.parametrize(
    "frame",
    [b"", b"\xff\xd8", b"no codestream at all", b"\xff\x4f\xff\x51\0\0", b"\xff\xd8" * 50, b"\xff\xd8\xff\xda\0\x08"],
)
def test_what_has_no_header_is_refused(frame: bytes) -> None:
    with pytest.raises(ValueError, match=r"no codestream|no SIZ|damaged"):
        codestream_header(frame)


def test_a_header_that_is_cut_or_damaged_anywhere_is_refused() -> None:
    whole = encoded("JPEG")
    scan = whole.index(b"\xff\xda")
    for cut in range(scan):
        with pytest.raises(ValueError, match=r"no codestream|damaged"):
            codestream_header(whole[:cut])
    position = 2
    while position < scan:
        broken = bytearray(whole)
        broken[position] = 0x3D
        with pytest.raises(ValueError, match="damaged"):
            codestream_header(bytes(broken))
        position += 2 + int.from_bytes(whole[position + 2 : position + 4], "big")
