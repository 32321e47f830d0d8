"""Grad-CAM in the transformer's form: attention weighted by the target's gradient, head by head.

Chefer et al. 2021 (arXiv 2103.15679, equation 5): the positive part of gradient times attention, mean over heads.
"""

from __future__ import annotations

import torch
from transformers import PreTrainedModel

from .model_state import lent
from .swin_taps import attention_tap
from .targets import score

REQUIRES: tuple[str, ...] = ()


def available() -> bool:
    """Whether it can run here: it needs nothing but what mammo_hf needs."""
    return True


def explain_map(model: PreTrainedModel, pixel_values: torch.Tensor, target: list[int]) -> torch.Tensor:
    """(batch, heads, rows, columns): positive part of gradient times attention of the last layer, mean over queries.

    Gradients flow through the last block alone.
    """
    size = (pixel_values.shape[-2], pixel_values.shape[-1])
    with lent(model, eager=True), attention_tap(model, size, gradients=True) as tap:
        logits = model(pixel_values).logits
        (gradient,) = torch.autograd.grad(score(logits, target, model.config), tap.weights)
    return tap.windows.received((gradient.float() * tap.weights.detach().float()).relu())
