"""Grad-CAM: a stage's channels weighted by the target's gradient, kept spatial (Selvaraju et al. 2017, 1610.02391)."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from transformers import PreTrainedModel

from .swin import tokens_and_gradient

REQUIRES: tuple[str, ...] = ()


def available() -> bool:
    """Whether it can run here: it needs nothing but what mammo_hf needs."""
    return True


def explain_map(
    model: PreTrainedModel, pixel_values: torch.Tensor, target: Sequence[int], *, stage: int | None = None
) -> torch.Tensor:
    """(batch, rows, columns): positive part of the sum of channels, each weighted by its gradient's spatial mean.

    Equations 1 and 2 of the paper. Gradients flow through what lies behind the stage alone.

    Args:
        model: A Swin classifier.
        pixel_values: (batch, channels, height, width), normalised.
        target: For each image an index into the logits.
        stage: Index of the stage; the last whose grid has at least 14 rows where not given.
    """
    tokens, gradient = tokens_and_gradient(model, pixel_values, target, stage)
    return (tokens * gradient.mean(dim=(1, 2), keepdim=True)).sum(-1).relu()
