"""What a run can say to a reporting checklist."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ...training.training_words import training_in_words
from ..classifier import Evaluation
from ..subgroups import FACTS
from .pictures import EXPLAINER

_AUGMENTATION = (
    "Training images are turned, scaled and shifted a little, their display curve is changed a little, and "
    "cranio-caudal views are flipped at random."
)

if TYPE_CHECKING:
    from .writing import About


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
