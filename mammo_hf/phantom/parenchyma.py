"""What lies under the skin: fat, glandular tissue after the density class, ligaments and vessels."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy import ndimage

from .anatomy import Outline, around_nipple, pixel_centres, power_law_noise, smoothstep, upsample

DENSITIES = ("a", "b", "c", "d")
# share of the breast that is dense, after the quartiles of the ACR BI-RADS atlas (4th edition's percentages)
DENSE_SHARE = {"a": (0.03, 0.11), "b": (0.24, 0.38), "c": (0.48, 0.62), "d": (0.72, 0.86)}
_TEXTURE = 256
_ROWS = 512  # finer tissue than this drowns in the film's noise


@dataclass(frozen=True)
class Pattern:
    """The textures a patient carries in all four views, each (side, side), periodic, and the share of dense tissue."""

    lumps: np.ndarray
    strands: np.ndarray
    dense_share: float


def draw_pattern(rng: np.random.Generator, density: str) -> Pattern:
    """Draw a patient's own textures; ``density`` is one of ``DENSITIES``."""
    return Pattern(_lumps(rng), _strands(rng), float(rng.uniform(*DENSE_SHARE[density])))


def draw_tissue(
    outline: Outline, pattern: Pattern, rng: np.random.Generator, size: tuple[int, int]
) -> tuple[np.ndarray, np.ndarray]:
    """Paint one view's tissue.

    Args:
        outline: The breast as it lies on the film.
        pattern: What this patient's views have in common.
        rng: What is this view's alone: the overlap of tissue is new in every projection.
        size: (height, width) of the picture.

    Returns:
        The tissue's opacity above fat, float32 ``size``, about 0 in fat and 1 in solid glandular tissue; and the
        share of glandular tissue on a coarse grid, in [0, 1].
    """
    grid = (min(_ROWS, size[0]), max(8, round(min(_ROWS, size[0]) * outline.width)))
    depth = upsample(outline.depth, grid)
    lumps = around_nipple(_mixed(pattern.lumps, _lumps(rng), 0.7), outline.nipple, grid, outline.width, stretch=1.7)
    fine = power_law_noise(rng, grid, beta=3.0, longest=0.3)
    gland = _gland(outline, depth, lumps + 0.2 * fine, pattern.dense_share, grid)
    tissue = gland * (0.78 + 0.09 * fine + 0.17 * lumps) + 0.04 * fine + 0.02 * lumps
    tissue = upsample(tissue + _vessels(outline, rng, grid) * smoothstep(depth, 0.0, 0.03), size)
    strands = around_nipple(_mixed(pattern.strands, _strands(rng), 0.5), outline.nipple, grid, outline.width, stretch=3)
    amount = np.clip(0.10 + 0.06 * lumps, 0.02, 0.25) * (0.4 + 0.6 * _nearby(gland)) * smoothstep(depth, 0.0, 0.02)
    tissue += upsample(amount.astype(np.float32), size) * _ligaments(upsample(strands, size), size[0])
    return tissue, gland


def _lumps(rng: np.random.Generator) -> np.ndarray:
    return power_law_noise(rng, (_TEXTURE, _TEXTURE), beta=3.0, longest=0.35)


def _strands(rng: np.random.Generator) -> np.ndarray:
    return power_law_noise(rng, (_TEXTURE, _TEXTURE), beta=2.0, longest=0.12, shortest=0.022)


def _mixed(common: np.ndarray, own: np.ndarray, share: float) -> np.ndarray:
    return np.float32(share) * common + np.float32(np.sqrt(1.0 - share**2)) * own


def _gland(
    outline: Outline, depth: np.ndarray, texture: np.ndarray, dense_share: float, grid: tuple[int, int]
) -> np.ndarray:
    """Glandular share: a cone behind the nipple, broken up by the texture, covering ``dense_share`` of the breast."""
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
    threshold = np.quantile(score[breast], 1.0 - dense_share)
    gland = 1.0 / (1.0 + np.exp(np.clip((threshold - score) / 0.45, -30, 30)))
    return (gland * smoothstep(depth, 0.008, 0.05)).astype(np.float32)


def _nearby(gland: np.ndarray) -> np.ndarray:
    return np.minimum(1.0, 2.5 * ndimage.uniform_filter(gland, max(3, gland.shape[0] // 12)))


def _ligaments(strands: np.ndarray, height: int) -> np.ndarray:
    """Cooper's ligaments: thin curves where the strand texture crosses zero, in [0, 1]."""
    step = max(1, height // 256)
    slope = np.hypot(*np.gradient(strands[::step, ::step]))
    width = np.float32(max(float(np.median(slope)) * 0.6, 1e-3))
    return np.exp(-((strands / width) ** 2))


def _vessels(outline: Outline, rng: np.random.Generator, grid: tuple[int, int]) -> np.ndarray:
    """A few smooth, branching vessels that run from the chest wall towards the nipple."""
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
