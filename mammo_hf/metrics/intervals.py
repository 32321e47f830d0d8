"""Confidence intervals by bootstrap over patients.

Images of one patient resemble one another, so it is patients that are drawn with replacement, with all their images
(the cluster bootstrap; Rutter, Academic Radiology 2000). An interval over single images would be too narrow.

Intervals are Efron's BCa (Journal of the American Statistical Association 1987), corrected for the bias of the
resamples and for a spread that changes with the value. Plain percentiles cover too little if an AUC is high or
patients are few, and miss on one side; ``benchmarks/bench_intervals.py`` prints both.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from functools import partial

import numpy as np
from numpy.typing import ArrayLike
from scipy.special import ndtr, ndtri

from ..errors import DataError, UsageError
from .classification import NEED_BOTH_CLASSES, ROWS
from .inputs import Ranking, Rows, UndefinedMetric, Weighted

Metric = Callable[..., float]
Groups = Sequence[object] | np.ndarray
Interval = tuple[float, float]
FEW_PATIENTS = 50  # below this an interval covers less than it says; see benchmarks/bench_intervals.py
# With fewer patients of a class there is no interval: that of a classifier at chance would too often exclude 0.5
FEWEST_OF_A_CLASS = 5
_BLOCK = 100_000  # weights held at once (resamples x images): few enough to stay in the processor's cache
_PARTS = 500  # parts of the patients that are left out in turn: the acceleration does not need more


def bootstrap_interval(
    metric: Metric,
    references: ArrayLike,
    scores: ArrayLike,
    *,
    groups: Groups,
    resamples: int = 2000,
    seed: int = 0,
    level: float = 0.95,
) -> Interval:
    """Return the BCa bootstrap interval of a metric, drawing groups (patients) with replacement.

    The metrics of this package, also with options bound by ``functools.partial``, and `mean_score` are computed for all
    resamples at once; any other is called on each resample. Both use the same resamples for the same seed.
    Resamples on which the metric is undefined are left out. The interval covers less than its level below about 50
    patients, and is a point if every resample gives the same value (perfect separation).

    Args:
        metric: Function of ``(references, scores)``, such as :func:`~mammo_hf.metrics.classification.auroc`.
        references: ``(n,)`` references of the metric.
        scores: ``(n,)`` or ``(n, classes)`` scores, as the metric takes them.
        groups: ``(n,)`` patient keys: strings, integers, or tuples such as (site, patient).
        resamples: Number of times that the patients are drawn.
        seed: Seed of the draws.
        level: Coverage of the interval, between 0 and 1.

    Returns:
        ``(low, high)``.

    Raises:
        UndefinedMetric: The metric is undefined on the data, on more than half of the resamples, there is one group,
            or fewer than `FEWEST_OF_A_CLASS` have images of either class, if the metric needs both.
        DataError: The lengths differ, or an image has no group.
        UsageError: ``resamples`` or ``level`` is out of range.
    """
    metric(references, scores)
    found = bootstrap_intervals(
        {"": metric}, references, scores, groups=groups, resamples=resamples, seed=seed, level=level
    )[""]
    if isinstance(found, UndefinedMetric):
        raise found
    return found


def bootstrap_intervals(
    metrics: Mapping[str, Metric],
    references: ArrayLike,
    scores: ArrayLike,
    *,
    groups: Groups,
    resamples: int = 2000,
    seed: int = 0,
    level: float = 0.95,
) -> dict[str, Interval | UndefinedMetric]:
    """Return the intervals of several metrics that take the same scores, from the same resamples.

    Args:
        metrics: Metrics by name, each defined on the data.
        references: ``(n,)`` references of the metrics.
        scores: ``(n,)`` or ``(n, classes)`` scores, as the metrics take them.
        groups: ``(n,)`` patient keys: strings, integers, or tuples such as (site, patient).
        resamples: Number of times that the patients are drawn.
        seed: Seed of the draws.
        level: Coverage of the intervals, between 0 and 1.

    Returns:
        By metric's name its interval, or the error that says why it has none.

    Raises:
        DataError: In the cases of `bootstrap_interval`.
        UsageError: In the cases of `bootstrap_interval`.
    """
    truth, values = np.asarray(references), np.asarray(scores)
    rows = {name: rows_of(metric) for name, metric in metrics.items()}
    found = row_intervals(rows, truth, values, groups=groups, resamples=resamples, seed=seed, level=level)
    undefined = {name: too_few_patients(metric, truth, groups) for name, metric in metrics.items()}
    return found | {name: error for name, error in undefined.items() if error is not None}


def too_few_patients(metric: Metric, references: np.ndarray, groups: Groups) -> UndefinedMetric | None:
    """Return why a metric that needs both classes has no interval, if a class has too few groups; else ``None``.

    Of an AUC within strata the groups count that are in a stratum with both classes.
    """
    function, options = (metric.func, metric.keywords) if isinstance(metric, partial) else (metric, {})
    if function not in NEED_BOTH_CLASSES:
        return None
    codes, _ = group_codes(groups, len(references))
    of_class = [references == label for label in (0, 1)]
    if "strata" in options:
        compared = [np.isin(options["strata"], options["strata"][other]) for other in reversed(of_class)]
        of_class = [rows & inside for rows, inside in zip(of_class, compared, strict=True)]
    if min(len(np.unique(codes[rows])) for rows in of_class) >= FEWEST_OF_A_CLASS:
        return None
    where = "in strata with both classes" if "strata" in options else "with images of either class"
    return UndefinedMetric(f"fewer than {FEWEST_OF_A_CLASS} patients {where}")


def row_intervals(
    rows: Mapping[str, Rows],
    references: np.ndarray,
    scores: np.ndarray,
    *,
    groups: Groups,
    resamples: int = 2000,
    seed: int = 0,
    level: float = 0.95,
) -> dict[str, Interval | UndefinedMetric]:
    """Return the intervals of `bootstrap_intervals` for metrics of weighted rows.

    Raises:
        UndefinedMetric: There is one group.
        DataError: In the cases of `bootstrap_interval`.
        UsageError: In the cases of `bootstrap_interval`.
    """
    draws = resampled(rows, references, scores, groups=groups, resamples=resamples, seed=seed)
    left_out = without_each(rows, references, scores, groups=groups)
    whole = Weighted(references, scores, np.ones((1, len(references))))
    found: dict[str, Interval | UndefinedMetric] = {}
    for name, of_rows in rows.items():
        try:
            found[name] = bca(draws[name], float(of_rows(whole)[0]), left_out[name], len(set(groups)), level)
        except UndefinedMetric as error:
            found[name] = error
    return found


def paired_interval(
    metric: Metric,
    references: ArrayLike,
    first: ArrayLike,
    second: ArrayLike,
    *,
    groups: Groups,
    resamples: int = 2000,
    seed: int = 0,
    level: float = 0.95,
) -> Interval:
    """Return the interval of the second scores' metric minus the first's, on the same images.

    Both are computed on the same resamples of patients, so what makes a resample hard for both cancels.

    Args:
        metric: Function of ``(references, scores)``.
        references: ``(n,)`` references of the metric.
        first: Scores of one model, ``(n,)`` or ``(n, classes)``.
        second: Scores of the other model, for the same images in the same order.
        groups: ``(n,)`` patient keys: strings, integers, or tuples such as (site, patient).
        resamples: Number of times that the patients are drawn.
        seed: Seed of the draws.
        level: Coverage of the interval, between 0 and 1.

    Returns:
        ``(low, high)`` of the difference; it excludes 0 if the models differ by more than chance.

    Raises:
        UndefinedMetric: In the cases of `bootstrap_interval`.
        DataError: In the cases of `bootstrap_interval`.
        UsageError: In the cases of `bootstrap_interval`.
    """
    truth, rows = np.asarray(references), {"": rows_of(metric)}
    error = too_few_patients(metric, truth, groups)
    if error is not None:
        raise error
    values, draws, left_out = [], [], []
    for scores in (np.asarray(first), np.asarray(second)):
        values.append(metric(truth, scores))
        draws.append(resampled(rows, truth, scores, groups=groups, resamples=resamples, seed=seed)[""])
        left_out.append(without_each(rows, truth, scores, groups=groups)[""])
    return bca(draws[1] - draws[0], values[1] - values[0], left_out[1] - left_out[0], len(set(groups)), level)


def detectable_difference(interval: Interval, *, level: float = 0.95, power: float = 0.8) -> float:
    """Return the smallest difference that a sample of this size would have shown with a given power.

    It is (z(1 - alpha / 2) + z(power)) standard errors (Obuchowski and McClish, Statistics in Medicine 1997); the
    standard error is taken from the width of the interval.

    Args:
        interval: Interval of a figure, or of a difference between two.
        level: Coverage of the interval, between 0 and 1; alpha is 1 - level.
        power: Probability of showing the difference, between 0 and 1.
    """
    quantile = ndtri((1 + level) / 2)
    return float((quantile + ndtri(power)) * (interval[1] - interval[0]) / (2 * quantile))


def resampled(
    rows: Mapping[str, Rows],
    references: np.ndarray,
    scores: np.ndarray,
    *,
    groups: Groups,
    resamples: int = 2000,
    seed: int = 0,
) -> dict[str, np.ndarray]:
    """Compute metrics of weighted rows on each resample of the groups, ``(resamples, ...)`` each, NaN if undefined.

    Raises:
        UndefinedMetric: There is one group.
        DataError: The lengths differ, or an image has no group.
        UsageError: ``resamples`` is out of range.
    """
    if resamples < 1:
        raise UsageError(f"resamples {resamples}", source="bootstrap", remedy="ask for at least 1")
    codes, n_groups = group_codes(groups, len(references))
    if n_groups < 2:
        raise UndefinedMetric("all images are of one patient, so no interval can be drawn")
    block = max(1, _BLOCK // len(references))
    return _on_each(rows, references, scores, codes, _draws(n_groups, resamples, block, np.random.default_rng(seed)))


def without_each(
    rows: Mapping[str, Rows], references: np.ndarray, scores: np.ndarray, *, groups: Groups
) -> dict[str, np.ndarray]:
    """Compute metrics of weighted rows with each group left out, or with each of 500 parts of many groups."""
    codes, n_groups = group_codes(groups, len(references))
    parts = min(n_groups, _PARTS)
    block = max(1, _BLOCK // len(references))
    part_of = np.arange(n_groups) % parts
    counts = (
        (part_of != np.arange(start, min(start + block, parts))[:, None]).astype(np.float64)
        for start in range(0, parts, block)
    )
    return _on_each(rows, references, scores, codes, counts)


def _on_each(
    rows: Mapping[str, Rows],
    references: np.ndarray,
    scores: np.ndarray,
    codes: np.ndarray,
    blocks: Iterable[np.ndarray],
) -> dict[str, np.ndarray]:
    # Sorted once, because each block of rows is of the same images.
    ranking = Ranking(references == 1, scores) if scores.ndim == 1 else None
    found: dict[str, list[np.ndarray]] = {name: [] for name in rows}
    for counts in blocks:
        data = Weighted(references, scores, counts[:, codes], ranking)
        for name, of_rows in rows.items():
            found[name].append(of_rows(data))
    return {name: np.concatenate(values) for name, values in found.items()}


def rows_of(metric: Metric) -> Rows:
    """Return the metric for all rows of weights at once; one that is not of this package is called row by row."""
    if metric is mean_score:
        return _mean_of_rows
    if metric in ROWS:
        return ROWS[metric]
    if isinstance(metric, partial) and metric.func in ROWS and not metric.args:
        return partial(ROWS[metric.func], **metric.keywords)
    return _one_by_one(metric)


def bca(draws: np.ndarray, value: float, left_out: np.ndarray, n_groups: int, level: float = 0.95) -> Interval:
    """Return Efron's bias-corrected and accelerated interval.

    Args:
        draws: Metric on each resample, NaN if undefined.
        value: Metric on the data.
        left_out: Metric with each group left out; its skewness is the acceleration.
        n_groups: Number of groups, for the message.
        level: Coverage of the interval, between 0 and 1.

    Raises:
        UndefinedMetric: More than half of the draws are NaN.
        UsageError: ``level`` is out of range.
    """
    if not 0 < level < 1:
        raise UsageError(f"level {level}", source="bootstrap", remedy="ask for a level between 0 and 1")
    defined = draws[~np.isnan(draws)]
    if 2 * defined.size < draws.size:
        undefined = draws.size - defined.size
        raise UndefinedMetric(f"undefined on {undefined} of {draws.size} resamples of {n_groups} patients")
    # A draw that equals the value but for rounding counts a half.
    near = 1e-12 * max(1.0, abs(value))
    below = (np.mean(defined < value - near) + np.mean(defined <= value + near)) / 2
    bias = ndtri(np.clip(below, 0.5 / defined.size, 1 - 0.5 / defined.size))
    remaining = left_out[~np.isnan(left_out)]
    steps = remaining.sum() / max(remaining.size, 1) - remaining
    spread = np.sum(steps**2) ** 1.5
    acceleration = np.sum(steps**3) / (6 * spread) if spread > 0 else 0.0
    shifted = bias + ndtri([(1 - level) / 2, (1 + level) / 2])
    low, high = np.quantile(defined, ndtr(bias + shifted / (1 - acceleration * shifted)))
    return float(low), float(high)


def group_codes(groups: Groups, n: int) -> tuple[np.ndarray, int]:
    """Return each image's group as a number in sorted order, independent of the order of rows, and their count."""
    keys = list(groups)
    if len(keys) != n:
        raise DataError(f"{len(keys)} groups for {n} references", source="groups")
    if any(key is None or key != key for key in keys):
        raise DataError("an image without a patient", source="groups", remedy="give every image its patient key")
    # not as an array: numpy would make two columns of pairs, and "1" of the number 1
    numbers = {key: number for number, key in enumerate(sorted(set(keys), key=_in_order))}
    return np.fromiter((numbers[key] for key in keys), np.int64, n), len(numbers)


def _in_order(key: object) -> tuple[object, ...]:
    """Return what keys of any type, tuples of them too, are sorted by: numbers first."""
    if isinstance(key, tuple):
        return ("tuple", *map(_in_order, key))
    return ("" if isinstance(key, int | float | np.number) else type(key).__name__, key)


def _draws(n_groups: int, resamples: int, block: int, rng: np.random.Generator) -> Iterator[np.ndarray]:
    """Draw groups; yield how often each was drawn, float64 ``(up to block, n_groups)``, rows sum to ``n_groups``."""
    for start in range(0, resamples, block):
        rows = min(block, resamples - start)
        drawn = rng.integers(0, n_groups, size=(rows, n_groups))
        drawn += n_groups * np.arange(rows)[:, None]
        yield np.bincount(drawn.ravel(), minlength=rows * n_groups).reshape(rows, n_groups).astype(np.float64)


def _one_by_one(metric: Metric) -> Rows:
    """Return a function that calls the metric on each resample's own images; NaN if the metric is undefined."""

    def rows(data: Weighted) -> np.ndarray:
        results = np.full(len(data.weights), np.nan)
        for row, repeats in enumerate(data.weights.astype(np.int64)):
            chosen = np.repeat(np.arange(len(data.references)), repeats)
            try:
                results[row] = metric(data.references[chosen], data.scores[chosen])
            except UndefinedMetric:
                continue
        return results

    return rows


def mean_score(references: np.ndarray, scores: np.ndarray) -> float:
    """Return the mean of ``scores``, as a metric for figures that each image has by itself, without a reference."""
    return float(np.mean(scores))


def _mean_of_rows(data: Weighted) -> np.ndarray:
    means: np.ndarray = data.weights @ data.scores / data.weights.sum(axis=1)
    return means
