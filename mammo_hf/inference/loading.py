"""Classifiers and their processors, loaded from any model argument."""

from __future__ import annotations

import hashlib
import json
import os
from typing import Any

from ..errors import UsageError
from ..explainers.targets import task_slices
from ..models.checkpoint import load_model, load_processor, locate, read_classifier_config, repository_of
from ..models.modeling_mammo_swin import MammoSwinForImageClassification
from ..processing.image_processing_mammo import MammoImageProcessor


def load_classifier(
    model: str | os.PathLike[str], **options: Any
) -> tuple[MammoSwinForImageClassification, MammoImageProcessor]:
    """Load a classifier and its processor, ready to read images.

    Args:
        model: A folder, or a name on the Hub with an optional ``@REVISION``.
        options: Arguments of ``from_pretrained``, such as ``dtype``.

    Raises:
        UsageError: There is no such model, it is not a classifier, or its processor is not the model's.
        DataError: Its weights or its processor cannot be read.
    """
    folder = locate(model)
    read_classifier_config(folder)
    processor = load_processor(folder)
    network = load_model(MammoSwinForImageClassification, folder, **options).eval()
    if processor.num_channels != network.config.num_channels:
        raise UsageError(
            f"its processor gives {processor.num_channels} channels, its model takes {network.config.num_channels}",
            source=model,
            remedy="put the processor next to the model that it was trained with",
        )
    network.config.check_image_size(*processor.canvas)
    if not task_slices(network.config):
        raise UsageError("has no labels", source=model, remedy="give what finetune wrote")
    return network, processor


def identity(model: str | os.PathLike[str], network: Any) -> str:
    """Return what distinguishes a classifier from others of the same name.

    Args:
        model: The argument of `load_classifier`.
        network: The loaded classifier, or an exported one.

    Returns:
        The commit on the Hub, or a hash of the state of the folder's files; and the data type.
    """
    folder = locate(model)
    repository = repository_of(folder)
    if repository is not None:
        return f"{repository}@{folder.name} {network.dtype}"
    files = sorted(path for path in folder.iterdir() if path.suffix in (".json", ".safetensors", ".onnx"))
    states = [[path.name, path.stat().st_size, path.stat().st_mtime_ns] for path in files]
    return f"{hashlib.sha256(json.dumps(states).encode()).hexdigest()[:16]} {network.dtype}"
