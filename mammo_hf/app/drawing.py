"""A view as the screen shows it: window and level, a map over it, a part enlarged."""

from __future__ import annotations

import numpy as np

from ..explainers.overlay import blended


def drawn_view(
    intensity: np.ndarray,
    *,
    level: float = 0.5,
    window: float = 1.0,
    values: np.ndarray | None = None,
    opacity: float = 0.6,
    zoom: float = 1.0,
    centre: tuple[float, float] = (0.5, 0.5),
) -> np.ndarray:
    """uint8 RGB (height, width, 3).

    Args:
        intensity: (height, width) in [0, 1].
        level: The intensity that is shown as middle grey.
        window: The range of intensities between black and white, above 0.
        values: A map (height, width) in [0, 1]; zero leaves the image as it is.
        opacity: Of the map's strongest place, 0 to 1.
        zoom: How many times enlarged, 1 or more; the picture keeps its size.
        centre: Of the part that is shown, as shares of height and width; moved inwards where it would run out.
    """
    rows, columns = (_part(length, zoom, at) for length, at in zip(intensity.shape, centre, strict=True))
    shown = intensity[rows[:, None], columns].astype(np.float32)
    grey = np.clip((shown - (level - window / 2)) / window, 0, 1)
    if values is None or opacity == 0:
        picture = grey[..., None].repeat(3, axis=2)
    else:
        picture = blended(grey, np.clip(values[rows[:, None], columns], 0, 1), opacity)
    return np.rint(picture * 255).astype(np.uint8)


def shown_centre(
    click: tuple[float, float], zoom: float, centre: tuple[float, float], size: tuple[int, int]
) -> tuple[float, float]:
    """The place of the whole view, as shares of height and width, on which somebody has clicked.

    Args:
        click: (row, column) on the picture that `drawn_view` gave.
        zoom: That it was drawn with.
        centre: Likewise.
        size: (height, width) of the picture.
    """
    parts = [_part(length, zoom, at) for length, at in zip(size, centre, strict=True)]
    places = [part[int(np.clip(at, 0, len(part) - 1))] for part, at in zip(parts, click, strict=True)]
    return (float(places[0]) + 0.5) / size[0], (float(places[1]) + 0.5) / size[1]


def _part(length: int, zoom: float, centre: float) -> np.ndarray:
    """For each pixel of the screen the source's, along one side."""
    extent = length / max(1.0, zoom)
    start = float(np.clip(centre * length - extent / 2, 0, length - extent))
    return np.minimum((start + (np.arange(length) + 0.5) * extent / length).astype(int), length - 1)
