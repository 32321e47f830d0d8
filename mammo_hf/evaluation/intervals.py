"""Confidence intervals by bootstrap over patients.

Images of one patient resemble one another, so it is patients that are drawn with replacement, with all their images
(the cluster bootstrap; Rutter, Academic Radiology 2000). An interval over single images would be too narrow.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

import numpy as np
from numpy.typing import ArrayLike

from ..errors import DataError, UsageError
from .metrics import UndefinedMetric, auroc, macro_auroc

Metric = Callable[[np.ndarray, np.ndarray], float]

# weights held at once (resamples x images): a few arrays of this many float64 stay under 150 MB
_BLOCK = 2_000_000


def bootstrap_interval(
    metric: Metric,
    references: ArrayLike,
    scores: ArrayLike,
    *,
    groups: Sequence[object] | np.ndarray,
    resamples: int = 2000,
    seed: int = 0,
    level: float = 0.95,
) -> tuple[float, float]:
    """Percentile bootstrap interval of a metric, drawing groups (patients) with replacement.

    AUROC, macro AUROC and the mean score are computed for all resamples at once; any other metric is called on each
    resample. Both ways see the same resamples for the same seed. Resamples on which the metric is undefined are left
    out. The interval covers less than its level below about 50 patients, and is a point where every resample gives the
    same value (perfect separation).

    Args:
        metric: A function of ``(references, scores)``, such as :func:`~mammo_hf.evaluation.auroc`.
        references: ``(n,)``.
        scores: ``(n,)`` or ``(n, classes)``, whatever the metric takes.
        groups: ``(n,)`` patient keys: strings or integers.
        resamples: How often the patients are drawn.
        seed: Seed of the draws.
        level: Coverage asked for, between 0 and 1.

    Returns:
        ``(low, high)``.

    Raises:
        UndefinedMetric: The metric is undefined on the data, on more than half of the resamples, or there is one group.
        DataError: The lengths differ or a group is missing.
        UsageError: ``resamples`` or ``level`` is out of range.
    """
    if resamples < 1 or not 0 < level < 1:
        raise UsageError(
            f"resamples {resamples}, level {level}",
            source="bootstrap_interval",
            remedy="ask for at least 1 resample and a level between 0 and 1",
        )
    truth, values = np.asarray(references), np.asarray(scores)
    metric(truth, values)
    codes, n_groups = _group_codes(groups, len(truth))
    if n_groups < 2:
        raise UndefinedMetric("all images are of one patient, so no interval can be drawn")
    of_resamples = _WEIGHTED[metric] if metric in _WEIGHTED else _one_by_one(metric)
    block = max(1, _BLOCK // len(truth))
    results = np.concatenate(
        [
            of_resamples(truth, values, counts[:, codes])
            for counts in _draws(n_groups, resamples, block, np.random.default_rng(seed))
        ]
    )
    defined = results[~np.isnan(results)]
    if 2 * defined.size < resamples:
        raise UndefinedMetric(
            f"undefined on {resamples - defined.size} of {resamples} resamples of {n_groups} patients"
        )
    low, high = np.quantile(defined, [(1 - level) / 2, (1 + level) / 2])
    return float(low), float(high)


def _group_codes(groups: Sequence[object] | np.ndarray, n: int) -> tuple[np.ndarray, int]:
    """Each image's group as a number, by the groups' sorted order so that the order of rows does not matter."""
    keys = list(groups)
    if len(keys) != n:
        raise DataError(f"{len(keys)} groups for {n} references", source="groups")
    if any(key is None or key != key for key in keys):
        raise DataError("an image without a patient", source="groups", remedy="give every image its patient key")
    names, codes = np.unique(np.asarray(keys), return_inverse=True)
    return codes, len(names)


def _draws(n_groups: int, resamples: int, block: int, rng: np.random.Generator) -> Iterator[np.ndarray]:
    """How often each group was drawn: float64 ``(up to block, n_groups)``, rows summing to ``n_groups``."""
    for start in range(0, resamples, block):
        rows = min(block, resamples - start)
        drawn = rng.integers(0, n_groups, size=(rows, n_groups))
        drawn += n_groups * np.arange(rows)[:, None]
        yield np.bincount(drawn.ravel(), minlength=rows * n_groups).reshape(rows, n_groups).astype(np.float64)


def _weighted_auroc(references: np.ndarray, scores: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """AUROC for each row of image weights ``(resamples, n)``; NaN where a row has one class only.

    With the scores sorted once, the weight of the negatives below (ties by half) each positive is read off one running
    sum, and the resample's AUROC is its product with the positives' weights.
    """
    order = np.argsort(scores, kind="stable")
    positive, ordered = (references == 1)[order], scores[order]
    negatives, positives = ordered[~positive], ordered[positive]
    running = np.zeros((len(weights), negatives.size + 1))
    np.cumsum(weights[:, order[~positive]], axis=1, out=running[:, 1:])
    below = running[:, np.searchsorted(negatives, positives, side="left")]
    below += running[:, np.searchsorted(negatives, positives, side="right")]
    of_positives = weights[:, order[positive]]
    pairs = of_positives.sum(axis=1) * running[:, -1]
    above = np.einsum("rp,rp->r", of_positives, below) / 2
    return np.divide(above, pairs, out=np.full(len(weights), np.nan), where=pairs > 0)


def _weighted_macro_auroc(references: np.ndarray, scores: np.ndarray, weights: np.ndarray) -> np.ndarray:
    by_class = [_weighted_auroc(references == k, scores[:, k], weights) for k in range(scores.shape[1])]
    return np.mean(by_class, axis=0)


def _one_by_one(metric: Metric) -> Callable[[np.ndarray, np.ndarray, np.ndarray], np.ndarray]:
    """The metric on each resample, written out as the images it holds; NaN where the metric is undefined."""

    def of_resamples(references: np.ndarray, scores: np.ndarray, weights: np.ndarray) -> np.ndarray:
        results = np.full(len(weights), np.nan)
        for row, repeats in enumerate(weights.astype(np.int64)):
            chosen = np.repeat(np.arange(len(references)), repeats)
            try:
                results[row] = metric(references[chosen], scores[chosen])
            except UndefinedMetric:
                continue
        return results

    return of_resamples


def mean_score(references: np.ndarray, scores: np.ndarray) -> float:
    """The mean of ``scores``, as a metric: for figures that each image has by itself, without a reference."""
    return float(np.mean(scores))


def _weighted_mean(references: np.ndarray, scores: np.ndarray, weights: np.ndarray) -> np.ndarray:
    means: np.ndarray = weights @ scores / weights.sum(axis=1)
    return means


_WEIGHTED: dict[Metric, Callable[[np.ndarray, np.ndarray, np.ndarray], np.ndarray]] = {
    auroc: _weighted_auroc,
    macro_auroc: _weighted_macro_auroc,
    mean_score: _weighted_mean,
}
