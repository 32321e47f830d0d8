"""Pictures of maps over a mammogram, and of several maps side by side."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any, Literal, get_args

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
TALL = 448  # a picture is enlarged by whole numbers until it has this height
NARROWEST = 300  # width of a page in pixels: text below a narrow picture needs room
LESION = "annotated lesion"
MAP_SCALE = ("0", "strongest")  # of an image's own map: two images' colours are not comparable
_NAMES = {
    "attention": "attention",
    "attention_rollout": "attention rollout",
    "bag_attention": "attention over tiles",
    "grad_cam": "Grad-CAM",
    "grad_cam_attention": "attention-weighted Grad-CAM",
    "hires_cam": "HiResCAM",
    "layer_cam": "LayerCAM",
    "legrad": "LeGrad",
    "lesion_head": "lesion head",
}


def method_name(explainer: str) -> str:
    """Return the name of a method as pictures, pages and tables show it, from its name as an explainer."""
    return _NAMES.get(explainer, explainer.replace("_", " "))


def percent(probability: float) -> str:
    """Return a probability as it is shown with every map: "3 %", "<1 %", ">99 %"."""
    if 0 < probability < 0.005 or 0.995 < probability < 1:
        return "<1 %" if probability < 0.5 else ">99 %"
    return f"{100 * probability:.0f} %"


def render(
    image: np.ndarray,
    maps: Mapping[str, np.ndarray],
    style: Style = "heat",
    outline: np.ndarray | None = None,
    scale: int | None = None,
    mm: float | None = None,
    caption: str = "",
    strength: float = 1.0,
) -> Image.Image:
    """Draw maps over their image in a style, with the scale of colours, and below them the result and what is outlined.

    Args:
        image: The image (height, width) in [0, 1].
        maps: Maps (height, width) in [0, 1] by the explainer's name: one, or several for "side_by_side".
        style: The style, see ``Explanation.overlay``.
        outline: The mask (height, width) of annotated lesions, drawn as an outline.
        scale: Whole number of screen pixels per model pixel; ``None``: until the picture is 448 pixels high.
        mm: Side of a model pixel in mm; without it there is no bar.
        caption: The result, see ``Explanation.result``.
        strength: Strength from 0 to 1 with which the maps are drawn.

    Raises:
        UsageError: The sizes differ.
    """
    scale = scale or max(1, math.ceil(TALL / image.shape[0]))
    if style == "side_by_side":
        return side_by_side(image, maps, outline, scale, mm, caption, strength)
    (values,) = maps.values()
    _check_sizes(image, {"values": values, "outline": outline})
    size = (image.shape[0] * scale, image.shape[1] * scale)
    picture = _panel(image, values, outline, size, style, strength)
    bar = _colour_bar(size[0], ImageFont.load_default(size=12), strength, ink="white")
    page = Image.new("RGB", (picture.width + (bar.width if strength else 0), picture.height), "black")
    page.paste(picture, (0, 0))
    page.paste(bar, (picture.width, 0))
    return add_footer(page, None if mm is None else mm / scale, caption, legend=_legend(outline))


def _legend(outline: np.ndarray | None) -> list[tuple[tuple[int, int, int], str]]:
    """Return the colours of the outlines in a picture with what they are."""
    return [] if outline is None or not np.asarray(outline).any() else [(OUTLINE, LESION)]


def heat_overlay(
    image: np.ndarray, values: np.ndarray, outline: np.ndarray | None = None, strength: float = 1.0
) -> np.ndarray:
    """Draw a map as colours over its image: uint8 RGB (height, width, 3).

    Args:
        image: The image (height, width) in [0, 1].
        values: The map (height, width) in [0, 1]. Its opacity grows with it, so that zero leaves the image as it is and
            weak values hide no tissue.
        outline: A lesion's mask (height, width), drawn as an outline.
        strength: Strength from 0 to 1 with which the map is drawn.

    Raises:
        UsageError: The sizes differ.
    """
    _check_sizes(image, {"values": values, "outline": outline})
    values = np.clip(values, 0, 1)
    picture = np.rint(blend(np.clip(image, 0, 1), values, OPACITY * strength) * 255).astype(np.uint8)
    return picture if outline is None else draw_outline(picture, outline)


def blend(image: np.ndarray, values: np.ndarray, opacity: float) -> np.ndarray:
    """Blend an image with a map's colours: RGB in [0, 1] (height, width, 3).

    Args:
        image: The image (height, width) in [0, 1].
        values: The map (height, width) in [0, 1].
        opacity: Opacity of the colours where the map is 1.
    """
    alpha = opacity * values[..., None] ** 1.5  # weak values hide no tissue
    return np.asarray(image[..., None] * (1 - alpha) + colours(values) * alpha)


def contour_overlay(image: np.ndarray, values: np.ndarray, width: int = 1, strength: float = 1.0) -> np.ndarray:
    """Draw lines over an image where a map passes 0.25, 0.5 and 0.75: uint8 RGB (height, width, 3).

    A higher line is lighter; a dark rim keeps each line visible on dense tissue.

    Args:
        image: The image (height, width) in [0, 1].
        values: The map (height, width) in [0, 1].
        width: Width of a line in pixels.
        strength: Strength from 0 to 1 with which the lines are drawn.

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
        colour = colours(LINES_FROM + (1 - LINES_FROM) * level) * 255
        picture[rim] = np.rint(picture[rim] * (1 - strength * 2 / 3))
        picture[line] = np.rint(picture[line] * (1 - strength) + colour * strength)
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
    strength: float = 1.0,
) -> Image.Image:
    """Draw the image alone and under each map, with headings, the scale of colours and a scale bar in mm.

    Args:
        image: The image (height, width) in [0, 1].
        maps: Maps (height, width) in [0, 1] by the explainer's name or by a heading.
        outline: The mask (height, width) of annotated lesions, drawn as an outline in each panel.
        scale: Whole number of screen pixels per model pixel.
        mm: Side of a model pixel in mm; without it there is no bar.
        caption: The result, below the panels.
        strength: Strength from 0 to 1 with which the maps are drawn.

    Raises:
        UsageError: The sizes differ.
    """
    _check_sizes(image, {**maps, "outline": outline})
    size = (image.shape[0] * scale, image.shape[1] * scale)
    empty = np.zeros(image.shape, np.float32)
    font = ImageFont.load_default(size=max(11, min(18, size[1] // 15)))
    drawn = maps if strength else {}  # without a map the image alone is enough
    panels = [("image", empty), *((method_name(name), values) for name, values in drawn.items())]
    width = max(size[1], *(int(font.getlength(name)) + 4 for name, _ in panels))
    band = int(font.size) + 8
    bar = _colour_bar(size[0], font, strength, ink="black")
    page = Image.new("RGB", (len(panels) * (width + GAP) + (bar.width if strength else 0), size[0] + band), "white")
    draw = ImageDraw.Draw(page)
    for column, (name, values) in enumerate(panels):
        left = column * (width + GAP)
        page.paste(_panel(image, values, outline, size, "heat", strength), (left + (width - size[1]) // 2, band))
        draw.text((left + width // 2, band // 2), name, fill="black", font=font, anchor="mm")
    page.paste(bar, (len(panels) * (width + GAP), band))
    return add_footer(page, None if mm is None else mm / scale, caption, ink="black", legend=_legend(outline))


def colours(values: np.ndarray | float) -> np.ndarray:
    """Return the RGB colours in [0, 1] of a map's values in [0, 1]."""
    import matplotlib  # here, so that scoring loads nothing for figures

    return np.asarray(matplotlib.colormaps["inferno"](DARKEST + (LIGHTEST - DARKEST) * np.asarray(values)))[..., :3]


def _panel(
    image: np.ndarray,
    values: np.ndarray,
    outline: np.ndarray | None,
    size: tuple[int, int],
    style: Style,
    strength: float,
) -> Image.Image:
    """Draw one panel at screen size; each part is enlarged by itself, so that lines stay sharp."""
    grey, map_ = _enlarged(image, size), _enlarged(values, size)
    if style == "heat":
        large = heat_overlay(grey, map_, strength=strength)
    else:
        large = contour_overlay(grey, map_, max(1, size[1] // 150), strength)
    return Image.fromarray(large if outline is None else draw_outline(large, _enlarged(outline, size)))


def _enlarged(values: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    if values.shape == size:
        return values
    picture = Image.fromarray(np.asarray(values, np.float32))
    return np.asarray(picture.resize(size[::-1], Image.Resampling.BILINEAR))


def _colour_bar(
    height: int, font: ImageFont.FreeTypeFont | ImageFont.ImageFont, strength: float, ink: str
) -> Image.Image:
    """Draw the colours from 0 to the map's strongest point as they look over a mid grey at this strength."""
    length = min(height, 160)
    bar = Image.new("RGB", (int(font.getlength(MAP_SCALE[1])) + 28, height), _paper(ink))
    ramp = np.linspace(1, 0, length)[:, None].repeat(14, axis=1)
    top = (height - length) // 2
    bar.paste(Image.fromarray(heat_overlay(np.full(ramp.shape, 0.5), ramp, strength=strength)), (4, top))
    draw = ImageDraw.Draw(bar)
    for text, row, anchor in ((MAP_SCALE[1], top, "lt"), (MAP_SCALE[0], top + length, "lb")):
        draw.text((22, row), text, fill=ink, font=font, anchor=anchor)
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


def add_footer(
    picture: Image.Image,
    mm: float | None,
    text: str = "",
    ink: str = "white",
    legend: Sequence[tuple[tuple[int, int, int], str]] = (),
) -> Image.Image:
    """Put a picture above a strip, so that nothing of it is covered.

    Args:
        picture: The picture in RGB.
        mm: Side of a pixel in mm; ``None`` for no bar.
        text: Text below the bar, broken into lines.
        ink: Colour of bar and text: "white" on black, as images are, or "black" on white, as pages are.
        legend: Colours of outlines with what they are, next to the bar.
    """
    width = max(picture.width, NARROWEST)
    size = max(12, min(18, width // 38))
    font = ImageFont.load_default(size=size)
    lines, step = _lines(text, font, width - 8), size + 6
    top = picture.height + 2
    rows = bool(mm is not None or legend) + len(lines)
    page = Image.new("RGB", (width, picture.height + (rows * step + 4 if rows else 0)), _paper(ink))
    page.paste(picture, (0, 0))
    draw = ImageDraw.Draw(page)
    left = 4
    if mm is not None:
        length = bar_length(picture.width, mm)
        bar, middle = max(1, round(length / mm)), top + step // 2
        # bar pixels from left on, both ends marked
        draw.line([(left, middle), (left + bar - 1, middle)], fill=ink, width=2)
        for end in (left, left + bar - 1):
            draw.line([(end, middle - 4), (end, middle + 4)], fill=ink)
        draw.text((left + bar + 6, middle), f"{length} mm", fill=ink, font=font, anchor="lm")
        left += bar + 22 + int(font.getlength(f"{length} mm"))
    for colour, what in legend:
        middle = top + step // 2
        # dark below: the colour has to show on white paper too
        draw.rectangle((left, middle - 6, left + 19, middle + 6), fill=(60, 60, 60))
        draw.line([(left + 3, middle), (left + 16, middle)], fill=colour, width=3)
        draw.text((left + 26, middle), what, fill=ink, font=font, anchor="lm")
        left += 40 + int(font.getlength(what))
    for number, line in enumerate(lines, rows - len(lines)):
        draw.text((4, top + number * step + step // 2), line, fill=ink, font=font, anchor="lm")
    return page


def _paper(ink: str) -> str:
    return "black" if ink == "white" else "white"


def _lines(text: str, font: Any, width: int) -> list[str]:
    """Break a text between words into lines of a width in pixels; line feeds are kept."""
    lines: list[str] = []
    for part in text.splitlines():
        line = ""
        for word in part.split():
            longer = f"{line} {word}".strip()
            if line and font.getlength(longer) > width:
                lines.append(line)
                longer = word
            line = longer
        lines.append(line)
    return lines
