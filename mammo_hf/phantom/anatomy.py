"""Outlines of a breast in the two standard views: skin, nipple and pectoral muscle.

All lengths in this package are in image heights, and the chest wall is column 0, as in a left breast, until the film is
hung.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from scipy import ndimage

_COARSE_ROWS = 256  # distances are smooth: a finer grid would show no difference
_CONTOUR_POINTS = 1000
# how far the two breasts of a patient may differ, as fractions of each proportion
_BETWEEN_SIDES = {
    "depth": 0.05,
    "half_height": 0.03,
    "bluntness": 0.04,
    "axilla": 0.08,
    "muscle_height": 0.12,
    "muscle_width": 0.08,
    "nipple": 0.4,
}


def pixel_centres(size: tuple[int, int], *, width: float | None = None) -> tuple[np.ndarray, np.ndarray]:
    """Return the rows ``(height, 1)`` and columns ``(1, width)`` of the pixels' centres, in image heights.

    Args:
        size: Size of the grid, (height, width).
        width: Width of the picture over its height; by default the ratio of ``size``, which may differ by rounding.
    """
    height, columns = size
    across = columns / height if width is None else width
    rows = (np.arange(height, dtype=np.float32)[:, None] + 0.5) / height
    return rows, (np.arange(columns, dtype=np.float32)[None, :] + 0.5) * np.float32(across / columns)


def smoothstep(values: np.ndarray, low: float, high: float) -> np.ndarray:
    """Map values below ``low`` to 0, above ``high`` to 1, and those in between along a cubic without corners."""
    ramp = np.clip((values - low) / (high - low), 0.0, 1.0)
    return ramp * ramp * (3.0 - 2.0 * ramp)


def upsample(field: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """Interpolate a coarse field ``(rows, columns)`` linearly onto ``size``, with pixel areas aligned."""
    for axis, length in enumerate(size):
        have = field.shape[axis]
        if have == length:
            continue
        position = np.clip((np.arange(length, dtype=np.float32) + 0.5) * (have / length) - 0.5, 0, have - 1)
        below = np.minimum(position.astype(np.intp), max(have - 2, 0))
        weight = np.expand_dims((position - below).astype(np.float32), 1 - axis)
        low = field.take(below, axis)
        field = low + (field.take(np.minimum(below + 1, have - 1), axis) - low) * weight
    return field


@dataclass(frozen=True)
class Habitus:
    """Proportions of one breast, shared by its two views.

    Attributes:
        depth: Distance from the chest wall to the nipple.
        half_height: Half the height of the breast at the chest wall, in CC.
        bluntness: Exponent of the outline; below 2 the breast is pointed, above 2 it is full.
        axilla: Width of the axillary part at the top of the MLO view, over ``depth``.
        droop: Row of the nipple in MLO.
        muscle_height: Row at which the pectoral muscle ends at the chest wall, in MLO.
        muscle_width: Width of the muscle at the upper edge, over the axillary width.
        muscle_bow: Distance by which the muscle's border bulges forward.
        skin: Thickness of the skin.
        rim: Width of the rounded edge, where the compressed breast gets thinner.
        nipple: Height of the nipple in profile.
    """

    depth: float
    half_height: float
    bluntness: float
    axilla: float
    droop: float
    muscle_height: float
    muscle_width: float
    muscle_bow: float
    skin: float
    rim: float
    nipple: float


@dataclass(frozen=True)
class Outline:
    """One view of a breast.

    Attributes:
        depth: Distance below the skin, negative in air, float32 (rows, columns) on a coarse grid.
        muscle: Distance behind the border of the pectoral muscle, negative in front of it, on the same grid.
        nipple: Position of the nipple, (row, column).
        width: Width of the picture over its height.
    """

    depth: np.ndarray
    muscle: np.ndarray
    nipple: tuple[float, float]
    width: float

    def depth_on(self, size: tuple[int, int]) -> np.ndarray:
        """Interpolate ``depth`` onto a grid of ``size``, (height, width)."""
        return upsample(self.depth, size)

    def clearance(self, rows: np.ndarray, columns: np.ndarray) -> np.ndarray:
        """Return the distance of points to the nearest of skin, muscle and film edge, negative outside the breast."""
        height, width = self.depth.shape
        row = np.clip(rows * height, 0, height - 1).astype(np.intp)
        column = np.clip(columns / self.width * width, 0, width - 1).astype(np.intp)
        edge = np.minimum(np.minimum(rows, 1.0 - rows), np.minimum(columns, self.width - columns))
        return np.minimum(np.minimum(self.depth[row, column], -self.muscle[row, column]), edge)


def draw_habitus(rng: np.random.Generator, width: float) -> Habitus:
    """Draw the proportions of a patient's breasts for a picture ``width`` image heights wide."""
    depth = min(rng.uniform(0.31, 0.42), 0.84 * width)
    return Habitus(
        depth=depth,
        half_height=rng.uniform(0.37, 0.46),
        bluntness=rng.uniform(1.75, 2.15),
        axilla=min(rng.uniform(0.60, 0.80), (width - 0.17) / depth),
        droop=rng.uniform(0.58, 0.66),
        muscle_height=rng.uniform(0.40, 0.62),
        muscle_width=rng.uniform(0.55, 0.8),
        muscle_bow=rng.uniform(-0.008, 0.022),
        skin=rng.uniform(0.0045, 0.0065),
        rim=rng.uniform(0.09, 0.14),
        nipple=rng.uniform(0.004, 0.018),
    )


def other_side(habitus: Habitus, rng: np.random.Generator) -> Habitus:
    """Draw the same patient's other breast: similar, never equal, as in a real exam."""
    varied: dict[str, float] = {
        name: getattr(habitus, name) * (1.0 + variation * float(rng.uniform(-1.0, 1.0)))
        for name, variation in _BETWEEN_SIDES.items()
    }
    return replace(habitus, **varied)


def draw_outline(habitus: Habitus, view: str, width: float, rng: np.random.Generator) -> Outline:
    """Position a breast for one view.

    Args:
        habitus: Proportions of the breast.
        view: Either "CC" or "MLO".
        width: Width of the picture over its height.
        rng: Random numbers of the breast's position on the film.
    """
    contour, nipple = _contour(habitus, view, rng)
    size = (_COARSE_ROWS, max(8, round(_COARSE_ROWS * width)))
    rows, columns = pixel_centres(size, width=width)
    edge = np.interp(rows[:, 0], contour[:, 0], contour[:, 1], left=0.0, right=0.0)[:, None]
    depth = np.where(columns < edge, 1.0, -1.0) * _distance(rows, columns, contour)
    muscle = _muscle(habitus, rows, columns) if view == "MLO" else np.full(size, -1.0, np.float32)
    return Outline(depth.astype(np.float32), muscle, nipple, width)


def _contour(habitus: Habitus, view: str, rng: np.random.Generator) -> tuple[np.ndarray, tuple[float, float]]:
    """Draw the skin as evenly spaced points (points, 2), and the nipple's position on it."""
    rows = np.linspace(-0.2, 1.2, 4001)
    across = (_cc if view == "CC" else _mlo)(habitus, rows, rng)
    phase, strength = rng.uniform(0, 2 * np.pi, 3), rng.uniform(0.0005, 0.0025, 3)
    wave = sum(s * np.sin(2 * np.pi * k * rows + p) for k, s, p in zip((2, 3, 5), strength, phase, strict=True))
    across = across + wave * np.minimum(1.0, across / 0.1)
    # the foremost point near the breast's own middle: a wide axilla may come as far forward
    middle = 0.5 if view == "CC" else habitus.droop
    foremost = np.where(np.abs(rows - middle) < 0.06, across, 0.0).argmax()
    row = float(rows[foremost] + rng.uniform(-0.012, 0.012))
    across = across + habitus.nipple * np.exp(-0.5 * ((rows - row) / 0.011) ** 2)
    nipple = (row, float(np.interp(row, rows, across)))
    rows, across = rows[across > 1e-3], across[across > 1e-3]
    length = np.concatenate([[0.0], np.cumsum(np.hypot(np.diff(rows), np.diff(across)))])
    even = np.linspace(0.0, length[-1], _CONTOUR_POINTS)
    return np.stack([np.interp(even, length, rows), np.interp(even, length, across)], axis=-1), nipple


def _distance(rows: np.ndarray, columns: np.ndarray, contour: np.ndarray) -> np.ndarray:
    """Return the distance of a grid's points to a curve of evenly spaced points; near it, along the curve's normal."""
    # Mark the pixels that the curve passes, and find the marked pixel that is nearest to every other
    size = (rows.size, columns.size)
    spacing = float(np.hypot(*(contour[1] - contour[0])))
    row = np.floor(contour[:, 0] * size[0]).astype(np.intp)
    column = np.floor(contour[:, 1] * (size[1] / (columns[0, -1] + columns[0, 0]))).astype(np.intp)
    shown = (row >= 0) & (row < size[0]) & (column >= 0) & (column < size[1])
    marked = np.full(size, -1, np.int32)
    marked[row[shown], column[shown]] = np.flatnonzero(shown)
    nearest = ndimage.distance_transform_edt(marked < 0, return_distances=False, return_indices=True)
    index = marked[nearest[0], nearest[1]]
    tangent = np.gradient(contour, axis=0) / spacing
    down, right = rows - contour[index, 0], columns - contour[index, 1]
    # The pixel's point is close to the nearest one: slide along the tangent, and keep the new point where it is closer
    slide = np.rint((down * tangent[index, 0] + right * tangent[index, 1]) / spacing).astype(np.int32)
    slid = np.clip(index + slide, 0, len(contour) - 1)
    closer = np.hypot(rows - contour[slid, 0], columns - contour[slid, 1]) < np.hypot(down, right)
    index = np.where(closer, slid, index)
    down, right = rows - contour[index, 0], columns - contour[index, 1]
    straight = np.hypot(down, right)
    # Within some pixels of the curve the distance between points would show: measure across the tangent there
    return np.where(straight < 0.02, np.abs(down * tangent[index, 1] - right * tangent[index, 0]), straight)


def _cc(habitus: Habitus, rows: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Draw a D: half a superellipse, a little taller on one side of the nipple than on the other."""
    middle = 0.5 + rng.uniform(-0.03, 0.03)
    lean = rng.uniform(-0.06, 0.06)
    half = habitus.half_height * np.where(rows < middle, 1.0 + lean, 1.0 - lean)
    inside = np.clip(1.0 - (np.abs(rows - middle) / half) ** habitus.bluntness, 0.0, None)
    return habitus.depth * inside ** (1.0 / 1.9)


def _mlo(habitus: Habitus, rows: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Draw a teardrop that hangs from the axilla, with the fold below the breast at the chest wall."""
    middle = habitus.droop + rng.uniform(-0.02, 0.02)
    lower = min(habitus.half_height * 0.86, 0.97 - middle)
    half = np.where(rows < middle, habitus.half_height * 1.2, lower)
    inside = np.clip(1.0 - (np.abs(rows - middle) / half) ** habitus.bluntness, 0.0, None)
    breast = habitus.depth * rng.uniform(0.96, 1.0) * inside ** (1.0 / 1.9)
    axilla = habitus.axilla * habitus.depth * (1.08 - 0.3 * np.clip(rows, -0.2, 1.0))
    axilla = axilla * (1.0 - smoothstep(rows, middle - 0.25, middle + 0.05))
    fold = rng.uniform(0.0, 0.09) * smoothstep(rows, middle + lower - 0.06, 1.06)
    return (breast**5 + axilla**5 + fold**5) ** 0.2


def _muscle(habitus: Habitus, rows: np.ndarray, columns: np.ndarray) -> np.ndarray:
    width = habitus.muscle_width * habitus.axilla * habitus.depth
    height = habitus.muscle_height
    plane = (1.0 - rows / height - columns / width) / np.hypot(1.0 / height, 1.0 / width)
    bow = habitus.muscle_bow * np.sin(np.pi * np.clip(rows / height, 0.0, 1.0))
    return (plane + bow).astype(np.float32)
