"""Tables and plots of the studies: of explainers, of label efficiency, and of transfer between collections."""

from __future__ import annotations

import csv
import io
import os
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from matplotlib.ticker import FixedLocator, FuncFormatter, NullLocator

from ..files import safe_cell
from ..plotting import COLOURS, INK, LINES, MARKERS, QUIET, dress, new_figure, save_figure
from .classifier import shown_count
from .strata import FEWEST_PAIRS

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
    return _with_interval(found["value"], found["interval"])


def _with_interval(value: float | None, interval: Sequence[float] | None, form: str = ".2f") -> str:
    """Return a figure with its interval, if there is one; empty if it is not defined."""
    if value is None:
        return ""
    return f"{value:{form}}" + (f" ({interval[0]:{form}} to {interval[1]:{form}})" if interval is not None else "")


# The summary of a label-efficiency study as Markdown and CSV.

Rows = Sequence[Mapping[str, Any]]
_CSV = (
    *("arm", "tune", "baseline", "percentage", "train_patients", "train_images", "updates", "auroc", "low", "high"),
    *("reference", "gain", "gain_low", "gain_high", "gain_detectable", "best_baseline", "best_baseline_auroc", "apart"),
    *("apart_low", "apart_high", "apart_detectable", "beats_baselines", "beats_free"),
    *("test_patients", "prevalence", "seconds", "reason"),
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
    return _with_interval(row["auroc"], row["interval"], ".3f") + (" ★" if row.get("beats_baselines") else "")


_DIFFERENCES = {"gain": "reference", "unlabelled_gain": "unlabelled_reference", "apart": "best_baseline"}


def remarks(rows: Rows, needed: Rows) -> list[str]:
    """Return what a reader must know in addition to the table, one sentence each."""
    found = ["★: the interval of the paired difference from the best baseline (in italics) is above 0"]
    if not any(row.get("beats_baselines") for row in rows):
        found.append("no arm beats the best baseline at any percentage, so none has shown a benefit")
    tested = dict.fromkeys((row["test_patients"], *row["class_counts"]) for row in rows if row.get("class_counts"))
    found += [
        f"tested on {sum(counts)} images of {patients} patients, by label {', '.join(map(shown_count, counts))}"
        + (f": prevalence {counts[-1] / sum(counts):.1%}" if len(counts) == 2 else "")
        for patients, *counts in tested
    ]
    found += [saved_labels(one) for one in needed if one["of"] is not None]
    for row in rows:
        at = f"{row['arm']} at {row['percentage']:g} %"
        for name, of in (
            ("gain", "reference"),
            ("unlabelled_gain", "unlabelled_reference"),
            ("apart", "best_baseline"),
        ):
            if row.get(f"{name}_interval") is not None:
                found.append(f"{at}: {_with_interval(row[name], row[f'{name}_interval'], '+.3f')} over {row[of]}")
                found[-1] += _not_shown(row.get(f"{name}_detectable"))
    missing = dict.fromkeys(f"{row['arm']}: {row['reason']}" for row in rows if row.get("reason"))
    return [*found, *missing]


def csv_table(rows: Rows) -> str:
    """Return every figure of the summary, one line per arm and percentage."""
    text = io.StringIO()
    writer = csv.DictWriter(text, _CSV, extrasaction="ignore", lineterminator="\n")
    writer.writeheader()
    for row in rows:
        ends = {"low": row["interval"], "gain_low": row.get("gain_interval"), "apart_low": row.get("apart_interval")}
        flat: dict[str, Any] = {name: None if pair is None else pair[0] for name, pair in ends.items()}
        flat |= {name.replace("low", "high"): None if pair is None else pair[1] for name, pair in ends.items()}
        counts = list(row.get("class_counts") or ())
        flat["prevalence"] = counts[-1] / sum(counts) if len(counts) == 2 else None
        writer.writerow({name: safe_cell(value) for name, value in {**row, **flat}.items()})
    return text.getvalue()


def saved_labels(one: Mapping[str, Any]) -> str:
    """Return what an arm of `labels_needed` has saved, as a sentence without its full stop."""
    if one.get("no_reference"):
        reference = f"{one['reference']} with {one['at']:g} % of the labels ({one['of']:.3f})"
        return f"{one['arm']}: no reference, as {reference} is not shown to be above what needs no network"
    aim = f"what {one['reference']} has with {one['at']:g} % of the labels ({one['of']:.3f})"
    reaches = "at no percentage measured" if one["percentage"] is None else f"with {one['percentage']:g} %"
    ends = ["none" if end is None else f"{end:g} %" for end in one.get("percentage_interval") or ()]
    return f"{one['arm']} reaches {aim} {reaches}" + (f" ({' to '.join(ends)})" if ends else "")


def _not_shown(detectable: float | None) -> str:
    """Return the smallest difference that would have been shown, next to one that is not."""
    return "" if detectable is None else f"; no difference is shown, of {detectable:.2f} one would have been"


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


# The study of transfer: a row per model, a column per collection.


def transfer_table(figures: Figures) -> str:
    """Return the study of transfer as Markdown: for each task the AUC, pooled and within patients, and what follows.

    The cell of the collection that a model was trained on is bold; an empty cell is explained below its table.
    """
    cells = figures["cells"]
    parts = []
    for task in dict.fromkeys(cell["task"] for cell in cells):
        own = [cell for cell in cells if cell["task"] == task]
        parts.append(f"## {task}\n")
        for title, text in _TRANSFER_COLUMNS.items():
            lines = _by_collection(own, text)
            if lines:
                parts += [f"{title}\n", *lines, ""]
        parts += _transfer_remarks(own, [one for one in figures["differences"] if one["task"] == task])
    parts += _probe_table(figures.get("probe") or [])
    parts += [
        f"- {dataset}: {count} images are among a model's training images under another name and were left out"
        for dataset, count in figures["left_out"].items()
        if count
    ]
    return "\n".join(parts) + "\n"


def _probe_table(probed: Sequence[Figures]) -> list[str]:
    """Return how well each kind of features distinguishes collections and strata, with a row per kind."""
    if not probed:
        return []
    targets = list(dict.fromkeys(one["target"] for one in probed))
    lines = ["## How well features distinguish collections and strata", "", "| AUC | " + " | ".join(targets) + " |"]
    lines.append("|---" * (len(targets) + 1) + "|")
    at = {(one["features"], one["target"]): _estimate(one, "auroc") or one["auroc_reason"] for one in probed}
    for kind in dict.fromkeys(one["features"] for one in probed):
        lines.append(f"| {kind} | " + " | ".join(at.get((kind, target), "") for target in targets) + " |")
    return [*lines, ""]


def _by_collection(cells: Sequence[Figures], text: Any) -> list[str]:
    datasets = list(dict.fromkeys(cell["dataset"] for cell in cells))
    at = {(cell["model"], cell["dataset"]): text(cell) for cell in cells}
    if not any(at.values()):
        return []
    lines = ["| | " + " | ".join(datasets) + " |", "|---" * (len(datasets) + 1) + "|"]
    for model in dict.fromkeys(cell["model"] for cell in cells):
        home = {cell["dataset"] for cell in cells if cell["model"] == model and cell["home"]}
        row = [at.get((model, dataset), "") for dataset in datasets]
        shown = [f"**{text}**" if text and d in home else text for text, d in zip(row, datasets, strict=True)]
        lines.append(f"| {model} | " + " | ".join(shown) + " |")
    return lines


def _estimate(of: Mapping[str, Any] | None, name: str, form: str = ".2f") -> str:
    """Return a figure with its interval, or the step of ten counts that it is in; empty if it is not defined."""
    if of is not None and of.get(f"{name}_within"):
        return " to ".join(f"{end:{form}}" for end in of[f"{name}_within"])
    return "" if of is None else _with_interval(of.get(name), of.get(f"{name}_interval"), form)


def _within(cell: Figures, kind: str) -> str:
    found = (cell.get("within") or {}).get(kind)
    if found is None or found.get("auroc") is None:
        return ""
    pairs = found.get("n_pairs", FEWEST_PAIRS)
    return f"too few pairs ({pairs})" if pairs < FEWEST_PAIRS else f"{_estimate(found, 'auroc')}, {pairs:,} pairs"


def _prevalence(cell: Figures) -> str:
    counts = list((cell.get("class_counts") or {}).values())
    return (
        f"{cell['n_images']} images of {cell['n_patients']} patients, {shown_count(counts[-1])} positive"
        if len(counts) == 2
        else ""
    )


def _recalibration(cell: Figures) -> str:
    found = cell.get("recalibration")
    return f"{_estimate(found, 'ece_before', '.3f')}, then {_estimate(found, 'ece_after', '.3f')}" if found else ""


_TRANSFER_COLUMNS = {
    "AUC of all images, with the 95 % interval by patient:": lambda cell: _estimate(cell, "auroc"),
    "AUC of the breasts or exams that a head over features scores itself:": lambda cell: _estimate(
        cell.get("own_level"), "auroc"
    ),
    "AUC within patients, the diseased breast against the other one:": lambda cell: _within(cell, "patient"),
    "AUC within strata:": lambda cell: _within(cell, "stratum"),
    "AUC at home minus this one:": lambda cell: _estimate(cell, "drop", "+.2f"),
    "Sensitivity at the threshold that validation at home set for 95 % specificity:": lambda cell: _estimate(
        cell.get("operating_point"), "sensitivity"
    ),
    "Specificity there:": lambda cell: _estimate(cell.get("operating_point"), "specificity"),
    "Calibration error, then after recalibration on a part of the patients, who are left out:": _recalibration,
    "Images:": _prevalence,
}


def _transfer_remarks(cells: Sequence[Figures], differences: Sequence[Figures]) -> list[str]:
    lines = []
    for one in (one for one in differences if one["difference"] is not None):
        text = f"- {one['dataset']}: {one['second']} minus {one['first']}: {_estimate(one, 'difference', '+.3f')}"
        text += f", p {one['p_adjusted']:.3g} (adjusted)" if one["p_adjusted"] is not None else ""
        text += f"; within patients {_estimate(one, 'within_patient', '+.3f')}" if one.get("within_patient") else ""
        text += _not_shown(one.get("detectable"))
        lines.append(text)
    undefined = Counter((one["dataset"], one["difference_reason"]) for one in differences if one["difference"] is None)
    lines += [
        f"- {dataset}: {count} pairs are not compared: {reason}" for (dataset, reason), count in undefined.items()
    ]
    reasons = {(cell["model"], cell["dataset"]): cell["auroc_reason"] for cell in cells if cell.get("auroc_reason")}
    lines += [f"- {model} on {dataset}: {reason}" for (model, dataset), reason in reasons.items()]
    return [*lines, ""] if lines else []


_TRANSFER_CSV = (
    *("model", "dataset", "home", "task", "n_images", "n_patients", "auroc", "auroc_low", "auroc_high", "drop"),
    *("drop_low", "drop_high", "within_patient", "within_patient_low", "within_patient_high", "auroc_reason"),
)


def transfer_csv(figures: Figures) -> str:
    """Return the AUCs of the study of transfer, one line per model, collection and task."""
    text = io.StringIO()
    writer = csv.DictWriter(text, _TRANSFER_CSV, extrasaction="ignore", lineterminator="\n")
    writer.writeheader()
    for cell in figures["cells"]:
        within = (cell.get("within") or {}).get("patient") or {}
        flat = {**cell, "within_patient": within.get("auroc"), "within_patient_interval": within.get("auroc_interval")}
        for name in ("auroc", "drop", "within_patient"):
            flat[f"{name}_low"], flat[f"{name}_high"] = flat.get(f"{name}_interval") or (None, None)
        writer.writerow({name: safe_cell(flat.get(name)) for name in _TRANSFER_CSV})
    return text.getvalue()


def plot_transfer(figures: Figures, task: str) -> Figure:
    """Draw the AUCs of a task as a heat map: models by collections, homes outlined, chance white."""
    cells = [cell for cell in figures["cells"] if cell["task"] == task]
    models, datasets = (list(dict.fromkeys(cell[name] for cell in cells)) for name in ("model", "dataset"))
    figure, (axes,) = new_figure(3.2 + 1.5 * len(datasets), 1.6 + 0.6 * len(models), 1)
    values = np.full((len(models), len(datasets)), np.nan)
    for cell in cells:
        place = models.index(cell["model"]), datasets.index(cell["dataset"])
        if cell["auroc"] is not None:
            values[place] = cell["auroc"]
        text = "–" if cell["auroc"] is None else f"{cell['auroc']:.2f}"
        axes.text(place[1], place[0], text, ha="center", va="center", fontsize=10, color=INK)
        if cell["home"]:
            outline = Rectangle(
                (place[1] - 0.48, place[0] - 0.46), 0.96, 0.92, fill=False, edgecolor=INK, linewidth=1.6
            )
            axes.add_patch(outline)
    image = axes.imshow(values, cmap="PuOr", vmin=0, vmax=1, aspect="auto", alpha=0.75)
    figure.colorbar(image, ax=axes, label="AUC")
    dress(axes, "evaluated on", "", task)
    axes.grid(False)
    axes.set(xticks=range(len(datasets)), xticklabels=datasets, yticks=range(len(models)), yticklabels=models)
    figure.supxlabel(
        "outlined: the collection that the model was trained on", fontsize=8.5, color=INK, x=0.01, ha="left"
    )
    return figure
