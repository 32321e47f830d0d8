"""Stage 2: several tasks from few labels, the test split read once, at the end."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import datasets
import numpy as np
import torch
from scipy.special import softmax
from transformers import EvalPrediction, Trainer, TrainingArguments

from ..data.augmentation import Augmentation
from ..data.prepare.row import UNKNOWN_PATHOLOGY
from ..data.torch_datasets import EpochOfDatasets, LabelledImages, rows_of
from ..errors import DataError, UsageError
from ..evaluation.after_training import Origin, evaluate_after_training
from ..evaluation.classification import evaluate_task
from ..evaluation.report.words import preprocessing_in_words
from ..evaluation.scored import scored
from ..metrics.classification import accuracy, auroc_of
from ..metrics.inputs import UndefinedMetric
from ..models.checkpoint import kind_of_start, load_starting_weights, starting_config
from ..models.configuration_mammo_swin import SCORES, SIZES, MammoSwinConfig
from ..models.modeling_mammo_swin import MammoSwinForImageClassification, probabilities, score_logits
from ..plotting import plot_loss_curves, plot_metric_curves, plot_roc
from ..processing.image_processing_mammo import MammoImageProcessor
from .callbacks import HeadFirst, ModelCardCallback, WeightAverage, freeze
from .options import ClassificationSettings
from .semi_supervised import ClassThresholds, SemiSupervisedTrainer, TwoViews, WithUnlabelled
from .trainer import ClassificationTrainer, run, without_last_batch_surprise, without_validation

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
        window_size=settings.window_size,
    )
    args.label_smoothing_factor = 0.0  # Trainer's own would smooth over the labels of all tasks at once
    config.check_image_size(*config.image_size)
    network = MammoSwinForImageClassification(config)
    if model not in SIZES:
        load_starting_weights(network, model, processor)
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


# Weights of classes in the loss, so that rare ones count as much as common ones.


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
        weights[task["name"]] = [len(known) / (len(counts) * n) if n else 0.0 for n in counts.tolist()]
    return weights


def told(weights: dict[str, list[float]], tasks: Tasks) -> str:
    """Weights in one line, each class by its label."""
    labels = {task["name"]: task["labels"] for task in tasks}
    return "; ".join(
        f"{name}: {', '.join(f'{label} {weight:.2f}' for label, weight in zip(labels[name], own, strict=True))}"
        for name, own in weights.items()
    )


# What a classifier's scores are worth: at each epoch, on validation to choose by, and on the test split at the end.


def best_metric(validation: LabelledImages, tasks: Tasks) -> str | None:
    """By which metric the best epoch is chosen: the first task's AUC; ``None``, the loss, where it is not defined."""
    known = {labels[0] for labels in validation.prepared["labels"] if labels[0] >= 0}
    if len(known) == len(tasks[0]["labels"]):
        return f"eval_{tasks[0]['name']}_auroc"
    logger.warning("validation lacks a class of %s: its AUC is null, the loss chooses the epoch", tasks[0]["name"])
    return None


def epoch_metrics(prediction: EvalPrediction, config: MammoSwinConfig) -> dict[str, float]:
    """Accuracy and AUC of each task on the rows whose label is known; an undefined one is left out."""
    logits, lesion_scores, labels = _arrays(prediction)
    if not np.isfinite(logits).all():
        raise DataError("the training has diverged: its scores are not finite", remedy="lower the learning rate")
    shares = probabilities(config, torch.from_numpy(logits), lesion_scores)
    metrics = {}
    for index, (name, share) in enumerate(shares.items()):
        known = labels[:, index] >= 0
        scores, truth = share.numpy()[known], labels[known, index]
        try:
            metrics[f"{name}_accuracy"] = accuracy(truth, scores.argmax(-1))
            metrics[f"{name}_auroc"] = _area(truth, scores)
        except UndefinedMetric:
            continue
    return metrics


def _area(truth: np.ndarray, scores: np.ndarray) -> float:
    metric, values = auroc_of(scores)
    return metric(truth, values)


def _arrays(prediction: Any) -> tuple[np.ndarray, torch.Tensor | None, np.ndarray]:
    """Logits, the lesion head's scores where there is one, and labels."""
    found = prediction.predictions
    if isinstance(found, tuple):
        return found[0], torch.from_numpy(found[1]), prediction.label_ids
    return found, None, prediction.label_ids


def choose_score(trainer: Trainer, validation: LabelledImages) -> str:
    """Sets ``config.score_from`` to what has the highest AUC on validation images; to pooled where none is ahead."""
    config: MammoSwinConfig = trainer.accelerator.unwrap_model(trainer.model).config
    if not len(validation):
        return config.score_from
    logits, lesion_scores, labels = _arrays(trainer.predict(validation))
    place = list(config.task_slices).index(str(config.lesion_task))
    known = labels[:, place] >= 0
    areas = {}
    for score in SCORES:
        config.score_from = score
        shares = probabilities(config, torch.from_numpy(logits), lesion_scores)[str(config.lesion_task)]
        try:
            areas[score] = _area(labels[known, place], shares.numpy()[known])
        except UndefinedMetric:
            areas[score] = 0.0
    config.score_from = max(SCORES, key=lambda score: areas[score])  # the first of equals: pooled
    logger.info("validation AUC by where the score comes from: %s; %s is kept", areas, config.score_from)
    return config.score_from


def predicted_logits(trainer: Trainer, images: LabelledImages) -> np.ndarray:
    """The logits of the scores, float64 (images, labels of all tasks), in the images' order."""
    logits, lesion_scores, _ = _arrays(trainer.predict(images))
    config = trainer.accelerator.unwrap_model(trainer.model).config
    return score_logits(config, torch.from_numpy(logits), lesion_scores).double().numpy()


def evaluate(
    network: MammoSwinForImageClassification,
    images: dict[str, LabelledImages],
    logits: dict[str, np.ndarray],
    *,
    seed: int,
    **report: Any,
) -> dict[str, Any]:
    """Figures on validation; calibration and operating points fixed there; the test split read as they say.

    Args:
        network: Its configuration gets ``calibration`` and ``operating_points``.
        images: Of the validation and the test split.
        logits: Theirs, where they have images.
        seed: Of the bootstrap.
        report: The rest of `evaluate_after_training`'s: the report's folder, and what it says besides the figures.

    Returns:
        ``validation`` and ``test``: each task's figures with intervals by patient, null with a reason where undefined.
    """
    known = {split: (images[split].prepared, values) for split, values in logits.items()}
    missing = {"reason": "no labelled image"}
    figures: dict[str, Any] = {"validation": missing, "test": missing}
    if "validation" in known:
        figures["validation"] = _uncalibrated(network.config, *known["validation"], seed)
    evaluation = evaluate_after_training(
        network, validation=known.get("validation"), test=known.get("test"), seed=seed, **report
    )
    if evaluation is not None:
        figures["test"] = evaluation.figures
    return figures


def _uncalibrated(config: MammoSwinConfig, prepared: datasets.Dataset, logits: np.ndarray, seed: int) -> dict[str, Any]:
    images = scored(logits, prepared)
    return {
        task["name"]: evaluate_task(
            task,
            images.labels[:, index],
            softmax(logits[:, part], axis=-1),
            images.patients,
            groupings=images.groupings(),
            seed=seed,
        )
        for index, (task, part) in enumerate(zip(config.tasks, config.task_slices.values(), strict=True))
    }


def draw_curves(
    trainer: Trainer, test: LabelledImages, logits: np.ndarray | None, plots: Path, figures: dict[str, Any]
) -> None:
    """Loss and metric curves of the run, and the ROC curve of the test images where the first task has two labels."""
    plots.mkdir(parents=True, exist_ok=True)
    remark = "training adds the loss of the lesion tokens, validation does not" if figures["lesion_loss_weight"] else ""
    plot_loss_curves(trainer.state.log_history, plots / "classifier_loss.png", "Classification", remark)
    plot_metric_curves(trainer.state.log_history, plots / "classifier_metrics.png")
    config: MammoSwinConfig = trainer.accelerator.unwrap_model(trainer.model).config
    name, part = next(iter(config.task_slices.items()))
    result = figures["test"].get(name)
    if logits is None or result is None or result["auroc"] is None or part.stop - part.start != 2:
        return
    labels = np.array(test.prepared["labels"])[:, 0]
    scores = softmax(logits[:, part], axis=-1)[:, 1]
    plot_roc(labels[labels >= 0], scores[labels >= 0], plots / "roc.png", interval=result["auroc_interval"])


# Labels dealt out anew among images: a model that is trained on them can have learnt nothing true.
#
# Where its explanations look like the model's own, they show the image and not what was learnt (Adebayo et al. 2018,
# arXiv 1810.03292, section 4: the data randomisation test).


def permuted_labels(prepared: datasets.Dataset, rows: Sequence[int], seed: int) -> datasets.Dataset:
    """The same images with the labels of some rows dealt out anew among them, each task by itself.

    How often each label occurs stays. Lesions stay where they are and take their image's new label of the first task.

    Args:
        prepared: Prepared images, with ``labels`` and ``lesions``.
        rows: Those that are trained on; all others keep their labels.
        seed: Of the permutation.
    """
    generator = np.random.default_rng(seed)
    labels = np.array(prepared["labels"], dtype=np.int64)
    chosen = np.asarray(rows)
    for task in range(labels.shape[1]):
        known = chosen[labels[chosen, task] >= 0]
        labels[known, task] = labels[generator.permutation(known), task]
    lesions = list(prepared["lesions"])
    for row in rows:
        if lesions[row] is not None:
            lesions[row] = _relabelled(lesions[row], int(labels[row, 0]))
    kinds = prepared.features
    changed = prepared.remove_columns(["labels", "lesions"])
    changed = changed.add_column("labels", labels.tolist(), feature=kinds["labels"])
    return changed.add_column("lesions", lesions, feature=kinds["lesions"])


def _relabelled(cells: bytes, label: int) -> bytes:
    found = np.frombuffer(cells, np.uint8).copy()
    found[found > 0] = UNKNOWN_PATHOLOGY if label < 0 else label + 1
    return found.tobytes()
