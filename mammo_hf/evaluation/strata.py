"""AUC within strata: what remains of an AUC if a shortcut that distinguishes the strata does not help.

A scanner, a site or the tone of a film often goes with the label, and a model may use just that. It does not help on
pairs of a positive and a negative image of the same stratum. The hardest comparison is the one within a patient: the
diseased breast and the same woman's other breast, in the same view.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np

from ..metrics.classification import auroc, auroc_within, pairs_within
from ..metrics.inputs import UndefinedMetric, Weighted
from ..metrics.intervals import Metric, bca, resampled, rows_of, too_few_patients, without_each

if TYPE_CHECKING:
    from .classifier import TaskScores

PATIENT = "patient"
OF_THE_IMAGE = ("stratum", "vendor", "source")  # facts whose values are strata
POOLED = "pooled"
COMPARISONS = (POOLED, "within_patient", "within_stratum", "within_vendor", "within_source")
FEWEST_PAIRS = 10  # a stratum with fewer pairs has no figure of its own
Facts = Mapping[str, Sequence[str | None]]


def within_strata(scores: TaskScores, facts: Facts, **bootstrap: int) -> dict[str, dict[str, Any]]:
    """Return the AUC within the strata of each kind that these images have: patient, stratum, vendor, source.

    Args:
        scores: Scores of a task with two labels; there is nothing to compute for others.
        facts: Columns ``(n,)`` by fact. Pairs within a patient are of the same view if the views are known.
        bootstrap: Arguments ``resamples`` and ``seed`` of the intervals.

    Returns:
        By kind ``auroc``, ``auroc_interval``, ``n_pairs``, ``n_strata`` (with a pair), ``pooled_minus_within`` and
        ``pooled_minus_within_interval``; for strata that are not patients also ``by_stratum`` (``auroc``,
        ``auroc_interval`` and ``n_pairs`` of each with ten pairs or more, the worst first), ``gap`` (the AUC within
        strata minus the worst one's) and ``few_pairs`` (value to number of pairs). What is not defined on these images
        is null with its reason. A kind is left out if all images are of one stratum.
    """
    if len(scores.labels) != 2:
        return {}
    found = {PATIENT: _within(scores, patient_strata(scores.patients, facts.get("view")), nested=True, **bootstrap)}
    for kind in OF_THE_IMAGE:
        values = np.array(["" if value is None else str(value) for value in facts.get(kind, ())])
        if len(set(values.tolist())) < 2:
            continue
        found[kind] = _within(scores, np.unique(values, return_inverse=True)[1], nested=False, **bootstrap)
        found[kind] |= _by_stratum(scores, values, found[kind]["auroc"], **bootstrap)
    return found


def shortcut_warnings(within: Mapping[str, Mapping[str, Any]]) -> list[str]:
    """Return a sentence for each kind of strata within which the AUC is lower than the pooled one."""
    warnings = []
    for kind, found in within.items():
        low, high = found.get("pooled_minus_within_interval") or (0.0, 0.0)
        if low > 0:
            warnings.append(
                f"the AUC within {'patients' if kind == PATIENT else f'values of {kind}'} is lower by "
                f"{found['pooled_minus_within']:.2f} ({low:.2f} to {high:.2f}) than the pooled one: a part of the "
                "pooled AUC may come from what distinguishes them, not from the breast"
            )
    return warnings


def patient_strata(patients: Sequence[str] | np.ndarray, views: Sequence[str | None] | None = None) -> np.ndarray:
    """Return the number (n,) of each image's patient, or of the patient's view if views are given."""
    keys = [f"{patient} {(views[i] or '') if views else ''}" for i, patient in enumerate(patients)]
    return np.unique(keys, return_inverse=True)[1]


def _within(scores: TaskScores, strata: np.ndarray, *, nested: bool, **bootstrap: int) -> dict[str, Any]:
    truth, values = scores.references, scores.after[:, 1]
    whole = Weighted(truth, values, np.ones((1, len(truth))))
    pairs = pairs_within(whole, strata)[1][0] if len(truth) else np.zeros(0)
    found: dict[str, Any] = {"n_pairs": int(pairs.sum()), "n_strata": int((pairs > 0).sum())}
    try:
        metrics: dict[str, Metric] = {"auroc": partial(auroc_within, strata=strata, nested=nested), "pooled": auroc}
        own = {name: metric(truth, values) for name, metric in metrics.items()}
        rows = {name: rows_of(metric) for name, metric in metrics.items()}
        groups = scores.patients
        draws = resampled(rows, truth, values, groups=groups, **bootstrap)
        left = without_each(rows, truth, values, groups=groups)
    except UndefinedMetric as error:
        undefined = dict.fromkeys(("auroc", "pooled_minus_within", "auroc_interval", "pooled_minus_within_interval"))
        return found | undefined | {"auroc_reason": error.reason}
    tables: list[dict[str, Any]] = [own, draws, left]
    for table in tables:
        table["pooled_minus_within"] = table["pooled"] - table["auroc"]
    too_few = too_few_patients(metrics["auroc"], truth, groups)
    for name in ("auroc", "pooled_minus_within"):
        found[name] = float(own[name])
        found |= _interval(name, draws[name], own[name], left[name], len(set(groups.tolist())), too_few)
    return found


def _interval(
    name: str, draws: np.ndarray, own: float, left: np.ndarray, patients: int, too_few: UndefinedMetric | None
) -> dict[str, Any]:
    try:
        if too_few is not None:
            raise too_few
        return {f"{name}_interval": list(bca(draws, own, left, patients))}
    except UndefinedMetric as error:
        return {f"{name}_interval": None, f"{name}_interval_reason": error.reason}


def _by_stratum(scores: TaskScores, values: np.ndarray, within: float | None, **bootstrap: int) -> dict[str, Any]:
    figures: dict[str, dict[str, Any]] = {}
    few: dict[str, int] = {}
    for value in sorted(set(values.tolist())):
        own = _part(scores, values == value)
        pairs = int((own.references == 1).sum() * (own.references == 0).sum())
        name = value or "not known"
        if pairs < FEWEST_PAIRS:
            few[name] = pairs
            continue
        part = _within(own, np.zeros(len(own.references), np.intp), nested=False, **bootstrap)
        figures[name] = {key: part[key] for key in ("auroc", "auroc_interval", "n_pairs")}
    ordered = dict(sorted(figures.items(), key=lambda item: item[1]["auroc"]))
    worst = next(iter(ordered.values()), None)
    gap = None if worst is None or within is None else within - worst["auroc"]
    return {"by_stratum": ordered, "few_pairs": few, "gap": gap}


def _part(scores: TaskScores, chosen: np.ndarray) -> TaskScores:
    columns = ("references", "before", "after", "patients", "indices")
    return type(scores)(scores.labels, **{name: getattr(scores, name)[chosen] for name in columns})
