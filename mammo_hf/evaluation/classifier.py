"""A classifier's evaluation from scores to figures, read as its checkpoint says and not as the test would like."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np

from ..errors import DataError
from ..metrics.calibration import calibrated, fit_calibration
from ..metrics.classification import auroc_of, brier, ece
from ..metrics.inputs import UndefinedMetric
from ..metrics.intervals import FEW_PATIENTS, bootstrap_interval
from ..metrics.operating_points import at_operating_point, choose_operating_points
from ..models.configuration_mammo_swin import slices_of
from .classification import evaluate_task
from .scored import Scored, into_units

# How scores are read: the calibration and the operating points that one set of images, the validation split, fixes.


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


logger = logging.getLogger(__name__)
# the first of these that there is
_SUBGROUP_POINTS = ("sensitivity_90", "given")


class HasTasks(Protocol):
    """What of a `MammoSwinConfig` is read and, with a validation split, written."""

    tasks: Any
    calibration: dict[str, Any] | None
    operating_points: dict[str, Any] | None


@dataclass(frozen=True)
class TaskScores:
    """What the plots of a task are drawn from: its images with a known label.

    Attributes:
        labels: The task's, in order.
        references: int ``(n,)``.
        before: ``(n, labels)`` probabilities of the plain softmax.
        after: The same, calibrated.
        patients: ``(n,)``.
        places: ``(n,)`` where each image stands in the split.
    """

    labels: tuple[str, ...]
    references: np.ndarray
    before: np.ndarray
    after: np.ndarray
    patients: np.ndarray
    places: np.ndarray


@dataclass(frozen=True)
class Evaluation:
    """The figures, which JSON takes, and the scores that plots need.

    Attributes:
        figures: By task's name what `evaluate_task` gives, and besides ``calibration``, ``calibration_reason``,
            ``uncalibrated``, ``would_choose`` and ``subgroups``.
        warnings: What a reader must know, in sentences.
        scores: By task's name.
        images: What was evaluated.
    """

    figures: dict[str, dict[str, Any]]
    warnings: tuple[str, ...]
    scores: dict[str, TaskScores]
    images: Scored


def evaluate_classifier(
    config: HasTasks,
    images: Scored,
    *,
    validation: Scored | None = None,
    reading: Reading | None = None,
    resamples: int = 2000,
    seed: int = 0,
) -> Evaluation:
    """Evaluates a classifier on images that it has scored.

    Call it at the end of training with ``validation``: calibration and operating points are fitted there and stored in
    the configuration, which must be saved after. Without, the configuration's own are applied as they are.

    Args:
        config: The model's; changed where ``validation`` is given.
        images: The test split's, or another collection's.
        validation: The validation split's.
        reading: What `fit_reading` gave on it, where that has been done.
        resamples: Bootstrap resamples.
        seed: Of the bootstrap.

    Returns:
        See `Evaluation`. ``would_choose`` is what these very images would have fitted: shown beside what the checkpoint
        says, and applied nowhere.

    Raises:
        DataError: The scores do not fit the tasks.
    """
    if validation is not None:
        reading = fit_reading(config.tasks, validation)
    store(config, reading)
    reasons: Mapping[str, Mapping[str, str]] = {} if reading is None else reading.reasons
    own = fit_reading(config.tasks, images)
    figures, scores, warnings = {}, {}, []
    for number, (name, logits) in enumerate(task_logits(config.tasks, images.logits).items()):
        task = config.tasks[number]
        of_task = _task_scores(task["labels"], logits, images, number, (config.calibration or {}).get(name))
        result = _evaluate(config, task, images, of_task, number, resamples=resamples, seed=seed)
        result |= _readings(config, name, reasons.get(name, {}), own)
        figures[name], scores[name] = result, of_task
        if 0 < result["n_patients"] < FEW_PATIENTS:
            warnings.append(
                f"{name}: {result['n_patients']} patients. Below {FEW_PATIENTS} intervals may cover less than they say."
            )
    return Evaluation(figures, tuple(warnings), scores, images)


def store(config: HasTasks, reading: Reading | None) -> None:
    """Puts a reading into a configuration, and what it lacks, with the reason, into the log."""
    if reading is None:
        return
    config.calibration, config.operating_points = reading.calibration or None, reading.operating_points or None
    for name, of_task in reading.reasons.items():
        for what, reason in of_task.items():
            logger.warning("%s has no %s: %s", name, what.replace("_", " "), reason)


def _task_scores(
    labels: Sequence[str], logits: np.ndarray, images: Scored, number: int, calibration: Mapping[str, Any] | None
) -> TaskScores:
    places = np.flatnonzero(images.known(number))
    return TaskScores(
        labels=tuple(labels),
        references=np.asarray(images.labels)[places, number].astype(np.int64),
        before=calibrated(logits[places], None),
        after=calibrated(logits[places], calibration),
        patients=np.asarray(list(images.patients))[places],
        places=places,
    )


def _evaluate(
    config: HasTasks,
    task: Mapping[str, Any],
    images: Scored,
    scores: TaskScores,
    number: int,
    *,
    resamples: int,
    seed: int,
) -> dict[str, Any]:
    points = (config.operating_points or {}).get(task["name"])
    table = np.full((len(images), len(scores.labels)), np.nan)
    table[scores.places] = scores.after
    result = evaluate_task(
        task,
        np.asarray(images.labels)[:, number],
        table,
        images.patients,
        groupings=images.groupings(),
        operating_points=points,
        ordinal=True if task["name"] in (getattr(config, "ordinal_tasks", None) or ()) else None,
        resamples=resamples,
        seed=seed,
    )
    result["uncalibrated"] = {"brier": _or_none(brier, scores), "ece": _or_none(ece, scores)}
    by_image = (points or {}).get("image", {})
    threshold = next((by_image[rule]["threshold"] for rule in _SUBGROUP_POINTS if rule in by_image), None)
    facts = {name: [column[place] for place in scores.places] for name, column in images.facts.items()}
    result["subgroups"] = subgroup_figures(
        scores.labels,
        scores.references,
        scores.after,
        scores.patients,
        {name: column for name, column in facts.items() if name != task["name"]},
        threshold=threshold,
        resamples=resamples,
        seed=seed,
    )
    return result


def _readings(config: HasTasks, name: str, reasons: Mapping[str, str], own: Reading) -> dict[str, Any]:
    """The calibration that was applied, and what the evaluated images would have chosen."""
    calibration = (config.calibration or {}).get(name)
    found: dict[str, Any] = {"calibration": calibration}
    if calibration is None:
        found["calibration_reason"] = reasons.get("calibration", "the checkpoint holds none")
    if len(next(task for task in config.tasks if task["name"] == name)["labels"]) == 2:
        chosen = (config.operating_points or {}).get(name)
        found["chosen_operating_points"] = chosen
        if chosen is None:
            found["chosen_operating_points_reason"] = reasons.get("operating_points", "the checkpoint holds none")
    found["would_choose"] = {
        "calibration": own.calibration.get(name),
        "operating_points": own.operating_points.get(name),
        "reasons": own.reasons[name],
    }
    return found


def _or_none(metric: Any, scores: TaskScores) -> float | None:
    table = scores.before[:, 1] if len(scores.labels) == 2 else scores.before
    try:
        return float(metric(scores.references, table))
    except UndefinedMetric:
        return None


# The same figures for parts of the images: by view, side, density, age, vendor, and the lesion's type and size.


FEWEST_PATIENTS = 10


"""A cell of fewer is not shown: its figure would say little, and might say it of somebody."""


FACTS = {
    "view": "view",
    "laterality": "side",
    "density": "density",
    "age_band": "age in years",
    "vendor": "vendor",
    "lesion_type": "lesion type",
    "lesion_size": "lesion size",
}
UNKNOWN = "not known"


def subgroup_figures(
    labels: Sequence[str],
    references: np.ndarray,
    probabilities: np.ndarray,
    patients: np.ndarray,
    facts: Mapping[str, Sequence[str | None]],
    *,
    threshold: float | None = None,
    resamples: int = 2000,
    seed: int = 0,
) -> dict[str, dict[str, Any]]:
    """The AUROC of each subgroup with its interval, and what the operating point gives there.

    Args:
        labels: The task's.
        references: ``(n,)`` class numbers, all known.
        probabilities: ``(n, classes)``.
        patients: ``(n,)``.
        facts: Columns ``(n,)``; those of this module's table that tell images apart are used.
        threshold: The operating point of a task of two labels.
        resamples: Bootstrap resamples.
        seed: Of the bootstrap.

    Returns:
        For each fact ``cells``, by value in order: ``n_images``, ``n_patients``, ``class_counts``, ``auroc``,
        ``auroc_interval`` and with a threshold ``sensitivity``, ``specificity`` and their intervals, null with the
        reason where undefined; and ``not_shown``: how many values have fewer than ten patients.
    """
    found: dict[str, dict[str, Any]] = {}
    for fact in FACTS:
        values = np.array([UNKNOWN if value is None else str(value) for value in facts.get(fact, ())])
        if len(set(values.tolist())) < 2:
            continue
        cells: dict[str, Any] = {}
        not_shown = 0
        for value in sorted(set(values.tolist()), key=lambda value: (value == UNKNOWN, value)):
            inside = values == value
            if len(set(patients[inside].tolist())) < FEWEST_PATIENTS:
                not_shown += 1
                continue
            part = references[inside], probabilities[inside], patients[inside]
            cells[value] = _cell(labels, *part, threshold=threshold, resamples=resamples, seed=seed)
        found[fact] = {"cells": cells, "not_shown": not_shown}
    return found


def _cell(
    labels: Sequence[str],
    references: np.ndarray,
    probabilities: np.ndarray,
    patients: np.ndarray,
    *,
    threshold: float | None,
    resamples: int,
    seed: int,
) -> dict[str, Any]:
    counts = np.bincount(references, minlength=len(labels)).tolist()
    cell: dict[str, Any] = {
        "n_images": len(references),
        "n_patients": len(set(patients.tolist())),
        "class_counts": dict(zip(labels, counts, strict=True)),
    }
    area, scores = auroc_of(probabilities)
    draw: dict[str, Any] = {"groups": patients, "resamples": resamples, "seed": seed}
    try:
        cell["auroc"] = area(references, scores)
        low, high = bootstrap_interval(area, references, scores, **draw)
        # a point, as with classes that are apart, is no sign of certainty
        cell["auroc_interval"] = [low, high] if low < high else None
    except UndefinedMetric as error:
        cell.setdefault("auroc", None)
        missing = [label for label, count in zip(labels, counts, strict=True) if not count]
        reason = f"no image is labelled {' or '.join(missing)}" if missing else error.reason
        cell |= {"auroc_interval": None, "auroc_reason": reason}
    if len(labels) == 2 and threshold is not None and not np.isnan(scores).any():
        at = at_operating_point(references, scores, threshold, **draw)
        kept = ("sensitivity", "specificity")
        cell |= {key: value for key, value in at.items() if key.startswith(kept)}
    return cell
