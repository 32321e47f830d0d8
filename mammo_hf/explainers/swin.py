"""Swin's windows put back onto the image plane (Liu et al. 2021, arXiv 2103.14030, section 3.2)."""

from __future__ import annotations

import copy
import operator
import random
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field

import numpy as np
import torch
from torch import nn
from torch.nn import functional
from transformers import PreTrainedModel, SwinConfig

from ..errors import UsageError
from .targets import gradients_of, score

FINE_ENOUGH = 14  # rows of a grid that still shows a lesion's place


@dataclass(frozen=True)
class Windows:
    """How one block cuts its token grid into windows.

    Args:
        grid: (rows, columns) of tokens.
        window: Side of a window in tokens.
        shift: Tokens by which the padded grid was rolled up and to the left before it was cut.
    """

    grid: tuple[int, int]
    window: int
    shift: int

    @property
    def padded(self) -> tuple[int, int]:
        """(rows, columns) after padding at the bottom and the right to whole windows."""
        rows, columns = (-(-side // self.window) * self.window for side in self.grid)
        return rows, columns

    def to_plane(self, values: torch.Tensor) -> torch.Tensor:
        """Values of the windows' tokens on the grid: the shift is undone, padding cut off.

        Args:
            values: (batch * windows, ..., window^2), the windows of an image row by row.

        Returns:
            (batch, ..., rows, columns).
        """
        rows, columns = self.padded
        down, across = rows // self.window, columns // self.window
        middle = values.shape[1:-1]
        values = values.reshape(-1, down, across, middle.numel(), self.window, self.window)
        plane = values.permute(0, 3, 1, 4, 2, 5).reshape(-1, *middle, rows, columns)
        plane = torch.roll(plane, (self.shift, self.shift), dims=(-2, -1))
        return plane[..., : self.grid[0], : self.grid[1]]

    def to_windows(self, plane: torch.Tensor) -> torch.Tensor:
        """Values on the grid as the windows' tokens; padding holds 0. ``to_plane`` undoes it.

        Args:
            plane: (batch, rows, columns).

        Returns:
            (batch * windows, window^2).
        """
        below, beside = (padded - side for padded, side in zip(self.padded, self.grid, strict=True))
        plane = functional.pad(plane, (0, beside, 0, below))
        plane = torch.roll(plane, (-self.shift, -self.shift), dims=(-2, -1))
        windows = plane.unfold(1, self.window, self.window).unfold(2, self.window, self.window)
        return windows.reshape(-1, self.window**2)

    def traced_back(self, relevance: torch.Tensor, attention: torch.Tensor) -> torch.Tensor:
        """What of the block's input a relevance of its output comes from: half stays, half follows attention.

        One step of attention rollout (Abnar and Zuidema 2020, arXiv 2005.00928, equation 1), which counts the skip
        connection as an identity of the same weight. Padding is no part of the image: what a token gives to it is
        shared among the others, so that the sum of the relevance stays what it was.

        Args:
            relevance: (batch, rows, columns) of the tokens behind the block.
            attention: (batch * windows, window^2 queries, window^2 keys), mean over heads.

        Returns:
            (batch, rows, columns) of the tokens before the block.
        """
        is_image = self._is_image(attention.device)
        attention = attention * is_image.repeat(len(attention) // len(is_image), 1)[:, None]
        attention = attention / attention.sum(-1, keepdim=True).clamp(min=torch.finfo(attention.dtype).tiny)
        followed = torch.einsum("wq,wqk->wk", self.to_windows(relevance), attention)
        return (relevance + self.to_plane(followed)) / 2

    def received(self, attention: torch.Tensor) -> torch.Tensor:
        """How much attention each token receives, on the grid.

        Padding takes part in stock Swin's attention but is no part of the image: what padding looks at is left out.

        Args:
            attention: (batch * windows, heads, window^2 queries, window^2 keys), or a relevance of that shape.

        Returns:
            (batch, heads, rows, columns): the mean over the queries of a token's window; 1 / window^2 is an even share.
        """
        is_image = self._is_image(attention.device)
        is_image = is_image.repeat(len(attention) // len(is_image), 1)
        return self.to_plane((attention * is_image[:, None, :, None]).mean(dim=2))

    def _is_image(self, device: torch.device) -> torch.Tensor:
        """bool (windows, window^2): which slots of one image's windows hold a token of the image."""
        return self.to_windows(torch.ones(1, *self.grid, device=device)) > 0


def stage_grids(config: SwinConfig, height: int, width: int) -> list[tuple[int, int]]:
    """The token grid (rows, columns) of each stage for an input of (height, width) pixels; sides are rounded up."""
    patch = config.patch_size
    patch_height, patch_width = (patch, patch) if isinstance(patch, int) else patch
    grids = [(-(-height // patch_height), -(-width // patch_width))]
    for _ in config.depths[1:]:
        rows, columns = grids[-1]
        grids.append(((rows + 1) // 2, (columns + 1) // 2))
    return grids


def default_stage(config: SwinConfig, height: int, width: int) -> int:
    """The last stage whose grid has at least 14 rows; where none has, the first, which is the finest."""
    fine = [stage for stage, (rows, _) in enumerate(stage_grids(config, height, width)) if rows >= FINE_ENOUGH]
    return fine[-1] if fine else 0


def before_merging(relevance: torch.Tensor, grid: tuple[int, int]) -> torch.Tensor:
    """The relevance of merged tokens, shared evenly among the up to four tokens that each was merged from.

    Args:
        relevance: (batch, rows, columns) behind patch merging.
        grid: (rows, columns) before it; an odd side was padded by one, which gets nothing.

    Returns:
        (batch, *grid), of the same sum.
    """
    down, across = (_children(side, relevance.device) for side in grid)
    shared = relevance / (down[:, None] * across)
    return shared.repeat_interleave(2, dim=1).repeat_interleave(2, dim=2)[:, : grid[0], : grid[1]]


def _children(side: int, device: torch.device) -> torch.Tensor:
    """How many of ``side`` tokens each merged token comes from: 2, or 1 at an odd end."""
    children = torch.full(((side + 1) // 2,), 2.0, device=device)
    children[-1] -= side % 2
    return children


# Taps on a Swin classifier: a block's attention weights and a stage's features, and where gradients start.


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


# Lends a model to an explainer and takes it back exactly as it was.


# what a module keeps its hooks in, and beside them which take keyword arguments or always run
_HOOKS = (
    "_forward_hooks",
    "_forward_hooks_with_kwargs",
    "_forward_hooks_always_called",
    "_forward_pre_hooks",
    "_forward_pre_hooks_with_kwargs",
    "_backward_hooks",
    "_backward_pre_hooks",
)


@contextmanager
def lent(model: PreTrainedModel, *, eager: bool = False) -> Iterator[PreTrainedModel]:
    """In evaluation mode and with gradients possible for the time; afterwards all is as before, also on an error.

    Restored: mode of every module, attention implementation, ``requires_grad``, gradients, hooks, window and shift of
    Swin's layers (stock Swin alters them for small images, for good), and the random state.

    Meanwhile no parameter takes gradients, so that a graph starts only where an explainer puts a leaf; and what
    ``module.compile()`` compiled runs uncompiled, because a compiled graph does not see hooks that come later.

    Args:
        model: The model.
        eager: Whether attention weights are wanted: the fused implementations return none.
    """
    parameters = [(parameter, parameter.requires_grad, parameter.grad) for parameter in model.parameters()]
    modes = [(module, module.training) for module in model.modules()]
    windows = [(m, m.window_size, m.shift_size) for m in model.modules() if hasattr(m, "shift_size")]
    hooks = [(table, dict(table)) for module in model.modules() for table in _hook_tables(module)]
    implementation = model.config._attn_implementation
    compiled = [(m, m._compiled_call_impl) for m in model.modules() if getattr(m, "_compiled_call_impl", None)]
    try:
        with _same_random_state(model), torch.inference_mode(False), torch.enable_grad():
            model.eval()
            for module, _ in compiled:
                module._compiled_call_impl = None
            for parameter, _, _ in parameters:
                parameter.requires_grad_(False)
                parameter.grad = None  # what is added in place would otherwise be added to the caller's
            if eager:
                model.set_attn_implementation("eager")
            yield model
    finally:
        if model.config._attn_implementation != implementation:
            model.set_attn_implementation(implementation)
        for module, mode in modes:
            module.training = mode
        for module, call in compiled:
            module._compiled_call_impl = call
        for layer, window, shift in windows:
            layer.window_size, layer.shift_size = window, shift
        for table, before in hooks:
            _restore_hooks(table, before)
        for parameter, required, grad in parameters:
            parameter.requires_grad_(required)
            parameter.grad = grad


def _hook_tables(module: nn.Module) -> list[dict]:
    return [getattr(module, name) for name in _HOOKS if hasattr(module, name)]


def _restore_hooks(table: dict, before: dict) -> None:
    for key in [key for key in table if key not in before]:
        # transformers puts its own hooks in at the first output_attentions, marks the model and counts on them
        if not str(getattr(table[key], "__module__", "")).startswith("transformers."):
            del table[key]
    table.update(before)


@contextmanager
def _same_random_state(model: PreTrainedModel) -> Iterator[None]:
    python, numpy = random.getstate(), np.random.get_state()
    devices = {parameter.device for parameter in model.parameters() if parameter.device.type == "cuda"}
    try:
        with torch.random.fork_rng(devices=devices):
            yield
    finally:
        random.setstate(python)
        np.random.set_state(numpy)
