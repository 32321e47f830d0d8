"""Pictures of maps over a mammogram, and of several maps side by side."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal, get_args

import numpy as np
from PIL import Image, ImageDraw, ImageFont
from scipy import ndimage

from ..errors import UsageError

Style = Literal["heat", "contour", "side_by_side"]
STYLES: tuple[str, ...] = get_args(Style)
OUTLINE = (0, 255, 220)  # not a colour of the map's scale, and distinct from it, also without red-green vision
OPACITY = 0.75  # where the map is 1: tissue still shows through
# inferno rises evenly in lightness, and so in grey print; its darkest quarter would blacken tissue instead of marking
# it, its lightest end would be white on dense tissue
DARKEST, LIGHTEST = 0.25, 0.9
LEVELS = (0.25, 0.5, 0.75)  # values of the map at which contours are drawn
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


def render(
    image: np.ndarray,
    maps: Mapping[str, np.ndarray],
    style: Style = "heat",
    outline: np.ndarray | None = None,
    scale: int = 1,
    mm: float | None = None,
    caption: str = "",
) -> Image.Image:
    """Draw a map over its image in a style, with a scale bar below it.

    Args:
        image: The image (height, width) in [0, 1].
        maps: Maps (height, width) in [0, 1] by the explainer's name: one, or several for "side_by_side".
        style: The style, see ``Explanation.overlay``.
        outline: A lesion's mask (height, width), drawn as an outline.
        scale: Whole number of screen pixels per model pixel.
        mm: Side of a model pixel in mm; without it there is no bar.
        caption: A line of text below the panels of "side_by_side".

    Raises:
        UsageError: The sizes differ.
    """
    if style == "side_by_side":
        return side_by_side(image, maps, outline, max(scale, 2), mm, caption)
    (values,) = maps.values()
    _check_sizes(image, {"values": values, "outline": outline})
    size = (image.shape[0] * scale, image.shape[1] * scale)
    picture = _panel(image, values, outline, size, style)
    return picture if mm is None else add_footer(picture, mm / scale)


def heat_overlay(image: np.ndarray, values: np.ndarray, outline: np.ndarray | None = None) -> np.ndarray:
    """Draw a map as colours over its image: uint8 RGB (height, width, 3).

    Args:
        image: The image (height, width) in [0, 1].
        values: The map (height, width) in [0, 1]. Its opacity grows with it, so that zero leaves the image as it is and
            weak values hide no tissue.
        outline: A lesion's mask (height, width), drawn as an outline.

    Raises:
        UsageError: The sizes differ.
    """
    _check_sizes(image, {"values": values, "outline": outline})
    values = np.clip(values, 0, 1)
    picture = np.rint(blend(np.clip(image, 0, 1), values, OPACITY) * 255).astype(np.uint8)
    return picture if outline is None else draw_outline(picture, outline)


def blend(image: np.ndarray, values: np.ndarray, opacity: float) -> np.ndarray:
    """Blend an image with a map's colours: RGB in [0, 1] (height, width, 3).

    Args:
        image: The image (height, width) in [0, 1].
        values: The map (height, width) in [0, 1].
        opacity: Opacity of the colours where the map is 1.
    """
    alpha = opacity * values[..., None] ** 1.5  # weak values hide no tissue
    return np.asarray(image[..., None] * (1 - alpha) + _colours(values) * alpha)


def contour_overlay(image: np.ndarray, values: np.ndarray, width: int = 1) -> np.ndarray:
    """Draw lines over an image where a map passes 0.25, 0.5 and 0.75: uint8 RGB (height, width, 3).

    A higher line is lighter; a dark rim keeps each line visible on dense tissue.

    Args:
        image: The image (height, width) in [0, 1].
        values: The map (height, width) in [0, 1].
        width: Width of a line in pixels.

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


def draw_outline(picture: np.ndarray, mask: np.ndarray) -> np.ndarray:
    """Draw a mask's outline into a copy of an RGB picture, one pixel outside it so that the edge stays visible."""
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
    caption: str = "",
) -> Image.Image:
    """Draw the image alone and under each map, with headings, the scale of colours and a scale bar in mm.

    Args:
        image: The image (height, width) in [0, 1].
        maps: Maps (height, width) in [0, 1] by the explainer's name or by a heading.
        outline: A lesion's mask (height, width), drawn as an outline in each panel.
        scale: Whole number of screen pixels per model pixel.
        mm: Side of a model pixel in mm; without it there is no bar.
        caption: A line of text below the panels.

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
    for column, (name, values) in enumerate(panels):
        left = column * (width + GAP)
        page.paste(_panel(image, values, outline, size), (left + (width - size[1]) // 2, band))
        draw.text((left + width // 2, band // 2), name, fill="black", font=font, anchor="mm")
    page.paste(bar, (len(panels) * (width + GAP), band))
    return add_footer(page, None if mm is None else mm / scale, caption, ink="black") if mm or caption else page


def _colours(values: np.ndarray | float) -> np.ndarray:
    """Return the RGB colours in [0, 1] of values in [0, 1]."""
    import matplotlib  # here, so that scoring loads nothing for figures

    return np.asarray(matplotlib.colormaps["inferno"](DARKEST + (LIGHTEST - DARKEST) * np.asarray(values)))[..., :3]


def _panel(
    image: np.ndarray, values: np.ndarray, outline: np.ndarray | None, size: tuple[int, int], style: Style = "heat"
) -> Image.Image:
    """Draw one panel at screen size; each part is enlarged by itself, so that lines stay sharp."""
    grey, map_ = _enlarged(image, size), _enlarged(values, size)
    large = heat_overlay(grey, map_) if style == "heat" else contour_overlay(grey, map_, width=max(1, size[1] // 150))
    return Image.fromarray(large if outline is None else draw_outline(large, _enlarged(outline, size)))


def _enlarged(values: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    if values.shape == size:
        return values
    picture = Image.fromarray(np.asarray(values, np.float32))
    return np.asarray(picture.resize(size[::-1], Image.Resampling.BILINEAR))


def _colour_bar(height: int, font: ImageFont.FreeTypeFont | ImageFont.ImageFont) -> Image.Image:
    """Draw the colours from 0 to 1 as they look over a mid grey."""
    length = min(height, 160)
    bar = Image.new("RGB", (int(font.getlength("0.0")) + 26, height), "white")
    ramp = np.linspace(1, 0, length)[:, None].repeat(14, axis=1)
    top = (height - length) // 2
    bar.paste(Image.fromarray(heat_overlay(np.full(ramp.shape, 0.5), ramp)), (4, top))
    draw = ImageDraw.Draw(bar)
    for text, row, anchor in (("1", top, "lt"), ("0", top + length, "lb")):
        draw.text((22, row), text, fill="black", font=font, anchor=anchor)
    return bar


def _check_sizes(image: np.ndarray, others: Mapping[str, np.ndarray | None]) -> None:
    for name, other in others.items():
        if other is not None and np.shape(other) != np.shape(image):
            raise UsageError(
                f"size {np.shape(other)}, the image has {np.shape(image)}",
                source=name,
                remedy="bring both to one (height, width)",
            )


# The strip below a picture: a scale bar in mm, and a line of text.

LENGTHS_MM = (1, 2, 5, 10, 20, 50, 100)


def bar_length(width: int, mm: float) -> int:
    """Return the longest of 1, 2, 5, 10, ... mm that takes at most a third of a picture's width.

    Args:
        width: Width of the picture in pixels.
        mm: Side of a pixel in mm.
    """
    return max((length for length in LENGTHS_MM if length / mm <= width / 3), default=LENGTHS_MM[0])


def add_footer(picture: Image.Image, mm: float | None, text: str = "", ink: str = "white") -> Image.Image:
    """Put a picture above a strip, so that nothing of it is covered.

    Args:
        picture: The picture in RGB.
        mm: Side of a pixel in mm; ``None`` for no bar.
        text: A line of text at the right of the bar.
        ink: Colour of bar and text: "white" on black, as images are, or "black" on white, as pages are.
    """
    size = max(11, min(20, picture.width // 25))
    font = ImageFont.load_default(size=size)
    left, bar, label = 4, 0, text
    if mm is not None:
        length = bar_length(picture.width, mm)
        bar = max(1, round(length / mm))
        label = f"{length} mm" + (f"    {text}" if text else "")
    width = max(picture.width, left + bar + 6 + int(font.getlength(label)) + 4)
    page = Image.new("RGB", (width, picture.height + size + 8), "black" if ink == "white" else "white")
    page.paste(picture, (0, 0))
    draw = ImageDraw.Draw(page)
    middle = picture.height + (size + 8) // 2
    if bar:
        # bar pixels from left on, both ends marked
        draw.line([(left, middle), (left + bar - 1, middle)], fill=ink, width=2)
        for end in (left, left + bar - 1):
            draw.line([(end, middle - 4), (end, middle + 4)], fill=ink)
    draw.text((left + bar + 6 if bar else left, middle), label, fill=ink, font=font, anchor="lm")
    return page
