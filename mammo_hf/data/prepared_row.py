"""The prepared row: its columns, and how its pixels and maps are packed into bytes and read back."""

from __future__ import annotations

import bisect
import json
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa

from ..processing.geometry import Geometry

if TYPE_CHECKING:
    import datasets

    from ..dicom.header import MammogramHeader
    from ..processing.breast import Breast

# the columns that training reads; a folder holds the collection's other plain columns too, and the keys
SCHEMA = pa.schema(
    [
        ("image_id", pa.string()),
        ("patient", pa.string()),
        ("split", pa.string()),
        ("laterality", pa.string()),
        ("view", pa.string()),
        ("labels", pa.list_(pa.int64())),  # index of the label in each task, -100 if not known
        ("pixels", pa.binary()),  # uint16 (height, width)
        ("size", pa.list_(pa.int32())),  # (height, width)
        ("lesions", pa.binary()),  # uint8 (height / 4, width / 4), or null
        ("geometry", pa.string()),  # from the source's pixels to the canvas, as JSON
        ("notes", pa.string()),  # codes of the notes on the image, joined by semicolons
        ("breast", pa.binary()),  # one bit for each cell of 4 x 4 pixels
        ("kind", pa.string()),  # kind of image by the header, such as "2D" or "film", null if not known; so "device"
        ("device", pa.string()),  # model of the machine in lower case
        ("kvp_band", pa.string()),  # one of BANDS, null if not known, as for films; so the next two
        ("exposure_band", pa.string()),
        ("thickness_band", pa.string()),
        ("precedence", pa.int64()),  # place among the images of its exam, side and view, null if it is the only one
    ]
)
_LONGEST_NAME = 40  # characters of a machine's name that are kept
# Borders of the bands of what the header says of an exposure, in its unit: kV, mAs and mm of compressed breast. A
# band tells less of a person than the value.
BANDS = {"kvp_band": (27, 29, 31), "exposure_band": (50, 100, 150), "thickness_band": (40, 60, 80)}
ACQUISITION = ("kind", "device", *BANDS)  # columns of what the header says of image, machine and exposure
FULL_SCALE = 65535  # stored value of the intensity 1
CELL = 4  # pixels per side of a cell of the lesion and breast maps: the patch of every Swin size
UNKNOWN_PATHOLOGY = 255  # in a lesion map: there is a finding here, its label is not known
# a lesion that covers less of a token or tile than this fraction only grazes it: what is seen there is mostly something
# else, and a map with its peak there misses the lesion
GRAZED = 0.5
_COVERED = 0.5  # part of a pixel that a lesion must cover to count there


def without_pixels(prepared: datasets.Dataset) -> datasets.Dataset:
    """Return prepared rows without what takes long to read; a row of a native store is still placed on its canvas."""
    return prepared.select_columns([name for name in prepared.column_names if name not in ("pixels", "table")])


def packed_pixels(intensity: np.ndarray) -> bytes:
    """Pack an intensity (height, width) from 0 to 1 into 16 bits per pixel."""
    return np.rint(intensity * FULL_SCALE).astype(np.uint16).tobytes()


def packed_breast(breast: Breast, geometry: Geometry) -> bytes:
    """Pack the breast on the canvas, row by row, eight cells per byte; all zero if none was found."""
    return np.packbits(breast.on_canvas(geometry, cell=CELL)).tobytes()


def acquisition_columns(header: MammogramHeader | None) -> dict[str, str | None]:
    """Return what the header says of image, machine and exposure, the numbers as bands; all ``None`` for a picture."""
    if header is None:
        return dict.fromkeys(ACQUISITION)
    values = zip(BANDS, (header.kvp, header.exposure_mas, header.thickness_mm), strict=True)
    device = " ".join(header.model_name.lower().split())[:_LONGEST_NAME]
    named = {"kind": header.kind.value or None, "device": device or None}
    return named | {name: band(value, BANDS[name]) for name, value in values}


def band(value: float | None, borders: Sequence[float]) -> str | None:
    """Return the band of a value, such as "40-60", which holds 40 and not 60; ``None`` for ``None``."""
    if value is None:
        return None
    place = bisect.bisect_right(borders, value)
    if place in (0, len(borders)):
        return f"<{borders[0]:g}" if place == 0 else f"{borders[-1]:g}+"
    return f"{borders[place - 1]:g}-{borders[place]:g}"


def pixels_of(row: Mapping[str, Any]) -> np.ndarray:
    """Return the stored values of a row, uint16 (height, width), read-only."""
    if isinstance(row["pixels"], np.ndarray):  # drawn from a native store
        return np.rint(row["pixels"] * FULL_SCALE).astype(np.uint16)
    return np.frombuffer(row["pixels"], np.uint16).reshape(row["size"])


def intensity_of(row: Mapping[str, Any]) -> np.ndarray:
    """Return the intensity of a row, float32 (height, width) from 0 to 1."""
    if isinstance(row["pixels"], np.ndarray):
        return row["pixels"]
    # in one pass: touching new memory costs more here than arithmetic
    return np.divide(pixels_of(row), FULL_SCALE, dtype=np.float32)


def lesions_of(row: Mapping[str, Any]) -> np.ndarray | None:
    """Return the lesion map of a row, read-only.

    Returns:
        uint8 (height / 4, width / 4): 0 none, 1 + label, 255 if a finding's label is not known; ``None`` if the image
        has no finding, or one without a known location.
    """
    return None if row["lesions"] is None else np.frombuffer(row["lesions"], np.uint8).reshape(_cells(row))


# the value of a lesion in the map, the row and column of its first pixel in the source, and its mask from there on
LesionMask = tuple[int, tuple[int, int], np.ndarray]


def lesion_cells(lesions: Iterable[LesionMask], geometry: Geometry) -> np.ndarray:
    """Draw lesions on a canvas, in cells of 4 x 4 pixels.

    Args:
        lesions: Masks of the lesions in the source's pixels; a later one covers an earlier one.
        geometry: Geometry from the source's pixels to the canvas.

    Returns:
        uint8 (height / 4, width / 4): 0, or the value of the lesion of which a pixel of the cell shows half or more.
    """
    height, width = geometry.size
    cells = np.zeros((height // CELL, width // CELL), np.uint8)
    for value, corner, mask in lesions:
        coverage = _coverage(corner, mask, geometry)[: cells.shape[0] * CELL, : cells.shape[1] * CELL]
        peak = coverage.reshape(cells.shape[0], CELL, cells.shape[1], CELL).max(axis=(1, 3))
        cells[peak >= _COVERED] = value
    return cells


def _coverage(corner: tuple[int, int], mask: np.ndarray, geometry: Geometry) -> np.ndarray:
    """Return the fraction of each canvas pixel that a mask covers, as `Geometry.mask_to_model` does of a whole one."""
    top, left, _, right = geometry.crop
    first, start = corner[0] - top, corner[1] - left
    # the part of the mask within the crop's columns
    kept = mask[:, max(0, -start) : max(0, right - left - start)]

    def read(rows: slice) -> tuple[np.ndarray, int]:
        strip = np.zeros((rows.stop - rows.start, kept.shape[1]), bool)
        above, below = max(rows.start, first), min(rows.stop, first + len(kept))
        if above < below:
            strip[above - rows.start : below - rows.start] = kept[above - first : below - first]
        return strip, max(0, start) if kept.shape[1] else 0

    return geometry.place_strips(read)


def lesion_mask(row: Mapping[str, Any]) -> np.ndarray | None:
    """Return the lesions of a row at the size of the image, bool (height, width); ``None`` if no location is known."""
    cells = lesions_of(row)
    return None if cells is None or not cells.any() else enlarged(cells > 0)


def breast_of(row: Mapping[str, Any]) -> np.ndarray:
    """Return the breast of a row, bool (height / 4, width / 4)."""
    rows, columns = _cells(row)
    bits = np.unpackbits(np.frombuffer(row["breast"], np.uint8), count=rows * columns)
    return bits.astype(bool).reshape(rows, columns)


def geometry_of(row: Mapping[str, Any]) -> Geometry | None:
    """Return the geometry of a row, from the source's pixels to the canvas; ``None`` if none was stored."""
    facts = json.loads(row["geometry"])
    return Geometry.from_dict(facts) if facts else None


def enlarged(cells: np.ndarray) -> np.ndarray:
    """Return a map of cells (rows, columns) at the size of the image, (4 rows, 4 columns)."""
    return cells.repeat(CELL, axis=0).repeat(CELL, axis=1)


def _cells(row: Mapping[str, Any]) -> tuple[int, int]:
    height, width = row["size"]
    return height // CELL, width // CELL
