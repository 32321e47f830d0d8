"""Checkpoints of the Swin and SimMIM repositories: their weights under transformers' names, and their configuration."""

from __future__ import annotations

import math
import re
from collections import OrderedDict
from pathlib import Path
from typing import Any

import torch

from ..errors import UsageError

State = dict[str, torch.Tensor]

# the names of the Swin and SimMIM repositories' checkpoints, and those of transformers' modules
_SIMMIM_NAMES = (
    (r"^patch_embed\.proj\.", "embeddings.patch_embeddings.projection."),
    (r"^patch_embed\.norm\.", "embeddings.norm."),
    (r"^mask_token$", "embeddings.mask_token"),
    (r"^absolute_pos_embed$", "embeddings.position_embeddings"),
    (r"^norm\.", "layernorm."),
    (r"^layers\.", "encoder.layers."),
    (r"\.norm1\.", ".layernorm_before."),
    (r"\.norm2\.", ".layernorm_after."),
    (r"\.attn\.proj\.", ".attention.o_proj."),
    (r"\.attn\.relative_position_bias_table$", ".attention.relative_position_bias.relative_position_bias_table"),
)


def simmim_state(path: Path) -> State:
    """A checkpoint of the Swin or SimMIM repositories, under the names of our masked image model.

    Raises:
        UsageError: It is none.
    """
    try:
        # SimMIM saves its settings with the weights, a dictionary of a class that need not be installed here
        with torch.serialization.safe_globals([(OrderedDict, "yacs.config.CfgNode")]):
            stored = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:
        raise UsageError("cannot be read as a PyTorch checkpoint", source=path) from error
    stored = stored.get("model", stored) if isinstance(stored, dict) else {}
    if not any(key.endswith("patch_embed.proj.weight") for key in stored):
        raise UsageError("no Swin's names in this checkpoint", source=path, remedy="give a Swin or SimMIM checkpoint")
    state: State = {}
    for key, value in stored.items():
        name = key.removeprefix("encoder.")
        if re.search(r"relative_position_index|attn_mask|^head\.|relative_coords_table", name):
            continue
        if name.startswith("decoder."):
            state[name] = value
        elif ".attn.qkv." in name:
            kind = name.rsplit(".", 1)[1]
            block = "swin.encoder." + name.split(".attn.qkv.")[0]
            for letter, part in zip("qkv", value.chunk(3), strict=True):
                state[f"{block}.attention.{letter}_proj.{kind}"] = part
        else:
            for pattern, replacement in _SIMMIM_NAMES:
                name = re.sub(pattern, replacement, name)
            state[f"swin.{name}"] = value
    return state


def simmim_config(path: Path) -> dict[str, Any]:
    """The configuration that the shapes of a Swin or SimMIM checkpoint tell."""
    state = simmim_state(path)
    blocks = [re.match(r"swin\.encoder\.layers\.(\d+)\.blocks\.(\d+)\.layernorm_before\.weight", key) for key in state]
    places = [(int(match[1]), int(match[2])) for match in blocks if match]
    stages = 1 + max(stage for stage, _ in places)
    tables = [
        state[f"swin.encoder.layers.{stage}.blocks.0.attention.relative_position_bias.relative_position_bias_table"]
        for stage in range(stages)
    ]
    projection = state["swin.embeddings.patch_embeddings.projection.weight"]
    config = {
        "embed_dim": projection.shape[0],
        "num_channels": projection.shape[1],
        "patch_size": projection.shape[2],
        "depths": [1 + max(block for stage, block in places if stage == wanted) for wanted in range(stages)],
        "num_heads": [table.shape[1] for table in tables],
        "window_size": (math.isqrt(len(tables[0])) + 1) // 2,
        "use_absolute_embeddings": "swin.embeddings.position_embeddings" in state,
    }
    # the image's size leaves no trace but in a table of absolute positions, which was square
    positions = state.get("swin.embeddings.position_embeddings")
    side = config["window_size"] * 2 ** (stages - 1) if positions is None else math.isqrt(positions.shape[1])
    return config | {"image_size": (side * projection.shape[2],) * 2}
