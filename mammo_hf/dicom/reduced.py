"""JPEG 2000 and HTJ2K frames at 1/2, 1/4, ... of their size: the finest levels of the wavelet transform are left out.

What is left is the low band (ITU-T T.800 annex F): its sample u is centred on pixel u * 2 ** level of the frame, both
counted from 0, and represents the 2 ** level pixels around it.

JPEG 2000 is read by Pillow, which is installed anyway, takes bytes, and saturates what overshoots. Against imagecodecs'
full decode of the same real mammograms (``python benchmarks/bench_fast.py``), Pillow 13 takes 0.27 to 0.44 of the
processor time at 1/2 and 0.08 to 0.18 at 1/4, the same as glymur on a system's OpenJPEG, which needs a library of the
system, a file for each frame and three more packages. Pillow 12 and before take about twice as long. imagecodecs and
pylibjpeg read JPEG 2000 at full size alone; HTJ2K is read by imagecodecs.
"""

from __future__ import annotations

import importlib
import io
import struct
from typing import Any

import numpy as np

_START = b"\xff\x4f\xff\x51"  # SOC and SIZ of ITU-T T.800 Table A.2
_CODING, _OTHERS = 0xFF52, (0xFF53, 0xFF5E)  # COD; COC and RGN, which make exceptions from it
_TILE_PART, _DATA = 0xFF90, 0xFF93  # SOT, SOD
_MOST_LEVELS = 32  # T.800 Table A.15
_WIDE = 20  # bits that a low band of 16 bits fits in, whatever overshoots


def halvings(frame: bytes) -> tuple[int, bool]:
    """Return how often a codestream can be halved while it is decoded, and whether its transform is reversible.

    Args:
        frame: JPEG 2000 or HTJ2K codestream, or JP2 file, of one component.

    Returns:
        The levels of its wavelet transform; 0 if it has several tiles, an offset, a region of interest or tables of
        its own for a tile or component, or is damaged: such frames are read whole.
    """
    start = frame.find(_START, 0, 4096)
    if start < 0 or len(frame) < start + 51 or not _is_one_tile(frame[start + 8 : start + 40]):
        return 0, False
    found: list[tuple[int, bool]] = []
    position, in_tile = start + 2, False
    while position + 14 <= len(frame):
        marker, length = struct.unpack(">HH", frame[position : position + 4])
        if marker == _DATA:
            break
        if marker in _OTHERS or length < 2 or (marker == _CODING and in_tile):
            return 0, False
        in_tile |= marker == _TILE_PART
        if marker == _CODING:  # T.800 A.6.1
            found.append((frame[position + 9], frame[position + 13] == 1))
        position += 2 + length
    return found[0] if len(found) == 1 and found[0][0] <= _MOST_LEVELS else (0, False)


def _is_one_tile(sizes: bytes) -> bool:
    right, bottom, left, top, width, height, tile_left, tile_top = struct.unpack(">8I", sizes)
    return not (left or top or tile_left or tile_top) and width >= right and height >= bottom


def low_band(frame: bytes, codec: str, level: int, precision: int, reversible: bool) -> np.ndarray:
    """Return the low band of a frame.

    Args:
        frame: Codestream of one unsigned component for which `halvings` gives ``level`` or more.
        codec: Name of the codec, "jpeg2k" or "htj2k".
        level: Number of levels that are left out.
        precision: Bits of its values.
        reversible: Whether its transform is reversible.

    Returns:
        Integers (rows, columns) from 0 to 2 ** precision - 1: what overshoots is saturated.
    """
    frame = frame[frame.find(_START, 0, 4096) :]
    return (
        _by_pillow(frame, level, precision)
        if codec == "jpeg2k"
        else _by_imagecodecs(frame, level, precision, reversible)
    )


def _by_pillow(frame: bytes, level: int, precision: int) -> np.ndarray:
    from PIL import Image  # only this way of reading needs it

    with Image.open(io.BytesIO(frame), formats=["JPEG2000"]) as picture:
        # Pillow's own `reduce` refuses sizes that its rounding makes smaller than the low band
        picture._size = (-(-picture.width >> level), -(-picture.height >> level))
        tile: Any = picture.tile[0]
        name, _, offset, (kind, _, layers, *rest) = tile
        picture.tile = [tile._replace(extents=(0, 0, *picture.size), args=(kind, level, layers, *rest))]
        picture.load()
        if picture.mode not in ("L", "I;16"):
            raise ValueError(f"{name} at {offset} is of mode {picture.mode}")
        values = np.asarray(picture)
    return values >> ((8 if picture.mode == "L" else 16) - precision)


def _by_imagecodecs(frame: bytes, level: int, precision: int, reversible: bool) -> np.ndarray:
    decode = importlib.import_module("imagecodecs").htj2k_decode
    if not reversible:
        return np.asarray(decode(frame, skipres=level))  # saturated by OpenJPH
    # An overshoot wraps around in words of the frame's own bits. The bits in the header (SIZ, T.800 A.5.1) decide the
    # words and the offset that makes values unsigned, and nothing else of a reversible transform
    wide = frame[:42] + bytes([_WIDE - 1]) + frame[43:]
    values = decode(wide, skipres=level).astype(np.int32)
    values -= (1 << (_WIDE - 1)) - (1 << (precision - 1))
    return np.clip(values, 0, (1 << precision) - 1, out=values)
