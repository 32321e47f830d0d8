"""Swin's encoder on visible tokens alone: the modules and weights are stock Swin's, what they are applied to is not."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn
from transformers import SwinModel
from transformers.modeling_utils import ALL_ATTENTION_FUNCTIONS
from transformers.models.swin.modeling_swin import (
    SwinAttention,
    SwinLayer,
    SwinModelOutput,
    eager_attention_forward,
)

from .visible_tokens import StageTokens, VisibleTokens, WindowGroups


class _IntoSlots(torch.autograd.Function):
    """(tokens, channels) to (slots, channels). Each token has one slot, so the gradient is a selection as well.

    Empty slots hold some token's values. They attend among themselves and nobody reads them, so no gradient comes.
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
    """(slots, channels) back to (tokens, channels); empty slots get a gradient of zero."""

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
    """Relative position bias of slot pairs, minus infinity between windows: (heads, groups, slots, slots)."""

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
    swin: SwinModel,
    pixel_values: torch.Tensor,
    visible: VisibleTokens,
    deep_mask_token: torch.Tensor,
    *,
    output_hidden_states: bool | None = None,
    output_attentions: bool | None = None,
    **kwargs: Any,
) -> SwinModelOutput:
    """Runs all stages but the last on visible tokens, puts the mask token in, and runs the last one on the whole grid.

    Args:
        swin: Stock Swin of two stages or more.
        pixel_values: (batch, channels, height, width), normalised; hidden pixels are not looked at.
        visible: What is visible.
        deep_mask_token: (1, 1, channels before the last merge), in the place of each hidden token.
        output_hidden_states: Whether to return them, as stock Swin does, with zeros where a token is hidden.
        output_attentions: Whether to return the last block's of each stage, in stock Swin's windows, with zeros from
            and to hidden tokens. As in stock Swin only the eager implementation has any.
        kwargs: Passed on to the last stage.

    Returns:
        Stock Swin's output.
    """
    config, batch_size = swin.config, visible.batch_size
    keep_states = config.output_hidden_states if output_hidden_states is None else output_hidden_states
    keep_attentions = config.output_attentions if output_attentions is None else output_attentions
    stages: list[Any] = list(swin.encoder.layers)
    *sparse_stages, last_stage = stages
    grids = [(visible.grid[0] // 2**index, visible.grid[1] // 2**index) for index in range(len(sparse_stages) + 1)]
    nothing = deep_mask_token.new_zeros(1)
    tokens, states, attentions = _embedded(swin, pixel_values, visible), [], []
    for index, (stage, where) in enumerate(zip(sparse_stages, visible.stages, strict=True)):
        if keep_states:
            states.append(_on_grid(tokens, nothing, where, batch_size, grids[index]))
        tokens, weights = _stage(stage.blocks, tokens, where, batch_size)
        if keep_attentions and weights is not None:
            groups = where.groups[(len(stage.blocks) - 1) % 2]
            attentions.append(_in_windows(weights, groups, grids[index], batch_size, config.window_size))
        if index < len(sparse_stages) - 1:
            merge = stage.downsample
            tokens = merge.reduction(merge.norm(tokens.view(-1, 4 * tokens.shape[1])))
    dense = _on_grid(tokens, deep_mask_token[0], visible.stages[-1], batch_size, grids[-2])
    merged = sparse_stages[-1].downsample(dense, grids[-2])
    last, _, weights = last_stage(merged, grids[-1], **kwargs)
    output = SwinModelOutput(last_hidden_state=swin.layernorm(last))
    if keep_states:
        output.hidden_states = (*states, merged, last)
        output.reshaped_hidden_states = tuple(
            state.transpose(1, 2).unflatten(2, grid)
            for state, grid in zip(output.hidden_states, [*grids, grids[-1]], strict=True)
        )
    if keep_attentions:
        output.attentions = (*attentions, *([] if weights is None else [weights]))
    return output


def _embedded(swin: SwinModel, pixel_values: torch.Tensor, visible: VisibleTokens) -> torch.Tensor:
    """The embeddings of the visible patches, (tokens, channels)."""
    embeddings, first = swin.embeddings, visible.stages[0]
    projection = embeddings.patch_embeddings.projection
    batch, channels, height, width = pixel_values.shape
    rows, columns = visible.grid
    patches = pixel_values.view(batch, channels, rows, height // rows, columns, width // columns)
    patches = patches.permute(0, 2, 4, 1, 3, 5).reshape(batch * rows * columns, -1)
    patches = patches.index_select(0, first.images * (rows * columns) + first.positions)
    tokens = embeddings.norm(nn.functional.linear(patches, projection.weight.flatten(1), projection.bias))
    if embeddings.position_embeddings is not None:
        tokens = tokens + embeddings.position_embeddings[0].index_select(0, first.positions)
    return embeddings.dropout(tokens)


def _stage(
    blocks: Any, tokens: torch.Tensor, where: StageTokens, batch_size: int
) -> tuple[torch.Tensor, torch.Tensor | None]:
    """All blocks of a stage; the second value is the last one's attention (groups, heads, slots, slots)."""
    weights = None
    indices = [_pair_index(blocks[0].attention, groups) for groups in where.groups]
    for number, block in enumerate(blocks):
        shift = number % 2
        arguments = (block, tokens, where.groups[shift], indices[shift], where.images, batch_size)
        if block.gradient_checkpointing and block.training:
            tokens, weights = block._gradient_checkpointing_func(_block, *arguments)
        else:
            tokens, weights = _block(*arguments)
    return tokens, weights


def _pair_index(attention: SwinAttention, groups: WindowGroups) -> torch.Tensor:
    """Row of the bias table for each pair of slots of a group; one past the last between different windows."""
    area = groups.places.shape[1]
    index = attention.relative_position_bias.relative_position_index
    pairs = index[groups.places[:, :, None] * area + groups.places[:, None, :]]
    table_rows = len(attention.relative_position_bias.relative_position_bias_table)
    return torch.where(groups.parts[:, :, None] == groups.parts[:, None, :], pairs, table_rows)


def _block(
    block: SwinLayer,
    tokens: torch.Tensor,
    groups: WindowGroups,
    index: torch.Tensor,
    images: torch.Tensor,
    batch_size: int,
) -> tuple[torch.Tensor, torch.Tensor | None]:
    """One Swin block on packed tokens (tokens, channels): what ``SwinLayer.forward`` does on a grid."""
    attended, weights = _attention(block.attention, block.layernorm_before(tokens), groups, index)
    tokens = tokens + _drop_path(block.drop_path, block.dropout(attended), images, batch_size)
    return tokens + block.dropout(block.mlp(block.layernorm_after(tokens))), weights


def _attention(
    attention: SwinAttention, tokens: torch.Tensor, groups: WindowGroups, index: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor | None]:
    count, slots = groups.slot_tokens.shape
    projected = []
    for projection in (attention.q_proj, attention.k_proj, attention.v_proj):
        grouped = _IntoSlots.apply(projection(tokens), groups.slot_tokens.view(-1), groups.token_slots)
        projected.append(grouped.view(count, slots, -1, attention.head_dim).transpose(1, 2))
    bias = _PositionBias.apply(attention.relative_position_bias.relative_position_bias_table, index)
    interface = ALL_ATTENTION_FUNCTIONS.get_interface(attention.config._attn_implementation, eager_attention_forward)
    mixed, weights = interface(
        attention,
        *projected,
        bias.transpose(0, 1).to(projected[0].dtype),
        dropout=attention.attention_dropout if attention.training else 0.0,
        scaling=attention.scaling,
    )
    return attention.o_proj(_OutOfSlots.apply(mixed.reshape(count * slots, -1), groups.token_slots)), weights


def _drop_path(drop_path: nn.Module, branch: torch.Tensor, images: torch.Tensor, batch_size: int) -> torch.Tensor:
    """Stochastic depth by image, as stock Swin has it: all tokens of an image are kept or dropped together."""
    probability = getattr(drop_path, "drop_prob", 0.0)
    if probability == 0.0 or not drop_path.training:
        return branch
    kept = torch.rand(batch_size, 1, dtype=branch.dtype, device=branch.device) >= probability
    return branch / (1 - probability) * kept.to(branch.dtype).index_select(0, images)


def _on_grid(
    tokens: torch.Tensor, elsewhere: torch.Tensor, where: StageTokens, batch_size: int, grid: tuple[int, int]
) -> torch.Tensor:
    """Tokens at their places of the grid, ``elsewhere`` at the hidden ones: (batch, rows * columns, channels)."""
    length = grid[0] * grid[1]
    dense = elsewhere.to(tokens.dtype).expand(batch_size * length, tokens.shape[1])
    dense = dense.index_copy(0, where.images * length + where.positions, tokens)
    return dense.view(batch_size, length, -1)


def _in_windows(
    weights: torch.Tensor, groups: WindowGroups, grid: tuple[int, int], batch_size: int, window: int
) -> torch.Tensor:
    """Attention over groups (groups, heads, slots, slots) as stock Swin lays it out: (batch * windows, heads, ...)."""
    windows = batch_size * (grid[0] // window) * (grid[1] // window)
    laid_out = weights.new_zeros(windows, window**2, window**2, weights.shape[1])
    same = (groups.parts[:, :, None] == groups.parts[:, None, :]) & (groups.windows[:, :, None] >= 0)
    group, query, key = same.nonzero(as_tuple=True)
    places = (groups.windows[group, query], groups.places[group, query], groups.places[group, key])
    return laid_out.index_put(places, weights.permute(0, 2, 3, 1)[group, query, key]).permute(0, 3, 1, 2)
