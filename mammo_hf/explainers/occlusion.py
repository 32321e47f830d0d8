"""Occlusion: how far the score falls when a square is hidden (Zeiler and Fergus 2014, arXiv 1311.2901, section 4.2).

Slow, and a reference for the other explainers because it uses nothing but the score: no gradient, no attention, any
classifier. A square is not painted grey, which would be a thing to see in itself, but shows the mean of its
surroundings.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch.nn import functional
from transformers import PreTrainedModel

from ..errors import UsageError
from .explain import explainer
from .swin import preserve_state
from .targets import scores

STEPS = 14  # squares from top to bottom, at least, if no step is given
BATCH = 32


@explainer
def occlusion(
    model: PreTrainedModel, pixel_values: torch.Tensor, target: Sequence[int], *, step: int | None = None
) -> torch.Tensor:
    """Return how far the score falls when a square is hidden (Zeiler and Fergus 2014, arXiv 1311.2901).

    Args:
        model: A classifier of any architecture.
        pixel_values: Normalised images (batch, channels, height, width).
        target: The index into the logits that is explained, per image.
        step: Distance between squares in pixels; a square's side is twice that. By default the largest one that leaves
            14 squares or more from top to bottom and, if one above half of that does, divides height and width.

    Returns:
        (batch, height / step, width / step), below 0 where the score rises.

    Raises:
        UsageError: The step is not a whole number of pixels that fits into the image.
    """
    height, width = pixel_values.shape[-2:]
    step = _even_step(height, width) if step is None else step
    if not isinstance(step, int) or not 1 <= step <= min(height, width):
        raise UsageError(
            f"is {step!r}", source="step", remedy=f"give a whole number of pixels from 1 to {min(height, width)}"
        )
    corners = [(row, column) for row in range(0, height, step) for column in range(0, width, step)]
    with preserve_state(model), torch.no_grad():
        whole = scores(model(pixel_values).logits, target, model.config).float()
        maps = [
            _falls(model, image, index, full, corners, step)
            for image, index, full in zip(pixel_values, target, whole, strict=True)
        ]
    return torch.stack(maps).unflatten(1, (-(-height // step), -(-width // step)))


def _even_step(height: int, width: int) -> int:
    common = math.gcd(height, width)
    most = max(height // STEPS, 1)
    even = max(step for step in range(1, most + 1) if common % step == 0)
    return even if 2 * even > most else most  # no side of a picture at a fixed spacing is a round number


def _falls(
    model: PreTrainedModel,
    image: torch.Tensor,
    target: int,
    whole: torch.Tensor,
    corners: list[tuple[int, int]],
    step: int,
) -> torch.Tensor:
    """Return the fall of one image's score for each hidden square around a step x step cell, (cells,)."""
    surroundings = functional.avg_pool2d(
        image[None].float(), 4 * step + 1, stride=1, padding=2 * step, count_include_pad=False
    )[0].to(image.dtype)
    falls = []
    for start in range(0, len(corners), BATCH):
        part = corners[start : start + BATCH]
        hidden = image.repeat(len(part), 1, 1, 1)
        for copy, (row, column) in zip(hidden, part, strict=True):
            down = slice(max(row - step // 2, 0), row + step + step // 2)
            across = slice(max(column - step // 2, 0), column + step + step // 2)
            copy[:, down, across] = surroundings[:, down, across]
        falls.append(whole - scores(model(hidden).logits, [target] * len(part), model.config).float())
    return torch.cat(falls)
