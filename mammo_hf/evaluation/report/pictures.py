"""Pictures of explanations: test images, and the most confident errors of a report."""

from __future__ import annotations

import base64
import io
from typing import Any

import datasets
import numpy as np
import torch

from ...data.prepared_row import geometry_of, lesion_mask
from ...data.torch_datasets import LabelledImages
from ...explainers import explain
from ...explainers.explanation import mm_per_pixel
from ...explainers.overlay import percent, side_by_side
from ...models.modeling_mammo_swin import MammoSwinForImageClassification
from ...processing.image_processing_mammo import MammoImageProcessor
from ..classifier import Evaluation

EXPLAINER = "grad_cam"
_TALLEST = 448  # pixels per panel


def confident_errors(evaluation: Evaluation, count: int = 6) -> dict[str, list[dict[str, Any]]]:
    """Find for each task the images with the highest calibrated probability of a wrong label.

    Returns:
        By task's name, worst first: ``image`` (its number in the split, from 1), ``image_id``, ``true``, ``predicted``,
        ``probability`` and the facts ``view``, ``laterality``, ``lesion_type`` where known.
    """
    found = {}
    for name, scores in evaluation.scores.items():
        predicted = scores.after.argmax(axis=1)
        sure = scores.after.max(axis=1)
        wrong = np.flatnonzero((predicted != scores.references) & ~np.isnan(sure))
        worst = wrong[np.argsort(-sure[wrong], kind="stable")][:count]
        images = evaluation.images
        found[name] = [
            {
                "image": int(scores.indices[row]) + 1,
                "image_id": str(images.image_ids[scores.indices[row]]) if len(images.image_ids) else None,
                "true": scores.labels[scores.references[row]],
                "predicted": scores.labels[predicted[row]],
                "probability": float(sure[row]),
            }
            | {
                fact: images.facts[fact][scores.indices[row]]
                for fact in ("view", "laterality", "lesion_type")
                if fact in images.facts
            }
            for row in worst
        ]
    return found


def add_pictures(
    errors: dict[str, list[dict[str, Any]]],
    model: MammoSwinForImageClassification,
    prepared: datasets.Dataset,
    processor: MammoImageProcessor,
) -> None:
    """Add to each error a ``picture`` of the image and its explanation for the predicted label, as a data URI.

    Args:
        errors: Result of `confident_errors` for these prepared images.
        model: Classifier that was evaluated.
        prepared: Prepared images in the order that was evaluated.
        processor: Processor of the model.
    """
    images = LabelledImages(prepared, processor)
    for name, of_task in errors.items():
        for error in of_task:
            intensity, _, row = images.intensity_and_lesions(error["image"] - 1)
            pixels = images.normalized(intensity)[None].to(model.device)
            label = f"{name}:{error['predicted']}"
            map_ = explain(model, pixels, label, EXPLAINER).map[0]
            caption = f"{label} {percent(error['probability'])}"
            shown: dict[str, Any] = {"caption": caption, "strength": error["probability"]}
            error["picture"] = _picture(intensity[0], map_, lesion_mask(row), mm_per_pixel(geometry_of(row)), shown)


def _picture(
    intensity: torch.Tensor, map_: np.ndarray, outline: np.ndarray | None, mm: float | None, shown: dict[str, Any]
) -> str:
    scale = max(1, _TALLEST // intensity.shape[0])
    picture = side_by_side(intensity.numpy(), {EXPLAINER: map_}, outline, scale, mm, **shown)
    if picture.height > 1.5 * _TALLEST:
        picture.thumbnail((picture.width, int(1.2 * _TALLEST)))
    content = io.BytesIO()
    picture.save(content, format="JPEG", quality=85)
    return "data:image/jpeg;base64," + base64.b64encode(content.getvalue()).decode()
