"""Scoring in training: class weights, the metric of an epoch, and the evaluation of a classifier."""

from __future__ import annotations

import logging
from dataclasses import fields
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from scipy.special import softmax
from torch.utils.data import Dataset
from transformers import EvalPrediction, PreTrainedModel, Trainer, TrainingArguments

from ..data.collection import Collection
from ..data.splits import save_subset
from ..data.training_data import check_labels, labelled_patients, usable_tasks
from ..errors import DataError, UsageError
from ..evaluation.evaluate import evaluate_after_training
from ..evaluation.scored import Scored
from ..evaluation.task_figures import evaluate_task
from ..metrics.classification import accuracy, auroc_of
from ..metrics.inputs import UndefinedMetric
from ..models.checkpoint import BAG, read_tasks
from ..models.configuration_tasks import TaskConfig
from ..models.modeling_mammo_swin import probabilities, score_logits
from ..models.own_figures import auc_text, main_figures
from ..plotting import plot_loss_curves, plot_metric_curves, plot_roc
from ..processing.image_processing_mammo import MammoImageProcessor
from .options import ClassificationOptions, StageOptions
from .trainer import begin_stage, open_stage, terms_of_training

if TYPE_CHECKING:
    from .classification import ClassificationConfig

logger = logging.getLogger(__name__)
Tasks = list[dict[str, Any]]


def begin_classifier(
    images: Collection | str | Path,
    config: ClassificationConfig,
    *,
    model: str | None,
    start: str | None,
    checkpoint: str | None,
    processor: MammoImageProcessor,
) -> tuple[Collection, Tasks, tuple[str, ...], Any]:
    """Open a collection for a classifier, choose the labels, and take over the output folder.

    Args:
        images: A collection, or anything that `mammo_hf.load` takes.
        config: Configuration; its ``output_dir`` is written to once all checks have passed.
        model: What training starts from, as it was given; ``None``: nothing.
        start: The same as a size or a folder; no patient that it was trained on may be tested.
        checkpoint: Checkpoint of Trainer that is resumed; ``None``: a new start.
        processor: Processor of the images.

    Returns:
        The collection, split by patient; the tasks, the main one first; the patients whose labels are used; and where
        to push to, from `begin_stage`.

    Raises:
        UsageError: The checkpoint is of other tasks.
    """
    resumed = checkpoint is not None
    collection = open_stage(images, config, start=start, resumed=resumed, processor=processor)
    tasks = usable_tasks(collection, config.tasks)
    if checkpoint is not None:
        _check_resumed(checkpoint, tasks)
    check_labels(collection, tasks)
    check_metric(config, tasks)
    labels = {"percentage": config.label_percentage, "seed": config.seed}
    patients = labelled_patients(collection, tasks[0]["name"], saved=config.label_file, **labels)
    # From here on the output folder is written to
    terms = terms_of_training(collection, config, start)
    target = begin_stage(collection, config, terms, model=model, start=start, resumed=resumed)
    if config.process_index == 0:
        save_subset(patients, Path(str(config.output_dir)) / "label_subset.json", task=tasks[0]["name"], **labels)
    return collection, tasks, patients, target


def _check_resumed(checkpoint: str, tasks: Tasks) -> None:
    """Refuse to resume a training with other tasks, or with the same in another order: its rows would be theirs."""
    before = [(task["name"], list(task["labels"])) for task in read_tasks(checkpoint, ("swin", BAG))]
    if before != [(task["name"], list(task["labels"])) for task in tasks]:
        were, are = (", ".join(names) for names in ([name for name, _ in before], [task["name"] for task in tasks]))
        problem = f"is of the tasks {were}, with their labels in this order, and not of {are}"
        raise UsageError(problem, source=checkpoint, remedy="resume it with its own tasks, or start again")


def sentence(metrics: dict[str, Any], task: str) -> str:
    """Return one sentence about a finished training, with the AUC of a task on the test split."""
    test = metrics["test"].get(task)
    if test is None:
        return f"trained on {metrics['train_images']:,} images, without a test split for {task}"
    level = test.get("level", "image")
    by_unit = "" if level == "image" else f" by {level}"
    return f"test{by_unit} {auc_text(main_figures(test))}"


def check_metric(config: ClassificationConfig, tasks: Tasks) -> None:
    """Refuse a metric for the best epoch that no evaluation gives, which Trainer would find at its first one.

    Raises:
        UsageError: Names the metrics that there are.
    """
    known = ["auto", "loss", *(f"{task['name']}_{metric}" for task in tasks for metric in ("auroc", "accuracy"))]
    given = str(config.metric_for_best_model).removeprefix("eval_")
    if given not in known:
        raise UsageError(f"is {given!r}", source="metric_for_best_model", remedy=f"use {', '.join(known)}")


def choose_metric(config: ClassificationConfig, labels: np.ndarray, tasks: Tasks) -> None:
    """Set the metric that chooses the best epoch: as given, or the main task's AUC, or else the loss.

    Args:
        config: Configuration; it is changed.
        labels: Labels of the validation rows, int64 (rows, tasks), -100 if not known.
        tasks: Tasks in the order of the columns.
    """
    if config.metric_for_best_model == "auto":
        known = labels[labels[:, 0] >= 0, 0]
        defined = len(set(known.tolist())) == len(tasks[0]["labels"])
        config.metric_for_best_model = f"eval_{tasks[0]['name']}_auroc" if defined else "eval_loss"
        if not defined:
            logger.warning("validation lacks a class of %s: the loss chooses the epoch, not the AUC", tasks[0]["name"])
    config.greater_is_better = not config.metric_for_best_model.endswith("loss")
    logger.info("the best epoch is chosen by %s", config.metric_for_best_model)


def class_weights(labels: np.ndarray, tasks: Tasks) -> dict[str, list[float]]:
    """Return the class weights w_c = N / (K * N_c) of each task, over the known labels of the given rows.

    A class that never occurs has the weight 1.

    Args:
        labels: Labels of the training rows, int (rows, tasks), -100 if not known.
        tasks: Tasks in the order of the columns.

    Raises:
        DataError: The first task has no label, or labels of one class only.
    """
    weights = {}
    for index, task in enumerate(tasks):
        known = labels[labels[:, index] >= 0, index]
        counts = np.bincount(known, minlength=len(task["labels"]))
        if index == 0 and np.count_nonzero(counts) < 2:
            found = "no labels at all" if not counts.any() else f"{task['labels'][counts.argmax()]!r} only"
            raise DataError(
                f"the training rows have {found} for the task {task['name']!r}",
                remedy="check the label tables and `label_percentage`",
            )
        # no row asks for the weight of a class that never occurs: any that a configuration may hold will do
        weights[task["name"]] = [len(known) / (len(counts) * n) if n else 1.0 for n in counts.tolist()]
    return weights


def task_options(config: ClassificationConfig, tasks: Tasks, weights: dict[str, list[float]] | None) -> dict[str, Any]:
    """Return the arguments of a model's configuration that say how its tasks are trained.

    Trainer's own label smoothing is switched off: it would smooth over the labels of all tasks at once.

    Args:
        config: Configuration of the training; it is changed.
        tasks: Tasks of the model.
        weights: Class weights of the loss, from `used_class_weights`.

    Raises:
        UsageError: There is another number of task weights than of tasks.
    """
    names = [task["name"] for task in tasks]
    if config.task_weights and len(config.task_weights) != len(names):
        raise UsageError(
            f"{len(config.task_weights)} weights for the tasks {', '.join(names)}",
            source="task_weights",
            remedy="give one per task",
        )
    smoothing, config.label_smoothing_factor = config.label_smoothing_factor, 0.0
    return {
        "tasks": tasks,
        "class_weights": weights,
        "task_weights": dict(zip(names, config.task_weights, strict=True)) if config.task_weights else None,
        "ordinal_tasks": [name for name in config.ordinal_tasks if name in names] or None,
        "label_smoothing": smoothing,
    }


def weights_as_text(weights: dict[str, list[float]], tasks: Tasks) -> str:
    """Return the weights in one line, each class by its label."""
    labels = {task["name"]: task["labels"] for task in tasks}
    return "; ".join(
        f"{name}: {', '.join(f'{label} {weight:.2f}' for label, weight in zip(labels[name], own, strict=True))}"
        for name, own in weights.items()
    )


def epoch_metrics(prediction: EvalPrediction, config: TaskConfig) -> dict[str, float]:
    """Return accuracy and AUC of each task on the rows with a known label; undefined ones are left out."""
    logits, lesion_scores, labels = arrays_of(prediction)
    if not np.isfinite(logits).all():
        raise DataError("the training has diverged: its scores are not finite", remedy="lower the learning rate")
    shares = probabilities(config, torch.from_numpy(logits), lesion_scores)
    metrics = {}
    for index, (name, share) in enumerate(shares.items()):
        known = labels[:, index] >= 0
        scores, truth = share.numpy()[known], labels[known, index]
        try:
            metrics[f"{name}_accuracy"] = accuracy(truth, scores.argmax(-1))
            metrics[f"{name}_auroc"] = area_of(truth, scores)
        except UndefinedMetric:
            continue
    return metrics


def area_of(truth: np.ndarray, scores: np.ndarray) -> float:
    """Return the AUC of class probabilities (n, classes), macro-averaged with more than two classes."""
    metric, values = auroc_of(scores)
    return metric(truth, values)


def arrays_of(prediction: Any) -> tuple[np.ndarray, torch.Tensor | None, np.ndarray]:
    """Return logits, the lesion head's scores if there is one, and labels."""
    found = prediction.predictions
    if isinstance(found, tuple):
        return found[0], torch.from_numpy(found[1]), prediction.label_ids
    return found, None, prediction.label_ids


def used_class_weights(labels: np.ndarray, config: ClassificationConfig, tasks: Tasks) -> dict[str, list[float]] | None:
    """Return the weights of the classes in the loss, ``None`` if sampling does without; refuse labels of one class.

    Args:
        labels: Labels of the training rows, int64 (rows, tasks), -100 if not known.
        config: Configuration with ``sampling``.
        tasks: Tasks in the order of the columns.
    """
    weights = class_weights(labels, tasks)
    used = weights if config.sampling == "weighted" else None
    logger.info("class weights: %s", weights_as_text(used, tasks) if used else f"none, sampling is {config.sampling}")
    return used


def used_lesion_loss(annotated: int, config: ClassificationConfig) -> float:
    """Return the weight of the loss of lesion annotations: the one that is asked for, or else 1 if there are any.

    Args:
        annotated: Number of training rows with located annotations.
        config: Configuration with ``lesion_loss``.

    Raises:
        DataError: It is asked for, and there are none.
    """
    if config.lesion_loss and not annotated:
        raise DataError("no lesion annotation of a training row has a location", remedy="set the lesion loss to 0")
    return float(bool(annotated)) if config.lesion_loss is None else config.lesion_loss


def own_options(config: ClassificationConfig) -> dict[str, Any]:
    """Return the options that say how the classifier was trained, without paths and without Trainer's own."""
    shared = {field.name for field in fields(StageOptions)} - {"window_size", "layer_decay", "weight_average"}
    trainers = {field.name for field in fields(TrainingArguments)}
    own = [field.name for field in fields(ClassificationOptions) if field.name not in shared | trainers]
    return {name: getattr(config, name) for name in own if name not in ("label_percentage", "label_file")}


def predicted_logits(trainer: Trainer, images: Dataset[Any]) -> np.ndarray:
    """Return the logits of the scores, float64 (rows, labels of all tasks), in the rows' order."""
    logits, lesion_scores, _ = arrays_of(trainer.predict(images))
    config = trainer.accelerator.unwrap_model(trainer.model).config
    return score_logits(config, torch.from_numpy(logits), lesion_scores).double().numpy()


def evaluate(
    network: PreTrainedModel,
    splits: dict[str, Scored],
    *,
    seed: int,
    **report: Any,
) -> dict[str, Any]:
    """Evaluate on validation, fit calibration and operating points there, and evaluate the test split with them.

    Args:
        network: Model whose configuration gets ``calibration`` and ``operating_points``.
        splits: Scored images of the validation and the test split, of those that have any.
        seed: Random seed of the bootstrap.
        report: Further arguments of `evaluate_after_training`: the report's folder and its facts.

    Returns:
        ``validation`` and ``test``: each task's figures with intervals by patient, null with a reason if undefined.
    """
    missing = {"reason": "no labelled image"}
    figures: dict[str, Any] = {"validation": missing, "test": missing}
    if "validation" in splits:
        figures["validation"] = _uncalibrated(network.config, splits["validation"], seed)
    evaluation = evaluate_after_training(
        network, validation=splits.get("validation"), test=splits.get("test"), seed=seed, **report
    )
    if evaluation is not None:
        figures["test"] = evaluation.figures
    return figures


def _uncalibrated(config: TaskConfig, images: Scored, seed: int) -> dict[str, Any]:
    return {
        task["name"]: evaluate_task(
            task,
            images.labels[:, index],
            softmax(images.logits[:, part], axis=-1),
            images.patients,
            groupings=images.groupings(),
            counted=images.counted(),
            of_units={level: softmax(logits[:, part], axis=-1) for level, logits in images.of_units.items()},
            seed=seed,
        )
        for index, (task, part) in enumerate(zip(config.tasks, config.task_slices.values(), strict=True))
    }


def draw_curves(
    trainer: Trainer,
    labels: np.ndarray | None,
    logits: np.ndarray | None,
    plots: Path,
    figures: dict[str, Any],
) -> None:
    """Draw loss and metrics of the run, and the ROC curve of the test rows if the main task has two labels.

    Args:
        trainer: Trainer after the run.
        labels: Labels of the test rows, int64 (rows, tasks); ``None``: there are none.
        logits: Their logits (rows, labels of all tasks).
        plots: Folder of the plots.
        figures: Figures of the run, with those of the main task on these rows under ``test``.
    """
    remark = "training adds the loss of the lesions, validation does not" if figures["lesion_loss_weight"] else ""
    plot_loss_curves(trainer.state.log_history, plots / "classifier_loss.png", "Classification", remark)
    plot_metric_curves(trainer.state.log_history, plots / "classifier_metrics.png")
    config: TaskConfig = trainer.accelerator.unwrap_model(trainer.model).config
    name, part = next(iter(config.task_slices.items()))
    result = main_figures(figures["test"].get(name))
    if logits is None or labels is None or result is None or result["auroc"] is None or part.stop - part.start != 2:
        return
    known = labels[:, 0] >= 0
    scores = softmax(logits[known, part], axis=-1)[:, 1]
    plot_roc(labels[known, 0], scores, plots / "roc.png", interval=result["auroc_interval"])
