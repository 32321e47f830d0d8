"""Swin's encoder on visible tokens alone: which tokens are visible, how they are packed, and the forward pass.

The modules and weights are stock Swin's; only what they are applied to is not. Attention is the obstacle: Swin attends
within windows of a fixed size, and a window of a masked image holds any number of visible tokens. So windows are packed
into groups of as many slots as a full window has, several to a group, as GreenMIM does (Huang et al. 2022, arXiv
2205.13515, section 3.2); within a group a token attends to those of its own window alone. Here a group may hold windows
of several images, so that each image keeps its own mask and the groups stay nearly full.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cache
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import nn
from transformers import SwinModel
from transformers.modeling_utils import ALL_ATTENTION_FUNCTIONS
from transformers.models.swin.modeling_swin import (
    SwinAttention,
    SwinEmbeddings,
    SwinEncoder,
    SwinLayer,
    SwinModelOutput,
    SwinPatchEmbeddings,
    SwinPatchMerging,
    SwinRelativePositionBias,
    SwinStage,
    eager_attention_forward,
)

from ..errors import UsageError

if TYPE_CHECKING:
    from .configuration_mammo_swin import MammoSwinConfig

logger = logging.getLogger(__name__)

_RECORDER = "transformers.utils.output_capturing"


@dataclass(frozen=True)
class PackedTokens:
    """The visible tokens of one stage, in groups of window * window slots, for blocks with or without a shift.

    A shifted window that wraps round the image consists of parts, which do not attend to each other.

    Attributes:
        images: Image of each token, int64 (tokens,).
        positions: Position of each token in the stage's grid, row by row, int64 (tokens,).
        slot_tokens: Token in each slot, int64 (groups, slots); 0 in an empty one.
        token_slots: Slot of each token, counted over all groups, int64 (tokens,).
        places: Position in its window of the token in each slot, row by row, int64 (groups, slots); 0 in an empty slot.
        parts: Number of the part of a window of each slot, int64 (groups, slots); -1 in an empty slot.
    """

    images: torch.Tensor
    positions: torch.Tensor
    slot_tokens: torch.Tensor
    token_slots: torch.Tensor
    places: torch.Tensor
    parts: torch.Tensor


@dataclass(frozen=True)
class VisibleTokens:
    """The visible tokens of a batch at every stage but the last.

    Their order is such that the four tokens of a patch merging are next to each other, in the order in which stock Swin
    joins them: merging is then a change of shape.

    Attributes:
        batch_size: Number of images.
        grid: (rows, columns) of patches.
        stages: Packed tokens of each stage that runs on visible tokens, for blocks without and with a shift; the same
            object twice if the grid leaves no room for a shift.
    """

    batch_size: int
    grid: tuple[int, int]
    stages: tuple[tuple[PackedTokens, PackedTokens], ...]

    def to(self, device: torch.device | str, non_blocking: bool = False) -> VisibleTokens:
        """Return a copy on another device."""
        return self._changed(lambda tensor: tensor.to(device, non_blocking=non_blocking))

    def pin_memory(self) -> VisibleTokens:
        """Return a copy in pinned memory; data loaders look for this method."""
        return self._changed(torch.Tensor.pin_memory)

    def _changed(self, change: Callable[[torch.Tensor], torch.Tensor]) -> VisibleTokens:
        stages = tuple(
            tuple(PackedTokens(**{name: change(value) for name, value in vars(packed).items()}) for packed in pair)
            for pair in self.stages
        )
        return replace(self, stages=stages)


def block_aligned(masks: np.ndarray, grid: tuple[int, int], stages: int) -> bool:
    """Return whether no patch merging before the last one joins a hidden and a visible token.

    Args:
        masks: Hidden patches, bool (batch, patches).
        grid: (rows, columns) of patches.
        stages: Number of stages of the encoder.
    """
    side = 2 ** max(stages - 2, 0)
    if grid[0] % side or grid[1] % side:
        return False
    cells = _cells(masks, grid, side)
    return bool((cells == cells[..., :1]).all())


def visible_tokens(masks: np.ndarray, grid: tuple[int, int], *, stages: int, window: int) -> VisibleTokens:
    """Pack the visible tokens of a batch.

    Args:
        masks: Hidden patches, bool (batch, patches).
        grid: (rows, columns) of patches.
        stages: Number of stages of the encoder; all but the last run on visible tokens.
        window: Side of the attention windows in tokens.

    Raises:
        UsageError: A mask hides a part of what a patch merging joins, or all of the batch.
    """
    side = 2 ** (stages - 2)
    if not block_aligned(masks, grid, stages):
        raise UsageError(
            f"the mask is not made of blocks of {side} x {side} patches",
            remedy="use larger blocks, or sparse_encoder=False",
        )
    columns = grid[1] // side
    image, cell = np.nonzero(~_cells(masks, grid, side)[..., 0])
    if not len(image):
        raise UsageError("the mask hides every patch of the batch", remedy="leave some visible")
    packed = []
    for stage in range(stages - 1):
        side_now = side // 2**stage
        rows_in, columns_in = _nested_offsets(side_now)
        row = (cell // columns * side_now)[:, None] + rows_in
        column = (cell % columns * side_now)[:, None] + columns_in
        images = np.repeat(image, side_now**2)
        stage_grid = (grid[0] // 2**stage, grid[1] // 2**stage)
        packed.append(_packed(images, row.ravel(), column.ravel(), stage_grid, window))
    return VisibleTokens(len(masks), grid, tuple(packed))


def packed_for(config: MammoSwinConfig, masks: torch.Tensor, size: tuple[int, int]) -> VisibleTokens | None:
    """Return the visible tokens for a model's encoder, or ``None``, logged once, if it has to run on all tokens.

    Args:
        config: Configuration of the model.
        masks: Hidden patches, bool (batch, patches).
        size: (height, width) of the images in pixels.
    """
    if not config.takes_visible_tokens(*size):
        warn_dense("windows would be padded at %d x %d", *size)
        return None
    grid, stages = config.stage_grids(*size)[0], len(config.depths)
    hidden = masks.cpu().numpy()
    if not block_aligned(hidden, grid, stages):
        warn_dense("the mask is not made of blocks of %d patches a side", 2 ** (stages - 2))
        return None
    return visible_tokens(hidden, grid, stages=stages, window=config.window_size)


@cache
def warn_dense(why: str, *values: int) -> None:
    """Log why the encoder runs on all tokens: once for each reason, not at each step."""
    logger.warning(f"the encoder runs on all tokens, hidden ones too: {why}", *values)


def _cells(masks: np.ndarray, grid: tuple[int, int], side: int) -> np.ndarray:
    """Return (batch, patches) as (batch, cells, patches of a cell)."""
    rows, columns = grid
    blocks = np.asarray(masks, bool).reshape(-1, rows // side, side, columns // side, side)
    return blocks.swapaxes(2, 3).reshape(len(masks), -1, side * side)


def _nested_offsets(side: int) -> tuple[np.ndarray, np.ndarray]:
    """Return row and column of the tokens of a cell, ordered so that each merging in turn joins neighbours.

    Stock Swin joins (0, 0), (1, 0), (0, 1), (1, 1): down the first column, then down the second.
    """
    rows, columns = np.zeros(1, np.int64), np.zeros(1, np.int64)
    while side > 1:
        rows = (2 * rows[:, None] + np.array([0, 1, 0, 1])).ravel()
        columns = (2 * columns[:, None] + np.array([0, 0, 1, 1])).ravel()
        side //= 2
    return rows, columns


def _packed(
    images: np.ndarray, rows: np.ndarray, columns: np.ndarray, grid: tuple[int, int], window: int
) -> tuple[PackedTokens, PackedTokens]:
    straight = _in_groups(images, rows, columns, grid, window, 0)
    # stock Swin does not shift if one window spans the grid
    return straight, straight if min(grid) <= window else _in_groups(images, rows, columns, grid, window, window // 2)


def _in_groups(
    images: np.ndarray, rows: np.ndarray, columns: np.ndarray, grid: tuple[int, int], window: int, shift: int
) -> PackedTokens:
    # Number the windows and their parts. Stock Swin rolls the grid by the shift and forbids attention between what was
    # not adjacent before. That equals windows that begin `shift` later and are cut off at the image's edges.
    lead = (window - shift) % window
    part_rows, part_columns = (rows + lead) // window, (columns + lead) // window
    parts_across = grid[1] // window + 1
    parts = (images * (grid[0] // window + 1) + part_rows) * parts_across + part_columns
    rolled_rows, rolled_columns = (rows - shift) % grid[0], (columns - shift) % grid[1]
    places = rolled_rows % window * window + rolled_columns % window

    # Give each part a place in a group, and each token a slot in its part's place
    order = np.argsort(parts, kind="stable")
    _, starts, counts = np.unique(parts[order], return_index=True, return_counts=True)
    group, offset = _packed_into_groups(counts, window**2)
    part_of = np.repeat(np.arange(len(counts)), counts)
    rank = np.arange(len(order)) - starts[part_of]
    token_slots = np.empty(len(order), np.int64)
    token_slots[order] = group[part_of] * window**2 + offset[part_of] + rank

    # Say of each slot what its token is
    def in_slots(values: np.ndarray, empty: int) -> torch.Tensor:
        slots = np.full((int(group.max()) + 1) * window**2, empty, np.int64)
        slots[token_slots] = values
        return torch.from_numpy(slots.reshape(-1, window**2))

    return PackedTokens(
        images=torch.from_numpy(images),
        positions=torch.from_numpy(rows * grid[1] + columns),
        slot_tokens=in_slots(np.arange(len(order)), 0),
        token_slots=torch.from_numpy(token_slots),
        places=in_slots(places, 0),
        parts=in_slots(parts, -1),
    )


def _packed_into_groups(counts: np.ndarray, capacity: int) -> tuple[np.ndarray, np.ndarray]:
    """Return for each window its group and its first slot there, the largest windows placed first.

    A window goes into the fullest group that still has room (best fit decreasing), which needs no more groups in the
    worst case than first fit decreasing (Johnson 1974). One bit for each amount of room finds that group at once.
    """
    group, offset = np.empty(len(counts), np.int64), np.empty(len(counts), np.int64)
    with_room: list[list[int]] = [[] for _ in range(capacity + 1)]
    rooms = 0  # bit r is set if some group has room for r tokens
    groups = 0
    for index in np.argsort(-counts, kind="stable").tolist():
        count = int(counts[index])
        fitting = rooms >> count
        if fitting:
            room = count + (fitting & -fitting).bit_length() - 1
            chosen = with_room[room].pop()
            if not with_room[room]:
                rooms &= ~(1 << room)
        else:
            chosen, room, groups = groups, capacity, groups + 1
        group[index], offset[index] = chosen, capacity - room
        if room > count:
            with_room[room - count].append(chosen)
            rooms |= 1 << (room - count)
    return group, offset


class _IntoSlots(torch.autograd.Function):
    """The move from (tokens, channels) to (slots, channels).

    Each token has one slot, so the gradient is a selection as well. Empty slots hold some token's values, attend among
    themselves and are never read, so they give no gradient.
    """

    @staticmethod
    def forward(ctx: Any, tokens: torch.Tensor, slot_tokens: torch.Tensor, token_slots: torch.Tensor) -> torch.Tensor:
        ctx.save_for_backward(token_slots)
        return tokens.index_select(0, slot_tokens)

    @staticmethod
    def backward(ctx: Any, gradient: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        (token_slots,) = ctx.saved_tensors
        return gradient.index_select(0, token_slots), None, None


class _OutOfSlots(torch.autograd.Function):
    """The move from (slots, channels) back to (tokens, channels); empty slots get a gradient of zero."""

    @staticmethod
    def forward(ctx: Any, slots: torch.Tensor, token_slots: torch.Tensor) -> torch.Tensor:
        ctx.save_for_backward(token_slots)
        ctx.count = len(slots)
        return slots.index_select(0, token_slots)

    @staticmethod
    def backward(ctx: Any, gradient: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        (token_slots,) = ctx.saved_tensors
        slots = gradient.new_zeros(ctx.count, gradient.shape[1])
        return slots.index_copy_(0, token_slots, gradient), None


class _PositionBias(torch.autograd.Function):
    """The relative position bias of slot pairs, minus infinity between windows: (heads, groups, slots, slots)."""

    @staticmethod
    def forward(ctx: Any, table: torch.Tensor, index: torch.Tensor) -> torch.Tensor:
        ctx.save_for_backward(index)
        forbidden = table.new_full((table.shape[1], 1), float("-inf"))
        ctx.positions = len(table)
        bias = torch.cat([table.t(), forbidden], 1).index_select(1, index.view(-1))
        return bias.view(-1, *index.shape)

    @staticmethod
    def backward(ctx: Any, gradient: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        (index,) = ctx.saved_tensors
        heads = len(gradient)
        sums = gradient.new_zeros(heads, ctx.positions + 1)
        sums.scatter_add_(1, index.reshape(1, -1).expand(heads, -1), gradient.reshape(heads, -1))
        return sums[:, :-1].t(), None


def encode_visible(
    swin: SwinModel, pixel_values: torch.Tensor, visible: VisibleTokens, deep_mask_token: torch.Tensor, **kwargs: Any
) -> SwinModelOutput:
    """Run all stages but the last on visible tokens, put the mask token in, and run the last stage on the whole grid.

    Args:
        swin: Encoder, a stock Swin of two stages or more.
        pixel_values: Normalised images (batch, channels, height, width); hidden pixels are not read.
        visible: Visible tokens of the batch.
        deep_mask_token: Token (1, 1, channels before the last merge) in place of each hidden one.
        kwargs: Arguments of the last stage.

    Returns:
        The output of stock Swin, without hidden states and attentions.
    """
    stages: list[Any] = list(swin.encoder.layers)
    *sparse_stages, last_stage = stages
    grids = [(visible.grid[0] // 2**index, visible.grid[1] // 2**index) for index in range(len(stages))]
    tokens = _embedded(swin, pixel_values, visible)
    for index, (stage, packed) in enumerate(zip(sparse_stages, visible.stages, strict=True)):
        tokens = _stage(stage.blocks, tokens, packed, visible.batch_size)
        if index < len(sparse_stages) - 1:
            merge = stage.downsample
            tokens = merge.reduction(merge.norm(tokens.view(-1, 4 * tokens.shape[1])))
    dense = _on_grid(tokens, deep_mask_token[0], visible.stages[-1][0], visible.batch_size, grids[-2])
    last, *_ = last_stage(sparse_stages[-1].downsample(dense, grids[-2]), grids[-1], **kwargs)
    return SwinModelOutput(last_hidden_state=swin.layernorm(last))


def passed_over_modules_are_plain(swin: SwinModel) -> bool:
    """Return whether no module that `encode_visible` reads instead of calling is wrapped, sharded or hooked.

    What is around such a module acts when it is called: FSDP gathers its weights, accelerate fetches them from disk, an
    adapter adds its own, a user's hook looks at what goes through.
    """
    stages = list(swin.encoder.layers)
    expected: list[tuple[nn.Module, type[nn.Module]]] = [
        (swin, SwinModel), (swin.encoder, SwinEncoder), (swin.embeddings, SwinEmbeddings),
        (swin.embeddings.patch_embeddings, SwinPatchEmbeddings),
    ]  # fmt: skip
    expected += [(stage, SwinStage) for stage in stages]
    if not all(_is_plain(module, kind) for module, kind in expected):
        return False
    expected = [(stage.downsample, SwinPatchMerging) for stage in stages[:-2]]
    for stage in stages[:-1]:
        for block in stage.blocks:
            if not _is_plain(block, SwinLayer) or not _is_plain(block.attention, SwinAttention):
                return False
            expected.append((block.attention.relative_position_bias, SwinRelativePositionBias))
            expected.append((block.drop_path, nn.Module))
    return all(_is_plain(module, kind) for module, kind in expected)


def _is_plain(module: nn.Module, kind: type[nn.Module]) -> bool:
    hooks = [*module._forward_hooks.values(), *module._forward_pre_hooks.values(), *module._backward_hooks.values()]
    hooks += module._backward_pre_hooks.values()
    # transformers' own, which record hidden states once they have been asked for, change nothing
    others = [hook for hook in hooks if getattr(hook, "__module__", "") != _RECORDER]
    return isinstance(module, kind) and not others and "forward" not in vars(module)


def _embedded(swin: SwinModel, pixel_values: torch.Tensor, visible: VisibleTokens) -> torch.Tensor:
    """Return the embeddings of the visible patches, (tokens, channels)."""
    embeddings, first = swin.embeddings, visible.stages[0][0]
    projection = embeddings.patch_embeddings.projection
    batch, channels, height, width = pixel_values.shape
    rows, columns = visible.grid
    patch = (height // rows, width // columns)
    patches = pixel_values.reshape(batch, channels, rows, patch[0], columns, patch[1])
    patches = patches.permute(0, 2, 4, 1, 3, 5).reshape(batch * rows * columns, -1)
    patches = patches.index_select(0, first.images * (rows * columns) + first.positions)
    if type(projection) is nn.Conv2d and _is_plain(projection, nn.Conv2d):
        # a convolution of one position each is several times slower than the matrix product that it is
        tokens = nn.functional.linear(patches, projection.weight.flatten(1), projection.bias)
    else:
        tokens = projection(patches.view(-1, channels, *patch)).flatten(1)
    tokens = embeddings.norm(tokens)
    if embeddings.position_embeddings is not None:
        tokens = tokens + embeddings.position_embeddings[0].index_select(0, first.positions)
    return embeddings.dropout(tokens)


def _stage(
    blocks: Any, tokens: torch.Tensor, packed: tuple[PackedTokens, PackedTokens], batch_size: int
) -> torch.Tensor:
    """Run all blocks of a stage."""
    indices = [_pair_index(blocks[0].attention, one) for one in packed]
    for number, block in enumerate(blocks):
        shift = number % 2
        arguments = (block, tokens, packed[shift], indices[shift], batch_size)
        if block.gradient_checkpointing and block.training:
            tokens = block._gradient_checkpointing_func(_block, *arguments)
        else:
            tokens = _block(*arguments)
    return tokens


def _pair_index(attention: SwinAttention, packed: PackedTokens) -> torch.Tensor:
    """Return the row of the bias table for each pair of slots of a group; one past the last between windows."""
    area = packed.places.shape[1]
    index = attention.relative_position_bias.relative_position_index
    pairs = index[packed.places[:, :, None] * area + packed.places[:, None, :]]
    table_rows = len(attention.relative_position_bias.relative_position_bias_table)
    return torch.where(packed.parts[:, :, None] == packed.parts[:, None, :], pairs, table_rows)


def _block(
    block: SwinLayer,
    tokens: torch.Tensor,
    packed: PackedTokens,
    index: torch.Tensor,
    batch_size: int,
) -> torch.Tensor:
    """Run one Swin block on packed tokens (tokens, channels), as ``SwinLayer.forward`` does on a grid."""
    attended = _attention(block.attention, block.layernorm_before(tokens), packed, index)
    tokens = tokens + _drop_path(block.drop_path, block.dropout(attended), packed.images, batch_size)
    result: torch.Tensor = tokens + block.dropout(block.mlp(block.layernorm_after(tokens)))
    return result


def _attention(
    attention: SwinAttention, tokens: torch.Tensor, packed: PackedTokens, index: torch.Tensor
) -> torch.Tensor:
    count, slots = packed.slot_tokens.shape
    projected = []
    for projection in (attention.q_proj, attention.k_proj, attention.v_proj):
        grouped = _IntoSlots.apply(projection(tokens), packed.slot_tokens.view(-1), packed.token_slots)
        projected.append(grouped.view(count, slots, -1, attention.head_dim).transpose(1, 2))
    bias = _PositionBias.apply(attention.relative_position_bias.relative_position_bias_table, index)
    interface = ALL_ATTENTION_FUNCTIONS.get_interface(attention.config._attn_implementation, eager_attention_forward)
    mixed, _ = interface(
        attention,
        *projected,
        bias.transpose(0, 1).to(projected[0].dtype),
        dropout=attention.attention_dropout if attention.training else 0.0,
        scaling=attention.scaling,
    )
    result: torch.Tensor = attention.o_proj(_OutOfSlots.apply(mixed.reshape(count * slots, -1), packed.token_slots))
    return result


def _drop_path(drop_path: nn.Module, branch: torch.Tensor, images: torch.Tensor, batch_size: int) -> torch.Tensor:
    """Apply stochastic depth by image, as stock Swin does: all tokens of an image are kept or dropped together."""
    probability = getattr(drop_path, "drop_prob", 0.0)
    if probability == 0.0 or not drop_path.training:
        return branch
    kept = torch.rand(batch_size, 1, dtype=branch.dtype, device=branch.device) >= probability
    return branch / (1 - probability) * kept.to(branch.dtype).index_select(0, images)


def _on_grid(
    tokens: torch.Tensor, hidden: torch.Tensor, packed: PackedTokens, batch_size: int, grid: tuple[int, int]
) -> torch.Tensor:
    """Return the tokens on the grid, with ``hidden`` for the hidden ones: (batch, rows * columns, channels)."""
    length = grid[0] * grid[1]
    dense = hidden.to(tokens.dtype).expand(batch_size * length, tokens.shape[1])
    dense = dense.index_copy(0, packed.images * length + packed.positions, tokens)
    return dense.view(batch_size, length, -1)
