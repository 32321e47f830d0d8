"""Inputs of the metrics: references and scores as checked arrays, and as data under rows of weights."""

from __future__ import annotations

from collections.abc import Callable
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from ..errors import DataError


class UndefinedMetric(DataError):  # noqa: N818 (a state of the data, named as reports name it)
    """A metric that has no value on these data: one class only, no images, or scores that are not numbers."""

    @property
    def reason(self) -> str:
        """Return why there is no value, without the source and the remedy."""
        return self.problem


def check_binary(references: ArrayLike, scores: ArrayLike) -> tuple[np.ndarray, np.ndarray]:
    """Return bool ``(n,)`` references and float64 ``(n,)`` scores, with both classes present and no NaN."""
    truth = np.asarray(references)
    values = np.asarray(scores, dtype=np.float64)
    if truth.ndim != 1 or truth.shape != values.shape:
        raise DataError(f"shapes {truth.shape} and {values.shape} differ", source="references and scores")
    if not truth.size:
        raise UndefinedMetric("no images with a known label")
    positive = truth == 1
    if not np.all(positive | (truth == 0)):
        raise DataError("values other than 0 and 1", source="references", remedy="use macro_auroc for several classes")
    if np.isnan(values).any():
        raise UndefinedMetric(f"{np.count_nonzero(np.isnan(values))} of {values.size} scores are NaN")
    if positive.all() or not positive.any():
        raise UndefinedMetric(f"all {truth.size} images are {'positive' if positive.all() else 'negative'}")
    return positive, values


def check_classes(references: ArrayLike, probabilities: ArrayLike) -> tuple[np.ndarray, np.ndarray]:
    """Return class numbers and their probabilities as arrays that fit one another.

    Args:
        references: ``(n,)`` class numbers.
        probabilities: ``(n, classes)`` probabilities of at least two classes.

    Returns:
        int64 ``(n,)`` and float64 ``(n, classes)``.

    Raises:
        UndefinedMetric: There are no images.
        DataError: The shapes do not fit, or a reference is not a class number.
    """
    table = np.asarray(probabilities, dtype=np.float64)
    numbers = _class_numbers(references, "references")
    if table.ndim != 2 or table.shape[1] < 2 or len(table) != len(numbers):
        raise DataError(
            f"shape {table.shape} does not fit {len(numbers)} references",
            source="probabilities",
            remedy="give (n, classes), one row per image and one column per class",
        )
    if not len(numbers):
        raise UndefinedMetric("no images with a known label")
    if numbers.max() >= table.shape[1]:
        raise DataError(f"class number {numbers.max()} but {table.shape[1]} classes", source="references")
    return numbers, table


def check_predictions(references: ArrayLike, predictions: ArrayLike) -> tuple[np.ndarray, np.ndarray]:
    """Return true and predicted class numbers as int64 ``(n,)``, at least one."""
    truth, predicted = _class_numbers(references, "references"), _class_numbers(predictions, "predictions")
    if truth.shape != predicted.shape:
        raise DataError(f"lengths {truth.size} and {predicted.size} differ", source="references and predictions")
    if not truth.size:
        raise UndefinedMetric("no images with a known label")
    return truth, predicted


def _class_numbers(values: ArrayLike, name: str) -> np.ndarray:
    """Return int64 ``(n,)``; a class number that is not a whole number of at least 0 is an error, not rounded."""
    given = np.asarray(values)
    if given.ndim != 1:
        raise DataError(f"shape {given.shape}", source=name, remedy="give one class number per image")
    if given.size and given.dtype.kind not in "biuf":
        raise DataError(f"values of type {given.dtype}", source=name, remedy="give class numbers 0, 1, ...")
    # a NaN fails both comparisons as well
    if given.size and not np.all((given >= 0) & (given == np.floor(given.astype(np.float64)))):
        raise DataError("values that are not class numbers", source=name, remedy="leave unknown (-100) images out")
    return given.astype(np.int64)


# Data under rows of weights.
#
# A resample of patients is the sample with whole numbers as weights: how often each image was drawn. So a metric that
# takes weights gives all resamples at once, and with ones as weights the sample's own value.


class Ranking:
    """Images in falling order of score, with the end of each distinct score.

    Args:
        positive: Bool ``(n,)``, True for positive images.
        scores: Scores of the images, ``(n,)``.
    """

    def __init__(self, positive: np.ndarray, scores: np.ndarray) -> None:
        self.order = np.argsort(-scores, kind="stable")
        falling = scores[self.order]
        self.ends = np.append(np.flatnonzero(falling[1:] != falling[:-1]), len(falling) - 1)
        self.thresholds = falling[self.ends]
        self._positive = positive[self.order]

    def counts(self, weights: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Count true and false positives ``(rows, distinct scores + 1)`` per threshold, from above all scores."""
        ordered = weights[:, self.order]
        both = []
        for of_class in (self._positive, ~self._positive):
            running = np.cumsum(np.where(of_class, ordered, 0.0), axis=1)
            counts = np.zeros((len(weights), self.ends.size + 1))
            counts[:, 1:] = running if self.ends.size == running.shape[1] else running[:, self.ends]
            both.append(counts)
        return both[0], both[1]


class Weighted:
    """References and scores under rows of weights.

    Args:
        references: ``(n,)`` of 0 and 1, or class numbers.
        scores: ``(n,)`` scores or predicted class numbers, or ``(n, classes)``.
        weights: float64 ``(rows, n)``, not negative.
        ranking: Ranking of the references and scores, if it is known already.
    """

    def __init__(
        self, references: np.ndarray, scores: np.ndarray, weights: np.ndarray, ranking: Ranking | None = None
    ) -> None:
        self.references = references
        self.scores = scores
        self.weights = weights
        self._ranking = ranking

    @cached_property
    def counts(self) -> tuple[np.ndarray, np.ndarray]:
        """Count true and false positives at each threshold; see `Ranking.counts`."""
        ranking = self._ranking or Ranking(self.references == 1, self.scores)
        return ranking.counts(self.weights)

    @cached_property
    def confusions(self) -> np.ndarray:
        """Count the images ``(rows, classes, classes)``, one row per true class and one column per predicted class."""
        truth, predicted = self.references.astype(np.int64), self.scores.astype(np.int64)
        size = int(max(truth.max(), predicted.max())) + 1
        cells = np.zeros((truth.size, size * size))
        cells[np.arange(truth.size), truth * size + predicted] = 1
        return (self.weights @ cells).reshape(-1, size, size)

    def mean(self, values: np.ndarray) -> np.ndarray:
        """Return the weighted mean ``(rows,)`` of ``(n,)`` values."""
        return ratio(self.weights @ values, self.weights.sum(axis=1))


# A metric of `Weighted` data: one value per row of weights, NaN if it is undefined there.
Rows = Callable[..., np.ndarray]


def ratio(above: np.ndarray, below: np.ndarray) -> np.ndarray:
    """Divide elementwise; NaN if the divisor is 0."""
    return np.divide(above, below, out=np.full(np.broadcast(above, below).shape, np.nan), where=below > 0)


def value(rows: Rows, references: np.ndarray, scores: np.ndarray, **options: Any) -> float:
    """Return a metric of one sample, in which every image counts once."""
    return float(rows(Weighted(references, scores, np.ones((1, len(references)))), **options)[0])
