"""Digitised films of painted tissue: opacity, characteristic curve, noise, dust, and the label in the corner."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
from scipy import ndimage

from .anatomy import Habitus, Outline, pixel_centres, smoothstep, upsample

# optical scale, as fractions of the film's full range
_AIR, _FAT, _GLAND, _MUSCLE, _SKIN = 0.016, 0.37, 0.33, 0.42, 0.045
_SHOULDER, _CEILING = 0.78, 0.93  # density at which the film begins to saturate, and the limit for tissue
_STROKES: dict[str, list[list[tuple[float, float]]]] = {
    "L": [[(0, 0), (1, 0), (1, 0.6)]],
    "R": [[(1, 0), (0, 0), (0, 0.42), (0.08, 0.58), (0.25, 0.64), (0.42, 0.58), (0.5, 0.42), (0.5, 0)],
          [(0.5, 0.3), (1, 0.66)]],
    "C": [[(0.17, 0.66), (0.04, 0.5), (0, 0.33), (0.08, 0.12), (0.3, 0), (0.7, 0), (0.92, 0.12), (1, 0.33),
           (0.96, 0.5), (0.83, 0.66)]],
    "M": [[(1, 0), (0, 0), (0.6, 0.4), (0, 0.8), (1, 0.8)]],
    "O": [[(0, 0.34), (0.08, 0.12), (0.3, 0), (0.7, 0), (0.92, 0.12), (1, 0.34), (0.92, 0.56), (0.7, 0.68),
           (0.3, 0.68), (0.08, 0.56), (0, 0.34)]],
}  # fmt: skip


def expose(outline: Outline, habitus: Habitus, tissue: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Return the density on the film before noise, in [0, 1), for a breast with the chest wall at column 0.

    Args:
        outline: Outline of the breast in this view.
        habitus: Proportions of the breast, for skin and edge.
        tissue: Opacity above fat, float32 (height, width); 1 is solid glandular tissue.
        rng: Random numbers of exposure and muscle fibres.
    """
    size = tissue.shape
    exposure = 1.0 + 0.04 * float(np.clip(rng.standard_normal(), -2, 2))
    depth = outline.depth_on(size)
    inner = np.clip(1.0 - depth / habitus.rim, 0.0, 1.0)
    # the free edge of a compressed breast is half round: path length after Pythagoras
    thickness = np.sqrt(np.clip(1.0 - inner * inner, 0.0, 1.0))
    image = thickness * (_FAT + _GLAND * tissue)
    if outline.muscle.max() > 0:
        cover = upsample(_muscle_cover(outline, rng), size)
        image += cover * (_MUSCLE - 0.55 * (image - _FAT) * (image > _FAT)) * thickness
    pixel = 1.0 / size[0]
    skin = np.exp(-(((depth - 0.5 * habitus.skin) / max(0.45 * habitus.skin, 0.7 * pixel)) ** 2))
    image += _SKIN * skin * smoothstep(depth, -pixel, pixel)
    return image * np.float32(exposure)


def _muscle_cover(outline: Outline, rng: np.random.Generator) -> np.ndarray:
    muscle = outline.muscle
    rows, columns = pixel_centres(muscle.shape, width=outline.width)
    # fibres run along the border: a wave across it, drifting slowly
    wave = np.sin(muscle * 150 + rng.uniform(0, 6) + 3 * np.sin(9 * rows + rng.uniform(0, 6)) + 2 * np.sin(7 * columns))
    level = 0.86 + 0.10 * smoothstep(muscle, 0.0, 0.12) + 0.025 * wave
    return (smoothstep(muscle, -0.012, 0.022) * level).astype(np.float32)


def shoulder(image: np.ndarray) -> np.ndarray:
    """Apply the film's characteristic curve: linear up to 0.78, then saturating below the label's white."""
    room = _CEILING - _SHOULDER
    excess = np.maximum(image - _SHOULDER, 0.0)
    return np.where(image > _SHOULDER, _SHOULDER + room * np.tanh(excess / room), image)


def digitise(image: np.ndarray, laterality: str, view: str, rng: np.random.Generator) -> np.ndarray:
    """Develop, label and scan a film: 16-bit unsigned, as hung (a right breast's chest wall at the last column).

    Args:
        image: Density, float32 (height, width), chest wall at column 0, about [0, 1].
        laterality: Side for the label and the orientation, "LEFT" or "RIGHT".
        view: View for the label, "CC" or "MLO".
        rng: Random numbers of noise, dust and the label's position.
    """
    height = image.shape[0]
    rows, columns = pixel_centres(image.shape)
    veil = _AIR * (1.0 + 0.25 * np.sin(2.2 * rows + rng.uniform(0, 6)) * np.cos(3.1 * columns + rng.uniform(0, 6)))
    film = np.maximum(shoulder(image), veil.astype(np.float32))
    if laterality == "RIGHT":
        film = film[:, ::-1]
    film = _labelled(np.ascontiguousarray(film), laterality, view, rng)
    film = _dusty(film, rng)
    fine = min(1.0, (height / 1024) ** 0.5)  # a smaller scan averages the grain
    grain = rng.standard_normal(film.shape, dtype=np.float32)
    grain += ndimage.uniform_filter(rng.standard_normal(film.shape, dtype=np.float32), 3) * np.float32(1.5)
    film += grain * np.float32(0.009 * fine) * np.sqrt(film + 0.02)
    return np.rint(np.clip(film, 0.0, 1.0) * 65535.0).astype(np.uint16)


def _dusty(film: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Add specks of dust and pinholes, as bright as anything on the film."""
    height, width = film.shape
    cover = np.float32(min(1.0, height / 1024))  # a speck fills less of a coarser scan's pixel
    for _ in range(int(rng.poisson(5))):
        row, column = int(rng.integers(1, height - 1)), int(rng.integers(1, width - 1))
        speck = np.s_[row : row + int(rng.integers(1, 3)), column : column + int(rng.integers(1, 3))]
        film[speck] += (np.float32(rng.uniform(0.75, 1.0)) - film[speck]) * cover
    return film


def _labelled(film: np.ndarray, laterality: str, view: str, rng: np.random.Generator) -> np.ndarray:
    """Add lead letters on a dim plate, in the upper corner away from the chest wall."""
    height, width = film.shape
    tall = 0.036
    text = [(laterality[0], 1.0), *((letter, 0.62) for letter in view)]
    long = sum(0.95 * tall * scale for _, scale in text)
    angle = float(rng.uniform(-0.25, 0.25))
    reach = 0.5 * long + 0.02
    across = width / height - reach - rng.uniform(0.004, 0.012)
    centre = (float(rng.uniform(0.035, 0.05)), across if laterality == "LEFT" else width / height - across)
    # Only the corner with the label is computed
    stop_row = min(height, int((centre[0] + reach) * height) + 2)
    low = max(0, int((centre[1] - reach - 0.02) * height))
    high = min(width, int((centre[1] + reach + 0.02) * height) + 2)
    rows, columns = pixel_centres(film.shape)
    down, right = rows[:stop_row] - centre[0], columns[:, low:high] - centre[1]
    row = down * np.cos(angle) - right * np.sin(angle)
    column = down * np.sin(angle) + right * np.cos(angle)
    pixel = 1.0 / height
    region = film[:stop_row, low:high]
    plate = _cover(np.maximum(np.abs(row) - 0.03, np.abs(column) - 0.5 * long - 0.012), pixel)
    region = np.maximum(region, np.float32(rng.uniform(0.05, 0.12)) * plate)
    letters = _cover(_text_distance(text, row, column, tall, long) - max(0.0028, 0.55 * pixel), pixel)
    region += (np.float32(rng.uniform(0.95, 0.99)) - region) * letters
    film[:stop_row, low:high] = region
    return film


def _cover(distance: np.ndarray, pixel: float) -> np.ndarray:
    return np.clip(0.5 - distance / pixel, 0.0, 1.0).astype(np.float32)


def _text_distance(
    text: list[tuple[str, float]], row: np.ndarray, column: np.ndarray, tall: float, long: float
) -> np.ndarray:
    """Return the distance of every point to the nearest stroke of the text."""
    nearest = np.full(np.broadcast_shapes(row.shape, column.shape), np.inf, np.float32)
    left = -0.5 * long
    for letter, scale in text:
        size = tall * scale
        for stroke in _STROKES[letter]:
            points = np.array(stroke) * size + [0.5 * tall - size, left]
            for (r0, c0), (r1, c1) in pairwise(points):
                way = (r1 - r0) ** 2 + (c1 - c0) ** 2
                t = np.clip(((row - r0) * (r1 - r0) + (column - c0) * (c1 - c0)) / way, 0.0, 1.0)
                nearest = np.minimum(nearest, np.hypot(row - r0 - t * (r1 - r0), column - c0 - t * (c1 - c0)))
        left += 0.95 * size
    return nearest
