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
        plane = torch.zeros(self.padded, dtype=torch.bool, device=device)
        plane[: self.grid[0], : self.grid[1]] = True
        plane = torch.roll(plane, (-self.shift, -self.shift), dims=(0, 1))
        windows = plane.unfold(0, self.window, self.window).unfold(1, self.window, self.window)
        return windows.reshape(-1, self.window**2)


def stage_grids(config: SwinConfig, height: int, width: int) -> list[tuple[int, int]]:
    """The token grid (rows, columns) of each stage for an input of (height, width) pixels; sides are rounded up."""
    patch = config.patch_size
    patch_height, patch_width = (patch, patch) if isinstance(patch, int) else patch
    grids = [(-(-height // patch_height), -(-width // patch_width))]
    for _ in config.depths[1:]:
        rows, columns = grids[-1]
        grids.append(((rows + 1) // 2, (columns + 1) // 2))
    return grids
