from __future__ import annotations

import struct
from io import BytesIO

import numpy as np
import pytest
from PIL import Image

from mammo_hf.dicom.codestream import codestream_size


@pytest.mark.parametrize("options", [{}, {"progressive": True}, {"comment": b"x" * 500}])
def test_jpeg(options: dict[str, object]) -> None:
    file = BytesIO()
    Image.fromarray(np.zeros((37, 53), np.uint8)).save(file, "JPEG", **options)
    assert codestream_size(file.getvalue()) == (37, 53)


@pytest.mark.parametrize("boxes", [True, False])
def test_jpeg_2000_with_and_without_boxes(boxes: bool) -> None:
    file = BytesIO()
    Image.fromarray(np.zeros((37, 53), np.uint8)).save(file, "JPEG2000", no_jp2=not boxes)
    assert codestream_size(file.getvalue()) == (37, 53)


def test_jpeg_2000_with_an_offset() -> None:
    segment = struct.pack(">HHIIII", 41, 0, 60, 40, 7, 3)
    assert codestream_size(b"\xff\x4f\xff\x51" + segment) == (37, 53)


def test_jpeg_ls() -> None:
    frame_header = b"\xff\xd8\xff\xff\xf7" + struct.pack(">HBHHB", 11, 12, 37, 53, 1)
    assert codestream_size(frame_header + b"\1\x11\0") == (37, 53)


@pytest.mark.parametrize(
    "frame",
    [
        b"",
        b"\xff\xd8",
        b"\xff\xd8\xff\xda\0\0\0\0\0\0\0\0",
        b"no codestream at all",
        b"\xff\x4f\xff\x51\0\0",
        b"\xff\xd8" * 50,
    ],
)
def test_no_header_is_none(frame: bytes) -> None:
    assert codestream_size(frame) is None


def test_every_cut_of_a_header_is_none_or_right() -> None:
    file = BytesIO()
    Image.fromarray(np.zeros((37, 53), np.uint8)).save(file, "JPEG")
    assert {codestream_size(file.getvalue()[:cut]) for cut in range(400)} == {None, (37, 53)}
