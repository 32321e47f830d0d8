"""The same figures for parts of the images: by view, side, density, age, vendor, and the lesion's type and size."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from .intervals import bootstrap_interval
from .metrics import UndefinedMetric, auroc_of
from .operating_points import at_operating_point

FEWEST_PATIENTS = 10
"""A cell of fewer is not shown: its figure would say little, and might say it of somebody."""

FACTS = {
    "view": "view",
    "laterality": "side",
    "density": "density",
    "age_band": "age in years",
    "vendor": "vendor",
    "lesion_type": "lesion type",
    "lesion_size": "lesion size",
}
UNKNOWN = "not known"


def subgroup_figures(
    labels: Sequence[str],
    references: np.ndarray,
    probabilities: np.ndarray,
    patients: np.ndarray,
    facts: Mapping[str, Sequence[str | None]],
    *,
    threshold: float | None = None,
    resamples: int = 2000,
    seed: int = 0,
) -> dict[str, dict[str, Any]]:
    """The AUROC of each subgroup with its interval, and what the operating point gives there.

    Args:
        labels: The task's.
        references: ``(n,)`` class numbers, all known.
        probabilities: ``(n, classes)``.
        patients: ``(n,)``.
        facts: Columns ``(n,)``; those of this module's table that tell images apart are used.
        threshold: The operating point of a task of two labels.
        resamples: Bootstrap resamples.
        seed: Of the bootstrap.

    Returns:
        For each fact ``cells``, by value in order: ``n_images``, ``n_patients``, ``class_counts``, ``auroc``,
        ``auroc_interval`` and with a threshold ``sensitivity``, ``specificity`` and their intervals, null with the
        reason where undefined; and ``not_shown``: how many values have fewer than ten patients.
    """
    found: dict[str, dict[str, Any]] = {}
    for fact in FACTS:
        values = np.array([UNKNOWN if value is None else str(value) for value in facts.get(fact, ())])
        if len(set(values.tolist())) < 2:
            continue
        cells: dict[str, Any] = {}
        not_shown = 0
        for value in sorted(set(values.tolist()), key=lambda value: (value == UNKNOWN, value)):
            inside = values == value
            if len(set(patients[inside].tolist())) < FEWEST_PATIENTS:
                not_shown += 1
                continue
            part = references[inside], probabilities[inside], patients[inside]
            cells[value] = _cell(labels, *part, threshold=threshold, resamples=resamples, seed=seed)
        found[fact] = {"cells": cells, "not_shown": not_shown}
    return found


def _cell(
    labels: Sequence[str],
    references: np.ndarray,
    probabilities: np.ndarray,
    patients: np.ndarray,
    *,
    threshold: float | None,
    resamples: int,
    seed: int,
) -> dict[str, Any]:
    counts = np.bincount(references, minlength=len(labels)).tolist()
    cell: dict[str, Any] = {
        "n_images": len(references),
        "n_patients": len(set(patients.tolist())),
        "class_counts": dict(zip(labels, counts, strict=True)),
    }
    area, scores = auroc_of(probabilities)
    draw: dict[str, Any] = {"groups": patients, "resamples": resamples, "seed": seed}
    try:
        cell["auroc"] = area(references, scores)
        low, high = bootstrap_interval(area, references, scores, **draw)
        # a point, as with classes that are apart, is no sign of certainty
        cell["auroc_interval"] = [low, high] if low < high else None
    except UndefinedMetric as error:
        cell.setdefault("auroc", None)
        missing = [label for label, count in zip(labels, counts, strict=True) if not count]
        reason = f"no image is labelled {' or '.join(missing)}" if missing else error.reason
        cell |= {"auroc_interval": None, "auroc_reason": reason}
    if len(labels) == 2 and threshold is not None and not np.isnan(scores).any():
        at = at_operating_point(references, scores, threshold, **draw)
        kept = ("sensitivity", "specificity")
        cell |= {key: value for key, value in at.items() if key.startswith(kept)}
    return cell
