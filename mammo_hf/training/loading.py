"""Loading what a folder holds, with one line on what is wrong where it does not."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, TypeVar

from safetensors import SafetensorError
from transformers import PreTrainedModel

from ..errors import DataError, UsageError
from ..image_processing_mammo import MammoImageProcessor

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
