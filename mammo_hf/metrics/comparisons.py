"""Comparison of two models on the same images: DeLong's for AUCs, and a permutation by patient for any metric.

DeLong, DeLong and Clarke-Pearson (Biometrics 1988) take every image as independent. If a patient has several, the
structural components are summed over the patient first (Obuchowski, Biometrics 1997); with one image per patient that
is DeLong's own variance. Components come from mid-ranks, in n log n (Sun and Xu, IEEE Signal Processing Letters 2014).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike
from scipy import stats

from ..errors import UsageError
from .inputs import UndefinedMetric, Weighted, check_binary
from .intervals import FEWEST_OF_A_CLASS, Groups, Interval, Metric, group_codes, rows_of


@dataclass(frozen=True)
class DeLong:
    """AUC, or difference of two AUCs, with its standard error.

    Attributes:
        value: AUC in [0, 1], or the second AUC minus the first.
        standard_error: Standard error of the value.
        interval: Normal interval at the level asked for, cut at the limits of an AUC.
        z: z statistic of a difference against 0; ``None`` for one AUC, and if the models rank alike.
        p: Two-sided p-value of ``z``.
    """

    value: float
    standard_error: float
    interval: Interval
    z: float | None = None
    p: float | None = None


def delong(references: ArrayLike, scores: ArrayLike, *, groups: Groups | None = None, level: float = 0.95) -> DeLong:
    """Return the AUC with DeLong's standard error and interval.

    Args:
        references: ``(n,)`` of 0 and 1.
        scores: ``(n,)`` scores; higher means more probably positive.
        groups: ``(n,)`` patient keys; ``None``: every image is a patient of its own.
        level: Coverage of the interval, between 0 and 1.

    Raises:
        UndefinedMetric: In the cases of `auroc`, or fewer than `FEWEST_OF_A_CLASS` patients have images of a class.
        DataError: In the cases of `auroc`.
        UsageError: ``level`` is out of range.
    """
    areas, covariance = _areas(references, [scores], groups)
    return _with_interval(areas[0], covariance[0, 0], level, (0.0, 1.0))


def paired_delong(
    references: ArrayLike, first: ArrayLike, second: ArrayLike, *, groups: Groups | None = None, level: float = 0.95
) -> DeLong:
    """Return the second model's AUC minus the first's on the same images, with DeLong's test.

    Args:
        references: ``(n,)`` of 0 and 1.
        first: ``(n,)`` scores of one model.
        second: ``(n,)`` scores of the other, for the same images.
        groups: ``(n,)`` patient keys; ``None``: every image is a patient of its own.
        level: Coverage of the interval, between 0 and 1.

    Raises:
        UndefinedMetric: In the cases of `delong`.
        DataError: In the cases of `delong`.
        UsageError: In the cases of `delong`.
    """
    areas, covariance = _areas(references, [first, second], groups)
    variance = covariance[0, 0] + covariance[1, 1] - 2 * covariance[0, 1]
    found = _with_interval(areas[1] - areas[0], variance, level, (-1.0, 1.0))
    if found.standard_error == 0:
        return found
    z = found.value / found.standard_error
    return DeLong(found.value, found.standard_error, found.interval, z, float(2 * stats.norm.sf(abs(z))))


def paired_permutation(
    metric: Metric,
    references: ArrayLike,
    first: ArrayLike,
    second: ArrayLike,
    *,
    groups: Groups,
    permutations: int = 2000,
    seed: int = 0,
) -> float:
    """Return the two-sided p-value that two models have the same metric, by exchanging scores patient by patient.

    Both must be on one scale, such as probabilities of the same kind, for an exchange to be meaningful.

    Args:
        metric: Function of ``(references, scores)``.
        references: ``(n,)`` references of the metric.
        first: Scores of one model, ``(n,)`` or ``(n, classes)``.
        second: Scores of the other model, for the same images.
        groups: ``(n,)`` patient keys.
        permutations: Number of random exchanges.
        seed: Seed of the exchanges.

    Returns:
        (1 + exchanges with at least the difference found) / (1 + exchanges), above 0.

    Raises:
        UndefinedMetric: The metric is undefined on the data.
        DataError: The lengths differ, or an image has no group.
        UsageError: ``permutations`` is out of range.
    """
    if permutations < 1:
        raise UsageError(f"permutations {permutations}", source="paired_permutation", remedy="ask for at least 1")
    truth, one, other = np.asarray(references), np.asarray(first), np.asarray(second)
    found = abs(metric(truth, other) - metric(truth, one))
    codes, n_groups = group_codes(groups, len(truth))
    both, pooled = np.concatenate([truth, truth]), np.concatenate([one, other])
    exchanged = np.random.default_rng(seed).integers(0, 2, (permutations, n_groups))[:, codes].astype(np.float64)
    # After an exchange a model is a choice among both models' scores: the pooled scores, half of them with weight 0.
    rows, block, extreme = rows_of(metric), max(1, 100_000 // len(both)), 0
    for start in range(0, permutations, block):
        part = exchanged[start : start + block]
        ours = rows(Weighted(both, pooled, np.concatenate([1 - part, part], axis=1)))
        theirs = rows(Weighted(both, pooled, np.concatenate([part, 1 - part], axis=1)))
        extreme += int(np.count_nonzero(np.abs(theirs - ours) >= found - 1e-12))
    return (1 + extreme) / (1 + permutations)


def _areas(references: ArrayLike, models: list[ArrayLike], groups: Groups | None) -> tuple[np.ndarray, np.ndarray]:
    """Return the AUCs ``(models,)`` and their covariance ``(models, models)``."""
    checked = [check_binary(references, scores) for scores in models]
    positive = checked[0][0]
    keys, n_groups = group_codes(np.arange(positive.size) if groups is None else groups, positive.size)
    components = [_components(positive, scores) for _, scores in checked]
    areas = np.array([of_positives.mean() for of_positives, _ in components])
    sums = []
    for part, members in enumerate((positive, ~positive)):
        if len(np.unique(keys[members])) < FEWEST_OF_A_CLASS:
            raise UndefinedMetric(f"fewer than {FEWEST_OF_A_CLASS} patients with images of either class")
        centred = [pair[part] - area for pair, area in zip(components, areas, strict=True)]
        sums.append(np.stack([np.bincount(keys[members], weights=c, minlength=n_groups) for c in centred]))
    counts = positive.sum(), (~positive).sum()
    scaled = []
    for total, members, count in zip(sums, (positive, ~positive), counts, strict=True):
        holding = len(np.unique(keys[members]))
        scaled.append(total @ total.T * holding / (holding - 1) / count**2)
    cross = sums[0] @ sums[1].T * n_groups / (n_groups - 1) / (counts[0] * counts[1])
    return areas, scaled[0] + scaled[1] + cross + cross.T


def _components(positive: np.ndarray, scores: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return per positive the fraction of negatives below it, per negative that of positives above; ties by half."""
    ranks = stats.rankdata(scores)
    among_positives, among_negatives = stats.rankdata(scores[positive]), stats.rankdata(scores[~positive])
    m, n = positive.sum(), (~positive).sum()
    return (ranks[positive] - among_positives) / n, 1 - (ranks[~positive] - among_negatives) / m


def _with_interval(value: float, variance: float, level: float, limits: Interval) -> DeLong:
    if not 0 < level < 1:
        raise UsageError(f"level {level}", source="delong", remedy="ask for a level between 0 and 1")
    error = float(np.sqrt(max(variance, 0.0)))
    reach = float(stats.norm.ppf((1 + level) / 2)) * error
    interval = max(float(value) - reach, limits[0]), min(float(value) + reach, limits[1])
    return DeLong(float(value), error, interval)
