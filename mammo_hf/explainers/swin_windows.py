"""Swin's windows put back onto the image plane (Liu et al. 2021, arXiv 2103.14030, section 3.2)."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from transformers import SwinConfig


@dataclass(frozen=True)
class Windows:
    """How one block cuts its token grid into windows.

    Args:
        grid: (rows, columns) of tokens.
        window: Side of a window in tokens.
        shift: Tokens by which the grid was rolled up and to the left before it was cut.
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
        """(batch * windows, ..., window^2) a token of each window to (batch, ..., rows, columns) on the grid."""
        rows, columns = self.padded
        down, across = rows // self.window, columns // self.window
        middle = values.shape[1:-1]
        values = values.reshape(-1, down, across, values[0, ..., 0].numel(), self.window, self.window)
        plane = values.permute(0, 3, 1, 4, 2, 5).reshape(-1, *middle, rows, columns)
        if self.shift:
            plane = torch.roll(plane, (self.shift, self.shift), dims=(-2, -1))
        return plane[..., : self.grid[0], : self.grid[1]]


def windows_of_last_block(config: SwinConfig, height: int, width: int, stage: int = -1) -> Windows:
    """The windows of a stage's last block, whose attention transformers records, for an input of (height, width).

    Stock Swin does not shift where a grid's short side is no longer than the window.
    """
    stage = range(len(config.depths))[stage]
    patch = config.patch_size if isinstance(config.patch_size, int) else config.patch_size[0]
    grid = (-(-height // patch), -(-width // patch))
    for _ in range(stage):
        grid = ((grid[0] + 1) // 2, (grid[1] + 1) // 2)
    if min(grid) <= config.window_size:
        return Windows(grid, min(grid), 0)
    shifted = (config.depths[stage] - 1) % 2 == 1
    return Windows(grid, config.window_size, config.window_size // 2 if shifted else 0)
