"""The common parts of the three explainers: a check for captum, the score as a function, and maps over patches."""

from __future__ import annotations

import importlib.util
from collections.abc import Callable, Sequence

import torch
from torch.nn import functional
from transformers import PreTrainedModel

from mammo_hf.explainers import score

REQUIRES: tuple[str, ...] = ("captum",)
PATCH = 4  # attributions of single pixels are speckled, and a Swin sees patches of 4 x 4


def available() -> bool:
    """Return whether captum is installed, without importing it, which would take seconds."""
    return importlib.util.find_spec("captum") is not None


def score_of(model: PreTrainedModel, target: Sequence[int]) -> Callable[[torch.Tensor], torch.Tensor]:
    """Return a function from (images, channels, height, width) to scores; captum repeats a batch as a whole."""
    indices = list(target)

    def scores(pixels: torch.Tensor) -> torch.Tensor:
        logits = model(pixels).logits
        repeated = indices * (len(pixels) // len(indices))
        rows = zip(logits.split(1), repeated, strict=True)
        return torch.stack([score(row, [index], model.config) for row, index in rows])

    return scores


def over_patches(attributions: torch.Tensor) -> torch.Tensor:
    """Sum (batch, channels, height, width) over channels and average over patches: (batch, height / 4, width / 4)."""
    return functional.avg_pool2d(attributions.detach().float().sum(dim=1, keepdim=True), PATCH)[:, 0]
