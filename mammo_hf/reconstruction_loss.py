"""The loss of masked image modelling: which pixels count, what is predicted, and the mean absolute error."""

from __future__ import annotations

import torch
from torch.nn import functional

from .errors import UsageError


def counted_pixels(
    bool_masked_pos: torch.Tensor,
    size: tuple[int, int],
    grid: tuple[int, int],
    *,
    region: str,
    content_mask: torch.Tensor | None = None,
    breast_mask: torch.Tensor | None = None,
) -> torch.Tensor:
    """Which pixels the loss is taken over.

    Args:
        bool_masked_pos: bool (batch, patches), row by row; true: hidden.
        size: (height, width) of the image in pixels.
        grid: (rows, columns) of patches.
        region: "masked": hidden pixels; "masked_breast": hidden pixels inside the breast; "all": visible ones too.
        content_mask: bool (batch, height, width): false in the padding, which never counts.
        breast_mask: bool (batch, height, width): true inside the breast; needed for "masked_breast".

    Returns:
        bool (batch, height, width).

    Raises:
        UsageError: "masked_breast" without a breast mask, or a mask of another shape.
    """
    counted = spread_over_pixels(bool_masked_pos.bool(), size, grid)
    if region == "all":
        counted = torch.ones_like(counted)
    if region == "masked_breast" and breast_mask is None:
        raise UsageError("loss_region 'masked_breast' needs breast_mask", remedy="give it, or use 'masked'")
    asked = {"content_mask": content_mask, "breast_mask": breast_mask if region == "masked_breast" else None}
    for name, mask in asked.items():
        if mask is None:
            continue
        if mask.shape != counted.shape:
            raise UsageError(f"{name} has shape {tuple(mask.shape)}, not {tuple(counted.shape)}")
        counted = counted & mask.bool()
    return counted


def spread_over_pixels(patches: torch.Tensor, size: tuple[int, int], grid: tuple[int, int]) -> torch.Tensor:
    """One value a patch (batch, patches) to one a pixel (batch, height, width)."""
    values = patches.view(-1, *grid)
    return values.repeat_interleave(size[0] // grid[0], 1).repeat_interleave(size[1] // grid[1], 2)


def normalized_target(pixel_values: torch.Tensor, side: int) -> torch.Tensor:
    """Each patch less its mean, over its standard deviation (He et al. 2022, arXiv 2111.06377, section 4.1).

    Args:
        pixel_values: (batch, channels, height, width).
        side: Of the patches in pixels; divides height and width.
    """
    mean, deviation = _patch_statistics(pixel_values, side)
    return (pixel_values - mean) / deviation


def denormalized(reconstruction: torch.Tensor, pixel_values: torch.Tensor, side: int) -> torch.Tensor:
    """A reconstruction of normalised patches with the true patches' mean and deviation put back, to look at it."""
    mean, deviation = _patch_statistics(pixel_values, side)
    return reconstruction * deviation + mean


def _patch_statistics(pixel_values: torch.Tensor, side: int) -> tuple[torch.Tensor, torch.Tensor]:
    values = pixel_values.float()
    mean = functional.avg_pool2d(values, side)
    # the unbiased variance, as in MAE; a flat patch (background) gets a small one and so a target of zero
    variance = (functional.avg_pool2d(values**2, side) - mean**2).clamp(min=0) * (side**2 / max(side**2 - 1, 1))
    deviation = (variance + 1e-6).sqrt()
    return _spread(mean, side), _spread(deviation, side)


def _spread(values: torch.Tensor, side: int) -> torch.Tensor:
    return values.repeat_interleave(side, 2).repeat_interleave(side, 3)


def mean_absolute_error(
    reconstruction: torch.Tensor,
    target: torch.Tensor,
    counted: torch.Tensor,
    pixels: torch.Tensor | int | None = None,
) -> torch.Tensor:
    """Absolute error over the counted pixels and all channels, divided by their number.

    Args:
        reconstruction: (batch, channels, height, width).
        target: The same shape.
        counted: bool (batch, height, width).
        pixels: What to divide by instead: the counted pixels of all micro-batches and processes of one update, so that
            each pixel weighs the same however the update is split up.
    """
    error = (reconstruction.float() - target.float()).abs().mean(1)
    divisor = counted.sum().clamp(min=1) if pixels is None else pixels
    return (error * counted).sum() / divisor
