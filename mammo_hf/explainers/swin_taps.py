"""Taps on a Swin classifier: a block's attention weights and a stage's features, and where gradients start."""

from __future__ import annotations

import copy
import operator
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field

import torch
from torch import nn
from transformers import PreTrainedModel

from ..errors import UsageError
from .model_state import lent
from .swin_windows import Windows, default_stage, stage_grids
from .targets import gradients_of, score


@dataclass
class AttentionTap:
    """What one block's attention was in the last forward pass.

    Attributes:
        weights: (batch * windows, heads, window^2 queries, window^2 keys), softmaxed.
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


def checked_stage(model: PreTrainedModel, stage: int) -> int:
    """A stage's index, 0 and up; -1 is the last.

    Raises:
        UsageError: The model has no such stage.
    """
    stages = len(model.config.depths)
    place = operator.index(stage) if hasattr(stage, "__index__") else stages
    if not -stages <= place < stages:
        raise UsageError(
            f"the model has no stage {stage!r}", source="stage", remedy=f"use 0 to {stages - 1}, or -1 for the last"
        )
    return place % stages


@contextmanager
def attention_tap(
    model: PreTrainedModel, size: tuple[int, int], stage: int = -1, block: int = -1, *, gradients: bool = False
) -> Iterator[AttentionTap]:
    """Records a block's attention weights in the forward passes of the ``with`` block.

    Fused attention gives no weights, so that this block, and no other, runs eagerly meanwhile. The windows are read
    from the block while it runs: stock Swin alters its window and shift for small grids, for good, so that the
    configuration alone does not tell them.

    Args:
        model: A Swin classifier.
        size: (height, width) of the input in pixels.
        stage: Index of the stage.
        block: Index of the block in the stage.
        gradients: Whether the graph starts at the block's input, so that the score can be differentiated by the
            weights without a backward pass through the blocks before it.

    Raises:
        UsageError: See ``swin_of`` and ``checked_stage``.
    """
    swin = swin_of(model, *size)
    stage = checked_stage(model, stage)
    grid = stage_grids(model.config, *size)[stage]
    layer = swin.encoder.layers[stage].blocks[block]
    tap = AttentionTap()

    def keep(module: nn.Module, inputs: tuple, output: tuple) -> None:
        tap.weights = output[1]
        tap.windows = Windows(grid, int(layer.window_size), int(layer.shift_size))

    handles = [layer.attention.register_forward_hook(keep)]
    if gradients:
        handles.append(layer.register_forward_pre_hook(lambda module, inputs: (_leaf(inputs[0]), *inputs[1:])))
    config = layer.attention.config
    layer.attention.config = copy.copy(config)
    layer.attention.config._attn_implementation = "eager"
    try:
        yield tap
    finally:
        layer.attention.config = config
        for handle in handles:
            handle.remove()


@contextmanager
def attention_taps(
    model: PreTrainedModel, size: tuple[int, int], first: int = 0, *, gradients: bool = False
) -> Iterator[list[list[AttentionTap]]]:
    """Records the attention weights of every block from a stage on; a list for each stage.

    Args:
        model: A Swin classifier.
        size: (height, width) of the input in pixels.
        first: The stage to begin with.
        gradients: Whether the graph starts at the first of these blocks.

    Raises:
        UsageError: See ``swin_of`` and ``checked_stage``.
    """
    first = checked_stage(model, first)
    with ExitStack() as stack:
        yield [
            [
                stack.enter_context(
                    attention_tap(model, size, stage, block, gradients=gradients and (stage, block) == (first, 0))
                )
                for block in range(depth)
            ]
            for stage, depth in enumerate(model.config.depths)
            if stage >= first
        ]


@contextmanager
def feature_tap(model: PreTrainedModel, size: tuple[int, int], stage: int) -> Iterator[FeatureTap]:
    """Records a stage's tokens in the forward passes of the ``with`` block and starts the graph there.

    For the last stage these are the tokens behind the final layer norm, which are what the classifier pools; for
    another the tokens before they are merged, which would halve the grid.

    Args:
        model: A Swin classifier.
        size: (height, width) of the input in pixels.
        stage: Index of the stage.

    Raises:
        UsageError: See ``swin_of`` and ``checked_stage``.
    """
    swin = swin_of(model, *size)
    stage = checked_stage(model, stage)
    tap = FeatureTap(stage_grids(model.config, *size)[stage])

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


def tokens_and_gradient(
    model: PreTrainedModel, pixel_values: torch.Tensor, target: Sequence[int], stage: int | None = None
) -> tuple[torch.Tensor, torch.Tensor]:
    """A stage's tokens and the gradient of the targets' score by them: what every CAM is made of.

    Gradients flow through what lies behind the stage alone.

    Args:
        model: A Swin classifier.
        pixel_values: (batch, channels, height, width), normalised.
        target: For each image an index into the logits.
        stage: Index of the stage; the last whose grid has at least 14 rows where not given.

    Returns:
        Both float32 (batch, rows, columns, channels).

    Raises:
        UsageError: See ``swin_of``, ``checked_stage`` and ``gradients_of``.
    """
    size = (pixel_values.shape[-2], pixel_values.shape[-1])
    with lent(model):
        stage = default_stage(swin_of(model, *size).config, *size) if stage is None else stage
        with feature_tap(model, size, stage) as tap:
            logits = model(pixel_values).logits
            (gradient,) = gradients_of(score(logits, target, model.config), [tap.tokens])
    return tuple(part.detach().float().unflatten(1, tap.grid) for part in (tap.tokens, gradient))


def _leaf(tensor: torch.Tensor) -> torch.Tensor:
    return tensor.detach().requires_grad_(True)
