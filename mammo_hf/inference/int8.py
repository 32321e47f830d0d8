"""An exported classifier with weights and activations of 8 bits, written only if its scores are those of the model.

The arithmetic is onnxruntime's static quantisation (weights per channel, ranges of activations from training images);
OpenVINO takes its graph. The guard compares on the test split: INT8 is refused where it may cost what a reader sees.
"""

from __future__ import annotations

import importlib
import importlib.util
import json
import logging
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from ..data.splits import read_seen
from ..data.torch_datasets import LabelledImages
from ..data.training_data import prepared_images
from ..encoders.classifier import BagClassifier
from ..errors import DataError, UsageError, check_choice, install
from ..evaluation.classifier import task_logits
from ..evaluation.evaluate import checked_collection, labelled_images
from ..evaluation.scored import Scored, score_images, scored
from ..metrics.calibration import calibrated
from ..metrics.classification import auroc_of, brier
from ..metrics.inputs import UndefinedMetric
from ..metrics.intervals import paired_interval
from ..models.checkpoint import GRAPH, GRAPH_ENDINGS, INT8, locate
from .exported import ExportedClassifier, export_classifier, to_openvino
from .scoring import load_classifier

if TYPE_CHECKING:
    from ..data.collection import Collection

CALIBRATION_IMAGES = 128
# What INT8 may cost at most: the ends of 95 % intervals by patient, and the mean over the test images
LEAST_AUROC, MOST_BRIER, MOST_CHANGE = -0.01, 0.005, 0.01
_MORE = "export it without INT8, or test on more images"


def export_int8(
    model: str | Path,
    images: Any,
    out: str | Path,
    *,
    format: str = "onnx",
    num_workers: int = 2,
    resamples: int = 2000,
    seed: int = 0,
) -> dict[str, Any]:
    """Export a classifier with weights and activations of 8 bits; nothing is written if the guard refuses it.

    The folder is that of `export_classifier`, and ``int8.json`` has the figures of the guard.

    Args:
        model: Classifier: a Swin's folder, or a name on the Hub with an optional ``@revision``.
        images: Collection, or anything that `mammo_hf.load` takes: its training images calibrate, its test images
            compare.
        out: Folder to write, which must not exist yet or be empty.
        format: "onnx" or "openvino".
        num_workers: Processes that prepare images.
        resamples: Bootstrap resamples of the intervals.
        seed: Seed of the choice of calibration images and of the bootstrap.

    Returns:
        The figures: ``tasks`` by name, with ``auroc`` before and after, ``auroc_interval`` and ``brier_interval`` of
        the difference, and ``mean_change`` of a probability; and the numbers of images and patients.

    Raises:
        UsageError: A package is not installed, the folder is not empty, or the model is a head over features.
        DataError: The training images are of one class, the test images cannot be compared, or the guard refuses.
    """
    check_choice("format", format, GRAPH_ENDINGS)
    if importlib.util.find_spec("onnxruntime") is None:
        raise UsageError("onnxruntime, which makes a model INT8, is not installed", remedy=install("onnx"))
    folder = locate(model)
    classifier, processor = load_classifier(folder)
    if isinstance(classifier, BagClassifier):
        problem = "is a head over features, which is small: INT8 is for Swin classifiers"
        raise UsageError(problem, source=model, remedy="export it without INT8")
    tasks: Any = classifier.config.tasks
    collection = checked_collection(images, folder, processor)
    training = _calibrating(labelled_images(collection, "train", tasks), tasks[0]["name"], seed)
    tested = labelled_images(collection, "test", tasks)
    if not (read_seen(folder) or frozenset()).isdisjoint(tested.column("patient")):
        problem = "the model was trained or chosen on patients of the test split"
        raise UsageError(problem, source=collection.root, remedy="give images that it has not seen")
    with tempfile.TemporaryDirectory() as work:
        options: dict[str, Any] = {"tasks": tasks, "num_workers": num_workers}
        calibrating = prepared_images(training, processor, Path(work) / "calibration", **options)
        prepared = prepared_images(tested, processor, Path(work) / "test", **options)
        before = score_images(classifier, prepared, processor)
        about = {"calibration_images": len(calibrating), "split": "test", "seed": seed, "resamples": resamples}
        found: dict[str, Any] = {}

        def change(part: Path) -> None:
            _quantise(part / f"{GRAPH}.onnx", LabelledImages(calibrating, processor))
            if format == "openvino":
                to_openvino(part / f"{GRAPH}.onnx")
            after = score_images(ExportedClassifier(part), prepared, processor)  # type: ignore[arg-type]
            found.update(about | compared(classifier.config, scored(before, prepared, tested), after, resamples, seed))
            _refuse(found["tasks"], model)
            (part / INT8).write_text(json.dumps(found, indent=2) + "\n", encoding="utf-8")

        export_classifier(classifier, processor, out, change=change)
    return found


def _calibrating(images: Collection, task: str, seed: int) -> Collection:
    """Choose calibration images, as many of each label of a task, or all that there are of a label.

    Raises:
        DataError: They are of one class: ranges would be those of its images alone.
    """
    ids, values = np.array(images.column("image_id")), images.column(task)
    labels = np.array([str(label) for label in values])
    known = sorted({str(label) for label in values if label is not None})
    if len(known) < 2:
        raise DataError(
            f"all training images have the label {''.join(known) or 'none'} of {task}: INT8 is calibrated on several",
            source=images.root,
            remedy="give a collection whose training images are of all classes",
        )
    random = np.random.default_rng(seed)
    of_each = [random.permutation(np.flatnonzero(labels == label)) for label in known]
    chosen = [rows[: -(-CALIBRATION_IMAGES // len(known))] for rows in of_each]
    calibrating = set(ids[np.concatenate(chosen)].tolist())
    return images.where(lambda row: row["image_id"] in calibrating)


def _quantise(path: Path, images: LabelledImages) -> None:
    """Quantise the matrix products and convolutions of an ONNX file, in place of the file."""
    quantization: Any = importlib.import_module("onnxruntime.quantization")

    class Reader(quantization.CalibrationDataReader):
        def __init__(self) -> None:
            self.rows: Iterator[int] = iter(range(len(images)))

        def get_next(self) -> dict[str, np.ndarray] | None:
            row = next(self.rows, None)
            return None if row is None else {"pixel_values": images[row]["pixel_values"].numpy()[None]}

    done = path.with_name("int8.onnx")
    logging.disable(logging.WARNING)  # it advises to optimise the graph first, which the exporter has done
    try:
        quantization.quantize_static(
            path,
            done,
            Reader(),
            quant_format=quantization.QuantFormat.QDQ,
            op_types_to_quantize=["Conv", "Gemm", "MatMul"],
            per_channel=True,
            # 7 bits of weights: without AVX-512 VNNI sums of products of 8 bits overflow in 16
            reduce_range=True,
            activation_type=quantization.QuantType.QUInt8,
            weight_type=quantization.QuantType.QInt8,
            extra_options={"MatMulConstBOnly": True},
        )
    finally:
        logging.disable(logging.NOTSET)
    done.replace(path)


def compared(config: Any, images: Scored, after: np.ndarray, resamples: int, seed: int) -> dict[str, Any]:
    """Return the figures of the guard, after minus before.

    Args:
        config: Configuration of the model, with its tasks and calibration.
        images: Test images with the logits of the model.
        after: Logits (n, labels of all tasks) of the same images by the changed model.
        resamples: Bootstrap resamples.
        seed: Seed of the bootstrap.

    Raises:
        DataError: No task can be compared, as its test images are of one class.
    """
    draw: dict[str, Any] = {"resamples": resamples, "seed": seed}
    tasks, changed = {}, task_logits(config.tasks, after)
    for number, (name, logits) in enumerate(task_logits(config.tasks, images.logits).items()):
        known = images.known(number)
        if not known.any():
            continue
        truth, patients = np.asarray(images.labels)[known, number], np.asarray(images.patients)[known]
        fit = (config.calibration or {}).get(name)
        one, other = (calibrated(table[known], fit) for table in (logits, changed[name]))
        (area, first), (_, second) = auroc_of(one), auroc_of(other)
        try:
            tasks[name] = {
                "auroc": [area(truth, first), area(truth, second)],
                "auroc_interval": list(paired_interval(area, truth, first, second, groups=patients, **draw)),
                "brier_interval": list(paired_interval(brier, truth, first, second, groups=patients, **draw)),
                "mean_change": float(np.abs(other - one).mean()),
            }
        except UndefinedMetric as error:
            raise DataError(f"{name} cannot be compared: {error.reason}", remedy=_MORE) from error
    if not tasks:
        raise DataError("no test image has a label of the model's tasks", remedy=_MORE)
    return {"images": len(images), "patients": len(set(images.patients)), "tasks": tasks}


def _refuse(tasks: Mapping[str, Mapping[str, Any]], model: str | Path) -> None:
    """Refuse a model that may cost more than the guard allows.

    Raises:
        DataError: Names the task, the figure and its limit.
    """
    for name, task in tasks.items():
        low, high, change = task["auroc_interval"][0], task["brier_interval"][1], task["mean_change"]
        # not "worse than": what is not a number is refused, too
        if not low >= LEAST_AUROC:
            problem = f"the AUC may fall by {-low:.4f}, and at most {-LEAST_AUROC:g} is allowed"
        elif not high <= MOST_BRIER:
            problem = f"the Brier score may rise by {high:.4f}, and at most {MOST_BRIER:g} is allowed"
        elif not change <= MOST_CHANGE:
            problem = f"probabilities change by {change:.4f} in the mean, and at most {MOST_CHANGE:g} is allowed"
        else:
            continue
        raise DataError(f"is not as good in INT8: {name}: {problem}", source=model, remedy=_MORE)
