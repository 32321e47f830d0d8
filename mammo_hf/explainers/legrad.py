"""LeGrad: the positive gradients of the score by the attention maps of every block.

Bousselham et al. 2024 (arXiv 2404.03214). The paper sums over the layers of a plain vision transformer, which all have
the same tokens. In Swin a token of a later stage stands for several of an earlier one: what it gets is spread over the
area that it covers, so that each stage counts by its sum, whatever its grid.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch.nn import functional
from transformers import PreTrainedModel

from .swin import attention_taps, lent
from .targets import gradients_of, score

REQUIRES: tuple[str, ...] = ()


def available() -> bool:
    """Whether it can run here: it needs nothing but what mammo_hf needs."""
    return True


def explain_map(
    model: PreTrainedModel, pixel_values: torch.Tensor, target: Sequence[int], *, stage: int = 0
) -> torch.Tensor:
    """(batch, rows, columns): positive gradients, mean over heads and queries, summed over blocks and stages.

    Equations 5 to 8 of the paper, with the classifier's own score at each block. Gradients flow through the blocks that
    are summed over.

    Args:
        model: A Swin classifier.
        pixel_values: (batch, channels, height, width), normalised.
        target: For each image an index into the logits.
        stage: The first stage that is summed over; the map has its grid.
    """
    size = (pixel_values.shape[-2], pixel_values.shape[-1])
    with lent(model), attention_taps(model, size, stage, gradients=True) as stages:
        logits = model(pixel_values).logits
        taps = [tap for blocks in stages for tap in blocks]
        gradients = gradients_of(score(logits, target, model.config), [tap.weights for tap in taps])
    grid = taps[0].windows.grid
    total = pixel_values.new_zeros((len(pixel_values), *grid), dtype=torch.float32)
    for tap, gradient in zip(taps, gradients, strict=True):
        received = tap.windows.received(gradient.float().relu()).mean(dim=1, keepdim=True)
        share = received[0].numel() / total[0].numel()
        total += share * functional.interpolate(received, size=grid, mode="bilinear", align_corners=False)[:, 0]
    return total
