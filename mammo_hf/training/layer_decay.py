"""Layer-wise learning-rate decay: the nearer to the pixels, the smaller the step (Bao et al. 2022, BEiT, section 3)."""

from __future__ import annotations

import re
from collections import defaultdict
from typing import Any

from torch import nn


def layer_depth(name: str, depths: list[int]) -> int:
    """How far a Swin's parameter is from the pixels.

    Args:
        name: Of the parameter in a model with a ``swin``.
        depths: Blocks of each stage.

    Returns:
        0 for the embeddings, then one more with each block; a patch merging counts to the block before it, everything
        above the encoder one more than the last block.
    """
    if ".embeddings." in f".{name}":
        return 0
    stage = re.search(r"encoder\.layers\.(\d+)\.", name)
    if stage is None:
        return sum(depths) + 1
    before = sum(depths[: int(stage[1])])
    block = re.search(r"\.blocks\.(\d+)\.", name)
    return before + (depths[int(stage[1])] if block is None else 1 + int(block[1]))


def parameter_groups(
    network: nn.Module, depths: list[int], *, learning_rate: float, weight_decay: float, layer_decay: float
) -> list[dict[str, Any]]:
    """Groups for an optimiser: learning rate by depth; no weight decay on biases, norms, tokens and position tables.

    Args:
        network: Its trainable parameters are grouped.
        depths: Blocks of each stage.
        learning_rate: Of what stands above the encoder.
        weight_decay: Of matrices and kernels.
        layer_decay: Factor in (0, 1] from one layer to the one below.
    """
    groups: dict[tuple[int, bool], list[nn.Parameter]] = defaultdict(list)
    for name, parameter in network.named_parameters():
        if parameter.requires_grad:
            spared = parameter.ndim < 2 or name.endswith(("_token", "position_embeddings", "position_bias_table"))
            groups[layer_depth(name, depths), spared].append(parameter)
    top = sum(depths) + 1
    return [
        {
            "params": parameters,
            "lr": learning_rate * layer_decay ** (top - depth),
            "weight_decay": 0.0 if spared else weight_decay,
        }
        for (depth, spared), parameters in sorted(groups.items(), key=lambda item: item[0])
    ]
