"""Access of explainers to a Swin classifier: its windows on the image plane, taps on its layers, its state preserved.

Swin's windows: Liu et al. 2021, arXiv 2103.14030, section 3.2.
"""

from __future__ import annotations

import copy
import operator
import random
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import partial

import numpy as np
import torch
from torch import nn
from torch.nn import functional
from torch.utils.checkpoint import checkpoint
from transformers import PreTrainedModel, SwinConfig

from ..errors import UsageError

FINE_ENOUGH = 14  # rows of the coarsest grid that still shows where a lesion is


@dataclass(frozen=True)
class Windows:
    """The way one block cuts its token grid into windows.

    Attributes:
        grid: The token grid (rows, columns).
        window: Side of a window in tokens.
        shift: Number of tokens by which the padded grid was rolled up and to the left before it was cut.
    """

    grid: tuple[int, int]
    window: int
    shift: int

    @property
    def padded(self) -> tuple[int, int]:
        """The grid (rows, columns) after padding to whole windows at the bottom and the right."""
        rows, columns = (-(-side // self.window) * self.window for side in self.grid)
        return rows, columns

    def to_plane(self, values: torch.Tensor) -> torch.Tensor:
        """Put values of the windows' tokens back on the grid: the shift is undone, padding is cut off.

        Args:
            values: Values (batch * windows, ..., window^2), the windows of an image row by row.

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
        """Cut values on the grid into windows; padding holds 0. ``to_plane`` undoes it.

        Args:
            plane: Values (batch, rows, columns).

        Returns:
            (batch * windows, window^2).
        """
        bottom, right = (padded - side for padded, side in zip(self.padded, self.grid, strict=True))
        plane = functional.pad(plane, (0, right, 0, bottom))
        plane = torch.roll(plane, (-self.shift, -self.shift), dims=(-2, -1))
        windows = plane.unfold(1, self.window, self.window).unfold(2, self.window, self.window)
        return windows.reshape(-1, self.window**2)

    def traced_back(self, relevance: torch.Tensor, attention: torch.Tensor) -> torch.Tensor:
        """Trace the relevance of the block's output back to its input: half stays, half follows attention.

        One step of attention rollout (Abnar and Zuidema 2020, arXiv 2005.00928, equation 1), which counts the skip
        connection as an identity of the same weight. Padding is not part of the image: what a token gives to it is
        distributed over the others, so that the sum of the relevance stays the same.

        Args:
            relevance: Relevance (batch, rows, columns) of the block's output tokens.
            attention: Attention (batch * windows, window^2 queries, window^2 keys), mean over heads.

        Returns:
            Relevance (batch, rows, columns) of the block's input tokens.
        """
        is_image = self._is_image(attention.device)
        attention = attention * is_image.repeat(len(attention) // len(is_image), 1)[:, None]
        attention = attention / attention.sum(-1, keepdim=True).clamp(min=torch.finfo(attention.dtype).tiny)
        followed = torch.einsum("wq,wqk->wk", self.to_windows(relevance), attention)
        return (relevance + self.to_plane(followed)) / 2

    def received(self, attention: torch.Tensor) -> torch.Tensor:
        """Return how much attention each token receives, on the grid.

        Padding takes part in stock Swin's attention but is not part of the image: what padding attends to is left out.

        Args:
            attention: Attention (batch * windows, heads, window^2 queries, window^2 keys), or relevance.

        Returns:
            (batch, heads, rows, columns), the mean over the queries of a token's window; 1 / window^2 if even.
        """
        is_image = self._is_image(attention.device)
        is_image = is_image.repeat(len(attention) // len(is_image), 1)
        return self.to_plane((attention * is_image[:, None, :, None]).mean(dim=2))

    def _is_image(self, device: torch.device) -> torch.Tensor:
        """Return which slots of one image's windows hold a token of the image, bool (windows, window^2)."""
        return self.to_windows(torch.ones(1, *self.grid, device=device)) > 0


def stage_grids(config: SwinConfig, height: int, width: int) -> list[tuple[int, int]]:
    """Return each stage's token grid (rows, columns) for an input of (height, width) pixels; sides are rounded up."""
    patch = config.patch_size
    patch_height, patch_width = (patch, patch) if isinstance(patch, int) else patch
    grids = [(-(-height // patch_height), -(-width // patch_width))]
    for _ in config.depths[1:]:
        rows, columns = grids[-1]
        grids.append(((rows + 1) // 2, (columns + 1) // 2))
    return grids


def default_stage(config: SwinConfig, height: int, width: int) -> int:
    """Return the last stage whose grid has at least 14 rows; if none has, the first, which is the finest."""
    fine = [stage for stage, (rows, _) in enumerate(stage_grids(config, height, width)) if rows >= FINE_ENOUGH]
    return fine[-1] if fine else 0


def before_merging(relevance: torch.Tensor, grid: tuple[int, int]) -> torch.Tensor:
    """Divide the relevance of merged tokens evenly among the up to four tokens that each was merged from.

    Args:
        relevance: Relevance (batch, rows, columns) after patch merging.
        grid: The grid (rows, columns) before it; an odd side was padded by one, which gets nothing.

    Returns:
        Relevance (batch, *grid), of the same sum.
    """
    down, across = (_children(side, relevance.device) for side in grid)
    divided = relevance / (down[:, None] * across)
    return divided.repeat_interleave(2, dim=1).repeat_interleave(2, dim=2)[:, : grid[0], : grid[1]]


def _children(side: int, device: torch.device) -> torch.Tensor:
    """Return how many of ``side`` tokens each merged token comes from: 2, or 1 at an odd end."""
    children = torch.full(((side + 1) // 2,), 2.0, device=device)
    children[-1] -= side % 2
    return children


# Taps on a Swin classifier: a block's attention weights and a stage's features, and where gradients start.


class AttentionTap:
    """One block's attention in the last forward pass.

    Attributes:
        weights: Softmaxed attention (batch * windows, heads, window^2 queries, window^2 keys).
        windows: The way the block had cut its grid.
    """

    weights: torch.Tensor
    windows: Windows


def swin_of(model: PreTrainedModel, height: int, width: int) -> nn.Module:
    """Return the Swin encoder inside a classifier.

    Raises:
        UsageError: There is none, or a stage's grid for (height, width) pixels would be smaller than a window.
    """
    swin = getattr(model, "swin", None)
    if swin is None:
        raise UsageError(
            f"{type(model).__name__} is not a Swin classifier",
            source="model",
            remedy="use an explainer that takes any classifier",
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
    """Return a stage's index from 0 up; -1 is the last.

    Raises:
        UsageError: The model has no such stage.
    """
    stages = len(model.config.depths)
    index = operator.index(stage) if hasattr(stage, "__index__") else stages
    if not -stages <= index < stages:
        raise UsageError(
            f"the model has no stage {stage!r}", source="stage", remedy=f"use 0 to {stages - 1}, or -1 for the last"
        )
    return index % stages


@contextmanager
def attention_tap(
    model: PreTrainedModel, size: tuple[int, int], stage: int = -1, block: int = -1, *, gradients: bool = False
) -> Iterator[AttentionTap]:
    """Record a block's attention weights in the forward passes of the ``with`` block.

    Fused attention gives no weights, so that this block, and no other, runs eagerly meanwhile. The windows are read
    from the block while it runs: stock Swin permanently alters its window and shift for small grids, so that they do
    not follow from the configuration alone.

    Args:
        model: A Swin classifier.
        size: The input's (height, width) in pixels.
        stage: Index of the stage.
        block: Index of the block in the stage.
        gradients: Whether the graph starts at the block's input, so that the score can be differentiated with respect
            to the weights without a backward pass through the blocks before it.

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
def attention_taps(model: PreTrainedModel, size: tuple[int, int], first: int = 0) -> Iterator[list[list[AttentionTap]]]:
    """Record the attention weights of every block from a stage on, as one list per stage.

    Args:
        model: A Swin classifier.
        size: The input's (height, width) in pixels.
        first: Index of the stage to begin with.

    Raises:
        UsageError: See ``swin_of`` and ``checked_stage``.
    """
    first = checked_stage(model, first)
    with ExitStack() as stack:
        yield [
            [stack.enter_context(attention_tap(model, size, stage, block)) for block in range(depth)]
            for stage, depth in enumerate(model.config.depths)
            if stage >= first
        ]


@contextmanager
def attention_gradients(
    model: PreTrainedModel, size: tuple[int, int], first: int, take: Callable[[Windows, torch.Tensor | None], None]
) -> Iterator[list[torch.Tensor]]:
    """Pass on the gradient of each block's attention weights as soon as a backward pass has it, and keep none.

    Of the forward pass only the blocks' inputs are kept: what is inside a block is computed again when the backward
    pass gets there (Chen et al. 2016, arXiv 1604.06174), so that the values of one block at a time are held.

    Args:
        model: A Swin classifier.
        size: The input's (height, width) in pixels.
        first: Index of the stage to begin with; the graph starts at its first block.
        take: Function of the way a block cuts its grid, and the gradient (batch * windows, heads, window^2, window^2),
            ``None`` if none flows to it.

    Yields:
        The input of the first block per forward pass: a leaf, to which the score is to be differentiated.

    Raises:
        UsageError: See ``swin_of`` and ``checked_stage``.
    """
    first, leaves = checked_stage(model, first), []
    blocks = [block for stage in swin_of(model, *size).encoder.layers[first:] for block in stage.blocks]

    def begin(block: nn.Module, inputs: tuple) -> tuple:
        leaves.append(_leaf(inputs[0]))
        return (leaves[-1], *inputs[1:])

    with attention_taps(model, size, first) as taps, ExitStack() as stack:
        for block, tap in zip(blocks, (tap for stage in taps for tap in stage), strict=True):

            def give(module: nn.Module, inputs: tuple, output: tuple, tap: AttentionTap = tap) -> None:
                weights, windows = tap.__dict__.pop("weights"), tap.windows
                if weights.requires_grad:
                    weights.register_hook(lambda gradient: take(windows, gradient))

            stack.callback(block.attention.register_forward_hook(give).remove)
            stack.enter_context(_recomputed(block))
        stack.callback(blocks[0].register_forward_pre_hook(begin).remove)
        yield leaves


@contextmanager
def _recomputed(block: nn.Module) -> Iterator[None]:
    """Let a block keep its inputs alone for the backward pass, and compute the rest again in it."""
    own = block.__dict__.get("forward")  # accelerate's hooks put one there
    block.forward = partial(checkpoint, block.forward, use_reentrant=False, preserve_rng_state=False)
    try:
        yield
    finally:
        del block.forward
        if own is not None:
            block.forward = own


@contextmanager
def feature_tap(model: PreTrainedModel, size: tuple[int, int], stage: int) -> Iterator[list[torch.Tensor]]:
    """Record a stage's tokens in the forward passes of the ``with`` block, and start the graph there.

    For the last stage these are the tokens after the final layer norm, which are what the classifier pools; for another
    stage the tokens before they are merged, which would halve the grid.

    Args:
        model: A Swin classifier.
        size: The input's (height, width) in pixels.
        stage: Index of the stage.

    Yields:
        Tokens (batch, rows * columns, channels) per forward pass. They are leaves: gradients flow only through what
        comes after the stage.

    Raises:
        UsageError: See ``swin_of`` and ``checked_stage``.
    """
    swin = swin_of(model, *size)
    stage = checked_stage(model, stage)
    recorded: list[torch.Tensor] = []

    def keep(tokens: torch.Tensor) -> torch.Tensor:
        recorded.append(_leaf(tokens))
        return recorded[-1]

    if stage == len(swin.encoder.layers) - 1:
        handle = swin.layernorm.register_forward_hook(lambda module, inputs, output: keep(output))
    else:
        merging = swin.encoder.layers[stage].downsample
        handle = merging.register_forward_pre_hook(lambda module, inputs: (keep(inputs[0]), *inputs[1:]))
    try:
        yield recorded
    finally:
        handle.remove()


def _leaf(tensor: torch.Tensor) -> torch.Tensor:
    return tensor.detach().requires_grad_(True)


# A model's state, preserved while an explainer works on it.

# the tables of a module's hooks, and of which hooks take keyword arguments or always run
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
def preserve_state(model: PreTrainedModel) -> Iterator[PreTrainedModel]:
    """Put a model into evaluation mode with gradients enabled; afterwards all is as before, also after an error.

    Restored: mode of every module, attention implementation, ``requires_grad``, gradients, hooks, window and shift of
    Swin's layers (stock Swin permanently alters them for small images), and the random state.

    Meanwhile no parameter takes gradients, so that a graph starts only where an explainer puts a leaf; and what
    ``module.compile()`` compiled runs uncompiled, because a compiled graph does not see hooks that come later.
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
