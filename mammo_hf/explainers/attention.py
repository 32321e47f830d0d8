"""Attention of one block: how much each token is looked at, on the image plane.

The windows are put back in order, the shift is undone and padding is cut off; the heads are kept.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from transformers import PreTrainedModel

from .swin import attention_tap, lent

REQUIRES: tuple[str, ...] = ()


def available() -> bool:
    """Whether it can run here: it needs nothing but what mammo_hf needs."""
    return True


def explain_map(
    model: PreTrainedModel, pixel_values: torch.Tensor, target: Sequence[int], *, stage: int = -1, block: int = -1
) -> torch.Tensor:
    """(batch, heads, rows, columns): the attention that each token receives, mean over queries.

    It does not depend on the target: attention is the same whatever is asked.

    Args:
        model: A Swin classifier.
        pixel_values: (batch, channels, height, width), normalised.
        target: Not used.
        stage: Index of the stage, -1 for the last.
        block: Index of the block in the stage; the last of a stage is shifted where its grid is larger than a window.
    """
    size = (pixel_values.shape[-2], pixel_values.shape[-1])
    with lent(model), torch.no_grad(), attention_tap(model, size, stage, block) as tap:
        model(pixel_values)
    return tap.windows.received(tap.weights.float())
