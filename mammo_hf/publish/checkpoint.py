"""What a checkpoint's folder says of itself: the files that a card is made of and that a push takes along."""

from __future__ import annotations

import json
import math
import os
import struct
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ..errors import DataError, UsageError

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
