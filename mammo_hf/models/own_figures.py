"""Sentences on how good a classifier and its maps are, from its own records; they are shown next to scores and maps."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from ..errors import DataError
from ..files import write_record
from ..metrics.aggregation import HEAD
from ..metrics.intervals import detectable_difference
from .checkpoint import MAP_TESTS, Checkpoint, read_checkpoint, read_json

NO_FIGURES = "How good this model is on test patients is not known: its folder holds no such figures."
FEWEST_PATIENTS = 10  # a smaller count, or a percentage of it, might identify a patient, and its figure is imprecise
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
    if not counts or any(count is None or 0 < count < FEWEST_PATIENTS for count in counts.values()):
        return f"{text}; how many of their images had each label is not stated."
    total, labels = sum(counts.values()), [label for label in counts if counts[label]]
    named = labels[-1:] if len(task["labels"]) == 2 else labels
    fractions = ", ".join(f"{100 * counts[label] / total:.0f} % were {label}" for label in named)
    return f"{text}, where {fractions} of {total:,} images; where they are rarer, a score means less."


# Tests of a model's maps, which `mammo-hf evaluate-explanations` keeps with the model.

LIKE_RANDOM = 0.5  # rank correlation with the map of a random classifier from which on a map shows the image
_TESTS = ("placement", "sanity", "faithfulness")


def write_map_tests(folder: str | os.PathLike[str], figures: Mapping[str, Any], collection: str | None) -> Path:
    """Keep the tests of a model's maps in its folder; those of other explainers stay.

    Args:
        folder: Folder of the model.
        figures: Figures of `mammo_hf.studies.explanations.evaluate_explainers`.
        collection: Name of the collection that they are of, if it is public.
    """
    path = Path(folder) / MAP_TESTS
    try:
        before = dict(read_json(path).get("explainers") or {}) if path.is_file() else {}
    except DataError:
        before = {}
    about = {"target": figures["target"], "images": figures["images"], "patients": figures["patients"]}
    about["collection"] = collection or "a private collection"
    ranks = (figures["sanity"] or {}).get("rank_correlation", {})
    found = {
        name: about
        | {
            "placement": row["pointing_game_over"].get("brightest tissue"),
            "sanity": (ranks.get(name) or {}).get("classifier"),
            "faithfulness": row["deletion_over_random"],
        }
        for name, row in figures["explainers"].items()
        if not row["baseline"]
    }
    write_record({"explainers": before | found}, path)
    return path


class MapTests(NamedTuple):
    """The tests of the maps of one explainer.

    Attributes:
        target: Label whose maps were tested: its name, "predicted", or "label" (the true one).
        passed: By the test's name, whether the maps passed it; ``None``: not measured.
        lines: One line on each test, and one on what they were tested on.
    """

    target: str
    passed: dict[str, bool | None]
    lines: tuple[str, ...]


def is_tested_for(target: str, label: str, is_predicted: bool) -> bool:
    """Return whether the tests of maps hold for the map of a label.

    Args:
        target: Label whose maps were tested, as in `MapTests`.
        label: Label that the map explains, such as "pathology:malignant".
        is_predicted: Whether it is explained because it is the predicted one of more than two.
    """
    return target == label or (target == "predicted" and is_predicted)


def map_tests(folder: str | os.PathLike[str]) -> dict[str, MapTests]:
    """Return the tests of a model's maps by the explainer's name; nothing of an explainer without tests.

    Args:
        folder: Folder of the model.
    """
    path = Path(folder) / MAP_TESTS
    try:
        found = read_json(path)["explainers"] if path.is_file() else {}
        return {str(name): MapTests(str(row["target"]), _passed(row), _lines(row)) for name, row in found.items()}
    except (DataError, KeyError, TypeError, ValueError, AttributeError, IndexError):  # of a foreign folder
        return {}


def _passed(row: Mapping[str, Any]) -> dict[str, bool | None]:
    ends = {test: row[test]["interval"] if _is_measured(row[test]) else None for test in _TESTS}
    passes: dict[str, Callable[[float, float], bool]] = {
        "placement": lambda low, _: low > 0,
        "sanity": lambda _, high: high < LIKE_RANDOM,
        "faithfulness": lambda _, high: high < 0,
    }
    return {test: None if interval is None else passes[test](*interval) for test, interval in ends.items()}


NOT_TESTED = ("placement, sanity and faithfulness: not measured.",)


def _lines(row: Mapping[str, Any]) -> tuple[str, ...]:
    passed = _passed(row)
    found: dict[str, str] = {}
    if passed["placement"] is not None:
        how = "better" if passed["placement"] else "worse" if row["placement"]["interval"][1] < 0 else "no better"
        found["placement"] = f"{how} than the brightest tissue, {_signed(row['placement'])}"
    if passed["sanity"] is not None:
        how = "another map" if passed["sanity"] else "much the same map"
        found["sanity"] = f"{how} with a random classifier, correlation {_signed(row['sanity'], sign='')}"
    if passed["faithfulness"] is not None:
        how = "better" if passed["faithfulness"] else "no better"
        found["faithfulness"] = f"{how} than a random map, deletion {_signed(row['faithfulness'], digits=3)}"
    named = {"predicted": "the predicted label", "label": "the true label"}
    of_label = "" if row["target"] in named else "such "  # a named label is tested on images of that label
    target, images = named.get(row["target"], row["target"]), f"{row['images']} {of_label}images"
    tested = f"tested for {target} on {images} of {row['patients']} patients of {row['collection']}."
    return (*(f"{test}: {found.get(test, 'not measured')}." for test in _TESTS), tested)


def _is_measured(found: Mapping[str, Any] | None) -> bool:
    return bool(found) and found["value"] is not None and found["interval"] is not None


def _signed(found: Mapping[str, Any], sign: str = "+", digits: int = 2) -> str:
    value, (low, high) = found["value"], found["interval"]
    return f"{value:{sign}.{digits}f} ({low:{sign}.{digits}f} to {high:{sign}.{digits}f})"


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
        reason = figures.get("auroc_interval_reason")
        return f"AUC {figures['auroc']:.2f}, without an interval" + (f" ({reason})" if reason else "")
    low, high = interval
    verdict = "above chance" if low > 0.5 else "below chance" if high < 0.5 else "not distinguishable from chance"
    if low <= 0.5 <= high:
        verdict += f" (a test of this size shows {min(0.5 + detectable_difference((low, high)), 1):.2f} or more)"
    return f"AUC {figures['auroc']:.2f} ({low:.2f} to {high:.2f}), {verdict}"
