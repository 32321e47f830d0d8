"""How well a map is placed on a lesion: its peak, its energy, its pixels, its regions.

None of these says that a map is true to the model: one that always shows the lesion would do well for any model.
"""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
from scipy import ndimage

from ..errors import UsageError
from ..evaluation.metrics import auroc
from .places import peak


def pointing_hit(values: np.ndarray, lesion: np.ndarray) -> bool:
    """Whether the map's peak lies in the lesion (pointing game: Zhang et al. 2018, arXiv 1608.00507).

    A map that is the same everywhere points nowhere and misses.

    Args:
        values: Map (height, width).
        lesion: Mask (height, width), bool or coverage.

    Raises:
        UsageError: Map and mask differ in size.
    """
    if np.shape(values) != np.shape(lesion):
        raise UsageError(
            f"size {np.shape(lesion)}, the map has {np.shape(values)}",
            source="lesion",
            remedy="bring the mask to the model's size (Geometry.mask_to_model)",
        )
    return bool(np.ptp(values) > 0 and lesion[peak(values)] > 0)


def pointing_game(maps: Iterable[np.ndarray], lesions: Iterable[np.ndarray]) -> float:
    """Share of the maps whose peak lies in its image's lesion.

    Raises:
        UsageError: No map, not one mask for each map, or another size.
    """
    try:
        hits = [pointing_hit(values, lesion) for values, lesion in zip(maps, lesions, strict=True)]
    except ValueError as error:
        raise UsageError(
            "not one mask for each map", source="lesions", remedy="leave images without one out"
        ) from error
    if not hits:
        raise UsageError("no map to play with", source="maps", remedy="give at least one image with a lesion's mask")
    return float(np.mean(hits))


def energy_over_chance(values: np.ndarray, lesion: np.ndarray, breast: np.ndarray) -> float:
    """The map's energy inside the lesion over what an even map of the breast would have there; 1 is chance.

    The energy-based pointing game (Wang et al. 2020, arXiv 1910.01279, section 4.3), divided by the lesion's share of
    the breast: a large lesion is easier to hit. What the map has outside the breast counts against it.

    Args:
        values: Map (height, width), 0 or more.
        lesion: Mask (height, width).
        breast: Mask (height, width); the lesion is counted to it.
    """
    inside = lesion > 0
    whole = float(values.sum())
    share = inside.sum() / np.count_nonzero(inside | (breast > 0))
    return float(values[inside].sum()) / whole / float(share) if whole > 0 else 0.0


def pixel_auroc(values: np.ndarray, lesion: np.ndarray, breast: np.ndarray) -> float:
    """The chance that a pixel of the lesion has a higher value than one of the breast beside it; 0.5 is chance.

    Args:
        values: Map (height, width).
        lesion: Mask (height, width).
        breast: Mask (height, width); the background is left out, because telling it from tissue is no merit.

    Raises:
        UndefinedMetric: The lesion fills the breast.
    """
    inside = lesion > 0
    counted = inside | (breast > 0)
    return auroc(inside[counted], values[counted])


def best_iou(values: np.ndarray, lesion: np.ndarray) -> float:
    """Intersection over union of the lesion and the pixels above a threshold, at the threshold where it is largest.

    An upper bound: the threshold is chosen knowing the lesion.
    """
    order = np.argsort(-values, axis=None, kind="stable")
    ordered = values.ravel()[order]
    hits = np.cumsum((lesion > 0).ravel()[order])
    # pixels of one value go in together, and those at zero never do
    last = np.append(ordered[1:] != ordered[:-1], True) & (ordered > 0)
    union = np.arange(1, hits.size + 1) + hits[-1] - hits
    return float((hits / union)[last].max(initial=0.0))


def distance_to_lesion(values: np.ndarray, lesion: np.ndarray) -> float:
    """How far the map's peak is from the lesion, in pixels; 0 inside it, infinite where the map is flat."""
    if np.ptp(values) == 0:
        return float("inf")
    away: np.ndarray = ndimage.distance_transform_edt(lesion <= 0)
    return float(away[peak(values)])
