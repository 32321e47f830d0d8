"""A classifier as an ONNX model, with all that is needed beside it to turn images into scores."""

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

from ..errors import DataError, UsageError
from .graph import exportable

if TYPE_CHECKING:
    from collections.abc import Iterator

    from ..image_processing_mammo import MammoImageProcessor
    from ..modeling_mammo_swin import MammoSwinForImageClassification

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
