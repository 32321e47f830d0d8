"""Facts that a report states in addition to its figures: answers of reporting checklists, the cohort, and the flow."""

from __future__ import annotations

import csv
import string
import tomllib
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import datasets
import jinja2
import numpy as np

from ...data.collection import Rejected
from ...files import plain_cell
from ...notes import codes_in
from ..classifier import FACTS, UNKNOWN, Evaluation, by_size, shown_count, without_few
from ..scored import Scored
from .pictures import EXPLAINER

if TYPE_CHECKING:
    from ...data.collection import Collection

Rows = list[dict[str, Any]]


def template_environment(*packages: str, autoescape: bool = False) -> jinja2.Environment:
    """Return the templates of reports, which hold all their sentences, and those of further packages."""
    loaders = [jinja2.PackageLoader(package, "") for package in ("mammo_hf.evaluation.report", *packages)]
    found = jinja2.Environment(
        loader=jinja2.ChoiceLoader(loaders), autoescape=autoescape, trim_blocks=True, lstrip_blocks=True
    )
    found.filters |= {"number": "{:g}".format, "count": shown_count, "without_few": without_few}
    return found


def sentences(macro: str, facts: Mapping[str, Any], template: str = "sentences.j2") -> list[str]:
    """Return the sentences that a macro of a template makes of facts, one per line that it writes.

    Args:
        macro: Name of the macro, such as "preprocessing".
        facts: Argument of the macro, such as the content of ``preprocessor_config.json``.
        template: Name of the template.
    """
    text = str(getattr(template_environment().get_template(template).module, macro)(facts))
    return [" ".join(line.split()) for line in text.splitlines() if line.strip()]


def part_name(split: str) -> str:
    """Return how a report names a split."""
    return "whole collection" if split == "all" else f"{split} split"


def checklist_facts(evaluation: Evaluation, about: Mapping[str, Any]) -> dict[str, str]:
    """Return the facts that the checklists' answers need, by name; empty text for what the run does not know.

    Args:
        evaluation: Evaluation that is reported.
        about: What else the report states, with every key of `write_report`.
    """
    figures, images = evaluation.figures, evaluation.images
    points = {name: (part.get("chosen_operating_points") or {}).get("image", {}) for name, part in figures.items()}
    run = {
        "about": about,
        "figures": figures,
        "part": part_name(evaluation.split),
        "images": len(images),
        "patients": len(set(images.patients)),
        "vendors": sorted({vendor for vendor in images.facts.get("vendor", ()) if vendor is not None}),
        "subgroups": list(dict.fromkeys(FACTS[fact] for part in figures.values() for fact in part["subgroups"])),
        "with_points": [name for name, found in points.items() if found and "given" not in found],
        "errors": [error for of_task in about["errors"].values() for error in of_task],
        "explainer": EXPLAINER.replace("_", "-"),
        "calibrated": [name for name, part in figures.items() if part["calibration"] is not None],
    }
    return {name: " ".join(sentences(name, run, "checklist_facts.j2")) for name in needed_facts()}


# The reporting checklists CLAIM 2024 and TRIPOD+AI, answered as far as a run can; the rest is for the authors to write.
#
# CLAIM: Tejani et al., Radiology: Artificial Intelligence 2024, doi 10.1148/ryai.240300. TRIPOD+AI: Collins et al., BMJ
# 2024, doi 10.1136/bmj-2023-078378. The items are given in short, in our words; the papers have them in full.

_FOLDER = Path(__file__).parent
CHECKLISTS = {"CLAIM 2024": "claim_2024.toml", "TRIPOD+AI": "tripod_ai.toml"}


def filled(facts: Mapping[str, str | None]) -> dict[str, Rows]:
    """Return the checklists with what the run knows.

    Args:
        facts: Values that answers are made of; an answer that needs an empty or missing one is left to the authors.

    Returns:
        For each checklist its items: ``number``, ``section`` of a paper, ``text`` (what is to be reported, in short),
        ``answer`` (``None``: the authors must write it) and ``complete`` (whether the answer is all that is asked for).
    """
    known = {name: value for name, value in facts.items() if value}
    return {name: [_item(entry, known) for entry in _read(file)] for name, file in CHECKLISTS.items()}


def needed_facts() -> set[str]:
    """Return the names of all facts that any answer uses."""
    answers = [entry["answer"] for file in CHECKLISTS.values() for entry in _read(file) if "answer" in entry]
    return {name for answer in answers for name in _fields(answer)}


def _item(entry: Mapping[str, str], known: Mapping[str, str]) -> dict[str, Any]:
    answer = entry.get("answer")
    if answer is not None:
        answer = answer.format_map(known) if _fields(answer) <= known.keys() else None
    complete = answer is not None and entry.get("rest") is None
    if answer is not None and not complete:
        answer = f"{answer} For the authors to add: {entry['rest']}"
    given = {key: entry[key] for key in ("number", "section", "text")}
    return given | {"answer": answer, "complete": complete}


def _fields(answer: str) -> set[str]:
    return {name for _, name, _, _ in string.Formatter().parse(answer) if name}


def _read(file: str) -> list[dict[str, str]]:
    with open(_FOLDER / file, "rb") as opened:
        items: list[dict[str, str]] = tomllib.load(opened)["items"]
    return items


# Who was evaluated, and who was left out and why.

_MOST_REASONS = 8  # shown per step; the rest are counted together


def cohort_table(images: Scored, tasks: Sequence[dict[str, Any]]) -> Rows:
    """Count the evaluated images by label, view, side, age, vendor and lesion.

    Returns:
        Rows of ``of``, ``value``, ``images``, ``patients``; the last two are ``None`` where `without_few` leaves the
        number of patients out.
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
        ordered = [value for value in order.get(name, sorted(known, key=by_size)) if value in known]
        shown_values = [*ordered, *([None] if None in values else [])]
        of_value: dict[str | None, set[str]] = {value: set() for value in shown_values}
        for patient, value in zip(images.patients, values, strict=True):
            of_value[value].add(patient)
        for value, patients in without_few({value: len(found) for value, found in of_value.items()}).items():
            count = None if patients is None else values.count(value)
            shown = UNKNOWN if value is None else value
            rows.append({"of": name, "value": shown, "images": count, "patients": patients})
    return rows


def flow(table: Collection, evaluated: datasets.Dataset, split: str, unreadable: Sequence[str] = ()) -> Rows:
    """Return the steps from the collection to the evaluated images.

    Args:
        table: The whole collection, with its splits.
        evaluated: Prepared images that were scored.
        split: Split that they are of.
        unreadable: Reason for each image of this split that could not be prepared.

    Returns:
        Steps of ``step``, ``images``, ``patients``, ``left_out``: from a reason to the number of images, and ``notes``:
        from the code of a note to the number of evaluated images. Sources are not named, because a path may name a
        person.
    """
    of_split = table if split == "all" else table.where(split=split)
    name = "of all splits" if split == "all" else f"of the {split} split"
    noted = [code for cell in evaluated["notes"] for code in codes_in(cell)]
    return [
        _step("found in the collection", len(table), table.column("patient"), [r.reason for r in table.rejected]),
        _step(name, len(of_split), of_split.column("patient")),
        _step("readable", len(of_split) - len(unreadable), None, unreadable),
        _step("with a known label of any task: evaluated", len(evaluated), evaluated["patient"], notes=noted),
    ]


def _step(
    step: str, images: int, patients: Sequence[str] | None, reasons: Sequence[str] = (), notes: Sequence[str] = ()
) -> dict[str, Any]:
    counts = Counter(reasons).most_common()
    shown = dict(counts[:_MOST_REASONS])
    if len(counts) > _MOST_REASONS:
        shown["other reasons"] = sum(count for _, count in counts[_MOST_REASONS:])
    known = None if patients is None else len(set(patients))
    noted = dict(Counter(notes).most_common())
    return {"step": step, "images": images, "patients": known, "left_out": shown, "notes": noted}


def unreadable(tried: Collection, prepared: datasets.Dataset, folder: str | Path) -> list[Rejected]:
    """Return the rows that are not among the prepared images, with the reason.

    Args:
        tried: Rows that were to be prepared.
        prepared: The prepared images of these rows, or of more.
        folder: Folder that they were prepared into, with ``rejected.csv``.
    """
    there, known = set(prepared["image_id"]), {one.source: one for one in read_rejected(folder)}
    rows = zip(tried.column("image_id"), tried.column("path"), strict=True)
    missing = (path for image, path in rows if image not in there)
    return [known.get(path, Rejected(path, "cannot be read", "damaged")) for path in missing]


def read_rejected(folder: str | Path) -> list[Rejected]:
    """Return the lines of ``rejected.csv`` in a prepared folder on this machine; empty if there is none."""
    path = Path(folder) / "rejected.csv"
    if not path.is_file():
        return []
    with path.open(encoding="utf-8", newline="") as file:
        rows = csv.DictReader(file)
        return [Rejected(*(plain_cell(row[name]) for name in ("source", "reason", "code"))) for row in rows]
