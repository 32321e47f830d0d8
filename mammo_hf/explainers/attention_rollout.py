"""Attention rollout through all stages (Abnar and Zuidema 2020, arXiv 2005.00928), here through Swin's patch merging.

From the tokens that the classifier pools, each with an even share, relevance is traced back block by block: half of it
stays in place (the skip connection), half follows the attention, mean over heads. Where four tokens were merged into
one, each of them gets an even share. So the map has the first stage's grid, and its sum is 1.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from transformers import PreTrainedModel

from .swin import attention_taps, before_merging, lent, stage_grids

REQUIRES: tuple[str, ...] = ()


def available() -> bool:
    """Whether it can run here: it needs nothing but what mammo_hf needs."""
    return True


def explain_map(
    model: PreTrainedModel, pixel_values: torch.Tensor, target: Sequence[int], *, stage: int = 0
) -> torch.Tensor:
    """(batch, rows, columns) over the first stage's grid, of sum 1; it does not depend on the target.

    Args:
        model: A Swin classifier.
        pixel_values: (batch, channels, height, width), normalised.
        target: Not used.
        stage: Where the way back ends: the map has this stage's grid.
    """
    size = (pixel_values.shape[-2], pixel_values.shape[-1])
    with lent(model), torch.no_grad(), attention_taps(model, size, stage) as taps:
        model(pixel_values)
        grids = stage_grids(model.config, *size)[-len(taps) :]
        rows, columns = grids[-1]
        relevance = pixel_values.new_full((len(pixel_values), rows, columns), 1 / (rows * columns), dtype=torch.float32)
        for grid, blocks in zip(reversed(grids), reversed(taps), strict=True):
            if relevance.shape[1:] != grid:
                relevance = before_merging(relevance, grid)
            for tap in reversed(blocks):
                relevance = tap.windows.traced_back(relevance, tap.weights.float().mean(dim=1))
    return relevance
