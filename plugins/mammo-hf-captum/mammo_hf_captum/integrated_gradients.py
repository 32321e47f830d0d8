"""Integrated gradients by captum (Sundararajan et al. 2017, arXiv 1703.01365), with their completeness error.

What each patch adds to the score on the straight way from a black image. The sum over all patches should be the score
less the black image's; by how much it is not, of that difference, is reported: above a tenth, take more steps.
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
    model: PreTrainedModel, pixel_values: torch.Tensor, target: Sequence[int], *, steps: int = 32
) -> tuple[torch.Tensor, dict[str, list[float]]]:
    """(batch, height / 4, width / 4), below 0 where a patch speaks against; and the completeness error.

    Args:
        model: A classifier.
        pixel_values: (batch, channels, height, width), normalised; sides are multiples of 4.
        target: For each image an index into the logits.
        steps: Points on the way from black.
    """
    from captum.attr import IntegratedGradients

    black = pixel_values.amin(dim=(1, 2, 3), keepdim=True).expand_as(pixel_values)
    with lent(model):
        scores = score_of(model, target)
        attributions, gaps = IntegratedGradients(scores).attribute(
            pixel_values, black, n_steps=steps, internal_batch_size=8 * len(target), return_convergence_delta=True
        )
        with torch.no_grad():
            whole = scores(pixel_values) - scores(black)
    errors = gaps.abs().float() / whole.abs().float().clamp(min=1e-6)
    return over_patches(attributions), {"completeness error": errors.tolist()}
