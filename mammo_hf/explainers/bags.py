"""Maps of a head over features: its attention over tiles, and gradients through whatever grid its encoder gives.

The model is a head with its encoder (`mammo_hf.encoders.classifier.BagClassifier`); the map is on the pixels at the
spacing of its tiles, and `Explanation.in_source` brings it to those of the file.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import islice
from typing import Any

import torch
from torch.nn import functional

from ..encoders.classifier import BagClassifier
from ..encoders.encoder import Encoder
from ..errors import UsageError
from ..processing.geometry import fitted
from .explain import explainer, upsampled
from .swin import preserve_state
from .targets import gradients_of, score


@explainer
def bag_attention(model: Any, pixel_values: torch.Tensor, target: Sequence[int]) -> torch.Tensor:
    """Return how much attention a head over features gives to each tile (Ilse et al. 2018, arXiv 1802.04712).

    The attention of a tile is spread over its square as a pyramid with the peak at its centre, and added where tiles
    overlap. If the encoder is a vision transformer, the pyramid is multiplied by the tile's own map over tokens
    (`token_attention`), so that a tile's attention falls on the tokens that it is about. It does not depend on the
    target: attention is the same for every label. The whole view has none.

    Args:
        model: A head over features with its encoder.
        pixel_values: Intensity at the spacing of the tiles, (batch, 1, height, width).
        target: Not used.

    Returns:
        (batch, height, width); the sum over the image is 1.

    Raises:
        UsageError: The model is not a head over features, or its features are of whole views alone.
    """
    if not isinstance(model, BagClassifier):
        raise UsageError("attends to no tiles", source="model", remedy="give a head over features of an encoder")
    if model.views.tiles == "whole":
        problem = "its features are of whole views, so that it has no tiles to attend to"
        raise UsageError(problem, source="model", remedy="use grad_cam, or features with tiles")
    with preserve_state(model), torch.no_grad():
        attentions = model(pixel_values).attentions[:, 0].float()
        maps = attentions.new_zeros(len(pixel_values), *pixel_values.shape[-2:])
        first = int(model.views.tiles == "both")  # after the whole view
        for canvas, pixels, weights in zip(maps, pixel_values, attentions, strict=True):
            of_tiles = iter(weights[first:])
            for tiles, boxes in islice(model.inputs(pixels[None].to(model.dtype)), first, None):
                for within, (top, left, bottom, right) in zip(_within(model.encoder, tiles), boxes, strict=True):
                    canvas[top:bottom, left:right] += next(of_tiles) * within
    return maps


def _within(encoder: Encoder, tiles: torch.Tensor) -> torch.Tensor:
    """Return how the attention of each tile is spread over it, (tiles, side, side), each with the sum 1."""
    side = encoder.tile
    slope = 1 - ((torch.arange(side, device=tiles.device) + 0.5) * 2 / side - 1).abs()
    spread = (slope[:, None] * slope).expand(len(tiles), -1, -1)
    tokens = token_attention(encoder, tiles)
    if tokens is not None:
        spread = spread * upsampled(tokens, (side, side))
    return spread / spread.sum((1, 2), keepdim=True)


def token_attention(encoder: Encoder, pixels: torch.Tensor) -> torch.Tensor | None:
    """Trace the pooled features of images back through the attention of a vision transformer.

    Rollout (Abnar and Zuidema 2020, arXiv 2005.00928). Relevance starts on the tokens that are averaged, by how
    much of each shows breast; in each layer half of it stays (the skip connection) and half follows the attention, mean
    over heads. What ends on class and register tokens is left out.

    Args:
        encoder: Encoder of the images.
        pixels: Intensity (batch, 1, height, width).

    Returns:
        (batch, rows, columns), each map with the sum 1; ``None`` if the encoder has no attention over its tokens.
    """
    layers = encoder.attentions(pixels)
    if not layers:
        return None
    grid, before = [length // encoder.multiple for length in pixels.shape[-2:]], encoder.grid.before
    breast = functional.adaptive_avg_pool2d((pixels > 0).float(), grid).flatten(1)
    breast = torch.where(breast.sum(1, keepdim=True) > 0, breast, 1)
    relevance = functional.pad(breast / breast.sum(1, keepdim=True), (before, 0))
    for weights in reversed(layers):
        relevance = (relevance + (relevance[:, None] @ weights.float().mean(1))[:, 0]) / 2
    on_grid = relevance[:, before:].unflatten(1, grid)
    return on_grid / on_grid.sum((1, 2), keepdim=True)


def bag_cam(
    rule: Callable[[torch.Tensor, torch.Tensor], torch.Tensor],
    model: BagClassifier,
    pixel_values: torch.Tensor,
    target: Sequence[int],
) -> torch.Tensor:
    """Return the map of a rule of `mammo_hf.explainers.cam` over the grids that the encoder gives.

    The rule is applied to the grid of the whole view and to that of each tile. Each of these maps is spread over the
    pixels that it shows, so that the value of a cell is its sum over them, and all are added.

    Args:
        rule: Function of tokens and gradient, both (batch, rows, columns, channels), that returns a map (batch, rows,
            columns).
        model: A head over features with its encoder.
        pixel_values: Intensity at the spacing of the tiles, (batch, 1, height, width).
        target: The index into the logits that is explained, per image.

    Returns:
        (batch, height, width).
    """
    grids: list[torch.Tensor] = []

    def leaf(module: Any, inputs: Any, output: torch.Tensor) -> torch.Tensor:
        grids.append(output.detach().requires_grad_())
        return grids[-1]

    with preserve_state(model):
        model.encoder.register_forward_hook(leaf)
        gradients = iter(gradients_of(score(model(pixel_values).logits, target, model.config), grids))
        seen = iter(grids)
        maps = pixel_values.new_zeros(len(pixel_values), *pixel_values.shape[-2:], dtype=torch.float32)
        for canvas, pixels in zip(maps, pixel_values, strict=True):
            for pictures, boxes in model.inputs(pixels[None]):
                tokens, gradient = (one.detach().float().permute(0, 2, 3, 1) for one in (next(seen), next(gradients)))
                _add(canvas, rule(tokens, gradient), pictures.shape[-2:], boxes)
    return maps


def _add(
    canvas: torch.Tensor, maps: torch.Tensor, seen: Sequence[int], boxes: Sequence[tuple[int, int, int, int]]
) -> None:
    """Add maps (pictures, rows, columns) to the parts of a canvas that the pictures of size ``seen`` show."""
    cells = maps.shape[-2] * maps.shape[-1]
    fine = upsampled(maps.cpu(), (seen[0], seen[1])).to(canvas.device)
    for one, (top, left, bottom, right) in zip(fine, boxes, strict=True):
        size = bottom - top, right - left
        (height, width), (above, before) = fitted(size, (seen[0], seen[1]))
        shown = one[above : above + height, before : before + width]
        if (height, width) != size:  # a whole view, smaller than what it shows
            shown = functional.interpolate(shown[None, None], size=size, mode="bilinear", align_corners=False)[0, 0]
        canvas[top:bottom, left:right] += shown * cells / (size[0] * size[1])
