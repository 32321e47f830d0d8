"""Tables and plots of the two studies: of explainers, and of label efficiency."""

from __future__ import annotations

import csv
import io
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FixedLocator, FuncFormatter, NullLocator

from ..files import safe_cell
from ..plotting import COLOURS, INK, LINES, MARKERS, QUIET, dress, new_figure, save_figure

Figures = dict[str, Any]
HEADINGS = {
    "pointing_game": "pointing game",
    "energy_over_chance": "energy over chance",
    "pixel_auroc": "pixel AUC",
    "best_iou": "best IoU",
    "within_10_mm": "within 10 mm",
    "deletion": "deletion (low)",
    "insertion": "insertion (high)",
    "sensitivity_n": "sensitivity-n",
}


def explanation_table(figures: Figures) -> str:
    """Return a Markdown table of explainers, then baselines: each mean with its 95 % interval by patient.

    A measure that no image has (mm without a known pixel spacing) has no column.
    """
    rows = figures["explainers"]
    measures = [name for name in HEADINGS if any(row[name]["value"] is not None for row in rows.values())]
    lines = [
        "| | " + " | ".join(HEADINGS[name] for name in measures) + " |",
        "|---" * (len(measures) + 1) + "|",
    ]
    for name, row in sorted(rows.items(), key=lambda item: item[1]["baseline"]):
        lines.append(f"| {shown_name(name, row)} | " + " | ".join(_cell(row[measure]) for measure in measures) + " |")
    return "\n".join(lines)


def sanity_table(figures: Figures) -> str:
    """Return a Markdown table of rank correlations with the maps of models randomised down to each part, or ""."""
    sanity = figures["sanity"]
    if sanity is None:
        return ""
    columns = [*sanity["parts"], *(["trained on random labels"] if sanity["random_labels"] else [])]
    lines = ["| | " + " | ".join(columns) + " |", "|---" * (len(columns) + 1) + "|"]
    for name, of_parts in sanity["rank_correlation"].items():
        cells = [_cell(of_parts[part]) if part in of_parts else "" for part in sanity["parts"]]
        if sanity["random_labels"]:
            cells.append(_cell(sanity["random_labels"][name]) if name in sanity["random_labels"] else "")
        lines.append(f"| {name} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def shown_name(name: str, row: Figures) -> str:
    """Return an explainer's name as tables and plots show it."""
    return name + (" (supervised)" if row["supervised"] else " (baseline)" if row["baseline"] else "")


def plot_study(figures: Figures, path: str | os.PathLike[str]) -> Path:
    """Plot pointing game and pixel AUC with intervals, and how the maps change as weights are randomised.

    Args:
        figures: Figures of ``evaluate_explainers``.
        path: PNG file to write.

    Raises:
        UsageError: The file cannot be written.
    """
    rows = dict(sorted(figures["explainers"].items(), key=lambda item: -item[1]["baseline"]))
    names = list(rows)[::-1]
    sanity = figures["sanity"]
    figure, panels = new_figure(15 if sanity else 10, 1.6 + 0.34 * len(rows), 3 if sanity else 2)
    chances = (figures["chance_of_pointing"]["value"], 0.5)
    for axes, measure, chance in zip(panels[:2], ("pointing_game", "pixel_auroc"), chances, strict=True):
        dress(axes, f"{HEADINGS[measure]}, 95 % interval by patient", "")
        for place, name in enumerate(reversed(names)):
            found, baseline = rows[name][measure], rows[name]["baseline"]
            if found["value"] is None:
                continue
            colour = QUIET if baseline else COLOURS[1] if rows[name]["supervised"] else COLOURS[0]
            if found["interval"]:
                axes.plot(found["interval"], [place, place], color=colour, linewidth=2)
            axes.plot([found["value"]], [place], color=colour, marker="s" if baseline else "o", markersize=6)
        axes.axvline(chance, color=INK, linewidth=1, linestyle=(0, (1, 2)))
        axes.text(chance, len(rows) - 0.4, " chance", fontsize=8.5, color=INK, va="bottom")
        axes.set(yticks=range(len(rows)), xlim=(0, 1), ylim=(-0.6, len(rows)))
        labels = [shown_name(name, rows[name]) for name in reversed(names)]
        axes.set_yticklabels(labels if axes is panels[0] else [])
        axes.grid(True, axis="x", color="#e6e6e6", linewidth=0.8)
    if sanity:
        _draw_sanity(panels[2], sanity)
    figure.supxlabel(
        f"{figures['images']} images of {figures['patients']} patients, target: {figures['target']}",
        fontsize=8.5,
        color=INK,
        x=0.01,
        ha="left",
    )
    return save_figure(figure, path)


def _draw_sanity(axes: Any, sanity: Figures) -> None:
    dress(axes, "weights randomised down to", "rank correlation with the map before")
    for number, (name, of_parts) in enumerate(sanity["rank_correlation"].items()):
        heights = [1.0, *(of_parts[part]["value"] if part in of_parts else np.nan for part in sanity["parts"])]
        axes.plot(
            range(len(heights)),
            heights,
            color=COLOURS[number % len(COLOURS)],
            linestyle=LINES[number % len(LINES)],
            marker=MARKERS[number % len(MARKERS)],
            markersize=4,
            label=name,
        )
    axes.axhline(0, color=INK, linewidth=1, linestyle=(0, (1, 2)))
    axes.set(xticks=range(len(sanity["parts"]) + 1), ylim=(-1, 1.05))
    axes.set_xticklabels(["nothing", *sanity["parts"]], rotation=20)
    axes.legend(fontsize=8, frameon=False, labelcolor=INK, loc="upper left", bbox_to_anchor=(1.0, 1.0))


def _cell(found: Figures) -> str:
    if found["value"] is None:
        return ""
    value = f"{found['value']:.2f}"
    return value if found["interval"] is None else f"{value} ({found['interval'][0]:.2f} to {found['interval'][1]:.2f})"


# The summary of a label-efficiency study as Markdown and CSV.

Rows = Sequence[Mapping[str, Any]]
_CSV = (
    *("arm", "tune", "baseline", "percentage", "train_patients", "train_images", "updates", "auroc", "low", "high"),
    *("reference", "gain", "gain_low", "gain_high", "best_baseline", "best_baseline_auroc", "beats_baselines"),
    *("seconds", "reason"),
)


def markdown_table(rows: Rows) -> str:
    """Return one line per arm and one column per percentage: AUC, interval, and a star if it beats the baselines."""
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
    """Return what a reader must know in addition to the table, one sentence each."""
    found = ["★: the interval of the paired difference from the best baseline (in italics) is above 0"]
    if not any(row.get("beats_baselines") for row in rows):
        found.append("no arm beats the best baseline at any percentage, so none has shown a benefit")
    for one in needed:
        if one["of"] is None:
            continue
        reaches = "at no percentage measured" if one["percentage"] is None else f"with {one['percentage']:g} %"
        aim = f"what {one['reference']} has with {one['at']:g} % of the labels ({one['of']:.3f})"
        found.append(f"{one['arm']} reaches {aim} {reaches}")
    for row in rows:
        for of in ("", "unlabelled_"):
            if row.get(f"{of}gain_interval") is not None:
                low, high = row[f"{of}gain_interval"]
                found.append(
                    f"{row['arm']} at {row['percentage']:g} %: {row[f'{of}gain']:+.3f} ({low:+.3f} to {high:+.3f}) "
                    f"over {row[f'{of}reference']}"
                )
    missing = dict.fromkeys(f"{row['arm']}: {row['reason']}" for row in rows if row.get("reason"))
    return [*found, *missing]


def csv_table(rows: Rows) -> str:
    """Return every figure of the summary, one line per arm and percentage."""
    text = io.StringIO()
    writer = csv.DictWriter(text, _CSV, extrasaction="ignore", lineterminator="\n")
    writer.writeheader()
    for row in rows:
        ends = {"low": row["interval"], "gain_low": row.get("gain_interval")}
        flat = {name: None if pair is None else pair[0] for name, pair in ends.items()}
        flat |= {name.replace("low", "high"): None if pair is None else pair[1] for name, pair in ends.items()}
        writer.writerow({name: safe_cell(value) for name, value in {**row, **flat}.items()})
    return text.getvalue()


def plot_label_efficiency(rows: Rows, title: str = "") -> Figure:
    """Plot the AUC against the percentage of labels, with intervals; baselines in grey.

    Args:
        rows: Rows of ``arm``, ``percentage``, ``auroc``, ``interval`` and ``baseline``.
        title: Title of the plot.
    """
    figure, (axes,) = new_figure(9.5, 5.2, 1)
    dress(axes, "percentage of training patients with labels", "AUC on test patients", title)
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
    # Shifted slightly, so that bars at the same percentage can be distinguished.
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
