"""Grad-CAM: a stage's channels weighted by the target's gradient, kept spatial (Selvaraju et al. 2017, 1610.02391)."""

from __future__ import annotations

from typing import Any

import torch
from transformers import PreTrainedModel

from .model_state import lent
from .targets import score

REQUIRES: tuple[str, ...] = ()
FINE_ENOUGH = 14  # rows of a grid that still shows a lesion's place


def available() -> bool:
    """Whether it can run here."""
    return True


def explain_map(model: PreTrainedModel, pixel_values: torch.Tensor, target: list[int]) -> torch.Tensor:
    """(batch, rows, columns): positive part of the sum of channels, each weighted by its mean gradient.

    The stage is the last whose grid has at least 14 rows, or the first. Gradients flow through what lies behind it
    alone.
    """
    caught: list[torch.Tensor] = []

    def keep(features: torch.Tensor) -> torch.Tensor:
        caught.append(features.detach().requires_grad_(True))
        return caught[-1]

    stage, grid = _stage(model.config, *pixel_values.shape[-2:])
    layers = model.swin.encoder.layers
    with lent(model):
        if stage == len(layers) - 1:
            handle = model.swin.layernorm.register_forward_hook(lambda module, inputs, output: keep(output))
        else:
            # before the tokens are merged, which would halve the grid
            handle = layers[stage].downsample.register_forward_pre_hook(
                lambda module, inputs: (keep(inputs[0]), *inputs[1:])
            )
        try:
            logits = model(pixel_values).logits
        finally:
            handle.remove()
        features = caught[-1]
        (gradient,) = torch.autograd.grad(score(logits, target, model.config), features)
    weights = gradient.float().mean(dim=1, keepdim=True)
    return (features.detach().float() * weights).sum(-1).relu().reshape(-1, *grid)


def _stage(config: Any, height: int, width: int) -> tuple[int, tuple[int, int]]:
    patch = config.patch_size if isinstance(config.patch_size, int) else config.patch_size[0]
    grid = (-(-height // patch), -(-width // patch))
    grids = [grid]
    for _ in config.depths[1:]:
        grids.append(((grids[-1][0] + 1) // 2, (grids[-1][1] + 1) // 2))
    fine = [index for index, (rows, _) in enumerate(grids) if rows >= FINE_ENOUGH]
    stage = fine[-1] if fine else 0
    return stage, grids[stage]
