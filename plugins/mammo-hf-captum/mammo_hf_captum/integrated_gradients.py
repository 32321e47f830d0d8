"""Integrated gradients by captum (Sundararajan et al. 2017, arXiv 1703.01365), with their completeness error.

The contribution of each patch to the score along the straight line from a black image. The sum over all patches should
be the score minus the black image's; the completeness error is its deviation, as a fraction of that difference. Take
more steps if it is above 0.1.
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
    model: PreTrainedModel, pixel_values: torch.Tensor, target: Sequence[int], *, steps: int = 32
) -> tuple[torch.Tensor, dict[str, list[float]]]:
    """Return maps (batch, height / 4, width / 4), negative for evidence against, and the completeness error.

    Args:
        model: Classifier to explain.
        pixel_values: Normalised images (batch, channels, height, width); sides are multiples of 4.
        target: Index into the logits for each image.
        steps: Number of points on the line from black.
    """
    from captum.attr import IntegratedGradients

    black = pixel_values.amin(dim=(1, 2, 3), keepdim=True).expand_as(pixel_values)
    with preserve_state(model):
        scores = score_of(model, target)
        attributions, gaps = IntegratedGradients(scores).attribute(
            pixel_values, black, n_steps=steps, internal_batch_size=8 * len(target), return_convergence_delta=True
        )
        with torch.no_grad():
            whole = scores(pixel_values) - scores(black)
    errors = gaps.abs().float() / whole.abs().float().clamp(min=1e-6)
    return over_patches(attributions), {"completeness error": errors.tolist()}
