"""Figures of one task on one split: by image and, if a grouping is given, by breast or patient.

The result is a plain dict that JSON takes: every figure is there under its name, and one that is not defined on these
data is null with its reason next to it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from ..data.schema import ORDINAL
from ..errors import DataError
from ..metrics.aggregation import RULES, UNKNOWN
from ..metrics.classification import (
    accuracy,
    auprc,
    auroc,
    auroc_of,
    balanced_accuracy,
    brier,
    confusion,
    ece,
    error_at_coverage,
    macro_auroc,
    partial_auc,
    pf1,
    quadratic_kappa,
    sensitivity_at_specificity,
    specificity_at_sensitivity,
)
from ..metrics.inputs import UndefinedMetric, check_classes
from ..metrics.intervals import bootstrap_intervals, paired_interval
from ..metrics.operating_points import at_operating_point
from .scored import HEAD, into_units

Keys = Sequence[object] | np.ndarray
Metrics = dict[str, Callable[..., float]]
Points = Mapping[str, Mapping[str, Mapping[str, float]]]
OF_TWO_CLASSES: Metrics = {
    "auroc": auroc,
    "auprc": auprc,
    "partial_auroc": partial_auc,
    "sensitivity_at_90_specificity": partial(sensitivity_at_specificity, specificity=0.9),
    "sensitivity_at_95_specificity": partial(sensitivity_at_specificity, specificity=0.95),
    "specificity_at_90_sensitivity": partial(specificity_at_sensitivity, sensitivity=0.9),
    "specificity_at_95_sensitivity": partial(specificity_at_sensitivity, sensitivity=0.95),
    "pf1": pf1,
    "brier": brier,
    "ece": ece,
}
OF_SEVERAL_CLASSES: Metrics = {"auroc": macro_auroc, "brier": brier, "ece": ece}
OF_PREDICTIONS: Metrics = {"accuracy": accuracy, "balanced_accuracy": balanced_accuracy}
COVERAGES = (1.0, 0.95, 0.9, 0.8, 0.7, 0.6, 0.5)  # fractions of the images that are not left to a person
# These are defined with one class alone.
_NEED_NO_SECOND_CLASS = ("accuracy", "balanced_accuracy", "quadratic_kappa", "brier", "ece")


def evaluate_task(
    task: Mapping[str, Any],
    references: ArrayLike,
    probabilities: ArrayLike,
    patients: Keys,
    *,
    groupings: Mapping[str, Keys] | None = None,
    of_units: Mapping[str, np.ndarray] | None = None,
    counted: np.ndarray | None = None,
    operating_points: Points | None = None,
    ordinal: bool | None = None,
    resamples: int = 2000,
    seed: int = 0,
) -> dict[str, Any]:
    """Evaluate one task on the images that have a known label.

    With two classes ``auroc`` is that of the last label (the positive); with more it is the macro average, one against
    the rest. Intervals are the 95 % bootstrap over patients. A prediction is the class of highest probability.

    A unit of a grouping (a breast, a patient) is scored by the mean, the maximum and the noisy-or of its labelled
    images, each reported separately; see `into_units`.

    Args:
        task: ``{"name": str, "labels": [str, ...]}``, as in a model's ``config.tasks``.
        references: ``(n,)`` class numbers, -100 if the label is not known.
        probabilities: ``(n, classes)`` probabilities.
        patients: ``(n,)`` patient keys; they are counted and resampled, never written out.
        groupings: Keys ``(n,)`` of the units, by kind of unit, such as ``"breast"`` and ``"patient"``.
        of_units: By kind of unit, the probabilities ``(n, classes)`` that the model itself gives to the unit of each
            image; they are reported as ``head``, with the paired difference of its AUC to that of each rule.
        counted: bool ``(n,)``, the images whose scores are combined to those of units; ``None``: all.
        operating_points: Thresholds that validation fixed, for ``"image"`` and kinds of unit, as
            `choose_operating_points` gives them; those of a unit are applied to the model's own score of it, or else to
            the mean of its images.
        ordinal: Whether the labels are ordered; ``None``: for density, BI-RADS, tissue and years to cancer.
        resamples: Bootstrap resamples.
        seed: Seed of the bootstrap.

    Returns:
        ``task``, ``labels``, ``positive`` (two classes), ``n_images``, ``n_unknown``, ``n_patients``, ``class_counts``
        (label to count), the metrics of this module's tables with ``<name>_interval`` (``[low, high]``), ``confusion``
        (one row per true class), ``operating_points`` if given, and for each that is null ``<name>_reason``;
        ``risk_coverage`` (the ``error`` among the images of highest probability, by ``coverage``, with ``interval``);
        with groupings also ``units``: for each ``n_units``, ``n_conflicting``, ``n_patients``, ``class_counts``, and
        under ``mean``, ``max``, ``noisy_or`` and, if given, ``head`` the same figures; and ``differences``: for each
        rule the AUC of the head minus the rule's as ``difference``, with ``interval``, null with a ``reason``.

    Raises:
        DataError: Shapes do not fit the task, a label is outside its vocabulary, or a unit spans two patients.
    """
    name, labels = str(task["name"]), [str(label) for label in task["labels"]]
    truth, table, keys = _checked(name, labels, references, probabilities, patients)
    known = truth != UNKNOWN
    result: dict[str, Any] = {"task": name, "labels": labels}
    if len(labels) == 2:
        result["positive"] = labels[-1]
    result |= {"n_images": int(known.sum()), "n_unknown": int((~known).sum())}
    ordinal = name in ORDINAL if ordinal is None else ordinal
    figures = partial(_figures, labels, ordinal=ordinal and len(labels) > 2, resamples=resamples, seed=seed)
    points, draw = operating_points or {}, {"resamples": resamples, "seed": seed}
    result |= _counts(labels, truth[known], keys[known])
    result |= figures(truth[known], table[known], keys[known], points=points.get("image"))
    result["risk_coverage"] = _risk_coverage(truth[known], table[known], keys[known], **draw)
    if groupings is None:
        return result
    result["units"] = {}
    some = None if counted is None else np.asarray(counted, bool)[known]
    for unit, unit_keys in groupings.items():
        of_image = as_keys(unit_keys, len(truth), unit)[known]
        own = (of_units or {}).get(unit)
        given = None if own is None else np.asarray(own, dtype=np.float64)[known]
        ranked: dict[str, Any] = {"of_units": given, "counted": some, "ordered": ordinal}
        units = into_units(unit, truth[known], table[known], keys[known], of_image, **ranked)
        found: dict[str, Any] = {"n_units": len(units.references), "n_conflicting": units.conflicting}
        found |= _counts(labels, units.references, units.patients)
        for rule, scores in units.scores.items():
            at = points.get(unit) if rule == ("mean" if given is None else HEAD) else None
            found[rule] = figures(units.references, scores, units.patients, points=at)
        if given is not None:
            found["differences"] = {
                rule: auroc_difference(units.references, units.scores[rule], units.scores[HEAD], units.patients, **draw)
                for rule in RULES
            }
        result["units"][unit] = found
    return result


def auroc_difference(
    references: np.ndarray, first: np.ndarray, second: np.ndarray, patients: np.ndarray, **draw: int
) -> dict[str, Any]:
    """Return the AUC of the second probabilities minus that of the first, with the paired interval by patient.

    Args:
        references: ``(n,)`` class numbers.
        first: ``(n, classes)`` probabilities.
        second: ``(n, classes)`` probabilities of the same units.
        patients: ``(n,)`` patient keys.
        **draw: Resamples and seed of the bootstrap.

    Returns:
        ``difference`` and ``interval``; what is undefined is null, with a ``reason``.
    """
    metric, before = auroc_of(first)
    _, after = auroc_of(second)
    found: dict[str, Any] = {"difference": None, "interval": None}
    try:
        found["difference"] = metric(references, after) - metric(references, before)
        found["interval"] = list(paired_interval(metric, references, before, after, groups=patients, **draw))
    except UndefinedMetric as error:
        found["reason"] = error.reason
    return found


def _risk_coverage(truth: np.ndarray, table: np.ndarray, patients: np.ndarray, **draw: int) -> list[dict[str, Any]]:
    """Return the error among the images that the model is surest of, by coverage, with intervals by patient."""
    if not len(truth) or np.isnan(table).any():
        return []
    metrics: Metrics = {f"{part:g}": partial(error_at_coverage, coverage=part) for part in COVERAGES}
    try:
        intervals: Mapping[str, Any] = bootstrap_intervals(metrics, truth, table, groups=patients, **draw)
    except UndefinedMetric:
        intervals = {}
    found = []
    for part, metric in zip(COVERAGES, metrics.values(), strict=True):
        interval = intervals.get(f"{part:g}")
        shown = list(interval) if isinstance(interval, tuple) else None
        found.append({"coverage": part, "error": metric(truth, table), "interval": shown})
    return found


def _counts(labels: list[str], truth: np.ndarray, patients: np.ndarray) -> dict[str, Any]:
    counts = np.bincount(truth, minlength=len(labels)).tolist()
    return {
        "n_patients": len(set(patients.tolist())),
        "class_counts": dict(zip(labels, counts, strict=True)),
    }


def _figures(
    labels: list[str],
    truth: np.ndarray,
    table: np.ndarray,
    patients: np.ndarray,
    *,
    points: Mapping[str, Mapping[str, float]] | None,
    ordinal: bool,
    resamples: int,
    seed: int,
) -> dict[str, Any]:
    binary = len(labels) == 2
    of_predictions = OF_PREDICTIONS | ({"quadratic_kappa": quadratic_kappa} if ordinal else {})
    draw: dict[str, Any] = {"groups": patients, "resamples": resamples, "seed": seed}
    missing = [
        label for label, count in zip(labels, np.bincount(truth, minlength=len(labels)), strict=True) if not count
    ]
    # A label's name says more than the class number in a metric's own error.
    lacking = f"no image is labelled {' or '.join(missing)}" if truth.size and missing else None
    bad = int(np.isnan(table).any(axis=1).sum())
    if bad:
        # argmax would predict the class that is NaN.
        lacking = f"{bad} of {len(table)} images have NaN probabilities"
    result: dict[str, Any] = {}
    if binary:
        result |= _with_intervals(OF_TWO_CLASSES, truth, table[:, 1], lacking, draw)
    else:
        result |= _with_intervals(OF_SEVERAL_CLASSES, truth, table, lacking, draw)
    predicted = np.full(len(truth), -1) if bad else table.argmax(axis=1)
    result |= _with_intervals(of_predictions, truth, predicted, lacking if bad else None, draw, refused=bool(bad))
    _set(result, "confusion", lambda: _counted(truth, predicted, len(labels), lacking if bad else None))
    if binary and points:
        result["operating_points"] = {}
        for rule, point in points.items():
            at = partial(at_operating_point, truth, table[:, 1], point["threshold"], **draw)
            _set(result["operating_points"], rule, at)
    return result


def _with_intervals(
    metrics: Metrics,
    truth: np.ndarray,
    values: np.ndarray,
    lacking: str | None,
    draw: dict[str, Any],
    refused: bool = False,
) -> dict[str, Any]:
    """Compute each metric with its interval, or null with the reason."""
    result: dict[str, Any] = {}
    for name, metric in metrics.items():
        if refused:
            result |= {name: None, f"{name}_reason": lacking}
        else:
            _set(result, name, partial(metric, truth, values), None if name in _NEED_NO_SECOND_CLASS else lacking)
    defined = {name: metric for name, metric in metrics.items() if result[name] is not None}
    intervals: dict[str, Any] = {}
    if defined:
        try:
            intervals |= bootstrap_intervals(defined, truth, values, **draw)
        except UndefinedMetric as error:
            intervals = dict.fromkeys(defined, error)
    for name in metrics:
        found = intervals.get(name)
        if isinstance(found, tuple) and found[0] == found[1]:
            # This happens with separable classes, and is not a sign of certainty.
            found = UndefinedMetric("every resample gives the same value")
        result[f"{name}_interval"] = list(found) if isinstance(found, tuple) else None
        if not isinstance(found, tuple):
            result[f"{name}_interval_reason"] = result[f"{name}_reason"] if found is None else found.reason
    return result


def _counted(truth: np.ndarray, predicted: np.ndarray, classes: int, refused: str | None) -> list[list[int]]:
    if refused is not None:
        raise UndefinedMetric(refused)
    table: list[list[int]] = confusion(truth, predicted, classes=classes).tolist()
    return table


def _set(result: dict[str, Any], name: str, figure: Callable[[], Any], reason: str | None = None) -> None:
    """Store a figure under its name, or null with the reason."""
    try:
        result[name] = figure()
    except UndefinedMetric as error:
        result[name] = None
        result[f"{name}_reason"] = reason or error.reason


def _checked(
    name: str, labels: list[str], references: ArrayLike, probabilities: ArrayLike, patients: Keys
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return references as int64, probabilities as float64, and patients; all of one length and in range."""
    truth = np.asarray(references)
    table = np.asarray(probabilities, dtype=np.float64)
    if len(labels) < 2:
        raise DataError(f"{len(labels)} label", source=name, remedy="a task needs at least two labels")
    if truth.ndim != 1 or table.shape != (len(truth), len(labels)):
        raise DataError(
            f"probabilities of shape {table.shape} for {truth.shape} references and {len(labels)} labels", source=name
        )
    known = truth != UNKNOWN
    if known.any():
        check_classes(truth[known], table[known])
    return truth.astype(np.int64), table, as_keys(patients, len(truth), "patients")


def as_keys(keys: Keys, n: int, name: str) -> np.ndarray:
    """Return the keys of ``n`` images as an array.

    Raises:
        DataError: There are more or fewer keys, or an image has none.
    """
    listed = list(keys)
    if len(listed) != n:
        raise DataError(f"{len(listed)} keys for {n} images", source=name)
    if any(key is None or key != key for key in listed):
        raise DataError("an image without a key", source=name, remedy="give every image one")
    return np.asarray(listed)
