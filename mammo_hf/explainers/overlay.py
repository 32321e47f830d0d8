"""Drawing a map over a mammogram, and several of them side by side."""

from __future__ import annotations

from collections.abc import Mapping

import matplotlib
import numpy as np
from PIL import Image, ImageDraw
from scipy import ndimage

OUTLINE = (0, 255, 220)  # no colour of the map's scale, and legible beside it
CAPTION = 16


def tinted(image: np.ndarray, values: np.ndarray, outline: np.ndarray | None = None) -> np.ndarray:
    """An image under a map: uint8 RGB (height, width, 3).

    Args:
        image: (height, width) in [0, 1].
        values: Map (height, width) in [0, 1]; its opacity grows with it, so that zero leaves the image as it is.
        outline: Lesion mask (height, width); its rim is drawn.
    """
    colours = matplotlib.colormaps["inferno"](0.25 + 0.75 * np.clip(values, 0, 1))[..., :3]
    alpha = 0.75 * np.clip(values, 0, 1)[..., None]
    picture = np.clip(image, 0, 1)[..., None] * (1 - alpha) + colours * alpha
    picture = np.rint(picture * 255).astype(np.uint8)
    return picture if outline is None else with_outline(picture, outline)


def with_outline(picture: np.ndarray, mask: np.ndarray) -> np.ndarray:
    """Draws a mask's rim, just outside it, into a copy of an RGB picture."""
    inside = mask > 0.5
    rim = ndimage.binary_dilation(inside, iterations=2) & ~ndimage.binary_dilation(inside)
    result = picture.copy()
    result[rim] = OUTLINE
    return result


def side_by_side(
    image: np.ndarray, maps: Mapping[str, np.ndarray], outline: np.ndarray | None = None, scale: int = 2
) -> Image.Image:
    """The image alone and under each map, captioned; ``scale`` enlarges.

    Args:
        image: (height, width) in [0, 1].
        maps: Caption to map (height, width) in [0, 1].
        outline: Lesion mask, outlined in each panel.
        scale: Whole number of screen pixels a model pixel.
    """
    empty = np.zeros(image.shape, np.float32)
    panels = {"image": tinted(image, empty), **{name: tinted(image, values) for name, values in maps.items()}}
    height, width = image.shape[0] * scale, max(image.shape[1] * scale, 110)
    page = Image.new("RGB", (len(panels) * (width + 6) - 6, height + CAPTION), "white")
    draw = ImageDraw.Draw(page)
    for place, (name, panel) in enumerate(panels.items()):
        enlarged = Image.fromarray(panel).resize((image.shape[1] * scale, height), Image.Resampling.BICUBIC)
        if outline is not None:
            mask = Image.fromarray((outline > 0.5).astype(np.uint8) * 255).resize(enlarged.size)
            enlarged = Image.fromarray(with_outline(np.asarray(enlarged), np.asarray(mask) / 255))
        page.paste(enlarged, (place * (width + 6), CAPTION))
        draw.text((place * (width + 6) + 2, 2), name.replace("_", " "), fill="black")
    return page
