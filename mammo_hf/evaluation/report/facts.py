"""What a run can say to a reporting checklist."""

from __future__ import annotations

import csv
import string
import tomllib
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import datasets
import numpy as np

from ..classifier import FACTS, FEWEST_PATIENTS, UNKNOWN, Evaluation
from ..scored import Scored
from .pictures import EXPLAINER
from .words import training_in_words

if TYPE_CHECKING:
    from ...data.collection import Collection
    from .writing import About

_AUGMENTATION = (
    "Training images are turned, scaled and shifted a little, their display curve is changed a little, and "
    "cranio-caudal views are flipped at random."
)


def part_name(split: str) -> str:
    """A split in words."""
    return "whole collection" if split == "all" else f"{split} split"


def checklist_facts(evaluation: Evaluation, about: About) -> dict[str, str | None]:
    """The values that the checklists' answers are made of; ``None`` where the run does not know."""
    words = training_in_words(about.training)
    of_run = _of_images(evaluation, about) | _of_figures(evaluation, about, words["weights"])
    return of_run | _of_model(about, words) | _of_collection(about)


def _of_images(evaluation: Evaluation, about: About) -> dict[str, str | None]:
    images = evaluation.images
    evaluated = f"{len(images):,} images of {len(set(images.patients)):,} patients"
    vendors = sorted({vendor for vendor in images.facts.get("vendor", ()) if vendor is not None})
    return {
        "part": part_name(about.split),
        "evaluated": evaluated,
        "included": f"{evaluated}; the flow says who was left out" if about.flow else evaluated,
        "flow": "See the flow." if about.flow else None,
        "unknown": "; ".join(f"{name}: {part['n_unknown']:,} images" for name, part in evaluation.figures.items()),
        "vendors": f"Vendors: {', '.join(vendors)}." if vendors else None,
    }


def _of_figures(evaluation: Evaluation, about: About, weights: str | None) -> dict[str, str | None]:
    figures = evaluation.figures
    shown = dict.fromkeys(FACTS[fact] for of_task in figures.values() for fact in of_task["subgroups"])
    with_points = [
        name
        for name, of_task in figures.items()
        if "given" not in ((of_task.get("chosen_operating_points") or {"image": {"given"}})["image"])
    ]
    errors = [error for of_task in about.errors.values() for error in of_task]
    calibrated = [name for name, of_task in figures.items() if of_task["calibration"] is not None]
    return {
        "resamples": f"{about.resamples:,}",
        "subgroups": ", ".join(shown) or None,
        "points": f"Operating points fixed on validation images before these were read: {', '.join(with_points)}."
        if with_points
        else None,
        "failures": f"The {len(errors)} most confident errors are shown." if errors else None,
        "explainer": EXPLAINER.replace("_", "-") if any("picture" in error for error in errors) else None,
        "imbalance": _sentences(
            weights,
            f"Probabilities are recalibrated on validation images: {', '.join(calibrated)}." if calibrated else None,
        ),
    }


def _of_model(about: About, words: dict[str, str | None]) -> dict[str, str | None]:
    size, model = about.model.get("image_size"), about.model.get("size")
    packages = about.environment["packages"].items() if about.environment else ()
    return {
        "checkpoint": about.checkpoint,
        "model": model,
        "parameters": f"{about.model['parameters']:,}" if about.model.get("parameters") else None,
        "image_size": f"{size[0]} x {size[1]}" if size else None,
        "tasks": "; ".join(f"{task['name']} ({', '.join(task['labels'])})" for task in about.tasks),
        "software": ", ".join(f"{name} {version}" for name, version in packages),
        "preprocessing": " ".join(about.preprocessing),
        "start": words["start"],
        "training": _sentences(words["run"], words["tuned"], words["labels"], _AUGMENTATION) if words["run"] else None,
        "choice": words["choice"],
        "building": _sentences(model and f"{model}.", words["start"], words["run"], words["tuned"], words["choice"]),
    }


def _of_collection(about: About) -> dict[str, str | None]:
    here = about.trained_here
    splits = (about.training.get("collection") or {}).get("splits") or {}
    counts = ", ".join(f"{side} {part['images']:,} ({part['patients']:,})" for side, part in splits.items())
    by_patient = "By patient, on the collection's own split where it has one."
    partition = _sentences(by_patient, f"Images (patients): {counts}." if counts else None)
    updating = "None: the model, its calibration and its operating points are applied as they were stored."
    unseen = "Nothing of this collection was used for training."
    external = "This report: the model was not trained on this collection."
    internal = "This report: the model was trained on other patients of the same collection."
    return {
        "collection": about.collection,
        "partition": partition if here else unseen if here is False else None,
        "internal": internal if here else None,
        "external": external if here is False else None,
        "updating": updating if here is False else None,
    }


def _sentences(*sentences: str | None) -> str:
    return " ".join(sentence for sentence in sentences if sentence)


# The reporting checklists CLAIM 2024 and TRIPOD+AI, filled as far as a run can say; the rest is the authors' to write.
#
# CLAIM: Tejani et al., Radiology: Artificial Intelligence 2024, doi 10.1148/ryai.240300. TRIPOD+AI: Collins et al., BMJ
# 2024, doi 10.1136/bmj-2023-078378. The items are told here in short, in our words; the papers have them whole.


_FOLDER = Path(__file__).parent
CHECKLISTS = {"CLAIM 2024": "claim_2024.toml", "TRIPOD+AI": "tripod_ai.toml"}


class Item(NamedTuple):
    """An item of a checklist.

    Attributes:
        number: As the checklist has it.
        section: Of a paper.
        text: What is to be reported, in short.
        answer: What the run says of it; ``None``: the authors must write it.
        complete: Whether the answer is all that the item asks for.
    """

    number: str
    section: str
    text: str
    answer: str | None
    complete: bool


def filled(facts: Mapping[str, str | None]) -> dict[str, list[Item]]:
    """The checklists with what the run knows.

    Args:
        facts: The values that answers are made of; an answer that needs one that is ``None`` or not there is left to
            the authors.
    """
    known = {name: value for name, value in facts.items() if value}
    return {name: [_item(entry, known) for entry in _read(file)] for name, file in CHECKLISTS.items()}


def needed_facts() -> set[str]:
    """The names of all facts that any answer uses."""
    answers = [entry["answer"] for file in CHECKLISTS.values() for entry in _read(file) if "answer" in entry]
    return {name for answer in answers for name in _fields(answer)}


def _item(entry: Mapping[str, str], known: Mapping[str, str]) -> Item:
    answer = entry.get("answer")
    if answer is not None:
        answer = answer.format_map(known) if _fields(answer) <= known.keys() else None
    complete = answer is not None and entry.get("rest") is None
    if answer is not None and not complete:
        answer = f"{answer} The authors' to add: {entry['rest']}"
    return Item(entry["number"], entry["section"], entry["text"], answer, complete)


def _fields(answer: str) -> set[str]:
    return {name for _, name, _, _ in string.Formatter().parse(answer) if name}


def _read(file: str) -> list[dict[str, str]]:
    with open(_FOLDER / file, "rb") as opened:
        items: list[dict[str, str]] = tomllib.load(opened)["items"]
    return items


# Who was evaluated, and who was left out and why.


_MOST_REASONS = 8


def cohort_table(images: Scored, tasks: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """Counts of the evaluated images by label, view, side, age, vendor and lesion.

    Returns:
        Rows of ``of``, ``value``, ``images``, ``patients``; the last two are ``None`` where a value other than "not
        known" has fewer than ten patients.
    """
    columns: dict[str, list[str | None]] = {
        str(task["name"]): [
            task["labels"][label] if label >= 0 else None for label in np.asarray(images.labels)[:, number]
        ]
        for number, task in enumerate(tasks)
    }
    columns |= {FACTS[fact]: list(images.facts[fact]) for fact in FACTS if fact in images.facts and fact not in columns}
    order = {str(task["name"]): list(task["labels"]) for task in tasks}
    rows = []
    for name, values in columns.items():
        known = {value for value in values if value is not None}
        ordered = [value for value in order.get(name, sorted(known)) if value in known]
        for value in [*ordered, *([None] if None in values else [])]:
            patients = {patient for patient, one in zip(images.patients, values, strict=True) if one == value}
            shown = value is None or len(patients) >= FEWEST_PATIENTS
            rows.append(
                {
                    "of": name,
                    "value": UNKNOWN if value is None else value,
                    "images": values.count(value) if shown else None,
                    "patients": len(patients) if shown else None,
                }
            )
    return rows


def flow(
    table: Collection, evaluated: datasets.Dataset, split: str, unreadable: Sequence[str] = ()
) -> list[dict[str, Any]]:
    """From the collection to the evaluated images.

    Args:
        table: The whole collection, with its splits.
        evaluated: The prepared images that were scored.
        split: Theirs.
        unreadable: Why images of this split could not be prepared, a reason each.

    Returns:
        Steps of ``step``, ``images``, ``patients`` and ``reasons``: from a reason to how many it left out. Sources are
        not named: a path may name a person.
    """
    of_split = table if split == "all" else table.where(split=split)
    readable = len(of_split) - len(unreadable)
    steps: list[dict[str, Any]] = [
        _step("found in the collection", len(table), table.column("patient"), [r.reason for r in table.rejected]),
        _step(
            "of all splits" if split == "all" else f"of the {split} split", len(of_split), of_split.column("patient")
        ),
        {
            **_step("readable", readable, [], unreadable),
            "patients": None,
        },
        _step("with a known label of any task: evaluated", len(evaluated), evaluated["patient"]),
    ]
    return steps


def unreadable(tried: Collection, prepared: datasets.Dataset, folder: str | Path) -> list[str]:
    """Why rows are not among the prepared images.

    Args:
        tried: The rows that were to be prepared.
        prepared: What came of them, or of more.
        folder: Where, with ``rejected.csv``.

    Returns:
        A reason for each image that is missing.
    """
    there, reasons = set(prepared["image_id"]), dict(read_rejected(folder))
    rows = zip(tried.column("image_id"), tried.column("path"), strict=True)
    return [reasons.get(path, "cannot be read") for image, path in rows if image not in there]


def read_rejected(folder: str | Path) -> list[tuple[str, str]]:
    """What ``rejected.csv`` of a prepared folder on this machine says; nothing where there is none."""
    path = Path(folder) / "rejected.csv"
    if not path.is_file():
        return []
    with path.open(encoding="utf-8", newline="") as file:
        return [(row["source"], row["reason"]) for row in csv.DictReader(file)]


def _step(step: str, images: int, patients: Sequence[str], reasons: Sequence[str] = ()) -> dict[str, Any]:
    counts = Counter(reasons).most_common()
    shown = dict(counts[:_MOST_REASONS])
    if len(counts) > _MOST_REASONS:
        shown["other reasons"] = sum(count for _, count in counts[_MOST_REASONS:])
    return {"step": step, "images": images, "patients": len(set(patients)), "left_out": shown}
