"""Swin's windows put back onto the image plane (Liu et al. 2021, arXiv 2103.14030, section 3.2)."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch.nn import functional
from transformers import SwinConfig

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
