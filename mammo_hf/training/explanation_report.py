"""The figures of a study of explainers as a table and as a plot."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import numpy as np

from .figures import COLOURS, INK, LINES, MARKERS, QUIET, dress, new_figure, save_figure

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
    """A Markdown table: a row for each explainer, then the baselines, each mean with its 95 % interval by patient.

    A measure that no image has (mm without the size of a pixel) has no column.
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
    """A Markdown table: rank correlation with the maps of models drawn anew down to each part; empty without any."""
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
    """As it stands in tables and plots."""
    return name + (" (supervised)" if row["supervised"] else " (baseline)" if row["baseline"] else "")


def plot_study(figures: Figures, path: str | os.PathLike[str]) -> Path:
    """Pointing game and pixel AUC with intervals, beside chance, and how the maps change as weights are drawn anew.

    Args:
        figures: As ``evaluate_explainers`` gives them.
        path: The PNG to write.

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
    dress(axes, "weights drawn anew down to", "rank correlation with the map before")
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
