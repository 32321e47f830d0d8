"""From the encoder's last tokens back to pixels: a light convolutional decoder, and SimMIM's single linear layer."""

from __future__ import annotations

from itertools import pairwise

import torch
from torch import nn
from transformers import initialization as init


class Smoothing(nn.Conv2d):
    """A 3 x 3 convolution of each channel alone, at first (1, 2, 1) / 4 both ways.

    That kernel takes out exactly what alternates from pixel to pixel.
    """

    def __init__(self, channels: int) -> None:
        super().__init__(
            channels, channels, kernel_size=3, padding=1, groups=channels, bias=False, padding_mode="replicate"
        )

    @torch.no_grad()
    def reset_parameters(self) -> None:
        """Sets the kernel to that of a new model."""
        row = torch.tensor([1.0, 2.0, 1.0], device=self.weight.device) / 4
        init.copy_(self.weight, (row[:, None] * row).expand_as(self.weight))


class ConvDecoder(nn.Module):
    """From the last stage's tokens to pixels, halving the width at each doubling of the grid.

    1024-512-256-128-64 for Swin-B. A doubling is a 2 x 2 transposed convolution, whose kernel equals its stride so
    that no chequerboard can arise, and a depthwise 3 x 3 one that joins neighbours: about a ninth of the cost of plain
    3 x 3 convolutions at these widths. The last doubling, or what four of them leave, is done by a pixel shuffle: at
    full resolution even the narrowest layers would cost more than all others together. The pixels of a shuffle know
    nothing of each other, so a smoothing of the image itself joins them.
    """

    def __init__(self, hidden_size: int, num_channels: int, stride: int) -> None:
        super().__init__()
        doublings = min(4, (stride & -stride).bit_length() - 1)
        if stride == 2**doublings:
            doublings -= 1
        shuffle = stride // 2**doublings
        widths = [max(hidden_size // 2**i, 4) for i in range(doublings + 1)]
        self.blocks = nn.Sequential(
            *(
                nn.Sequential(
                    nn.ConvTranspose2d(before, after, kernel_size=2, stride=2),
                    nn.Conv2d(after, after, kernel_size=3, padding=1, groups=after),
                    nn.GroupNorm(1, after),
                    nn.GELU(),
                )
                for before, after in pairwise(widths)
            )
        )
        self.to_pixels = nn.Sequential(
            nn.Conv2d(widths[-1], num_channels * shuffle**2, kernel_size=1), nn.PixelShuffle(shuffle)
        )
        self.smoothing = Smoothing(num_channels)

    def forward(self, features: torch.Tensor) -> torch.Tensor:
        """(batch, hidden_size, rows, columns) to (batch, num_channels, rows * stride, columns * stride)."""
        smoothed: torch.Tensor = self.smoothing(self.to_pixels(self.blocks(features)))
        return smoothed


def linear_decoder(hidden_size: int, num_channels: int, stride: int) -> nn.Sequential:
    """SimMIM's: each token to its own stride x stride pixels (arXiv 2111.09886, section 3.3); stock Swin's names."""
    return nn.Sequential(nn.Conv2d(hidden_size, num_channels * stride**2, kernel_size=1), nn.PixelShuffle(stride))
