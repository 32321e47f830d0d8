"""Random fields and grids that the phantom is painted from, all in units of the image's height."""

from __future__ import annotations

from functools import lru_cache

import numpy as np
from scipy import fft

NIPPLE_APEX = 0.15  # ducts and ligaments fan out from a point this far in front of the nipple


def pixel_centres(size: tuple[int, int], *, width: float | None = None) -> tuple[np.ndarray, np.ndarray]:
    """Rows ``(height, 1)`` and columns ``(1, width)`` of the pixels' centres, as fractions of the image's height.

    Args:
        size: The grid, (height, width).
        width: The picture's width over its height where the grid's own ratio differs by rounding.
    """
    height, columns = size
    across = columns / height if width is None else width
    rows = (np.arange(height, dtype=np.float32)[:, None] + 0.5) / height
    return rows, (np.arange(columns, dtype=np.float32)[None, :] + 0.5) * np.float32(across / columns)


def smoothstep(values: np.ndarray, low: float, high: float) -> np.ndarray:
    """0 below ``low``, 1 above ``high``, a cubic without corners between."""
    ramp = np.clip((values - low) / (high - low), 0.0, 1.0)
    return ramp * ramp * (3.0 - 2.0 * ramp)


def upsample(field: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """Linear interpolation of a coarse field ``(rows, columns)`` onto ``size``, pixel areas aligned."""
    for axis, length in enumerate(size):
        have = field.shape[axis]
        if have == length:
            continue
        place = np.clip((np.arange(length, dtype=np.float32) + 0.5) * (have / length) - 0.5, 0, have - 1)
        below = np.minimum(place.astype(np.intp), max(have - 2, 0))
        share = (place - below).astype(np.float32)
        share = share[:, None] if axis == 0 else share[None, :]
        low = field.take(below, axis)
        field = low + (field.take(np.minimum(below + 1, have - 1), axis) - low) * share
    return field


@lru_cache(maxsize=32)
def _amplitude(size: tuple[int, int], beta: float, longest: float, shortest: float) -> np.ndarray:
    rows, columns = np.fft.fftfreq(size[0])[:, None], np.fft.rfftfreq(size[1])[None, :]
    frequency = np.hypot(rows, columns) * size[0]  # cycles an image height
    amplitude = (frequency**2 + (1.0 / longest) ** 2) ** (-beta / 4.0)
    if shortest > 0:
        amplitude *= np.exp(-((frequency * shortest) ** 2))
    amplitude[0, 0] = 0.0
    return amplitude.astype(np.float32)


def power_law_noise(
    rng: np.random.Generator, size: tuple[int, int], *, beta: float = 3.0, longest: float = 1.0, shortest: float = 0.0
) -> np.ndarray:
    """Periodic Gaussian noise with power spectrum 1/f^beta, mean 0 and standard deviation 1, float32.

    Mammographic parenchyma follows such a law with beta near 3 (Burgess 1999, Proc. SPIE 3663; Heine and Velthuizen
    2002, Med. Phys. 29, 647).

    Args:
        rng: Where the randomness comes from.
        size: (height, width).
        beta: Exponent of the power spectrum.
        longest: Wavelength, in image heights, beyond which the spectrum is flat.
        shortest: Wavelength, in image heights, below which it fades; 0 keeps everything.
    """
    amplitude = _amplitude(size, beta, longest, shortest)
    parts = rng.standard_normal((2, *amplitude.shape), dtype=np.float32)
    field = fft.irfft2(amplitude * (parts[0] + np.complex64(1j) * parts[1]), s=size)
    return field / field.std()


def around_nipple(
    texture: np.ndarray, nipple: tuple[float, float], size: tuple[int, int], width: float, *, stretch: float
) -> np.ndarray:
    """Wrap a periodic square texture around the nipple, so that its structures run towards it.

    Args:
        texture: Periodic field, (side, side); one period spans about one image height.
        nipple: (row, column) in image heights, chest wall at column 0.
        size: The grid to sample at, (height, width).
        width: The picture's width over its height.
        stretch: How much longer the structures are along the ducts than across them.
    """
    rows, columns = pixel_centres(size, width=width)
    down, inwards = rows - nipple[0], nipple[1] + NIPPLE_APEX - columns
    side = texture.shape[0]
    radius = np.hypot(down, inwards) * np.float32(side / stretch)
    # an arc half an image height from the apex keeps its length
    angle = np.arctan2(down, inwards) * np.float32(side * 0.5)
    return _sample_periodic(texture, radius, angle)


def _sample_periodic(texture: np.ndarray, rows: np.ndarray, columns: np.ndarray) -> np.ndarray:
    row, column = np.floor(rows), np.floor(columns)
    down, right = rows - row, columns - column
    top, left = row.astype(np.int32) % texture.shape[0], column.astype(np.int32) % texture.shape[1]
    bottom, beside = (top + 1) % texture.shape[0], (left + 1) % texture.shape[1]
    upper = texture[top, left] + (texture[top, beside] - texture[top, left]) * right
    lower = texture[bottom, left] + (texture[bottom, beside] - texture[bottom, left]) * right
    return upper + (lower - upper) * down
