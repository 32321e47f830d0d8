"""A classifier's evaluation from scores to figures, read as its checkpoint says and not as the test would like."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np

from .calibration import calibrated
from .classification import evaluate_task
from .intervals import FEW_PATIENTS
from .metrics import UndefinedMetric, brier, ece
from .reading import Reading, fit_reading, task_logits
from .scored import Scored
from .subgroups import subgroup_figures

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
