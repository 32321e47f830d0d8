"""A split in numbers: patients and images on each side, their classes, views and vendors, and who moved."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, Any

from .schema import AGE_BANDS, SPLITS

if TYPE_CHECKING:
    from .table import MammoTable

FACTS = ("view", "laterality", "vendor", "age_band", "source")
UNKNOWN = "not known"


def split_report(table: MammoTable) -> dict[str, Any]:
    """Counts of a table's split.

    Returns:
        ``splits``: from each split that occurs to its patients, exams, breasts and images; ``tasks``: from each task
        and label to the images by split, with the patients by their gravest label; ``facts``: from each of view,
        laterality, vendor, age band and source to the images by value and split; ``moved``: patients (hashes) with
        before, after and reason; ``rejected``: how many files and table rows were left out; ``notes``.
    """
    splits = table.column("split")
    present = [split for split in SPLITS if split in splits]
    exams, breasts = table.by_exam(), table.by_breast()
    sides = {
        split: {
            "patients": len({p for p, s in zip(table.column("patient"), splits, strict=True) if s == split}),
            "exams": sum(splits[group.rows[0]] == split for group in exams),
            "breasts": sum(splits[group.rows[0]] == split and group.laterality is not None for group in breasts),
            "images": splits.count(split),
        }
        for split in present
    }
    facts = {}
    for name in FACTS:
        counts = _cross(table.column(name), splits, present, AGE_BANDS if name == "age_band" else None)
        if set(counts) != {UNKNOWN}:
            facts[name] = counts
    return {
        "splits": sides,
        "tasks": {task["name"]: _task(table, task, splits, present) for task in table.tasks},
        "facts": facts,
        "moved": [moved._asdict() for moved in table.moved],
        "rejected": len(table.rejected),
        "notes": list(table.notes),
    }


def _task(table: MammoTable, task: dict[str, Any], splits: list[str], present: list[str]) -> dict[str, Any]:
    labels, values = task["labels"], table.column(task["name"])
    rank = {label: place for place, label in enumerate(labels)}
    worst: dict[tuple[str, str], str | None] = {}
    for patient, split, label in zip(table.column("patient"), splits, values, strict=True):
        before = worst.setdefault((patient, split), label)
        if label is not None and (before is None or rank[label] > rank[before]):
            worst[patient, split] = label
    patients = _cross(list(worst.values()), [split for _, split in worst], present, labels)
    return {"images": _cross(values, splits, present, labels), "patients": patients}


def _cross(
    values: list[str | None], splits: list[str], present: list[str], order: Any = None
) -> dict[str, dict[str, int]]:
    """From each value, in the given order or by name, and last what is not known, to the counts by split."""
    counts = Counter(zip(values, splits, strict=True))
    known = {value for value in values if value is not None}
    ordered = sorted(known) if order is None else [value for value in order if value in known]
    table = {value: {split: counts[value, split] for split in present} for value in ordered}
    if None in values:
        table[UNKNOWN] = {split: counts[None, split] for split in present}
    return table
