"""Metrics of classification as plain functions: vectorised, float64, and never a figure where none is defined.

Each equals scikit-learn's function of the same idea. Where scikit-learn returns NaN, warns, or raises something of its
own, these raise :class:`UndefinedMetric`, whose ``reason`` a report writes beside the missing figure.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike

from ..errors import DataError


class UndefinedMetric(DataError):  # noqa: N818 (it is a state of the data, named as reports name it)
    """The metric has no value on these data: one class only, nothing at all, or scores that are not numbers.

    Args:
        problem: Why, as a clause that can stand alone in a table.
        source: The metric, task or argument concerned, where that helps.
        remedy: What the user can do about it.
    """

    @property
    def reason(self) -> str:
        """Why there is no value, without the source and the remedy."""
        return self.problem


def auroc(references: ArrayLike, scores: ArrayLike) -> float:
    """Area under the ROC curve: the chance that a positive scores higher than a negative, ties counting a half.

    It is the Mann-Whitney statistic over its greatest value (Hanley and McNeil, Radiology 1982), from mid-ranks.

    Args:
        references: ``(n,)`` of 0 (negative) and 1 (positive).
        scores: ``(n,)``, higher means more probably positive; any scale.

    Returns:
        A value in [0, 1].

    Raises:
        UndefinedMetric: No images, one class only, or a score is NaN.
        DataError: The shapes differ, or a reference is neither 0 nor 1.
    """
    positive, values = _binary(references, scores)
    _, level, counts = np.unique(values, return_inverse=True, return_counts=True)
    mid_rank = np.cumsum(counts) - (counts - 1) / 2
    n_positive = int(positive.sum())
    above = mid_rank[level][positive].sum() - n_positive * (n_positive + 1) / 2
    return float(above / (n_positive * (positive.size - n_positive)))


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
    truth, predicted = _class_pairs(references, predictions)
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
    truth, predicted = _class_pairs(references, predictions)
    counts = np.bincount(truth)
    present = counts > 0
    if np.count_nonzero(present) < 2:
        raise UndefinedMetric(f"all {truth.size} images are of one class")
    right = np.bincount(truth, weights=truth == predicted)
    return float(np.mean(right[present] / counts[present]))


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
    truth, predicted = _class_pairs(references, predictions)
    highest = int(max(truth.max(), predicted.max()))
    size = highest + 1 if classes is None else classes
    if highest >= size:
        raise DataError(f"class number {highest} where there are {size} classes", source="references or predictions")
    return np.bincount(truth * size + predicted, minlength=size * size).reshape(size, size)


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
    positive, values = _binary(references, scores)
    levels, level = np.unique(-values, return_inverse=True)
    true_positives = np.cumsum(np.bincount(level, weights=positive))
    false_positives = np.cumsum(np.bincount(level, weights=~positive))
    return (
        np.concatenate(([0.0], false_positives / false_positives[-1])),
        np.concatenate(([0.0], true_positives / true_positives[-1])),
        np.concatenate(([np.inf], -levels)),
    )


def check_classes(references: ArrayLike, probabilities: ArrayLike) -> tuple[np.ndarray, np.ndarray]:
    """Class numbers and their probabilities as arrays that fit one another.

    Args:
        references: ``(n,)`` class numbers.
        probabilities: ``(n, classes)`` with at least two classes.

    Returns:
        int64 ``(n,)`` and float64 ``(n, classes)``.

    Raises:
        UndefinedMetric: No images.
        DataError: The shapes do not fit, or a reference is no class number.
    """
    table = np.asarray(probabilities, dtype=np.float64)
    numbers = _class_numbers(references, "references")
    if table.ndim != 2 or table.shape[1] < 2 or len(table) != len(numbers):
        raise DataError(
            f"shape {table.shape} does not fit {len(numbers)} references",
            source="probabilities",
            remedy="give (n, classes), one row an image and one column a class",
        )
    if not len(numbers):
        raise UndefinedMetric("no images with a known label")
    if numbers.max() >= table.shape[1]:
        raise DataError(f"class number {numbers.max()} where there are {table.shape[1]} classes", source="references")
    return numbers, table


def _binary(references: ArrayLike, scores: ArrayLike) -> tuple[np.ndarray, np.ndarray]:
    """Bool ``(n,)`` and float64 ``(n,)`` with both classes present and no NaN."""
    truth = np.asarray(references)
    values = np.asarray(scores, dtype=np.float64)
    if truth.ndim != 1 or truth.shape != values.shape:
        raise DataError(f"shapes {truth.shape} and {values.shape} differ", source="references and scores")
    if not truth.size:
        raise UndefinedMetric("no images with a known label")
    positive = truth == 1
    if not np.all(positive | (truth == 0)):
        raise DataError(
            "values other than 0 and 1", source="references", remedy="use macro_auroc where there are several classes"
        )
    if np.isnan(values).any():
        raise UndefinedMetric(f"{np.count_nonzero(np.isnan(values))} of {values.size} scores are NaN")
    if positive.all() or not positive.any():
        raise UndefinedMetric(f"all {truth.size} images are {'positive' if positive.all() else 'negative'}")
    return positive, values


def _class_pairs(references: ArrayLike, predictions: ArrayLike) -> tuple[np.ndarray, np.ndarray]:
    truth, predicted = _class_numbers(references, "references"), _class_numbers(predictions, "predictions")
    if truth.shape != predicted.shape:
        raise DataError(f"lengths {truth.size} and {predicted.size} differ", source="references and predictions")
    if not truth.size:
        raise UndefinedMetric("no images with a known label")
    return truth, predicted


def _class_numbers(values: ArrayLike, name: str) -> np.ndarray:
    """int64 ``(n,)``; a class number that is no whole number of at least 0 is an error, not rounded."""
    given = np.asarray(values)
    if given.ndim != 1:
        raise DataError(f"shape {given.shape}", source=name, remedy="give one class number an image")
    if given.size and given.dtype.kind not in "biuf":
        raise DataError(f"values of type {given.dtype}", source=name, remedy="give class numbers 0, 1, ...")
    # a NaN fails both comparisons as well
    if given.size and not np.all((given >= 0) & (given == np.floor(given.astype(np.float64)))):
        raise DataError("values that are no class numbers", source=name, remedy="leave unknown (-100) images out")
    return given.astype(np.int64)
