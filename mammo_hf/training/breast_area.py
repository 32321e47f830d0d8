"""Where the breast lies on the canvas, one value a patch: for masks and losses that leave the background out."""

from __future__ import annotations

import numpy as np
from scipy import ndimage

EMPTY = 1e-3  # a range of intensity under which a canvas shows nothing


def breast_patches(intensity: np.ndarray, patch: int = 4) -> np.ndarray:
    """The largest connected bright region, without holes.

    Args:
        intensity: (height, width) in [0, 1] on the canvas; padding is 0.
        patch: Side of a patch in pixels; divides height and width.

    Returns:
        bool (height / patch, width / patch); all false where nothing stands out from the background.
    """
    height, width = intensity.shape
    means = intensity.reshape(height // patch, patch, width // patch, patch).mean((1, 3))
    if np.ptp(means) < EMPTY:
        return np.zeros(means.shape, bool)
    threshold = _two_classes(means)
    background = np.median(means[means <= threshold])
    # the threshold lies between fat and gland in dense breasts; skin and fat are nearer to the background
    regions, count = ndimage.label(means > background + 0.3 * (threshold - background))
    if count == 0:
        return np.zeros(means.shape, bool)
    sizes = np.bincount(regions.ravel())
    sizes[0] = 0
    breast: np.ndarray = ndimage.binary_fill_holes(regions == sizes.argmax())
    return breast


def _two_classes(values: np.ndarray) -> float:
    """The threshold at which the variance between the two classes is largest (Otsu 1979)."""
    counts, edges = np.histogram(values, bins=64)
    centres = (edges[:-1] + edges[1:]) / 2
    below = np.cumsum(counts)[:-1]
    above = counts.sum() - below
    total = np.cumsum(counts * centres)
    between = below * above * (total[:-1] / below - (total[-1] - total[:-1]) / above) ** 2
    return float(edges[1 + int(np.nanargmax(between))])
