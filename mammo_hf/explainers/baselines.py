"""Maps that know nothing of the model: what an explainer must do better than."""

from __future__ import annotations

import numpy as np
from scipy import ndimage


def brightest(image: np.ndarray, breast: np.ndarray | None = None, sigma: float = 1.0) -> np.ndarray:
    """The image itself, lightly smoothed so that single bright pixels of noise do not win.

    Args:
        image: (height, width) in [0, 1].
        breast: Mask (height, width) of the breast; what lies outside it, such as a film label, becomes 0.
        sigma: Of the Gaussian, in pixels.
    """
    smooth = ndimage.gaussian_filter(np.asarray(image, np.float32), sigma)
    return smooth if breast is None else np.where(breast > 0, smooth, 0)


def centre(breast: np.ndarray) -> np.ndarray:
    """A map that falls off evenly from the breast's centre of mass, 0 outside the breast.

    Args:
        breast: Mask (height, width).
    """
    inside = np.asarray(breast) > 0
    if not inside.any():
        return np.zeros(inside.shape, np.float32)
    row, column = ndimage.center_of_mass(inside)
    rows, columns = np.ogrid[: inside.shape[0], : inside.shape[1]]
    away = np.hypot(rows - row, columns - column)
    return np.where(inside, 1 - away / (away[inside].max() + 1), 0).astype(np.float32)


def random_map(breast: np.ndarray, seed: int | list[int], token: int = 16) -> np.ndarray:
    """Noise of the grain of a token map, 0 outside the breast.

    Args:
        breast: Mask (height, width).
        seed: Of the noise.
        token: Side of a grain in pixels.
    """
    height, width = breast.shape
    coarse = np.random.default_rng(seed).random((-(-height // token), -(-width // token)))
    zoomed = ndimage.zoom(coarse, token, order=1, mode="grid-constant", grid_mode=True)[:height, :width]
    return np.where(breast > 0, zoomed, 0).astype(np.float32)
