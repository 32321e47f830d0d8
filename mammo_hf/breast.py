"""Finding the breast in a displayed mammogram: the box around it, and on which side the chest wall lies."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy import ndimage

LONGEST_SIDE = 512  # pixels of the subsampled view that is searched
EMPTY = 1e-4  # a range of intensity under which an image shows nothing


@dataclass(frozen=True)
class Breast:
    """Where the breast lies.

    Args:
        box: (top, left, bottom, right) in pixels, exclusive at the end.
        chest_wall: "left" or "right": the side of the image; ``None`` where both sides are alike.
    """

    box: tuple[int, int, int, int]
    chest_wall: str | None


def find_breast(intensity: np.ndarray, *, stride: int = 1, size: tuple[int, int] | None = None) -> Breast:
    """Finds the breast: the largest bright region after film labels and scanner noise are left out.

    Args:
        intensity: (height, width) in [0, 1], every ``stride``-th pixel of the image.
        stride: Of the subsampling.
        size: (height, width) of the whole image; the intensity's where not given.

    Returns:
        The box with a margin of 2 % of the longer side, the whole image where nothing stands out from the background.
    """
    height, width = size or intensity.shape
    mask = _tissue(intensity)
    if not mask.any():
        return Breast((0, 0, height, width), None)
    rows, columns = np.flatnonzero(mask.any(1)), np.flatnonzero(mask.any(0))
    margin = round(0.02 * max(intensity.shape)) + 1
    top, bottom = rows[0] - margin, rows[-1] + 1 + margin
    left, right = columns[0] - margin, columns[-1] + 1 + margin
    box = (
        int(max(top * stride, 0)),
        int(max(left * stride, 0)),
        int(min(bottom * stride, height)),
        int(min(right * stride, width)),
    )
    return Breast(box, _chest_wall(mask[:, columns[0] : columns[-1] + 1]))


def _tissue(intensity: np.ndarray) -> np.ndarray:
    if intensity.size == 0 or np.ptp(intensity) < EMPTY:
        return np.zeros(intensity.shape, bool)
    smooth = ndimage.uniform_filter(intensity.astype(np.float32), 5)
    threshold = _otsu(smooth)
    background = np.median(smooth[smooth <= threshold])
    # Otsu's threshold lies between fat and gland in dense breasts; the skin is nearer to the background
    mask = smooth > background + 0.3 * (threshold - background)
    mask = ndimage.binary_opening(mask, iterations=2)
    regions, count = ndimage.label(mask)
    if count == 0:
        return mask
    sizes = np.bincount(regions.ravel())
    sizes[0] = 0
    largest: np.ndarray = regions == sizes.argmax()
    # a region of a few pixels is noise, not a breast
    return largest if sizes.max() >= 0.01 * mask.size else np.zeros(mask.shape, bool)


def _otsu(values: np.ndarray) -> float:
    """The threshold that separates two classes best (Otsu 1979, IEEE Trans. Syst. Man Cybern. 9:62)."""
    counts, edges = np.histogram(values, bins=256)
    centres = (edges[:-1] + edges[1:]) / 2
    below = np.cumsum(counts)
    above = below[-1] - below
    total = np.cumsum(counts * centres)
    with np.errstate(divide="ignore", invalid="ignore"):
        between = below * above * (total / below - (total[-1] - total) / above) ** 2
    return float(centres[np.nanargmax(np.where(np.isfinite(between), between, -1))])


def _chest_wall(mask: np.ndarray) -> str | None:
    """The side where the breast is widest, by its tissue and by its height at the edge; it ends at the nipple.

    Tissue alone misleads in a digital image of a fatty breast: the fat at the chest wall is nearly as dark as air.
    Height alone misleads on a film whose whole edge is bright. Neither does both at once.
    """
    third, tenth = max(mask.shape[1] // 3, 1), max(mask.shape[1] // 10, 1)
    area = _contrast(mask[:, :third].sum(), mask[:, -third:].sum())
    # of a column: from its first row of tissue to its last, so that dark fat in between counts
    heights = np.where(mask.any(axis=0), mask.shape[0] - mask.argmax(axis=0) - mask[::-1].argmax(axis=0), 0)
    wider = area + _contrast(heights[:tenth].sum(), heights[-tenth:].sum())
    if abs(wider) < 0.05:
        return None
    return "left" if wider > 0 else "right"


def _contrast(left: float, right: float) -> float:
    """From -1, all on the right, to 1, all on the left."""
    return float(left - right) / max(float(left + right), 1.0)
