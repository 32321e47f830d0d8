"""Benign and malignant lesions that differ in shape alone.

A lesion is drawn as a level (the depth of a point inside the shape) and then painted by rank: the deepest pixel gets
the brightest value, the last of a fixed number of pixels the faintest. A smooth and a spiculated mass of the same
diameter therefore get the same set of values, hence equal area, contrast, sum and maximum; likewise calcifications. And
the smooth mass holds lobules of fat, as a hamartoma does, with as much edge as the other one's spicules have: otherwise
the fine detail of the whole image, a single number, would distinguish them.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy import ndimage

KINDS = ("mass", "calcification")
PATHOLOGIES = ("benign", "malignant")
_MASS_REACH = 1.15  # farthest end of a spicule from the centre, in diameters
_CLUSTER_REACH = 0.62
_HALO, _HALO_REACH = 0.55, 1.4  # the halo's standard deviation, and the distance at which it has faded, in diameters
_LOBULE = 0.063  # mean radius of a lobule of fat, in diameters
_UNSHARPNESS = 0.0008  # blur of focal spot and screen, in image heights
_MASS_PIXELS, _CLUSTER_PIXELS = 96, 200  # a lesion is drawn at least this finely, whatever the picture's own pixels


@dataclass(frozen=True)
class Lesion:
    """Kind, size and contrast of a lesion, the same for the benign and the malignant patient of a matched pair.

    Attributes:
        kind: Either "mass" or "calcification".
        diameter: Diameter of the disc with the mass's area, or of the cluster, in image heights.
        contrast: Brightest added value, as a fraction of the film's full range.
        count: Number of calcifications; 1 for a mass.
        grain: Mean diameter of one calcification, in image heights; for a mass its diameter.
        halo: Darkness of the fat around the lesion below that of the tissue, over ``contrast``; 0 means no halo.
    """

    kind: str
    diameter: float
    contrast: float
    count: int
    grain: float
    halo: float = 0.0

    @property
    def reach(self) -> float:
        """Radius of the circle that holds all of the lesion, in image heights."""
        return self.diameter * (_HALO_REACH if self.halo else _MASS_REACH if self.kind == "mass" else _CLUSTER_REACH)


def draw_lesion(
    rng: np.random.Generator, kind: str, *, scale: float = 1.0, contrast: float = 1.0, halo: float = 0.0
) -> Lesion:
    """Draw size and contrast: a mass is 4 to 6 % of the image's height across (10 to 15 mm on a film of 24 cm).

    Args:
        rng: Random numbers of the pair of patients.
        kind: Either "mass" or "calcification".
        scale: Factor of the lesion's size.
        contrast: Factor of the lesion's contrast.
        halo: Darkness of a rim of fat, over the lesion's contrast: sets it off without making it any brighter.
    """
    if kind == "mass":
        diameter, strength = scale * rng.uniform(0.042, 0.060), contrast * rng.uniform(0.22, 0.28)
        return Lesion(kind, diameter, strength, 1, diameter, halo)
    diameter, strength = scale * rng.uniform(0.050, 0.075), contrast * rng.uniform(0.26, 0.34)
    count, grain = int(rng.integers(8, 14)), scale * rng.uniform(0.0045, 0.0060)
    return Lesion(kind, diameter, strength, count, grain, halo)


def project_lesion(
    lesion: Lesion, pathology: str, rng: np.random.Generator, height: int
) -> tuple[np.ndarray, np.ndarray]:
    """Draw one projection of a lesion.

    Args:
        lesion: Kind, size, contrast and count of the lesion.
        pathology: Shape of the lesion, "benign" or "malignant".
        rng: Random numbers of the shape.
        height: Height of the image in pixels.

    Returns:
        Density that the lesion adds to the film, float32 (n, n) with the lesion's centre in the middle pixel, and its
        outline as a reader would mark it, bool (n, n). n is odd.
    """
    # Draw the shape on a finer grid, in diameters
    pixels = lesion.diameter * height
    fine = max(2, int(np.ceil((_MASS_PIXELS if lesion.kind == "mass" else _CLUSTER_PIXELS) / pixels)))
    spread = _UNSHARPNESS * height
    side = (2 * int(np.ceil(lesion.reach * height + 4 * spread)) + 3) * fine
    axis = (np.arange(side, dtype=np.float32) - 0.5 * (side - 1)) / np.float32(pixels * fine)
    rows, columns = axis[:, None], axis[None, :]
    area = 0.25 * np.pi * (pixels * fine) ** 2
    if lesion.kind == "mass":
        painted = _by_rank((_fatty_disc if pathology == "benign" else _star)(rows, columns, rng), area)
        outline = ndimage.binary_fill_holes(painted > 0)
    else:
        grains = _round_grains if pathology == "benign" else _pleomorphic_grains
        painted = _by_rank(
            grains(rows, columns, rng, lesion), lesion.count * area * (lesion.grain / lesion.diameter) ** 2
        )
        outline = _by_rank(_disc(rows, columns, rng), 1.2 * area) > 0
    # Bring it to the image's resolution, with the blur of focal spot and screen
    cover = _shrink(outline.astype(np.float32), fine)
    added = ndimage.gaussian_filter(_shrink(painted, fine), spread, mode="constant")
    if lesion.halo:
        # The fat inside the lesion is as dark as that around it
        tissue = _shrink((painted > 0).astype(np.float32), fine)
        added -= np.float32(lesion.halo) * _halo(axis.reshape(-1, fine).mean(1), tissue)
    # The mask is the most covered pixels, as many as the outline's area: a cut at one half would lose thin spicules
    return added * np.float32(lesion.contrast), _by_rank(cover, cover.sum()) > 0


def _halo(axis: np.ndarray, tissue: np.ndarray) -> np.ndarray:
    """Draw the fat around and in a lesion, with the same sum for every shape, so that the image's mean shows none."""
    bell = np.exp(-0.5 * (axis[:, None] ** 2 + axis[None, :] ** 2) / _HALO**2)
    rim = bell * (1.0 - tissue)
    return np.asarray(rim * (0.6 * bell.sum() / rim.sum()), np.float32)


def _by_rank(level: np.ndarray, area: float) -> np.ndarray:
    """Give the ``area`` highest pixels of ``level`` the values 1 (deepest) down to 0.5 (outermost)."""
    count = min(level.size, max(1, round(area)))
    flat = level.ravel()
    chosen = np.argpartition(flat, flat.size - count)[flat.size - count :]
    chosen = chosen[np.argsort(-flat[chosen], kind="stable")]
    painted = np.zeros(flat.size, np.float32)
    painted[chosen] = 1.0 - 0.5 * ((np.arange(count) + 0.5) / count) ** 1.5
    return painted.reshape(level.shape)


def _shrink(image: np.ndarray, factor: int) -> np.ndarray:
    side = image.shape[0] // factor
    return image.reshape(side, factor, side, factor).mean(axis=(1, 3))


def _wavy_radius(angle: np.ndarray, rng: np.random.Generator, strength: float, waves: range) -> np.ndarray:
    radius = np.ones_like(angle)
    for k in waves:
        radius += np.float32(rng.normal(0.0, strength / k)) * np.cos(k * angle + np.float32(rng.uniform(0, 2 * np.pi)))
    return radius


def _disc(rows: np.ndarray, columns: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Draw a round or oval shape with a smooth, circumscribed margin."""
    tilt, flat = rng.uniform(0, np.pi), rng.uniform(0.82, 1.0)
    long, short = _rotated(rows, columns, tilt)
    radius = np.hypot(long * flat, short / flat)
    return 0.5 * _wavy_radius(np.arctan2(short, long), rng, 0.05, range(2, 5)) - radius


def _fatty_disc(rows: np.ndarray, columns: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Draw a disc with small round lobules of fat in it, scaled to the area of a disc of diameter 1."""
    level = _disc(rows, columns, rng)
    for row, column in _scattered(rng, int(rng.integers(9, 14)), 1.0, within=0.36):
        radius = np.float32(_LOBULE * rng.uniform(0.8, 1.2))
        level = np.minimum(level, np.hypot(rows - np.float32(row), columns - np.float32(column)) - radius)
    return level


def _star(rows: np.ndarray, columns: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Draw an irregular core with tapering spicules, scaled to the area of a disc of diameter 1."""
    core = (int(rng.integers(2**32)), rng.uniform(0.36, 0.40))
    spicules = int(rng.integers(8, 12))
    turn = rng.uniform(0, 2 * np.pi) + (np.arange(spicules) + rng.uniform(-0.28, 0.28, spicules)) * 2 * np.pi / spicules
    length, width = rng.uniform(0.68, 1.12, spicules), rng.uniform(0.075, 0.12, spicules)
    bend = rng.uniform(-0.2, 0.2, spicules)

    def level(rows: np.ndarray, columns: np.ndarray) -> np.ndarray:
        wave = _wavy_radius(np.arctan2(rows, columns), np.random.default_rng(core[0]), 0.14, range(2, 7))
        deepest = np.float32(core[1]) * wave - np.hypot(rows, columns)
        for k in range(spicules):
            along, aside = _rotated(rows, columns, turn[k])
            taper = width[k] * (1.0 - along / length[k]) - np.abs(aside - bend[k] * along * along)
            deepest = np.maximum(deepest, np.where(along > 0, taper, -1.0))
        return deepest

    # Measure the area on every second point, then scale to that of the disc
    first = level(rows[::2], columns[:, ::2])
    step = float(rows[2, 0] - rows[0, 0])
    zoom = np.float32(np.sqrt((first > 0).sum() * step * step / (0.25 * np.pi)))
    return level(rows * zoom, columns * zoom)


def _rotated(rows: np.ndarray, columns: np.ndarray, angle: float) -> tuple[np.ndarray, np.ndarray]:
    cosine, sine = np.float32(np.cos(angle)), np.float32(np.sin(angle))
    return columns * cosine + rows * sine, rows * cosine - columns * sine


def _scattered(rng: np.random.Generator, count: int, apart: float, within: float = 0.42) -> np.ndarray:
    """Draw points (count, 2) in a disc of radius ``within``, ``apart`` from each other as far as possible."""
    points = np.empty((0, 2))
    for _ in range(count):
        radius, angle = within * np.sqrt(rng.uniform(size=40)), rng.uniform(0, 2 * np.pi, 40)
        tries = np.stack([radius * np.sin(angle), radius * np.cos(angle)], axis=-1)
        gaps = np.linalg.norm(tries[:, None] - points[None], axis=-1).min(axis=1, initial=np.inf)
        points = np.vstack([points, tries[int(np.argmax(np.minimum(gaps, apart)))]])
    return points


def _round_grains(rows: np.ndarray, columns: np.ndarray, rng: np.random.Generator, lesion: Lesion) -> np.ndarray:
    """Draw coarse calcifications: round, smooth, of one size."""
    size = lesion.grain / lesion.diameter
    level = np.full((rows.size, columns.size), -1e3, np.float32)
    for row, column in _scattered(rng, lesion.count, 1.9 * size):
        radius = 0.5 * size * rng.uniform(0.95, 1.05)
        level = np.maximum(level, 1.0 - np.hypot(rows - row, columns - column) / np.float32(radius))
    return level


def _pleomorphic_grains(rows: np.ndarray, columns: np.ndarray, rng: np.random.Generator, lesion: Lesion) -> np.ndarray:
    """Draw pleomorphic calcifications: angular, linear and branching, of many sizes."""
    size = lesion.grain / lesion.diameter
    level = np.full((rows.size, columns.size), -1e3, np.float32)
    sizes = np.exp(rng.normal(0.0, 0.5, lesion.count))
    sizes *= np.sqrt(lesion.count / (sizes**2).sum())  # the same total area as grains of one size
    for (row, column), relative in zip(_scattered(rng, lesion.count, 1.9 * size), sizes, strict=True):
        slender, turn = rng.uniform(1.2, 2.6), rng.uniform(0, np.pi)
        for limb in range(1 + int(relative > 1.0)):
            angle = turn + limb * rng.uniform(0.6, 1.3)
            long, short = _rotated(rows - np.float32(row), columns - np.float32(column), angle)
            long = long - np.float32(limb * 0.35 * size * relative * slender)
            # The 1-norm makes corners
            reach = np.abs(long) / np.float32(slender) + np.abs(short) * np.float32(slender) * (1.0 + 0.4 * limb)
            level = np.maximum(level, 1.0 - reach / np.float32(0.55 * size * relative))
    return level
