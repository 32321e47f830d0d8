"""Data under rows of weights: what a metric of one sample and of two thousand resamples are both computed from.

A resample of patients is the sample with whole numbers as weights: how often each image was drawn. So a metric that
takes weights gives all resamples at once, and with ones as weights the sample's own value.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cached_property

import numpy as np


class Ranking:
    """The images in falling order of score, and where each distinct score ends.

    Args:
        positive: Bool ``(n,)``.
        scores: ``(n,)``.
    """

    def __init__(self, positive: np.ndarray, scores: np.ndarray) -> None:
        self.order = np.argsort(-scores, kind="stable")
        falling = scores[self.order]
        self.ends = np.append(np.flatnonzero(falling[1:] != falling[:-1]), len(falling) - 1)
        self.thresholds = falling[self.ends]
        self._positive = positive[self.order]

    def counts(self, weights: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """True and false positives ``(rows, distinct scores + 1)`` at each threshold, from calling nothing positive."""
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
        ranking: That of the references and scores, where it is known already.
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
        """True and false positives at each threshold; see `Ranking.counts`."""
        ranking = self._ranking or Ranking(self.references == 1, self.scores)
        return ranking.counts(self.weights)

    @cached_property
    def confusions(self) -> np.ndarray:
        """``(rows, classes, classes)``: a row a true class, a column a predicted one."""
        truth, predicted = self.references.astype(np.int64), self.scores.astype(np.int64)
        size = int(max(truth.max(), predicted.max())) + 1
        cells = np.zeros((truth.size, size * size))
        cells[np.arange(truth.size), truth * size + predicted] = 1
        return (self.weights @ cells).reshape(-1, size, size)

    def mean(self, values: np.ndarray) -> np.ndarray:
        """The weighted mean ``(rows,)`` of ``(n,)`` values."""
        return ratio(self.weights @ values, self.weights.sum(axis=1))


Rows = Callable[..., np.ndarray]
"""A metric of `Weighted` data: one value a row, NaN where it is undefined."""


def ratio(above: np.ndarray, below: np.ndarray) -> np.ndarray:
    """The quotient; NaN where the divisor is 0."""
    return np.divide(above, below, out=np.full(np.broadcast(above, below).shape, np.nan), where=below > 0)


def value(rows: Rows, references: np.ndarray, scores: np.ndarray, **options: float) -> float:
    """A metric of one sample, every image counting once."""
    return float(rows(Weighted(references, scores, np.ones((1, len(references)))), **options)[0])
