"""From a token grid to pixels, by cubic B-splines.

Bilinear interpolation has its maxima at the centres of tokens, however strong their neighbours are: a lesion that two
tokens share then has its peak beside it. A B-spline passes near the tokens' values and not through them, and its peak
lies between such tokens. It never leaves the range of the values, and has no ringing (Unser 1999, IEEE Signal
Processing Magazine 16(6), 22-38).
"""

from __future__ import annotations

import torch
from torch.nn import functional


def upsampled(maps: torch.Tensor, size: tuple[int, int]) -> torch.Tensor:
    """Maps (batch, rows, columns) as (batch, height, width); what lies beyond an edge is what lies at it.

    Args:
        maps: float32; those that are as fine as the image already are left as they are, finer ones are averaged.
        size: (height, width).
    """
    if tuple(maps.shape[1:]) == tuple(size):
        return maps
    if maps.shape[1] > size[0] or maps.shape[2] > size[1]:
        return functional.interpolate(maps[:, None], size=size, mode="area")[:, 0]
    down, across = (_weights(tokens, pixels) for tokens, pixels in zip(maps.shape[1:], size, strict=True))
    return down.to(maps.device) @ maps @ across.to(maps.device).T


def _weights(tokens: int, pixels: int) -> torch.Tensor:
    """(pixels, tokens): how much of each token there is at each pixel's centre; rows sum to 1."""
    at = (torch.arange(pixels, dtype=torch.float64) + 0.5) * tokens / pixels - 0.5
    weights = torch.zeros(pixels, tokens, dtype=torch.float64)
    for offset in range(-1, 3):
        token = at.floor().long() + offset
        away = (at - token).abs()
        near, far = 2 / 3 - away**2 + away**3 / 2, (2 - away).clamp(min=0) ** 3 / 6
        weights.scatter_add_(1, token.clamp(0, tokens - 1)[:, None], torch.where(away < 1, near, far)[:, None])
    return weights.float()
