"""From model input to scores: the logits that count, averaged over views of an image if asked, and calibrated."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import torch

from ..evaluation import calibrated
from ..explainers.targets import task_slices
from ..image_processing_mammo import MammoImageProcessor
from ..modeling_mammo_swin import score_logits
from ..training.augmentation import turned

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
        view = (turned(intensity, math.radians(angle), scale) - mean) / deviation
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
