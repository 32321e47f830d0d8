"""An exported classifier in the model's place: the same scores, from onnxruntime."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import nn

from ..configuration_mammo_swin import MammoSwinConfig
from ..errors import DataError, UsageError
from ..image_processing_mammo import MammoImageProcessor
from ..training.loading import load_processor
from .onnx_model import MODEL, TASKS


class OnnxOutput(NamedTuple):
    """What an exported classifier gives.

    Attributes:
        logits: float32 (batch, labels of all tasks), those that count: whatever ``score_from`` said is done.
        lesion_scores: None: they are in the logits already.
    """

    logits: torch.Tensor
    lesion_scores: None = None


class OnnxClassifier(nn.Module):
    """What ``mammo-hf export onnx`` wrote, to be called as the classifier that it was made from; on the CPU.

    Args:
        folder: Holds ``model.onnx`` and ``tasks.json``.
        threads: Of an operation; as many as torch takes where not given.

    Raises:
        UsageError: onnxruntime is not installed, or a file is missing.
        DataError: A file is damaged.
    """

    device = torch.device("cpu")
    dtype = torch.float32

    def __init__(self, folder: str | os.PathLike[str], threads: int | None = None) -> None:
        super().__init__()
        try:
            import onnxruntime
        except ImportError as error:
            raise UsageError("onnxruntime is not installed", remedy='pip install "mammo-hf[onnx]"') from error
        self.folder = folder = Path(folder)
        self.config = _config(folder / TASKS)
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads or torch.get_num_threads()
        try:
            self.session = onnxruntime.InferenceSession(folder / MODEL, options, providers=["CPUExecutionProvider"])
        except Exception as error:  # onnxruntime's errors have no class of their own that it names
            raise DataError("cannot be read", source=folder / MODEL, remedy="export the classifier again") from error

    def forward(self, pixel_values: torch.Tensor) -> OnnxOutput:
        """(batch, channels, height, width), normalised, to the logits of all tasks."""
        (logits,) = self.session.run(None, {"pixel_values": pixel_values.float().cpu().numpy()})
        return OnnxOutput(torch.from_numpy(logits))

    def of_one_thread(self) -> OnnxClassifier:
        """The same, read again, to be called by several threads at once."""
        return OnnxClassifier(self.folder, threads=1)


def is_exported(folder: str | os.PathLike[str]) -> bool:
    """Whether a folder is what ``mammo-hf export onnx`` writes."""
    return (Path(folder) / MODEL).is_file()


def load_exported(folder: str | Path) -> tuple[OnnxClassifier, MammoImageProcessor]:
    """An exported classifier and its processor.

    Raises:
        UsageError: See `OnnxClassifier`.
        DataError: A file is missing or damaged.
    """
    return OnnxClassifier(folder), load_processor(folder)


def _config(path: Path) -> MammoSwinConfig:
    """A configuration that knows of tasks and calibration, and nothing of the network."""
    try:
        tasks: list[dict[str, Any]] = json.loads(path.read_text(encoding="utf-8"))
        calibration = {task["name"]: task["calibration"] for task in tasks if task["calibration"]}
        named = [{"name": task["name"], "labels": task["labels"]} for task in tasks]
    except (OSError, ValueError, TypeError, KeyError) as error:
        raise DataError("cannot be read", source=path, remedy="export the classifier again") from error
    return MammoSwinConfig(tasks=named, calibration=calibration or None)
