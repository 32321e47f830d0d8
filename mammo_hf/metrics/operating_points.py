"""Operating points: thresholds that validation images fix and later images are only held against."""

from __future__ import annotations

from functools import partial
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from .classes import confusion
from .inputs import Ranking, UndefinedMetric, Weighted, check_binary, ratio
from .intervals import Groups, row_intervals

# rule: what it holds fast, and at which value
RULES = {"sensitivity_90": ("sensitivity", 0.9), "specificity_90": ("specificity", 0.9)}
OperatingPoints = dict[str, dict[str, float]]


def choose_operating_points(references: ArrayLike, scores: ArrayLike) -> OperatingPoints:
    """The thresholds by which validation images are called positive.

    The threshold lies half-way between the last score that is called positive and the next below it.

    Args:
        references: ``(n,)`` of 0 and 1.
        scores: ``(n,)`` calibrated probabilities of the positive class.

    Returns:
        For each rule (``sensitivity_90``: the highest threshold with a sensitivity of at least 0.9;
        ``specificity_90``: the lowest with such a specificity) its ``threshold`` in [0, 1], and the ``sensitivity`` and
        ``specificity`` there on these very images.

    Raises:
        UndefinedMetric: No images, one class only, a NaN, or scores that are all equal.
        DataError: The shapes differ, or a reference is neither 0 nor 1.
    """
    positive, values = check_binary(references, scores)
    if np.ptp(values) == 0:
        raise UndefinedMetric("all scores are equal")
    ranking = Ranking(positive, values)
    hits, alarms = (counts[0] for counts in ranking.counts(np.ones((1, values.size))))
    sensitivity, specificity = hits / hits[-1], 1 - alarms / alarms[-1]
    # calling nothing takes a threshold above every score, also above one of 1
    borders = np.concatenate(([np.nextafter(1.0, 2.0) * 2 - ranking.thresholds[0]], ranking.thresholds, [0.0]))
    points = {}
    for name, (held, least) in RULES.items():
        if held == "sensitivity":
            place = int(np.argmax(sensitivity >= least - 1e-12))
        else:
            place = int(np.flatnonzero(specificity >= least - 1e-12)[-1])
        points[name] = {
            "threshold": _between(borders[place + 1], borders[place]),
            "sensitivity": float(sensitivity[place]),
            "specificity": float(specificity[place]),
        }
    return points


def _between(low: float, high: float) -> float:
    middle = float((low + high) / 2)
    # of neighbouring numbers the middle may be the lower one, which would call it too
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
    """What a threshold gives on images that did not choose it.

    Args:
        references: ``(n,)`` of 0 and 1.
        scores: ``(n,)`` calibrated probabilities of the positive class; positive if at least the threshold.
        threshold: In [0, 1].
        groups: ``(n,)`` patient keys.
        resamples: Bootstrap resamples of the intervals.
        seed: Of the bootstrap.

    Returns:
        ``threshold``, ``confusion`` (a row a true class, a column a called one), and ``sensitivity``, ``specificity``,
        ``positive_predictive_value``, ``negative_predictive_value``, each null with ``<name>_reason`` where there is
        nothing to divide by, and ``<name>_interval``; where every resample gives the same share, as with no error at
        all, it is Wilson's, with the patients as the number.

    Raises:
        UndefinedMetric: No images, or a NaN.
        DataError: The shapes differ, or a reference is neither 0 nor 1.
    """
    truth, values = np.asarray(references), np.asarray(scores, dtype=np.float64)
    if np.isnan(values).any():
        raise UndefinedMetric(f"{np.count_nonzero(np.isnan(values))} of {values.size} scores are NaN")
    called = (values >= threshold).astype(np.int64)
    table = confusion(truth, called, classes=2)
    result: dict[str, Any] = {"threshold": float(threshold), "confusion": table.tolist()}
    whole = Weighted(truth, called, np.ones((1, truth.size)))
    for name, rows in _SHARES.items():
        found = float(rows(whole)[0])
        result[name] = None if np.isnan(found) else found
        if np.isnan(found):
            result[f"{name}_reason"] = _NOTHING[name]
    try:
        intervals = row_intervals(_SHARES, truth, called, groups=groups, resamples=resamples, seed=seed)
    except UndefinedMetric as error:
        return result | {f"{name}_interval": None for name in _SHARES} | {"interval_reason": error.reason}
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


def _wilson(share: float, n: int) -> list[float]:
    """Wilson's 95 % interval of a share of n patients: where all agree, resamples would say that it cannot be else."""
    z = 1.959964
    centre, reach = share + z**2 / (2 * n), z * np.sqrt(share * (1 - share) / n + z**2 / (4 * n**2))
    low, high = (centre - reach) / (1 + z**2 / n), (centre + reach) / (1 + z**2 / n)
    return [float(np.clip(low, 0, 1)), float(np.clip(high, 0, 1))]


def _share(data: Weighted, row: int, along_row: bool) -> np.ndarray:
    """Of the images that are (along_row) or are called ``row``, the share that is the other way too."""
    table = np.zeros((len(data.weights), 2, 2))
    found = data.confusions
    table[:, : found.shape[1], : found.shape[2]] = found
    return ratio(table[:, row, row], table[:, row, :].sum(axis=1) if along_row else table[:, :, row].sum(axis=1))


_SHARES = {
    "sensitivity": partial(_share, row=1, along_row=True),
    "specificity": partial(_share, row=0, along_row=True),
    "positive_predictive_value": partial(_share, row=1, along_row=False),
    "negative_predictive_value": partial(_share, row=0, along_row=False),
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
