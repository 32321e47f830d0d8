"""Contact sheets: many images on few pages, each with its breast mask and crop drawn."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import islice
from typing import IO

import numpy as np
from PIL import Image, ImageDraw, ImageFont
from scipy import ndimage

from .breast import Breast

FONT_SIZE, LINE = 11, 14  # pixels, of all text
MASK_COLOUR = (60, 230, 90)
CROP_COLOUR = (255, 210, 40)
CHEST_WALL_COLOUR = (255, 60, 60)
PECTORAL_COLOUR = (60, 200, 255)
LESION_COLOUR = (255, 90, 255)
TEXT_COLOUR, NOTE_COLOUR = (230, 230, 230), (255, 180, 90)
LEGEND = {  # what the colours mean
    MASK_COLOUR: "breast",
    PECTORAL_COLOUR: "pectoral muscle",
    CROP_COLOUR: "crop",
    CHEST_WALL_COLOUR: "chest wall",
    LESION_COLOUR: "annotated lesion",
}


def sheets(
    tiles: Iterable[Image.Image], columns: int, rows: int, legend: Mapping[tuple[int, int, int], str] | None = None
) -> Iterator[Image.Image]:
    """Yield pages of ``rows`` x ``columns`` tiles of equal width; the last one may be shorter.

    Args:
        tiles: Pictures, from the first to the last.
        columns: Number of tiles per row.
        rows: Number of rows per page.
        legend: Colours with what they mean, for a strip above each page.
    """
    waiting = iter(tiles)
    while page := list(islice(waiting, columns * rows)):
        lines = [page[start : start + columns] for start in range(0, len(page), columns)]
        heights = [max(one.height for one in line) for line in lines]
        strip = _legend(legend or {}, columns * page[0].width)
        sheet = Image.new("RGB", (columns * page[0].width, strip.height + sum(heights)))
        sheet.paste(strip, (0, 0))
        for number, line in enumerate(lines):
            for column, one in enumerate(line):
                sheet.paste(one, (column * one.width, strip.height + sum(heights[:number])))
        yield sheet


def _legend(legend: Mapping[tuple[int, int, int], str], width: int) -> Image.Image:
    """Draw colours with what they mean, from left to right in as many lines as they need."""
    font = ImageFont.load_default(size=FONT_SIZE)
    places, left, top = [], 4, 2
    for text in legend.values():
        needed = 18 + int(font.getlength(text)) + 14
        if left > 4 and left + needed > width:
            left, top = 4, top + LINE
        places.append((left, top))
        left += needed
    strip = Image.new("RGB", (width, top + LINE + 4 if legend else 0))
    draw = ImageDraw.Draw(strip)
    for (left, top), (colour, text) in zip(places, legend.items(), strict=True):
        draw.rectangle((left, top + 2, left + 11, top + 11), outline=colour, width=2)
        draw.text((left + 18, top + LINE // 2), text, fill=TEXT_COLOUR, font=font, anchor="lm")
    return strip


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
    drawn = Image.new("RGB", (side + 4, side + 4))
    drawn.paste(Image.fromarray(picture), (2, 2))
    _draw_crop(ImageDraw.Draw(drawn), breast, scale / breast.stride)
    return drawn


def captioned(pictures: IO[bytes], caption: str, notes: Sequence[str], side: int) -> Image.Image:
    """Read one image's picture from the bytes of `tile`, and write a text and notes below it.

    Args:
        pictures: File at the place of the picture.
        caption: Text, such as the image's name, in as many lines as it needs.
        notes: Notes on it, in another colour.
        side: Argument of `tile`.
    """
    width = side + 4
    drawn = Image.frombytes("RGB", (width, width), pictures.read(3 * width * width))
    font = ImageFont.load_default(size=FONT_SIZE)
    texts = [(caption, TEXT_COLOUR), *((note, NOTE_COLOUR) for note in notes)]
    lines = [(line, colour) for text, colour in texts for line in _broken(text, font, width - 4)]
    page = Image.new("RGB", (width, width + LINE * len(lines) + 4))
    page.paste(drawn, (0, 0))
    draw = ImageDraw.Draw(page)
    for number, (line, colour) in enumerate(lines):
        draw.text((2, width + LINE * number + LINE // 2), line, fill=colour, font=font, anchor="lm")
    return page


def _broken(text: str, font: ImageFont.FreeTypeFont | ImageFont.ImageFont, width: int) -> list[str]:
    """Break a text, such as a path without spaces, into lines of a width in pixels."""
    lines = [""]
    for letter in text:
        if lines[-1] and font.getlength(lines[-1] + letter) > width:
            lines.append("")
        lines[-1] += letter
    return lines


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
