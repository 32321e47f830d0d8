from itertools import pairwise

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from transformers import SwinConfig
from transformers.models.swin.modeling_swin import SwinLayer, window_partition

from mammo_hf.errors import UsageError
from mammo_hf.models.sparse_encoder import block_aligned, visible_tokens
from mammo_hf.processing.masking import BlockwiseMasking


def cell_masks(cells, side, generator, share):
    """Random masks of whole cells, a different number hidden in each image."""
    hidden = generator.random(cells) < share
    return hidden.repeat(side, 1).repeat(side, 2).reshape(len(hidden), -1)


def may_attend(grid, window, shift):
    """Stock Swin: for each pair of a grid's tokens whether they are in one window and not forbidden."""
    config = SwinConfig(window_size=window, embed_dim=4, num_heads=[1], depths=[1])
    layer = SwinLayer(config, 4, grid, 1, shift_size=shift)
    layer.set_shift_and_window_size(grid)
    numbers = torch.arange(grid[0] * grid[1]).view(1, *grid, 1)
    windows = window_partition(layer.cyclic_shift(numbers), window).view(-1, window**2)
    mask = layer.get_attn_mask(*grid, torch.float32, "cpu")
    allowed = torch.zeros(numbers.numel(), numbers.numel(), dtype=torch.bool)
    for number, tokens in enumerate(windows):
        allowed[tokens[:, None], tokens[None, :]] = True if mask is None else mask[number] == 0
    return allowed


@given(rows=st.integers(1, 3), columns=st.integers(1, 3), share=st.floats(0, 0.95), seed=st.integers(0, 99))
def test_groups_join_what_stock_swin_joins(rows, columns, share, seed):
    window, stages, images = 4, 3, 2
    grid = (rows * 8, columns * 8)
    masks = cell_masks((images, rows * 4, columns * 4), 2, np.random.default_rng(seed), share)
    masks[0, :] &= ~masks[0].all()  # never all hidden
    visible = visible_tokens(masks, grid, stages=stages, window=window)
    for number, pair in enumerate(visible.stages):
        stage, side, here = pair[0], 2**number, (grid[0] // 2**number, grid[1] // 2**number)
        hidden = masks.reshape(images, *grid)[:, ::side, ::side].reshape(images, -1)
        shown = torch.zeros(images, here[0] * here[1], dtype=torch.bool)
        shown[stage.images, stage.positions] = True
        assert (shown == ~torch.from_numpy(hidden)).all()
        assert len(stage.images) == shown.sum()
        for shift, groups in zip((0, window // 2), pair, strict=True):
            # each token has one slot, and the slot has that token
            assert (groups.slot_tokens.view(-1)[groups.token_slots] == torch.arange(len(stage.images))).all()
            assert (groups.parts >= 0).sum() == len(stage.images)
            joined = torch.zeros(len(stage.images), len(stage.images), dtype=torch.bool)
            for tokens, parts in zip(groups.slot_tokens, groups.parts, strict=True):
                tokens, parts = tokens[parts >= 0], parts[parts >= 0]
                joined[tokens[:, None], tokens[None, :]] = parts[:, None] == parts[None, :]
            allowed = may_attend(here, window, shift)[stage.positions[:, None], stage.positions[None, :]]
            assert (joined == allowed & (stage.images[:, None] == stage.images[None, :])).all()


def test_four_neighbours_of_a_merging_follow_each_other_in_stocks_order():
    masks = cell_masks((3, 4, 4), 4, np.random.default_rng(0), 0.5)
    visible = visible_tokens(masks, (16, 16), stages=4, window=4)
    for number, (fine, coarse) in enumerate(pairwise(straight for straight, _ in visible.stages)):
        columns = 16 // 2**number
        row, column = fine.positions // columns, fine.positions % columns
        assert (row.view(-1, 4) - row.view(-1, 4)[:, :1] == torch.tensor([0, 1, 0, 1])).all()
        assert (column.view(-1, 4) - column.view(-1, 4)[:, :1] == torch.tensor([0, 0, 1, 1])).all()
        assert (row.view(-1, 4)[:, 0] // 2 * (columns // 2) + column.view(-1, 4)[:, 0] // 2 == coarse.positions).all()
        assert (fine.images.view(-1, 4)[:, 0] == coarse.images).all()


@pytest.mark.parametrize("ratio", [0.5, 0.75])
def test_groups_are_nearly_full(ratio):
    masks = np.stack([BlockwiseMasking(16, ratio)((448, 224), seed=0, index=index) for index in range(4)])
    visible = visible_tokens(masks, (112, 56), stages=4, window=7)
    for pair in visible.stages[:2]:
        for groups in pair:
            assert len(groups.images) / groups.slot_tokens.numel() > 0.9


def test_masks_that_cannot_be_packed():
    masks = np.zeros((1, 256), bool)
    masks[0, 0] = True  # one patch of a 4 x 4 cell
    assert not block_aligned(masks, (16, 16), 4)
    assert block_aligned(masks, (16, 16), 2)
    assert not block_aligned(masks[:, :252], (18, 14), 4)
    with pytest.raises(UsageError, match="4 x 4 patches"):
        visible_tokens(masks, (16, 16), stages=4, window=4)
    with pytest.raises(UsageError, match="every patch"):
        visible_tokens(np.ones((2, 256), bool), (16, 16), stages=4, window=4)


def test_moves_to_a_device_whole():
    visible = visible_tokens(np.zeros((1, 64), bool), (8, 8), stages=2, window=4)
    moved = visible.to("meta")
    assert moved.grid == visible.grid
    assert moved.stages[0][1].places.device.type == "meta"
    assert moved.stages[0][0].images.device.type == "meta"
