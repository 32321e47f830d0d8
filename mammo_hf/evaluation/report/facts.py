"""What a run can say to a reporting checklist."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ..classifier import Evaluation
from ..subgroups import FACTS
from .pictures import EXPLAINER

if TYPE_CHECKING:
    from .writing import About


def part_name(split: str) -> str:
    """A split in words."""
    return "whole collection" if split == "all" else f"{split} split"


def checklist_facts(evaluation: Evaluation, about: About) -> dict[str, str | None]:
    """The values that the checklists' answers are made of; ``None`` where the run does not know."""
    images, figures = evaluation.images, evaluation.figures
    shown = dict.fromkeys(FACTS[fact] for of_task in figures.values() for fact in of_task["subgroups"])
    with_points = [
        name
        for name, of_task in figures.items()
        if "given" not in ((of_task.get("chosen_operating_points") or {"image": {"given"}})["image"])
    ]
    errors = sum(len(of_task) for of_task in about.errors.values())
    size = about.model.get("image_size")
    vendors = sorted({vendor for vendor in images.facts.get("vendor", ()) if vendor is not None})
    calibrated = [name for name, of_task in figures.items() if of_task["calibration"] is not None]
    return {
        "model": about.model.get("size"),
        "parameters": f"{about.model['parameters']:,}" if about.model.get("parameters") else None,
        "image_size": f"{size[0]} x {size[1]}" if size else None,
        "tasks": "; ".join(f"{task['name']} ({', '.join(task['labels'])})" for task in about.tasks),
        "checkpoint": about.checkpoint,
        "collection": about.collection,
        "part": part_name(about.split),
        "evaluated": f"{len(images):,} images of {len(set(images.patients)):,} patients",
        "unknown": "; ".join(f"{name}: {of_task['n_unknown']:,} images" for name, of_task in figures.items()),
        "vendors": f"Vendors: {', '.join(vendors)}." if vendors else None,
        "subgroups": ", ".join(shown) or None,
        "software": ", ".join(f"{name} {version}" for name, version in about.environment["packages"].items())
        if about.environment
        else None,
        "resamples": f"{about.resamples:,}",
        "partition": "By patient, on the collection's own split where it has one."
        if about.trained_here
        else "Nothing of this collection was used for training."
        if about.trained_here is False
        else None,
        "internal": "This report: the model was trained on other patients of the same collection."
        if about.trained_here
        else None,
        "external": "This report: the model was not trained on this collection."
        if about.trained_here is False
        else None,
        "points": f"Operating points fixed on validation images before these were read: {', '.join(with_points)}."
        if with_points
        else None,
        "failures": f"The {errors} most confident errors are shown." if errors else None,
        "explainer": EXPLAINER.replace("_", "-") if errors else None,
        "updating": "None: the model, its calibration and its operating points are applied as they were stored."
        if about.trained_here is False
        else None,
        "imbalance": f"Probabilities are recalibrated on validation images: {', '.join(calibrated)}."
        if calibrated
        else None,
    }
