"""A classifier and its scores: loaded by any model argument, its logits, averaged over views, calibrated, explained."""

from __future__ import annotations

import math
import os
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import torch

from ..data.augmentation import rotated
from ..dicom import Laterality
from ..encoders.bags import Image
from ..encoders.classifier import BagClassifier, load_bag_classifier
from ..encoders.views import Drawn
from ..errors import UsageError
from ..explainers import Explainer, Explanation, explain
from ..explainers.explain import OPERATING_POINT
from ..explainers.overlay import method_name
from ..explainers.targets import calibrated_scores, fixed_target, predicted, resolve, task_slices
from ..models.checkpoint import BAG, check_processor, load_model, load_processor, locate, read_classifier_config
from ..models.modeling_mammo_swin import MammoSwinForImageClassification, score_logits
from ..models.own_figures import AT_CHANCE, NOT_TESTED, is_at_chance, is_tested_for, map_tests, own_figures
from ..models.training_statistics import QUANTILE, TrainingStatistics, pooled_features, read_statistics
from ..notes import Note
from ..plugins import PluginError, pass_over
from ..processing.geometry import Geometry
from ..processing.image_processing_mammo import MammoImageProcessor

Targets = str | Sequence[str | int] | None
# (rotation in degrees, scale) of the views of test-time augmentation: within what training may show (`Augmentation`)
VIEWS = ((0.0, 1.0), (-5.0, 1.0), (5.0, 1.0), (0.0, 0.95), (0.0, 1.05))


def load_classifier(
    model: str | os.PathLike[str],
    *,
    encoder: str | os.PathLike[str] | None = None,
    trust_remote_code: bool = False,
    **options: Any,
) -> tuple[Any, MammoImageProcessor]:
    """Load a classifier in evaluation mode, and its processor: a Swin, or a head over features with its encoder.

    Args:
        model: A folder or a name on the Hub, as in `mammo_hf.models.checkpoint.locate`.
        encoder: Encoder of a head, if it is no longer where the head's configuration says.
        trust_remote_code: Whether code of the encoder's own repository may be run.
        options: Arguments of ``from_pretrained``, such as ``dtype``; a head is computed in float32 alone.

    Raises:
        UsageError: There is no such model, it is not a classifier, or its processor or encoder is another model's.
        DataError: Its weights cannot be read, or it has no processor.
    """
    folder = locate(model)
    config = read_classifier_config(folder, ("swin", BAG))  # refuses a pre-trained encoder with the reason
    processor = load_processor(folder)
    if config["model_type"] == BAG:
        if options.get("dtype", torch.float32) != torch.float32:
            raise UsageError("is for a Swin", source="dtype", remedy="leave it out: a head is computed in float32")
        head: Any = load_bag_classifier(folder, encoder=encoder, trust_remote_code=trust_remote_code)
        head.training_statistics = read_statistics(folder)
        head.own_figures, head.map_tests = own_figures(folder), map_tests(folder)
        return head, processor
    if encoder is not None:
        raise UsageError("is for a head over features, and this is a Swin", source="encoder", remedy="leave it out")
    network: Any = load_model(MammoSwinForImageClassification, folder, **options).eval()
    check_processor(processor, network.config, model)
    network.training_statistics = read_statistics(folder)
    network.own_figures, network.map_tests = own_figures(folder), map_tests(folder)
    return network, processor


def image_logits(
    model: Any, pixel_values: torch.Tensor, processor: MammoImageProcessor | None = None, *, tta: bool = False
) -> torch.Tensor:
    """Return the logits that a model's scores are made of, (batch, labels of all tasks).

    Args:
        model: A classifier.
        pixel_values: Normalised images (batch, channels, height, width) on the model's device.
        processor: The model's processor; only ``tta`` needs it.
        tta: Whether to use test-time augmentation: the mean of the logits over five views of the same image.
    """
    if not tta:
        return _logits(model, pixel_values)
    if processor is None:
        raise ValueError("tta needs the processor")
    mean, deviation = processor.image_mean[0], processor.image_std[0]
    intensity = (pixel_values.float() * deviation + mean).clamp(0, 1)
    total = torch.zeros(0)
    for angle, scale in VIEWS:
        # what comes in from outside the canvas is background: intensity 0, not the mean
        view = (rotated(intensity, math.radians(angle), scale) - mean) / deviation
        logits = _logits(model, view.to(pixel_values.dtype)).float()
        total = logits if not len(total) else total + logits
    return total / len(VIEWS)


def logits_and_notes(
    model: Any, pixel_values: torch.Tensor, processor: MammoImageProcessor | None = None, *, tta: bool = False
) -> tuple[torch.Tensor, list[list[Note]]]:
    """Return what `image_logits` does, and the notes that the model makes on each image."""
    statistics: TrainingStatistics | None = getattr(model, "training_statistics", None)
    if statistics is None:
        return image_logits(model, pixel_values, processor, tta=tta), [[] for _ in range(len(pixel_values))]
    with pooled_features(model) as seen:
        logits = image_logits(model, pixel_values, processor, tta=tta)
    return logits, _notes(statistics, seen[0])  # of several views the first is the unchanged image


def bag_logits_and_notes(model: BagClassifier, bag: Image) -> tuple[np.ndarray, list[Note]]:
    """Return the logits of an image alone, float64 (labels of all tasks,), and the notes that the head makes on it.

    Args:
        model: A head with its encoder.
        bag: The image as one of a bag, from `BagClassifier.bag`.
    """
    statistics: TrainingStatistics | None = getattr(model, "training_statistics", None)
    if statistics is None:
        return model.unit_logits([bag]), []
    with pooled_features(model.head) as seen:
        logits = model.unit_logits([bag])
    return logits, _notes(statistics, seen[0])[0]


def _notes(statistics: TrainingStatistics, features: torch.Tensor) -> list[list[Note]]:
    note = Note("unlike_training_images", percent=f"{100 * (1 - QUANTILE):g}")
    return [[note] * bool(one) for one in statistics.unlike(features.numpy())]


def _logits(model: Any, pixel_values: torch.Tensor) -> torch.Tensor:
    output = model(pixel_values=pixel_values)
    if getattr(model.config, "tasks", None) is None:
        return output.logits
    return score_logits(model.config, output.logits, getattr(output, "lesion_scores", None))


def units_of_head(
    model: BagClassifier, lateralities: Sequence[Laterality], bags: Sequence[Image]
) -> dict[str, dict[str, np.ndarray]]:
    """Return the scores that a head over features gives to the breasts and to the exam, as `into_exam` does.

    Args:
        model: A head with its encoder.
        lateralities: The breast of each view.
        bags: The views as images of a bag, from `BagClassifier.bag`.
    """
    sides = [one.name.lower() for one in lateralities]
    units = {side: [bag for bag, own in zip(bags, sides, strict=True) if own == side] for side in sorted(set(sides))}
    found = {}
    for unit, images in (units | {"exam": list(bags)}).items():
        scores = calibrated_scores(model.config, model.unit_logits(images)[None])
        found[unit] = {task: table[0] for task, table in scores.items()}
    return found


def labels_by_task(config: Any) -> dict[str, list[str]]:
    """Return each task's labels by its name, without the task's name, in the order of the logits."""
    return {
        name: [label_of(config, index) for index in range(part.start, part.stop)]
        for name, part in task_slices(config).items()
    }


def label_of(config: Any, index: int) -> str:
    """Return the label of an index into the logits, without its task's name."""
    return str(config.id2label[index]).split(":", 1)[-1]


def score_and_explain(
    model: Any,
    processor: MammoImageProcessor,
    pixel_values: torch.Tensor,
    *,
    explainer: str | Explainer | None = None,
    tasks: Sequence[str] | None = None,
    target: Targets = None,
    tta: bool = False,
    geometry: Sequence[Geometry] | None = None,
    operating_point: str = OPERATING_POINT,
) -> tuple[torch.Tensor, list[dict[int, Explanation]], list[list[Note]]]:
    """Return the logits that a batch's scores are made of, explanations if asked for, and the model's notes.

    Args:
        model: A classifier.
        processor: The model's processor.
        pixel_values: Normalised images, float32 (batch, channels, height, width).
        explainer: An explainer, as in `mammo_hf.explainers.explain`; ``None`` to explain nothing.
        tasks: Names of the tasks to explain, as in `explain_tasks`; all by default.
        target: Labels to explain, as in `explain_tasks`.
        tta: Whether to use test-time augmentation, as in `image_logits`.
        geometry: The way back to source pixels, per image.
        operating_point: Rule below whose threshold no map is drawn, as in `mammo_hf.explainers.explain`.

    Returns:
        Logits, float32 (batch, labels), and per image its explanations by the label's index into the logits, and the
        notes of `logits_and_notes`.
    """
    given = pixel_values.to(model.device, model.dtype)
    logits: torch.Tensor | None = None
    explanations: list[dict[int, Explanation]] = [{} for _ in range(len(pixel_values))]
    if explainer is not None:
        try:
            logits, explanations = explain_tasks(
                model,
                given,
                explainer,
                tasks=tasks or list(task_slices(model.config)),
                target=target,
                images=processor.denormalize(pixel_values.float().cpu().numpy()),
                geometry=geometry,
                operating_point=operating_point,
            )
        except PluginError as error:  # the scores do not need it
            pass_over(str(error))
    # what is explained is the pooled score of the unchanged image; the reported score may be another, and explainers
    # may show the model other images
    noted = getattr(model, "training_statistics", None) is not None
    notes: list[list[Note]] = [[] for _ in range(len(pixel_values))]
    if logits is None or tta or noted or getattr(model.config, "score_from", "pooled") != "pooled":
        with torch.inference_mode():
            logits, notes = logits_and_notes(model, given, processor, tta=tta)
    logits = logits.float()
    return logits, [as_reported(*one, model.config) for one in zip(explanations, logits, strict=True)], notes


def targets_of_exam(config: Any, scores: Mapping[str, np.ndarray], tasks: Sequence[str] | None = None) -> list[int]:
    """Return the label of each task that is explained on all views of an exam, as an index into the logits.

    Args:
        config: The model's configuration.
        scores: Scores (labels,) of the exam by the task's name.
        tasks: Names of the tasks; all by default.
    """
    slices = task_slices(config)
    fixed = {task: fixed_target(config, task) for task in tasks or slices}
    return [slices[task].start + int(scores[task].argmax()) if at is None else at for task, at in fixed.items()]


def as_reported(found: dict[int, Explanation], logits: torch.Tensor, config: Any) -> dict[int, Explanation]:
    """Return an image's explanations with the scores that are reported of it, from its logits (labels,)."""
    scores = np.concatenate(list(calibrated_scores(config, logits[None].double().cpu().numpy()).values()), axis=1)[0]
    return {index: replace(one, score=(float(scores[index]),)) for index, one in found.items()}


def explain_bag(
    model: BagClassifier,
    image: Drawn,
    explainer: str | Explainer,
    *,
    tasks: Sequence[str] | None = None,
    target: Targets = None,
    operating_point: str = OPERATING_POINT,
) -> dict[int, Explanation]:
    """Explain one image to a head over features, as `explain_tasks` does; nothing if the explainer has failed.

    Args:
        model: A head with its encoder.
        image: Views of the image.
        explainer: An explainer, as in `mammo_hf.explainers.explain`.
        tasks: Names of the tasks to explain; all by default.
        target: Labels to explain, as in `explain_tasks`.
        operating_point: Rule below whose threshold no map is drawn, as in `mammo_hf.explainers.explain`.
    """
    pixels, geometry = image.finest
    given = torch.from_numpy(pixels)[None, None].to(model.device, model.dtype)
    wanted = tasks or list(task_slices(model.config))
    try:
        shown: dict[str, Any] = {"images": pixels[None], "geometry": [geometry], "operating_point": operating_point}
        return explain_tasks(model, given, explainer, tasks=wanted, target=target, **shown)[1][0]
    except PluginError as error:  # the scores do not need it
        pass_over(str(error))
        return {}


def explain_tasks(
    model: Any,
    pixel_values: torch.Tensor,
    explainer: str | Explainer,
    *,
    tasks: Sequence[str],
    target: Targets = None,
    images: np.ndarray | None = None,
    geometry: Sequence[Geometry] | None = None,
    operating_point: str = OPERATING_POINT,
) -> tuple[torch.Tensor, list[dict[int, Explanation]]]:
    """Explain one label of each task for a batch, in as few passes as possible.

    Args:
        model: A classifier.
        pixel_values: Normalised images (batch, channels, height, width).
        explainer: An explainer, as in `mammo_hf.explainers.explain`.
        tasks: Names of the tasks of which a label is explained, see `mammo_hf.explainers.targets.default_targets`.
        target: Labels to explain instead, such as "pathology:malignant", or their indices into the logits, the same for
            each image.
        images: Images for overlays, as in `mammo_hf.explainers.explain`.
        geometry: The way back to source pixels, per image.
        operating_point: Rule below whose threshold no map is drawn, as in `mammo_hf.explainers.explain`.

    Returns:
        The model's own logits (batch, labels) on the CPU, and per image its explanations by the label's index into the
        logits.

    Raises:
        UsageError: An unknown explainer or label.
    """
    wanted: list[Any] = list(tasks)
    if target is not None:
        wanted = [resolve(one, 1, model.config)[0] for one in ([target] if isinstance(target, str) else target)]
    if not wanted:
        raise UsageError("names no label", source="target", remedy="name one, or leave it out")
    found: list[dict[int, Explanation]] = [{} for _ in range(len(pixel_values))]
    slices, logits = task_slices(model.config), None
    shown: dict[str, Any] = {"images": images, "geometry": geometry, "operating_point": operating_point}
    for one in wanted:
        fixed = one if isinstance(one, int) else fixed_target(model.config, one)
        indices = None if fixed is None else [fixed] * len(pixel_values)
        if indices is None and logits is not None:
            indices = predicted(logits, model.config, one)
        elif indices is None and slices[one].start:
            with torch.no_grad():
                indices = predicted(model(pixel_values=pixel_values).logits.float().cpu(), model.config, one)
        # without indices it is the first task's label, and the pass that finds it is the one that is explained
        explanation = _remarked(model, explain(model, pixel_values, indices, explainer, **shown))
        if explanation.logits is None:
            raise UsageError("gave no logits", source="explainer", remedy="use one that is run by explain")
        logits = torch.tensor(explanation.logits)
        for row, index in enumerate(indices or predicted(logits, model.config)):
            found[row][index] = explanation.of_image(row)
    assert logits is not None
    return logits, found


def _remarked(model: Any, explanation: Explanation) -> Explanation:
    """Return an explanation of one task with what the model's own records say of its scores and its maps."""
    sentences = sentences_on_scores(model, explanation.target[0].split(":", 1)[0])
    remarks = (*sentences, *sentences_on_maps(model, explanation))
    return replace(explanation, doubts=(AT_CHANCE,) * is_at_chance(sentences), remarks=remarks)


def sentences_on_scores(model: Any, task: str) -> tuple[str, ...]:
    """Return what the records of a loaded model say of its scores of a task, see `own_figures`."""
    known: Any = getattr(model, "own_figures", {})
    found: tuple[str, ...] = known.get(task) or known.get("") or ()
    return found


def sentences_on_maps(model: Any, explanation: Explanation) -> tuple[str, ...]:
    """Return one line on each test of such maps of a loaded model, see `map_tests`, if they are for that label.

    Args:
        model: A classifier.
        explanation: Explanation of one image or more, whose first image says which label is explained.
    """
    tests, lines = getattr(model, "map_tests", {}).get(explanation.explainer), NOT_TESTED
    if tests and is_tested_for(tests.target, explanation.target[0], any(explanation.predicted[:1])):
        lines = tests.lines
    elif tests:
        lines = (f"{NOT_TESTED[0].removesuffix('.')} for {explanation.target[0]}.",)
    return tuple(f"{method_name(explanation.explainer)} {line}" for line in lines)
