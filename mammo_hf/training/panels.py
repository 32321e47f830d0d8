"""Pictures of images: what was hidden and what was reconstructed, and the one picture that tells a whole run."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib import colormaps
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.colors import Normalize
from matplotlib.figure import Figure
from matplotlib.patheffects import withStroke
from numpy.typing import ArrayLike

from ..errors import DataError
from .figures import GRID, INK, QUIET, save_figure
from .plots import Interval, draw_roc

# a pale blue: no grey of tissue or background has it, and printed in grey it is flat where tissue is not
HIDDEN = (0.62, 0.71, 0.82)
# orange below, white at no difference, violet above; in steps, an odd number of them, so that zero has its own
DIVERGING = colormaps["PuOr"].resampled(31)
# inches: the page of the story, one picture in it (height, width), and the step from a picture to the next
_PAGE, _CELL, _STEP = (12.0, 20 / 3), (2.42, 1.21), 1.3
_EXPLAINERS = {"grad_cam": "Grad-CAM", "grad_cam_attention": "Grad-CAM attention"}


def masked_picture(image: np.ndarray, mask: np.ndarray) -> np.ndarray:
    """The image as the encoder sees it: what is hidden has one tint, what is visible is untouched.

    Args:
        image: ``(height, width)`` in [0, 1].
        mask: ``(height, width)`` bool, True where hidden.

    Returns:
        float64 RGB ``(height, width, 3)`` in [0, 1].
    """
    return np.where(mask[..., None], HIDDEN, np.clip(image, 0, 1)[..., None])


def plot_reconstruction(
    inputs: ArrayLike, masks: ArrayLike, reconstructions: ArrayLike, path: str | os.PathLike[str], title: str = ""
) -> Path:
    """A row for each image: input, masked, reconstruction pasted into what was visible, and their difference.

    Args:
        inputs: ``(n, height, width)`` in [0, 1].
        masks: ``(n, height, width)`` bool, True where hidden.
        reconstructions: ``(n, height, width)``; only the hidden pixels are used.
        path: The PNG to write.
        title: Stands above the panel.

    Returns:
        The path written.

    Raises:
        DataError: The shapes differ, there is no image, or the masks are not bool.
        UsageError: The file cannot be written.
    """
    images, hidden, pasted = _pasted(inputs, masks, reconstructions)
    differences = pasted - images
    limit, beyond = _difference_scale(differences[hidden])
    rows, (height, width) = len(images), images.shape[1:]
    tall = 2.4 if rows > 1 else 4.0  # inches of a picture
    page = (4 * (tall * width / height + 0.1) + 0.2, rows * (tall + 0.22) + (1.3 if title else 1.05))
    figure = Figure(figsize=page, dpi=150, layout="constrained", facecolor="white")
    grid = figure.subplots(rows, 4, squeeze=False)
    norm = Normalize(-limit, limit)
    for row, axes in enumerate(grid):
        error = f"{np.abs(differences[row][hidden[row]]).mean():.3f}" if hidden[row].any() else "not defined"
        _show(axes[0], images[row])
        _show(axes[1], masked_picture(images[row], hidden[row]), f"{100 * hidden[row].mean():.0f} % hidden")
        _show(axes[2], pasted[row])
        _show(axes[3], differences[row], f"mean |error| {error}", cmap=DIVERGING, norm=norm)
    for axes, name in zip(grid[0], ("input", "masked", "reconstruction", "difference"), strict=True):
        axes.set_title(name, fontsize=10, color=INK)
    bar = figure.colorbar(
        ScalarMappable(norm, DIVERGING), ax=grid, location="bottom", extend=beyond, shrink=0.7, aspect=40, pad=0.02
    )
    bar.set_ticks(list(np.linspace(-limit, limit, 5)))
    bar.set_label("reconstruction \N{MINUS SIGN} input (intensity, 0 to 1)", fontsize=9, color=INK)
    bar.ax.tick_params(labelsize=8.5, labelcolor=INK, color=QUIET)
    bar.outline.set_visible(False)
    if title:
        figure.suptitle(title, fontsize=12, color=INK, x=0.01, ha="left")
    return save_figure(figure, path)


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
    """A whole run in one picture of 1800 x 1000 pixels: reconstruction, ROC, and the explanations of one image.

    Args:
        path: The PNG to write.
        inputs: ``(n, height, width)`` in [0, 1]; the first two are drawn.
        masks: ``(n, height, width)`` bool, True where hidden.
        reconstructions: ``(n, height, width)``.
        references: ``(images,)`` of 0 and 1: the test images' labels.
        scores: ``{model's name: (images,)}``, a ROC curve each.
        intervals: ``{model's name: (low, high)}`` of the AUC.
        image: ``(height, width)`` in [0, 1]: the image that is explained.
        lesion: ``(height, width)``, above 0.5 inside its lesion; ``None`` where there is no mask.
        overlays: ``{explainer's name: (height, width, 3)}`` RGB, uint8 or float in [0, 1]; the first three are drawn.
        title: Stands above the picture.
        caption: Stands below it: what the data are, what was trained.

    Returns:
        The path written.

    Raises:
        DataError: Shapes do not fit.
        UndefinedMetric: A ROC curve is not defined.
        UsageError: The file cannot be written.
    """
    images, hidden, pasted = _pasted(inputs, masks, reconstructions)
    explained = {"test image": np.asarray(image)} | {name: np.asarray(overlay) for name, overlay in overlays.items()}
    outline = None if lesion is None else np.asarray(lesion, dtype=np.float64)
    _check_explained(explained, outline)
    figure = Figure(figsize=_PAGE, dpi=150, facecolor="white")
    _text(figure, 0.3, 0.36, title, fontsize=15, weight="bold")
    _text(figure, 0.3, 6.56, caption, fontsize=9.5, color=QUIET)
    _text(figure, 0.3, 0.8, "1  Masked pre-training, without labels", fontsize=11.5)
    for row in range(min(2, len(images))):
        pictures = (images[row], masked_picture(images[row], hidden[row]), pasted[row])
        for column, (name, picture) in enumerate(zip(("input", "masked", "reconstruction"), pictures, strict=True)):
            _show(_cell(figure, row, 0.3 + column * _STEP), picture, title=name if row == 0 else "")
    _text(figure, 4.62, 0.8, "2  Benign or malignant, on held-out patients", fontsize=11.5)
    draw_roc(_axes(figure, 5.15, 1.2, 3.4, 3.4), references, scores, intervals)
    _text(figure, 9.1, 0.8, "3  Where the model looked", fontsize=11.5)
    for number, (name, picture) in enumerate(list(explained.items())[:4]):
        axes = _cell(figure, number // 2, 9.1 + number % 2 * _STEP)
        _show(axes, picture, title=_EXPLAINERS.get(name, name.replace("_", " ")))
        _draw_outline(axes, outline)
    return save_figure(figure, path)


def _pasted(
    inputs: ArrayLike, masks: ArrayLike, reconstructions: ArrayLike
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Inputs, masks, and reconstructions in the hidden pixels with the inputs elsewhere; all ``(n, height, width)``."""
    images, restored = np.asarray(inputs, dtype=np.float64), np.asarray(reconstructions, dtype=np.float64)
    hidden = np.asarray(masks)
    if images.ndim != 3 or not images.size or not images.shape == hidden.shape == restored.shape:
        raise DataError(
            f"shapes {images.shape}, {hidden.shape} and {restored.shape}",
            source="inputs, masks and reconstructions",
            remedy="give each as (n, height, width), with at least one image",
        )
    if hidden.dtype != np.bool_:
        raise DataError(f"values of type {hidden.dtype}", source="masks", remedy="give bool, True where hidden")
    return images, hidden, np.where(hidden, restored, images)


def _difference_scale(differences: np.ndarray) -> tuple[float, str]:
    """Half width of the colour scale, one for all rows, and on which sides the bar says that there is more beyond.

    It holds 99 % of the hidden pixels, so that a film label that was not guessed does not wash out the tissue, and is
    rounded up to a twentieth, so that its ticks are plain numbers.
    """
    size = np.abs(differences[np.isfinite(differences)])
    limit = max(0.05, float(np.ceil(np.quantile(size, 0.99) * 20) / 20)) if size.size else 0.05
    return limit, "both" if size.size and size.max() > limit else "neither"


def _check_explained(explained: Mapping[str, np.ndarray], lesion: np.ndarray | None) -> None:
    size = explained["test image"].shape
    for name, picture in explained.items():
        expected = size if name == "test image" else (*size, 3)
        if len(size) != 2 or picture.shape != expected:
            raise DataError(f"shape {picture.shape} where {expected} belongs", source=name)
    if lesion is not None and lesion.shape != size:
        raise DataError(f"shape {lesion.shape} on an image of {size}", source="lesion")


def _show(axes: Axes, picture: np.ndarray, note: str = "", title: str = "", **mapped: Any) -> None:
    """An image without ticks; greys from 0 to 1 unless a colour map and a norm are given."""
    if picture.ndim == 2 and not mapped:
        mapped = {"cmap": "gray", "vmin": 0.0, "vmax": 1.0}
    axes.imshow(picture, **mapped)
    axes.autoscale(False)
    axes.set(xticks=[], yticks=[])
    axes.spines[:].set(color=GRID, linewidth=0.6)
    axes.set_xlabel(note, fontsize=8.5, color=INK, labelpad=3)
    if title:
        axes.set_title(title, fontsize=9.5, color=INK, pad=4)


def _draw_outline(axes: Axes, lesion: np.ndarray | None) -> None:
    """The lesion's edge in white with a dark rim, which shows on dark fat, on bright tissue and on any colour."""
    if lesion is None or not (lesion > 0.5).any():
        return
    # padded, so that a lesion at the border is closed as well
    height, width = lesion.shape
    columns, rows = np.arange(-1, width + 1), np.arange(-1, height + 1)
    edge = axes.contour(columns, rows, np.pad(lesion, 1), levels=[0.5], colors="white", linewidths=0.9)
    edge.set(path_effects=[withStroke(linewidth=1.9, foreground="black")])


def _cell(figure: Figure, row: int, left: float) -> Axes:
    return _axes(figure, left, 1.2 + row * (_CELL[0] + 0.25), *_CELL)


def _axes(figure: Figure, left: float, top: float, height: float, width: float) -> Axes:
    """Axes placed in inches from the page's top left corner."""
    page_width, page_height = _PAGE
    bottom = page_height - top - height
    return figure.add_axes((left / page_width, bottom / page_height, width / page_width, height / page_height))


def _text(figure: Figure, left: float, baseline: float, text: str, **style: Any) -> None:
    figure.text(left / _PAGE[0], 1 - baseline / _PAGE[1], text, **({"color": INK} | style))
