"""The pectoral muscle in an oblique view: the bright corner above a straight edge.

Its edge is taken for a straight line from the image's top to the chest wall, as in Karssemeijer 1998 (Phys. Med. Biol.
43:365). All lines of a grid are judged at once by how much brighter the image is on the muscle's side.
"""

from __future__ import annotations

import numpy as np
from scipy import ndimage

SAMPLES = 48  # points along a line
TOPS = np.linspace(0.15, 1.0, 30)  # where a line begins, as a share of the breast's width
SIDES = np.linspace(0.2, 1.0, 33)  # where it ends, as a share of the breast's height
STEEPEST, FLATTEST = 78.0, 30.0  # degrees from the horizontal
LEAST_STEP = 0.02  # of the range of intensity, across the edge
LEAST_SHARE = 0.7  # of the line that must show a step


def pectoral_mask(view: np.ndarray, mask: np.ndarray, chest_wall: str) -> np.ndarray | None:
    """The pectoral muscle in a small view of an oblique mammogram.

    Args:
        view: Intensity (height, width); tissue is bright.
        mask: bool, likewise: the breast with the muscle.
        chest_wall: "left" or "right".

    Returns:
        bool (height, width), inside the mask; ``None`` where no convincing edge was found.
    """
    if chest_wall == "right":
        found = pectoral_mask(view[:, ::-1], mask[:, ::-1], "left")
        return None if found is None else found[:, ::-1]
    rows, columns = np.flatnonzero(mask.any(1)), np.flatnonzero(mask.any(0))
    if len(rows) < 20 or len(columns) < 20:
        return None
    top, left = rows[0], columns[0]
    height, width = rows[-1] + 1 - top, columns[-1] + 1 - left
    tops, sides = (grid.ravel() for grid in np.meshgrid(TOPS * width, SIDES * height))
    angle = np.degrees(np.arctan2(sides, tops))
    possible = (angle > FLATTEST) & (angle < STEEPEST)
    tops, sides = tops[possible], sides[possible]
    steps = _steps(ndimage.uniform_filter(view.astype(np.float32), 5), mask, (top, left), tops, sides)
    scale = float(np.ptp(view[mask]))
    convincing = (steps > LEAST_STEP * scale).mean(1)
    # no single strong edge, as a gland's, may outweigh the rest of the line
    score = np.clip(steps, -0.1 * scale, 0.1 * scale).mean(1) * np.sqrt(np.hypot(tops, sides))
    score[convincing < LEAST_SHARE] = -1
    best = int(score.argmax())
    if score[best] <= 0:
        return None
    i, j = np.ogrid[: view.shape[0], : view.shape[1]]
    inside = (j - left) / tops[best] + (i - top) / sides[best] < 1
    return np.asarray(inside & mask)


def _steps(
    smooth: np.ndarray, mask: np.ndarray, corner: tuple[int, int], tops: np.ndarray, sides: np.ndarray
) -> np.ndarray:
    """How much brighter the muscle's side is, (lines, samples); 0 where a point lies outside the breast."""
    share = (np.arange(SAMPLES) + 0.5) / SAMPLES
    rows = corner[0] + sides[:, None] * share
    columns = corner[1] + tops[:, None] * (1 - share)
    # the normal towards the breast, with the length of half the band that is compared
    half = 0.02 * max(smooth.shape)
    length = np.hypot(tops, sides)
    down, out = (half * tops / length)[:, None], (half * sides / length)[:, None]
    inner, outer = (
        (np.rint(rows + sign * down).astype(np.intp), np.rint(columns + sign * out).astype(np.intp)) for sign in (-1, 1)
    )
    inner, outer = ((np.clip(i, 0, smooth.shape[0] - 1), np.clip(j, 0, smooth.shape[1] - 1)) for i, j in (inner, outer))
    return np.where(mask[outer] & mask[inner], smooth[inner] - smooth[outer], 0)
