"""Drawing a map over a mammogram, and several of them side by side."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal, get_args

import matplotlib
import numpy as np
from PIL import Image, ImageDraw, ImageFont
from scipy import ndimage

from ..errors import UsageError

# A strip below a picture with a bar of so many millimetres, and a line of text where one is given.


LENGTHS_MM = (1, 2, 5, 10, 20, 50, 100)


def bar_length(width: int, mm: float) -> int:
    """The longest of 1, 2, 5, 10, ... mm that takes at most a third of a picture's width.

    Args:
        width: Of the picture in pixels.
        mm: Side of a pixel in mm.
    """
    return max((length for length in LENGTHS_MM if length / mm <= width / 3), default=LENGTHS_MM[0])


def with_footer(picture: Image.Image, mm: float | None, text: str = "", ink: str = "white") -> Image.Image:
    """The picture above a strip of its own, so that nothing of it is covered.

    Args:
        picture: RGB.
        mm: Side of a pixel in mm; ``None``: there is no bar.
        text: Stands at the right of the bar.
        ink: "white" on black, as images are, or "black" on white, as pages are.
    """
    size = max(11, min(20, picture.width // 25))
    font = ImageFont.load_default(size=size)
    left, bar, words = 4, 0, text
    if mm is not None:
        length = bar_length(picture.width, mm)
        bar = max(1, round(length / mm))
        words = f"{length} mm" + (f"    {text}" if text else "")
    width = max(picture.width, left + bar + 6 + int(font.getlength(words)) + 4)
    page = Image.new("RGB", (width, picture.height + size + 8), "black" if ink == "white" else "white")
    page.paste(picture, (0, 0))
    draw = ImageDraw.Draw(page)
    middle = picture.height + (size + 8) // 2
    if bar:
        # bar pixels from left on, both ends marked
        draw.line([(left, middle), (left + bar - 1, middle)], fill=ink, width=2)
        for end in (left, left + bar - 1):
            draw.line([(end, middle - 4), (end, middle + 4)], fill=ink)
    draw.text((left + bar + 6 if bar else left, middle), words, fill=ink, font=font, anchor="lm")
    return page


Style = Literal["heat", "contour", "side_by_side"]
STYLES: tuple[str, ...] = get_args(Style)
OUTLINE = (0, 255, 220)  # no colour of the map's scale, and legible beside it, also without red-green vision
OPACITY = 0.75  # where the map is 1: tissue still shows through
# inferno rises evenly in lightness, and so in grey print; its darkest quarter would blacken tissue instead of marking
# it, its lightest end would be white on dense tissue
DARKEST, LIGHTEST = 0.25, 0.9
LEVELS = (0.25, 0.5, 0.75)  # of the map, at which contours are drawn
LINES_FROM = 0.3  # thin lines need lighter colours than areas
GAP = 8
CAPTIONS = {
    "grad_cam": "Grad-CAM",
    "grad_cam_attention": "attention-weighted Grad-CAM",
    "hires_cam": "HiResCAM",
    "layer_cam": "LayerCAM",
    "legrad": "LeGrad",
    "lesion_head": "lesion head (supervised)",
}


def drawn(
    image: np.ndarray,
    maps: Mapping[str, np.ndarray],
    style: Style = "heat",
    outline: np.ndarray | None = None,
    scale: int = 1,
    mm: float | None = None,
    about: str = "",
) -> Image.Image:
    """One map over its image in a style, with a scale bar below it.

    Args:
        image: (height, width) in [0, 1].
        maps: Name of the explainer to map (height, width) in [0, 1]; one, or several side by side.
        style: See ``Explanation.overlay``.
        outline: Lesion mask (height, width); its rim is drawn.
        scale: Whole number of screen pixels a model pixel.
        mm: Side of a model pixel in mm; without it there is no bar.
        about: What stands below panels.

    Raises:
        UsageError: The sizes differ.
    """
    if style == "side_by_side":
        return side_by_side(image, maps, outline, max(scale, 2), mm, about)
    (values,) = maps.values()
    _check_sizes(image, {"values": values, "outline": outline})
    size = (image.shape[0] * scale, image.shape[1] * scale)
    picture = _panel(image, values, outline, size, style)
    return picture if mm is None else with_footer(picture, mm / scale)


def tinted(image: np.ndarray, values: np.ndarray, outline: np.ndarray | None = None) -> np.ndarray:
    """An image under a map: uint8 RGB (height, width, 3).

    Args:
        image: (height, width) in [0, 1].
        values: Map (height, width) in [0, 1]; its opacity grows with it, so that zero leaves the image as it is and
            weak places hide no tissue.
        outline: Lesion mask (height, width); its rim is drawn.

    Raises:
        UsageError: The sizes differ.
    """
    _check_sizes(image, {"values": values, "outline": outline})
    values = np.clip(values, 0, 1)
    picture = np.rint(blended(np.clip(image, 0, 1), values, OPACITY) * 255).astype(np.uint8)
    return picture if outline is None else with_outline(picture, outline)


def blended(image: np.ndarray, values: np.ndarray, opacity: float) -> np.ndarray:
    """An image under a map's colours, RGB in [0, 1] (height, width, 3).

    Args:
        image: (height, width) in [0, 1].
        values: Map (height, width) in [0, 1].
        opacity: Of the map's strongest place.
    """
    alpha = opacity * values[..., None] ** 1.5  # weak places hide no tissue
    return np.asarray(image[..., None] * (1 - alpha) + _colours(values) * alpha)


def contoured(image: np.ndarray, values: np.ndarray, width: int = 1) -> np.ndarray:
    """An image under lines where a map passes 0.25, 0.5 and 0.75: uint8 RGB (height, width, 3).

    The higher, the lighter; a dark rim keeps each line visible on dense tissue.

    Args:
        image: (height, width) in [0, 1].
        values: Map (height, width) in [0, 1].
        width: Of a line in pixels.

    Raises:
        UsageError: The sizes differ.
    """
    _check_sizes(image, {"values": values})
    grey = np.rint(np.clip(image, 0, 1) * 255).astype(np.uint8)
    picture = np.repeat(grey[..., None], 3, axis=-1)
    for level in LEVELS:
        inside = values >= level
        line = inside & ~ndimage.binary_erosion(inside, iterations=width, border_value=1)
        rim = ndimage.binary_dilation(line) & ~inside
        picture[rim] = picture[rim] // 3
        picture[line] = np.rint(_colours(LINES_FROM + (1 - LINES_FROM) * level) * 255)
    return picture


def with_outline(picture: np.ndarray, mask: np.ndarray) -> np.ndarray:
    """Draws a mask's rim, a pixel off so that the lesion's own edge stays visible, into a copy of an RGB picture."""
    inside = np.asarray(mask) > 0.5
    rim = ndimage.binary_dilation(inside, iterations=3) & ~ndimage.binary_dilation(inside, iterations=1)
    result = picture.copy()
    result[rim] = OUTLINE
    return result


def side_by_side(
    image: np.ndarray,
    maps: Mapping[str, np.ndarray],
    outline: np.ndarray | None = None,
    scale: int = 2,
    mm: float | None = None,
    about: str = "",
) -> Image.Image:
    """The image alone and under each map, captioned, with the colours' scale at the right and one in mm below.

    Args:
        image: (height, width) in [0, 1].
        maps: Caption, or name of an explainer, to map (height, width) in [0, 1].
        outline: Lesion mask, outlined in each panel.
        scale: Whole number of screen pixels a model pixel.
        mm: Side of a model pixel in mm; without it there is no bar.
        about: A line below the panels.

    Raises:
        UsageError: The sizes differ.
    """
    _check_sizes(image, {**maps, "outline": outline})
    size = (image.shape[0] * scale, image.shape[1] * scale)
    empty = np.zeros(image.shape, np.float32)
    font = ImageFont.load_default(size=max(11, min(20, size[1] // 15)))
    panels = [
        ("image", empty),
        *((CAPTIONS.get(name, name.replace("_", " ")), values) for name, values in maps.items()),
    ]
    width = max(size[1], *(int(font.getlength(name)) + 4 for name, _ in panels))
    band = int(font.size) + 8
    bar = _colour_bar(size[0], font)
    page = Image.new("RGB", (len(panels) * (width + GAP) + bar.width, size[0] + band), "white")
    draw = ImageDraw.Draw(page)
    for place, (name, values) in enumerate(panels):
        left = place * (width + GAP)
        page.paste(_panel(image, values, outline, size), (left + (width - size[1]) // 2, band))
        draw.text((left + width // 2, band // 2), name, fill="black", font=font, anchor="mm")
    page.paste(bar, (len(panels) * (width + GAP), band))
    return with_footer(page, None if mm is None else mm / scale, about, ink="black") if mm or about else page


def _colours(values: np.ndarray | float) -> np.ndarray:
    """RGB in [0, 1] of values in [0, 1]."""
    return np.asarray(matplotlib.colormaps["inferno"](DARKEST + (LIGHTEST - DARKEST) * np.asarray(values)))[..., :3]


def _panel(
    image: np.ndarray, values: np.ndarray, outline: np.ndarray | None, size: tuple[int, int], style: Style = "heat"
) -> Image.Image:
    """One panel at screen size; each part is enlarged by itself, so that lines stay sharp."""
    grey, map_ = _enlarged(image, size), _enlarged(values, size)
    large = tinted(grey, map_) if style == "heat" else contoured(grey, map_, width=max(1, size[1] // 150))
    return Image.fromarray(large if outline is None else with_outline(large, _enlarged(outline, size)))


def _enlarged(values: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    if values.shape == size:
        return values
    picture = Image.fromarray(np.asarray(values, np.float32))
    return np.asarray(picture.resize(size[::-1], Image.Resampling.BILINEAR))


def _colour_bar(height: int, font: ImageFont.FreeTypeFont | ImageFont.ImageFont) -> Image.Image:
    """The colours from 0 to 1 as they look over a mid grey."""
    length = min(height, 160)
    bar = Image.new("RGB", (int(font.getlength("0.0")) + 26, height), "white")
    ramp = np.linspace(1, 0, length)[:, None].repeat(14, axis=1)
    top = (height - length) // 2
    bar.paste(Image.fromarray(tinted(np.full(ramp.shape, 0.5), ramp)), (4, top))
    draw = ImageDraw.Draw(bar)
    for text, place, anchor in (("1", top, "lt"), ("0", top + length, "lb")):
        draw.text((22, place), text, fill="black", font=font, anchor=anchor)
    return bar


def _check_sizes(image: np.ndarray, others: Mapping[str, np.ndarray | None]) -> None:
    for name, other in others.items():
        if other is not None and np.shape(other) != np.shape(image):
            raise UsageError(
                f"size {np.shape(other)}, the image has {np.shape(image)}",
                source=name,
                remedy="bring both to one (height, width)",
            )
