"""LayerCAM: activations weighted by their positive gradients, place by place.

Jiang et al. 2021 (doi 10.1109/TIP.2021.3089943). Made for early, fine stages: pass ``stage=0`` or ``stage=1`` for a
finer map.
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
    """(batch, rows, columns): positive part of the sum over channels of positive gradient times activation.

    Equations 4 to 6 of the paper.

    Args:
        model: A Swin classifier.
        pixel_values: (batch, channels, height, width), normalised.
        target: For each image an index into the logits.
        stage: Index of the stage; the last whose grid has at least 14 rows where not given.
    """
    tokens, gradient = tokens_and_gradient(model, pixel_values, target, stage)
    return (tokens * gradient.relu()).sum(-1).relu()
