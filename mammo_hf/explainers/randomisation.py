"""The sanity check: a map that stays as it is when the model's weights are replaced does not explain the model.

Adebayo et al. 2018 (arXiv 1810.03292): weights are drawn anew from the classifier down, one part more at each step.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator

import numpy as np
import torch
from scipy import stats
from transformers import PreTrainedModel


def cascade(model: PreTrainedModel, seed: int = 0) -> Iterator[tuple[str, PreTrainedModel]]:
    """Copies of a Swin classifier, each with one part more drawn anew, from the classifier down to the patches.

    Args:
        model: Left as it is.
        seed: Of the new weights.

    Yields:
        The name of the part that was drawn last, and the copy, which is the same object each time.
    """
    other = copy.deepcopy(model)
    parts = [("classifier", [other.classifier, other.swin.layernorm])]
    stages = list(enumerate(other.swin.encoder.layers, start=1))
    parts += [(f"stage {number}", [stage]) for number, stage in reversed(stages)]
    parts += [("patches", [other.swin.embeddings])]
    if getattr(other, "lesion_head", None) is not None:
        parts[0][1].append(other.lesion_head)
    for step, (name, modules) in enumerate(parts):
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed + step)
            for module in modules:
                _draw_anew(module)
        yield name, other


def untrained(model: PreTrainedModel, seed: int = 0) -> PreTrainedModel:
    """A copy whose every part is drawn anew."""
    *_, (_, other) = cascade(model, seed)
    return other


def rank_correlation(one: np.ndarray, other: np.ndarray, breast: np.ndarray) -> float:
    """Spearman's correlation of two maps (height, width) inside the breast; 0 where one of them is flat."""
    first, second = one[breast > 0], other[breast > 0]
    if first.size < 2 or np.ptp(first) == 0 or np.ptp(second) == 0:
        return 0.0
    return float(stats.spearmanr(first, second).statistic)


@torch.no_grad()
def _draw_anew(module: torch.nn.Module) -> None:
    """Weights of the spread that they had: fresh ones from the initial, tiny spread would flatten every map."""
    for part in module.modules():
        if isinstance(part, torch.nn.LayerNorm):
            part.reset_parameters()
            continue
        for parameter in part.parameters(recurse=False):
            parameter.normal_(0.0, float(parameter.std()) or 0.02) if parameter.ndim > 1 else parameter.zero_()
