"""Occlusion: how far the score falls when a square is hidden (Zeiler and Fergus 2014, arXiv 1311.2901, section 4.2).

Slow, and a reference for the others because it asks nothing but the score: no gradient, no attention, any classifier.
A square is not painted grey, which would itself be a thing to see, but shows the mean of what lies around it.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch.nn import functional
from transformers import PreTrainedModel

from ..errors import UsageError
from .swin import lent
from .targets import scores

REQUIRES: tuple[str, ...] = ()
STEPS = 14  # places from top to bottom, at least, where nothing else is asked for
BATCH = 32


def available() -> bool:
    """Whether it can run here: it needs nothing but what mammo_hf needs."""
    return True


def explain_map(
    model: PreTrainedModel, pixel_values: torch.Tensor, target: Sequence[int], *, step: int | None = None
) -> torch.Tensor:
    """(batch, height / step, width / step): how far the score falls; below 0 where it rises.

    Args:
        model: A classifier of any architecture.
        pixel_values: (batch, channels, height, width), normalised.
        target: For each image an index into the logits.
        step: Distance between squares in pixels; a square's side is twice that. Where not given, the largest that
            divides height and width and has 14 places or more from top to bottom.

    Raises:
        UsageError: The step is no whole number of pixels that fits into the image.
    """
    height, width = pixel_values.shape[-2:]
    step = _even_step(height, width) if step is None else step
    if not isinstance(step, int) or not 1 <= step <= min(height, width):
        raise UsageError(
            f"is {step!r}", source="step", remedy=f"give a whole number of pixels from 1 to {min(height, width)}"
        )
    places = [(row, column) for row in range(0, height, step) for column in range(0, width, step)]
    with lent(model), torch.no_grad():
        whole = scores(model(pixel_values).logits, target, model.config).float()
        maps = [
            _falls(model, image, index, full, places, step)
            for image, index, full in zip(pixel_values, target, whole, strict=True)
        ]
    return torch.stack(maps).unflatten(1, (-(-height // step), -(-width // step)))


def _even_step(height: int, width: int) -> int:
    common = math.gcd(height, width)
    return max(step for step in range(1, max(height // STEPS, 1) + 1) if common % step == 0)


def _falls(
    model: PreTrainedModel,
    image: torch.Tensor,
    target: int,
    whole: torch.Tensor,
    places: list[tuple[int, int]],
    step: int,
) -> torch.Tensor:
    """(places,): the fall of one image's score when the square around each step x step cell is hidden."""
    around = functional.avg_pool2d(
        image[None].float(), 4 * step + 1, stride=1, padding=2 * step, count_include_pad=False
    )[0].to(image.dtype)
    falls = []
    for start in range(0, len(places), BATCH):
        part = places[start : start + BATCH]
        hidden = image.repeat(len(part), 1, 1, 1)
        for copy, (row, column) in zip(hidden, part, strict=True):
            square = (
                slice(None),
                slice(max(row - step // 2, 0), row + step + step // 2),
                slice(max(column - step // 2, 0), column + step + step // 2),
            )
            copy[square] = around[square]
        falls.append(whole - scores(model(hidden).logits, [target] * len(part), model.config).float())
    return torch.cat(falls)
