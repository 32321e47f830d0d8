"""Where the breast lies on the model's canvas, as a prepared row keeps it: one bit for each 4 x 4 pixels."""

from __future__ import annotations

import numpy as np

from ...breast import Breast
from ...geometry import Geometry
from .lesions import LESION_CELL


def packed_breast(breast: Breast, geometry: Geometry) -> bytes:
    """The found breast on the canvas, row by row, eight cells a byte; all zero where none was found."""
    return np.packbits(breast.on_canvas(geometry, cell=LESION_CELL)).tobytes()


def unpacked_breast(packed: bytes, size: tuple[int, int]) -> np.ndarray:
    """What ``packed_breast`` packed, for a canvas of (height, width): bool (height / 4, width / 4)."""
    rows, columns = size[0] // LESION_CELL, size[1] // LESION_CELL
    bits = np.unpackbits(np.frombuffer(packed, np.uint8), count=rows * columns)
    return bits.astype(bool).reshape(rows, columns)
