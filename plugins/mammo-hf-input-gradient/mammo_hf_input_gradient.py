"""Input gradient: how strongly the score answers to each pixel (Simonyan et al. 2013, arXiv 1312.6034).

An explainer for mammo_hf in one module. Of a task with two labels both have the same map: what moves the one down
moves the other up.
"""

from __future__ import annotations

import torch
from torch.nn import functional
from transformers import PreTrainedModel

from mammo_hf.explainers import lent, score

REQUIRES: tuple[str, ...] = ()

# the gradient at single pixels is speckled, the more so as patches are embedded one by one: it is averaged over one
PATCH = 4


def available() -> bool:
    """Whether it can run here: it needs nothing but what mammo_hf needs."""
    return True


def explain_map(model: PreTrainedModel, pixel_values: torch.Tensor, target: list[int]) -> torch.Tensor:
    """The absolute gradient of each target's score, summed over channels and averaged over patches of 4 x 4.

    Args:
        model: A classifier.
        pixel_values: (batch, channels, height, width), normalised; sides are multiples of 4.
        target: For each image an index into the logits.

    Returns:
        (batch, height / 4, width / 4), zero or positive.
    """
    with lent(model):
        pixels = pixel_values.detach().clone().requires_grad_(True)
        logits = model(pixels).logits
        (gradient,) = torch.autograd.grad(score(logits, target, model.config), pixels)
    strength = gradient.float().abs().sum(dim=1, keepdim=True)
    return functional.avg_pool2d(strength, PATCH)[:, 0]
