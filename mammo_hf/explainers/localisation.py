"""How often an explanation points at the lesion, beside what the brightest tissue would do."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
from scipy import ndimage

from ..errors import UsageError
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


def brightest(image: np.ndarray, breast: np.ndarray | None = None, sigma: float = 1.0) -> np.ndarray:
    """The baseline's map: the image itself, lightly smoothed so that single bright pixels of noise do not win.

    Args:
        image: (height, width) in [0, 1].
        breast: Mask (height, width) of the breast; what lies outside it, such as a film label, becomes 0.
        sigma: Of the Gaussian, in pixels.
    """
    smooth = ndimage.gaussian_filter(np.asarray(image, np.float32), sigma)
    return smooth if breast is None else np.where(breast > 0, smooth, 0)
