"""The trained map of the lesion head, where the checkpoint has one.

Supervised: the head was taught from the places of training lesions where to fire. Its map shows what was taught, and
not why the model decided: the score does not pass through it.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from transformers import PreTrainedModel

from ..errors import UsageError
from .swin import lent, swin_of
from .targets import label_names, task_slices

REQUIRES: tuple[str, ...] = ()
SUPERVISED = True


def available() -> bool:
    """Whether it can run here: it needs nothing but what mammo_hf needs."""
    return True


def explain_map(model: PreTrainedModel, pixel_values: torch.Tensor, target: Sequence[int]) -> torch.Tensor:
    """(batch, rows, columns) over the last stage's grid: the probability of a lesion of the target's label.

    Args:
        model: A ``MammoSwinForImageClassification`` with a lesion head.
        pixel_values: (batch, channels, height, width), normalised.
        target: For each image an index into the logits, of the lesion task.

    Raises:
        UsageError: There is no lesion head, or a target is of another task.
    """
    swin_of(model, pixel_values.shape[-2], pixel_values.shape[-1])
    if getattr(model, "lesion_head", None) is None:
        raise UsageError(
            "has no lesion head",
            source="model",
            remedy="load it as MammoSwinForImageClassification, or train with lesion places and a lesion loss",
        )
    with lent(model), torch.no_grad():
        logits = model(pixel_values).lesion_logits
    part = task_slices(model.config)[model.config.lesion_task]
    wrong = [index for index in target if not part.start <= index < part.stop]
    if wrong:
        raise UsageError(
            f"{label_names(model.config)[wrong[0]]} is no label that the lesion head tells apart",
            source="target",
            remedy=f"use one of {', '.join(label_names(model.config)[part])}",
        )
    chances = logits.float().softmax(dim=1)
    return torch.stack([chance[1 + index - part.start] for chance, index in zip(chances, target, strict=True)])
