"""How often an explanation points at the lesion, beside what the brightest tissue would do."""

from __future__ import annotations

import numpy as np
from scipy import ndimage


def peak(values: np.ndarray) -> tuple[int, int]:
    """(row, column) of a map's maximum; of a plateau the pixel nearest to its centre."""
    places = np.argwhere(values == values.max())
    centre = places.mean(axis=0)
    row, column = places[((places - centre) ** 2).sum(axis=1).argmin()]
    return int(row), int(column)


def pointing_hit(values: np.ndarray, lesion: np.ndarray) -> bool:
    """Whether the map's peak lies in the lesion (pointing game: Zhang et al. 2018, arXiv 1608.00507)."""
    return bool(lesion[peak(values)] > 0)


def brightest(image: np.ndarray, sigma: float = 1.0) -> np.ndarray:
    """The baseline's map: the image itself, lightly smoothed so that single bright pixels of noise do not win."""
    return ndimage.gaussian_filter(np.asarray(image, np.float32), sigma)
