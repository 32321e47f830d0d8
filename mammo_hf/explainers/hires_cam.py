"""HiResCAM: gradient times activation at each place, summed over channels.

Draelos and Carin 2020 (arXiv 2011.08891). Unlike Grad-CAM it does not average the gradient over the image first, so
that a place counts by its own gradient. Where nothing but mean pooling and a linear layer lie behind the stage, both
are the same.
"""

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
    """(batch, rows, columns): positive part of the sum over channels of gradient times activation (equation 5).

    Args:
        model: A Swin classifier.
        pixel_values: (batch, channels, height, width), normalised.
        target: For each image an index into the logits.
        stage: Index of the stage; the last whose grid has at least 14 rows where not given.
    """
    tokens, gradient = tokens_and_gradient(model, pixel_values, target, stage)
    return (tokens * gradient).sum(-1).relu()
