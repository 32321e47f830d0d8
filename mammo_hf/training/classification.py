"""Stage 2: several tasks from few labels, the test split read once, at the end."""

from __future__ import annotations

import logging
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import datasets
import numpy as np
import torch
from transformers import TrainingArguments

from ..configuration_mammo_swin import SIZES, MammoSwinConfig
from ..errors import DataError, UsageError
from ..image_processing_mammo import MammoImageProcessor
from ..modeling_mammo_swin import MammoSwinForImageClassification
from ..publish.processor_words import preprocessing_in_words
from ..publish.run_facts import ModelCardCallback
from .arguments import ClassificationSettings
from .augmentation import Augmentation
from .class_weights import Tasks, class_weights, told
from .classification_trainer import ClassificationTrainer
from .datasets import EpochOfDatasets, LabelledImages, rows_of
from .mim import other_window, starting_config
from .origin import Origin
from .permuted_labels import permuted_labels
from .running import run, without_last_batch_surprise, without_validation
from .scoring import best_metric, choose_score, draw_curves, epoch_metrics, evaluate, predicted_logits
from .semi_supervised import ClassThresholds, SemiSupervisedTrainer, TwoViews, WithUnlabelled
from .starting_weights import kind_of_start, load_starting_weights
from .tuning import HeadFirst, freeze
from .weight_average import WeightAverage

logger = logging.getLogger(__name__)

TEACHER_DECAY = 0.99  # of a teacher of few updates; Tarvainen & Valpola 2017 take 0.99 at first and 0.999 later


@dataclass
class FittedClassifier:
    """A classifier at its best epoch, and what it was trained and chosen on.

    Attributes:
        trainer: Holds the model, and predicts.
        images: Of each split, those with a label.
        figures: Counts and weights for ``metrics.json``.
    """

    trainer: ClassificationTrainer
    images: dict[str, LabelledImages]
    figures: dict[str, Any]


def fit_classifier(
    prepared: datasets.Dataset,
    processor: MammoImageProcessor,
    args: TrainingArguments,
    *,
    model: str,
    tasks: Tasks,
    patients: tuple[str, ...],
    settings: ClassificationSettings | None = None,
    resume: str | bool | None = None,
) -> FittedClassifier:
    """Trains the classifier and chooses the best epoch on validation patients; the test split is not read.

    Args:
        prepared: Prepared images of all splits.
        processor: Of the images.
        args: Trainer's own; ``output_dir`` holds its checkpoints.
        model: A size, a checkpoint folder of stage 1 or 2 or of any stock Swin, or a ``.pth`` file of the Swin or
            SimMIM repositories.
        tasks: In the order of the prepared ``labels``.
        patients: Whose training rows' labels are used: a label subset. Other rows may be learnt from without.
        settings: Of losses, sampling, what is tuned, and unlabelled images.
        resume: As in ``run``.
    """
    settings = settings or ClassificationSettings()
    split = _labelled_rows(prepared, patients)
    if settings.permute_labels:
        logger.warning("the labels are dealt out anew among the training images: this model can learn nothing true")
        prepared = permuted_labels(prepared, split["train"], args.seed)
    training = prepared.select(split["train"])
    labels = np.array(training["labels"], dtype=np.int64).reshape(-1, len(tasks))
    by_counts = class_weights(labels, tasks)  # refuses labels that teach nothing, whatever the sampling
    weights = by_counts if settings.sampling == "weighted" else None
    logger.info("class weights: %s", told(weights, tasks) if weights else f"none, sampling is {settings.sampling}")
    places = sum(lesions is not None for lesions in training["lesions"])
    lesion_loss = float(bool(places)) if settings.lesion_loss is None else settings.lesion_loss
    if lesion_loss and not places:
        raise DataError("no finding of a training row has a place", remedy="set the lesion loss to 0")
    network = _network(model, processor, args, tasks, weights, lesion_loss, settings)
    images = _images(prepared, split, processor, network, args.seed, settings.sampling == "balanced")
    without_last_batch_surprise(len(images["train"]), args.per_device_train_batch_size, "training images")
    unlabelled = _unlabelled(prepared, split["train"], processor, args.seed, settings)
    trainer = _trainer(network, args, images, unlabelled, tasks, settings)
    card = ModelCardCallback()
    trainer.add_callback(card)
    run(trainer, resume)
    if trainer.average is not None:
        trainer.average.apply()
    figures: dict[str, Any] = {
        "train_images": len(images["train"]),
        "train_images_with_places": places,
        "train_patients": len(set(images["train"].prepared["patient"])),
        "unlabelled_images": 0 if unlabelled is None else len(unlabelled),
        "class_weights": weights,
        "lesion_loss_weight": lesion_loss,
    }
    figures |= _told_of_the_run(trainer, args, card, model, settings)
    if settings.score_from == "auto" and lesion_loss:
        figures["score_from"] = choose_score(trainer, images["validation"])
    return FittedClassifier(trainer, images, figures)


def _told_of_the_run(
    trainer: ClassificationTrainer,
    args: TrainingArguments,
    card: ModelCardCallback,
    model: str,
    settings: ClassificationSettings,
) -> dict[str, Any]:
    return {
        "updates": trainer.state.global_step,
        "processes": args.world_size,
        "permuted_labels": settings.permute_labels,
        "seed": args.seed,
        "start": "random" if model in SIZES else kind_of_start(model),
        "settings": asdict(settings),
        "run": card.facts,
    }


def train_classifier(
    prepared: datasets.Dataset,
    processor: MammoImageProcessor,
    args: TrainingArguments,
    *,
    tasks: Tasks,
    checkpoint: Path,
    plots: Path,
    origin: Origin | None = None,
    **how: Any,
) -> dict[str, Any]:
    """Trains the classifier as `fit_classifier`, saves it, reads the test split once, and writes a report of it.

    Args:
        prepared: Prepared images of all splits.
        processor: Saved beside the model.
        args: Trainer's own; ``output_dir`` holds its checkpoints.
        tasks: In the order of the prepared ``labels``.
        checkpoint: Where the model and the processor are saved.
        plots: Folder of the curves and of the report.
        origin: The images' collection, for records, the report's flow and more of its subgroups.
        how: The rest of `fit_classifier`'s: model, patients, settings, resume.

    Returns:
        Figures for ``metrics.json``: counts, weights, and each task's figures on validation and test.
    """
    fitted = fit_classifier(prepared, processor, args, tasks=tasks, **how)
    trainer, images = fitted.trainer, fitted.images
    figures = fitted.figures | {"collection": {} if origin is None else dict(origin.facts)}
    # each split once, by all processes together
    logits = {name: predicted_logits(trainer, images[name]) for name in ("validation", "test") if len(images[name])}
    if trainer.is_world_process_zero():
        network = trainer.accelerator.unwrap_model(trainer.model)
        figures |= evaluate(
            network,
            images,
            logits,
            seed=args.seed,
            report=plots / "report",
            checkpoint=checkpoint.name,
            table=origin and origin.table,
            unreadable=origin.unreadable if origin else (),
            training=figures,
            preprocessing=preprocessing_in_words(processor.to_dict()),
        )
        network.save_pretrained(checkpoint)
        processor.save_pretrained(checkpoint)
        draw_curves(trainer, images["test"], logits.get("test"), plots, figures)
    return figures


def _labelled_rows(prepared: datasets.Dataset, patients: tuple[str, ...]) -> dict[str, list[int]]:
    known = [any(label >= 0 for label in labels) for labels in prepared["labels"]]
    keys, chosen = prepared["patient"], set(patients)
    rows = {name: [i for i in rows_of(prepared, (name,)) if known[i]] for name in ("train", "validation", "test")}
    rows["train"] = [i for i in rows["train"] if keys[i] in chosen]
    if not rows["train"]:
        raise DataError("no labelled image of a training patient", remedy="check the label tables of the collection")
    return rows


def _images(
    prepared: datasets.Dataset,
    split: dict[str, list[int]],
    processor: MammoImageProcessor,
    network: MammoSwinForImageClassification,
    seed: int,
    balanced: bool,
) -> dict[str, LabelledImages]:
    grid = None
    if network.lesion_head is not None:
        grid = network.config.stage_grids(*processor.canvas)[-1]
    of_training = {"augmentation": Augmentation(), "lesion_grid": grid, "balanced": balanced}
    return {
        name: LabelledImages(prepared.select(rows), processor, seed=seed, **(of_training if name == "train" else {}))
        for name, rows in split.items()
    }


def _unlabelled(
    prepared: datasets.Dataset,
    labelled: list[int],
    processor: MammoImageProcessor,
    seed: int,
    settings: ClassificationSettings,
) -> TwoViews | None:
    """Images of training patients and unlabelled ones whose labels are not used."""
    if settings.semi_supervised == "none":
        return None
    used = set(labelled)
    rows = [i for i in rows_of(prepared, ("train", "unlabelled")) if i not in used]
    if not rows:
        raise DataError(
            f"no unlabelled image for {settings.semi_supervised}",
            remedy="use a share of the labels (--label_percentage 25), add images, or leave --semi_supervised out",
        )
    return TwoViews(prepared.select(rows), processor, seed=seed)


def _network(
    model: str,
    processor: MammoImageProcessor,
    args: TrainingArguments,
    tasks: Tasks,
    weights: dict[str, list[float]] | None,
    lesion_loss: float,
    settings: ClassificationSettings,
) -> MammoSwinForImageClassification:
    torch.manual_seed(args.seed)
    names = [task["name"] for task in tasks]
    if settings.task_weights and len(settings.task_weights) != len(names):
        raise UsageError(
            f"{len(settings.task_weights)} weights for the tasks {', '.join(names)}",
            source="--task_weights",
            remedy="give one a task",
        )
    score = settings.score_from if lesion_loss and settings.score_from != "auto" else "pooled"
    if score != settings.score_from != "auto":
        logger.warning("without the places of lesions the score is the pooled one, not %s", settings.score_from)
    config: MammoSwinConfig = starting_config(
        model,
        processor.canvas,
        num_channels=processor.num_channels,
        tasks=tasks,
        class_weights=weights,
        task_weights=dict(zip(names, settings.task_weights, strict=True)) if settings.task_weights else None,
        ordinal_tasks=[name for name in settings.ordinal_tasks if name in names] or None,
        label_smoothing=args.label_smoothing_factor,
        lesion_task=names[0] if lesion_loss else None,
        lesion_loss_weight=lesion_loss,
        score_from=score,
        **other_window(settings.window_size),
    )
    args.label_smoothing_factor = 0.0  # Trainer's own would smooth over the labels of all tasks at once
    config.check_image_size(*config.image_size)
    network = MammoSwinForImageClassification(config)
    if model not in SIZES:
        load_starting_weights(network, model)
    freeze(network, settings.tune)
    return network


def _trainer(
    network: MammoSwinForImageClassification,
    args: TrainingArguments,
    images: dict[str, LabelledImages],
    unlabelled: TwoViews | None,
    tasks: Tasks,
    settings: ClassificationSettings,
) -> ClassificationTrainer:
    args.label_names = ["labels"]
    args.remove_unused_columns = False
    validation = images["validation"] if len(images["validation"]) else None
    if validation is None:
        without_validation(args)
    if args.load_best_model_at_end:
        chosen = None if validation is None else best_metric(validation, tasks)
        args.metric_for_best_model = chosen or "eval_loss"
        args.greater_is_better = chosen is not None
        logger.info("the best epoch is chosen by %s", args.metric_for_best_model)
    config: MammoSwinConfig = network.config
    training: Any = images["train"]
    if unlabelled is not None:
        training = WithUnlabelled(images["train"], unlabelled, settings.unlabelled_ratio)
    decay = settings.weight_average or (TEACHER_DECAY if settings.semi_supervised == "mean_teacher" else 0.0)
    common: dict[str, Any] = {
        "train_dataset": training,
        "eval_dataset": validation,
        "compute_metrics": lambda prediction: epoch_metrics(prediction, config),
        "callbacks": [EpochOfDatasets(training)] + [HeadFirst(settings.head_first)] * bool(settings.head_first),
        "layer_decay": settings.layer_decay,
        "average": WeightAverage(network, decay) if decay else None,
    }
    if unlabelled is None:
        return ClassificationTrainer(network, args, **common)
    thresholds = ClassThresholds(config, settings.confidence)
    return SemiSupervisedTrainer(
        network,
        args,
        method=settings.semi_supervised,
        thresholds=thresholds,
        consistency_weight=settings.consistency_weight,
        **common,
    )
