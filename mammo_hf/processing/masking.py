"""The choice of the patches of an image that are hidden from the encoder."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from ..errors import DataError, UsageError

PLACES = ("image", "breast")


@dataclass(frozen=True)
class BlockwiseMasking:
    """Random square blocks, hidden in an exact ratio (SimMIM, arXiv 2111.09886, section 3.2).

    Attributes:
        block: Side of a block in pixels; a multiple of ``patch_size``.
        ratio: Fraction of the blocks that is hidden, in (0, 1).
        patch_size: Side of the encoder's patches in pixels.
        within: Blocks that may be hidden: "image" for all, "breast" for those that hold a part of the breast; the
            ratio is then of these, so that none of it is spent on background.

    Raises:
        UsageError: The block is not a multiple of the patch, the ratio is outside (0, 1), or ``within`` is unknown.
    """

    block: int = 16
    ratio: float = 0.5
    patch_size: int = 4
    within: str = "image"

    def __post_init__(self) -> None:
        if self.patch_size < 1 or self.block < 1 or self.block % self.patch_size:
            raise UsageError(
                f"a block of {self.block} pixels is not a multiple of the patch of {self.patch_size}",
                remedy=f"use {max(round(self.block / max(self.patch_size, 1)), 1) * max(self.patch_size, 1)}",
            )
        if not 0 < self.ratio < 1:
            raise UsageError(f"a mask ratio of {self.ratio} is not between 0 and 1", remedy="use 0.5, for instance")
        if self.within not in PLACES:
            raise UsageError(f"within is {self.within!r}", remedy="use 'image' or 'breast'")

    def __call__(
        self,
        size: tuple[int, int],
        *,
        seed: int,
        epoch: int = 0,
        index: int = 0,
        breast: np.ndarray | None = None,
    ) -> np.ndarray:
        """Return the mask of one image.

        Args:
            size: (height, width) of the image in pixels.
            seed: Seed that with ``epoch`` and ``index`` decides the mask, on any machine and in any process.
            epoch: Number of the epoch in training, so that masks are fresh; 0 in evaluation.
            index: Index of the image in its dataset.
            breast: Whether a patch holds a part of the breast, bool (patches,), row by row; needed for "breast".

        Returns:
            bool (patches,), row by row over the patch grid; true: hidden.

        Raises:
            UsageError: Blocks do not tile the size, or there are too few to hide some and show some.
            DataError: The breast has too few blocks for that.
        """
        rows, columns = self._grid(size)
        candidates = np.arange(rows * columns)
        if self.within == "breast":
            candidates = self._blocks_with_breast(breast, (rows, columns))
        hidden = round(self.ratio * len(candidates))
        if not 0 < hidden < rows * columns:
            where = " within the breast" if self.within == "breast" else ""
            error = DataError if where else UsageError
            raise error(
                f"an image of {size[0]} x {size[1]} has {len(candidates)} blocks of {self.block} pixels{where}: "
                f"a ratio of {self.ratio} hides {hidden} of them",
                remedy="use smaller blocks, a larger image or another ratio",
            )
        # PCG64 over a SeedSequence is specified bit for bit, unlike the default generator of a framework
        generator = np.random.Generator(np.random.PCG64(np.random.SeedSequence([seed, epoch, index])))
        blocks = np.zeros(rows * columns, dtype=bool)
        blocks[candidates[generator.permutation(len(candidates))[:hidden]]] = True
        patches = self.block // self.patch_size
        return blocks.reshape(rows, columns).repeat(patches, axis=0).repeat(patches, axis=1).reshape(-1)

    def _blocks_with_breast(self, breast: np.ndarray | None, grid: tuple[int, int]) -> np.ndarray:
        """Return the numbers of the blocks that hold a part of the breast, row by row."""
        patches = self.block // self.patch_size
        if breast is None or np.size(breast) != grid[0] * grid[1] * patches**2:
            found = "nothing" if breast is None else f"{np.size(breast)} values"
            raise UsageError(f"masking within the breast needs one value for each patch, not {found}")
        shaped = np.asarray(breast, bool).reshape(grid[0], patches, grid[1], patches)
        return np.flatnonzero(shaped.any(axis=(1, 3)))

    def _grid(self, size: tuple[int, int]) -> tuple[int, int]:
        height, width = size
        if height < 1 or width < 1 or height % self.block or width % self.block:
            nearest = tuple(max(round(side / self.block), 1) * self.block for side in size)
            raise UsageError(
                f"an image of {height} x {width} is not tiled by blocks of {self.block} pixels",
                remedy=f"use {nearest[0]} x {nearest[1]}, the nearest size that is",
            )
        return height // self.block, width // self.block
