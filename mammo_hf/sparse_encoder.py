"""Swin's encoder on visible tokens alone: the modules and weights are stock Swin's, what they are applied to is not."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import nn
from transformers import SwinModel
from transformers.modeling_utils import ALL_ATTENTION_FUNCTIONS
from transformers.models.swin.modeling_swin import SwinLayer, eager_attention_forward

from .visible_tokens import StageTokens, VisibleTokens, WindowGroups


class _IntoSlots(torch.autograd.Function):
    """(tokens, channels) to (slots, channels). Each token has one slot, so the gradient is a selection as well.

    Empty slots hold some token's values. They attend among themselves and nobody reads them, so no gradient comes.
    """

    @staticmethod
    def forward(ctx, tokens, slot_tokens, token_slots):  # noqa: ANN001, ANN205, D102
        ctx.save_for_backward(token_slots)
        return tokens.index_select(0, slot_tokens)

    @staticmethod
    def backward(ctx, gradient):  # noqa: ANN001, ANN205, D102
        (token_slots,) = ctx.saved_tensors
        return gradient.index_select(0, token_slots), None, None


class _OutOfSlots(torch.autograd.Function):
    """(slots, channels) back to (tokens, channels); empty slots get a gradient of zero."""

    @staticmethod
    def forward(ctx, slots, token_slots):  # noqa: ANN001, ANN205, D102
        ctx.save_for_backward(token_slots)
        ctx.count = len(slots)
        return slots.index_select(0, token_slots)

    @staticmethod
    def backward(ctx, gradient):  # noqa: ANN001, ANN205, D102
        (token_slots,) = ctx.saved_tensors
        slots = gradient.new_zeros(ctx.count, gradient.shape[1])
        return slots.index_copy_(0, token_slots, gradient), None


class _PositionBias(torch.autograd.Function):
    """Relative position bias of slot pairs, minus infinity between windows: (heads, groups, slots, slots)."""

    @staticmethod
    def forward(ctx, table, index):  # noqa: ANN001, ANN205, D102
        ctx.save_for_backward(index)
        forbidden = table.new_full((table.shape[1], 1), float("-inf"))
        ctx.positions = len(table)
        bias = torch.cat([table.t(), forbidden], 1).index_select(1, index.view(-1))
        return bias.view(-1, *index.shape)

    @staticmethod
    def backward(ctx, gradient):  # noqa: ANN001, ANN205, D102
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
) -> torch.Tensor:
    """Runs all stages but the last on visible tokens, puts the mask token in, and runs the last stage on the whole grid.

    Args:
        swin: Stock Swin of two stages or more.
        pixel_values: (batch, channels, height, width), normalised; hidden pixels are not looked at.
        visible: What is visible.
        deep_mask_token: (1, 1, channels before the last merge), in the place of each hidden token.

    Returns:
        The last stage's tokens after the final layer norm: (batch, rows * columns, channels).
    """
    tokens = _embedded(swin, pixel_values, visible)
    *sparse_stages, last_stage = swin.encoder.layers
    for index, (stage, where) in enumerate(zip(sparse_stages, visible.stages, strict=True)):
        tokens = _stage(stage.blocks, tokens, where, visible.batch_size)
        if index < len(sparse_stages) - 1:
            merge = stage.downsample
            tokens = merge.reduction(merge.norm(tokens.view(-1, 4 * tokens.shape[1])))
    scale = 2 ** (len(sparse_stages) - 1)
    grid = (visible.grid[0] // scale, visible.grid[1] // scale)
    dense = _with_mask_tokens(tokens, deep_mask_token, visible.stages[-1], visible.batch_size, grid)
    dense = sparse_stages[-1].downsample(dense, grid)
    dense = last_stage(dense, (grid[0] // 2, grid[1] // 2))[0]
    return swin.layernorm(dense)


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


def _stage(blocks: nn.ModuleList, tokens: torch.Tensor, where: StageTokens, batch_size: int) -> torch.Tensor:
    attention = blocks[0].attention
    indices = [_pair_index(attention, groups) for groups in where.groups]
    for number, block in enumerate(blocks):
        shift = number % 2
        run: Callable = _block
        if block.gradient_checkpointing and block.training:
            tokens = block._gradient_checkpointing_func(
                run, block, tokens, where.groups[shift], indices[shift], where.images, batch_size
            )
        else:
            tokens = run(block, tokens, where.groups[shift], indices[shift], where.images, batch_size)
    return tokens


def _pair_index(attention: nn.Module, groups: WindowGroups) -> torch.Tensor:
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
) -> torch.Tensor:
    """One Swin block on packed tokens (tokens, channels): what ``SwinLayer.forward`` does on a grid."""
    attended = block.dropout(_attention(block.attention, block.layernorm_before(tokens), groups, index))
    tokens = tokens + _drop_path(block.drop_path, attended, images, batch_size)
    return tokens + block.dropout(block.mlp(block.layernorm_after(tokens)))


def _attention(
    attention: nn.Module, tokens: torch.Tensor, groups: WindowGroups, index: torch.Tensor
) -> torch.Tensor:
    count, slots = groups.slot_tokens.shape
    projected = []
    for projection in (attention.q_proj, attention.k_proj, attention.v_proj):
        grouped = _IntoSlots.apply(projection(tokens), groups.slot_tokens.view(-1), groups.token_slots)
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
    return attention.o_proj(_OutOfSlots.apply(mixed.reshape(count * slots, -1), groups.token_slots))


def _drop_path(drop_path: nn.Module, branch: torch.Tensor, images: torch.Tensor, batch_size: int) -> torch.Tensor:
    """Stochastic depth by image, as stock Swin has it: all tokens of an image are kept or dropped together."""
    probability = getattr(drop_path, "drop_prob", 0.0)
    if probability == 0.0 or not drop_path.training:
        return branch
    kept = torch.rand(batch_size, 1, dtype=branch.dtype, device=branch.device) >= probability
    return branch / (1 - probability) * kept.to(branch.dtype).index_select(0, images)


def _with_mask_tokens(
    tokens: torch.Tensor, deep_mask_token: torch.Tensor, where: StageTokens, batch_size: int, grid: tuple[int, int]
) -> torch.Tensor:
    """Visible tokens at their places of the grid, the mask token elsewhere: (batch, rows * columns, channels)."""
    length = grid[0] * grid[1]
    dense = deep_mask_token.to(tokens.dtype).expand(1, batch_size * length, -1)[0]
    dense = dense.index_copy(0, where.images * length + where.positions, tokens)
    return dense.view(batch_size, length, -1)
