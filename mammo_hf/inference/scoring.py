"""From model input to scores: the logits that count, averaged over views of an image if asked, and calibrated."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch

from ..data.augmentation import rotated
from ..errors import UsageError
from ..explainers import Explainer, Explanation, explain
from ..explainers.targets import resolve, task_slices
from ..metrics.calibration import calibrated
from ..models.modeling_mammo_swin import score_logits
from ..processing.geometry import Geometry
from ..processing.image_processing_mammo import MammoImageProcessor

# the image, turned either way, smaller and larger: within what an image of training may become (`Augmentation`)
VIEWS = ((0.0, 1.0), (-5.0, 1.0), (5.0, 1.0), (0.0, 0.95), (0.0, 1.05))


def image_logits(
    model: Any, pixel_values: torch.Tensor, processor: MammoImageProcessor | None = None, *, tta: bool = False
) -> torch.Tensor:
    """The logits that a model's scores are made of, (batch, labels of all tasks).

    Args:
        model: A classifier.
        pixel_values: (batch, channels, height, width), normalised, on the model's device.
        processor: The model's; only ``tta`` needs it.
        tta: Test-time augmentation: the mean of the logits over five views of the image, each with the same anatomy.
    """
    if not tta:
        return _logits(model, pixel_values)
    if processor is None:
        raise ValueError("tta needs the processor")
    mean, deviation = processor.image_mean[0], processor.image_std[0]
    intensity = (pixel_values.float() * deviation + mean).clamp(0, 1)
    total = torch.zeros(0)
    for angle, scale in VIEWS:
        # what comes in from outside the canvas is background: intensity 0, not the mean
        view = (rotated(intensity, math.radians(angle), scale) - mean) / deviation
        logits = _logits(model, view.to(pixel_values.dtype)).float()
        total = logits if not len(total) else total + logits
    return total / len(VIEWS)


def _logits(model: Any, pixel_values: torch.Tensor) -> torch.Tensor:
    output = model(pixel_values=pixel_values)
    if getattr(model.config, "tasks", None) is None:
        return output.logits
    return score_logits(model.config, output.logits, output.lesion_scores)


def calibrated_scores(config: Any, logits: np.ndarray) -> dict[str, np.ndarray]:
    """For each task's name float64 (batch, labels), rows that sum to 1.

    They are calibrated where ``config.calibration`` says how.

    Args:
        config: The model's.
        logits: (batch, labels of all tasks).
    """
    calibrations = getattr(config, "calibration", None) or {}
    return {name: calibrated(logits[:, part], calibrations.get(name)) for name, part in task_slices(config).items()}


def labels_by_task(config: Any) -> dict[str, list[str]]:
    """For each task's name its labels, without the task's name, in the logits' order."""
    return {
        name: [label_of(config, index) for index in range(part.start, part.stop)]
        for name, part in task_slices(config).items()
    }


def label_of(config: Any, index: int) -> str:
    """The label at a place of the logits, without its task's name."""
    return str(config.id2label[index]).split(":", 1)[-1]


# Scores and their explanations: each task's first label, or those that are asked for, in as few passes as can be.


def score_and_explain(
    model: Any,
    processor: MammoImageProcessor,
    pixel_values: torch.Tensor,
    *,
    explainer: str | Explainer | None = None,
    tasks: Sequence[str] | None = None,
    target: str | Sequence[str] | None = None,
    tta: bool = False,
    geometry: Sequence[Geometry] | None = None,
) -> tuple[torch.Tensor, list[dict[int, Explanation]]]:
    """The logits that a batch's scores are made of, and where asked for explanations.

    Args:
        model: A classifier.
        processor: Its own.
        pixel_values: float32 (batch, channels, height, width), normalised.
        explainer: As in `mammo_hf.explain`; ``None``: nothing is explained.
        tasks: As in `explain_tasks`; all where not given.
        target: As in `explain_tasks`.
        tta: As in `image_logits`.
        geometry: As in `mammo_hf.explain`.

    Returns:
        float32 (batch, labels), and for each image its explanations by the label's place in the logits.
    """
    given = pixel_values.to(model.device, model.dtype)
    logits: torch.Tensor | None = None
    explanations: list[dict[int, Explanation]] = [{} for _ in range(len(pixel_values))]
    if explainer is not None:
        logits, explanations = explain_tasks(
            model,
            given,
            explainer,
            tasks=tasks or list(task_slices(model.config)),
            target=target,
            images=processor.denormalize(pixel_values.float().cpu().numpy()),
            geometry=geometry,
        )
    # explained is the pooled score of the image as it is; what is told may come from elsewhere
    if logits is None or tta or getattr(model.config, "score_from", "pooled") != "pooled":
        with torch.inference_mode():
            logits = image_logits(model, given, processor, tta=tta)
    return logits.float(), explanations


def explain_tasks(
    model: Any,
    pixel_values: torch.Tensor,
    explainer: str | Explainer,
    *,
    tasks: Sequence[str],
    target: str | Sequence[str] | None = None,
    images: np.ndarray | None = None,
    geometry: Sequence[Geometry] | None = None,
) -> tuple[torch.Tensor, list[dict[int, Explanation]]]:
    """Explains a batch, a label of each task.

    Args:
        model: A classifier.
        pixel_values: (batch, channels, height, width), normalised.
        explainer: As in `mammo_hf.explain`.
        tasks: Names of those whose first label is explained.
        target: Labels to explain instead, as "pathology:malignant": the same for each image.
        images: As in `mammo_hf.explain`.
        geometry: As in `mammo_hf.explain`.

    Returns:
        The model's own logits (batch, labels) on the CPU, and for each image its explanations by the label's place in
        the logits.

    Raises:
        UsageError: An unknown explainer or label.
    """
    wanted: list[Any] = list(tasks)
    if target is not None:
        wanted = [resolve(one, 1, model.config)[0] for one in ([target] if isinstance(target, str) else target)]
    if not wanted:
        raise UsageError("names no label", source="target", remedy="name one, or leave it out")
    found: list[dict[int, Explanation]] = [{} for _ in range(len(pixel_values))]
    slices, logits = task_slices(model.config), None
    for one in wanted:
        places = None
        if isinstance(one, int):
            places = [one] * len(pixel_values)
        elif logits is not None:
            places = _first(logits, slices[one])
        elif slices[one].start:
            with torch.no_grad():
                places = _first(model(pixel_values=pixel_values).logits.float().cpu(), slices[one])
        # without places it is the first task's label, and the pass that finds it is the one that is explained
        explanation = explain(model, pixel_values, places, explainer, images=images, geometry=geometry)
        if explanation.logits is None:
            raise UsageError("gave no logits", source="explainer", remedy="use one that is run by mammo_hf.explain")
        logits = torch.tensor(explanation.logits)
        for index, place in enumerate(places or _first(logits, next(iter(slices.values())))):
            found[index][place] = explanation.of_image(index)
    assert logits is not None
    return logits, found


def _first(logits: torch.Tensor, part: slice) -> list[int]:
    return [int(index) + part.start for index in logits[:, part].argmax(-1)]
