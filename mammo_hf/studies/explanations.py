"""Explainers measured side by side on images whose lesions are known, with intervals by patient and baselines."""

from __future__ import annotations

import json
import logging
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from transformers import PreTrainedModel

from ..data.prepare.row import LESION_CELL, unpacked_breast
from ..data.torch_datasets import LabelledImages
from ..errors import DataError, UsageError
from ..evaluation.report.pictures import lesion_mask
from ..explainers.discovery import find_explainer
from ..explainers.explain import explain
from ..explainers.explanation import mm_a_pixel
from ..explainers.measures import (
    best_iou,
    brightest,
    cascade,
    centre,
    deletion_and_insertion,
    distance_to_lesion,
    energy_over_chance,
    pixel_auroc,
    pointing_hit,
    random_map,
    rank_correlation,
    sensitivity_n,
    untrained,
)
from ..explainers.targets import predicted, probabilities, resolve
from ..metrics.inputs import UndefinedMetric
from ..metrics.intervals import bootstrap_interval, mean_score
from ..processing.geometry import Geometry

logger = logging.getLogger(__name__)
BATCH = 8
NEAR_MM = 10.0
PLACEMENT = ("pointing_game", "energy_over_chance", "pixel_auroc", "best_iou", "within_10_mm")
FAITHFULNESS = ("deletion", "insertion", "sensitivity_n")
Figures = dict[str, Any]


@dataclass(frozen=True)
class Case:
    """One image with a lesion.

    Attributes:
        image: (height, width) in [0, 1].
        pixel_values: (channels, height, width), normalised.
        lesion: bool (height, width).
        breast: bool (height, width).
        patient: Whose it is.
        label: Index of its own label among the logits, -100 where not known.
        mm_a_pixel: Side of a model pixel in mm; ``None`` where not known.
    """

    image: np.ndarray
    pixel_values: torch.Tensor
    lesion: np.ndarray
    breast: np.ndarray
    patient: str
    label: int = -100
    mm_a_pixel: float | None = None


def evaluate_explainers(
    model: PreTrainedModel,
    cases: Sequence[Case],
    names: Sequence[str],
    *,
    target: str = "predicted",
    faithfulness: int = 24,
    sanity: int = 16,
    random_labels: PreTrainedModel | None = None,
    seed: int = 0,
) -> Figures:
    """Places, faithfulness and sanity of explainers.

    Args:
        model: A Swin classifier in evaluation mode.
        cases: The images.
        names: Of the explainers; one that fails on this model is left out with its reason.
        target: What is explained: "predicted", what the first task predicts; "label", the image's own label; or a
            label's name.
        faithfulness: On how many images faithfulness is measured, spread over all: each takes about 70 passes a map.
        sanity: On how many images maps are compared with those of randomised models.
        random_labels: The same model trained on permuted labels, for the second sanity check.
        seed: Of the random map, of new weights and of the bootstrap.

    Returns:
        Counts, and for each explainer and baseline its figures, ``{"value", "interval", "images"}`` each.

    Raises:
        DataError: There is no case.
        UsageError: No such target or explainer.
    """
    if not cases:
        raise DataError("no image with a lesion's place to measure on", remedy="give a collection that knows places")
    for name in names:
        find_explainer(name)
    targets = _targets(model, cases, target)
    maps, reasons = _maps_of(model, cases, names, targets)
    baselines = {
        "brightest tissue": [brightest(case.image, case.breast) for case in cases],
        # as coarse as a token map is
        "brightest region": [brightest(case.image, case.breast, len(case.image) / 28) for case in cases],
        "centre of the breast": [centre(case.breast) for case in cases],
        "random": [random_map(case.breast, [seed, place]) for place, case in enumerate(cases)],
        "untrained model": _maps_of(untrained(model, seed), cases, ["grad_cam"], targets)[0]["grad_cam"],
    }
    patients = [case.patient for case in cases]
    # spread over the images, not the first, which may be of a few patients
    chosen = np.unique(np.linspace(0, len(cases) - 1, min(faithfulness, len(cases))).round().astype(int)).tolist()
    values = {
        name: _placement(cases, rows) | _faithfulness(model, cases, rows, targets, chosen if faithfulness else [], seed)
        for name, rows in (maps | baselines).items()
    }
    shown = {
        name: {
            "supervised": name in maps and bool(getattr(find_explainer(name), "SUPERVISED", False)),
            "baseline": name in baselines,
            **{measure: summary(measured, patients, seed) for measure, measured in measures.items()},
            "pointing_game_over": {
                baseline: summary(measures["pointing_game"] - values[baseline]["pointing_game"], patients, seed)
                for baseline in (baselines if name in maps else ())
            },
        }
        for name, measures in values.items()
    }
    share = np.array([np.mean(case.lesion[case.lesion | case.breast]) for case in cases])
    return {
        "images": len(cases),
        "patients": len(set(patients)),
        "target": target,
        "chance_of_pointing": summary(share, patients, seed),
        "explainers": shown,
        "failed": reasons,
        "sanity": _sanity(model, cases, maps, targets, sanity, random_labels, seed) if sanity else None,
    }


def summary(values: np.ndarray, patients: Sequence[str], seed: int = 0) -> Figures:
    """The mean of what is known of some images, and its 95 % interval by patient; null where there is none."""
    known = np.isfinite(values)
    if not known.any():
        return {"value": None, "interval": None, "images": 0}
    found, groups = values[known], [patient for patient, there in zip(patients, known, strict=True) if there]
    try:
        interval = list(bootstrap_interval(mean_score, found, found, groups=groups, seed=seed))
    except UndefinedMetric:
        interval = None
    return {"value": float(found.mean()), "interval": interval, "images": int(known.sum())}


def _targets(model: PreTrainedModel, cases: Sequence[Case], target: str) -> list[int]:
    if target == "label":
        labels = [case.label for case in cases]
        if min(labels) < 0:
            raise UsageError("some images have no label of their own", source="target", remedy="use predicted")
        return labels
    if target != "predicted":
        return resolve(target, len(cases), model.config)
    with torch.no_grad():
        return [index for batch in _batches(cases) for index in predicted(model(_stack(batch)).logits, model.config)]


def _maps_of(
    model: PreTrainedModel, cases: Sequence[Case], names: Sequence[str], targets: Sequence[int]
) -> tuple[dict[str, list[np.ndarray]], dict[str, str]]:
    """Each explainer's maps (height, width) of all cases, and why an explainer has none."""
    maps, reasons = {}, {}
    for name in names:
        found: list[np.ndarray] = []
        try:
            for batch in _batches(cases):
                of_batch = targets[len(found) : len(found) + len(batch)]
                found.extend(explain(model, _stack(batch), list(of_batch), name).map)
        except Exception as error:
            # whatever a plugin raises on this model must not end the measuring of the others; the reason is kept
            reasons[name] = str(error) if isinstance(error, UsageError) else f"{type(error).__name__}: {error}"
            logger.warning("%s is left out: %s", name, reasons[name])
            continue
        maps[name] = found
    return maps, reasons


def _placement(cases: Sequence[Case], maps: Sequence[np.ndarray]) -> dict[str, np.ndarray]:
    rows = []
    for case, values in zip(cases, maps, strict=True):
        near = np.nan
        if case.mm_a_pixel is not None:
            near = float(distance_to_lesion(values, case.lesion) * case.mm_a_pixel <= NEAR_MM)
        try:
            area = pixel_auroc(values, case.lesion, case.breast)
        except UndefinedMetric:
            area = np.nan
        energy = energy_over_chance(values, case.lesion, case.breast)
        rows.append((pointing_hit(values, case.lesion), energy, area, best_iou(values, case.lesion), near))
    return dict(zip(PLACEMENT, np.array(rows, float).T, strict=True))


def _faithfulness(
    model: PreTrainedModel,
    cases: Sequence[Case],
    maps: Sequence[np.ndarray],
    targets: Sequence[int],
    chosen: Sequence[int],
    seed: int,
) -> dict[str, np.ndarray]:
    """NaN on images that are not among the chosen."""
    result = {name: np.full(len(cases), np.nan) for name in FAITHFULNESS}
    for place in chosen:
        index, pixels = targets[place], cases[place].pixel_values

        def probability(images: torch.Tensor, index: int = index) -> torch.Tensor:
            return probabilities(model(images).logits, [index] * len(images), model.config)

        areas = deletion_and_insertion(probability, pixels, maps[place])
        correlation = sensitivity_n(probability, pixels, maps[place], seed=seed + place)
        for name, value in zip(FAITHFULNESS, (*areas, correlation), strict=True):
            result[name][place] = value
    return result


def _sanity(
    model: PreTrainedModel,
    cases: Sequence[Case],
    maps: dict[str, list[np.ndarray]],
    targets: Sequence[int],
    count: int,
    random_labels: PreTrainedModel | None,
    seed: int,
) -> Figures:
    """Rank correlation of each explainer's maps with those of models that are drawn anew, part by part."""
    places = np.unique(np.linspace(0, len(cases) - 1, min(count, len(cases))).round().astype(int)).tolist()
    some = [cases[place] for place in places]
    patients = [case.patient for case in some]
    of_some = [targets[place] for place in places]

    def compared(other: PreTrainedModel) -> dict[str, Figures]:
        others, _ = _maps_of(other, some, list(maps), of_some)
        return {
            name: summary(
                np.array(
                    [
                        rank_correlation(maps[name][place], map_, case.breast)
                        for place, map_, case in zip(places, found, some, strict=True)
                    ]
                ),
                patients,
                seed,
            )
            for name, found in others.items()
        }

    parts = {part: compared(other) for part, other in cascade(model, seed)}
    return {
        "images": len(some),
        "parts": list(parts),
        "rank_correlation": {
            name: {part: found[name] for part, found in parts.items() if name in found} for name in maps
        },
        "random_labels": None if random_labels is None else compared(random_labels),
    }


def _batches(cases: Sequence[Case]) -> Iterator[Sequence[Case]]:
    for start in range(0, len(cases), BATCH):
        yield cases[start : start + BATCH]


def _stack(cases: Sequence[Case]) -> torch.Tensor:
    return torch.stack([case.pixel_values for case in cases])


# Prepared images with a lesion's place, as the cases that explainers are measured on.


def lesion_cases(images: LabelledImages, spacing_mm: float | None = None) -> list[Case]:
    """A case for each image that has a lesion with a known place.

    Args:
        images: Prepared images; ``label`` is that of the first task.
        spacing_mm: Side of a pixel of the source images in mm, for files that do not say it.
    """
    cases = []
    for index in range(len(images)):
        intensity, _, row = images.intensity_and_lesions(index)
        size = (row["size"][0], row["size"][1])
        lesion = lesion_mask(row, size)
        if lesion is None:
            continue
        geometry = Geometry.from_dict(json.loads(row["geometry"]))
        cases.append(
            Case(
                image=intensity[0].numpy(),
                pixel_values=images.normalized(intensity),
                lesion=lesion,
                breast=unpacked_breast(row["breast"], size).repeat(LESION_CELL, axis=0).repeat(LESION_CELL, axis=1),
                patient=row["patient"],
                label=row["labels"][0],
                mm_a_pixel=_mm_a_pixel(geometry, spacing_mm),
            )
        )
    return cases


def _mm_a_pixel(geometry: Geometry, spacing_mm: float | None) -> float | None:
    said = mm_a_pixel(geometry)
    return said if said is not None or spacing_mm is None else spacing_mm / float(np.mean(geometry.scale))
