"""Metrics of ranking: how well the scores put the positives above the negatives, whatever the scale."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import ArrayLike

from ..errors import UsageError
from .inputs import Ranking, Weighted, check_binary, check_classes, ratio, value

# counts are whole; this much of an image is rounding in "90 % of the negatives"
_ROUNDING = 1e-9


def auroc(references: ArrayLike, scores: ArrayLike) -> float:
    """Area under the ROC curve: the chance that a positive scores higher than a negative, ties counting a half.

    It is the Mann-Whitney statistic over its greatest value (Hanley and McNeil, Radiology 1982).

    Args:
        references: ``(n,)`` of 0 (negative) and 1 (positive).
        scores: ``(n,)``, higher means more probably positive; any scale.

    Returns:
        A value in [0, 1].

    Raises:
        UndefinedMetric: No images, one class only, or a score is NaN.
        DataError: The shapes differ, or a reference is neither 0 nor 1.
    """
    return value(auroc_rows, *check_binary(references, scores))


def auroc_rows(data: Weighted) -> np.ndarray:
    """`auroc` for each row of weights."""
    hits, alarms = data.counts
    area = np.sum(np.diff(alarms, axis=1) * (hits[:, 1:] + hits[:, :-1]), axis=1) / 2
    return ratio(area, hits[:, -1] * alarms[:, -1])


def macro_auroc(references: ArrayLike, probabilities: ArrayLike) -> float:
    """Mean over the classes of each class's AUROC against all the others, every class counting the same.

    Args:
        references: ``(n,)`` class numbers in 0 ... classes - 1.
        probabilities: ``(n, classes)``, one column a class; the rows need not sum to one.

    Returns:
        A value in [0, 1].

    Raises:
        UndefinedMetric: No images, a class that no image has (or all have), or a probability is NaN.
        DataError: The shapes do not fit, or a reference is no class number.
    """
    numbers, table = check_classes(references, probabilities)
    return float(np.mean([auroc(numbers == k, table[:, k]) for k in range(table.shape[1])]))


def auroc_of(probabilities: np.ndarray) -> tuple[Callable[..., float], np.ndarray]:
    """The AUC that a task's probabilities ``(n, classes)`` have, and the scores that it takes.

    Returns:
        With two classes `auroc` and the last column, with more `macro_auroc` and the whole table.
    """
    return (auroc, probabilities[:, 1]) if probabilities.shape[1] == 2 else (macro_auroc, probabilities)


def macro_auroc_rows(data: Weighted) -> np.ndarray:
    """`macro_auroc` for each row of weights."""
    classes = range(data.scores.shape[1])
    of_class = [auroc_rows(Weighted(data.references == k, data.scores[:, k], data.weights)) for k in classes]
    return np.mean(of_class, axis=0)


def auprc(references: ArrayLike, scores: ArrayLike) -> float:
    """Average precision: the area under the precision-recall curve as a sum of steps, without interpolation.

    scikit-learn's ``average_precision_score``. A model that knows nothing gets the share of positives.

    Args:
        references: ``(n,)`` of 0 and 1.
        scores: ``(n,)``, higher means more probably positive; any scale.

    Returns:
        A value in [0, 1].

    Raises:
        UndefinedMetric: As `auroc`.
        DataError: As `auroc`.
    """
    return value(auprc_rows, *check_binary(references, scores))


def auprc_rows(data: Weighted) -> np.ndarray:
    """`auprc` for each row of weights."""
    hits, alarms = data.counts
    called = hits[:, 1:] + alarms[:, 1:]
    precision = np.divide(hits[:, 1:], called, out=np.zeros_like(called), where=called > 0)
    return ratio(np.sum(np.diff(hits, axis=1) * precision, axis=1), hits[:, -1])


def sensitivity_at_specificity(references: ArrayLike, scores: ArrayLike, specificity: float = 0.9) -> float:
    """The highest sensitivity of any threshold whose specificity is at least the given one.

    Args:
        references: ``(n,)`` of 0 and 1.
        scores: ``(n,)``, higher means more probably positive; any scale.
        specificity: In [0, 1].

    Returns:
        A value in [0, 1].

    Raises:
        UndefinedMetric: As `auroc`.
        DataError: As `auroc`.
        UsageError: The specificity is out of range.
    """
    _check_share(specificity, "specificity")
    return value(sensitivity_rows, *check_binary(references, scores), specificity=specificity)


def sensitivity_rows(data: Weighted, specificity: float = 0.9) -> np.ndarray:
    """`sensitivity_at_specificity` for each row of weights."""
    hits, alarms = data.counts
    allowed = alarms <= alarms[:, -1:] * (1 - specificity) + _ROUNDING
    last = np.count_nonzero(allowed, axis=1) - 1
    found = ratio(np.take_along_axis(hits, last[:, None], axis=1)[:, 0], hits[:, -1])
    return np.where(alarms[:, -1] > 0, found, np.nan)


def specificity_at_sensitivity(references: ArrayLike, scores: ArrayLike, sensitivity: float = 0.9) -> float:
    """The highest specificity of any threshold whose sensitivity is at least the given one.

    Args:
        references: ``(n,)`` of 0 and 1.
        scores: ``(n,)``, higher means more probably positive; any scale.
        sensitivity: In [0, 1].

    Returns:
        A value in [0, 1].

    Raises:
        UndefinedMetric: As `auroc`.
        DataError: As `auroc`.
        UsageError: The sensitivity is out of range.
    """
    _check_share(sensitivity, "sensitivity")
    return value(specificity_rows, *check_binary(references, scores), sensitivity=sensitivity)


def specificity_rows(data: Weighted, sensitivity: float = 0.9) -> np.ndarray:
    """`specificity_at_sensitivity` for each row of weights."""
    hits, alarms = data.counts
    first = np.argmax(hits >= hits[:, -1:] * sensitivity - _ROUNDING, axis=1)
    right = alarms[:, -1] - np.take_along_axis(alarms, first[:, None], axis=1)[:, 0]
    return np.where(hits[:, -1] > 0, ratio(right, alarms[:, -1]), np.nan)


def partial_auc(references: ArrayLike, scores: ArrayLike, max_fpr: float = 0.1) -> float:
    """Area under the ROC curve where the false positive rate is at most ``max_fpr``, on a scale from chance to 1.

    Standardised as McClish (Medical Decision Making 1989): 0.5 for a model that knows nothing, 1 for a perfect one.
    scikit-learn's ``roc_auc_score(max_fpr=...)``.

    Args:
        references: ``(n,)`` of 0 and 1.
        scores: ``(n,)``, higher means more probably positive; any scale.
        max_fpr: Above 0, at most 1.

    Returns:
        A value in [0, 1].

    Raises:
        UndefinedMetric: As `auroc`.
        DataError: As `auroc`.
        UsageError: ``max_fpr`` is out of range.
    """
    if not 0 < max_fpr <= 1:
        raise UsageError(f"is {max_fpr}", source="max_fpr", remedy="it must be above 0 and at most 1")
    return value(partial_auc_rows, *check_binary(references, scores), max_fpr=max_fpr)


def partial_auc_rows(data: Weighted, max_fpr: float = 0.1) -> np.ndarray:
    """`partial_auc` for each row of weights."""
    hits, alarms = data.counts
    y, x = ratio(hits, hits[:, -1:]), ratio(alarms, alarms[:, -1:])
    widths, inside = np.diff(x, axis=1), np.diff(np.minimum(x, max_fpr), axis=1)
    # a segment that the limit cuts ends where the straight line between its points crosses the limit
    share = np.divide(inside, widths, out=np.zeros_like(widths), where=widths > 0)
    area = np.sum(inside * (y[:, :-1] + np.diff(y, axis=1) * share / 2), axis=1)
    if max_fpr == 1:
        return area
    least = max_fpr**2 / 2
    return (1 + (area - least) / (max_fpr - least)) / 2


def roc_curve(references: ArrayLike, scores: ArrayLike) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The ROC curve, a point for each distinct score, from (0, 0) to (1, 1).

    Args:
        references: ``(n,)`` of 0 and 1.
        scores: ``(n,)``, higher means more probably positive.

    Returns:
        ``(false_positive_rate, true_positive_rate, thresholds)``, each ``(distinct scores + 1,)``; an image is called
        positive at a threshold if its score is at least that, and the first threshold is infinite.

    Raises:
        UndefinedMetric: As :func:`auroc`.
        DataError: As :func:`auroc`.
    """
    hits, alarms, thresholds = _curve(references, scores)
    return alarms / alarms[-1], hits / hits[-1], thresholds


def pr_curve(references: ArrayLike, scores: ArrayLike) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The precision-recall curve, a point for each distinct score, by rising recall.

    Args:
        references: ``(n,)`` of 0 and 1.
        scores: ``(n,)``, higher means more probably positive.

    Returns:
        ``(precision, recall, thresholds)``, each ``(distinct scores,)``.

    Raises:
        UndefinedMetric: As :func:`auroc`.
        DataError: As :func:`auroc`.
    """
    hits, alarms, thresholds = _curve(references, scores)
    return hits[1:] / (hits[1:] + alarms[1:]), hits[1:] / hits[-1], thresholds[1:]


def _curve(references: ArrayLike, scores: ArrayLike) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    ranking = Ranking(*check_binary(references, scores))
    hits, alarms = ranking.counts(np.ones((1, ranking.order.size)))
    return hits[0], alarms[0], np.concatenate(([np.inf], ranking.thresholds))


def _check_share(share: float, name: str) -> None:
    if not 0 <= share <= 1:
        raise UsageError(f"is {share}", source=name, remedy="it must be from 0 to 1")
