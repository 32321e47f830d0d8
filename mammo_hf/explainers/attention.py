"""The attention family: attention weights of Swin's blocks on the image plane, plain, traced back or with gradients.

In each map the windows are back in order, the shift is undone and padding is cut off.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch.nn import functional
from transformers import PreTrainedModel

from .explain import explainer
from .swin import (
    Windows,
    attention_gradients,
    attention_tap,
    attention_taps,
    before_merging,
    preserve_state,
    stage_grids,
)
from .targets import gradients_of, no_gradient, score


@explainer
def attention(
    model: PreTrainedModel, pixel_values: torch.Tensor, target: Sequence[int], *, stage: int = -1, block: int = -1
) -> torch.Tensor:
    """Return how much attention each token of one block receives, per head.

    The map does not depend on the target: attention is the same for every label.

    Args:
        model: A Swin classifier.
        pixel_values: Normalised images (batch, channels, height, width).
        target: Not used.
        stage: Index of the stage, -1 for the last.
        block: Index of the block in the stage; the last one is shifted if the grid is larger than a window.

    Returns:
        (batch, heads, rows, columns), the mean over queries.
    """
    with preserve_state(model), torch.no_grad(), attention_tap(model, _size(pixel_values), stage, block) as tap:
        model(pixel_values)
    return tap.windows.received(tap.weights.float())


@explainer
def grad_cam_attention(
    model: PreTrainedModel, pixel_values: torch.Tensor, target: Sequence[int], *, stage: int = -1, block: int = -1
) -> torch.Tensor:
    """Weight one block's attention by the target's gradient (Chefer et al. 2021, arXiv 2103.15679, equation 5).

    This is Grad-CAM in the transformer's form. Gradients flow through this block and what comes after it.

    Args:
        model: A Swin classifier.
        pixel_values: Normalised images (batch, channels, height, width).
        target: The index into the logits that is explained, per image.
        stage: Index of the stage, -1 for the last.
        block: Index of the block in the stage.

    Returns:
        (batch, heads, rows, columns), the positive part of gradient times attention, mean over queries.
    """
    with preserve_state(model), attention_tap(model, _size(pixel_values), stage, block, gradients=True) as tap:
        logits = model(pixel_values).logits
        (gradient,) = gradients_of(score(logits, target, model.config), [tap.weights])
    return tap.windows.received((gradient.float() * tap.weights.detach().float()).relu())


@explainer
def attention_rollout(
    model: PreTrainedModel, pixel_values: torch.Tensor, target: Sequence[int], *, stage: int = 0
) -> torch.Tensor:
    """Trace attention back through all stages (Abnar and Zuidema 2020, arXiv 2005.00928), patch merging included.

    Relevance starts evenly on the tokens that the classifier pools and is traced back block by block: half of it stays
    (the skip connection), half follows the attention, mean over heads. A token that was merged from four passes an even
    fraction to each of them. The map does not depend on the target.

    Args:
        model: A Swin classifier.
        pixel_values: Normalised images (batch, channels, height, width).
        target: Not used.
        stage: Index of the stage at which tracing ends; the map has this stage's grid.

    Returns:
        (batch, rows, columns), each map with the sum 1.
    """
    size = _size(pixel_values)
    with preserve_state(model), torch.no_grad(), attention_taps(model, size, stage) as taps:
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


@explainer
def legrad(
    model: PreTrainedModel, pixel_values: torch.Tensor, target: Sequence[int], *, stage: int = 0
) -> torch.Tensor:
    """Sum the score's positive gradients by all attention maps: LeGrad (Bousselham et al. 2024, arXiv 2404.03214).

    Equations 5 to 8 of the paper, with the classifier's own score at each block. The paper sums over the layers of a
    plain vision transformer, which all have the same tokens. In Swin a token of a later stage covers several of an
    earlier one: what it receives is spread over this area, so that each stage counts by its sum, whatever its grid.
    Blocks are computed twice, one at a time, so that little more memory is needed than for a forward pass.

    Args:
        model: A Swin classifier.
        pixel_values: Normalised images (batch, channels, height, width).
        target: The index into the logits that is explained, per image.
        stage: Index of the first stage of the sum; the map has its grid.

    Returns:
        (batch, rows, columns), mean over heads and queries, summed over blocks and stages.
    """
    received: dict[tuple[int, int], torch.Tensor] = {}  # by the stage's grid, summed over its blocks

    def add(windows: Windows, gradient: torch.Tensor | None) -> None:
        if gradient is None:  # as through a quantised layer
            return
        found = windows.received(gradient.float().relu()).mean(dim=1, keepdim=True)
        received[windows.grid] = received[windows.grid] + found if windows.grid in received else found

    with preserve_state(model), attention_gradients(model, _size(pixel_values), stage, add) as leaves:
        gradients_of(score(model(pixel_values).logits, target, model.config), leaves)
    if not received:
        raise no_gradient()
    grid = max(received)
    total = torch.zeros_like(received[grid])
    for found in received.values():
        area = found[0].numel() / total[0].numel()
        total += area * functional.interpolate(found, size=grid, mode="bilinear", align_corners=False)
    return total[:, 0]


def _size(pixel_values: torch.Tensor) -> tuple[int, int]:
    return pixel_values.shape[-2], pixel_values.shape[-1]
