"""Evaluation of a classifier from its scores to figures, with the calibration that its checkpoint stores."""

from __future__ import annotations

import html
import logging
import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from ..data.schema import ORDINAL
from ..errors import DataError
from ..metrics.calibration import calibrated, fit_calibration
from ..metrics.classification import auroc_of, brier, ece
from ..metrics.inputs import UndefinedMetric
from ..metrics.intervals import FEW_PATIENTS, bootstrap_interval
from ..metrics.operating_points import at_operating_point, choose_operating_points
from ..models.configuration_tasks import slices_of
from ..models.own_figures import FEWEST_PATIENTS, auc_text, main_figures
from .scored import HEAD, Scored, into_units
from .strata import POOLED, shortcut_warnings, within_strata
from .task_figures import evaluate_task

logger = logging.getLogger(__name__)
Tasks = Sequence[Mapping[str, Any]]
# Subgroups are shown at the first of these operating points that the model has.
_SUBGROUP_POINTS = ("sensitivity_90", "given")


@dataclass(frozen=True)
class TaskScores:
    """Images with a known label of one task and their scores, from which the task's plots are drawn.

    Attributes:
        labels: Labels of the task, in order.
        references: int ``(n,)`` class numbers.
        before: ``(n, labels)`` probabilities of the plain softmax.
        after: ``(n, labels)`` calibrated probabilities.
        patients: ``(n,)`` patient keys.
        indices: ``(n,)`` index of each image in the split.
    """

    labels: tuple[str, ...]
    references: np.ndarray
    before: np.ndarray
    after: np.ndarray
    patients: np.ndarray
    indices: np.ndarray


@dataclass(frozen=True)
class Evaluation:
    """Figures of a classifier on a split, which JSON takes, and the scores behind them.

    Attributes:
        figures: By task's name the result of `evaluate_task`, with ``calibration``, ``calibration_reason``,
            ``uncalibrated``, ``would_choose``, ``subgroups`` and ``within`` (`within_strata`).
        warnings: What a reader must know, one sentence each.
        scores: Scores by task's name.
        images: Images that were evaluated.
        split: Split that they are of; "all" for the whole collection.
        folder: Folder of the report; ``None`` if none was written.
        comparison: What its text states, one of `COMPARISONS`.
        notes: Number of evaluated images by code of a note.
        refusals: Number of images that could not be read by code of the reason.
    """

    figures: dict[str, dict[str, Any]]
    warnings: tuple[str, ...]
    scores: dict[str, TaskScores]
    images: Scored
    split: str = "test"
    folder: Path | None = None
    comparison: str = POOLED
    notes: Mapping[str, int] = field(default_factory=dict)
    refusals: Mapping[str, int] = field(default_factory=dict)

    def __str__(self) -> str:
        found = {name: auc_text(compared(of_task, self.comparison)) for name, of_task in self.figures.items()}
        tasks = ", ".join(found.values()) if len(found) == 1 else "; ".join(f"{k} {v}" for k, v in found.items())
        return f"{self.split} {tasks}" + ("" if self.folder is None else f"; in {self.folder}")

    def __repr__(self) -> str:
        return f"<{type(self).__name__}: {self}>"

    def _repr_html_(self) -> str:
        units = {"by image": lambda part: part, "by patient": lambda part: part["units"]["patient"]["mean"]}
        if self.images.of_units:
            units |= {"by breast": lambda part: part["units"]["breast"][HEAD]}
        rows = [
            "".join(f"<td>{html.escape(text)}</td>" for text in (name, *(auc_text(of(part)) for of in units.values())))
            for name, part in self.figures.items()
        ]
        head = "".join(f"<th>{text}</th>" for text in (f"{self.split} split", *units))
        notes = "".join(f"<p>{html.escape(warning)}</p>" for warning in self.warnings)
        body = "".join(f"<tr>{row}</tr>" for row in rows)
        return f"<table><tr>{head}</tr>{body}</table>{notes}"


def compared(figures: Mapping[str, Any], comparison: str) -> Mapping[str, Any]:
    """Return the part of a task's figures that a comparison is about, one of `COMPARISONS`."""
    if comparison == POOLED:
        return main_figures(figures)
    found: Mapping[str, Any] = figures["within"].get(comparison.removeprefix("within_")) or {
        "auroc": None,
        "auroc_reason": "the images are of one stratum"
        if len(figures["labels"]) == 2
        else "it has more than two labels",
    }
    return found


class HasTasks(Protocol):
    """Part of a `MammoSwinConfig` that is read and, with a validation split, written."""

    tasks: Any
    calibration: dict[str, Any] | None
    operating_points: dict[str, Any] | None
    confidences: dict[str, Any] | None


def evaluate_classifier(
    config: HasTasks,
    images: Scored,
    *,
    validation: Scored | None = None,
    fits: Mapping[str, Mapping[str, Any]] | None = None,
    resamples: int = 2000,
    seed: int = 0,
) -> Evaluation:
    """Evaluate a classifier on images that it has scored.

    At the end of training, call it with ``validation``: calibration and operating points are fitted there and stored in
    the configuration, which must be saved afterwards. Without it, the configuration's own are applied unchanged.

    Args:
        config: Configuration of the model; changed if ``validation`` or ``fits`` is given.
        images: Images of the test split, or of another collection.
        validation: Images of the validation split.
        fits: Result of `fit_on_validation`, if that has been called already.
        resamples: Bootstrap resamples.
        seed: Seed of the bootstrap.

    Returns:
        The evaluation. ``would_choose`` in its figures is what these images would have fitted: it is shown next to what
        the checkpoint stores, and applied nowhere.

    Raises:
        DataError: The scores do not fit the tasks.
    """
    if validation is not None:
        fits = fit_on_validation(config.tasks, validation)
    if fits is not None:
        store_fits(config, fits)
    own = fit_on_validation(config.tasks, images)
    figures, scores, warnings = {}, {}, []
    for number, (name, logits) in enumerate(task_logits(config.tasks, images.logits).items()):
        task = config.tasks[number]
        of_task = _task_scores(task["labels"], logits, images, number, (config.calibration or {}).get(name))
        result = _evaluate(config, task, images, of_task, number, resamples=resamples, seed=seed)
        result |= _stored(config, task, (fits or {}).get(name, {}).get("reasons", {}))
        result["would_choose"] = {key: value for key, value in own[name].items() if key != "confidences"}
        figures[name], scores[name] = result, of_task
        warnings += [f"{name}: {warning}" for warning in shortcut_warnings(result["within"])]
        if 0 < result["n_patients"] < FEW_PATIENTS:
            warnings.append(
                f"{name}: {result['n_patients']} patients. Below {FEW_PATIENTS} an interval may be too narrow."
            )
    return Evaluation(figures, tuple(warnings), scores, images)


def task_logits(tasks: Tasks, logits: np.ndarray) -> dict[str, np.ndarray]:
    """Return for each task's name its slice of the logits, ``(n, labels)``.

    Raises:
        DataError: The logits are of other tasks.
    """
    labels = sum(len(task["labels"]) for task in tasks)
    if logits.shape[1] != labels:
        raise DataError(f"{logits.shape[1]} logits for tasks of {labels} labels", source="logits")
    return {name: logits[:, part] for name, part in slices_of(tasks).items()}


# What validation images fix: the calibration and the operating points of each task.


def fit_on_validation(tasks: Tasks, images: Scored) -> dict[str, dict[str, Any]]:
    """Calibrate each task on validation images, or on the units of its level, and choose its operating points there.

    Args:
        tasks: Tasks of the model, ``config.tasks``.
        images: Images of the validation split, and of no other.

    Returns:
        By task's name ``calibration`` (`fit_calibration`), ``operating_points`` (for ``image``, ``breast``,
        ``patient`` and, if the model scores exams, ``exam``, `choose_operating_points`), each ``None`` if it could not
        be fitted, ``confidences`` (the percentiles of the highest probability, by kind of unit), and ``reasons`` why.
    """
    fits: dict[str, dict[str, Any]] = {}
    for number, name in enumerate(slices_of(tasks)):
        fit: dict[str, Any] = {"calibration": None, "operating_points": None, "confidences": None, "reasons": {}}
        fits[name] = fit
        levels = _scored_levels(tasks, images, number)
        truth, logits, patients = levels.get(tasks[number].get("level", ""), levels["image"])
        try:
            fit["calibration"] = fit_calibration(truth, logits, patients)
        except DataError as error:
            fit["reasons"]["calibration"] = error.problem
        fit["confidences"] = _confidences(images, number, levels, fit["calibration"])
        if logits.shape[1] != 2:
            continue
        try:
            fit["operating_points"] = _operating_points(images, number, levels, fit["calibration"])
        except UndefinedMetric as error:
            fit["reasons"]["operating_points"] = error.reason
    return fits


def _scored_levels(tasks: Tasks, images: Scored, number: int) -> dict[str, tuple[np.ndarray, np.ndarray, np.ndarray]]:
    """Return labels, logits and patients of a task's images, and of the units that the model scores itself."""
    name, known = tasks[number]["name"], images.known(number)
    truth, patients = np.asarray(images.labels)[known, number], np.asarray(list(images.patients))[known]
    logits = task_logits(tasks, images.logits)[name][known]
    levels = {"image": (truth, logits, patients)}
    for level, of_units in images.of_units.items():
        own, keys = task_logits(tasks, of_units)[name][known], np.asarray(images.groupings()[level])[known]
        options: dict[str, Any] = {"of_units": own, "counted": images.counted()[known], "ordered": name in ORDINAL}
        units = into_units(level, truth, logits, patients, keys, **options)
        levels[level] = (units.references, units.scores[HEAD], units.patients)
    return levels


def _confidences(
    images: Scored,
    number: int,
    levels: Mapping[str, tuple[np.ndarray, np.ndarray, np.ndarray]],
    calibration: Mapping[str, Any] | None,
) -> dict[str, list[float]] | None:
    """Return percentiles 0 to 100 of the highest probability, by image, breast and exam.

    Without scores of exams an exam's is that of the mean of all images of its patient; most patients have one exam.
    """
    tables = {level: calibrated(logits, calibration) for level, (_, logits, _) in levels.items()}
    truth, _, patients = levels["image"]
    if not len(truth):
        return None
    known, counted = images.known(number), images.counted()
    for unit, keys in images.groupings().items():
        name = "exam" if unit == "patient" else unit
        if name not in tables:
            of_unit = np.asarray(keys)[known]
            units = into_units(unit, truth, tables["image"], patients, of_unit, counted=counted[known])
            tables[name] = units.scores["mean"]
    return {
        level: [round(float(value), 6) for value in np.percentile(table.max(axis=1), range(101))]
        for level, table in tables.items()
        if len(table)
    }


def _operating_points(
    images: Scored,
    number: int,
    levels: Mapping[str, tuple[np.ndarray, np.ndarray, np.ndarray]],
    calibration: Mapping[str, Any] | None,
) -> dict[str, Any]:
    """Choose the operating points of a task with two labels, by image and by each kind of unit.

    Raises:
        UndefinedMetric: There are no images or units of a class.
    """
    points = {
        level: choose_operating_points(truth, calibrated(logits, calibration)[:, 1])
        for level, (truth, logits, _) in levels.items()
    }
    truth, logits, patients = levels["image"]
    known = images.known(number)
    for unit, keys in images.groupings().items():
        if unit not in points:
            table = calibrated(logits, calibration)
            of_unit = np.asarray(keys)[known]
            units = into_units(unit, truth, table, patients, of_unit, counted=images.counted()[known])
            points[unit] = choose_operating_points(units.references, units.scores["mean"][:, 1])
    return points


def store_fits(config: HasTasks, fits: Mapping[str, Mapping[str, Any]]) -> None:
    """Store what validation images fixed in a configuration, and log what could not be fitted and why."""

    def found(what: str) -> dict[str, Any] | None:
        return {name: fit[what] for name, fit in fits.items() if fit[what] is not None} or None

    config.calibration, config.operating_points = found("calibration"), found("operating_points")
    config.confidences = found("confidences")
    for name, fit in fits.items():
        for what, reason in fit["reasons"].items():
            logger.warning("%s has no %s: %s", name, what.replace("_", " "), reason)


def _stored(config: HasTasks, task: Mapping[str, Any], reasons: Mapping[str, str]) -> dict[str, Any]:
    """Return the calibration and operating points that were applied, or why there are none."""
    none, name = "the checkpoint holds none", task["name"]
    found: dict[str, Any] = {"calibration": (config.calibration or {}).get(name)}
    if found["calibration"] is None:
        found["calibration_reason"] = reasons.get("calibration", none)
    if len(task["labels"]) == 2:
        found["chosen_operating_points"] = (config.operating_points or {}).get(name)
        if found["chosen_operating_points"] is None:
            found["chosen_operating_points_reason"] = reasons.get("operating_points", none)
    return found


# One task.


def _task_scores(
    labels: Sequence[str], logits: np.ndarray, images: Scored, number: int, calibration: Mapping[str, Any] | None
) -> TaskScores:
    indices = np.flatnonzero(images.known(number))
    return TaskScores(
        labels=tuple(labels),
        references=np.asarray(images.labels)[indices, number].astype(np.int64),
        before=calibrated(logits[indices], None),
        after=calibrated(logits[indices], calibration),
        patients=np.asarray(list(images.patients))[indices],
        indices=indices,
    )


def _evaluate(
    config: HasTasks, task: Mapping[str, Any], images: Scored, scores: TaskScores, number: int, **draw: int
) -> dict[str, Any]:
    name = str(task["name"])
    points, calibration = ((found or {}).get(name) for found in (config.operating_points, config.calibration))
    table = np.full((len(images), len(scores.labels)), np.nan)
    table[scores.indices] = scores.after
    result = evaluate_task(
        task,
        np.asarray(images.labels)[:, number],
        table,
        images.patients,
        groupings=images.groupings(),
        counted=images.counted(),
        of_units={
            level: calibrated(task_logits(config.tasks, logits)[name], calibration)
            for level, logits in images.of_units.items()
        },
        operating_points=points,
        ordinal=True if task["name"] in (getattr(config, "ordinal_tasks", None) or ()) else None,
        **draw,
    )
    if images.of_units:
        result["level"] = task.get("level", "image")
    result["uncalibrated"] = {"brier": _or_none(brier, scores), "ece": _or_none(ece, scores)}
    by_image = (points or {}).get("image", {})
    threshold = next((by_image[rule]["threshold"] for rule in _SUBGROUP_POINTS if rule in by_image), None)
    facts = {
        name: [column[index] for index in scores.indices]
        for name, column in images.facts.items()
        if name != task["name"]
    }
    result["subgroups"] = subgroup_figures(scores, facts, threshold=threshold, **draw)
    result["within"] = within_strata(scores, facts, **draw)
    return result


def _or_none(metric: Any, scores: TaskScores) -> float | None:
    table = scores.before[:, 1] if len(scores.labels) == 2 else scores.before
    try:
        return float(metric(scores.references, table))
    except UndefinedMetric:
        return None


# Subgroups: by view, side, density, age, vendor, and the lesion's type and size.

FACTS = {
    "view": "view",
    "laterality": "side",
    "density": "density",
    "age_band": "age in years",
    "vendor": "vendor",
    "kind": "kind of image",
    "device": "machine",
    "kvp_band": "tube voltage in kV",
    "exposure_band": "exposure in mAs",
    "thickness_band": "thickness of the compressed breast in mm",
    "stratum": "stratum",
    "lesion_type": "lesion type",
    "lesion_size": "lesion size",
}
UNKNOWN = "not known"


def by_size(value: str) -> tuple[bool, float, bool, str]:
    """Return the key that sorts values of a fact: bands of numbers by number ("<40" first), what is not known last."""
    number = re.search(r"\d+", value)
    return value == UNKNOWN, float(number[0]) if number else 0, not value.startswith(("<", "below")), value


def subgroup_figures(
    scores: TaskScores,
    facts: Mapping[str, Sequence[str | None]],
    *,
    threshold: float | None = None,
    resamples: int = 2000,
    seed: int = 0,
) -> dict[str, dict[str, Any]]:
    """Return the AUROC of each subgroup with its interval, and sensitivity and specificity at the operating point.

    Args:
        scores: Scores of the task.
        facts: Columns ``(n,)`` by fact; those in ``FACTS`` that have more than one value are used.
        threshold: Operating point of a task with two labels.
        resamples: Bootstrap resamples.
        seed: Seed of the bootstrap.

    Returns:
        For each fact ``cells``, by value in order: ``n_images``, ``n_patients``, ``class_counts``, ``auroc``,
        ``auroc_interval`` and, with a threshold, ``sensitivity``, ``specificity`` and their intervals, null with a
        reason if undefined, and ``confusion``; and ``not_shown``: the number of values with fewer than ten patients.
    """
    found: dict[str, dict[str, Any]] = {}
    for fact in FACTS:
        values = np.array([UNKNOWN if value is None else str(value) for value in facts.get(fact, ())])
        if len(set(values.tolist())) < 2:
            continue
        cells: dict[str, Any] = {}
        not_shown = 0
        for value in sorted(set(values.tolist()), key=by_size):
            inside = values == value
            if len(set(scores.patients[inside].tolist())) < FEWEST_PATIENTS:
                not_shown += 1
                continue
            cells[value] = _cell(scores, inside, threshold, resamples=resamples, seed=seed)
        found[fact] = {"cells": cells, "not_shown": not_shown}
    return found


def _cell(scores: TaskScores, inside: np.ndarray, threshold: float | None, **bootstrap: int) -> dict[str, Any]:
    labels, references, patients = scores.labels, scores.references[inside], scores.patients[inside]
    counts = np.bincount(references, minlength=len(labels)).tolist()
    cell: dict[str, Any] = {
        "n_images": len(references),
        "n_patients": len(set(patients.tolist())),
        "class_counts": dict(zip(labels, counts, strict=True)),
    }
    area, values = auroc_of(scores.after[inside])
    draw: dict[str, Any] = {"groups": patients, **bootstrap}
    try:
        cell["auroc"] = area(references, values)
        low, high = bootstrap_interval(area, references, values, **draw)
        # With separable classes the interval is a point, which is not a sign of certainty.
        cell["auroc_interval"] = [low, high] if low < high else None
    except UndefinedMetric as error:
        cell.setdefault("auroc", None)
        missing = [label for label, count in zip(labels, counts, strict=True) if not count]
        reason = f"no image is labelled {' or '.join(missing)}" if missing else error.reason
        cell |= {"auroc_interval": None, "auroc_reason": reason}
    if len(labels) == 2 and threshold is not None and not np.isnan(values).any():
        at = at_operating_point(references, values, threshold, **draw)
        kept = ("sensitivity", "specificity", "confusion")
        cell |= {key: value for key, value in at.items() if key.startswith(kept)}
    return cell


# What may be published of counts.


def without_few(counts: Mapping[Any, int], add_up: bool = True) -> dict[Any, int | None]:
    """Leave out counts of 1 to 9, which might identify somebody.

    Args:
        counts: Number of images or patients by value of one fact.
        add_up: Whether a reader knows the sum: then the smallest other count is left out where a single one would be.
    """
    few = {value for value, count in counts.items() if 0 < count < FEWEST_PATIENTS}
    others = [value for value in counts if counts[value] and value not in few]
    if add_up and len(few) == 1 and others:
        few.add(min(others, key=counts.__getitem__))
    return {value: None if value in few else count for value, count in counts.items()}


def shown_count(count: int | None) -> str:
    """Return a count as text, also one that was left out."""
    return "not shown" if count is None else f"{count:,}"


def published(figures: Any) -> Any:
    """Return a copy of figures without the counts below ten, and without fractions that they are computed from.

    Such a fraction is null, and ``<name>_within`` is the step of ten counts that it is in, ``[low, high]``.

    Args:
        figures: Figures of `evaluate_classifier`, or any part of them.
    """
    if isinstance(figures, list):
        return [published(one) for one in figures]
    if not isinstance(figures, Mapping):
        return figures
    return {name: _published(name, one) for name, one in figures.items()} | _in_steps(figures)


def _in_steps(figures: Mapping[str, Any]) -> dict[str, Any]:
    """Return what is published instead of the fractions of a confusion matrix with a count that is left out."""
    if not figures.get("confusion"):
        return {}
    table = np.array(figures["confusion"])
    hidden = np.array([[count is None for count in row] for row in _published("confusion", table.tolist())])
    # the cells that a fraction is computed from, and the counts that 1 is
    parts: dict[str, tuple[np.ndarray, int]] = {
        "accuracy": (hidden, table.sum()),
        "balanced_accuracy": (hidden, len(table) * table.sum(1).min()),
        "sensitivity": (hidden[-1], table[-1].sum()),
        "specificity": (hidden[0], table[0].sum()),
        "positive_predictive_value": (hidden[:, -1], table[:, -1].sum()),
        "negative_predictive_value": (hidden[:, 0], table[:, 0].sum()),
    }
    found: dict[str, Any] = {}
    for name, (cells, total) in parts.items():
        if figures.get(name) is None or not cells.any():
            continue
        step = min(FEWEST_PATIENTS / max(total, 1), 1.0)
        low = min(math.floor(figures[name] / step + 1e-9) * step, 1 - step)
        found |= {name: None, f"{name}_interval": None, f"{name}_within": [low, low + step]}
        found[f"{name}_interval_reason"] = "a count below ten could be computed from the figure"
    if "accuracy" in found and "risk_coverage" in figures:  # the error on all images is 1 minus the accuracy
        found["risk_coverage"] = [one for one in figures["risk_coverage"] if one["coverage"] < 1]
    return found


def _published(name: str, value: Any) -> Any:
    if name in ("class_counts", "left_out", "notes") and isinstance(value, Mapping):
        return without_few(value, add_up=name == "class_counts")
    if name in ("n_unknown", "n_conflicting"):
        return without_few({"": value})[""]
    if name == "confusion" and value is not None:
        return [list(without_few(dict(enumerate(row))).values()) for row in value]
    if name == "subgroups":
        return {fact: _without_rest(published(group)) for fact, group in value.items()}
    return published(value)


def _without_rest(group: dict[str, Any]) -> dict[str, Any]:
    """Leave out the counts of the smallest subgroup of a fact, if they and the sum give those of one left out."""
    cells = dict(group["cells"])
    if group.get("not_shown") == 1 and cells:
        least = min(cells, key=lambda value: cells[value]["n_patients"])
        hidden: dict[str, Any] = dict.fromkeys(("n_images", "n_patients", "confusion"))
        hidden["class_counts"] = dict.fromkeys(cells[least]["class_counts"])
        cells[least] = cells[least] | hidden
    return group | {"cells": cells}
