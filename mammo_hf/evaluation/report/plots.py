"""Plots of a report, as SVG: ROC and precision with bands, calibration, score histograms."""

from __future__ import annotations

import io
from collections.abc import Mapping
from typing import Any

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from ...metrics.classification import auroc, pr_curve, reliability, roc_curve
from ...metrics.inputs import UndefinedMetric, Weighted, ratio
from ...metrics.intervals import resampled
from ...plotting import COLOURS, INK, LINES, MARKERS, QUIET, dress, new_figure
from ..classifier import TaskScores

GRID = np.linspace(0, 1, 101)
_BAND_RESAMPLES = 500
_POINT_NAMES = {
    "sensitivity_90": "set for 90 % sensitivity",
    "specificity_90": "set for 90 % specificity",
    "specificity_95": "set for 95 % specificity",
    "given": "given threshold",
}


def task_plots(scores: TaskScores, figures: Mapping[str, Any], seed: int = 0) -> dict[str, str]:
    """Draw the plots of one task, by caption; plots that are not defined on the data are left out.

    Args:
        scores: Scores of the task.
        figures: Figures of the task, as `evaluate_classifier` gives them.
        seed: Seed of the bands' bootstrap.
    """
    draw = {
        "ROC curve": _roc if len(scores.labels) == 2 else _roc_of_classes,
        "Precision and recall": _precision if len(scores.labels) == 2 else None,
        "Calibration": _calibration,
        "Errors if a person reads the rest": _risk,
        "Scores": _histogram if len(scores.labels) == 2 else _confusion,
    }
    plots = {}
    for caption, function in draw.items():
        if function is None:
            continue
        figure, (axes,) = new_figure(4.7, 4.1, 1)
        try:
            function(axes, scores, figures, seed)
        except UndefinedMetric:
            continue
        plots["Confusion" if function is _confusion else caption] = as_svg(figure)
    return plots


def as_svg(figure: Figure) -> str:
    """Return a figure as SVG text, with letters as outlines, and the same bytes for the same figure."""
    content = io.StringIO()
    with matplotlib.rc_context({"svg.hashsalt": "mammo_hf", "svg.fonttype": "path"}):
        figure.savefig(content, format="svg", metadata={"Date": None, "Creator": None})
    return content.getvalue()


def _roc(axes: Axes, scores: TaskScores, figures: Mapping[str, Any], seed: int) -> None:
    truth, positive = scores.references, scores.after[:, 1]
    alarms, hits, _ = roc_curve(truth, positive)
    dress(axes, "1 \N{MINUS SIGN} specificity", "sensitivity")
    axes.plot([0, 1], [0, 1], color=QUIET, linewidth=1, linestyle=(0, (1, 2)))
    _band(axes, _sensitivity_rows, scores, seed)
    axes.plot(alarms, hits, color=COLOURS[0], linewidth=1.8, label=_with_interval("AUC", figures, "auroc"))
    for number, (rule, point) in enumerate((figures.get("operating_points") or {}).items(), start=1):
        if point and None not in (point["sensitivity"], point["specificity"]):
            place = (1 - point["specificity"], point["sensitivity"])
            style: dict[str, Any] = {
                "color": COLOURS[number],
                "marker": MARKERS[number],
                "linestyle": "none",
                "markersize": 7,
            }
            axes.plot(*place, label=_POINT_NAMES.get(rule, rule), zorder=4, clip_on=False, **style)
    _unit_square(axes)
    _legend_above(axes)


def _roc_of_classes(axes: Axes, scores: TaskScores, figures: Mapping[str, Any], seed: int) -> None:
    dress(axes, "1 \N{MINUS SIGN} specificity", "sensitivity")
    axes.plot([0, 1], [0, 1], color=QUIET, linewidth=1, linestyle=(0, (1, 2)))
    for number, label in enumerate(scores.labels):
        truth = scores.references == number
        try:
            alarms, hits, _ = roc_curve(truth, scores.after[:, number])
        except UndefinedMetric:
            continue
        text = f"{label} against the rest: {auroc(truth, scores.after[:, number]):.2f}"
        style: dict[str, Any] = {"color": COLOURS[number % len(COLOURS)], "linestyle": LINES[number % len(LINES)]}
        axes.plot(alarms, hits, linewidth=1.8, label=text, **style)
    if len(axes.lines) == 1:
        raise UndefinedMetric("no class has a curve")
    _unit_square(axes)
    _legend_above(axes)


def _precision(axes: Axes, scores: TaskScores, figures: Mapping[str, Any], seed: int) -> None:
    truth, positive = scores.references, scores.after[:, 1]
    precision, recall, _ = pr_curve(truth, positive)
    dress(axes, "recall (sensitivity)", "precision (positive predictive value)")
    axes.axhline(truth.mean(), color=QUIET, linewidth=1, linestyle=(0, (1, 2)))
    axes.text(0.01, truth.mean() - 0.02, "fraction of positives", fontsize=8, color=QUIET, va="top")
    _band(axes, _precision_rows, scores, seed)
    text = _with_interval("average precision", figures, "auprc")
    recall, precision = np.append(0.0, recall), np.append(precision[0], precision)
    axes.plot(recall, precision, color=COLOURS[0], linewidth=1.8, drawstyle="steps-pre", label=text)
    _unit_square(axes)
    _legend_above(axes)


def _calibration(axes: Axes, scores: TaskScores, figures: Mapping[str, Any], seed: int) -> None:
    binary = len(scores.labels) == 2
    name_of_score = f"probability of {scores.labels[-1]}" if binary else "probability of the predicted class"
    dress(axes, name_of_score, "fraction of images that are" if binary else "fraction of images that are right")
    axes.plot([0, 1], [0, 1], color=QUIET, linewidth=1, linestyle=(0, (1, 2)))
    drawn = {"before": (scores.before, 1), "after": (scores.after, 0)}
    for name, (table, number) in drawn.items():
        if name == "after" and figures.get("calibration") is None:
            continue
        probability, frequency, _ = reliability(scores.references, table[:, 1] if binary else table)
        error = figures["ece"] if name == "after" else figures["uncalibrated"]["ece"]
        text = f"{name} calibration" + ("" if error is None else f", error {error:.3f}")
        style: dict[str, Any] = {"color": COLOURS[number], "marker": MARKERS[number], "linestyle": LINES[number]}
        axes.plot(probability, frequency, markersize=4.5, label=text, clip_on=False, **style)
    _unit_square(axes)
    _legend_above(axes)


def _histogram(axes: Axes, scores: TaskScores, figures: Mapping[str, Any], seed: int) -> None:
    if not len(scores.after) or np.isnan(scores.after).any():
        raise UndefinedMetric("no scores to draw")
    dress(axes, f"probability of {scores.labels[-1]}", "fraction of the images of a label")
    borders = np.linspace(0, 1, 21)
    for number, (label, hatch) in enumerate(zip(scores.labels, ("", "////"), strict=True)):
        values = scores.after[scores.references == number, 1]
        style: dict[str, Any] = {"color": COLOURS[number], "alpha": 0.45, "hatch": hatch, "edgecolor": COLOURS[number]}
        weights = np.full(len(values), 1 / max(len(values), 1))
        axes.hist(values, borders.tolist(), weights=weights, label=label, **style)
    points = (figures.get("chosen_operating_points") or {}).get("image") or {}
    for number, (rule, point) in enumerate(points.items()):
        text = _POINT_NAMES.get(rule, rule)
        axes.axvline(point["threshold"], color=INK, linewidth=1.2, linestyle=LINES[1 + number], label=text)
    axes.set_xlim(0, 1)
    _legend_above(axes)


def _confusion(axes: Axes, scores: TaskScores, figures: Mapping[str, Any], seed: int) -> None:
    if figures["confusion"] is None:
        raise UndefinedMetric(figures["confusion_reason"])
    table = np.array(figures["confusion"], dtype=float)  # a count below ten is left out: not a number
    fractions = ratio(table, np.nansum(table, axis=1, keepdims=True))
    axes.imshow(np.nan_to_num(fractions), cmap="Blues", vmin=0, vmax=1)
    for row, column in np.ndindex(table.shape):
        dark = np.nan_to_num(fractions)[row, column] > 0.5
        text = "not\nshown" if np.isnan(table[row, column]) else f"{table[row, column]:.0f}"
        axes.text(column, row, text, ha="center", va="center", color="white" if dark else INK)
    ticks = range(len(scores.labels))
    axes.set(xticks=ticks, yticks=ticks, xticklabels=scores.labels, yticklabels=scores.labels)
    axes.set_xlabel("predicted", color=INK)
    axes.set_ylabel("true (colour: fraction of the row)", color=INK)


def _risk(axes: Axes, scores: TaskScores, figures: Mapping[str, Any], seed: int) -> None:
    """Draw the error against the fraction of images that are not left to a person."""
    found = figures["risk_coverage"]
    if not found:
        raise UndefinedMetric("no scores to draw")
    coverage = [point["coverage"] for point in found]
    dress(axes, "fraction of images that the model calls, the surest first", "wrong calls among them")
    axes.plot(coverage, [point["error"] for point in found], color=COLOURS[0], marker=MARKERS[0], linewidth=1.8)
    shown = [(point["coverage"], *point["interval"]) for point in found if point["interval"]]
    if shown:
        axes.fill_between(*np.transpose(shown), color=COLOURS[0], alpha=0.15, linewidth=0, label="95 % by patient")
        _legend_above(axes)
    axes.set_xlim(min(coverage), 1)
    axes.set_ylim(0, None)


def _band(axes: Axes, rows: Any, scores: TaskScores, seed: int) -> None:
    """Draw the pointwise 95 % band over resamples of patients; nothing if there is one patient."""
    try:
        drawn = resampled(
            {"": rows},
            scores.references,
            scores.after[:, 1],
            groups=scores.patients,
            resamples=_BAND_RESAMPLES,
            seed=seed,
        )[""]
    except UndefinedMetric:
        return
    drawn = drawn[~np.isnan(drawn).any(axis=1)]
    if len(drawn) > _BAND_RESAMPLES / 2:
        low, high = np.quantile(drawn, [0.025, 0.975], axis=0)
        axes.fill_between(GRID, low, high, color=COLOURS[0], alpha=0.15, linewidth=0, label="95 % band by patient")


def _sensitivity_rows(data: Weighted) -> np.ndarray:
    """Return the sensitivity at each false positive rate of the grid, ``(rows, grid)``."""
    hits, alarms = data.counts
    x, y = ratio(alarms, alarms[:, -1:]), ratio(hits, hits[:, -1:])
    return np.stack([np.interp(GRID, *curve) for curve in zip(x, y, strict=True)])


def _precision_rows(data: Weighted) -> np.ndarray:
    """Return the precision at the first threshold that reaches each recall of the grid, ``(rows, grid)``."""
    hits, alarms = data.counts
    precision, recall = ratio(hits, hits + alarms), ratio(hits, hits[:, -1:])
    precision[:, 0] = precision[:, 1]
    places = [np.searchsorted(row, GRID).clip(1, row.size - 1) for row in recall]
    return np.take_along_axis(precision, np.stack(places), axis=1)


def _with_interval(name: str, figures: Mapping[str, Any], key: str) -> str:
    text, interval = f"{name} {figures[key]:.2f}", figures[f"{key}_interval"]
    return text if interval is None else f"{text} ({interval[0]:.2f} to {interval[1]:.2f})"


def _legend_above(axes: Axes) -> None:
    """Put the legend above the plot, where it crosses nothing."""
    axes.legend(fontsize=8, frameon=False, labelcolor=INK, loc="lower left", bbox_to_anchor=(0, 1), borderaxespad=0.3)


def _unit_square(axes: Axes) -> None:
    ticks = np.linspace(0, 1, 6)
    axes.set(xlim=(0, 1), ylim=(0, 1), aspect="equal", xticks=ticks, yticks=ticks)
