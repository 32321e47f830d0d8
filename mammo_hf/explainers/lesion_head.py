"""The trained map of the lesion head, for checkpoints that have one."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from transformers import PreTrainedModel

from ..errors import UsageError
from .explain import explainer
from .swin import preserve_state, swin_of
from .targets import label_names, task_slices


@explainer(supervised=True)
def lesion_head(model: PreTrainedModel, pixel_values: torch.Tensor, target: Sequence[int]) -> torch.Tensor:
    """Return the lesion head's probability of a lesion of the target's label, if the checkpoint has such a head.

    The head was trained on lesion annotations. Its map shows what it was trained to mark, and not why the model
    decided: the score does not pass through it.

    Args:
        model: A ``MammoSwinForImageClassification`` with a lesion head.
        pixel_values: Normalised images (batch, channels, height, width).
        target: The index into the logits that is explained, per image; a label of the lesion task.

    Returns:
        (batch, rows, columns) on the last stage's grid.

    Raises:
        UsageError: There is no lesion head, or a target belongs to another task.
    """
    swin_of(model, pixel_values.shape[-2], pixel_values.shape[-1])
    if getattr(model, "lesion_head", None) is None:
        raise UsageError(
            "has no lesion head",
            source="model",
            remedy="load it as MammoSwinForImageClassification, or train with lesion annotations and a lesion loss",
        )
    with preserve_state(model), torch.no_grad():
        logits = model(pixel_values).lesion_logits
    names, part = label_names(model.config), task_slices(model.config)[model.config.lesion_task]
    wrong = [index for index in target if not part.start <= index < part.stop]
    if wrong:
        raise UsageError(
            f"{names[wrong[0]]} is not a label of the lesion head",
            source="target",
            remedy=f"use one of {', '.join(names[part])}",
        )
    probabilities = logits.float().softmax(dim=1)
    # channel 0 is "no lesion here"
    return torch.stack([one[1 + index - part.start] for one, index in zip(probabilities, target, strict=True)])
