"""Labels and scores of breasts, exams or patients, put together from those of their images."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

LEVELS = ("image", "breast", "exam")  # units that a model may score
RULES = ("mean", "max", "noisy_or")
HEAD = "head"  # the score that a model gives to a unit itself, next to the rules that combine its images
UNKNOWN = -100  # a label that is not known, as in torch's cross-entropy


def unit_keys(
    level: str, patients: Sequence[str], exams: Sequence[str | None], sides: Sequence[str | None]
) -> list[str]:
    """Return for each image the key of its unit: the image itself, its breast, or its exam.

    Images of a patient without a known exam are one exam; an image of unknown side is a breast of its own.

    Args:
        level: "image", "breast" or "exam".
        patients: Patient of each image.
        exams: Exam of each image, ``None`` if not known.
        sides: Side of each image, "L", "R" or ``None``.
    """
    rows = enumerate(zip(patients, exams, sides, strict=True))
    if level == "exam":
        return [f"{patient} {exam}" for _, (patient, exam, _) in rows]
    alone = level == "image"
    return [
        f"{patient} {exam} {f'image {index}' if alone or side is None else side}"
        for index, (patient, exam, side) in rows
    ]


def counted_images(
    patients: Sequence[str],
    exams: Sequence[str | None],
    sides: Sequence[str | None],
    views: Sequence[str | None],
    places: Sequence[int | None],
) -> np.ndarray:
    """Return which images count for the scores of their breast and exam, bool (n,).

    Of several images of one exam, side and view, one counts, so that an exam has one of each view.

    Args:
        patients: Patient of each image.
        exams: Exam of each image, ``None`` if not known.
        sides: Side of each image, "L", "R" or ``None``.
        views: View of each image, ``None`` if not known.
        places: Place of each image among those of its exam, side and view: the least that is here counts; ``None``: it
            counts in any case.
    """
    keys = list(zip(patients, exams, sides, views, strict=True))
    least: dict[object, int] = {}
    for key, place in zip(keys, places, strict=True):
        if place is not None:
            least[key] = min(place, least.get(key, place))
    return np.array([place is None or place == least[key] for key, place in zip(keys, places, strict=True)], bool)


def unit_labels(references: np.ndarray, unit: np.ndarray, count: int, *, ordered: bool) -> np.ndarray:
    """Return the label of each unit from those of its images, int64 ``(count,)``.

    It is the most severe of the known labels if labels have an order, as two labels always have. Otherwise a unit whose
    images disagree has no label.

    Args:
        references: Class numbers of images, least severe first, int ``(n,)``, ``UNKNOWN`` if not known.
        unit: Index of each image's unit, int ``(n,)``.
        count: Number of units.
        ordered: Whether the labels have an order.

    Returns:
        Class numbers, ``UNKNOWN`` if no image has a known label or images disagree.
    """
    known = references != UNKNOWN
    highest, lowest = np.full(count, UNKNOWN, np.int64), np.full(count, np.iinfo(np.int64).max)
    np.maximum.at(highest, unit[known], references[known])
    np.minimum.at(lowest, unit[known], references[known])
    if not ordered:
        highest[highest != lowest] = UNKNOWN
    return highest


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
