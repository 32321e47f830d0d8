"""Which tokens of a batch are visible, and how they are packed for windowed attention, from the masks alone.

The idea of packing windows that hold few visible tokens into groups of equal size is GreenMIM's (Huang et al. 2022,
arXiv 2205.13515, section 3.2); here a group may hold windows of several images, so that each image keeps its own mask.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass, fields
from functools import cache
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from .errors import UsageError

if TYPE_CHECKING:
    from .configuration_mammo_swin import MammoSwinConfig

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class WindowGroups:
    """The tokens of one stage in groups of window * window slots; a token attends to those of its own window.

    Args:
        slot_tokens: int64 (groups, slots): the packed token in a slot; 0 in an empty one.
        token_slots: int64 (tokens,): the slot of a packed token, counted over all groups.
        places: int64 (groups, slots): the token's place in its window, row by row; 0 in an empty slot.
        windows: int64 (groups, slots): the window's number in stock Swin's order over the batch; -1 in an empty slot.
            Of a shifted window that wraps round the image, each part counts by itself: ``parts`` tells them apart.
        parts: int64 (groups, slots): the number of the part of a window; -1 in an empty slot.
    """

    slot_tokens: torch.Tensor
    token_slots: torch.Tensor
    places: torch.Tensor
    windows: torch.Tensor
    parts: torch.Tensor


@dataclass(frozen=True)
class StageTokens:
    """The visible tokens of one stage, in packed order.

    Args:
        images: int64 (tokens,): the image that a token belongs to.
        positions: int64 (tokens,): its place in the stage's grid, row by row.
        groups: For blocks without and with shift; the same object where the grid leaves no room for a shift.
    """

    images: torch.Tensor
    positions: torch.Tensor
    groups: tuple[WindowGroups, WindowGroups]


@dataclass(frozen=True)
class VisibleTokens:
    """The visible tokens of a batch at every stage but the last.

    The packed order is such that the four tokens of a patch merging lie next to each other, in the order in which stock
    Swin joins them: merging is then a change of shape.

    Args:
        batch_size: Number of images.
        grid: (rows, columns) of patches.
        stages: One entry for each stage that runs on visible tokens.
    """

    batch_size: int
    grid: tuple[int, int]
    stages: tuple[StageTokens, ...]

    def to(self, device: torch.device | str, non_blocking: bool = False) -> VisibleTokens:
        """The same on another device."""
        return _mapped(self, lambda tensor: tensor.to(device, non_blocking=non_blocking))

    def pin_memory(self) -> VisibleTokens:
        """The same in pinned memory, as a data loader asks for."""
        return _mapped(self, torch.Tensor.pin_memory)


def _mapped(value: Any, change: Any) -> Any:
    if isinstance(value, torch.Tensor):
        return change(value)
    if isinstance(value, tuple):
        return tuple(_mapped(item, change) for item in value)
    if isinstance(value, (VisibleTokens, StageTokens, WindowGroups)):
        return type(value)(**{field.name: _mapped(getattr(value, field.name), change) for field in fields(value)})
    return value


def block_aligned(masks: np.ndarray, grid: tuple[int, int], stages: int) -> bool:
    """Whether no patch merging before the last one joins a hidden and a visible token.

    Args:
        masks: bool (batch, patches); true: hidden.
        grid: (rows, columns) of patches.
        stages: Stages of the encoder.
    """
    side = 2 ** max(stages - 2, 0)
    if grid[0] % side or grid[1] % side:
        return False
    cells = _cells(masks, grid, side)
    return bool((cells == cells[..., :1]).all())


def visible_tokens(masks: np.ndarray, grid: tuple[int, int], *, stages: int, window: int) -> VisibleTokens:
    """Packs the visible tokens of a batch.

    Args:
        masks: bool (batch, patches); true: hidden.
        grid: (rows, columns) of patches.
        stages: Stages of the encoder; all but the last run on visible tokens.
        window: Side of the attention windows in tokens.

    Raises:
        UsageError: A mask that hides parts of what a patch merging joins, or one that hides all of the batch.
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
        packed.append(_stage_tokens(images, row.ravel(), column.ravel(), stage_grid, window))
    return VisibleTokens(len(masks), grid, tuple(packed))


def packed_for(config: MammoSwinConfig, masks: torch.Tensor, size: tuple[int, int]) -> VisibleTokens | None:
    """The visible tokens for a model's encoder, or ``None``, said once in the log, where it has to run densely.

    Args:
        config: The model's.
        masks: bool (batch, patches); true: hidden.
        size: (height, width) of the images in pixels.
    """
    if not config.takes_visible_tokens(*size):
        say_dense("windows would be padded at %d x %d", *size)
        return None
    grid, stages = config.stage_grids(*size)[0], len(config.depths)
    hidden = masks.cpu().numpy()
    if not block_aligned(hidden, grid, stages):
        say_dense("the mask is not made of blocks of %d patches a side", 2 ** (stages - 2))
        return None
    return visible_tokens(hidden, grid, stages=stages, window=config.window_size)


@cache
def say_dense(why: str, *values: int) -> None:
    """Says why visible tokens alone will not do: once for each reason, not at each step."""
    logger.warning(f"the encoder runs on all tokens, hidden ones too: {why}", *values)


def _cells(masks: np.ndarray, grid: tuple[int, int], side: int) -> np.ndarray:
    """(batch, patches) to (batch, cells, patches of a cell)."""
    rows, columns = grid
    blocks = np.asarray(masks, bool).reshape(-1, rows // side, side, columns // side, side)
    return blocks.swapaxes(2, 3).reshape(len(masks), -1, side * side)


def _nested_offsets(side: int) -> tuple[np.ndarray, np.ndarray]:
    """Row and column of the tokens of a cell, so ordered that merging, merging again, ... joins neighbours.

    Stock Swin joins (0, 0), (1, 0), (0, 1), (1, 1): down the first column, then down the second.
    """
    rows, columns = np.zeros(1, np.int64), np.zeros(1, np.int64)
    while side > 1:
        rows = (2 * rows[:, None] + np.array([0, 1, 0, 1])).ravel()
        columns = (2 * columns[:, None] + np.array([0, 0, 1, 1])).ravel()
        side //= 2
    return rows, columns


def _stage_tokens(
    images: np.ndarray, rows: np.ndarray, columns: np.ndarray, grid: tuple[int, int], window: int
) -> StageTokens:
    straight = _window_groups(images, rows, columns, grid, window, 0)
    # stock Swin does not shift where one window spans the grid
    shifted = straight if min(grid) <= window else _window_groups(images, rows, columns, grid, window, window // 2)
    positions = torch.from_numpy(rows * grid[1] + columns)
    return StageTokens(torch.from_numpy(images), positions, (straight, shifted))


def _window_groups(
    images: np.ndarray, rows: np.ndarray, columns: np.ndarray, grid: tuple[int, int], window: int, shift: int
) -> WindowGroups:
    # Stock Swin rolls the grid by the shift and forbids attention between what was not adjacent before. That equals
    # windows that begin `shift` further on and are cut off at the image's edges.
    lead = (window - shift) % window
    part_rows, part_columns = (rows + lead) // window, (columns + lead) // window
    parts_across = grid[1] // window + 1
    parts = (images * (grid[0] // window + 1) + part_rows) * parts_across + part_columns
    rolled_rows, rolled_columns = (rows - shift) % grid[0], (columns - shift) % grid[1]
    windows = (images * (grid[0] // window) + rolled_rows // window) * (grid[1] // window) + rolled_columns // window
    places = rolled_rows % window * window + rolled_columns % window

    order = np.argsort(parts, kind="stable")
    _, starts, counts = np.unique(parts[order], return_index=True, return_counts=True)
    group, offset = _packed_into_groups(counts, window**2)
    part_of = np.repeat(np.arange(len(counts)), counts)
    rank = np.arange(len(order)) - starts[part_of]
    token_slots = np.empty(len(order), np.int64)
    token_slots[order] = group[part_of] * window**2 + offset[part_of] + rank

    def in_slots(values: np.ndarray, empty: int) -> torch.Tensor:
        slots = np.full((int(group.max()) + 1) * window**2, empty, np.int64)
        slots[token_slots] = values
        return torch.from_numpy(slots.reshape(-1, window**2))

    return WindowGroups(
        slot_tokens=in_slots(np.arange(len(order)), 0),
        token_slots=torch.from_numpy(token_slots),
        places=in_slots(places, 0),
        windows=in_slots(windows, -1),
        parts=in_slots(parts, -1),
    )


def _packed_into_groups(counts: np.ndarray, capacity: int) -> tuple[np.ndarray, np.ndarray]:
    """For each window the group that it goes to and where in it, largest windows first.

    A window goes into the fullest group that still has room (best fit decreasing): no group more than first fit
    decreasing needs in the worst case (Johnson 1974), and found at once, from one bit for each amount of room.
    """
    group, offset = np.empty(len(counts), np.int64), np.empty(len(counts), np.int64)
    with_room: list[list[int]] = [[] for _ in range(capacity + 1)]
    rooms = 0  # bit r is set where some group has room for r tokens
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
