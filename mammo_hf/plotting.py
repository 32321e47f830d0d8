"""Figures: their common look, the plots of a run, and panels of images.

Figures are created without pyplot, so that no global state of a notebook or a worker is changed. The colours are Okabe
and Ito's, which colour-blind readers can distinguish; line styles and markers differ as well, so that a print in grey
can be read.
"""

from __future__ import annotations

import io
import math
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib import colormaps
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.colors import Normalize
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator
from numpy.typing import ArrayLike
from PIL import Image, ImageDraw

from .errors import DataError, UsageError
from .files import write_whole, writing_errors
from .metrics.classification import auroc, roc_curve

COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#56B4E9", "#E69F00")
MARKERS = ("o", "s", "^", "D", "v", "P")
LINES = ("-", "--", "-.", ":")
INK, QUIET, GRID = "#222222", "#767676", "#e6e6e6"
LARGEST_FILE = 200_000  # bytes
_EXACT = 64  # colours of a palette that are kept exactly


def new_figure(width: float, height: float, columns: int) -> tuple[Figure, list[Axes]]:
    """Create a white figure of ``width`` x ``height`` inches at 150 dots per inch, with a row of axes."""
    figure = Figure(figsize=(width, height), dpi=150, layout="constrained", facecolor="white")
    return figure, list(figure.subplots(1, columns, squeeze=False)[0])


def dress(axes: Axes, x: str, y: str, title: str = "") -> None:
    """Style axes: a light frame and grid, the title at the left, labels with their units."""
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
    """Add legends to axes with labelled lines, a note to empty axes, and remarks below the figure."""
    for axes in figure.axes:
        if axes.get_legend_handles_labels()[0]:
            axes.legend(fontsize=9, frameon=False, labelcolor=INK, handlelength=2.6)
        if not axes.lines:
            axes.set(xticks=[], yticks=[])
            axes.text(0.5, 0.5, "nothing to draw", transform=axes.transAxes, ha="center", color=QUIET, fontsize=11)
    if remarks:
        figure.supxlabel("; ".join(remarks), fontsize=8.5, color=INK, x=0.01, ha="left")


def save_figure(figure: Figure, path: str | os.PathLike[str]) -> Path:
    """Write a figure as a PNG of at most 200 kB, with fewer greys and colours if needed, and then smaller.

    Raises:
        UsageError: The file cannot be written, or its name does not end in ``.png``.
    """
    target = Path(path)
    if target.suffix.lower() != ".png":
        raise UsageError("a plot is written as PNG", source=target, remedy="give a name that ends in .png")
    content = _compact_png(figure)
    with writing_errors(target):
        target.parent.mkdir(parents=True, exist_ok=True)
    write_whole(target, content)
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
            # Fewer greys would show as bands in tissue, so from here on the picture shrinks instead.
            shrink = min(0.95, 0.98 * (LARGEST_FILE / len(content)) ** 0.5)
            size = (round(size[0] * shrink), round(size[1] * shrink))
    return content


def _with_palette(picture: Image.Image, greys: int) -> Image.Image:
    """Reduce a picture to 256 colours: evenly spaced greys for grey pixels, and the rest of the palette for colours.

    A palette chosen over the whole picture would be spent on the many greys of mammograms and dull the few colours.
    """
    pixels = np.asarray(picture)
    coloured = np.ptp(pixels, axis=2) > 4
    levels = np.linspace(0, 255, greys).round().astype(np.uint8)
    indices = np.rint(pixels.mean(axis=2) * ((greys - 1) / 255)).astype(np.uint8)
    palette = np.repeat(levels[:, None], 3, axis=1)
    if coloured.any():
        colours, which, counts = np.unique(pixels[coloured], axis=0, return_inverse=True, return_counts=True)
        # The commonest colours (curves, flat tints) stay exact. Of the rest each counts once, so that rare ones, like
        # the ends of a colour bar or a peak, are not merged into common ones.
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
    # Pillow leaves out matplotlib's version, so that the same run gives the same bytes.
    content = io.BytesIO()
    picture.save(content, format="PNG", optimize=True)
    return content.getvalue()


# Plots of a run: loss by step, metrics by epoch, ROC curves.

Interval = tuple[float, float]
History = Sequence[Mapping[str, Any]]


def plot_loss_curves(log_history: History, path: str | os.PathLike[str], title: str, remark: str = "") -> Path:
    """Plot the training loss by step, and the evaluation loss at the end of each epoch.

    If a step is logged twice (a resumed run), the later entry counts. A loss that is not finite leaves a gap; the plot
    states how many there are, and what was never logged.

    Args:
        log_history: Log of the trainer, ``trainer.state.log_history``.
        path: PNG file to write.
        title: Title above the plot.
        remark: Note below the plot.

    Returns:
        Path of the file.

    Raises:
        DataError: A loss in the history is not a number.
        UsageError: The file cannot be written.
    """
    steps, training = _series(log_history, "loss")
    eval_steps, validation = _series(log_history, "eval_loss")
    figure, (axes,) = new_figure(7.0, 4.2, 1)
    dress(axes, "optimiser step", "loss", title)
    window = len(training) // 15
    if window >= 3:
        axes.plot(steps, training, color=COLOURS[0], linewidth=0.8, alpha=0.35)
        label = f"training (mean of {2 * (window // 2) + 1} logs)"
        axes.plot(steps, _running_mean(training, window), color=COLOURS[0], linewidth=1.8, label=label)
    elif len(training):
        axes.plot(steps, training, color=COLOURS[0], linewidth=1.8, marker=".", label="training")
    if len(validation):
        axes.plot(eval_steps, validation, **_style(1), label="validation")
    remarks = [remark] if remark else []
    for name, values in (("training", training), ("validation", validation)):
        if not len(values):
            remarks.append(f"no {name} loss was logged")
        elif not np.isfinite(values).all():
            remarks.append(f"{np.count_nonzero(~np.isfinite(values))} of {len(values)} {name} losses are not finite")
    if len(training) or len(validation):
        axes.xaxis.set_major_locator(MaxNLocator(integer=True, steps=[1, 2, 5, 10]))
        _add_epoch_axis(axes, log_history)
    finish(figure, remarks)
    return save_figure(figure, path)


def plot_metric_curves(log_history: History, path: str | os.PathLike[str], title: str = "Validation by epoch") -> Path:
    """Plot AUROC and accuracy of each task by epoch, from keys such as ``eval_pathology_auroc``.

    A metric that is null (undefined in that evaluation) leaves a gap; one that is never defined is noted below.

    Args:
        log_history: Log of the trainer, ``trainer.state.log_history``.
        path: PNG file to write.
        title: Title above the plots.

    Returns:
        Path of the file.

    Raises:
        DataError: A metric in the history is neither a number nor null.
        UsageError: The file cannot be written.
    """
    figure, panels = new_figure(9.0, 4.2, 2)
    figure.suptitle(title, fontsize=12, color=INK, x=0.01, ha="left")
    tasks = _tasks(log_history)
    undefined: dict[str, list[str]] = {}
    names = (("auroc", "AUC", "area under the ROC curve"), ("accuracy", "accuracy", "accuracy (fraction of images)"))
    for axes, (suffix, short, label) in zip(panels, names, strict=True):
        dress(axes, "epoch", label)
        lowest = 0.5
        for number, task in enumerate(tasks):
            epochs, values = _series(log_history, f"eval_{task}_{suffix}", by="epoch")
            if not np.isfinite(values).any():
                undefined.setdefault(task, []).append(short)
                continue
            lowest = min(lowest, float(np.nanmin(values)))
            axes.plot(epochs, values, **_style(number), label=task, clip_on=False)
        if axes.lines:
            axes.set_ylim(math.floor(lowest * 10 - 0.5) / 10 if lowest >= 0.05 else 0, 1)
            axes.xaxis.set_major_locator(MaxNLocator(integer=True, steps=[1, 2, 5, 10]))
            if suffix == "auroc":
                axes.axhline(0.5, color=QUIET, linewidth=1, linestyle=(0, (1, 2)), label="chance")
    remarks = [f"{task}: {' and '.join(what)} not defined in any evaluation" for task, what in undefined.items()]
    finish(figure, remarks if tasks else ["no metric was logged"])
    return save_figure(figure, path)


def plot_roc(
    references: ArrayLike,
    scores: ArrayLike | Mapping[str, ArrayLike],
    path: str | os.PathLike[str],
    interval: Interval | Mapping[str, Interval] | None = None,
    label: str = "model",
    title: str = "ROC curve",
) -> Path:
    """Plot the ROC curve of one model, or of several on the same images.

    Args:
        references: ``(n,)`` of 0 and 1.
        scores: ``(n,)`` scores, or ``{label: (n,)}`` for several curves.
        path: PNG file to write.
        interval: 95 % interval of the AUC, or ``{label: interval}`` for several; shown in the legend.
        label: Name of the one curve.
        title: Title above the plot.

    Returns:
        Path of the file.

    Raises:
        UndefinedMetric: There is one class only, no image, or a NaN score.
        UsageError: The file cannot be written.
    """
    figure, (axes,) = new_figure(4.8, 5.4, 1)
    curves = scores if isinstance(scores, Mapping) else {label: scores}
    intervals = interval if isinstance(interval, Mapping) else {} if interval is None else {label: interval}
    draw_roc(axes, references, curves, intervals)
    axes.set_title(title, fontsize=12, color=INK, loc="left", pad=10)
    return save_figure(figure, path)


def draw_roc(
    axes: Axes, references: ArrayLike, curves: Mapping[str, ArrayLike], intervals: Mapping[str, Interval]
) -> None:
    """Draw ROC curves into given axes, with AUC and interval in a legend below them.

    Args:
        axes: Axes to draw into.
        references: ``(n,)`` of 0 and 1.
        curves: Scores by label, ``{label: (n,)}``.
        intervals: Intervals by label, ``{label: (low, high)}``, for labels that have one.

    Raises:
        UndefinedMetric: There is one class only, no image, or a NaN score.
    """
    truth = np.asarray(references)
    dress(axes, "1 \N{MINUS SIGN} specificity", "sensitivity")
    axes.plot([0, 1], [0, 1], color=QUIET, linewidth=1, linestyle=(0, (1, 2)), label="chance: AUC 0.50")
    for number, (name, scores) in enumerate(curves.items()):
        false_positive_rate, true_positive_rate, _ = roc_curve(truth, scores)
        text = f"{name}: AUC {auroc(truth, scores):.2f}"
        if name in intervals:
            text += "\n95 % interval {:.2f} to {:.2f}".format(*intervals[name])
        style = _style(number) | {"marker": "", "linewidth": 2}
        axes.plot(false_positive_rate, true_positive_rate, label=text, clip_on=False, **style)
    ticks = np.linspace(0, 1, 6)
    axes.set(xlim=(0, 1), ylim=(0, 1), aspect="equal", xticks=ticks, yticks=ticks)
    axes.grid(True, color=GRID, linewidth=0.8)
    handles, texts = axes.get_legend_handles_labels()
    axes.legend(
        [*handles[1:], handles[0]],
        [*texts[1:], texts[0]],
        title=f"{np.count_nonzero(truth == 1)} positive, {np.count_nonzero(truth == 0)} negative",
        loc="upper left",
        bbox_to_anchor=(-0.02, -0.14),
        alignment="left",
        frameon=False,
        fontsize=9.5,
        title_fontsize=9.5,
        handlelength=2.6,
        labelcolor=INK,
    )


def _style(number: int) -> dict[str, Any]:
    return {
        "color": COLOURS[number % len(COLOURS)],
        "linestyle": LINES[number % len(LINES)],
        "marker": MARKERS[number % len(MARKERS)],
        "linewidth": 1.8,
        "markersize": 5,
        "markerfacecolor": "white",
        "markeredgewidth": 1.5,
    }


def _series(log_history: History, key: str, by: str = "step") -> tuple[np.ndarray, np.ndarray]:
    """Return steps (or epochs) and values logged under a key; null and infinite values as NaN, the last of repeats."""
    entries: dict[float, float] = {}
    for entry in log_history:
        if key not in entry or entry.get(by) is None:
            continue
        value = math.nan if entry[key] is None else entry[key]
        if not isinstance(value, int | float | np.number):
            raise DataError(f"'{key}' is not a number", source="log_history")
        entries[float(entry[by])] = float(value) if math.isfinite(value) else math.nan
    steps = sorted(entries)
    return np.array(steps), np.array([entries[step] for step in steps])


def _tasks(log_history: History) -> list[str]:
    """Return the tasks with metrics in the history, in the order in which they were first logged."""
    names: dict[str, None] = {}
    for key in (key for entry in log_history for key in entry):
        for suffix in ("_auroc", "_accuracy"):
            if key.startswith("eval_") and key.endswith(suffix) and not key.endswith("_balanced_accuracy"):
                names[key.removeprefix("eval_").removesuffix(suffix)] = None
    return list(names)


def _running_mean(values: np.ndarray, window: int) -> np.ndarray:
    """Average over a centred window that shrinks at the ends and skips NaN; NaN if the value itself is NaN."""
    known = np.isfinite(values)
    kernel = np.ones(2 * (window // 2) + 1)
    total = np.convolve(np.where(known, values, 0.0), kernel, mode="same")
    return np.where(known, total / np.maximum(np.convolve(known, kernel, mode="same"), 1), np.nan)


def _add_epoch_axis(axes: Axes, log_history: History) -> None:
    """Add an axis of epochs at the top, in proportion to the steps."""
    last = max(
        ((entry["step"], entry["epoch"]) for entry in log_history if entry.get("step") and entry.get("epoch")),
        default=None,
    )
    if last is None:
        return
    each = last[0] / last[1]
    top = axes.secondary_xaxis("top", functions=(lambda step: step / each, lambda epoch: epoch * each))
    top.set_xlabel("epoch", fontsize=10, color=INK)
    top.tick_params(labelsize=9, labelcolor=INK, color=QUIET)
    top.spines["top"].set_color(QUIET)
    top.xaxis.set_major_locator(MaxNLocator(nbins=8, integer=True, steps=[1, 2, 5, 10]))


# Panels of images: what was hidden and what was reconstructed.

# a pale blue: no grey of tissue or background has it, and printed in grey it is flat where tissue is not
HIDDEN = (0.62, 0.71, 0.82)
# orange below, white at no difference, violet above; in steps, an odd number of them, so that zero has its own
DIVERGING = colormaps["PuOr"].resampled(31)
_SHEET_HEIGHT, _SHEET_GAP = 720, 12  # pixels
_CROP_COLOUR = (255, 190, 0)


def masked_picture(image: np.ndarray, mask: np.ndarray) -> np.ndarray:
    """Return an image with its hidden pixels in one tint and its visible pixels unchanged.

    Args:
        image: ``(height, width)`` intensities in [0, 1].
        mask: ``(height, width)`` bool, True for hidden pixels.

    Returns:
        float64 RGB ``(height, width, 3)`` in [0, 1].
    """
    return np.where(mask[..., None], HIDDEN, np.clip(image, 0, 1)[..., None])


def crop_picture(original: np.ndarray, crop: tuple[int, int, int, int], shown: np.ndarray) -> Image.Image:
    """Draw an image with its crop outlined, and next to it what a model sees.

    Args:
        original: ``(height, width)`` in [0, 1].
        crop: Top, left, bottom and right edge of the crop in the original's pixels.
        shown: ``(height, width)`` in [0, 1].
    """
    left, right = (_grey_picture(intensity, _SHEET_HEIGHT) for intensity in (original, shown))
    scale = _SHEET_HEIGHT / original.shape[0]
    top, start, bottom, end = (round(edge * scale) for edge in crop)
    ImageDraw.Draw(left).rectangle((start, top, max(start, end - 1), max(top, bottom - 1)), None, _CROP_COLOUR, 2)
    sheet = Image.new("RGB", (left.width + _SHEET_GAP + right.width, _SHEET_HEIGHT), (60, 60, 60))
    sheet.paste(left, (0, 0))
    sheet.paste(right, (left.width + _SHEET_GAP, 0))
    return sheet


def _grey_picture(intensity: np.ndarray, height: int) -> Image.Image:
    grey = Image.fromarray(np.rint(np.clip(intensity, 0, 1) * 255).astype(np.uint8))
    width = max(1, round(intensity.shape[1] * height / intensity.shape[0]))
    return grey.resize((width, height), Image.Resampling.BOX).convert("RGB")


def plot_reconstruction(
    inputs: ArrayLike, masks: ArrayLike, reconstructions: ArrayLike, path: str | os.PathLike[str], title: str = ""
) -> Path:
    """Plot one row per image: input, masked, reconstruction with the visible pixels, and their difference.

    Args:
        inputs: ``(n, height, width)`` intensities in [0, 1].
        masks: ``(n, height, width)`` bool, True for hidden pixels.
        reconstructions: ``(n, height, width)`` intensities, of which only the hidden pixels are used.
        path: PNG file to write.
        title: Title above the panel.

    Returns:
        Path of the file.

    Raises:
        DataError: The shapes differ, there is no image, or the masks are not bool.
        UsageError: The file cannot be written.
    """
    images, hidden, restored = pasted(inputs, masks, reconstructions)
    differences = restored - images
    limit, beyond = _difference_scale(differences[hidden])
    rows, (height, width) = len(images), images.shape[1:]
    tall = 2.4 if rows > 1 else 4.0  # inches per picture
    page = (4 * (tall * width / height + 0.1) + 0.2, rows * (tall + 0.22) + (1.3 if title else 1.05))
    figure = Figure(figsize=page, dpi=150, layout="constrained", facecolor="white")
    grid = figure.subplots(rows, 4, squeeze=False)
    norm = Normalize(-limit, limit)
    for row, axes in enumerate(grid):
        error = f"{np.abs(differences[row][hidden[row]]).mean():.3f}" if hidden[row].any() else "not defined"
        show(axes[0], images[row])
        show(axes[1], masked_picture(images[row], hidden[row]), f"{100 * hidden[row].mean():.0f} % hidden")
        show(axes[2], restored[row])
        show(axes[3], differences[row], f"mean |error| {error}", cmap=DIVERGING, norm=norm)
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


def pasted(
    inputs: ArrayLike, masks: ArrayLike, reconstructions: ArrayLike
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return inputs, masks, and inputs with the reconstruction in the hidden pixels; all ``(n, height, width)``."""
    images, restored = np.asarray(inputs, dtype=np.float64), np.asarray(reconstructions, dtype=np.float64)
    hidden = np.asarray(masks)
    if images.ndim != 3 or not images.size or not images.shape == hidden.shape == restored.shape:
        raise DataError(
            f"shapes {images.shape}, {hidden.shape} and {restored.shape}",
            source="inputs, masks and reconstructions",
            remedy="give each as (n, height, width), with at least one image",
        )
    if hidden.dtype != np.bool_:
        raise DataError(f"values of type {hidden.dtype}", source="masks", remedy="give bool, True for hidden pixels")
    return images, hidden, np.where(hidden, restored, images)


def _difference_scale(differences: np.ndarray) -> tuple[float, str]:
    """Return half the width of the colour scale, for all rows, and on which sides values are beyond it.

    It contains 99 % of the hidden pixels, so that a film label does not wash out the tissue, and is rounded up to a
    twentieth, so that its ticks are round numbers.
    """
    size = np.abs(differences[np.isfinite(differences)])
    limit = max(0.05, float(np.ceil(np.quantile(size, 0.99) * 20) / 20)) if size.size else 0.05
    return limit, "both" if size.size and size.max() > limit else "neither"


def show(axes: Axes, picture: np.ndarray, note: str = "", title: str = "", **mapped: Any) -> None:
    """Show an image without ticks, in greys from 0 to 1 unless a colour map and a norm are given."""
    if picture.ndim == 2 and not mapped:
        mapped = {"cmap": "gray", "vmin": 0.0, "vmax": 1.0}
    axes.imshow(picture, **mapped)
    axes.autoscale(False)
    axes.set(xticks=[], yticks=[])
    axes.spines[:].set(color=GRID, linewidth=0.6)
    axes.set_xlabel(note, fontsize=8.5, color=INK, labelpad=3)
    if title:
        axes.set_title(title, fontsize=9.5, color=INK, pad=4)
