"""Input gradient: how strongly the score answers to each pixel (Simonyan et al. 2013, arXiv 1312.6034)."""

from __future__ import annotations

import torch
from torch.nn import functional
from transformers import PreTrainedModel

from mammo_hf.explainers.model_state import lent
from mammo_hf.explainers.targets import score

REQUIRES: tuple[str, ...] = ()

# pixel gradients of a patch-wise model are speckled: neighbours are averaged over one patch
PATCH = 4


def available() -> bool:
    """Whether it can run here; it needs nothing but what mammo_hf needs."""
    return True


def explain_map(model: PreTrainedModel, pixel_values: torch.Tensor, target: list[int]) -> torch.Tensor:
    """The absolute gradient of each target's score, averaged over patches.

    Args:
        model: A classifier.
        pixel_values: (batch, channels, height, width).
        target: For each image an index into the logits.

    Returns:
        (batch, height / 4, width / 4).
    """
    with lent(model):
        pixels = pixel_values.detach().requires_grad_(True)
        (gradient,) = torch.autograd.grad(score(model(pixels).logits, target, model.config), pixels)
    return functional.avg_pool2d(gradient.float().abs().sum(1, keepdim=True), PATCH)[:, 0]
