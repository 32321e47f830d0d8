"""The header of a compressed frame: what it says of its size, before any decoder sees it.

A small file must not unpack to something enormous, and a decoder written in C must not be given a header that it does
not check itself: some end the whole process.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass

_FRAME_MARKERS = frozenset({*range(0xC0, 0xD0), 0xF7}) - {0xC4, 0xC8, 0xCC}  # SOF0 to SOF15; JPEG-LS SOF55
_SEGMENT_MARKERS = frozenset({0xC4, 0xCC, 0xDB, 0xDC, 0xDD, 0xDE, *range(0xE0, 0xF0), 0xF8, 0xFE})
_SCAN = 0xDA
_JPEG_START = b"\xff\xd8"
_J2K_START = b"\xff\x4f\xff\x51"


@dataclass(frozen=True)
class FrameHeader:
    """Size and type of a compressed frame.

    Attributes:
        rows: Height in pixels.
        columns: Width in pixels.
        precision: Bits of a sample.
        samples: 1 for grayscale.
    """

    rows: int
    columns: int
    precision: int
    samples: int


def frame_header(frame: bytes) -> FrameHeader:
    """Read the header of a JPEG, JPEG-LS, JPEG 2000 or HTJ2K frame.

    ITU-T T.81 B.2, T.87 C.2 (marker segments up to the scan) and T.800 A.5.1 (SIZ marker).

    Raises:
        ValueError: It is none, or is damaged before the first scan.
    """
    start = frame.find(_J2K_START, 0, 4096)  # after the boxes of a JP2 file, if there are any
    if start >= 0:
        return _jpeg_2000(frame[start + 4 : start + 43])
    if frame[:2] == _JPEG_START:
        return _jpeg(frame)
    raise ValueError("no codestream")


def _jpeg_2000(segment: bytes) -> FrameHeader:
    if len(segment) < 39:
        raise ValueError("no SIZ marker")
    # Lsiz, Rsiz, then the image's and the tiles' extent and offset, the number of samples, and the first one's depth
    right, bottom, left, top = struct.unpack(">IIII", segment[4:20])
    samples, depth = struct.unpack(">HB", segment[36:39])
    return FrameHeader(bottom - top, right - left, (depth & 0x7F) + 1, samples)


def _jpeg(frame: bytes) -> FrameHeader:
    found: FrameHeader | None = None
    position = 2
    while position + 4 <= len(frame):
        fill, marker, length = struct.unpack(">BBH", frame[position : position + 4])
        if fill == 0xFF and marker == 0xFF:  # T.81 B.1.1.2: any number of fill bytes may stand before a marker
            position += 1
            continue
        if fill == 0xFF and marker == _SCAN and found is not None:
            return found
        if fill != 0xFF or length < 2 or position + 2 + length > len(frame):
            break
        if marker in _FRAME_MARKERS and found is None and length >= 8:
            precision, rows, columns, samples = struct.unpack(">BHHB", frame[position + 4 : position + 10])
            found = FrameHeader(rows, columns, precision, samples)
        elif marker not in _SEGMENT_MARKERS or _is_unknown_jfif(frame[position + 1 : position + 10]):
            break
        position += 2 + length
    raise ValueError("marker segments are damaged")


def _is_unknown_jfif(segment: bytes) -> bool:
    """Whether an APP0 segment announces a JFIF version other than 1.x: there is none, and gdcm aborts on it."""
    return segment[:1] == b"\xe0" and segment[3:8] == b"JFIF\0" and segment[8:9] != b"\1"
