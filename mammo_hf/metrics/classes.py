"""Metrics of predicted classes."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike

from ..errors import DataError
from .inputs import UndefinedMetric, Weighted, check_predictions, ratio, value


def accuracy(references: ArrayLike, predictions: ArrayLike) -> float:
    """Share of the images whose predicted class is the true one.

    Args:
        references: ``(n,)`` class numbers.
        predictions: ``(n,)`` class numbers.

    Returns:
        A value in [0, 1].

    Raises:
        UndefinedMetric: No images.
        DataError: The shapes differ, or a class number is not a whole number of at least 0.
    """
    truth, predicted = check_predictions(references, predictions)
    return float(np.mean(truth == predicted))


def balanced_accuracy(references: ArrayLike, predictions: ArrayLike) -> float:
    """Mean over the classes that occur in ``references`` of the share of each that is predicted right.

    Args:
        references: ``(n,)`` class numbers.
        predictions: ``(n,)`` class numbers.

    Returns:
        A value in [0, 1]; a constant prediction gives 1 / classes.

    Raises:
        UndefinedMetric: No images, or one class only, where nothing is left to balance.
        DataError: The shapes differ, or a class number is not a whole number of at least 0.
    """
    truth, predicted = check_predictions(references, predictions)
    counts = np.bincount(truth)
    present = counts > 0
    if np.count_nonzero(present) < 2:
        raise UndefinedMetric(f"all {truth.size} images are of one class")
    right = np.bincount(truth, weights=truth == predicted)
    return float(np.mean(right[present] / counts[present]))


def accuracy_rows(data: Weighted) -> np.ndarray:
    """`accuracy` for each row of weights."""
    return data.mean(data.references == data.scores)


def balanced_accuracy_rows(data: Weighted) -> np.ndarray:
    """`balanced_accuracy` for each row of weights."""
    counts = data.confusions.sum(axis=2)
    shares = np.nan_to_num(ratio(np.diagonal(data.confusions, axis1=1, axis2=2), counts))
    present = np.count_nonzero(counts, axis=1)
    return np.where(present > 1, shares.sum(axis=1) / np.maximum(present, 1), np.nan)


def quadratic_kappa(references: ArrayLike, predictions: ArrayLike) -> float:
    """Cohen's kappa with quadratic weights, for classes in an order such as breast density (Cohen 1968).

    A disagreement counts by the square of how many classes lie between. scikit-learn's ``cohen_kappa_score`` with
    ``weights="quadratic"`` and all classes as ``labels``.

    Args:
        references: ``(n,)`` class numbers.
        predictions: ``(n,)`` class numbers.

    Returns:
        1 for full agreement, 0 for what chance gives, negative for less.

    Raises:
        UndefinedMetric: No images, or all are and are predicted to be of one class.
        DataError: The lengths differ, or a class number is not a whole number of at least 0.
    """
    truth, predicted = check_predictions(references, predictions)
    if len({*truth.tolist(), *predicted.tolist()}) < 2:
        raise UndefinedMetric(f"all {truth.size} images are, and are predicted to be, of one class")
    return value(quadratic_kappa_rows, truth, predicted)


def quadratic_kappa_rows(data: Weighted) -> np.ndarray:
    """`quadratic_kappa` for each row of weights."""
    table = data.confusions
    places = np.arange(table.shape[1])
    penalty = (places[:, None] - places) ** 2
    by_chance = table.sum(axis=2)[:, :, None] * table.sum(axis=1)[:, None, :]
    found = (table * penalty).sum(axis=(1, 2)) * table.sum(axis=(1, 2))
    return 1 - ratio(found, (by_chance * penalty).sum(axis=(1, 2)))


def confusion(references: ArrayLike, predictions: ArrayLike, classes: int | None = None) -> np.ndarray:
    """Counts of images by true and predicted class.

    Args:
        references: ``(n,)`` class numbers.
        predictions: ``(n,)`` class numbers.
        classes: How many classes there are; by default one more than the highest number met.

    Returns:
        int64 ``(classes, classes)``, a row a true class and a column a predicted one.

    Raises:
        UndefinedMetric: No images.
        DataError: The shapes differ, or a class number is not a whole number in 0 ... classes - 1.
    """
    truth, predicted = check_predictions(references, predictions)
    highest = int(max(truth.max(), predicted.max()))
    size = highest + 1 if classes is None else classes
    if highest >= size:
        raise DataError(f"class number {highest} where there are {size} classes", source="references or predictions")
    return np.bincount(truth * size + predicted, minlength=size * size).reshape(size, size)
