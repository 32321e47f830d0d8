"""Occlusion by captum: how far the score falls when a square is painted black (Zeiler and Fergus 2013, 1311.2901).

mammo_hf's own ``occlusion`` hides squares by what lies around them; this one by black, which is itself a thing to see.
Where both agree, the way of hiding does not matter.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from transformers import PreTrainedModel

from mammo_hf.explainers import lent

from .common import REQUIRES as REQUIRES
from .common import available as available
from .common import over_patches, score_of


def explain_map(
    model: PreTrainedModel, pixel_values: torch.Tensor, target: Sequence[int], *, side: int = 16
) -> torch.Tensor:
    """(batch, height / 4, width / 4), below 0 where the score rises.

    Args:
        model: A classifier.
        pixel_values: (batch, channels, height, width), normalised; sides are multiples of 4.
        target: For each image an index into the logits.
        side: Of a square in pixels; squares are half of that apart.
    """
    from captum.attr import Occlusion

    channels = pixel_values.shape[1]
    black = pixel_values.amin(dim=(1, 2, 3), keepdim=True).expand_as(pixel_values)
    with lent(model), torch.no_grad():
        attributions = Occlusion(score_of(model, target)).attribute(
            pixel_values,
            sliding_window_shapes=(channels, side, side),
            strides=(channels, side // 2, side // 2),
            baselines=black,
            perturbations_per_eval=8,
        )
    return over_patches(attributions)
