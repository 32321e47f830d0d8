"""What a checkpoint's folder says of itself: the files that a card is made of and that a push takes along."""

from __future__ import annotations

import json
import logging
import math
import os
import re
import struct
from collections import OrderedDict
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

import torch
from safetensors import SafetensorError
from torch.nn import functional
from transformers import PreTrainedModel

from ..errors import DataError, UsageError
from ..files import write_whole
from ..processing.image_processing_mammo import MammoImageProcessor
from .configuration_mammo_swin import SIZES, MammoSwinConfig

CONFIG, PROCESSOR, METRICS, CARD = "config.json", "preprocessor_config.json", "metrics.json", "README.md"
WEIGHTS, INDEX = "model.safetensors", "model.safetensors.index.json"
PICTURES = "card"  # the folder of the card's pictures
STAGES = {"classifier": "MammoSwinForImageClassification", "mim": "MammoSwinForMaskedImageModeling"}


@dataclass(frozen=True)
class Checkpoint:
    """A checkpoint's folder, read.

    Attributes:
        folder: Where it is.
        config: ``config.json``.
        processor: ``preprocessor_config.json``; empty where there is none.
        metrics: ``metrics.json``; empty where there is none.
        stage: "classifier", "mim", or "" for a model of another kind.
    """

    folder: Path
    config: dict[str, Any]
    processor: dict[str, Any] = field(default_factory=dict)
    metrics: dict[str, Any] = field(default_factory=dict)
    stage: str = ""

    @property
    def figures(self) -> dict[str, Any]:
        """The stage's own part of the metrics."""
        found = self.metrics.get(self.stage)
        return found if isinstance(found, dict) else {}

    def weights(self) -> list[str]:
        """The names of the files that hold the weights, and of their index where there are several.

        Raises:
            UsageError: There are none in the format that is published, or one of several is missing.
        """
        if (self.folder / WEIGHTS).is_file():
            return [WEIGHTS]
        if not (self.folder / INDEX).is_file():
            raise UsageError(
                f"holds no {WEIGHTS}", source=self.folder, remedy="give the folder that training wrote, whole"
            )
        shards = sorted(set(read_json(self.folder / INDEX).get("weight_map", {}).values()))
        missing = [name for name in shards if not (self.folder / name).is_file()]
        if missing or not shards:
            raise DataError(
                f"its index names {missing[0] if missing else 'no file'}", source=self.folder, remedy="copy it whole"
            )
        return [*shards, INDEX]

    def parameters(self) -> int:
        """How many numbers the weights are, from the files' headers alone."""
        names = [name for name in self.weights() if name != INDEX]
        headers = [safetensors_header(self.folder / name) for name in names]
        return sum(
            math.prod(tensor["shape"]) for header in headers for key, tensor in header.items() if key != "__metadata__"
        )


def read_checkpoint(folder: str | os.PathLike[str]) -> Checkpoint:
    """Reads a folder that training wrote.

    Raises:
        UsageError: There is no model in it, or not a Swin.
        DataError: One of its JSON files cannot be read.
    """
    place = Path(folder)
    if not (place / CONFIG).is_file():
        raise UsageError("there is no model here", source=place, remedy="give the folder that training wrote")
    config = read_json(place / CONFIG)
    if config.get("model_type") != "swin":
        raise UsageError(f"a model of the kind {config.get('model_type')!r}", source=place, remedy="give a Swin")
    found = {name: read_json(place / name) if (place / name).is_file() else {} for name in (PROCESSOR, METRICS)}
    kinds = {kind: stage for stage, kind in STAGES.items()}
    stage = next((kinds[kind] for kind in config.get("architectures") or () if kind in kinds), "")
    return Checkpoint(place, config, found[PROCESSOR], found[METRICS], stage)


def read_json(path: Path) -> dict[str, Any]:
    """A JSON file that holds an object.

    Raises:
        DataError: It does not, or cannot be read.
    """
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise DataError("cannot be read as JSON", source=path, remedy="copy the file again") from error
    if not isinstance(content, dict):
        raise DataError("holds no JSON object", source=path, remedy="copy the file again")
    return content


def read_metrics(out: Path) -> dict[str, Any]:
    """Return what ``metrics.json`` of a folder holds of earlier stages; empty if there is none yet.

    Raises:
        UsageError: The file is something else.
    """
    path = out / METRICS
    if not path.exists():
        return {}
    try:
        return read_json(path)
    except DataError as error:
        problem, remedy = "does not hold metrics", "move it away or name another folder"
        raise UsageError(problem, source=path, remedy=remedy) from error


def write_metrics(out: Path, stage: str, figures: dict[str, Any] | list[Any]) -> None:
    """Put a stage's figures into ``metrics.json`` and keep those of other stages."""
    metrics = {**read_metrics(out), stage: figures}
    write_whole(out / METRICS, (json.dumps(metrics, indent=2, allow_nan=False) + "\n").encode())


def safetensors_header(path: Path) -> dict[str, Any]:
    """The JSON at the beginning of a safetensors file: names, shapes and metadata.

    Raises:
        DataError: The file is damaged or cut off.
    """
    try:
        with path.open("rb") as file:
            (length,) = struct.unpack("<Q", file.read(8))
            if length > path.stat().st_size:
                raise ValueError("longer than the file")
            header: dict[str, Any] = json.loads(file.read(length))
    except (OSError, ValueError, struct.error) as error:
        raise DataError("is damaged or cut off", source=path, remedy="copy the file again") from error
    return header


# Loading what a folder holds, with one line on what is wrong where it does not.


Model = TypeVar("Model", bound=PreTrainedModel)


def read_config(folder: Path) -> dict[str, Any]:
    """The ``config.json`` of a Swin's checkpoint.

    Raises:
        UsageError: The folder holds no checkpoint, or one of another architecture.
    """
    try:
        config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise UsageError("no config.json of a model can be read there", source=folder, remedy="check it") from error
    architecture = config.get("model_type") if isinstance(config, dict) else None
    if architecture != "swin":
        raise UsageError(f"a checkpoint of the architecture {architecture!r}", source=folder, remedy="give a Swin")
    return config


def read_tasks(folder: Path) -> list[dict[str, Any]]:
    """The tasks of a classifier's checkpoint.

    Raises:
        UsageError: The folder holds no checkpoint, or one of something else.
    """
    if not (folder / "config.json").is_file():
        raise UsageError("there is no classifier here", source=folder, remedy="give the folder that training wrote")
    tasks: list[dict[str, Any]] = read_config(folder).get("tasks") or []
    if not tasks:
        raise UsageError("is no classifier of tasks", source=folder, remedy="give the folder that stage 2 wrote")
    return tasks


def load_model(kind: type[Model], folder: str | Path, **options: Any) -> Model:
    """``kind.from_pretrained(folder)``.

    Raises:
        DataError: The weights are missing, damaged, or of other sizes than the configuration's.
    """
    try:
        model: Model = kind.from_pretrained(folder, **options)
    except (OSError, SafetensorError, RuntimeError, ValueError) as error:
        reason = str(error).strip().splitlines()[0][:200]
        if "ignore_mismatched_sizes" in reason:
            reason = "its weights have other sizes than this model's"
        raise DataError(
            f"its model cannot be loaded ({reason})", source=folder, remedy="give its own model, or train it again"
        ) from error
    return model


def load_processor(folder: str | Path) -> MammoImageProcessor:
    """The processor that is saved beside a model.

    Raises:
        DataError: There is none, or it cannot be read.
    """
    try:
        processor: MammoImageProcessor = MammoImageProcessor.from_pretrained(folder)
    except (OSError, ValueError) as error:
        raise DataError(
            "its preprocessor_config.json cannot be read", source=folder, remedy="give a folder that training wrote"
        ) from error
    return processor


# Checkpoints of the Swin and SimMIM repositories: their weights under transformers' names, and their configuration.


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


# Where an encoder starts from: any Swin checkpoint, of other channels, another image size or another window.


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


def starting_config(model: str, image_size: tuple[int, int], **changes: Any) -> MammoSwinConfig:
    """The configuration of a size by name, or of a checkpoint, for an input of (height, width).

    Raises:
        UsageError: Neither a known size, nor a folder with a Swin's ``config.json``, nor a ``.pth`` file of one.
    """
    if model in SIZES:
        return MammoSwinConfig(**{**SIZES[model], **changes}, image_size=image_size)
    if Path(model).is_file():
        return MammoSwinConfig(**{**simmim_config(Path(model)), **changes, "image_size": image_size})
    if not (Path(model) / "config.json").is_file():
        raise UsageError(
            "neither a model size nor a checkpoint folder", source=model, remedy=f"use {', '.join(SIZES)} or a folder"
        )
    config_dict = read_config(Path(model))
    if "tasks" in changes:
        # the checkpoint's own labels belong to its own tasks
        config_dict = {key: value for key, value in config_dict.items() if key not in ("id2label", "label2id")}
    # built anew rather than changed after loading: the configuration checks and completes itself when it is made
    return MammoSwinConfig(**{**config_dict, **changes, "image_size": image_size})


def other_window(window_size: int | None) -> dict[str, Any]:
    """The change of configuration that a window asked for means; ``None``: the model's own stays."""
    return {} if window_size is None else {"window_size": window_size}


def check_model(model: str, image_size: tuple[int, int], **changes: Any) -> None:
    """Refuses a model that is not there, or whose windows do not fit the image, before an image is read.

    Args:
        model: A size or a checkpoint.
        image_size: (height, width) in pixels.
        changes: Of the configuration.

    Raises:
        UsageError: As `starting_config`, or the size does not fit; the nearest that does is named.
    """
    starting_config(model, image_size, **changes).check_image_size(*image_size)
