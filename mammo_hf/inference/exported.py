"""A classifier without PyTorch: as ONNX or for OpenVINO with all that turns images into scores, and in its place."""

from __future__ import annotations

import importlib.util
import json
import logging
import os
import shutil
import tempfile
import threading
import warnings
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import numpy as np
import torch
from torch import nn

from ..data.terms import Terms, read_terms, write_terms
from ..encoders.bags import TILE, WHOLE, MammoBagOutput
from ..encoders.classifier import BagClassifier, check_encoder, encoder_name
from ..encoders.configuration_mammo_bag import MammoBagConfig
from ..encoders.encoder import Encoder, load_encoder
from ..errors import DataError, UsageError, check_choice, install
from ..files import as_new_files
from ..models.checkpoint import CONFIG, ENCODER_GRAPH, GRAPH, GRAPH_ENDINGS, TASKS, exported_graphs, load_processor
from ..models.configuration_mammo_swin import MammoSwinConfig
from ..models.modeling_mammo_swin import MammoSwinImageClassifierOutput
from ..processing.image_processing_mammo import MammoImageProcessor
from .scoring import image_logits

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from ..encoders.bags import MammoBagForClassification
    from ..models.modeling_mammo_swin import MammoSwinForImageClassification

TOLERANCE = 1e-4  # largest difference of a logit from PyTorch's
LARGEST_BATCH = 4096
_PACKAGES = {"onnx": ("onnx", "onnxscript", "onnxruntime"), "openvino": ("onnx", "onnxscript", "openvino")}


def export_classifier(
    model: MammoSwinForImageClassification | BagClassifier,
    processor: MammoImageProcessor,
    out: str | os.PathLike[str],
    *,
    format: str = "onnx",
    with_encoder: bool = False,
    change: Callable[[Path], None] | None = None,
) -> float:
    """Write the graph, processor, ``tasks.json`` and ``terms.json`` into a new folder, all or nothing.

    The graph is ``model.onnx``, or ``model.xml`` and ``model.bin`` for OpenVINO.

    The model of a Swin takes ``pixel_values``, float32 (batch, channels, height, width), and returns ``logits``,
    (batch, labels of all tasks), for any batch size. That of a head over features takes what
    `MammoBagForClassification.forward` does, ``features`` in float32, and returns ``logits`` and ``attentions``, for
    any number of units, images and vectors; its ``config.json`` says what the features are of. An encoder that was
    trained by mammo_hf is written with it, ``encoder_HEIGHTxWIDTH`` for each size of its pictures: from
    ``intensity`` in [0, 1], float32 (pictures, 1, height, width), to ``grid``, (pictures, channels, rows, columns).

    ``tasks.json`` holds each task's labels, its slice of the logits, and its calibration: a score is the softmax over
    the slice, after "temperature" or "platt" if that is not null.

    Args:
        model: A classifier: a Swin, or a head over features with its encoder.
        processor: The model's processor.
        out: Folder to write, which must not exist yet or be empty.
        format: "onnx" or "openvino".
        with_encoder: Whether an encoder of others is written with its head, too.
        change: Function that changes the folder, or refuses it, before it gets its name.

    Returns:
        The largest difference of a logit from PyTorch's, on noise, in batches of two sizes.

    Raises:
        UsageError: The extra is not installed, or the folder is not empty.
        DataError: The written model returns other logits.
    """
    check_choice("format", format, GRAPH_ENDINGS)
    missing = [name for name in _PACKAGES[format] if importlib.util.find_spec(name) is None]
    if missing:
        raise UsageError(f"{missing[0]} is not installed", remedy=install(format))
    out = Path(out)
    if out.is_file() or (out.is_dir() and any(out.iterdir())):
        raise UsageError("already exists", source=out, remedy="name another folder")
    out.parent.mkdir(parents=True, exist_ok=True)
    part, ending = Path(tempfile.mkdtemp(dir=out.parent, prefix=f".{out.name}.")), GRAPH_ENDINGS[format][0]
    try:
        if isinstance(model, BagClassifier):
            difference = _export_head(model.float(), part, ending, with_encoder=with_encoder)
        else:
            difference = _export(model.float(), part / f"{GRAPH}{ending}")
        if difference > TOLERANCE:
            raise DataError(f"its logits differ by {difference:.2g} from PyTorch's", source=out / f"{GRAPH}{ending}")
        processor.save_pretrained(part)
        (part / TASKS).write_text(json.dumps(task_facts(model.config), indent=2) + "\n", encoding="utf-8")
        # a model that was made here has no folder: its terms are not known
        name = str((model.head if isinstance(model, BagClassifier) else model).name_or_path or "")
        known = read_terms(Path(name)) if name and Path(name).is_dir() else None
        write_terms(part, known or (Terms(Path(name).name or "a model without a name", ""),))
        if change is not None:
            change(part)
        as_new_files(part)
        part.replace(out)
    finally:
        shutil.rmtree(part, ignore_errors=True)
    return difference


def _export(model: MammoSwinForImageClassification, path: Path) -> float:
    """Write a Swin's graph, and return the largest difference of a logit."""
    with exportable(model) as (graph, example, shapes):
        _write(graph, {"pixel_values": example}, shapes, ["logits"], path)
        return _difference(path, graph, [{"pixel_values": _noise(count, *example.shape[1:])} for count in (1, 3)])


def _export_head(model: BagClassifier, folder: Path, ending: str, *, with_encoder: bool) -> float:
    """Write a head and, if it may be copied, its encoder; return the largest difference of a logit or a feature."""
    config: Any = model.config
    config.save_pretrained(folder)
    axes = {"features": 3, "scales": 3, "sides": 2, "views": 2}
    free = [torch.export.Dim(name, min=1, max=LARGEST_BATCH) for name in ("units", "images", "vectors")]
    shapes = {name: dict(enumerate(free[:count])) for name, count in axes.items()}
    graph = HeadOutputs(model.head).eval()
    batches = [_bags(*sizes, config.feature_size) for sizes in ((2, 3, 5), (1, 1, 9))]
    path = folder / f"{GRAPH}{ending}"
    _write(graph, batches[0], shapes, ["logits", "attentions"], path)
    difference = _difference(path, graph, batches)
    if not with_encoder and model.encoder.processor is None:
        return difference
    views, side = model.views, model.encoder.tile
    sizes = {*([views.image_size] * (views.tiles != "native")), *([(side, side)] * (views.tiles != "whole"))}
    return max([difference, *(_export_encoder(model.encoder, size, folder, ending) for size in sizes)])


def _export_encoder(encoder: Encoder, size: tuple[int, int], folder: Path, ending: str) -> float:
    """Write an encoder for pictures of one size, and return the largest difference as a fraction of a feature's."""
    path, tower = folder / f"{ENCODER_GRAPH.format(*size)}{ending}", cast(Any, encoder.tower)
    attention = getattr(getattr(tower, "config", None), "_attn_implementation", None)
    if attention is not None:
        tower.set_attn_implementation("eager")  # as for a Swin, see `exportable`
    try:
        shapes = {"intensity": {0: torch.export.Dim("pictures", min=1, max=LARGEST_BATCH)}}
        _write(encoder, {"intensity": torch.rand(2, 1, *size)}, shapes, ["grid"], path)
        batches = [{"intensity": torch.rand(count, 1, *size)} for count in (1, 3)]
        with torch.no_grad():
            largest = float(encoder(batches[0]["intensity"]).abs().max())
        return _difference(path, encoder, batches) / max(largest, 1)
    finally:
        if attention is not None:
            tower.set_attn_implementation(attention)


def _bags(units: int, images: int, vectors: int, size: int) -> dict[str, torch.Tensor]:
    """Return units of noise, each image with a whole view and tiles, the last one with padding."""
    scales = torch.full((units, images, vectors), TILE)
    scales[..., 0] = WHOLE
    scales[-1, -1, vectors // 2 + 1 :] = 0
    sides, views = torch.arange(images).expand(units, -1) % 3, torch.arange(images).expand(units, -1) % 4
    return {"features": _noise(units, images, vectors, size), "scales": scales, "sides": sides + 0, "views": views + 0}


def _noise(*shape: int) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(0))


def _write(
    graph: nn.Module, inputs: dict[str, torch.Tensor], shapes: dict[str, Any], outputs: Sequence[str], path: Path
) -> None:
    """Write a module as ONNX, or in OpenVINO's format if the file's name ends in ".xml".

    Args:
        graph: Module to write.
        inputs: Example of its arguments by their names, in their order.
        shapes: Axes of these that may vary.
        outputs: Names of what it returns.
        path: File to write.
    """
    device = next((one.device for one in graph.parameters()), torch.device("cpu"))
    with _quiet(), torch.no_grad():
        program = torch.onnx.export(
            graph,
            tuple(one.to(device) for one in inputs.values()),
            dynamo=True,
            input_names=list(inputs),
            output_names=list(outputs),
            dynamic_shapes=shapes,
            verbose=False,
        )
    assert program is not None
    for node in program.model.graph.all_nodes():  # the exporter notes each one's lines of code, with their paths
        node.metadata_props.clear()
    program.save(path.with_suffix(".onnx"))
    if path.suffix == ".xml":
        to_openvino(path.with_suffix(".onnx"))


def to_openvino(path: Path) -> None:
    """Replace an ONNX file by the same graph in OpenVINO's format, in float32 where it is not in integers."""
    openvino = importlib.import_module("openvino")
    # not `convert_model`, which reports its use to the maker
    openvino.save_model(openvino.Core().read_model(path), path.with_suffix(".xml"), compress_to_fp16=False)
    path.unlink()


def _difference(path: Path, graph: nn.Module, batches: Sequence[dict[str, torch.Tensor]]) -> float:
    """Return the largest difference of the first output of a written model from the module's."""
    session = _session(path)
    device, largest = next(graph.parameters()).device, 0.0
    for batch in batches:
        found = session.run(None, {name: one.numpy() for name, one in batch.items()})[0]
        with torch.no_grad():
            expected = graph(*(one.to(device) for one in batch.values()))
        expected = expected[0] if isinstance(expected, tuple) else expected
        largest = max(largest, float(np.abs(found - expected.cpu().numpy()).max()))
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
            **({"level": task["level"]} if "level" in task else {}),
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


class HeadOutputs(nn.Module):
    """A head over features that returns logits and attentions alone.

    Args:
        head: Head over bags.
    """

    def __init__(self, head: MammoBagForClassification) -> None:
        super().__init__()
        self.head = head

    def forward(
        self, features: torch.Tensor, scales: torch.Tensor, sides: torch.Tensor, views: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Return logits (units, labels of all tasks) and attentions (units, images, vectors)."""
        found = self.head(features, scales, sides, views)
        return found.logits, found.attentions


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


# An exported classifier in the model's place: the same scores, from onnxruntime or OpenVINO.


class ExportedClassifier(nn.Module):
    """Classifier that ``mammo-hf export`` wrote, callable like the classifier that it was made from; on the CPU.

    Args:
        folder: Folder with ``model.onnx``, or ``model.xml`` and ``model.bin``, and ``tasks.json``.
        threads: Number of threads of an operation; by default as many as torch uses.

    Raises:
        UsageError: onnxruntime or openvino is not installed.
        DataError: A file is damaged.
    """

    device = torch.device("cpu")
    dtype = torch.float32

    def __init__(self, folder: str | os.PathLike[str], threads: int | None = None) -> None:
        super().__init__()
        self.folder = folder = Path(folder)
        self.config = _config(folder / TASKS)
        self.session = _session(_graph(folder), threads)

    def forward(self, pixel_values: torch.Tensor) -> MammoSwinImageClassifierOutput:
        """Return the logits of all tasks, with ``score_from`` applied already, of normalised images."""
        (logits,) = self.session.run(None, {"pixel_values": pixel_values.float().cpu().numpy()})
        return MammoSwinImageClassifierOutput(logits=torch.from_numpy(logits))

    def of_one_thread(self) -> ExportedClassifier:
        """Return the same classifier, loaded again with one thread, to be called by several threads at once."""
        return ExportedClassifier(self.folder, threads=1)


class _ExportedHead(nn.Module):
    """Head over features that ``mammo-hf export`` wrote."""

    device = torch.device("cpu")
    dtype = torch.float32

    def __init__(self, folder: Path) -> None:
        super().__init__()
        self.config = MammoBagConfig.from_pretrained(folder)
        self.session = _session(_graph(folder))

    def forward(self, **inputs: torch.Tensor) -> MammoBagOutput:
        given = {name: inputs[name].numpy() for name in ("features", "scales", "sides", "views")}
        given |= {"features": given["features"].astype(np.float32)}
        given |= {name: given[name].astype(np.int64) for name in ("scales", "sides", "views")}
        logits, attentions = map(torch.from_numpy, self.session.run(None, given))
        return MammoBagOutput(logits=logits, attentions=attentions)


class _ExportedEncoder(nn.Module):
    """Encoder that was exported with its head, in the place of `Encoder` where features of pictures are computed."""

    def __init__(self, folder: Path, tile: int) -> None:
        super().__init__()
        self.tile, self.mean = tile, torch.zeros(1)
        self.sessions = {path.stem: _session(path, threads=1) for path in _encoder_graphs(folder)}

    def forward(self, intensity: torch.Tensor) -> torch.Tensor:
        """Return the grid (pictures, channels, rows, columns) of intensities (pictures, 1, height, width)."""
        size = int(intensity.shape[-2]), int(intensity.shape[-1])
        (grid,) = self.sessions[ENCODER_GRAPH.format(*size)].run(None, {"intensity": intensity.numpy()})
        return torch.from_numpy(grid)


def _graph(folder: Path) -> Path:
    return next(path for path in exported_graphs(folder) if path.stem == GRAPH and path.suffix != ".bin")


def _encoder_graphs(folder: Path) -> list[Path]:
    return [path for path in exported_graphs(folder) if path.stem != GRAPH and path.suffix != ".bin"]


def _session(path: Path, threads: int | None = None) -> Any:
    """Open a graph on the CPU, by default with as many threads of an operation as torch uses."""
    package = "openvino" if path.suffix == ".xml" else "onnxruntime"
    try:
        library = importlib.import_module(package)
    except ImportError as error:
        extra = "openvino" if package == "openvino" else "onnx"
        raise UsageError(f"{package} is not installed", source=path.parent, remedy=install(extra)) from error
    threads = threads or torch.get_num_threads()
    try:
        if package == "openvino":
            return _OpenVinoSession(library.Core(), path, threads)
        options = library.SessionOptions()
        options.intra_op_num_threads = threads
        return library.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    except Exception as error:  # the errors of neither have a common class of their own
        raise DataError("cannot be read", source=path, remedy="export the classifier again") from error


class _OpenVinoSession:
    """Graph in OpenVINO's format, run as a session of onnxruntime is; each thread that calls it compiles its own."""

    def __init__(self, core: Any, path: Path, threads: int) -> None:
        self.core, self.model = core, core.read_model(path)
        # float32 where the processor would round to bfloat16 by itself; one model of several is not pinned to a core
        self.hints = {
            "INFERENCE_NUM_THREADS": threads,
            "INFERENCE_PRECISION_HINT": "f32",
            "PERFORMANCE_HINT": "LATENCY",
            "ENABLE_CPU_PINNING": False,
        }
        self.own = threading.local()
        self.own.compiled = self.core.compile_model(self.model, "CPU", self.hints)

    def run(self, _: None, inputs: dict[str, np.ndarray]) -> list[np.ndarray]:
        """Return the outputs of the graph for inputs by name."""
        if not hasattr(self.own, "compiled"):
            self.own.compiled = self.core.compile_model(self.model, "CPU", self.hints)
        return [np.array(found) for found in self.own.compiled(inputs).values()]


def load_exported(
    folder: str | os.PathLike[str],
    *,
    encoder: str | os.PathLike[str] | None = None,
    trust_remote_code: bool = False,
) -> tuple[Any, MammoImageProcessor]:
    """Load an exported classifier and its processor.

    Args:
        folder: Folder that ``mammo-hf export`` wrote.
        encoder: Encoder of a head over features that was exported without it, if it is no longer where the head says.
        trust_remote_code: Whether code of the encoder's own repository may be run.

    Raises:
        UsageError: See `ExportedClassifier`, or the encoder is not there or another one.
        DataError: A file is missing or damaged.
    """
    folder = Path(folder)
    if not (folder / CONFIG).is_file():
        if encoder is not None:
            raise UsageError("is for a head over features, and this is a Swin", source="encoder", remedy="leave it out")
        return ExportedClassifier(folder), load_processor(folder)
    head: Any = _ExportedHead(folder)
    if encoder is None and _encoder_graphs(folder):
        found: Any = _ExportedEncoder(folder, int(head.config.encoder_record["tile"]))
    else:
        named = encoder_name(head.config, folder, encoder)
        found = load_encoder(named, trust_remote_code=trust_remote_code)
        check_encoder(head.config, found.record, named)
    return BagClassifier(head, found), load_processor(folder)


def _config(path: Path) -> MammoSwinConfig:
    """Return a configuration with tasks and calibration, and without the network's shape."""
    try:
        tasks: list[dict[str, Any]] = json.loads(path.read_text(encoding="utf-8"))
        calibration = {task["name"]: task["calibration"] for task in tasks if task["calibration"]}
        named = [{"name": task["name"], "labels": task["labels"]} for task in tasks]
    except (OSError, ValueError, TypeError, KeyError) as error:
        raise DataError("cannot be read", source=path, remedy="export the classifier again") from error
    return MammoSwinConfig(tasks=named, calibration=calibration or None)
