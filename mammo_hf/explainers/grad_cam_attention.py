"""Grad-CAM in the transformer's form: attention heads weighted by the target's gradient (Chefer et al., 2103.15679)."""

from __future__ import annotations

import torch
from transformers import PreTrainedModel

from .model_state import lent
from .swin_windows import windows_of_last_block
from .targets import score

REQUIRES: tuple[str, ...] = ()


def available() -> bool:
    """Whether it can run here."""
    return True


def explain_map(model: PreTrainedModel, pixel_values: torch.Tensor, target: list[int]) -> torch.Tensor:
    """(batch, rows, columns): positive part of gradient times attention, mean over heads and queries."""
    with lent(model, eager=True):
        # the parameters are frozen for the time, so the graph must hang on the input
        output = model(pixel_values.detach().requires_grad_(True), output_attentions=True)
        attention = output.attentions[-1]
        (gradient,) = torch.autograd.grad(score(output.logits, target, model.config), attention)
    relevance = (gradient.float() * attention.detach().float()).relu().mean(dim=(1, 2))
    return windows_of_last_block(model.config, *pixel_values.shape[-2:]).to_plane(relevance)
