"""Grad-CAM: a stage's channels weighted by the target's gradient, kept spatial (Selvaraju et al. 2017, 1610.02391)."""

from __future__ import annotations

import torch
from transformers import PreTrainedModel, SwinConfig

from .model_state import lent
from .swin_taps import feature_tap
from .swin_windows import stage_grids
from .targets import score

REQUIRES: tuple[str, ...] = ()
FINE_ENOUGH = 14  # rows of a grid that still shows a lesion's place


def available() -> bool:
    """Whether it can run here: it needs nothing but what mammo_hf needs."""
    return True


def explain_map(model: PreTrainedModel, pixel_values: torch.Tensor, target: list[int]) -> torch.Tensor:
    """(batch, rows, columns): positive part of the sum of channels, each weighted by its gradient's spatial mean.

    Equations 1 and 2 of the paper. Gradients flow through what lies behind the stage alone.
    """
    size = (pixel_values.shape[-2], pixel_values.shape[-1])
    with lent(model), feature_tap(model, size, default_stage(model.config, *size)) as tap:
        logits = model(pixel_values).logits
        (gradient,) = torch.autograd.grad(score(logits, target, model.config), tap.tokens)
    weights = gradient.float().mean(dim=1, keepdim=True)
    return (tap.tokens.detach().float() * weights).sum(-1).relu().unflatten(1, tap.grid)


def default_stage(config: SwinConfig, height: int, width: int) -> int:
    """The last stage whose grid has at least 14 rows; where none has, the first, which is the finest."""
    fine = [stage for stage, (rows, _) in enumerate(stage_grids(config, height, width)) if rows >= FINE_ENOUGH]
    return fine[-1] if fine else 0
