"""Where an encoder starts from: any Swin checkpoint, of other channels, another image size or another window."""

from __future__ import annotations

import logging
import math
import re
from pathlib import Path
from typing import Any

import torch
from torch.nn import functional
from transformers import PreTrainedModel

from ..configuration_mammo_swin import MammoSwinConfig
from ..errors import UsageError
from ..modeling_mammo_swin import MammoSwinForMaskedImageModeling
from .loading import load_model

logger = logging.getLogger(__name__)

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


def load_starting_weights(network: PreTrainedModel, source: str | Path) -> list[str]:
    """Loads what a checkpoint has into a masked image model, adapted to its channels, image size and window.

    Args:
        network: Ours, of the checkpoint's widths and depths.
        source: A folder with a Swin's ``config.json``, of stock transformers or ours, or a ``.pth`` file of the Swin or
            SimMIM repositories.

    Returns:
        The names of the parameters that the checkpoint has not; also logged.

    Raises:
        UsageError: A checkpoint of another width, depth or architecture.
    """
    state = simmim_state(Path(source)) if Path(source).is_file() else _state_of_folder(Path(source))
    target = network.state_dict()
    adapted = {name: _adapted(name, state[name], target[name]) for name in target if name in state}
    fitting = {name: value for name, value in adapted.items() if value is not None}
    wrong = [name for name in adapted if name not in fitting and name.startswith("swin.")]
    if wrong:
        raise UsageError(
            f"{wrong[0]} has shape {tuple(state[wrong[0]].shape)}, the model's {tuple(target[wrong[0]].shape)}",
            source=source,
            remedy="give a model of the checkpoint's widths and depths",
        )
    network.load_state_dict(fitting, strict=False)
    new = [name for name in target if name not in fitting]
    logger.info("%s: %d tensors taken, new: %s", Path(source).name, len(fitting), ", ".join(new) or "nothing")
    return new


def _state_of_folder(folder: Path) -> State:
    config = MammoSwinConfig.from_pretrained(folder)
    # transformers knows both the names that it saves and those that it has in memory
    loaded: Any = load_model(MammoSwinForMaskedImageModeling, folder, config=config, output_loading_info=True)
    network, info = loaded
    return {name: value for name, value in network.state_dict().items() if name not in info["missing_keys"]}


def simmim_state(path: Path) -> State:
    """A checkpoint of the Swin or SimMIM repositories, under the names of our masked image model.

    Raises:
        UsageError: It is none.
    """
    try:
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
    return {
        "embed_dim": projection.shape[0],
        "num_channels": projection.shape[1],
        "patch_size": projection.shape[2],
        "depths": [1 + max(block for stage, block in places if stage == wanted) for wanted in range(stages)],
        "num_heads": [table.shape[1] for table in tables],
        "window_size": (math.isqrt(len(tables[0])) + 1) // 2,
        "use_absolute_embeddings": "swin.embeddings.position_embeddings" in state,
    }


def _adapted(name: str, value: torch.Tensor, target: torch.Tensor) -> torch.Tensor | None:
    """A tensor in the target's shape, or ``None`` where nothing sensible leads there."""
    if value.shape == target.shape:
        return value
    if name.endswith("patch_embeddings.projection.weight") and value.shape[2:] == target.shape[2:]:
        return _other_channels(value, target.shape[1]) if value.shape[0] == target.shape[0] else None
    if name.endswith("relative_position_bias_table") and value.shape[1] == target.shape[1]:
        return _resized(value.t()[None], math.isqrt(value.shape[0]), math.isqrt(target.shape[0]))[0].t()
    return None


def _other_channels(weight: torch.Tensor, channels: int) -> torch.Tensor:
    """Summed over the channels and divided equally, so that a grey image gives equal features."""
    return (weight.sum(1, keepdim=True) / channels).expand(-1, channels, -1, -1).clone()


def _resized(values: torch.Tensor, old: int, new: int) -> torch.Tensor:
    """(1, channels, old * old) to (1, channels, new * new), bicubic as the Swin repository does it."""
    square = values.float().unflatten(2, (old, old))
    return functional.interpolate(square, size=(new, new), mode="bicubic", align_corners=True).flatten(2)
