"""Who was evaluated, and who was left out and why."""

from __future__ import annotations

import csv
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import datasets
import numpy as np

from ..scored import Scored
from ..subgroups import FACTS, FEWEST_PATIENTS, UNKNOWN

if TYPE_CHECKING:
    from ...data import MammoTable

_MOST_REASONS = 8


def cohort_table(images: Scored, tasks: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """Counts of the evaluated images by label, view, side, age, vendor and lesion.

    Returns:
        Rows of ``of``, ``value``, ``images``, ``patients``; the last two are ``None`` where a value other than "not
        known" has fewer than ten patients.
    """
    columns: dict[str, list[str | None]] = {
        str(task["name"]): [
            task["labels"][label] if label >= 0 else None for label in np.asarray(images.labels)[:, number]
        ]
        for number, task in enumerate(tasks)
    }
    columns |= {FACTS[fact]: list(images.facts[fact]) for fact in FACTS if fact in images.facts and fact not in columns}
    order = {str(task["name"]): list(task["labels"]) for task in tasks}
    rows = []
    for name, values in columns.items():
        known = {value for value in values if value is not None}
        ordered = [value for value in order.get(name, sorted(known)) if value in known]
        for value in [*ordered, *([None] if None in values else [])]:
            patients = {patient for patient, one in zip(images.patients, values, strict=True) if one == value}
            shown = value is None or len(patients) >= FEWEST_PATIENTS
            rows.append(
                {
                    "of": name,
                    "value": UNKNOWN if value is None else value,
                    "images": values.count(value) if shown else None,
                    "patients": len(patients) if shown else None,
                }
            )
    return rows


def flow(
    table: MammoTable, evaluated: datasets.Dataset, split: str, unreadable: Sequence[str] = ()
) -> list[dict[str, Any]]:
    """From the collection to the evaluated images.

    Args:
        table: The whole collection, with its splits.
        evaluated: The prepared images that were scored.
        split: Theirs.
        unreadable: Why images of this split could not be prepared, a reason each.

    Returns:
        Steps of ``step``, ``images``, ``patients`` and ``reasons``: from a reason to how many it left out. Sources are
        not named: a path may name a person.
    """
    of_split = table if split == "all" else table.where(split=split)
    readable = len(of_split) - len(unreadable)
    steps: list[dict[str, Any]] = [
        _step("found in the collection", len(table), table.column("patient"), [r.reason for r in table.rejected]),
        _step(
            "of all splits" if split == "all" else f"of the {split} split", len(of_split), of_split.column("patient")
        ),
        {
            **_step("readable", readable, [], unreadable),
            "patients": None,
        },
        _step("with a known label of any task: evaluated", len(evaluated), evaluated["patient"]),
    ]
    return steps


def unreadable(tried: MammoTable, prepared: datasets.Dataset, folder: str | Path) -> list[str]:
    """Why rows are not among the prepared images.

    Args:
        tried: The rows that were to be prepared.
        prepared: What came of them, or of more.
        folder: Where, with ``rejected.csv``.

    Returns:
        A reason for each image that is missing.
    """
    there, reasons = set(prepared["image_id"]), dict(read_rejected(folder))
    rows = zip(tried.column("image_id"), tried.column("path"), strict=True)
    return [reasons.get(path, "cannot be read") for image, path in rows if image not in there]


def read_rejected(folder: str | Path) -> list[tuple[str, str]]:
    """What ``rejected.csv`` of a prepared folder on this machine says; nothing where there is none."""
    path = Path(folder) / "rejected.csv"
    if not path.is_file():
        return []
    with path.open(encoding="utf-8", newline="") as file:
        return [(row["source"], row["reason"]) for row in csv.DictReader(file)]


def _step(step: str, images: int, patients: Sequence[str], reasons: Sequence[str] = ()) -> dict[str, Any]:
    counts = Counter(reasons).most_common()
    shown = dict(counts[:_MOST_REASONS])
    if len(counts) > _MOST_REASONS:
        shown["other reasons"] = sum(count for _, count in counts[_MOST_REASONS:])
    return {"step": step, "images": images, "patients": len(set(patients)), "left_out": shown}
