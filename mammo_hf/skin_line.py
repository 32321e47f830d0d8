"""The faint rim of a breast: skin, nipple and the thin fat under them, which lie between the breast and its background.

A threshold that parts a breast from its background over the whole film leaves out what is hardly brighter than that
background. Close to the breast the background is known better, so a lower threshold can be used there.
"""

from __future__ import annotations

import numpy as np

from .breast_mask import connected, dilated, eroded, without_holes

REACH = 0.05  # of the longer side: how far beyond a breast's outline its skin is looked for
LEAST_STEP = 0.15  # of the way from the background to the outline's brightness: what skin has at least
LEAST_DEVIATIONS = 4.0  # and in deviations of the background
# of the longer side: half the width of what is no skin (scratches, frames, letters that touch it)
NARROW = 0.008
MOST_AT_REACH = 0.3  # of what lies as far out as is looked for: where more is that bright, it is background that glows
LEAST_LIT = 0.25  # of the background, where it is not the darkest value itself as beyond the film's edge


def with_faint_skin(smooth: np.ndarray, mask: np.ndarray) -> np.ndarray:
    """A breast's mask, grown to its skin line.

    Args:
        smooth: Intensity (height, width) without its noise; tissue is brighter than the background.
        mask: bool, likewise: the breast, one connected region.

    Returns:
        bool (height, width), the mask and what was added to it.
    """
    longest = max(mask.shape)
    reach, narrow = max(1, round(REACH * longest)), max(1, round(NARROW * longest))
    near = dilated(mask, reach)
    threshold = _threshold(smooth, mask, dilated(near, reach) & ~near)
    if threshold is None:
        return mask
    bright = near & ((smooth > threshold) | mask)
    grown = connected(dilated(eroded(bright, narrow), narrow) | mask, mask)
    furthest = near & ~dilated(mask, reach - 1)
    if np.count_nonzero(grown & furthest) > MOST_AT_REACH * np.count_nonzero(furthest):
        return mask
    return without_holes(grown)


def _threshold(smooth: np.ndarray, mask: np.ndarray, background: np.ndarray) -> float | None:
    """The intensity above which a pixel beside the breast is skin; ``None`` where there is no room for one."""
    values = smooth[background]
    lit = values[values > smooth.min()]
    values = lit if len(lit) > LEAST_LIT * len(values) else values
    if not len(values):
        return None
    level = float(np.median(values))
    deviation = 1.4826 * float(np.median(np.abs(values - level)))  # of a normal distribution
    outline = float(np.median(smooth[mask & ~eroded(mask, 1)]))
    threshold = level + max(LEAST_DEVIATIONS * deviation, LEAST_STEP * (outline - level))
    return threshold if threshold < outline else None
