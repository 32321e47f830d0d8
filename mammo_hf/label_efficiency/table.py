"""A grid's summary as Markdown, CSV and a plot."""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from matplotlib.axes import Axes
from matplotlib.ticker import FixedLocator, FuncFormatter, NullLocator

from ..training.figures import COLOURS, INK, LINES, MARKERS, QUIET, dress, new_figure, save_figure

Rows = Sequence[Mapping[str, Any]]

_CSV = (
    *("arm", "tune", "baseline", "percentage", "train_patients", "train_images", "updates", "auroc", "low", "high"),
    *("reference", "gain", "gain_low", "gain_high", "best_baseline", "best_baseline_auroc", "beats_baselines"),
    *("seconds", "reason"),
)


def markdown_table(rows: Rows) -> str:
    """One line an arm, one column a share: the AUC, its interval, and a star where it beats the baselines."""
    percentages = sorted({row["percentage"] for row in rows})
    names = list(dict.fromkeys(row["arm"] for row in rows))
    at = {(row["arm"], row["percentage"]): row for row in rows}
    baselines = {row["arm"] for row in rows if row["baseline"]}
    lines = ["| | " + " | ".join(f"{p:g} % ({_patients(rows, p):.0f} patients)" for p in percentages) + " |"]
    lines.append("|---|" + "---|" * len(percentages))
    for name in sorted(names, key=lambda name: name in baselines):
        label = f"*{name}*" if name in baselines else name
        lines.append(f"| {label} | " + " | ".join(_entry(at.get((name, p))) for p in percentages) + " |")
    return "\n".join(lines) + "\n"


def _patients(rows: Rows, percentage: float) -> float:
    return max((row.get("train_patients", 0) for row in rows if row["percentage"] == percentage), default=0)


def _entry(row: Mapping[str, Any] | None) -> str:
    if row is None or row["auroc"] is None:
        return "–"
    text = f"{row['auroc']:.3f}"
    if row["interval"] is not None:
        text += f" ({row['interval'][0]:.3f} to {row['interval'][1]:.3f})"
    return text + (" ★" if row.get("beats_baselines") else "")


def remarks(rows: Rows, needed: Rows) -> list[str]:
    """What a reader must know beside the table, a sentence each."""
    found = ["★: the interval of the paired difference from the best baseline (in italics) lies above 0"]
    if not any(row.get("beats_baselines") for row in rows):
        found.append("no arm beats the best baseline at any share: none has shown anything yet")
    for one in needed:
        if one["of"] is None:
            continue
        reaches = "at no share measured" if one["percentage"] is None else f"with {one['percentage']:g} %"
        aim = f"what {one['reference']} has with {one['at']:g} % of the labels ({one['of']:.3f})"
        found.append(f"{one['arm']} reaches {aim} {reaches}")
    for row in rows:
        if row.get("gain_interval") is not None:
            low, high = row["gain_interval"]
            found.append(
                f"{row['arm']} at {row['percentage']:g} %: {row['gain']:+.3f} ({low:+.3f} to {high:+.3f}) "
                f"over {row['reference']}"
            )
    missing = dict.fromkeys(f"{row['arm']}: {row['reason']}" for row in rows if row.get("reason"))
    return [*found, *missing]


def csv_table(rows: Rows) -> str:
    """Every figure of the summary, one line an arm and share."""
    text = io.StringIO()
    writer = csv.DictWriter(text, _CSV, extrasaction="ignore", lineterminator="\n")
    writer.writeheader()
    for row in rows:
        ends = {"low": row["interval"], "gain_low": row.get("gain_interval")}
        flat = {name: None if pair is None else pair[0] for name, pair in ends.items()}
        flat |= {name.replace("low", "high"): None if pair is None else pair[1] for name, pair in ends.items()}
        writer.writerow({**row, **flat})
    return text.getvalue()


def plot_label_efficiency(rows: Rows, path: Path, title: str) -> Path:
    """AUC against the share of labels, with intervals; baselines in grey.

    Args:
        rows: Of `summarise`.
        path: The PNG.
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
    return save_figure(figure, path)


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
