"""A grid's summary as Markdown and CSV."""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping, Sequence
from typing import Any

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
