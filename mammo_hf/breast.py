"""Finding the breast in a displayed mammogram: its mask, the box around it, and on which side the chest wall lies."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

from .breast_mask import breast_region, dilated, rim_share
from .collimation import exposed_field
from .pectoral import pectoral_mask
from .skin_line import with_faint_skin

if TYPE_CHECKING:
    from .geometry import Geometry

LONGEST_SIDE = 256  # pixels of the subsampled view that is searched, up to twice as many less one
MARGIN = 0.02  # of the image's longer side
# times the tissue of the other side: what the side of the chest wall has at least
CHEST_WALL_RATIO = 1.2
# of the image: a dark region this large on a bright background is a breast shown as a negative
LEAST_NEGATIVE = 0.15
NOTED_FIELD = 0.95  # of the image: a scanner's narrow edge is not worth a word
MOST_RIM = 0.65  # of the image's rim; a region that covers more of it may be the background


@dataclass(frozen=True, eq=False)
class Breast:
    """Where the breast lies.

    Args:
        box: (top, left, bottom, right) in source pixels, exclusive at the end; the whole image where
            nothing stands out.
        mask: bool (rows, columns) of the view: entry (i, j) stands for the ``stride`` x ``stride`` source pixels from
            (i * stride, j * stride) on; all ``False`` where nothing stands out.
        stride: Source pixels a pixel of the mask.
        chest_wall: "left" or "right": the side of the image; ``None`` where nothing tells.
        negative: Whether tissue is dark on a bright background.
        notes: What was unusual, as short texts.
        pectoral: As ``mask``, the pectoral muscle; ``None`` where it was not looked for or not found.
        field: Rows and columns of the mask that lie within bright collimated edges.
    """

    box: tuple[int, int, int, int]
    mask: np.ndarray
    stride: int = 1
    chest_wall: str | None = None
    negative: bool = False
    notes: tuple[str, ...] = ()
    pectoral: np.ndarray | None = None
    field: tuple[slice, slice] = (slice(None), slice(None))

    def widened(self, margin: int) -> Breast:
        """With ``margin`` pixels of the mask added around the mask, within the field; the box stays."""
        mask = np.zeros(self.mask.shape, bool)
        mask[self.field] = dilated(self.mask, margin)[self.field]
        return replace(self, mask=mask)

    def mask_at(self, rows: np.ndarray, columns: np.ndarray) -> np.ndarray:
        """Whether source pixels belong to the breast.

        Args:
            rows: (height,) positions in source pixels, those outside the image count as its edge.
            columns: (width,) likewise.

        Returns:
            bool (height, width): one entry for each pair of a row and a column.
        """
        return sampled(self.mask, rows, columns, self.stride)

    def columns_of(self, rows: slice) -> slice:
        """The columns between which the mask lies in some rows, in source pixels; none where it does not."""
        band = self.mask[rows.start // self.stride : -(-rows.stop // self.stride)].any(0)
        columns = np.flatnonzero(band)
        return slice(int(columns[0]) * self.stride, int(columns[-1] + 1) * self.stride) if len(columns) else slice(0, 0)

    def on_canvas(self, geometry: Geometry, *, cell: int = 1) -> np.ndarray:
        """Where the breast lies on the model's canvas, without a pectoral muscle that was looked for and found.

        Args:
            geometry: From source pixels to the canvas.
            cell: Side in canvas pixels of what one entry stands for, by its centre.

        Returns:
            bool (height // cell, width // cell); false in the padding.
        """
        centres = [(np.arange(side // cell) + 0.5) * cell for side in geometry.size]
        rows, columns = (geometry.to_source(np.stack([c, c], axis=-1))[:, i] for i, c in enumerate(centres))
        shown_rows, shown_columns = (
            (c > start) & (c < start + length)
            for c, start, length in zip(centres, geometry.offset, geometry.resized, strict=True)
        )
        inside = self.mask_at(rows, columns) & shown_rows[:, None] & shown_columns
        return inside if self.pectoral is None else inside & ~sampled(self.pectoral, rows, columns, self.stride)


def sampled(mask: np.ndarray, rows: np.ndarray, columns: np.ndarray, stride: int) -> np.ndarray:
    """The entries of a strided mask at source positions: (height,) and (width,) give (height, width)."""
    i, j = (
        np.clip(np.asarray(positions) // stride, 0, length - 1).astype(np.intp)
        for positions, length in zip((rows, columns), mask.shape, strict=True)
    )
    return mask[i][:, j]


def find_breast(
    intensity: np.ndarray,
    *,
    stride: int = 1,
    size: tuple[int, int] | None = None,
    margin: float = MARGIN,
    expected_chest_wall: str | None = None,
    pectoral: bool = False,
) -> Breast:
    """Finds the breast: the region with the steepest and smoothest outline that has a breast's shape.

    Args:
        intensity: (height, width) in [0, 1], every ``stride``-th pixel of the image.
        stride: Of the subsampling.
        size: (height, width) of the whole image; the intensity's where not given.
        margin: Around the breast on all sides but that of the chest wall, as a share of the image's longer side.
        expected_chest_wall: The side that the header speaks for; used where the image does not tell, and otherwise
            only compared.
        pectoral: Whether to look for the pectoral muscle, as in an oblique view.

    Returns:
        The breast; the whole image as its box where nothing stands out from the background.
    """
    height, width = size or intensity.shape
    field = exposed_field(intensity)
    mask = np.zeros(intensity.shape, bool)
    mask[field], negative = _mask_and_polarity(intensity[field])
    if not mask.any():
        return Breast((0, 0, height, width), mask, stride, expected_chest_wall, notes=("no breast was found",))
    seen = _chest_wall(mask)
    notes = []
    if mask[field].size < NOTED_FIELD * mask.size:
        notes.append("bright edges around the exposed field are left out")
    if negative:
        notes.append("tissue is dark on a bright background")
    if seen is None:
        notes.append("the side of the chest wall is not clear from the image")
    elif expected_chest_wall not in (None, seen):
        notes.append(
            f"the header speaks for a chest wall at the {expected_chest_wall}, the image shows it at the {seen}"
        )
    chest_wall = seen or expected_chest_wall
    limits = _limits(field, intensity.shape, stride, (height, width))
    box = _box(mask, chest_wall, stride, limits, round(margin * max(height, width)))
    muscle = None
    if pectoral and chest_wall is not None:
        muscle = pectoral_mask(-intensity if negative else intensity, mask, chest_wall)
    return Breast(box, mask, stride, chest_wall, negative, tuple(notes), muscle, field)


def _mask_and_polarity(intensity: np.ndarray) -> tuple[np.ndarray, bool]:
    """The breast's mask, and whether it was found in the negative."""
    region = breast_region(intensity)
    if rim_share(region.mask) < MOST_RIM:
        return with_faint_skin(region.smooth, region.mask), False
    # it lies around the image as a background does: is there a breast in the negative?
    other = breast_region(-intensity)
    found = other.shaped and other.mask.mean() >= LEAST_NEGATIVE and rim_share(other.mask) < MOST_RIM
    return (with_faint_skin(other.smooth, other.mask), True) if found else (region.mask, False)


def _chest_wall(mask: np.ndarray) -> str | None:
    """The side with more tissue: a breast is widest at the chest wall and ends at the nipple."""
    columns = np.flatnonzero(mask.any(0))
    inside = mask[:, columns[0] : columns[-1] + 1]
    third = max(inside.shape[1] // 3, 1)
    left, right = int(inside[:, :third].sum()), int(inside[:, -third:].sum())
    if max(left, right) < CHEST_WALL_RATIO * min(left, right):
        return None
    return "left" if left > right else "right"


def _box(
    mask: np.ndarray, chest_wall: str | None, stride: int, limits: tuple[int, int, int, int], margin: int
) -> tuple[int, int, int, int]:
    """The box in source pixels; at the chest wall the breast runs into the edge of the film, so no margin there."""
    rows, columns = np.flatnonzero(mask.any(1)), np.flatnonzero(mask.any(0))
    # the true edge lies within a step of the view's pixel
    margin += stride
    top, bottom = rows[0] * stride - margin, (rows[-1] + 1) * stride + margin
    left = columns[0] * stride - (0 if chest_wall == "left" else margin)
    right = (columns[-1] + 1) * stride + (0 if chest_wall == "right" else margin)
    first, start, last, end = limits
    return int(max(top, first)), int(max(left, start)), int(min(bottom, last)), int(min(right, end))


def _limits(
    field: tuple[slice, slice], shape: tuple[int, ...], stride: int, size: tuple[int, int]
) -> tuple[int, int, int, int]:
    """What the box may reach, in source pixels: the image, or the rows and columns surely within collimated edges."""
    first, start = (side.start * stride for side in field)
    last, end = (
        length if side.stop == steps else (side.stop - 1) * stride + 1
        for side, steps, length in zip(field, shape, size, strict=True)
    )
    return first, start, last, end
