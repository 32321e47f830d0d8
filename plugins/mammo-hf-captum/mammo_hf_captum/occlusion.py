"""Occlusion by captum: how far the score falls when a square is painted black (Zeiler and Fergus 2013, 1311.2901).

mammo_hf's own ``occlusion`` hides squares by their surroundings; this one by black, which is itself a visible
structure. If both agree, the way of hiding does not matter.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from transformers import PreTrainedModel

from mammo_hf.explainers import preserve_state

from .common import REQUIRES as REQUIRES
from .common import available as available
from .common import over_patches, score_of


def explain_map(
    model: PreTrainedModel, pixel_values: torch.Tensor, target: Sequence[int], *, side: int = 16
) -> torch.Tensor:
    """Return maps (batch, height / 4, width / 4), negative if the score rises.

    Args:
        model: Classifier to explain.
        pixel_values: Normalised images (batch, channels, height, width); sides are multiples of 4.
        target: Index into the logits for each image.
        side: Side of a square in pixels; the distance of squares is half of that.
    """
    from captum.attr import Occlusion

    channels = pixel_values.shape[1]
    black = pixel_values.amin(dim=(1, 2, 3), keepdim=True).expand_as(pixel_values)
    with preserve_state(model), torch.no_grad():
        attributions = Occlusion(score_of(model, target)).attribute(
            pixel_values,
            sliding_window_shapes=(channels, side, side),
            strides=(channels, side // 2, side // 2),
            baselines=black,
            perturbations_per_eval=8,
        )
    return over_patches(attributions)
