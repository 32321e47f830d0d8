"""Calibration of a task's probabilities: temperature or Platt scaling, fitted on validation images alone.

Neither changes the ranking of images within a binary task, and temperature does not change which class is predicted.
The fit is plain data, stored as ``config.calibration`` and applied wherever the model's probabilities are computed.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import ArrayLike
from scipy import optimize
from scipy.special import expit, log_softmax, softmax

from ..errors import DataError, UsageError
from .inputs import check_classes
from .intervals import Groups

METHODS = ("temperature", "platt")
# With fewer, one or two parameters fit the sample and not the population (rule of ten events per parameter).
FEWEST_PATIENTS, FEWEST_OF_A_CLASS = 20, 10
_LOWEST, _HIGHEST = 0.05, 20.0  # temperatures; a fit at these limits is not determined by the images
Calibration = dict[str, Any]


def fit_calibration(
    references: ArrayLike, logits: ArrayLike, patients: Groups, method: str | None = None
) -> Calibration:
    """Fit the calibration of one task on images with a known label.

    Args:
        references: ``(n,)`` class numbers.
        logits: ``(n, classes)`` logits, the task's slice of the model's.
        patients: ``(n,)`` patient keys.
        method: "temperature" (Guo et al. 2017, arXiv 1706.04599), or "platt" for two classes (Platt 1999, with his
            targets, which keep the slope finite if the classes are separable). ``None``: platt for two classes, because
            class weights in training shift the probabilities, which a temperature cannot undo; else temperature.

    Returns:
        ``{"method": "temperature", "temperature": ...}`` or ``{"method": "platt", "slope": ..., "intercept": ...}``,
        with the ``n_images`` and ``n_patients`` that it was fitted on.

    Raises:
        DataError: There are too few patients or only one class, the scores are not finite or all equal, or they do
            not separate the labels; ``problem`` says which.
        UsageError: The method is unknown, or platt was asked for with more than two classes.
    """
    truth, table = check_classes(references, logits)
    classes = table.shape[1]
    method = method or ("platt" if classes == 2 else "temperature")
    if method not in METHODS or (method == "platt" and classes != 2):
        raise UsageError(
            f"there is no calibration {method!r} of {classes} classes",
            source="method",
            remedy="use temperature, or platt for two classes",
        )
    keys = np.asarray(list(patients))
    _check_enough(truth, table, keys)
    fit = _platt(truth, table[:, 1] - table[:, 0]) if method == "platt" else _temperature(truth, table)
    return {"method": method, **fit, "n_images": int(truth.size), "n_patients": len(set(keys.tolist()))}


def calibrated(logits: ArrayLike, calibration: Mapping[str, Any] | None) -> np.ndarray:
    """Return a task's calibrated probabilities.

    Args:
        logits: ``(n, classes)`` logits, the task's slice of the model's.
        calibration: Result of `fit_calibration`; ``None``: the plain softmax.

    Returns:
        float64 ``(n, classes)``; each row sums to 1.

    Raises:
        UsageError: The calibration's method is unknown.
    """
    table = np.asarray(logits, dtype=np.float64)
    if calibration is None:
        return np.asarray(softmax(table, axis=1))
    if calibration["method"] == "temperature":
        return np.asarray(softmax(table / calibration["temperature"], axis=1))
    if calibration["method"] == "platt":
        log_odds = calibration["slope"] * (table[:, 1] - table[:, 0]) + calibration["intercept"]
        return np.stack([expit(-log_odds), expit(log_odds)], axis=1)
    raise UsageError(f"there is no calibration {calibration['method']!r}", source="calibration", remedy="fit it again")


def _check_enough(truth: np.ndarray, table: np.ndarray, patients: np.ndarray) -> None:
    if len(patients) != truth.size:
        raise DataError(f"{len(patients)} patients for {truth.size} images", source="patients")
    if not np.isfinite(table).all():
        raise DataError("the scores are not finite")
    if (np.ptp(table - table.mean(axis=1, keepdims=True), axis=0) == 0).all():
        raise DataError("all scores are equal")
    every = len(set(patients.tolist()))
    of_class = [len(set(patients[truth == k].tolist())) for k in np.unique(truth)]
    if every < FEWEST_PATIENTS or len(of_class) < 2 or (table.shape[1] == 2 and min(of_class) < FEWEST_OF_A_CLASS):
        found = "one class only" if len(of_class) < 2 else f"{every} patients, {min(of_class)} of the rarest class"
        raise DataError(
            f"too few images to calibrate on: {found}",
            remedy=f"give {FEWEST_PATIENTS} patients, and {FEWEST_OF_A_CLASS} of either class",
        )


def _temperature(truth: np.ndarray, table: np.ndarray) -> dict[str, float]:
    def loss(log_temperature: float) -> float:
        scaled = log_softmax(table / np.exp(log_temperature), axis=1)
        return float(-scaled[np.arange(truth.size), truth].mean())

    if (table.argmax(axis=1) == truth).all():
        raise DataError("the validation images give no temperature: the scores separate the classes without an error")
    limits = (float(np.log(_LOWEST)), float(np.log(_HIGHEST)))
    found = optimize.minimize_scalar(loss, bounds=limits, method="bounded", options={"xatol": 1e-6})
    if min(abs(found.x - limit) for limit in limits) < 1e-3:
        raise DataError("the validation images give no temperature: the scores do not separate the classes")
    return {"temperature": float(np.exp(found.x))}


def _platt(truth: np.ndarray, log_odds: np.ndarray) -> dict[str, float]:
    positives, negatives = int((truth == 1).sum()), int((truth == 0).sum())
    target = np.where(truth == 1, (positives + 1) / (positives + 2), 1 / (negatives + 2))
    # Fit on a standard scale: the optimiser then converges whatever the scale of the model's scores.
    centre, spread = float(log_odds.mean()), float(log_odds.std())
    scaled = (log_odds - centre) / spread

    def loss(parameters: np.ndarray) -> tuple[float, np.ndarray]:
        score = parameters[0] * scaled + parameters[1]
        rest = expit(score) - target
        return float(np.mean(np.logaddexp(0, score) - target * score)), np.array([np.mean(rest * scaled), rest.mean()])

    found = optimize.minimize(loss, np.zeros(2), jac=True, method="BFGS", options={"gtol": 1e-9}).x
    if found[0] <= 0:
        raise DataError("the validation images give no calibration: higher scores do not mean more positives")
    return {"slope": float(found[0] / spread), "intercept": float(found[1] - found[0] * centre / spread)}
