"""Plots of a run: loss by step, metrics by epoch, ROC curves."""

from __future__ import annotations

import math
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.ticker import MaxNLocator
from numpy.typing import ArrayLike

from ..errors import DataError
from ..evaluation import auroc, roc_curve
from .figures import COLOURS, GRID, INK, LINES, MARKERS, QUIET, dress, finish, new_figure, save_figure

Interval = tuple[float, float]
History = Sequence[Mapping[str, Any]]


def plot_loss_curves(log_history: History, path: str | os.PathLike[str], title: str, remark: str = "") -> Path:
    """Training loss by step, and evaluation loss at the steps where an epoch ended.

    Where a step is logged twice (a resumed run), the later entry counts. A loss that is not finite leaves a gap, and
    the plot says how many there are; what was never logged is said as well.

    Args:
        log_history: ``trainer.state.log_history``.
        path: The PNG to write.
        title: Stands above the plot.
        remark: Stands below the plot: what else a reader must know.

    Returns:
        The path written.

    Raises:
        DataError: A loss in the history is no number.
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
    """AUROC and accuracy of each task by epoch, from keys such as ``eval_pathology_auroc``.

    A metric that is null (undefined in that evaluation) leaves a gap; one that is never defined is said below.

    Args:
        log_history: ``trainer.state.log_history``.
        path: The PNG to write.
        title: Stands above the plots.

    Returns:
        The path written.

    Raises:
        DataError: A metric in the history is neither a number nor null.
        UsageError: The file cannot be written.
    """
    figure, panels = new_figure(9.0, 4.2, 2)
    figure.suptitle(title, fontsize=12, color=INK, x=0.01, ha="left")
    tasks = _tasks(log_history)
    undefined: dict[str, list[str]] = {}
    names = (("auroc", "AUC", "area under the ROC curve"), ("accuracy", "accuracy", "accuracy (share of images)"))
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
    """ROC curve of one model, or of several on the same images.

    Args:
        references: ``(n,)`` of 0 and 1.
        scores: ``(n,)``, or for several curves ``{label: (n,)}``.
        path: The PNG to write.
        interval: 95 % interval of the AUC, or for several ``{label: interval}``; shown in the legend.
        label: Name of the one curve.
        title: Stands above the plot.

    Returns:
        The path written.

    Raises:
        UndefinedMetric: One class only, no images, or a NaN score.
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
        axes: Where to draw.
        references: ``(n,)`` of 0 and 1.
        curves: ``{label: (n,) scores}``.
        intervals: ``{label: (low, high)}`` for the labels that have one.

    Raises:
        UndefinedMetric: One class only, no images, or a NaN score.
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
    """Where and what was logged under a key, in order; null and infinite values as NaN, a repeated place once."""
    entries: dict[float, float] = {}
    for entry in log_history:
        if key not in entry or entry.get(by) is None:
            continue
        value = math.nan if entry[key] is None else entry[key]
        if not isinstance(value, int | float | np.number):
            raise DataError(f"'{key}' is no number", source="log_history")
        entries[float(entry[by])] = float(value) if math.isfinite(value) else math.nan
    places = sorted(entries)
    return np.array(places), np.array([entries[place] for place in places])


def _tasks(log_history: History) -> list[str]:
    """Names of the tasks that the history has metrics of, in the order they were first logged."""
    names: dict[str, None] = {}
    for key in (key for entry in log_history for key in entry):
        for suffix in ("_auroc", "_accuracy"):
            if key.startswith("eval_") and key.endswith(suffix) and not key.endswith("_balanced_accuracy"):
                names[key.removeprefix("eval_").removesuffix(suffix)] = None
    return list(names)


def _running_mean(values: np.ndarray, window: int) -> np.ndarray:
    """Mean over a centred window that shrinks at the ends and skips NaN; NaN where the value itself is NaN."""
    known = np.isfinite(values)
    kernel = np.ones(2 * (window // 2) + 1)
    total = np.convolve(np.where(known, values, 0.0), kernel, mode="same")
    return np.where(known, total / np.maximum(np.convolve(known, kernel, mode="same"), 1), np.nan)


def _add_epoch_axis(axes: Axes, log_history: History) -> None:
    """Epochs along the top, in proportion to the steps."""
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
