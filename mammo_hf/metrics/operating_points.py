"""Operating points: thresholds chosen on validation images and only applied to later images."""

from __future__ import annotations

from functools import partial
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from .classification import confusion
from .inputs import Ranking, UndefinedMetric, Weighted, check_binary, ratio
from .intervals import Groups, row_intervals

# For each rule the figure that it fixes, and its lowest value.
RULES = {
    "sensitivity_90": ("sensitivity", 0.9),
    "specificity_90": ("specificity", 0.9),
    "specificity_95": ("specificity", 0.95),
}
OperatingPoints = dict[str, dict[str, float]]


def choose_operating_points(references: ArrayLike, scores: ArrayLike) -> OperatingPoints:
    """Choose the thresholds of the rules on validation images.

    A threshold is half-way between the lowest score that is called positive and the next score below it.

    Args:
        references: ``(n,)`` of 0 and 1.
        scores: ``(n,)`` calibrated probabilities of the positive class.

    Returns:
        For each rule (``sensitivity_90``: the highest threshold with a sensitivity of at least 0.9; ``specificity_90``
        and ``specificity_95``: the lowest with a specificity of at least 0.9 and 0.95) its ``threshold`` in [0, 1], and
        the ``sensitivity`` and ``specificity`` there on these images.

    Raises:
        UndefinedMetric: There are no images, one class only, a NaN, or scores that are all equal.
        DataError: The shapes differ, or a reference is neither 0 nor 1.
    """
    positive, values = check_binary(references, scores)
    if np.ptp(values) == 0:
        raise UndefinedMetric("all scores are equal")
    ranking = Ranking(positive, values)
    hits, alarms = (counts[0] for counts in ranking.counts(np.ones((1, values.size))))
    sensitivity, specificity = hits / hits[-1], 1 - alarms / alarms[-1]
    # Calling no image positive takes a threshold above every score, even above a score of 1.
    borders = np.concatenate(([np.nextafter(1.0, 2.0) * 2 - ranking.thresholds[0]], ranking.thresholds, [0.0]))
    points = {}
    for name, (fixed, least) in RULES.items():
        if fixed == "sensitivity":
            index = int(np.argmax(sensitivity >= least - 1e-12))
        else:
            index = int(np.flatnonzero(specificity >= least - 1e-12)[-1])
        points[name] = {
            "threshold": _between(borders[index + 1], borders[index]),
            "sensitivity": float(sensitivity[index]),
            "specificity": float(specificity[index]),
        }
    return points


def _between(low: float, high: float) -> float:
    middle = float((low + high) / 2)
    # The middle of two neighbouring floats may round to the lower one, which would then be called positive too.
    return middle if middle > low else float(high)


def at_operating_point(
    references: ArrayLike,
    scores: ArrayLike,
    threshold: float,
    *,
    groups: Groups,
    resamples: int = 2000,
    seed: int = 0,
) -> dict[str, Any]:
    """Apply a threshold to images that it was not chosen on.

    Args:
        references: ``(n,)`` of 0 and 1.
        scores: ``(n,)`` calibrated probabilities of the positive class; positive if at least the threshold.
        threshold: Threshold in [0, 1].
        groups: ``(n,)`` patient keys.
        resamples: Bootstrap resamples of the intervals.
        seed: Seed of the bootstrap.

    Returns:
        ``threshold``, ``confusion`` (one row per true class, one column per called class), and ``sensitivity``,
        ``specificity``, ``positive_predictive_value``, ``negative_predictive_value``, each null with
        ``<name>_reason`` if there is nothing to divide by, and ``<name>_interval``. If every resample gives the same
        fraction, as with no error at all, the interval is Wilson's, with the number of patients as n.

    Raises:
        UndefinedMetric: There are no images, or a score is NaN.
        DataError: The shapes differ, or a reference is neither 0 nor 1.
    """
    truth, values = np.asarray(references), np.asarray(scores, dtype=np.float64)
    if np.isnan(values).any():
        raise UndefinedMetric(f"{np.count_nonzero(np.isnan(values))} of {values.size} scores are NaN")
    called = (values >= threshold).astype(np.int64)
    table = confusion(truth, called, classes=2)
    result: dict[str, Any] = {"threshold": float(threshold), "confusion": table.tolist()}
    whole = Weighted(truth, called, np.ones((1, truth.size)))
    for name, rows in _FRACTIONS.items():
        found = float(rows(whole)[0])
        result[name] = None if np.isnan(found) else found
        if np.isnan(found):
            result[f"{name}_reason"] = _NOTHING[name]
    try:
        intervals = row_intervals(_FRACTIONS, truth, called, groups=groups, resamples=resamples, seed=seed)
    except UndefinedMetric as error:
        return result | {f"{name}_interval": None for name in _FRACTIONS} | {"interval_reason": error.reason}
    keys = np.asarray(list(groups))
    for name, interval in intervals.items():
        if result[name] is None or not isinstance(interval, tuple):
            result[f"{name}_interval"] = None
        elif interval[0] < interval[1]:
            result[f"{name}_interval"] = list(interval)
        else:
            counted = _COUNTED[name](truth, called)
            result[f"{name}_interval"] = _wilson(result[name], len(set(keys[counted].tolist())))
    return result


def _wilson(fraction: float, n: int) -> list[float]:
    """Return Wilson's 95 % interval of a fraction of n patients, which has a width even if all patients agree."""
    z = 1.959964
    centre, reach = fraction + z**2 / (2 * n), z * np.sqrt(fraction * (1 - fraction) / n + z**2 / (4 * n**2))
    low, high = (centre - reach) / (1 + z**2 / n), (centre + reach) / (1 + z**2 / n)
    return [float(np.clip(low, 0, 1)), float(np.clip(high, 0, 1))]


def _fraction(data: Weighted, row: int, along_row: bool) -> np.ndarray:
    """Return the diagonal cell of ``row`` as a fraction of its true class (along_row) or of its called class."""
    table = np.zeros((len(data.weights), 2, 2))
    found = data.confusions
    table[:, : found.shape[1], : found.shape[2]] = found
    return ratio(table[:, row, row], table[:, row, :].sum(axis=1) if along_row else table[:, :, row].sum(axis=1))


_FRACTIONS = {
    "sensitivity": partial(_fraction, row=1, along_row=True),
    "specificity": partial(_fraction, row=0, along_row=True),
    "positive_predictive_value": partial(_fraction, row=1, along_row=False),
    "negative_predictive_value": partial(_fraction, row=0, along_row=False),
}
_COUNTED = {
    "sensitivity": lambda truth, called: truth == 1,
    "specificity": lambda truth, called: truth == 0,
    "positive_predictive_value": lambda truth, called: called == 1,
    "negative_predictive_value": lambda truth, called: called == 0,
}
_NOTHING = {
    "sensitivity": "no positive image",
    "specificity": "no negative image",
    "positive_predictive_value": "no image is called positive",
    "negative_predictive_value": "no image is called negative",
}
