"""Where an encoder starts from: any Swin checkpoint, of other channels, another image size or another window."""

from __future__ import annotations

import logging
import math
from pathlib import Path
from typing import Any

import torch
from torch.nn import functional
from transformers import PreTrainedModel

from ..configuration_mammo_swin import MammoSwinConfig
from ..errors import UsageError
from .loading import load_model
from .simmim_checkpoint import State, simmim_config, simmim_state

logger = logging.getLogger(__name__)

HEADS = ("classifier.", "lesion_head.")


def load_starting_weights(network: PreTrainedModel, source: str | Path) -> list[str]:
    """Loads what a checkpoint has into a model, adapted to its channels, image size and window.

    Args:
        network: Ours, for masked image modelling or classification, of the checkpoint's widths and depths.
        source: A folder with a Swin's ``config.json``, of stock transformers or ours, or a ``.pth`` file of the Swin or
            SimMIM repositories.

    Returns:
        The names of the parameters that the checkpoint has not; also logged.

    Raises:
        UsageError: A checkpoint of another width, depth or architecture.
        DataError: A damaged one.
    """
    path = Path(source)
    config = MammoSwinConfig(**simmim_config(path)) if path.is_file() else MammoSwinConfig.from_pretrained(path)
    state = simmim_state(path) if path.is_file() else _state_of_folder(path, type(network), config)
    if config.tasks != network.config.tasks:
        # rows of a head of the same shape would stand for other labels
        state = {name: value for name, value in state.items() if not name.startswith(HEADS)}
    target = network.state_dict()
    grids = [_grid(config), _grid(network.config)]
    adapted = {name: _adapted(name, state[name], target[name], grids) for name in target if name in state}
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
    logger.info("%s: %d tensors taken, new: %s", path.name, len(fitting), ", ".join(new) or "nothing")
    return new


def kind_of_start(source: str | Path) -> str:
    """What training starts from, for the records: "masked_image_modeling", "classifier", or another "checkpoint"."""
    if Path(source).is_file():
        return "checkpoint"
    config = MammoSwinConfig.from_pretrained(source)
    made_by = " ".join(config.architectures or ())
    if "ForMaskedImageModeling" in made_by:
        return "masked_image_modeling"
    return "classifier" if "MammoSwinForImageClassification" in made_by else "checkpoint"


def _state_of_folder(folder: Path, kind: type[PreTrainedModel], config: MammoSwinConfig) -> State:
    # transformers knows both the names that it saves and those that it has in memory
    loaded: Any = load_model(kind, folder, config=config, output_loading_info=True)
    network, info = loaded
    return {name: value for name, value in network.state_dict().items() if name not in info["missing_keys"]}


def _grid(config: MammoSwinConfig) -> tuple[int, int]:
    """(rows, columns) of patches of a configuration's own image size."""
    height, width = config.image_size
    return config.stage_grids(height, width)[0]


def _adapted(name: str, value: torch.Tensor, target: torch.Tensor, grids: list[tuple[int, int]]) -> torch.Tensor | None:
    """A tensor in the target's shape, or ``None`` where nothing sensible leads there.

    Args:
        name: Of the parameter.
        value: The checkpoint's.
        target: The model's.
        grids: (rows, columns) of patches of the checkpoint's image size and of the model's.
    """
    if name.endswith("embeddings.position_embeddings") and value.shape[2] == target.shape[2]:
        return value if grids[0] == grids[1] else _resized(value.transpose(1, 2), *grids).transpose(1, 2)
    if value.shape == target.shape:
        return value
    if name.endswith("patch_embeddings.projection.weight") and value.shape[2:] == target.shape[2:]:
        return _other_channels(value, target.shape[1]) if value.shape[0] == target.shape[0] else None
    if name.endswith("relative_position_bias_table") and value.shape[1] == target.shape[1]:
        sides = [(math.isqrt(len(table)),) * 2 for table in (value, target)]
        return _resized(value.t()[None], *sides)[0].t()
    return None


def _other_channels(weight: torch.Tensor, channels: int) -> torch.Tensor:
    """Summed over the channels and divided equally, so that a grey image gives equal features."""
    return (weight.sum(1, keepdim=True) / channels).expand(-1, channels, -1, -1).clone()


def _resized(values: torch.Tensor, old: tuple[int, ...], new: tuple[int, ...]) -> torch.Tensor:
    """(1, channels, places of a grid) to those of another grid, bicubic as the Swin repository does it."""
    square = values.float().unflatten(2, old)
    return functional.interpolate(square, size=new, mode="bicubic", align_corners=True).flatten(2)
