"""One picture of the demo's whole run: reconstructions, ROC curves, and explanations of one image."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from textwrap import fill
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patheffects import withStroke
from numpy.typing import ArrayLike

from mammo_hf.errors import DataError
from mammo_hf.explainers.overlay import OUTLINE, method_name
from mammo_hf.plotting import INK, QUIET, Interval, draw_roc, masked_picture, pasted, save_figure, show

# inches: the page of the story, one picture in it (height, width), and the step from a picture to the next
_PAGE, _CELL, _STEP = (12.0, 20 / 3), (2.42, 1.21), 1.3


def plot_story(
    path: str | os.PathLike[str],
    *,
    inputs: ArrayLike,
    masks: ArrayLike,
    reconstructions: ArrayLike,
    references: ArrayLike,
    scores: Mapping[str, ArrayLike],
    intervals: Mapping[str, Interval],
    image: ArrayLike,
    lesion: ArrayLike | None,
    overlays: Mapping[str, ArrayLike],
    title: str = "",
    caption: str = "",
) -> Path:
    """Plot a whole run in one picture of 1800 x 1000 pixels: reconstruction, ROC, and explanations of one image.

    Args:
        path: PNG file to write.
        inputs: ``(n, height, width)`` in [0, 1]; the first two are drawn.
        masks: ``(n, height, width)`` bool, True for hidden pixels.
        reconstructions: ``(n, height, width)``.
        references: ``(images,)`` of 0 and 1: the test images' labels.
        scores: ``{model's name: (images,)}``, a ROC curve each.
        intervals: ``{model's name: (low, high)}`` of the AUC.
        image: ``(height, width)`` in [0, 1]: the image that is explained.
        lesion: ``(height, width)``, above 0.5 inside its lesion; ``None`` where there is no mask.
        overlays: ``{explainer's name: (height, width, 3)}`` RGB, uint8 or float in [0, 1]; the first three are drawn.
        title: Title above the picture.
        caption: Text below the picture.

    Returns:
        Path of the file.

    Raises:
        DataError: Shapes do not fit.
        UndefinedMetric: A ROC curve is not defined.
        UsageError: The file cannot be written.
    """
    images, hidden, restored = pasted(inputs, masks, reconstructions)
    explained = {"test image": np.asarray(image)} | {name: np.asarray(overlay) for name, overlay in overlays.items()}
    outline = None if lesion is None else np.asarray(lesion, dtype=np.float64)
    _check_explained(explained, outline)
    figure = Figure(figsize=_PAGE, dpi=150, facecolor="white")
    _text(figure, 0.3, 0.36, title, fontsize=15, weight="bold")
    _text(figure, 0.3, 6.56, caption, fontsize=9.5, color=QUIET)
    _text(figure, 0.3, 0.8, "1  Masked pre-training, without labels", fontsize=11.5)
    for row in range(min(2, len(images))):
        pictures = (images[row], masked_picture(images[row], hidden[row]), restored[row])
        for column, (name, picture) in enumerate(zip(("input", "masked", "reconstruction"), pictures, strict=True)):
            show(_cell(figure, row, 0.3 + column * _STEP), picture, title=name if row == 0 else "")
    _text(figure, 4.62, 0.8, "2  Benign or malignant, on held-out patients", fontsize=11.5)
    draw_roc(_axes(figure, 5.15, 1.2, 3.4, 3.4), references, scores, intervals)
    _text(figure, 9.1, 0.8, "3  Where the model looked", fontsize=11.5)
    for number, (name, picture) in enumerate(list(explained.items())[:4]):
        axes = _cell(figure, number // 2, 9.1 + number % 2 * _STEP)
        show(axes, picture, title=fill(method_name(name), 18))
        _draw_outline(axes, outline)
    return save_figure(figure, path)


def _check_explained(explained: Mapping[str, np.ndarray], lesion: np.ndarray | None) -> None:
    size = explained["test image"].shape
    for name, picture in explained.items():
        expected = size if name == "test image" else (*size, 3)
        if len(size) != 2 or picture.shape != expected:
            raise DataError(f"shape {picture.shape} where {expected} belongs", source=name)
    if lesion is not None and lesion.shape != size:
        raise DataError(f"shape {lesion.shape} on an image of {size}", source="lesion")


def _draw_outline(axes: Axes, lesion: np.ndarray | None) -> None:
    """Draw the lesion's edge in the colour of all outlines, with a dark rim, visible on dark fat and bright tissue."""
    if lesion is None or not (lesion > 0.5).any():
        return
    # Padded, so that the outline of a lesion at the border is closed as well.
    height, width = lesion.shape
    columns, rows = np.arange(-1, width + 1), np.arange(-1, height + 1)
    edge = axes.contour(
        columns, rows, np.pad(lesion, 1), levels=[0.5], colors=[np.array(OUTLINE) / 255], linewidths=0.9
    )
    edge.set(path_effects=[withStroke(linewidth=1.9, foreground="black")])


def _cell(figure: Figure, row: int, left: float) -> Axes:
    return _axes(figure, left, 1.2 + row * (_CELL[0] + 0.33), *_CELL)


def _axes(figure: Figure, left: float, top: float, height: float, width: float) -> Axes:
    """Add axes at a place in inches from the page's top left corner."""
    page_width, page_height = _PAGE
    bottom = page_height - top - height
    return figure.add_axes((left / page_width, bottom / page_height, width / page_width, height / page_height))


def _text(figure: Figure, left: float, baseline: float, text: str, **style: Any) -> None:
    figure.text(left / _PAGE[0], 1 - baseline / _PAGE[1], text, **({"color": INK} | style))
