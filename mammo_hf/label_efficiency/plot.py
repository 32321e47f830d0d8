"""A grid's summary as a plot: the AUC over the share of labels, an arm a line."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FixedLocator, FuncFormatter, NullLocator

from ..training.figures import COLOURS, INK, LINES, MARKERS, QUIET, dress, new_figure
from .table import Rows


def plot_label_efficiency(rows: Rows, title: str = "") -> Figure:
    """AUC against the share of labels, with intervals; baselines in grey.

    Args:
        rows: ``arm``, ``percentage``, ``auroc``, ``interval`` and ``baseline``, as `summary.summarise` gives them.
        title: Stands above.
    """
    figure, (axes,) = new_figure(9.5, 5.2, 1)
    dress(axes, "share of the training patients whose labels are used (%)", "AUC on test patients", title)
    names = [name for name in dict.fromkeys(row["arm"] for row in rows) if any(_drawn(rows, name))]
    baselines = {row["arm"] for row in rows if row["baseline"]}
    percentages = sorted({row["percentage"] for row in rows})
    for number, name in enumerate(sorted(names, key=lambda name: name in baselines)):
        _draw_arm(axes, _drawn(rows, name), name, number, name in baselines, len(names))
    if min(percentages) > 0 and len(percentages) > 1:
        axes.set_xscale("log")
    axes.xaxis.set_major_locator(FixedLocator(percentages))
    axes.xaxis.set_minor_locator(NullLocator())
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    axes.axhline(0.5, color=QUIET, linewidth=0.8, linestyle=":")
    if names:
        figure.legend(loc="outside right upper", fontsize=8, frameon=False, labelcolor=INK, handlelength=2.6)
    figure.supxlabel(
        "bars: 95 % by bootstrap over patients, of the mean over seeds", fontsize=8.5, color=INK, x=0.01, ha="left"
    )
    return figure


def _drawn(rows: Rows, name: str) -> list[Mapping[str, Any]]:
    own = [row for row in rows if row["arm"] == name and row["auroc"] is not None]
    return sorted(own, key=lambda row: float(row["percentage"]))


def _draw_arm(axes: Axes, rows: Rows, name: str, number: int, baseline: bool, of: int) -> None:
    # a little apart, so that bars at the same share can be told apart
    apart = 1.0 + 0.02 * (number - (of - 1) / 2)
    places = [row["percentage"] * apart for row in rows]
    values = [row["auroc"] for row in rows]
    ends = [row["interval"] or (row["auroc"], row["auroc"]) for row in rows]
    bars = [[value - low for value, (low, _) in zip(values, ends, strict=True)],
            [high - value for value, (_, high) in zip(values, ends, strict=True)]]  # fmt: skip
    axes.errorbar(
        places,
        values,
        yerr=bars,
        label=name,
        color=QUIET if baseline else COLOURS[number % len(COLOURS)],
        marker=MARKERS[number % len(MARKERS)],
        markersize=4,
        linestyle=LINES[number % len(LINES)] if baseline else "-",
        linewidth=1.0 if baseline else 1.8,
        elinewidth=0.8,
        alpha=0.8 if baseline else 1.0,
    )
