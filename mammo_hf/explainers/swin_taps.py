"""Taps on a Swin classifier: a block's attention weights and a stage's features, and where gradients start."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

import torch
from torch import nn
from transformers import PreTrainedModel

from ..errors import UsageError
from .swin_windows import Windows, stage_grids


@dataclass
class AttentionTap:
    """What one block's attention was in the last forward pass.

    Attributes:
        weights: (batch * windows, heads, window^2 queries, window^2 keys), softmaxed; needs eager attention.
        windows: How the block had cut its grid.
    """

    weights: torch.Tensor = field(init=False)
    windows: Windows = field(init=False)


@dataclass
class FeatureTap:
    """A stage's tokens in the last forward pass.

    Attributes:
        tokens: (batch, rows * columns, channels), a leaf: gradients flow through what lies behind the stage alone.
        grid: (rows, columns).
    """

    grid: tuple[int, int]
    tokens: torch.Tensor = field(init=False)


def swin_of(model: PreTrainedModel, height: int, width: int) -> nn.Module:
    """The Swin encoder inside a classifier.

    Raises:
        UsageError: There is none, or a stage's grid for (height, width) pixels would be smaller than a window.
    """
    swin = getattr(model, "swin", None)
    if swin is None:
        raise UsageError(
            f"{type(model).__name__} is no Swin classifier", source="model", remedy="use an explainer that takes any"
        )
    window = model.config.window_size
    for stage, grid in enumerate(stage_grids(model.config, height, width), start=1):
        if min(grid) < window:
            raise UsageError(
                f"images of {height} x {width} are too small: stage {stage} has {grid[0]} x {grid[1]} tokens, "
                f"fewer than a window of {window}",
                source="pixel_values",
                remedy="give larger images or a model of fewer stages",
            )
    return swin


@contextmanager
def attention_tap(
    model: PreTrainedModel, size: tuple[int, int], stage: int = -1, block: int = -1, *, gradients: bool = False
) -> Iterator[AttentionTap]:
    """Records a block's attention weights in the forward passes of the ``with`` block.

    The windows are read from the block while it runs: stock Swin alters its window and shift for small grids, for
    good, so that the configuration alone does not tell them.

    Args:
        model: A Swin classifier with eager attention.
        size: (height, width) of the input in pixels.
        stage: Index of the stage.
        block: Index of the block in the stage.
        gradients: Whether the graph starts at the block's input, so that the score can be differentiated by the
            weights without a backward pass through the blocks before it.

    Raises:
        UsageError: See ``swin_of``.
    """
    grid = stage_grids(model.config, *size)[stage]
    layer = swin_of(model, *size).encoder.layers[stage].blocks[block]
    tap = AttentionTap()

    def keep(module: nn.Module, inputs: tuple, output: tuple) -> None:
        tap.weights = output[1]
        tap.windows = Windows(grid, int(layer.window_size), int(layer.shift_size))

    handles = [layer.attention.register_forward_hook(keep)]
    if gradients:
        handles.append(layer.register_forward_pre_hook(lambda module, inputs: (_leaf(inputs[0]), *inputs[1:])))
    try:
        yield tap
    finally:
        for handle in handles:
            handle.remove()


@contextmanager
def feature_tap(model: PreTrainedModel, size: tuple[int, int], stage: int) -> Iterator[FeatureTap]:
    """Records a stage's tokens in the forward passes of the ``with`` block and starts the graph there.

    For the last stage these are the tokens behind the final layer norm, which are what the classifier pools; for
    another the tokens before they are merged, which would halve the grid.

    Args:
        model: A Swin classifier.
        size: (height, width) of the input in pixels.
        stage: Index of the stage, 0 and up.

    Raises:
        UsageError: See ``swin_of``.
    """
    tap = FeatureTap(stage_grids(model.config, *size)[stage])
    swin = swin_of(model, *size)

    def keep(tokens: torch.Tensor) -> torch.Tensor:
        tap.tokens = _leaf(tokens)
        return tap.tokens

    if stage == len(swin.encoder.layers) - 1:
        handle = swin.layernorm.register_forward_hook(lambda module, inputs, output: keep(output))
    else:
        merging = swin.encoder.layers[stage].downsample
        handle = merging.register_forward_pre_hook(lambda module, inputs: (keep(inputs[0]), *inputs[1:]))
    try:
        yield tap
    finally:
        handle.remove()


def _leaf(tensor: torch.Tensor) -> torch.Tensor:
    return tensor.detach().requires_grad_(True)
