"""What a grid says: each arm's AUC with its interval, what it gains over what it must beat, the labels it needs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from scipy.stats import rankdata

from ..metrics.classification import auroc_of
from ..metrics.inputs import UndefinedMetric
from ..metrics.intervals import bca, resampled, rows_of, without_each
from .cells import FROZEN_RANDOM, SCRATCH, STOCK, Arm, Cell
from .label_efficiency import CellResult, Results

RESAMPLES = 2000


@dataclass(frozen=True)
class ArmResult:
    """An arm at a share of the labels, over all its seeds and folds.

    Attributes:
        arm: The arm.
        percentage: The share.
        by_seed: The AUC of each seed.
        resampled: Its mean over the seeds on each resample of the patients, (resamples,).
        left_out: And with each patient left out.
        facts: Means over the cells: training patients, images, seconds, updates.
        reason: Why there is no AUC; empty where there is one.
    """

    arm: Arm
    percentage: float
    by_seed: tuple[float, ...]
    resampled: np.ndarray
    left_out: np.ndarray
    facts: dict[str, float]
    reason: str = ""

    @property
    def auroc(self) -> float | None:
        """The mean over the seeds."""
        return float(np.mean(self.by_seed)) if self.by_seed else None


def arm_result(results: Results, arm: Arm, percentage: float, seeds: int, folds: int) -> ArmResult:
    """Gathers an arm's cells.

    With folds, each image is scored once a seed; scores are ranked within their fold first, so that a fold whose scores
    lie higher as a whole does not count as better. The AUC is the macro average where there are more than two classes.
    """
    areas, draws, without, facts, reason = [], [], [], [], ""
    for seed in range(seeds):
        of_folds = [results.load(Cell(arm, percentage, seed, fold)) for fold in (range(folds) if folds else (-1,))]
        whole = [one for one in of_folds if isinstance(one, CellResult)]
        if len(whole) < len(of_folds):
            reason = next((one for one in of_folds if isinstance(one, str)), "not run yet")
            continue
        labels = np.concatenate([one.labels for one in whole])
        patients = np.concatenate([one.patients for one in whole])
        scores = np.concatenate([_ranked(one.probabilities) if folds else one.probabilities for one in whole])
        metric, values = auroc_of(scores)
        try:
            areas.append(metric(labels, values))
            rows = {"": rows_of(metric)}
            draws.append(resampled(rows, labels, values, groups=patients, resamples=RESAMPLES)[""])
            without.append(without_each(rows, labels, values, groups=patients)[""])
        except UndefinedMetric as error:
            reason = error.reason
            continue
        facts += [one.facts for one in whole]
    if reason and areas:
        reason = f"of {len(areas)} seeds alone: {reason}"
    mean_draws, mean_without = (np.mean(parts, axis=0) if parts else np.empty(0) for parts in (draws, without))
    return ArmResult(arm, percentage, tuple(areas), mean_draws, mean_without, _means(facts), reason)


def _ranked(probabilities: np.ndarray) -> np.ndarray:
    ranks: np.ndarray = rankdata(probabilities, axis=0) / len(probabilities)
    return ranks


def _means(facts: Sequence[Mapping[str, Any]]) -> dict[str, float]:
    names = ("train_patients", "train_images", "updates", "seconds")
    known = [name for name in names if facts and all(name in one for one in facts)]
    return {name: float(np.mean([one[name] for one in facts])) for name in known}


def interval(one: ArmResult, other: ArmResult | None = None) -> tuple[float, float] | None:
    """The BCa interval of an arm's AUC, or of by how much it is greater than another's; ``None``: there is none."""
    if not one.by_seed or (other is not None and not other.by_seed):
        return None
    draws, value, left_out = one.resampled, _mean(one), one.left_out
    if other is not None:
        draws, value, left_out = draws - other.resampled, value - _mean(other), left_out - other.left_out
    try:
        return bca(draws, value, left_out, len(left_out))
    except UndefinedMetric:
        return None


def reference_of(arm: Arm) -> Arm | None:
    """What an arm is compared with: the same without what its encoder was pre-trained on."""
    if arm.tune == "baseline" or arm.init in (SCRATCH, STOCK, FROZEN_RANDOM):
        return None
    init = FROZEN_RANDOM if arm.tune == "head" else SCRATCH
    return Arm(init, arm.tune, arm.pool, arm.lesion_loss, arm.semi_supervised)


def is_baseline(arm: Arm) -> bool:
    """Whether an arm is there to be beaten."""
    return arm.tune == "baseline" or arm.init in (STOCK, FROZEN_RANDOM)


def summarise(
    results: Results, arms: Sequence[Arm], percentages: Sequence[float], seeds: int, folds: int
) -> list[dict[str, Any]]:
    """One row an arm and share, as JSON takes it.

    Each has ``arm``, ``percentage``, ``auroc``, ``interval``, ``by_seed``, and the counts; ``gain`` and
    ``gain_interval`` over its reference, and with ``unlabelled_`` before their names those over the same arm without
    unlabelled images; ``best_baseline``, and ``beats_baselines``: whether the interval of the paired difference from it
    lies above 0; or ``reason``.
    """
    found = {(arm, p): arm_result(results, arm, p, seeds, folds) for arm in arms for p in percentages}
    rows = []
    for (arm, percentage), one in found.items():
        row: dict[str, Any] = {"arm": arm.name, "tune": arm.tune, "baseline": is_baseline(arm)}
        row |= {"percentage": percentage, "auroc": one.auroc, "interval": interval(one)}
        row |= {"by_seed": list(one.by_seed), **one.facts}
        if one.reason:
            row["reason"] = one.reason
        other = reference_of(arm)
        row |= _gain(one, None if other is None else found.get((other, percentage)))
        if arm.semi_supervised != "none":
            labelled = found.get((replace(arm, semi_supervised="none"), percentage))
            row |= {f"unlabelled_{name}": value for name, value in _gain(one, labelled).items()}
        beside = [tried for (_, p), tried in found.items() if p == percentage]
        rivals = [tried for tried in beside if is_baseline(tried.arm) and tried.by_seed]
        if not is_baseline(arm) and one.by_seed and rivals:
            best = max(rivals, key=_mean)
            apart = interval(one, best)
            row |= {"best_baseline": best.arm.name, "best_baseline_auroc": best.auroc}
            row["beats_baselines"] = apart is not None and apart[0] > 0
        rows.append(row)
    return rows


def _gain(one: ArmResult, reference: ArmResult | None) -> dict[str, Any]:
    if reference is None or not one.by_seed or not reference.by_seed:
        return {}
    gain = _mean(one) - _mean(reference)
    return {"reference": reference.arm.name, "gain": gain, "gain_interval": interval(one, reference)}


def _mean(one: ArmResult) -> float:
    return float(np.mean(one.by_seed))


def labels_needed(rows: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """With how many labels each pre-trained arm reaches what its reference reaches with all.

    Returns:
        For each arm that has a reference: ``arm``, ``reference``, ``of`` (the reference's AUC at the largest share),
        and ``percentage``, the smallest share measured at which the arm's AUC is at least that; ``None``: at none.
    """
    by_arm: dict[str, list[Mapping[str, Any]]] = {}
    for row in rows:
        by_arm.setdefault(row["arm"], []).append(row)
    found = []
    for name, own in by_arm.items():
        reference = next((row["reference"] for row in own if "reference" in row), None)
        if reference is None:
            continue
        most = max(by_arm[reference], key=lambda row: float(row["percentage"]))
        reached = [
            row["percentage"]
            for row in own
            if row["auroc"] is not None and most["auroc"] is not None and row["auroc"] >= most["auroc"]
        ]
        found.append(
            {"arm": name, "reference": reference, "of": most["auroc"], "at": most["percentage"],
             "percentage": min(reached, default=None)}
        )  # fmt: skip
    return found
