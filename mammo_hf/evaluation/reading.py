"""How scores are read: the calibration and the operating points that one set of images, the validation split, fixes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from ..errors import DataError
from ..task_slices import slices_of
from .calibration import calibrated, fit_calibration
from .metrics import UndefinedMetric
from .operating_points import choose_operating_points
from .scored import Scored
from .units import into_units

Tasks = Sequence[Mapping[str, Any]]


@dataclass(frozen=True)
class Reading:
    """What is stored in a checkpoint's configuration, and why something is missing there.

    Attributes:
        calibration: For ``config.calibration``: by task's name, without the tasks that could not be calibrated.
        operating_points: For ``config.operating_points``: by task's name and ``image``, ``breast``, ``patient``.
        reasons: By task's name, for ``calibration`` and ``operating_points``, why there is none.
    """

    calibration: dict[str, dict[str, Any]]
    operating_points: dict[str, dict[str, Any]]
    reasons: dict[str, dict[str, str]]


def task_logits(tasks: Tasks, logits: np.ndarray) -> dict[str, np.ndarray]:
    """For each task's name its slice of the logits ``(n, labels)``.

    Raises:
        DataError: The logits are of other tasks.
    """
    labels = sum(len(task["labels"]) for task in tasks)
    if logits.shape[1] != labels:
        raise DataError(f"{logits.shape[1]} logits for tasks of {labels} labels", source="logits")
    return {name: logits[:, part] for name, part in slices_of(tasks).items()}


def fit_reading(tasks: Tasks, images: Scored, method: str | None = None) -> Reading:
    """Calibrates each task on some images and fixes its operating points there.

    Args:
        tasks: ``config.tasks``.
        images: Of the validation split, and of no other.
        method: Of `fit_calibration`.
    """
    reading = Reading({}, {}, {str(task["name"]): {} for task in tasks})
    logits = task_logits(tasks, images.logits)
    patients = np.asarray(list(images.patients))
    groupings = images.groupings()
    for number, (name, of_task) in enumerate(logits.items()):
        known = images.known(number)
        truth = np.asarray(images.labels)[known, number]
        try:
            reading.calibration[name] = fit_calibration(truth, of_task[known], patients[known], method)
        except DataError as error:
            reading.reasons[name]["calibration"] = error.problem
        if of_task.shape[1] != 2:
            continue
        table = calibrated(of_task[known], reading.calibration.get(name))
        try:
            points: dict[str, Any] = {"image": choose_operating_points(truth, table[:, 1])}
            for unit, keys in groupings.items():
                units = into_units(unit, truth, table, patients[known], np.asarray(keys)[known])
                points[unit] = choose_operating_points(units.references, units.scores["mean"][:, 1])
            reading.operating_points[name] = points
        except UndefinedMetric as error:
            reading.reasons[name]["operating_points"] = error.reason
    return reading
