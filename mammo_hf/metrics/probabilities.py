"""Metrics of probabilities: whether a score of 0.3 means three in ten."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike

from ..errors import DataError, UsageError
from .inputs import UndefinedMetric, Weighted, check_binary, check_classes, ratio, value

BINS = 10


def pf1(references: ArrayLike, scores: ArrayLike) -> float:
    """Probabilistic F1 at beta 1: precision and recall with each image called positive by as much as its probability.

    The measure of the RSNA 2022 screening mammography challenge (Yacouby and Axman, Eval4NLP 2020).

    Args:
        references: ``(n,)`` of 0 and 1.
        scores: ``(n,)`` probabilities of the positive class.

    Returns:
        A value in [0, 1].

    Raises:
        UndefinedMetric: No images, one class only, or a probability is NaN.
        DataError: The shapes differ, a reference is neither 0 nor 1, or a score is no probability.
    """
    return value(pf1_rows, *_binary_probabilities(references, scores))


def pf1_rows(data: Weighted) -> np.ndarray:
    """`pf1` for each row of weights."""
    positive = data.references == 1
    hits, called = data.weights @ (data.scores * positive), data.weights @ data.scores
    # 2 P R / (P + R) with P = hits / called and R = hits / positives
    positives = data.weights @ positive.astype(np.float64)
    return np.where(positives > 0, 2 * ratio(hits, called + positives), np.nan)


def brier(references: ArrayLike, probabilities: ArrayLike) -> float:
    """Mean squared difference between probability and outcome (Brier 1950); lower is better.

    Args:
        references: ``(n,)`` of 0 and 1, or class numbers.
        probabilities: ``(n,)`` of the positive class, or ``(n, classes)``, whose squares are summed over the classes.

    Returns:
        A value in [0, 1], for ``(n, classes)`` in [0, 2].

    Raises:
        UndefinedMetric: No images, or a probability is NaN.
        DataError: The shapes do not fit, or a score is no probability.
    """
    return value(brier_rows, *_outcomes(references, probabilities))


def brier_rows(data: Weighted) -> np.ndarray:
    """`brier` for each row of weights."""
    if data.scores.ndim == 1:
        return data.mean((data.scores - (data.references == 1)) ** 2)
    hot = data.references[:, None] == np.arange(data.scores.shape[1])
    return data.mean(((data.scores - hot) ** 2).sum(axis=1))


def ece(references: ArrayLike, probabilities: ArrayLike, bins: int = BINS) -> float:
    """Expected calibration error over bins of equal mass: the mean distance between probability and frequency.

    Each bin holds the same number of images (Nixon et al. 2019, arXiv 1904.01685). Images of one score that lie across
    a border count for both bins in proportion, so that the order of the images does not matter. With several classes
    it is that of the predicted class: whether 80 % sure is right in 80 of 100.

    Args:
        references: ``(n,)`` of 0 and 1, or class numbers.
        probabilities: ``(n,)`` of the positive class, or ``(n, classes)``.
        bins: How many.

    Returns:
        A value in [0, 1].

    Raises:
        UndefinedMetric: Fewer images than bins, or a probability is NaN.
        DataError: The shapes do not fit, or a score is no probability.
        UsageError: Fewer than one bin.
    """
    if bins < 1:
        raise UsageError(f"is {bins}", source="bins", remedy="it must be 1 or more")
    truth, table = _outcomes(references, probabilities)
    if truth.size < bins:
        raise UndefinedMetric(f"{truth.size} images do not fill {bins} bins")
    return value(ece_rows, truth, table, bins=bins)


def ece_rows(data: Weighted, bins: int = BINS) -> np.ndarray:
    """`ece` for each row of weights."""
    mass, probability, outcome = _bin_sums(data, bins)
    return ratio(np.abs(probability - outcome).sum(axis=1), mass.sum(axis=1))


def reliability(
    references: ArrayLike, probabilities: ArrayLike, bins: int = BINS
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The bins of `ece`: mean probability and frequency of the outcome in each, and how many images it holds.

    Args:
        references: As for `ece`.
        probabilities: As for `ece`.
        bins: How many; with fewer images than that, one an image.

    Returns:
        ``(probability, frequency, images)``, each ``(bins,)``.

    Raises:
        UndefinedMetric: No images, or a probability is NaN.
        DataError: The shapes do not fit, or a score is no probability.
    """
    truth, table = _outcomes(references, probabilities)
    data = Weighted(truth, table, np.ones((1, truth.size)))
    mass, probability, outcome = (sums[0] for sums in _bin_sums(data, min(bins, truth.size)))
    return probability / mass, outcome / mass, mass


def _bin_sums(data: Weighted, bins: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Mass, summed probability and summed outcome of each bin, ``(rows, bins)`` each."""
    if data.scores.ndim == 1:
        sure, right = data.scores, (data.references == 1).astype(np.float64)
    else:
        sure = data.scores.max(axis=1)
        right = (data.scores.argmax(axis=1) == data.references).astype(np.float64)
    order = np.argsort(sure, kind="stable")
    ends = np.append(np.flatnonzero(np.diff(sure[order])), sure.size - 1)
    weights = data.weights[:, order]
    # running sums at the end of each distinct score: between two of them every image has the same score
    running = [np.cumsum(weights * part, axis=1)[:, ends] for part in (1.0, sure[order], right[order])]
    at_border = np.zeros((3, len(weights), bins + 1))
    for row, mass in enumerate(running[0]):
        borders = mass[-1] * np.arange(1, bins + 1) / bins
        for part, sums in enumerate(running):
            at_border[part, row, 1:] = np.interp(borders, np.append(0.0, mass), np.append(0.0, sums[row]))
    mass, probability, outcome = np.diff(at_border, axis=2)
    return mass, probability, outcome


def _binary_probabilities(references: ArrayLike, scores: ArrayLike) -> tuple[np.ndarray, np.ndarray]:
    positive, values = check_binary(references, scores)
    _check_range(values)
    return positive, values


def _outcomes(references: ArrayLike, probabilities: ArrayLike) -> tuple[np.ndarray, np.ndarray]:
    """References and probabilities of either form; one class alone is enough to say whether a probability is right."""
    table = np.asarray(probabilities, dtype=np.float64)
    if table.ndim == 1:
        truth, _ = check_classes(references, np.stack([1 - table, table], axis=1))
    else:
        truth, table = check_classes(references, table)
    bad = int(np.isnan(table.reshape(len(table), -1)).any(axis=1).sum())
    if bad:
        raise UndefinedMetric(f"{bad} of {len(table)} images have NaN probabilities")
    _check_range(table)
    return truth, table


def _check_range(values: np.ndarray) -> None:
    # a sum of float32 shares may end a hair above 1
    if values.size and not (values.min() >= -1e-6 and values.max() <= 1 + 1e-6):
        raise DataError("values outside 0 to 1", source="probabilities", remedy="give probabilities, not logits")
