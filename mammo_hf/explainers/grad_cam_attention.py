"""Grad-CAM in the transformer's form: attention weighted by the target's gradient, head by head.

Chefer et al. 2021 (arXiv 2103.15679, equation 5): the positive part of gradient times attention, mean over heads.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from transformers import PreTrainedModel

from .swin import attention_tap, lent
from .targets import gradients_of, score

REQUIRES: tuple[str, ...] = ()


def available() -> bool:
    """Whether it can run here: it needs nothing but what mammo_hf needs."""
    return True


def explain_map(
    model: PreTrainedModel, pixel_values: torch.Tensor, target: Sequence[int], *, stage: int = -1, block: int = -1
) -> torch.Tensor:
    """(batch, heads, rows, columns): positive part of gradient times attention of one block, mean over queries.

    Gradients flow through this block and what lies behind it.

    Args:
        model: A Swin classifier.
        pixel_values: (batch, channels, height, width), normalised.
        target: For each image an index into the logits.
        stage: Index of the stage, -1 for the last.
        block: Index of the block in the stage.
    """
    size = (pixel_values.shape[-2], pixel_values.shape[-1])
    with lent(model), attention_tap(model, size, stage, block, gradients=True) as tap:
        logits = model(pixel_values).logits
        (gradient,) = gradients_of(score(logits, target, model.config), [tap.weights])
    return tap.windows.received((gradient.float() * tap.weights.detach().float()).relu())
