"""The conformance kit for authors of an encoder."""

from __future__ import annotations

from typing import Any

import torch

from ..data.terms import terms_of_source
from ..encoders import Encoder, EncoderPlugin, pooled
from ..encoders.encoder import GROUP, NAMES, of_plugin
from ..plugins import find_plugin


def check_encoder(encoder: str | EncoderPlugin) -> None:
    """Check that an encoder keeps the contract of ``mammo_hf.encoders.EncoderPlugin``.

    Names: all are there, mean and deviation fit together, licence and terms can be read. Grid: one cell for each square
    of pixels, for squares and rectangles; finite; an image in a batch has the features that it has alone; an image has
    the same features whatever was encoded before; what changes in one part of the image changes the cells there most.
    Network: in evaluation mode, without randomness, and its gradient reaches the image. Weights: the same at each load.

    Args:
        encoder: Name of an installed one, or a module with the names of the protocol.

    Raises:
        AssertionError: It breaks the contract; the text says which part.
        UsageError: No encoder of that name can be used.
    """
    plugin = find_plugin(GROUP, encoder, NAMES, kind="encoder") if isinstance(encoder, str) else encoder
    _check_names(plugin)
    loaded = of_plugin(plugin)
    _check_grid(loaded)
    _check_independence(loaded)
    _check_place(loaded)
    _check_gradient(loaded)
    again = of_plugin(plugin)
    assert again.record == loaded.record, "load() gives other weights at each call"


def _check_names(plugin: Any) -> None:
    lacking = [name for name in NAMES if not hasattr(plugin, name)]
    assert not lacking, f"it has no {', '.join(lacking)}"
    assert plugin.TILE >= 32, f"TILE is {plugin.TILE}: the side of its input in pixels"
    assert len(plugin.MEAN) == len(plugin.STD), "MEAN and STD are of different numbers of channels"
    assert all(0 <= value <= 1 for value in plugin.MEAN), "MEAN is of intensities from 0 to 1"
    assert all(value > 0 for value in plugin.STD), "STD is above 0"
    assert plugin.LICENCE, "LICENCE is empty"
    assert plugin.CITATION, "CITATION is empty"
    if hasattr(plugin, "available"):
        assert isinstance(plugin.REQUIRES, tuple), "REQUIRES is a tuple of package names"
        assert plugin.available(), f"available() is false: it needs {', '.join(plugin.REQUIRES)}"
    terms_of_source(plugin.NAME, plugin.LICENCE, getattr(plugin, "TERMS", None))  # raises if one cannot be read


def _images(encoder: Encoder, count: int, size: tuple[int, int]) -> torch.Tensor:
    return torch.rand(count, 1, *size, generator=torch.Generator().manual_seed(1))


@torch.no_grad()
def _check_grid(encoder: Encoder) -> None:
    assert not any(module.training for module in encoder.modules()), "a part of the network is in training mode"
    for height, width in ((encoder.tile, encoder.tile), (encoder.tile, 2 * encoder.tile), encoder.canvas):
        grid = encoder(_images(encoder, 2, (height, width)))
        where = f"at {height} x {width} pixels: "
        expected = (2, encoder.channels, height // encoder.multiple, width // encoder.multiple)
        assert grid.shape == expected, where + f"a grid of {tuple(grid.shape)}, not {expected}"
        assert torch.isfinite(grid).all(), where + "features are NaN or infinite"
        assert grid.std() > 0, where + "features are the same everywhere"
        pooled_features = pooled(grid, torch.ones(2, 1, height, width))
        assert pooled_features.abs().max() < 65504, where + "features do not fit into 16 bits"


@torch.no_grad()
def _check_independence(encoder: Encoder) -> None:
    size = encoder.tile, encoder.tile
    images = _images(encoder, 3, size)
    together = encoder(images)
    assert torch.equal(together, encoder(images)), "the same call gave other features"
    encoder(_images(encoder, 1, encoder.canvas))
    assert torch.equal(together, encoder(images)), "features depend on what was encoded before"
    alone = encoder(images[1:2])
    same = torch.allclose(alone[0], together[1], rtol=1e-3, atol=1e-3 * float(together.abs().max()))
    assert same, "an image in a batch has other features than alone"


@torch.no_grad()
def _check_place(encoder: Encoder) -> None:
    """Change one corner of an image; rows and columns that are exchanged or mirrored would show elsewhere."""
    height, width = encoder.tile, 2 * encoder.tile
    image = torch.full((2, 1, height, width), 0.4)
    image[1, :, : height // 2, -height // 2 :] = 0.9
    before, after = encoder(image)
    change = (after - before).abs().sum(0)
    rows, columns = change.shape
    corner = change[: (rows + 1) // 2, columns // 2 :]
    assert corner.mean() > change.mean(), "what changes in the upper right corner of an image changes other cells more"
    assert columns == 2 * rows, f"a grid of {rows} x {columns} for an image that is twice as wide as high"


def _check_gradient(encoder: Encoder) -> None:
    image = _images(encoder, 1, (encoder.tile, encoder.tile)).requires_grad_(True)
    strength = encoder(image).square().sum()
    assert strength.requires_grad, "no gradient reaches the image"
    strength.backward()
    assert image.grad is not None, "no gradient reaches the image"
    assert image.grad.abs().sum() > 0, "the gradient at the image is 0 everywhere"
