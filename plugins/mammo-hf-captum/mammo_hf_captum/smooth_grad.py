"""SmoothGrad by captum (Smilkov et al. 2017, arXiv 1706.03825): gradients of noisy copies of the image, averaged."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from transformers import PreTrainedModel

from mammo_hf.explainers import preserve_state

from .common import REQUIRES as REQUIRES
from .common import available as available
from .common import over_patches, score_of


def explain_map(
    model: PreTrainedModel,
    pixel_values: torch.Tensor,
    target: Sequence[int],
    *,
    samples: int = 16,
    noise: float = 0.15,
    seed: int = 0,
) -> torch.Tensor:
    """Return maps (batch, height / 4, width / 4), 0 or more: the mean absolute gradient.

    Args:
        model: Classifier to explain.
        pixel_values: Normalised images (batch, channels, height, width); sides are multiples of 4.
        target: Index into the logits for each image.
        samples: Number of noisy copies of an image.
        noise: Standard deviation of the noise, as a fraction of the image's range.
        seed: Seed of the noise, the same for each image of a batch, so that a batch equals its images one by one.
    """
    spread = noise * (pixel_values.amax(dim=(1, 2, 3)) - pixel_values.amin(dim=(1, 2, 3)))
    generator = torch.Generator().manual_seed(seed)
    total = torch.zeros_like(pixel_values, dtype=torch.float32)
    from captum.attr import Saliency

    with preserve_state(model):
        saliency = Saliency(score_of(model, target))
        for _ in range(samples):
            drawn = torch.randn(pixel_values.shape[1:], generator=generator).to(pixel_values)
            noisy = pixel_values + spread[:, None, None, None] * drawn
            total += saliency.attribute(noisy.requires_grad_(True), abs=True).float()
    return over_patches(total / samples)
