"""Which files of a checkpoint's folder are pushed, and as what: those that this list names, and nothing else.

Checkpoints of the optimiser, ``training_args.bin``, the split and the label subset stay: they hold paths of the machine
or patients' keys.
"""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

from ..errors import DataError
from .checkpoint import CARD, CONFIG, INDEX, METRICS, PICTURES, PROCESSOR, Checkpoint
from .remote_code import AUTO_MAP, flat_sources

REPOSITORY = "your-name/your-model"
"""Stands in a card for the repository's name, until a push knows it."""

_WEIGHTS = re.compile(r"model(-\d{5}-of-\d{5})?\.safetensors(\.index\.json)?")


def files_to_push(checkpoint: Checkpoint, repository: str) -> dict[str, bytes | Path]:
    """By name in the repository: what a file holds, or where it is.

    Args:
        checkpoint: The folder, with its card.
        repository: The name that the card is to give.

    Raises:
        UsageError: There are no weights.
        DataError: The index of the weights names a file elsewhere.
    """
    folder = checkpoint.folder
    files: dict[str, bytes | Path] = {CONFIG: _config(checkpoint.config)}
    for name in checkpoint.weights():
        if not _WEIGHTS.fullmatch(name):
            raise DataError(f"{INDEX} names the file {name!r}", source=folder, remedy="save the model again")
        files[name] = folder / name
    if checkpoint.processor:
        ours = checkpoint.processor.get("image_processor_type") == "MammoImageProcessor"
        code = flat_sources() if ours else {}
        files[PROCESSOR] = _json({**checkpoint.processor, **({"auto_map": AUTO_MAP} if code else {})})
        files |= code
    if checkpoint.metrics:
        files[METRICS] = (folder / METRICS).read_bytes()
    card = (folder / CARD).read_text(encoding="utf-8").replace(REPOSITORY, repository)
    files[CARD] = card.encode()
    shown = {f"{PICTURES}/{picture.name}": picture for picture in sorted((folder / PICTURES).glob("*.png"))}
    files |= {name: picture for name, picture in shown.items() if f"({name})" in card}
    return files


def left_behind(name: str) -> bool:
    """Whether a file in a repository is of an earlier push and would be loaded though it is not in this one."""
    return _WEIGHTS.fullmatch(name) is not None


def _config(config: dict[str, Any]) -> bytes:
    # what begins with an underscore tells where and how it was loaded; a pipeline of ours in a configuration would turn
    # a plain call into a demand for remote code
    kept = {key: value for key, value in config.items() if not key.startswith("_") and key != "custom_pipelines"}
    return _json(kept)


def _json(content: dict[str, Any]) -> bytes:
    return (json.dumps(content, indent=2, sort_keys=True) + "\n").encode()
