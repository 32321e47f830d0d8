"""Benign and malignant findings that differ in shape alone.

A finding is drawn as a level (how deep inside the shape a point lies) and then painted by rank: the deepest pixel gets
the brightest value, the last of a fixed number of pixels the faintest. A smooth and a spiculated mass of the same
diameter so get the very same set of values, hence equal area, contrast, sum and maximum; likewise calcifications. And
the smooth mass holds lobules of fat, as a hamartoma does, with as much edge as the other one's spicules have: or the
fine detail of the whole image, a single number, would tell them apart.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy import ndimage

KINDS = ("mass", "calcification")
PATHOLOGIES = ("benign", "malignant")
_MASS_REACH = 1.15  # no spicule ends farther from the centre, in diameters
_CLUSTER_REACH = 0.62
_HALO, _HALO_REACH = 0.55, 1.4  # the halo's standard deviation, and where it has faded away, in diameters
_LOBULE = 0.063  # mean radius of a lobule of fat, in diameters
_UNSHARPNESS = 0.0008  # blur of focal spot and screen, in image heights
_MASS_PIXELS, _CLUSTER_PIXELS = 96, 200  # a finding is drawn at least this finely, whatever the picture's own pixels


@dataclass(frozen=True)
class FindingDraft:
    """What a finding is before its shape is drawn; the same for the benign and the malignant one of a matched pair.

    Attributes:
        kind: "mass" or "calcification".
        diameter: Of the disc with the same area as the mass, or of the cluster; in image heights.
        contrast: Brightest added value, as a share of the film's full range.
        count: How many calcifications; 1 for a mass.
        grain: Mean diameter of one calcification, in image heights; for a mass its diameter.
        halo: How much darker than the tissue the fat around the finding is, over ``contrast``; 0: no halo.
    """

    kind: str
    diameter: float
    contrast: float
    count: int
    grain: float
    halo: float = 0.0

    @property
    def reach(self) -> float:
        """Distance from the centre, in image heights, within which all of the finding lies."""
        return self.diameter * (_HALO_REACH if self.halo else _MASS_REACH if self.kind == "mass" else _CLUSTER_REACH)


def draft_finding(
    rng: np.random.Generator, kind: str, *, scale: float = 1.0, contrast: float = 1.0, halo: float = 0.0
) -> FindingDraft:
    """Draw size and contrast: a mass is 4 to 6 % of the image's height across (on a 24 cm film 10 to 15 mm).

    Args:
        rng: Where the randomness comes from.
        kind: "mass" or "calcification".
        scale: Enlarges the finding.
        contrast: Strengthens it.
        halo: Sets it off by a rim of fat this much darker, over its own contrast, without making it any brighter.
    """
    if kind == "mass":
        diameter, strength = scale * rng.uniform(0.042, 0.060), contrast * rng.uniform(0.22, 0.28)
        return FindingDraft(kind, diameter, strength, 1, diameter, halo)
    diameter, strength = scale * rng.uniform(0.050, 0.075), contrast * rng.uniform(0.26, 0.34)
    count, grain = int(rng.integers(8, 14)), scale * rng.uniform(0.0045, 0.0060)
    return FindingDraft(kind, diameter, strength, count, grain, halo)


def draw_finding(
    draft: FindingDraft, pathology: str, rng: np.random.Generator, height: int
) -> tuple[np.ndarray, np.ndarray]:
    """Draw one projection of a finding.

    Args:
        draft: Kind, size, contrast and count.
        pathology: "benign" or "malignant": the shape.
        rng: The shape's own randomness.
        height: The image's height in pixels.

    Returns:
        What it adds to the film, float32 (n, n) with the finding's centre in the middle pixel, and its outline as a
        reader would mark it, bool (n, n). n is odd.
    """
    pixels = draft.diameter * height
    fine = max(2, int(np.ceil((_MASS_PIXELS if draft.kind == "mass" else _CLUSTER_PIXELS) / pixels)))
    spread = _UNSHARPNESS * height
    side = (2 * int(np.ceil(draft.reach * height + 4 * spread)) + 3) * fine
    axis = (np.arange(side, dtype=np.float32) - 0.5 * (side - 1)) / np.float32(pixels * fine)  # in diameters
    rows, columns = axis[:, None], axis[None, :]
    area = 0.25 * np.pi * (pixels * fine) ** 2
    if draft.kind == "mass":
        painted = _by_rank((_fatty_disc if pathology == "benign" else _star)(rows, columns, rng), area)
        outline = ndimage.binary_fill_holes(painted > 0)
    else:
        grains = _round_grains if pathology == "benign" else _pleomorphic_grains
        painted = _by_rank(grains(rows, columns, rng, draft), draft.count * area * (draft.grain / draft.diameter) ** 2)
        outline = _by_rank(_disc(rows, columns, rng), 1.2 * area) > 0
    cover = _shrink(outline.astype(np.float32), fine)
    # as many pixels as the outline's area, those covered most: a cut at one half would lose thin spicules
    added = ndimage.gaussian_filter(_shrink(painted, fine), spread, mode="constant")
    if draft.halo:
        # the fat inside the finding is as dark as that around it
        tissue = _shrink((painted > 0).astype(np.float32), fine)
        added -= np.float32(draft.halo) * _halo(axis.reshape(-1, fine).mean(1), tissue)
    return added * np.float32(draft.contrast), _by_rank(cover, cover.sum()) > 0


def _halo(axis: np.ndarray, tissue: np.ndarray) -> np.ndarray:
    """The fat around and in a finding; of the same sum for every shape, so that the image's mean tells none."""
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
    """Round or oval with a smooth, circumscribed margin."""
    tilt, flat = rng.uniform(0, np.pi), rng.uniform(0.82, 1.0)
    long, short = _turned(rows, columns, tilt)
    radius = np.hypot(long * flat, short / flat)
    return 0.5 * _wavy_radius(np.arctan2(short, long), rng, 0.05, range(2, 5)) - radius


def _fatty_disc(rows: np.ndarray, columns: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """A disc with small round lobules of fat in it, scaled to the area of a disc of diameter 1."""
    level = _disc(rows, columns, rng)
    for row, column in _scattered(rng, int(rng.integers(9, 14)), 1.0, within=0.36):
        radius = np.float32(_LOBULE * rng.uniform(0.8, 1.2))
        level = np.minimum(level, np.hypot(rows - np.float32(row), columns - np.float32(column)) - radius)
    return level


def _star(rows: np.ndarray, columns: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """An irregular core with tapering spicules, scaled to the area of a disc of diameter 1."""
    core = (int(rng.integers(2**32)), rng.uniform(0.36, 0.40))
    spicules = int(rng.integers(8, 12))
    turn = rng.uniform(0, 2 * np.pi) + (np.arange(spicules) + rng.uniform(-0.28, 0.28, spicules)) * 2 * np.pi / spicules
    length, width = rng.uniform(0.68, 1.12, spicules), rng.uniform(0.075, 0.12, spicules)
    bend = rng.uniform(-0.2, 0.2, spicules)

    def level(rows: np.ndarray, columns: np.ndarray) -> np.ndarray:
        wave = _wavy_radius(np.arctan2(rows, columns), np.random.default_rng(core[0]), 0.14, range(2, 7))
        deepest = np.float32(core[1]) * wave - np.hypot(rows, columns)
        for k in range(spicules):
            along, aside = _turned(rows, columns, turn[k])
            taper = width[k] * (1.0 - along / length[k]) - np.abs(aside - bend[k] * along * along)
            deepest = np.maximum(deepest, np.where(along > 0, taper, -1.0))
        return deepest

    first = level(rows[::2], columns[:, ::2])
    step = float(rows[2, 0] - rows[0, 0])
    zoom = np.float32(np.sqrt((first > 0).sum() * step * step / (0.25 * np.pi)))
    return level(rows * zoom, columns * zoom)


def _turned(rows: np.ndarray, columns: np.ndarray, angle: float) -> tuple[np.ndarray, np.ndarray]:
    cosine, sine = np.float32(np.cos(angle)), np.float32(np.sin(angle))
    return columns * cosine + rows * sine, rows * cosine - columns * sine


def _scattered(rng: np.random.Generator, count: int, apart: float, within: float = 0.42) -> np.ndarray:
    """Points (count, 2) in a disc of radius ``within``, as far as possible not touching."""
    points = np.empty((0, 2))
    for _ in range(count):
        radius, angle = within * np.sqrt(rng.uniform(size=40)), rng.uniform(0, 2 * np.pi, 40)
        tries = np.stack([radius * np.sin(angle), radius * np.cos(angle)], axis=-1)
        gaps = np.linalg.norm(tries[:, None] - points[None], axis=-1).min(axis=1, initial=np.inf)
        points = np.vstack([points, tries[int(np.argmax(np.minimum(gaps, apart)))]])
    return points


def _round_grains(rows: np.ndarray, columns: np.ndarray, rng: np.random.Generator, draft: FindingDraft) -> np.ndarray:
    """Coarse calcifications: round, smooth, of one size."""
    size = draft.grain / draft.diameter
    level = np.full((rows.size, columns.size), -1e3, np.float32)
    for row, column in _scattered(rng, draft.count, 1.9 * size):
        radius = 0.5 * size * rng.uniform(0.95, 1.05)
        level = np.maximum(level, 1.0 - np.hypot(rows - row, columns - column) / np.float32(radius))
    return level


def _pleomorphic_grains(
    rows: np.ndarray, columns: np.ndarray, rng: np.random.Generator, draft: FindingDraft
) -> np.ndarray:
    """Pleomorphic calcifications: angular, linear and branching, of many sizes."""
    size = draft.grain / draft.diameter
    level = np.full((rows.size, columns.size), -1e3, np.float32)
    shares = np.exp(rng.normal(0.0, 0.5, draft.count))
    shares *= np.sqrt(draft.count / (shares**2).sum())  # the same total area as grains of one size
    for (row, column), share in zip(_scattered(rng, draft.count, 1.9 * size), shares, strict=True):
        slender, turn = rng.uniform(1.2, 2.6), rng.uniform(0, np.pi)
        for limb in range(1 + int(share > 1.0)):
            angle = turn + limb * rng.uniform(0.6, 1.3)
            long, short = _turned(rows - np.float32(row), columns - np.float32(column), angle)
            long = long - np.float32(limb * 0.35 * size * share * slender)
            # the 1-norm makes corners
            reach = np.abs(long) / np.float32(slender) + np.abs(short) * np.float32(slender) * (1.0 + 0.4 * limb)
            level = np.maximum(level, 1.0 - reach / np.float32(0.55 * size * share))
    return level
