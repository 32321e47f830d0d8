"""Places of a map: its peaks and the boxes around its regions, in model pixels, source pixels and mm."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from scipy import ndimage

from ..errors import UsageError
from ..geometry import Geometry, Unit

Values = tuple[float, ...]
APART = 14  # peaks are at least this part of the height apart: a token of the last stage at the sizes we use


@dataclass(frozen=True)
class Place:
    """A place of a map.

    Attributes:
        value: The map's value there, its highest where the place is a region.
        model: In pixels of the model's input.
        source: In pixels of the source image; ``None`` where the geometry is not known.
        mm: In mm from the source image's top left corner; ``None`` where the size of a source pixel is not known.
    """

    value: float
    model: Values
    source: Values | None = None
    mm: Values | None = None

    def to_dict(self) -> dict[str, Any]:
        """As lists and numbers that JSON takes."""
        return {key: list(value) if isinstance(value, tuple) else value for key, value in asdict(self).items()}


class Peak(Place):
    """A local maximum; each place is (row, column)."""


class Box(Place):
    """A region's box; each place is (top, left, bottom, right), bottom and right being the first outside."""


def peak(values: np.ndarray) -> tuple[int, int]:
    """(row, column) of a map's maximum; of a plateau the pixel of it that is nearest to its centre."""
    places = np.argwhere(values == values.max())
    centre = places.mean(axis=0)
    row, column = places[((places - centre) ** 2).sum(axis=1).argmin()]
    return int(row), int(column)


def find_peaks(values: np.ndarray, n: int, geometry: Geometry | None = None) -> list[Peak]:
    """The highest local maxima above 0 of a map (height, width), strongest first.

    Raises:
        UsageError: ``n`` is below 1.
    """
    if n < 1:
        raise UsageError(f"is {n}", source="n", remedy="ask for at least one peak")
    radius = max(1, round(values.shape[0] / APART))
    rows, columns = np.ogrid[: values.shape[0], : values.shape[1]]
    highest = ndimage.maximum_filter(values, size=2 * radius + 1, mode="nearest")
    left = np.where((values == highest) & (values > 0), values, 0)
    found: list[Peak] = []
    while len(found) < n and left.max() > 0:
        row, column = peak(left)
        places = _everywhere((row + 0.5, column + 0.5), geometry)
        found.append(Peak(float(values[row, column]), *places))
        left[(rows - row) ** 2 + (columns - column) ** 2 <= radius**2] = 0
    return found


def find_boxes(values: np.ndarray, threshold: float, geometry: Geometry | None = None) -> list[Box]:
    """Boxes around the connected regions of a map (height, width) at or above a threshold, strongest first.

    Raises:
        UsageError: The threshold is not above 0 and at most 1.
    """
    if not 0 < threshold <= 1:
        raise UsageError(f"is {threshold}", source="threshold", remedy="give a share of the map's maximum, above 0")
    regions, _ = ndimage.label(values >= threshold, structure=np.ones((3, 3)))
    found = []
    for number, (rows, columns) in enumerate(ndimage.find_objects(regions), start=1):
        value = float(values[rows, columns][regions[rows, columns] == number].max())
        corners = (float(rows.start), float(columns.start), float(rows.stop), float(columns.stop))
        found.append(Box(value, *_everywhere(corners, geometry)))
    return sorted(found, key=lambda box: -box.value)


def _everywhere(place: Values, geometry: Geometry | None) -> tuple[Values, Values | None, Values | None]:
    """A point or box in model pixels, in source pixels, and in mm."""
    if geometry is None:
        return place, None, None
    move = geometry.boxes_to_source if len(place) == 4 else geometry.to_source

    def moved(unit: Unit) -> Values:
        return tuple(float(value) for value in move(place, unit))

    return place, moved("pixel"), moved("mm") if geometry.spacing_mm is not None else None
