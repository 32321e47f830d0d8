"""Stage 2: several tasks from few labels, the test split read once, at the end."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

import datasets
import numpy as np
import torch
from transformers import EvalPrediction, Trainer, TrainingArguments

from ..configuration_mammo_swin import SIZES, MammoSwinConfig
from ..errors import DataError
from ..evaluation import UndefinedMetric, accuracy, auroc, evaluate_task, macro_auroc
from ..image_processing_mammo import MammoImageProcessor
from ..modeling_mammo_swin import MammoSwinForImageClassification
from .arguments import check_number
from .augmentation import Augmentation
from .datasets import EpochOfDatasets, LabelledImages, rows_of
from .mim import other_window, starting_config
from .plots import plot_loss_curves, plot_metric_curves, plot_roc
from .running import SwinTrainer, run, without_last_batch_surprise, without_validation
from .starting_weights import load_starting_weights

logger = logging.getLogger(__name__)

Tasks = list[dict[str, Any]]


def class_weights(labels: np.ndarray, tasks: Tasks) -> dict[str, list[float]]:
    """w_c = N / (K * N_c) of each task, over the given rows' known labels.

    Args:
        labels: int (rows, tasks), -100 where not known; of training rows alone.
        tasks: In the columns' order.

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
                remedy="check the label tables and the share of labels that is used",
            )
        # a class that never occurs needs no weight: no row will ask for it
        weights[task["name"]] = [len(known) / (len(counts) * n) if n else 0.0 for n in counts]
    return weights


def train_classifier(
    prepared: datasets.Dataset,
    processor: MammoImageProcessor,
    args: TrainingArguments,
    *,
    model: str,
    tasks: Tasks,
    patients: tuple[str, ...],
    lesion_loss: float | None,
    checkpoint: Path,
    plots: Path,
    window_size: int | None = None,
    resume: str | bool | None = None,
) -> dict[str, Any]:
    """Trains the classifier, chooses the best epoch on validation patients, and reads the test split once.

    Args:
        prepared: Prepared images of all splits.
        processor: Saved beside the model.
        args: Trainer's own; ``output_dir`` holds its checkpoints.
        model: A size, a checkpoint folder of stage 1 or 2 or of any stock Swin, or a ``.pth`` file of the Swin or
            SimMIM repositories.
        tasks: In the order of the prepared ``labels``.
        patients: Whose training rows are used: a label subset.
        lesion_loss: Weight of the token loss; ``None``: 1 where findings have places, else 0.
        checkpoint: Where the model and the processor are saved.
        plots: Folder of the curves.
        window_size: Side of the attention windows in tokens; ``None``: the model's.
        resume: As in ``run``.

    Returns:
        Figures for ``metrics.json``: counts, weights, and each task's figures on validation and test.
    """
    split = _labelled_rows(prepared, patients)
    labels = np.array(prepared.select(split["train"])["labels"], dtype=np.int64).reshape(-1, len(tasks))
    weights = class_weights(labels, tasks)
    places = sum(lesions is not None for lesions in prepared.select(split["train"])["lesions"])
    lesion_loss = float(bool(places)) if lesion_loss is None else lesion_loss
    check_number("the lesion loss", lesion_loss, 0 <= lesion_loss < float("inf"), "0 or more")
    if lesion_loss and not places:
        raise DataError("no finding of a training row has a place", remedy="set the lesion loss to 0")
    network = _network(model, processor, args.seed, tasks, weights, lesion_loss, window_size)
    size = (processor.size["height"], processor.size["width"])
    grid = network.config.stage_grids(*size)[-1] if lesion_loss else None
    images = {
        name: LabelledImages(
            prepared.select(rows),
            processor,
            seed=args.seed,
            augmentation=Augmentation() if name == "train" else None,
            lesion_grid=grid if name == "train" else None,
        )
        for name, rows in split.items()
    }
    without_last_batch_surprise(len(images["train"]), args.per_device_train_batch_size, "training images")
    trainer = _trainer(network, args, images, tasks)
    run(trainer, resume)
    figures: dict[str, Any] = {
        "train_images": len(images["train"]),
        "train_images_with_places": places,
        "train_patients": len(set(images["train"].prepared["patient"])),
        "class_weights": weights,
        "processes": args.world_size,
        "lesion_loss_weight": lesion_loss,
    }
    figures |= {name: evaluate(trainer, images[name], tasks, args.seed) for name in ("validation", "test")}
    if trainer.is_world_process_zero():
        network.save_pretrained(checkpoint)
        processor.save_pretrained(checkpoint)
        _draw(trainer, images["test"], tasks, plots, figures)
    for part in ("validation", "test"):
        figures[part] = {name: value for name, value in figures[part].items() if name != "scores"}
    return figures


def _labelled_rows(prepared: datasets.Dataset, patients: tuple[str, ...]) -> dict[str, list[int]]:
    known = [any(label >= 0 for label in labels) for labels in prepared["labels"]]
    keys, chosen = prepared["patient"], set(patients)
    rows = {name: [i for i in rows_of(prepared, (name,)) if known[i]] for name in ("train", "validation", "test")}
    rows["train"] = [i for i in rows["train"] if keys[i] in chosen]
    if not rows["train"]:
        raise DataError("no labelled image of a training patient", remedy="check the label tables of the collection")
    return rows


def _network(
    model: str,
    processor: MammoImageProcessor,
    seed: int,
    tasks: Tasks,
    weights: dict[str, list[float]],
    lesion_loss: float,
    window_size: int | None,
) -> MammoSwinForImageClassification:
    torch.manual_seed(seed)
    config: MammoSwinConfig = starting_config(
        model,
        (processor.size["height"], processor.size["width"]),
        num_channels=processor.num_channels,
        tasks=tasks,
        class_weights=weights,
        lesion_task=tasks[0]["name"] if lesion_loss else None,
        lesion_loss_weight=lesion_loss,
        **other_window(window_size),
    )
    config.check_image_size(*config.image_size)
    network = MammoSwinForImageClassification(config)
    if model not in SIZES:
        load_starting_weights(network, model)
    return network


def _trainer(
    network: MammoSwinForImageClassification, args: TrainingArguments, images: dict[str, LabelledImages], tasks: Tasks
) -> Trainer:
    args.label_names = ["labels"]
    args.remove_unused_columns = False
    validation = images["validation"] if len(images["validation"]) else None
    if validation is None:
        without_validation(args)
    if args.load_best_model_at_end:
        chosen = None if validation is None else _best_metric(validation, tasks)
        args.metric_for_best_model = chosen or "eval_loss"
        args.greater_is_better = chosen is not None
        logger.info("the best epoch is chosen by %s", args.metric_for_best_model)
    config: MammoSwinConfig = network.config
    return SwinTrainer(
        network,
        args,
        train_dataset=images["train"],
        eval_dataset=validation,
        compute_metrics=lambda prediction: epoch_metrics(prediction, config),
        callbacks=[EpochOfDatasets(images["train"])],
    )


def _best_metric(validation: LabelledImages, tasks: Tasks) -> str | None:
    known = {labels[0] for labels in validation.prepared["labels"] if labels[0] >= 0}
    if len(known) == len(tasks[0]["labels"]):
        return f"eval_{tasks[0]['name']}_auroc"
    logger.warning("validation lacks a class of %s: its AUC is null, the loss chooses the epoch", tasks[0]["name"])
    return None


def epoch_metrics(prediction: EvalPrediction, config: MammoSwinConfig) -> dict[str, float]:
    """Accuracy and AUC of each task on the rows whose label is known; an undefined one is left out."""
    logits, labels = _arrays(prediction)
    if not np.isfinite(logits).all():
        raise DataError("the training has diverged: its scores are not finite", remedy="lower the learning rate")
    metrics = {}
    for index, (name, part) in enumerate(config.task_slices.items()):
        known = labels[:, index] >= 0
        scores = torch.from_numpy(logits[known, part]).float().softmax(-1).numpy()
        truth = labels[known, index]
        try:
            metrics[f"{name}_accuracy"] = accuracy(truth, scores.argmax(-1))
            metrics[f"{name}_auroc"] = (
                auroc(truth, scores[:, 1]) if scores.shape[1] == 2 else macro_auroc(truth, scores)
            )
        except UndefinedMetric:
            continue
    return metrics


def _arrays(prediction: Any) -> tuple[np.ndarray, np.ndarray]:
    """Logits and labels of a prediction; the lesion head's output comes along where there is one."""
    logits = prediction.predictions
    return (logits[0] if isinstance(logits, tuple) else logits), prediction.label_ids


def evaluate(trainer: Trainer, images: LabelledImages, tasks: Tasks, seed: int) -> dict[str, Any]:
    """Each task's figures on some images, with intervals by patient; null with its reason where undefined."""
    if not len(images):
        return {"reason": "no labelled image"}
    prediction = trainer.predict(images)
    logits, labels = _arrays(prediction)
    model = trainer.accelerator.unwrap_model(trainer.model)
    probabilities = model.probabilities(torch.from_numpy(logits))
    breasts = [f"{p} {side}" for p, side in zip(images.prepared["patient"], images.prepared["laterality"], strict=True)]
    figures: dict[str, Any] = {
        task["name"]: evaluate_task(
            task,
            labels[:, index],
            probabilities[task["name"]].double().numpy(),
            images.prepared["patient"],
            groupings={"breast": breasts, "patient": images.prepared["patient"]},
            seed=seed,
        )
        for index, task in enumerate(tasks)
    }
    figures["scores"] = {"labels": labels, "probabilities": probabilities}
    return figures


def _draw(trainer: Trainer, test: LabelledImages, tasks: Tasks, plots: Path, figures: dict[str, Any]) -> None:
    plots.mkdir(parents=True, exist_ok=True)
    remark = "training adds the loss of the lesion tokens, validation does not" if figures["lesion_loss_weight"] else ""
    plot_loss_curves(trainer.state.log_history, plots / "classifier_loss.png", "Classification", remark)
    plot_metric_curves(trainer.state.log_history, plots / "classifier_metrics.png")
    task = tasks[0]
    result = figures["test"].get(task["name"])
    if result is None or result["auroc"] is None or len(task["labels"]) != 2:
        return
    labels = figures["test"]["scores"]["labels"][:, 0]
    scores = figures["test"]["scores"]["probabilities"][task["name"]][:, 1].numpy()
    plot_roc(labels[labels >= 0], scores[labels >= 0], plots / "roc.png", interval=result["auroc_interval"])
