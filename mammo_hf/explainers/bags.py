"""Maps of a head over features: its attention over tiles, and gradients through whatever grid its encoder gives.

The model is a head with its encoder (`mammo_hf.encoders.classifier.BagClassifier`); the map is on the pixels at the
spacing of its tiles, and `Explanation.in_source` brings it to those of the file.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch.nn import functional

from ..encoders.classifier import BagClassifier
from ..errors import UsageError
from ..processing.geometry import fitted
from .explain import explainer, upsampled
from .swin import preserve_state
from .targets import gradients_of, score


@explainer
def bag_attention(model: Any, pixel_values: torch.Tensor, target: Sequence[int]) -> torch.Tensor:
    """Return how much attention a head over features gives to each tile (Ilse et al. 2018, arXiv 1802.04712).

    The attention of a tile is spread over its square as a pyramid with the peak at its centre, and added where tiles
    overlap. It does not depend on the target: attention is the same for every label. The whole view has none.

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
    side = model.encoder.tile
    slope = 1 - ((torch.arange(side, device=attentions.device) + 0.5) * 2 / side - 1).abs()
    pyramid = slope[:, None] * slope / slope.sum() ** 2
    maps = attentions.new_zeros(len(pixel_values), *pixel_values.shape[-2:])
    for canvas, pixels, weights in zip(maps, pixel_values, attentions, strict=True):
        corners = model.tiles(pixels[0])
        first = int(model.views.tiles == "both")  # after the whole view
        for (row, column), weight in zip(corners, weights[first : first + len(corners)], strict=True):
            canvas[row : row + side, column : column + side] += weight * pyramid
    return maps


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
