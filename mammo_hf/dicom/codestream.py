"""The size that a compressed frame gives itself, so that a small file cannot unpack to something enormous."""

from __future__ import annotations

import struct

_JPEG_FRAME_MARKERS = frozenset({*range(0xC0, 0xD0), 0xF7}) - {0xC4, 0xC8, 0xCC}  # SOF0 to SOF15; JPEG-LS SOF55
_JPEG_WITHOUT_LENGTH = frozenset({0x01, *range(0xD0, 0xD9)})
_JPEG_START, _JPEG_SCAN = b"\xff\xd8", 0xDA
_J2K_START = b"\xff\x4f\xff\x51"


def codestream_size(frame: bytes) -> tuple[int, int] | None:
    """The (rows, columns) in the header of a JPEG, JPEG-LS or JPEG 2000 codestream; ``None`` where there is none.

    ITU-T T.81 B.2.2, T.87 C.2.2 (frame header) and T.800 A.5.1 (SIZ marker).
    """
    start = frame.find(_J2K_START, 0, 4096)  # after the boxes of a JP2 file, if there are any
    if start >= 0:
        return _j2k_size(frame[start + 4 : start + 24])
    if frame[:2] == _JPEG_START:
        return _jpeg_size(frame)
    return None


def _j2k_size(segment: bytes) -> tuple[int, int] | None:
    if len(segment) < 20:
        return None
    _, _, right, bottom, left, top = struct.unpack(">HHIIII", segment)
    return bottom - top, right - left


def _jpeg_size(frame: bytes) -> tuple[int, int] | None:
    position = 2
    while position + 9 <= len(frame) and frame[position] == 0xFF:
        marker = frame[position + 1]
        if marker in _JPEG_FRAME_MARKERS:
            rows, columns = struct.unpack(">HH", frame[position + 5 : position + 9])
            return (rows, columns) if rows else None  # 0: told after the scan, T.81 B.2.5
        if marker == _JPEG_SCAN:
            return None
        if marker == 0xFF:
            position += 1
        elif marker in _JPEG_WITHOUT_LENGTH:
            position += 2
        else:
            position += 2 + struct.unpack(">H", frame[position + 2 : position + 4])[0]
    return None
