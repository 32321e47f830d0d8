"""Tissue below the skin: fat, glandular tissue by density class, ligaments and vessels."""

from __future__ import annotations

from functools import lru_cache

import numpy as np
from scipy import fft, ndimage

from .anatomy import Outline, pixel_centres, smoothstep, upsample

DENSITIES = ("a", "b", "c", "d")
# fraction of the breast that is dense, after the quartiles of the ACR BI-RADS atlas (4th edition's percentages)
DENSE_FRACTION = {"a": (0.03, 0.11), "b": (0.24, 0.38), "c": (0.48, 0.62), "d": (0.72, 0.86)}
_TEXTURE = 256
_ROWS = 512  # the film's noise hides tissue that is finer than this
_APEX = 0.15  # ducts and ligaments fan out from a point this far in front of the nipple

# lumps and strands, each (side, side) and periodic, and the fraction of dense tissue
Pattern = tuple[np.ndarray, np.ndarray, float]


def draw_pattern(rng: np.random.Generator, density: str) -> Pattern:
    """Draw the textures that a patient's four views share.

    Args:
        rng: Random numbers of the patient.
        density: One of ``DENSITIES``.
    """
    return _lumps(rng), _strands(rng), float(rng.uniform(*DENSE_FRACTION[density]))


def draw_tissue(
    outline: Outline, pattern: Pattern, rng: np.random.Generator, size: tuple[int, int]
) -> tuple[np.ndarray, np.ndarray]:
    """Paint one view's tissue.

    Args:
        outline: Outline of the breast in this view.
        pattern: Textures that the patient's views share, of `draw_pattern`.
        rng: Random numbers of this view: tissue overlaps differently in every projection.
        size: Size of the picture, (height, width).

    Returns:
        The tissue's opacity above fat, float32 ``size``, about 0 in fat and 1 in solid glandular tissue; and the
        fraction of glandular tissue on a coarse grid, in [0, 1].
    """
    common_lumps, common_strands, dense_fraction = pattern
    grid = (min(_ROWS, size[0]), max(8, round(min(_ROWS, size[0]) * outline.width)))
    depth = upsample(outline.depth, grid)
    lumps = around_nipple(_mixed(common_lumps, _lumps(rng), 0.7), outline.nipple, grid, outline.width, stretch=1.7)
    fine = power_law_noise(rng, grid, beta=3.0, longest=0.3)
    gland = _gland(outline, depth, lumps + 0.2 * fine, dense_fraction, grid)
    tissue = gland * (0.78 + 0.09 * fine + 0.17 * lumps) + 0.04 * fine + 0.02 * lumps
    tissue = upsample(tissue + _vessels(outline, rng, grid) * smoothstep(depth, 0.0, 0.03), size)
    strands = around_nipple(_mixed(common_strands, _strands(rng), 0.5), outline.nipple, grid, outline.width, stretch=3)
    amount = np.clip(0.10 + 0.06 * lumps, 0.02, 0.25) * (0.4 + 0.6 * _nearby(gland)) * smoothstep(depth, 0.0, 0.02)
    tissue += upsample(amount.astype(np.float32), size) * _ligaments(upsample(strands, size), size[0])
    return tissue, gland


def _lumps(rng: np.random.Generator) -> np.ndarray:
    return power_law_noise(rng, (_TEXTURE, _TEXTURE), beta=3.0, longest=0.35)


def _strands(rng: np.random.Generator) -> np.ndarray:
    return power_law_noise(rng, (_TEXTURE, _TEXTURE), beta=2.0, longest=0.12, shortest=0.022)


def _mixed(common: np.ndarray, own: np.ndarray, correlation: float) -> np.ndarray:
    return np.float32(correlation) * common + np.float32(np.sqrt(1.0 - correlation**2)) * own


@lru_cache(maxsize=32)
def _amplitude(size: tuple[int, int], beta: float, longest: float, shortest: float) -> np.ndarray:
    rows, columns = np.fft.fftfreq(size[0])[:, None], np.fft.rfftfreq(size[1])[None, :]
    frequency = np.hypot(rows, columns) * size[0]  # cycles per image height
    amplitude = (frequency**2 + (1.0 / longest) ** 2) ** (-beta / 4.0)
    if shortest > 0:
        amplitude *= np.exp(-((frequency * shortest) ** 2))
    amplitude[0, 0] = 0.0
    return amplitude.astype(np.float32)


def power_law_noise(
    rng: np.random.Generator, size: tuple[int, int], *, beta: float = 3.0, longest: float = 1.0, shortest: float = 0.0
) -> np.ndarray:
    """Draw periodic Gaussian noise with power spectrum 1/f^beta, mean 0 and standard deviation 1, float32.

    Mammographic parenchyma follows such a law with beta near 3 (Burgess 1999, Proc. SPIE 3663; Heine and Velthuizen
    2002, Med. Phys. 29, 647).

    Args:
        rng: Random numbers of the field.
        size: Size of the field, (height, width).
        beta: Exponent of the power spectrum.
        longest: Wavelength, in image heights, beyond which the spectrum is flat.
        shortest: Wavelength, in image heights, below which the spectrum fades; 0 keeps everything.
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
        nipple: Position of the nipple, (row, column).
        size: Size of the grid to sample at, (height, width).
        width: Width of the picture over its height.
        stretch: Factor by which structures are longer along the ducts than across them.
    """
    rows, columns = pixel_centres(size, width=width)
    down, inwards = rows - nipple[0], nipple[1] + _APEX - columns
    side = texture.shape[0]
    radius = np.hypot(down, inwards) * np.float32(side / stretch)
    # an arc half an image height from the apex keeps its length
    angle = np.arctan2(down, inwards) * np.float32(side * 0.5)
    return _sample_periodic(texture, radius, angle)


def _sample_periodic(texture: np.ndarray, rows: np.ndarray, columns: np.ndarray) -> np.ndarray:
    row, column = np.floor(rows), np.floor(columns)
    down, right = rows - row, columns - column
    top, left = row.astype(np.int32) % texture.shape[0], column.astype(np.int32) % texture.shape[1]
    bottom, next_column = (top + 1) % texture.shape[0], (left + 1) % texture.shape[1]
    upper = texture[top, left] + (texture[top, next_column] - texture[top, left]) * right
    lower = texture[bottom, left] + (texture[bottom, next_column] - texture[bottom, left]) * right
    return upper + (lower - upper) * down


def _gland(
    outline: Outline, depth: np.ndarray, texture: np.ndarray, dense_fraction: float, grid: tuple[int, int]
) -> np.ndarray:
    """Draw the fraction of gland: a cone behind the nipple, broken up by the texture, dense in ``dense_fraction``."""
    rows, columns = pixel_centres(grid, width=outline.width)
    reach = outline.nipple[1]
    along = (outline.nipple[1] - columns) / reach - 0.42
    across = (rows - outline.nipple[0]) / (0.9 * reach)
    cone = -1.1 * ((along / 0.5) ** 2 + (across / (0.75 + 0.5 * np.maximum(along, -0.3))) ** 2)
    score = cone + 0.75 * texture + 1.2 * (smoothstep(depth, 0.01, 0.07) - 1.0)
    muscle = upsample(outline.muscle, grid)
    breast = (depth > 0.02) & (muscle < 0)
    if not breast.any():
        return np.zeros(grid, np.float32)
    threshold = np.quantile(score[breast], 1.0 - dense_fraction)
    gland = 1.0 / (1.0 + np.exp(np.clip((threshold - score) / 0.45, -30, 30)))
    return (gland * smoothstep(depth, 0.008, 0.05)).astype(np.float32)


def _nearby(gland: np.ndarray) -> np.ndarray:
    return np.minimum(1.0, 2.5 * ndimage.uniform_filter(gland, max(3, gland.shape[0] // 12)))


def _ligaments(strands: np.ndarray, height: int) -> np.ndarray:
    """Draw Cooper's ligaments in [0, 1]: thin curves along which the strand texture crosses zero."""
    step = max(1, height // 256)
    slope = np.hypot(*np.gradient(strands[::step, ::step]))
    width = np.float32(max(float(np.median(slope)) * 0.6, 1e-3))
    return np.exp(-((strands / width) ** 2))


def _vessels(outline: Outline, rng: np.random.Generator, grid: tuple[int, int]) -> np.ndarray:
    """Draw a few smooth vessels that run from the chest wall towards the nipple."""
    picture = np.zeros(grid, np.float32)
    for _ in range(int(rng.integers(2, 5))):
        start = np.array([rng.uniform(0.15, 0.9), 0.0])
        end = np.add(outline.nipple, (rng.uniform(-0.25, 0.25), -rng.uniform(0.03, 0.15)))
        along = np.linspace(0.0, 1.0, 1200)
        waves = sum(
            rng.normal(0, 0.03 / k) * np.sin(np.pi * k * along + rng.uniform(0, 2 * np.pi)) for k in (1, 2, 4, 7)
        )
        rows = start[0] + (end[0] - start[0]) * along + waves
        columns = start[1] + (end[1] - start[1]) * along
        row = np.clip(rows * grid[0], 0, grid[0] - 1).astype(np.intp)
        column = np.clip(columns / outline.width * grid[1], 0, grid[1] - 1).astype(np.intp)
        np.maximum.at(picture, (row, column), (rng.uniform(0.6, 1.0) * (1.0 - 0.6 * along)).astype(np.float32))
    sigma = 0.0022 * grid[0]
    return ndimage.gaussian_filter(picture, sigma, truncate=3.0) * np.float32(0.22 * sigma * np.sqrt(2 * np.pi))
