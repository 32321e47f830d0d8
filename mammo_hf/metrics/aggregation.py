"""Aggregated scores of breasts, exams or patients, put together from those of their images."""

from __future__ import annotations

import numpy as np

RULES = ("mean", "max", "noisy_or")


def aggregate(rule: str, probabilities: np.ndarray, unit: np.ndarray, count: int) -> np.ndarray:
    """Return the scores of units from those of their images.

    Args:
        rule: One of ``RULES``: the mean, the maximum, or the probability that at least one image is positive if they
            were independent. With more than two classes the maxima are scaled to the sum 1.
        probabilities: Probabilities of images ``(n, classes)``.
        unit: Index of each image's unit, int ``(n,)``.
        count: Number of units.

    Returns:
        Probabilities of units ``(count, classes)``; NaN if an image's is.
    """
    if rule == "mean":
        sums = np.stack([np.bincount(unit, weights=column, minlength=count) for column in probabilities.T], axis=1)
        return sums / np.bincount(unit, minlength=count)[:, None]
    binary = probabilities.shape[1] == 2
    columns = probabilities[:, 1:] if binary else probabilities
    if rule == "max":
        joined = np.full((count, columns.shape[1]), -np.inf)
        np.maximum.at(joined, unit, columns)
    else:
        missed = np.ones((count, columns.shape[1]))
        np.multiply.at(missed, unit, 1 - columns)
        joined = 1 - missed
    if binary:
        return np.concatenate([1 - joined, joined], axis=1)
    return joined / joined.sum(axis=1, keepdims=True)
