"""A published classifier and its processor, by folder or by name on the Hub, with one line on what is wrong."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

from transformers import AutoConfig

from ..errors import UsageError
from ..explainers.targets import task_slices
from ..models.checkpoint import load_model
from ..models.modeling_mammo_swin import MammoSwinForImageClassification
from ..processing.image_processing_mammo import MammoImageProcessor

_PROCESSOR = "preprocessor_config.json"


def load_classifier(
    name: str, *, revision: str | None = None, **options: Any
) -> tuple[MammoSwinForImageClassification, MammoImageProcessor]:
    """Loads a classifier, ready to read.

    Args:
        name: A folder, or a name on the Hub.
        revision: A branch, tag or commit on the Hub.
        options: For ``from_pretrained``, such as ``dtype``.

    Raises:
        UsageError: There is no such model, it is no classifier of ours, or its processor is missing or another's.
        DataError: Its weights cannot be read.
    """
    hub: dict[str, Any] = {} if revision is None else {"revision": revision}
    try:
        config = AutoConfig.from_pretrained(name, **hub)
    except (OSError, ValueError) as error:
        there = Path(name).is_dir()
        reason = (
            "there is no model here" if there else f"no such folder, and not to be had from the Hub ({_said(error)})"
        )
        raise UsageError(reason, source=name, remedy="check the name, the connection and your token") from error
    if config.model_type != "swin" or "ForImageClassification" not in str(config.architectures):
        what = ", ".join(config.architectures or [config.model_type])
        raise UsageError(f"is a {what}, no Swin that classifies", source=name, remedy="give what stage 2 wrote")
    processor = _load_processor(name, hub)
    model = load_model(MammoSwinForImageClassification, name, **hub, **options).eval()
    if processor.num_channels != model.config.num_channels:
        raise UsageError(
            f"its processor gives {processor.num_channels} channels, its model takes {model.config.num_channels}",
            source=name,
            remedy="put the processor beside the model that it was trained with",
        )
    model.config.check_image_size(*processor.canvas)
    if not task_slices(model.config):
        raise UsageError("has no labels", source=name, remedy="give what stage 2 wrote")
    return model, processor


def identity(name: str, model: Any) -> str:
    """What tells a classifier from another one of the same name: the Hub's commit, or its files' state on the disk.

    Args:
        name: That `load_classifier` was given.
        model: What it gave, or an exported classifier.
    """
    folder = Path(name)
    if not folder.is_dir():
        return f"{name}@{getattr(model.config, '_commit_hash', None)} {model.dtype}"
    files = sorted(path for path in folder.iterdir() if path.suffix in (".json", ".safetensors", ".onnx"))
    states = [[path.name, path.stat().st_size, path.stat().st_mtime_ns] for path in files]
    return f"{hashlib.sha256(json.dumps(states).encode()).hexdigest()[:16]} {model.dtype}"


def _load_processor(name: str, hub: dict[str, Any]) -> MammoImageProcessor:
    remedy = f"put the {_PROCESSOR} there that the model was trained with"
    try:
        found, _ = MammoImageProcessor.get_image_processor_dict(name, **hub)
    except (OSError, ValueError) as error:
        raise UsageError(f"has no {_PROCESSOR} that can be read", source=name, remedy=remedy) from error
    kind = str(found.get("image_processor_type"))
    if kind != "MammoImageProcessor":
        raise UsageError(f"its {_PROCESSOR} is of a {kind}, which reads no mammograms", source=name, remedy=remedy)
    processor: MammoImageProcessor = MammoImageProcessor.from_pretrained(name, **hub)
    return processor


def _said(error: Exception) -> str:
    """The first line of what transformers says, without the rest of its advice."""
    lines = str(error).strip().splitlines() or [type(error).__name__]
    return lines[0][:160]
