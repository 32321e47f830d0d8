"""A classifier without PyTorch: exported to ONNX with all that turns images into scores, and read back in its place."""

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
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import nn

from ..data.terms import Terms, read_terms, write_terms
from ..encoders.classifier import BagClassifier
from ..errors import DataError, UsageError, install
from ..files import as_new_files
from ..models.checkpoint import ONNX_MODEL, ONNX_TASKS, load_processor
from ..models.configuration_mammo_swin import MammoSwinConfig
from ..models.modeling_mammo_swin import MammoSwinImageClassifierOutput
from ..processing.image_processing_mammo import MammoImageProcessor
from .scoring import image_logits

if TYPE_CHECKING:
    from collections.abc import Iterator

    from ..models.modeling_mammo_swin import MammoSwinForImageClassification

TOLERANCE = 1e-4  # largest difference of a logit from PyTorch's
LARGEST_BATCH = 4096
_PACKAGES = ("onnx", "onnxscript", "onnxruntime")
_EXTRA = install("onnx")


def export_onnx(
    model: MammoSwinForImageClassification, processor: MammoImageProcessor, out: str | os.PathLike[str]
) -> float:
    """Write ``model.onnx``, processor, ``tasks.json`` and ``terms.json`` into a new folder, all or nothing.

    The model takes ``pixel_values``, float32 (batch, channels, height, width), and returns ``logits``, (batch, labels
    of all tasks), for any batch size. ``tasks.json`` holds each task's labels, its slice of the logits, and its
    calibration: a score is the softmax over the slice, after "temperature" or "platt" if that is not null.

    Args:
        model: A classifier.
        processor: The model's processor.
        out: Folder to write, which must not exist yet or be empty.

    Returns:
        The largest difference of a logit from PyTorch's, on images of noise, in batches of 1 and 3.

    Raises:
        UsageError: The extra is not installed, or the folder is not empty.
        DataError: The written model returns other logits.
    """
    if isinstance(model, BagClassifier):
        raise UsageError("is a head over features, which is not exported", source="model", remedy="give a Swin")
    missing = [name for name in _PACKAGES if importlib.util.find_spec(name) is None]
    if missing:
        raise UsageError(f"{missing[0]} is not installed", remedy=_EXTRA)
    out = Path(out)
    if out.is_file() or (out.is_dir() and any(out.iterdir())):
        raise UsageError("already exists", source=out, remedy="name another folder")
    out.parent.mkdir(parents=True, exist_ok=True)
    part = Path(tempfile.mkdtemp(dir=out.parent, prefix=f".{out.name}."))
    try:
        difference = _export(model.float(), part / ONNX_MODEL)
        if difference > TOLERANCE:
            raise DataError(f"its logits differ by {difference:.2g} from PyTorch's", source=out / ONNX_MODEL)
        processor.save_pretrained(part)
        (part / ONNX_TASKS).write_text(json.dumps(task_facts(model.config), indent=2) + "\n", encoding="utf-8")
        # a model that was made here has no folder: its terms are not known
        source = Path(model.name_or_path) if model.name_or_path else None
        known = read_terms(source) if source is not None and source.is_dir() else None
        write_terms(part, known or (Terms("a model without a name" if source is None else source.name, ""),))
        as_new_files(part)
        part.replace(out)
    finally:
        shutil.rmtree(part, ignore_errors=True)
    return difference


def _export(model: MammoSwinForImageClassification, path: Path) -> float:
    """Write a model as ONNX, and return the largest difference of a logit."""
    with exportable(model) as (graph, example, shapes), _quiet(), torch.no_grad():
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
        for node in program.model.graph.all_nodes():  # the exporter notes each one's lines of code, with their paths
            node.metadata_props.clear()
        program.save(path)
        return _difference(path, graph, example)


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
    """Silence the exporter's notes on operators that this model does not have."""
    log = logging.getLogger("torch.onnx")
    level = log.level
    log.setLevel(logging.ERROR)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            yield
        finally:
            log.setLevel(level)


def task_facts(config: Any) -> list[dict[str, Any]]:
    """Return, as data, how each task's slice of the logits is turned into scores."""
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


# The graph that is exported: from model input to the logits that scores are made of.


class ScoreLogits(nn.Module):
    """A classifier that returns only the logits that count, with ``config.score_from`` applied.

    Args:
        model: A classifier.
    """

    def __init__(self, model: MammoSwinForImageClassification) -> None:
        super().__init__()
        self.model = model

    def forward(self, pixel_values: torch.Tensor) -> torch.Tensor:
        """Return logits (batch, labels of all tasks) of normalised images (batch, channels, height, width)."""
        return image_logits(self.model, pixel_values)


def export_program(model: MammoSwinForImageClassification) -> torch.export.ExportedProgram:
    """Return the program that ``torch.export`` makes of a classifier, for any batch of 1 to 4096 images.

    Args:
        model: A classifier. The size of its images is fixed to ``config.image_size``.
    """
    with exportable(model) as (graph, example, shapes), torch.no_grad():
        return torch.export.export(graph, (example,), dynamic_shapes=shapes)


@contextmanager
def exportable(model: MammoSwinForImageClassification) -> Iterator[tuple[ScoreLogits, torch.Tensor, dict[str, Any]]]:
    """Put a model into the state in which it can be traced; afterwards its mode and attention are as before.

    Args:
        model: A classifier.

    Yields:
        The graph, an example batch, and the shapes that may vary.
    """
    mode, attention = model.training, model.config._attn_implementation
    config: Any = model.config
    height, width = config.image_size
    # ONNX's decomposition of fused attention takes a view of a tensor that is not contiguous
    model.set_attn_implementation("eager")
    try:
        example = torch.zeros(2, model.config.num_channels, height, width, dtype=model.dtype, device=model.device)
        batch = torch.export.Dim("batch", min=1, max=LARGEST_BATCH)
        yield ScoreLogits(model).eval(), example, {"pixel_values": {0: batch}}
    finally:
        model.set_attn_implementation(attention)
        model.train(mode)


# An exported classifier in the model's place: the same scores, from onnxruntime.


class OnnxClassifier(nn.Module):
    """Classifier that ``mammo-hf export onnx`` wrote, callable like the classifier that it was made from; on the CPU.

    Args:
        folder: Folder with ``model.onnx`` and ``tasks.json``.
        threads: Number of threads of an operation; by default as many as torch uses.

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
            raise UsageError("onnxruntime is not installed", remedy=_EXTRA) from error
        self.folder = folder = Path(folder)
        self.config = _config(folder / ONNX_TASKS)
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads or torch.get_num_threads()
        path = folder / ONNX_MODEL
        try:
            self.session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
        except Exception as error:  # onnxruntime's errors have no common class of their own
            raise DataError("cannot be read", source=path, remedy="export the classifier again") from error

    def forward(self, pixel_values: torch.Tensor) -> MammoSwinImageClassifierOutput:
        """Return the logits of all tasks, with ``score_from`` applied already, of normalised images."""
        (logits,) = self.session.run(None, {"pixel_values": pixel_values.float().cpu().numpy()})
        return MammoSwinImageClassifierOutput(logits=torch.from_numpy(logits))

    def of_one_thread(self) -> OnnxClassifier:
        """Return the same classifier, loaded again with one thread, to be called by several threads at once."""
        return OnnxClassifier(self.folder, threads=1)


def is_exported(folder: str | os.PathLike[str]) -> bool:
    """Return whether a folder was written by ``mammo-hf export onnx``."""
    return (Path(folder) / ONNX_MODEL).is_file()


def load_exported(folder: str | os.PathLike[str]) -> tuple[OnnxClassifier, MammoImageProcessor]:
    """Load an exported classifier and its processor.

    Raises:
        UsageError: See `OnnxClassifier`.
        DataError: A file is missing or damaged.
    """
    return OnnxClassifier(folder), load_processor(folder)


def _config(path: Path) -> MammoSwinConfig:
    """Return a configuration with tasks and calibration, and without the network's shape."""
    try:
        tasks: list[dict[str, Any]] = json.loads(path.read_text(encoding="utf-8"))
        calibration = {task["name"]: task["calibration"] for task in tasks if task["calibration"]}
        named = [{"name": task["name"], "labels": task["labels"]} for task in tasks]
    except (OSError, ValueError, TypeError, KeyError) as error:
        raise DataError("cannot be read", source=path, remedy="export the classifier again") from error
    return MammoSwinConfig(tasks=named, calibration=calibration or None)
