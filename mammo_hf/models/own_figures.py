"""Sentences on how good a classifier is, from its own records; they are shown next to its scores."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any

from ..errors import DataError
from ..metrics.aggregation import HEAD
from ..metrics.intervals import detectable_difference
from .checkpoint import Checkpoint, read_checkpoint

NO_FIGURES = "How good this model is on test patients is not known: its folder holds no such figures."
FEWEST = 10  # a smaller count might identify a patient, and so might a percentage of it
AT_CHANCE = "this model is not above chance on its test patients"
OwnFigures = dict[str, tuple[str, ...]]  # by task's name, the first sentence on the test


def own_figures(folder: str | os.PathLike[str]) -> OwnFigures:
    """Return for each task of a classifier what its folder says of how good its scores are.

    A model that is not above chance begins with `AT_CHANCE`. What is not recorded is said to be not known.

    Args:
        folder: Folder that training wrote.
    """
    try:
        checkpoint = read_checkpoint(folder)
    except DataError as error:
        return {"": (f"How good this model is is not known: {error.problem}.",)}
    tasks = checkpoint.config.get("tasks") or []
    return {str(task["name"]): _sentences(checkpoint, task) for task in tasks} or {"": (NO_FIGURES,)}


def is_at_chance(sentences: tuple[str, ...]) -> bool:
    """Return whether the sentences of `own_figures` on a task begin with that the model is not above chance."""
    return bool(sentences) and sentences[0].lower().startswith(AT_CHANCE)


def _sentences(checkpoint: Checkpoint, task: Mapping[str, Any]) -> tuple[str, ...]:
    try:
        found = [_test(checkpoint, task), _calibration(checkpoint, task)]
    except (KeyError, TypeError, ValueError, AttributeError):  # from any value in the records of a foreign folder
        found = [f"How good this model is for {task['name']} is not known: its record cannot be read."]
    if checkpoint.config.get("lesion_task") == task["name"]:
        found.append("It was trained on lesion annotations too, which its maps may repeat.")
    return tuple(found)


def _test(checkpoint: Checkpoint, task: Mapping[str, Any]) -> str:
    figures = (checkpoint.figures.get("test") or {}).get(task["name"])
    if not figures:
        return NO_FIGURES
    shown = main_figures(figures)
    source = (checkpoint.figures.get("collection") or {}).get("name") or "a private collection"
    level = figures.get("level", "image")
    text = f"test {auc_text(shown)}, by {level}, on {figures['n_patients']} patients of {source}"
    interval = shown.get("auroc_interval")
    if interval and interval[0] <= 0.5:
        return f"{AT_CHANCE[0].upper()}{AT_CHANCE[1:]}: {text}."
    return f"{text[0].upper()}{text[1:]}."


def _calibration(checkpoint: Checkpoint, task: Mapping[str, Any]) -> str:
    name, fit = task["name"], (checkpoint.config.get("calibration") or {}).get(task["name"])
    if not fit:
        return "Its scores are not calibrated: they are no probabilities."
    text = f"Calibrated on {fit.get('n_patients', 'unknown')} validation patients"
    counts = ((checkpoint.figures.get("validation") or {}).get(name) or {}).get("class_counts")
    if not counts or any(count is None or 0 < count < FEWEST for count in counts.values()):
        return f"{text}; how many of their images had each label is not stated."
    total, labels = sum(counts.values()), [label for label in counts if counts[label]]
    named = labels[-1:] if len(task["labels"]) == 2 else labels
    fractions = ", ".join(f"{100 * counts[label] / total:.0f} % were {label}" for label in named)
    return f"{text}, where {fractions} of {total:,} images; where they are rarer, a score means less."


# The figures of a task in a record, as `mammo_hf.evaluation.evaluate_task` gives them.


def main_figures(figures: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return the figures of a task's own level: those of the model's score of units, or else those by image."""
    of_level = figures.get("units", {}).get(figures.get("level", ""), {})
    found: Mapping[str, Any] = of_level.get(HEAD, figures)
    return found


def auc_text(figures: Mapping[str, Any]) -> str:
    """Return an AUC with its interval and verdict against chance: "AUC 0.67 (0.54 to 0.79), above chance".

    Args:
        figures: Figures of the task, as `evaluate_task` gives them, of one kind of unit, or within strata.
    """
    if figures["auroc"] is None:
        return f"AUC not defined ({figures['auroc_reason']})"
    interval = figures["auroc_interval"]
    if interval is None:
        return f"AUC {figures['auroc']:.2f}, without an interval"
    low, high = interval
    verdict = "above chance" if low > 0.5 else "below chance" if high < 0.5 else "not distinguishable from chance"
    if low <= 0.5 <= high:
        verdict += f" (a test of this size shows {min(0.5 + detectable_difference((low, high)), 1):.2f} or more)"
    return f"AUC {figures['auroc']:.2f} ({low:.2f} to {high:.2f}), {verdict}"
