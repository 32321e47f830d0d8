"""Attention of the last layer: how much each token is looked at, on the image plane.

The windows are put back in order and the shift is undone; the average over heads is taken at the end.
"""

from __future__ import annotations

import torch
from transformers import PreTrainedModel

from .model_state import lent
from .swin_windows import windows_of_last_block

REQUIRES: tuple[str, ...] = ()


def available() -> bool:
    """Whether it can run here."""
    return True


def explain_map(model: PreTrainedModel, pixel_values: torch.Tensor, target: list[int]) -> torch.Tensor:
    """(batch, rows, columns): the attention that each token receives, mean over queries and heads.

    It does not depend on the target: attention is the same whatever is asked.
    """
    with lent(model, eager=True), torch.no_grad():
        attention = model(pixel_values, output_attentions=True).attentions[-1]
    windows = windows_of_last_block(model.config, *pixel_values.shape[-2:])
    return windows.to_plane(attention.float().mean(dim=2)).mean(dim=1)
