"""The input gradient: how strongly the score reacts to each pixel (Simonyan et al. 2013, arXiv 1312.6034).

An explainer for mammo_hf in one module. Both labels of a task with two labels have the same map: what lowers the score
of one raises that of the other.
"""

from __future__ import annotations

import torch
from torch.nn import functional
from transformers import PreTrainedModel

from mammo_hf.explainers import preserve_state, score

REQUIRES: tuple[str, ...] = ()

# the gradient at single pixels is speckled, since patches are embedded one by one: it is averaged over a patch
PATCH = 4


def available() -> bool:
    """Return whether it can run here: it needs only what mammo_hf needs."""
    return True


def explain_map(model: PreTrainedModel, pixel_values: torch.Tensor, target: list[int]) -> torch.Tensor:
    """Return the absolute gradient of each target's score, summed over channels and averaged over patches of 4 x 4.

    Args:
        model: Classifier to explain.
        pixel_values: Normalised images (batch, channels, height, width); sides are multiples of 4.
        target: Index into the logits for each image.

    Returns:
        Maps (batch, height / 4, width / 4), zero or positive.
    """
    with preserve_state(model):
        pixels = pixel_values.detach().clone().requires_grad_(True)
        logits = model(pixels).logits
        (gradient,) = torch.autograd.grad(score(logits, target, model.config), pixels)
    strength = gradient.float().abs().sum(dim=1, keepdim=True)
    return functional.avg_pool2d(strength, PATCH)[:, 0]
