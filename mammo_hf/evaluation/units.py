"""From images to breasts and patients: which images belong together, and what their scores make of the whole."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from ..errors import DataError

RULES = ("mean", "max", "noisy_or")


class Units(NamedTuple):
    """Breasts or patients.

    Attributes:
        references: int64 ``(units,)`` class numbers.
        patients: ``(units,)`` patient keys.
        scores: For each rule float64 ``(units, classes)``.
        conflicting: How many were left out because their images disagree.
        first: ``(units,)``, the place of each unit's first image.
    """

    references: np.ndarray
    patients: np.ndarray
    scores: dict[str, np.ndarray]
    conflicting: int
    first: np.ndarray


def into_units(
    name: str, references: np.ndarray, probabilities: np.ndarray, patients: np.ndarray, keys: np.ndarray
) -> Units:
    """Puts images together.

    With two classes a unit is positive if any of its images is; with more, a unit whose images disagree has no label
    and is left out. Its scores are, for each class, the mean of the images' probabilities, their maximum, or the
    noisy-or 1 - prod(1 - p), which takes the images as independent witnesses; with two classes the last two are of the
    positive class, and with more they are brought to a sum of one.

    Args:
        name: What the units are, for messages.
        references: int ``(n,)`` class numbers, all known.
        probabilities: ``(n, classes)``.
        patients: ``(n,)``.
        keys: ``(n,)`` the unit of each image.

    Raises:
        DataError: A unit holds images of two patients.
    """
    _, first, unit = np.unique(keys, return_index=True, return_inverse=True)
    if np.any(patients[first][unit] != patients):
        raise DataError(f"a {name} holds images of two patients", source=name, remedy="make its key hold the patient")
    count, classes = len(first), probabilities.shape[1]
    highest, lowest = np.full(count, -1), np.full(count, classes)
    np.maximum.at(highest, unit, references)
    np.minimum.at(lowest, unit, references)
    agreed = (highest == lowest) | (classes == 2)
    scores = {rule: aggregated(rule, probabilities, unit, count)[agreed] for rule in RULES}
    return Units(highest[agreed], patients[first][agreed], scores, int((~agreed).sum()), first[agreed])


def aggregated(rule: str, probabilities: np.ndarray, unit: np.ndarray, count: int) -> np.ndarray:
    """The scores of units from those of their images; see `into_units` for the rules.

    Args:
        rule: One of ``RULES``.
        probabilities: ``(n, classes)``.
        unit: int ``(n,)``, the number of each image's unit.
        count: How many units there are.

    Returns:
        ``(count, classes)``; NaN where an image's is.
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
