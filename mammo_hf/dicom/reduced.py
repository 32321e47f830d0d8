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
_BITS_AT = 42  # place of Ssiz in a codestream of one component: its bits, less one (T.800 Table A.9)
# Beyond its values, from 0 to R, a low band goes by at most 0.98 R, as the absolute weights of the 5/3 filter of many
# levels add up to less than 1.72 (squared for two directions): 14 bits fit in signed words of 16, 16 bits in 20
_NARROW, _WIDE = 1 << 14, 20


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


def low_band(frame: bytes, codec: str, level: int, highest: int, reversible: bool) -> np.ndarray:
    """Return the low band of a frame.

    Args:
        frame: Codestream of one unsigned component for which `halvings` gives ``level`` or more.
        codec: Name of the codec, "jpeg2k" or "htj2k".
        level: Number of levels that are left out.
        highest: Largest value that the frame has or can have; the least is 0.
        reversible: Whether its transform is reversible.

    Returns:
        Integers (rows, columns) from 0 to ``highest``: what overshoots is saturated.
    """
    frame = frame[frame.find(_START, 0, 4096) :]
    return _by_pillow(frame, level) if codec == "jpeg2k" else _by_imagecodecs(frame, level, highest, reversible)


def _by_pillow(frame: bytes, level: int) -> np.ndarray:
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
    return values >> ((7 if picture.mode == "L" else 15) - frame[_BITS_AT])


def _by_imagecodecs(frame: bytes | bytearray, level: int, highest: int, reversible: bool) -> np.ndarray:
    decode = importlib.import_module("imagecodecs").htj2k_decode
    if not reversible:
        return np.asarray(decode(frame, skipres=level))  # saturated by OpenJPH
    # An overshoot wraps around in words of the frame's own bits. The bits in the header (SIZ, T.800 A.5.1) decide the
    # words and the offset that makes values unsigned, and nothing else of a reversible transform
    bits = 16 if highest < _NARROW else _WIDE
    offset = (1 << (bits - 1)) - (1 << frame[_BITS_AT])
    if offset:  # the frame is not copied without need
        frame = bytearray(frame)
        frame[_BITS_AT] = bits - 1
    values: np.ndarray = decode(frame, skipres=level)
    if offset:
        values -= values.dtype.type(offset)
    signed = values.view(np.int16 if bits == 16 else np.int32)  # no copy: what is below 0 wrapped around
    np.clip(signed, 0, highest, out=signed)
    return values
