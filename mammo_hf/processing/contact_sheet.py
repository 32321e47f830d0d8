"""Contact sheets: many images on few pages, each with its breast mask and crop drawn."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from itertools import islice
from typing import IO

import numpy as np
from PIL import Image, ImageDraw
from scipy import ndimage

from .breast import Breast

CAPTION_HEIGHT = 12  # pixels: PIL's own font
MASK_COLOUR = (60, 230, 90)
CROP_COLOUR = (255, 210, 40)
CHEST_WALL_COLOUR = (255, 60, 60)
PECTORAL_COLOUR = (60, 200, 255)
LESION_COLOUR = (255, 90, 255)
TEXT_COLOUR = (230, 230, 230)


def sheets(tiles: Iterable[Image.Image], columns: int, rows: int) -> Iterator[Image.Image]:
    """Yield pages of ``rows`` x ``columns`` tiles of equal size; the last one may be shorter."""
    waiting = iter(tiles)
    while page := list(islice(waiting, columns * rows)):
        width, height = page[0].size
        sheet = Image.new("RGB", (columns * width, -(-len(page) // columns) * height))
        for index, one in enumerate(page):
            sheet.paste(one, (index % columns * width, index // columns * height))
        yield sheet


def tile(view: np.ndarray, breast: Breast, side: int, lesions: Iterable[np.ndarray] = ()) -> Image.Image:
    """Draw one image with what was found in it.

    Green: the outline of the breast mask. Blue: that of the pectoral muscle. Yellow: the crop. Red: the chest wall.
    Violet: known lesions.

    Args:
        view: Every ``breast.stride``-th pixel of the image, intensity in [0, 1].
        breast: Breast that was found in the image.
        side: Side in pixels of the square that the picture is fitted into.
        lesions: Masks of the lesions, bool, of the image's size.
    """
    scale = side / max(view.shape)
    size = max(1, round(view.shape[1] * scale)), max(1, round(view.shape[0] * scale))
    picture = np.asarray(Image.fromarray(_stretched(view)).resize(size, Image.Resampling.BOX).convert("RGB")).copy()
    outlined = [(lesion, LESION_COLOUR) for lesion in lesions]
    for mask, colour in ((breast.mask, MASK_COLOUR), (breast.pectoral, PECTORAL_COLOUR), *outlined):
        if mask is not None:
            picture[_outline(np.asarray(Image.fromarray(mask).resize(size, Image.Resampling.NEAREST)))] = colour
    drawn = Image.new("RGB", (side + 4, side + 4 + CAPTION_HEIGHT))
    drawn.paste(Image.fromarray(picture), (2, 2))
    _draw_crop(ImageDraw.Draw(drawn), breast, scale / breast.stride)
    return drawn


def captioned(pictures: IO[bytes], caption: str, side: int) -> Image.Image:
    """Read one image's picture from the bytes of `tile`, and write a text under it, cut to its width."""
    size = side + 4, side + 4 + CAPTION_HEIGHT
    drawn = Image.frombytes("RGB", size, pictures.read(3 * size[0] * size[1]))
    ImageDraw.Draw(drawn).text((2, side + 2), caption[: side // 6], fill=TEXT_COLOUR)
    return drawn


def _stretched(view: np.ndarray) -> np.ndarray:
    """Return 8 bits with the dark end lifted, since skin and film background are what one looks for."""
    low, high = np.percentile(view, (0.5, 99.5))
    return np.asarray(np.sqrt(np.clip((view - low) / max(high - low, 1e-6), 0, 1)) * 255, np.uint8)


def _outline(mask: np.ndarray) -> np.ndarray:
    # a mask that reaches the picture's edge has its outline there
    return np.asarray(mask & ~ndimage.binary_erosion(mask), bool)


def _draw_crop(draw: ImageDraw.ImageDraw, breast: Breast, scale: float) -> None:
    top, left, bottom, right = (round(value * scale) + 2 for value in breast.box)
    draw.rectangle((left - 1, top - 1, right, bottom), outline=CROP_COLOUR)
    if breast.chest_wall is not None:
        wall = {
            "left": (left - 1, top, left - 1, bottom),
            "right": (right, top, right, bottom),
            "top": (left, top - 1, right, top - 1),
            "bottom": (left, bottom, right, bottom),
        }
        draw.line(wall[breast.chest_wall], fill=CHEST_WALL_COLOUR, width=3)
