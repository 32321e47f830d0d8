"""One task's figures on one split: by image and, where a grouping is given, by breast or patient.

The result is a plain dict that JSON takes: every figure is there under its name, and one that is not defined on these
data is null with its reason beside it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from ..errors import DataError
from .intervals import bootstrap_interval
from .metrics import UndefinedMetric, accuracy, auroc, balanced_accuracy, check_classes, confusion, macro_auroc

Keys = Sequence[object] | np.ndarray

# the value that a label has where it is not known, as in torch's cross-entropy
UNKNOWN = -100


def evaluate_task(
    task: Mapping[str, Any],
    references: ArrayLike,
    probabilities: ArrayLike,
    patients: Keys,
    *,
    groupings: Mapping[str, Keys] | None = None,
    resamples: int = 2000,
    seed: int = 0,
) -> dict[str, Any]:
    """Evaluate one task on the images whose label is known.

    With two classes ``auroc`` is that of the last label (the positive); with more it is the macro average, one against
    the rest. Its interval is the 95 % bootstrap over patients. A prediction is the class of highest probability.

    A unit of a grouping (a breast, a patient) gets the mean probabilities of its labelled images. With two classes it
    is positive if any of its images is; with more, a unit whose images disagree has no label and is left out and
    counted in ``n_conflicting``.

    Args:
        task: ``{"name": str, "labels": [str, ...]}``, as in a model's ``config.tasks``.
        references: ``(n,)`` class numbers, -100 where the label is not known.
        probabilities: ``(n, classes)``.
        patients: ``(n,)`` patient keys; they are counted and resampled, never written out.
        groupings: For each kind of unit, such as ``"breast"`` and ``"patient"``, the ``(n,)`` keys of its units.
        resamples: Bootstrap resamples.
        seed: Seed of the bootstrap.

    Returns:
        ``task``, ``labels``, ``positive`` (two classes), ``n_images``, ``n_unknown``, ``n_patients``, ``class_counts``
        (label to count), ``auroc``, ``auroc_interval`` (``[low, high]``), ``accuracy``, ``balanced_accuracy``,
        ``confusion`` (a row a true class), and for each of them that is null ``<name>_reason``; with groupings also
        ``units``: for each, the same figures and ``n_units``, ``n_conflicting``.

    Raises:
        DataError: Shapes do not fit the task, a label is outside its vocabulary, or a unit spans two patients.
    """
    labels = [str(label) for label in task["labels"]]
    truth, table, keys = _checked(str(task["name"]), labels, references, probabilities, patients)
    known = truth != UNKNOWN
    result: dict[str, Any] = {"task": str(task["name"]), "labels": labels}
    if len(labels) == 2:
        result["positive"] = labels[-1]
    result |= {"n_images": int(known.sum()), "n_unknown": int((~known).sum())}
    figures = partial(_figures, labels, resamples=resamples, seed=seed)
    result |= figures(truth[known], table[known], keys[known])
    if groupings is not None:
        result["units"] = {}
        for name, units in groupings.items():
            unit_keys = _as_keys(units, len(truth), name)
            grouped, conflicting = _group(name, truth[known], table[known], keys[known], unit_keys[known])
            counts = {"n_units": len(grouped[0]), "n_conflicting": conflicting}
            result["units"][name] = counts | figures(*grouped)
    return result


def _figures(
    labels: list[str], truth: np.ndarray, table: np.ndarray, patients: np.ndarray, *, resamples: int, seed: int
) -> dict[str, Any]:
    binary = len(labels) == 2
    area, scores = (auroc, table[:, 1]) if binary else (macro_auroc, table)
    predicted = partial(_of_predictions, truth, table)
    figures: dict[str, Callable[[], Any]] = {
        "auroc": lambda: area(truth, scores),
        "auroc_interval": lambda: list(
            bootstrap_interval(area, truth, scores, groups=patients, resamples=resamples, seed=seed)
        ),
        "accuracy": lambda: predicted(accuracy),
        "balanced_accuracy": lambda: predicted(balanced_accuracy),
        "confusion": lambda: predicted(partial(confusion, classes=len(labels))).tolist(),
    }
    counts = np.bincount(truth, minlength=len(labels))
    result: dict[str, Any] = {
        "n_patients": len(set(patients.tolist())),
        "class_counts": {label: int(count) for label, count in zip(labels, counts, strict=True)},
    }
    missing = [label for label, count in zip(labels, counts, strict=True) if not count]
    for name, figure in figures.items():
        try:
            result[name] = figure()
        except UndefinedMetric as error:
            result[name] = None
            # a label's name says more than the class number that the metric knows
            lacking = truth.size and missing and name.startswith("auroc")
            result[f"{name}_reason"] = f"no image is labelled {' or '.join(missing)}" if lacking else error.reason
    return result


def _of_predictions(truth: np.ndarray, table: np.ndarray, metric: Callable[[np.ndarray, np.ndarray], Any]) -> Any:
    """A metric of the predicted classes; NaN would be predicted as the class where it stands, so it is refused."""
    bad = int(np.isnan(table).any(axis=1).sum())
    if bad:
        raise UndefinedMetric(f"{bad} of {len(table)} images have NaN probabilities")
    return metric(truth, table.argmax(axis=1))


def _group(
    name: str, truth: np.ndarray, table: np.ndarray, patients: np.ndarray, units: np.ndarray
) -> tuple[tuple[np.ndarray, np.ndarray, np.ndarray], int]:
    """Mean probabilities, label and patient of each unit, and how many were left out because their images disagree."""
    _, first, unit = np.unique(units, return_index=True, return_inverse=True)
    if np.any(patients[first][unit] != patients):
        raise DataError(f"a {name} holds images of two patients", source=name, remedy="make its key hold the patient")
    sizes = np.bincount(unit, minlength=len(first))
    sums = np.stack([np.bincount(unit, weights=column, minlength=len(first)) for column in table.T], axis=1)
    means = sums / sizes[:, None]
    highest, lowest = np.full(len(first), -1), np.full(len(first), table.shape[1])
    np.maximum.at(highest, unit, truth)
    np.minimum.at(lowest, unit, truth)
    agreed = (highest == lowest) | (table.shape[1] == 2)
    return (highest[agreed], means[agreed], patients[first][agreed]), int((~agreed).sum())


def _checked(
    name: str, labels: list[str], references: ArrayLike, probabilities: ArrayLike, patients: Keys
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """References int64 with -100 for unknown, probabilities float64, patients; all of one length and in range."""
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
    return truth.astype(np.int64), table, _as_keys(patients, len(truth), "patients")


def _as_keys(keys: Keys, n: int, name: str) -> np.ndarray:
    listed = list(keys)
    if len(listed) != n:
        raise DataError(f"{len(listed)} keys for {n} images", source=name)
    if any(key is None or key != key for key in listed):
        raise DataError("an image without a key", source=name, remedy="give every image one")
    return np.asarray(listed)
