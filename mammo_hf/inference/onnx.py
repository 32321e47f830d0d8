"""A classifier as a graph of tensors alone: from model input to the logits that its scores are made of."""

from __future__ import annotations

import importlib.util
import json
import logging
import os
import shutil
import tempfile
import warnings
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import torch
from torch import nn

from ..errors import DataError, UsageError
from ..models.checkpoint import load_processor
from ..models.configuration_mammo_swin import MammoSwinConfig
from ..processing.image_processing_mammo import MammoImageProcessor
from .scoring import image_logits

if TYPE_CHECKING:
    from collections.abc import Iterator

    from ..models.modeling_mammo_swin import MammoSwinForImageClassification

LARGEST_BATCH = 4096


class ScoreLogits(nn.Module):
    """The logits that count, ``config.score_from`` applied; what a task's calibration and softmax then take.

    Args:
        model: A classifier.
    """

    def __init__(self, model: MammoSwinForImageClassification) -> None:
        super().__init__()
        self.model = model

    def forward(self, pixel_values: torch.Tensor) -> torch.Tensor:
        """(batch, channels, height, width), normalised, to (batch, labels of all tasks)."""
        return image_logits(self.model, pixel_values)


@contextmanager
def exportable(model: MammoSwinForImageClassification) -> Iterator[tuple[ScoreLogits, torch.Tensor, dict[str, Any]]]:
    """Lends a model in the state in which it can be traced, with an example batch and the shapes that may vary.

    Args:
        model: A classifier; it comes back in its mode, on its device and with its attention.
    """
    mode, attention = model.training, model.config._attn_implementation
    config: Any = model.config
    height, width = config.image_size
    # ONNX's decomposition of fused attention asks for a view of what is not contiguous
    model.set_attn_implementation("eager")
    try:
        example = torch.zeros(2, model.config.num_channels, height, width, dtype=model.dtype, device=model.device)
        batch = torch.export.Dim("batch", min=1, max=LARGEST_BATCH)
        yield ScoreLogits(model).eval(), example, {"pixel_values": {0: batch}}
    finally:
        model.set_attn_implementation(attention)
        model.train(mode)


def export_program(model: MammoSwinForImageClassification) -> torch.export.ExportedProgram:
    """The program that ``torch.export`` makes of a classifier, for any batch from 1 to 4096 images.

    Args:
        model: A classifier. The size of its images is fixed, as ``config.image_size`` says.
    """
    with exportable(model) as (graph, example, shapes), torch.no_grad():
        return torch.export.export(graph, (example,), dynamic_shapes=shapes)


# A classifier as an ONNX model, with all that is needed beside it to turn images into scores.


MODEL, TASKS = "model.onnx", "tasks.json"
TOLERANCE = 1e-4  # of a logit, between this model and PyTorch's
_PACKAGES = ("onnx", "onnxscript", "onnxruntime")


def export_onnx(
    model: MammoSwinForImageClassification, processor: MammoImageProcessor, out: str | os.PathLike[str]
) -> float:
    """Writes ``model.onnx``, ``preprocessor_config.json`` and ``tasks.json`` into a folder, all or nothing.

    The model takes ``pixel_values``, float32 (batch, channels, height, width), and gives ``logits``, (batch, labels of
    all tasks); any batch will do. ``tasks.json`` says for each task its labels, its slice of the logits, and its
    calibration: a score is the softmax over the slice, after "temperature" or "platt" where that is not null.

    Args:
        model: A classifier.
        processor: Its own.
        out: A folder that is not there yet, or empty.

    Returns:
        The largest difference of a logit from PyTorch's, on images of noise, in batches of 1 and 3.

    Raises:
        UsageError: The extra is not installed, or there is something in the folder.
        DataError: The model that was written gives other logits.
    """
    missing = [name for name in _PACKAGES if importlib.util.find_spec(name) is None]
    if missing:
        raise UsageError(f"{missing[0]} is not installed", remedy='pip install "mammo-hf[onnx]"')
    out = Path(out)
    if out.is_file() or (out.is_dir() and any(out.iterdir())):
        raise UsageError("is there already", source=out, remedy="name another folder")
    out.parent.mkdir(parents=True, exist_ok=True)
    part = Path(tempfile.mkdtemp(dir=out.parent, prefix=f".{out.name}."))
    try:
        with exportable(model.float()) as (graph, example, shapes), _quiet(), torch.no_grad():
            program = torch.onnx.export(
                graph,
                (example,),
                dynamo=True,
                input_names=["pixel_values"],
                output_names=["logits"],
                dynamic_shapes=shapes,
                verbose=False,
            )
            assert program is not None
            program.save(part / MODEL)
            difference = _difference(part / MODEL, graph, example)
        if difference > TOLERANCE:
            raise DataError(f"its logits differ by {difference:.2g} from PyTorch's", source=out / MODEL)
        processor.save_pretrained(part)
        (part / TASKS).write_text(json.dumps(task_facts(model.config), indent=2) + "\n", encoding="utf-8")
        part.chmod(0o755)
        part.replace(out)
    finally:
        shutil.rmtree(part, ignore_errors=True)
    return difference


def task_facts(config: Any) -> list[dict[str, Any]]:
    """For each task what turns its slice of the logits into scores, as data."""
    calibrations = config.calibration or {}
    return [
        {
            "name": task["name"],
            "labels": list(task["labels"]),
            "logits": [config.task_slices[task["name"]].start, config.task_slices[task["name"]].stop],
            "calibration": calibrations.get(task["name"]),
        }
        for task in config.tasks
    ]


def _difference(path: Path, graph: torch.nn.Module, example: torch.Tensor) -> float:
    import onnxruntime

    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    generator = torch.Generator().manual_seed(0)
    largest = 0.0
    for count in (1, 3):
        pixels = torch.randn(count, *example.shape[1:], generator=generator)
        (found,) = session.run(None, {"pixel_values": pixels.numpy()})
        largest = max(largest, float(np.abs(found - graph(pixels.to(example.device)).cpu().numpy()).max()))
    return largest


@contextmanager
def _quiet() -> Iterator[None]:
    """Without what the exporter tells of operators that this model has not."""
    log = logging.getLogger("torch.onnx")
    level = log.level
    log.setLevel(logging.ERROR)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            yield
        finally:
            log.setLevel(level)


# An exported classifier in the model's place: the same scores, from onnxruntime.


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
