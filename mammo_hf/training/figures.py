"""How every figure looks, and how it is written: the plots and panels of a run share this.

Figures are matplotlib's objects on their own, outside pyplot, so that no global state of a notebook or of a worker is
touched. Colours are Okabe and Ito's, told apart by colour-blind readers; line styles and markers differ as well, so
that a print in grey can be read.
"""

from __future__ import annotations

import io
import os
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from PIL import Image

from ..errors import UsageError

COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#56B4E9", "#E69F00")
MARKERS = ("o", "s", "^", "D", "v", "P")
LINES = ("-", "--", "-.", ":")
INK, QUIET, GRID = "#222222", "#767676", "#e6e6e6"
LARGEST_FILE = 200_000  # bytes
_EXACT = 64  # colours of a palette that are kept as they are


def new_figure(width: float, height: float, columns: int) -> tuple[Figure, list[Axes]]:
    """A white figure of ``width`` x ``height`` inches at 150 dots an inch, with a row of axes that keep clear."""
    figure = Figure(figsize=(width, height), dpi=150, layout="constrained", facecolor="white")
    return figure, list(figure.subplots(1, columns, squeeze=False)[0])


def dress(axes: Axes, x: str, y: str, title: str = "") -> None:
    """Quiet frame and grid, title at the left, labels with their units."""
    if title:
        axes.set_title(title, fontsize=12, color=INK, loc="left", pad=10)
    axes.set_xlabel(x, fontsize=10, color=INK)
    axes.set_ylabel(y, fontsize=10, color=INK)
    axes.tick_params(labelsize=9, labelcolor=INK, color=QUIET)
    axes.spines[["top", "right"]].set_visible(False)
    axes.spines[["left", "bottom"]].set_color(QUIET)
    axes.grid(True, axis="y", color=GRID, linewidth=0.8)
    axes.set_axisbelow(True)


def finish(figure: Figure, remarks: Sequence[str]) -> None:
    """Legends where there is something to tell apart, empty axes said to be empty, remarks below the figure."""
    for axes in figure.axes:
        if axes.get_legend_handles_labels()[0]:
            axes.legend(fontsize=9, frameon=False, labelcolor=INK, handlelength=2.6)
        if not axes.lines:
            axes.set(xticks=[], yticks=[])
            axes.text(0.5, 0.5, "nothing to draw", transform=axes.transAxes, ha="center", color=QUIET, fontsize=11)
    if remarks:
        figure.supxlabel("; ".join(remarks), fontsize=8.5, color=INK, x=0.01, ha="left")


def save_figure(figure: Figure, path: str | os.PathLike[str]) -> Path:
    """Write a figure as a PNG of at most 200 kB: in fewer greys and colours if it must be, and then smaller.

    Raises:
        UsageError: The file cannot be written, or is not called ``.png``.
    """
    target = Path(path)
    if target.suffix.lower() != ".png":
        raise UsageError("a plot is written as PNG", source=target, remedy="give a name that ends in .png")
    content = _compact_png(figure)
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(content)
    except OSError as error:
        raise UsageError(
            f"cannot be written ({error.strerror})", source=target, remedy="choose a folder that you may write to"
        ) from error
    return target


def _compact_png(figure: Figure) -> bytes:
    rendered = io.BytesIO()
    figure.savefig(rendered, format="png", dpi=figure.dpi)
    picture = Image.open(rendered).convert("RGB")
    content = _png(picture)
    size, greys = picture.size, 160
    while len(content) > LARGEST_FILE and min(size) > 200:
        content = _png(_with_palette(picture.resize(size, Image.Resampling.LANCZOS), greys))
        if greys > 48:
            greys = greys * 2 // 3
        else:
            # fewer greys would show as bands in tissue, so from here the picture shrinks instead
            shrink = min(0.95, 0.98 * (LARGEST_FILE / len(content)) ** 0.5)
            size = (round(size[0] * shrink), round(size[1] * shrink))
    return content


def _with_palette(picture: Image.Image, greys: int) -> Image.Image:
    """The picture in 256 colours: evenly spaced greys for what is grey, and the rest of the palette for colour.

    A palette chosen over the whole picture would go to the many greys of the mammograms and dull the few colours.
    """
    pixels = np.asarray(picture)
    coloured = np.ptp(pixels, axis=2) > 4
    levels = np.linspace(0, 255, greys).round().astype(np.uint8)
    indices = np.rint(pixels.mean(axis=2) * ((greys - 1) / 255)).astype(np.uint8)
    palette = np.repeat(levels[:, None], 3, axis=1)
    if coloured.any():
        colours, which, counts = np.unique(pixels[coloured], axis=0, return_inverse=True, return_counts=True)
        # the commonest colours (curves, flat tints) stay exact; of the rest each counts once, so that a colour bar's
        # ends and a peak, which are rare, are not merged into what is common
        common = np.argsort(-counts, kind="stable")[:_EXACT]
        strip = Image.fromarray(colours[None]).quantize(256 - greys - _EXACT, dither=Image.Dither.NONE)
        entries = np.asarray(strip)[0] + len(common)
        entries[common] = np.arange(len(common))
        indices[coloured] = greys + entries[which.ravel()]
        merged = np.array(strip.getpalette(), dtype=np.uint8).reshape(-1, 3)
        palette = np.vstack([palette, colours[common], merged])[:256]
    result = Image.fromarray(indices, mode="P")
    result.putpalette(palette.tobytes())
    return result


def _png(picture: Image.Image) -> bytes:
    # written anew by pillow: without matplotlib's version in it, the same run gives the same bytes
    content = io.BytesIO()
    picture.save(content, format="PNG", optimize=True)
    return content.getvalue()
