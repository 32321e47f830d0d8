"""The exposed field of a mammogram: what a collimator or a scanner has left bright and even along the edges is no part.

Such an edge is as bright as the breast and may touch it, so no threshold parts the two. But along the whole side it has
one value, and it ends at a straight line.
"""

from __future__ import annotations

import numpy as np

EVEN = 0.05  # of the range of intensity: how far a pixel may be from its line's median
ALL = 0.9  # of a line within the collimated edge that must be as even as that
STEEP = 0.15  # of the range of intensity, what the edge differs from what lies beyond it
REST = 0.6  # of the first line beyond it that may differ less: where a breast of that brightness touches it
STEP = 3  # pixels over which the edge may end
BRIGHT = 0.2  # of the range of intensity above the darkest, what the edge has at least
THICKEST = 0.3  # of the height or width


def exposed_field(view: np.ndarray) -> tuple[slice, slice]:
    """Rows and columns of a view that lie within its collimated edges; all of them where there are none.

    Args:
        view: Intensity (height, width).
    """
    low, high = float(view.min()), float(view.max())
    rows = _between(view, low, high)
    return rows, _between(view[rows].T, low, high)


def _between(lines: np.ndarray, low: float, high: float) -> slice:
    return slice(_thickness(lines, low, high), len(lines) - _thickness(lines[::-1], low, high))


def _thickness(lines: np.ndarray, low: float, high: float) -> int:
    """How many of the first lines are a collimated edge."""
    level = float(np.median(lines[0]))
    if level - low <= BRIGHT * (high - low):
        return 0
    apart = np.abs(lines[: int(THICKEST * len(lines)) + STEP] - level) / (high - low)
    uneven = np.flatnonzero((apart <= EVEN).mean(1) < ALL)
    if not len(uneven) or not uneven[0]:
        return 0
    # a breast that fills the image is bright and even, too, but its brightness fades
    after = np.flatnonzero((apart[uneven[0] : uneven[0] + STEP] <= STEEP).mean(1) < REST)
    return int(uneven[0] + after[0]) if len(after) else 0
