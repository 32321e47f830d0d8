"""Stage 2: classification of several tasks from few labels; the test split is read once, at the end."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import datasets
import numpy as np
import torch
from scipy.special import softmax
from transformers import EvalPrediction, Trainer, TrainerCallback, TrainingArguments

from ..data.augmentation import Augmentation
from ..data.collection import Collection
from ..data.splits import save_subset
from ..data.torch_datasets import EpochOfDatasets, LabelledImages, balanced_cells, rows_of
from ..data.training_data import (
    check_labels,
    check_near_duplicates,
    collection_facts,
    labelled_patients,
    prepared_images,
    training_processor,
    usable_tasks,
)
from ..errors import DataError, UsageError
from ..evaluation.classifier import auc_text
from ..evaluation.evaluate import evaluate_after_training
from ..evaluation.report.facts import unreadable
from ..evaluation.scored import scored
from ..evaluation.task_figures import evaluate_task
from ..hub.push import take_over_push
from ..metrics.classification import accuracy, auroc_of
from ..metrics.inputs import UndefinedMetric
from ..models.checkpoint import check_model, kind_of_start, load_starting_weights, locate, name_of, starting_config
from ..models.configuration_mammo_swin import SCORES, SIZES, MammoSwinConfig
from ..models.modeling_mammo_swin import MammoSwinForImageClassification, probabilities, score_logits
from ..plotting import plot_loss_curves, plot_metric_curves, plot_roc
from ..processing.image_processing_mammo import MammoImageProcessor
from .callbacks import HeadFirst, ModelCardCallback, WeightAverage, freeze
from .options import ENOUGH_UPDATES, ClassificationOptions, StageOptions
from .semi_supervised import ClassThresholds, SemiSupervisedTrainer, TwoViews, WithUnlabelled
from .trainer import (
    REFUSED,
    ClassificationTrainer,
    StageConfig,
    TrainingResult,
    begin_stage,
    check_batch,
    check_output,
    end_stage,
    open_stage,
    resolve_config,
    run,
    terms_of_training,
    without_validation,
)

logger = logging.getLogger(__name__)

Tasks = list[dict[str, Any]]
TEACHER_DECAY = 0.99  # for a training of few updates; Tarvainen & Valpola 2017 take 0.99 at first and 0.999 later
REFUSED_HERE = REFUSED | {
    "prediction_loss_only": "leave it out: the scores choose the best epoch",
    "batch_eval_metrics": "leave it out: an AUC is not a mean over batches",
}


@dataclass
class ClassificationConfig(ClassificationOptions, StageConfig):
    """Configuration of stage 2: Trainer's arguments and `ClassificationOptions`."""


def finetune(
    images: Collection | str | Path,
    output_dir: str | Path,
    *,
    model: str | Path = "tiny",
    config: ClassificationConfig | None = None,
    callbacks: Sequence[TrainerCallback] = (),
    **options: Any,
) -> TrainingResult:
    """Train a classifier from few labels, and save it with its split, labels, metrics, report and model card.

    The labels of a fraction of the training patients are used; validation patients choose the best epoch, calibration
    and operating points; the test split is read once, at the end.

    Args:
        images: A collection, prepared or not, or anything that `mammo_hf.load` takes.
        output_dir: Folder of the checkpoint. Images that are not prepared yet are prepared below it.
        model: What training starts from: a size (nano, tiny, small, base, large), a checkpoint's folder of either
            stage or of any Swin, a ``.pth`` file of Swin or SimMIM, or a Hub name with an optional ``@revision``.
        config: Configuration to start from; ``None``: the defaults. It is not changed.
        callbacks: Further callbacks of Trainer, such as early stopping.
        **options: Fields of `ClassificationConfig` in place of the configuration's.

    Returns:
        The folder and the metrics; its ``str`` is one sentence about them.

    Raises:
        UsageError: An argument is wrong, or the folder holds work that would be lost.
        DataError: The collection cannot be trained on.
        Diverged: The loss became NaN or infinite.
        Interrupted: Ctrl-C; a checkpoint to resume from has been written.
    """
    # Check arguments, model and output folder before an image is read
    config = resolve_config(ClassificationConfig, config, output_dir, options, REFUSED_HERE)
    out = Path(str(config.output_dir))
    checkpoint = check_output(out, config.resume_from_checkpoint, overwrite=config.overwrite_output_dir)
    start = str(locate(model))
    as_asked: dict[str, Any] = {"named": config.processor, "settings": config.processor_settings}
    processor = training_processor(images, start=start, size=config.image_size, **as_asked)
    check_model(start, processor.canvas, window_size=config.window_size)
    # Open the collection: split by patient, no test patient whom the start was trained on; choose the labels
    resumed = checkpoint is not None
    collection = open_stage(images, config, start=start, resumed=resumed, processor=processor)
    tasks = usable_tasks(collection, config.tasks)
    check_labels(collection, tasks)
    _check_metric(config, tasks)
    labels = {"percentage": config.label_percentage, "seed": config.seed}
    patients = labelled_patients(collection, tasks[0]["name"], saved=config.label_file, **labels)
    # From here on the output folder is written to
    terms = terms_of_training(collection, config, start)
    target = take_over_push(config, out, terms)
    begin_stage(collection, config, terms, model=str(model), start=start, resumed=resumed)
    if config.process_index == 0:
        save_subset(patients, out / "label_subset.json", task=tasks[0]["name"], **labels)
    folder = config.prepared_folder()
    prepared = prepared_images(collection, processor, folder, tasks=tasks, num_workers=config.num_workers)
    if config.near_duplicates:
        check_near_duplicates(collection, prepared)
    # Train, and keep the best epoch
    of_run: dict[str, Any] = {"tasks": tasks, "patients": patients, "callbacks": callbacks, "checkpoint": checkpoint}
    fitted = fit_classifier(prepared, processor, config, model=start, **of_run)
    # Evaluate, save and describe
    facts = fitted.figures | {"model": name_of(Path(start)), "image_size": list(processor.canvas)}
    facts["collection"] = collection_facts(collection, tasks)
    missing = [one.reason for one in unreadable(collection.where(split="test"), prepared, folder)]
    metrics = _evaluate_and_save(fitted, processor, config, facts, table=collection, unreadable=missing)
    result = TrainingResult(out, metrics, _sentence(metrics, tasks[0]["name"]))
    end_stage("classifier", result, config, collection, start=start, target=target)
    return result


def _sentence(metrics: dict[str, Any], task: str) -> str:
    test = metrics["test"].get(task)
    if test is None:
        return f"trained on {metrics['train_images']:,} images, without a test split for {task}"
    return f"test {auc_text(test)}"


@dataclass
class FittedClassifier:
    """A classifier at its best epoch, and what it was trained and chosen on.

    Attributes:
        trainer: Trainer that holds the model and predicts with it.
        images: Images with a label, by split.
        figures: Counts, weights and facts of the run for ``metrics.json``.
    """

    trainer: ClassificationTrainer
    images: dict[str, LabelledImages]
    figures: dict[str, Any]


def fit_classifier(
    prepared: datasets.Dataset,
    processor: MammoImageProcessor,
    config: ClassificationConfig,
    *,
    model: str,
    tasks: Tasks,
    patients: tuple[str, ...],
    callbacks: Sequence[TrainerCallback] = (),
    checkpoint: str | None = None,
) -> FittedClassifier:
    """Train the classifier and choose the best epoch on validation patients; the test split is not read.

    Args:
        prepared: Prepared images of all splits.
        processor: Processor that normalises them.
        config: Configuration; it is not changed, and its ``output_dir`` gets Trainer's checkpoints.
        model: What training starts from, as in `finetune`.
        tasks: Tasks in the order of the prepared ``labels``.
        patients: Patients whose training rows' labels are used; other rows may be used without their labels.
        callbacks: Further callbacks of Trainer.
        checkpoint: Checkpoint of Trainer to resume from.
    """
    config = config.with_options()
    split = _labelled_rows(prepared, patients)
    training = prepared.select(split["train"])
    weights = _used_class_weights(training, config, tasks)
    annotated = sum(lesions is not None for lesions in training["lesions"])
    lesion_loss = float(bool(annotated)) if config.lesion_loss is None else config.lesion_loss
    if lesion_loss and not annotated:
        raise DataError("no lesion annotation of a training row has a location", remedy="set the lesion loss to 0")
    # Build model, datasets and Trainer
    network = _network(model, processor, config, tasks, weights, lesion_loss)
    images = _images(prepared, split, processor, network, config)
    check_batch(config, len(images["train"]), "training images")
    unlabelled = _unlabelled(prepared, split["train"], processor, config)
    trainer = _trainer(network, config, images, unlabelled, tasks)
    card = ModelCardCallback()
    for callback in (card, *callbacks):
        trainer.add_callback(callback)
    _warn_of_few_updates(trainer, config)
    run(trainer, checkpoint)
    if trainer.average is not None:
        trainer.average.apply()
    figures = _figures_of_run(trainer, images, config, weights, lesion_loss, annotated)
    figures |= {"start": "random" if model in SIZES else kind_of_start(model), "run": card.facts}
    figures["unlabelled_images"] = 0 if unlabelled is None else len(unlabelled)
    if config.score_from == "auto" and lesion_loss:
        figures["score_from"] = choose_score(trainer, images["validation"])
    return FittedClassifier(trainer, images, figures)


def _figures_of_run(
    trainer: ClassificationTrainer,
    images: dict[str, LabelledImages],
    config: ClassificationConfig,
    weights: dict[str, list[float]] | None,
    lesion_loss: float,
    annotated: int,
) -> dict[str, Any]:
    """Return what the classifier was trained on and how, for ``metrics.json``."""
    return {
        "train_images": len(images["train"]),
        "train_images_with_places": annotated,
        "train_patients": len(set(images["train"].prepared["patient"])),
        "class_weights": weights,
        "lesion_loss_weight": lesion_loss,
        "updates": trainer.state.global_step,
        "processes": config.world_size,
        "seed": config.seed,
        "settings": _own_options(config),
    }


def _used_class_weights(
    training: datasets.Dataset, config: ClassificationConfig, tasks: Tasks
) -> dict[str, list[float]] | None:
    """Return the weights of the classes in the loss, if sampling asks for them; refuse labels that teach nothing."""
    weights = class_weights(np.array(training["labels"], dtype=np.int64).reshape(-1, len(tasks)), tasks)
    used = weights if config.sampling == "weighted" else None
    logger.info("class weights: %s", _weights_as_text(used, tasks) if used else f"none, sampling is {config.sampling}")
    return used


def _own_options(config: ClassificationConfig) -> dict[str, Any]:
    """Return the options that say how the classifier was trained, without paths and without Trainer's own."""
    shared = {field.name for field in fields(StageOptions)} - {"window_size", "layer_decay", "weight_average"}
    trainers = {field.name for field in fields(TrainingArguments)}
    own = [field.name for field in fields(ClassificationOptions) if field.name not in shared | trainers]
    return {name: getattr(config, name) for name in own if name not in ("label_percentage", "label_file")}


def _warn_of_few_updates(trainer: ClassificationTrainer, config: ClassificationConfig) -> None:
    batches = len(trainer.get_train_dataloader())
    per_epoch = max(1, -(-batches // config.gradient_accumulation_steps))
    updates = config.max_steps if config.max_steps > 0 else int(per_epoch * config.num_train_epochs)
    if config.tune == "full" and updates < ENOUGH_UPDATES:
        logger.warning(
            "%d updates are few: a whole network may still be at chance after %d; give more epochs, or tune the "
            "last stage or the head alone",
            updates,
            ENOUGH_UPDATES,
        )


def _evaluate_and_save(
    fitted: FittedClassifier,
    processor: MammoImageProcessor,
    config: ClassificationConfig,
    figures: dict[str, Any],
    **of_collection: Any,
) -> dict[str, Any]:
    """Read the test split once, write the report and the plots, and save model and processor."""
    trainer, images, out = fitted.trainer, fitted.images, Path(str(config.output_dir))
    # each split once, by all processes together
    logits = {name: predicted_logits(trainer, images[name]) for name in ("validation", "test") if len(images[name])}
    if not trainer.is_world_process_zero():
        return figures | {"validation": {}, "test": {}}
    network = trainer.accelerator.unwrap_model(trainer.model)
    figures = figures | evaluate(
        network,
        images,
        logits,
        seed=config.seed,
        report=out / "plots" / "report",
        checkpoint=out.name,
        training=figures,
        processor=processor.to_dict(),
        **of_collection,
    )
    network.save_pretrained(out)
    processor.save_pretrained(out)
    draw_curves(trainer, images["test"], logits.get("test"), out / "plots", figures)
    return figures


def _labelled_rows(prepared: datasets.Dataset, patients: tuple[str, ...]) -> dict[str, list[int]]:
    """Return the rows with a label, by split; of the training split those of the chosen patients."""
    known = [any(label >= 0 for label in labels) for labels in prepared["labels"]]
    keys, chosen = prepared["patient"], set(patients)
    rows = {name: [i for i in rows_of(prepared, (name,)) if known[i]] for name in ("train", "validation", "test")}
    rows["train"] = [i for i in rows["train"] if keys[i] in chosen]
    if not rows["train"]:
        raise DataError("no image of a training patient has a label", remedy="check the label tables of the collection")
    return rows


def _images(
    prepared: datasets.Dataset,
    split: dict[str, list[int]],
    processor: MammoImageProcessor,
    network: MammoSwinForImageClassification,
    config: ClassificationConfig,
) -> dict[str, LabelledImages]:
    grid = None if network.lesion_head is None else network.config.stage_grids(*processor.canvas)[-1]
    balanced, strata = config.sampling in ("balanced", "stratified"), None
    if config.sampling == "stratified":
        strata = "stratum"
        _count_unused(prepared.select(split["train"]))
    of_training = {"augmentation": Augmentation(), "lesion_grid": grid, "balanced": balanced, "strata": strata}
    return {
        name: LabelledImages(
            prepared.select(rows), processor, seed=config.seed, **(of_training if name == "train" else {})
        )
        for name, rows in split.items()
    }


def _count_unused(training: datasets.Dataset) -> None:
    """Log how many images are in a stratum of one class, from which the classifier is not trained."""
    labels = np.array([labels[0] for labels in training["labels"]])
    strata = np.array([str(value) for value in training["stratum"]])
    unused = len(labels) - sum(len(rows) for _, rows in balanced_cells(labels, strata))
    if unused:
        logger.warning("%d of %d training images are in a stratum of one class and are not used", unused, len(labels))


def _unlabelled(
    prepared: datasets.Dataset, labelled: list[int], processor: MammoImageProcessor, config: ClassificationConfig
) -> TwoViews | None:
    """Return the unlabelled images, and those of training patients whose labels are not used."""
    if config.semi_supervised == "none":
        return None
    used = set(labelled)
    rows = [i for i in rows_of(prepared, ("train", "unlabelled")) if i not in used]
    if not rows:
        raise DataError(
            f"no unlabelled image for {config.semi_supervised}",
            remedy="use fewer labels (`label_percentage=25`), add images, or leave `semi_supervised` out",
        )
    return TwoViews(prepared.select(rows), processor, seed=config.seed)


def _network(
    model: str,
    processor: MammoImageProcessor,
    config: ClassificationConfig,
    tasks: Tasks,
    weights: dict[str, list[float]] | None,
    lesion_loss: float,
) -> MammoSwinForImageClassification:
    torch.manual_seed(config.seed)
    names = [task["name"] for task in tasks]
    if config.task_weights and len(config.task_weights) != len(names):
        raise UsageError(
            f"{len(config.task_weights)} weights for the tasks {', '.join(names)}",
            source="task_weights",
            remedy="give one per task",
        )
    score = config.score_from if lesion_loss and config.score_from != "auto" else "pooled"
    if score != config.score_from != "auto":
        logger.warning("without lesion locations the score is the pooled one, not %s", config.score_from)
    of_model: MammoSwinConfig = starting_config(
        model,
        processor.canvas,
        num_channels=processor.num_channels,
        tasks=tasks,
        class_weights=weights,
        task_weights=dict(zip(names, config.task_weights, strict=True)) if config.task_weights else None,
        ordinal_tasks=[name for name in config.ordinal_tasks if name in names] or None,
        label_smoothing=config.label_smoothing_factor,
        lesion_task=names[0] if lesion_loss else None,
        lesion_loss_weight=lesion_loss,
        score_from=score,
        window_size=config.window_size,
    )
    config.label_smoothing_factor = 0.0  # Trainer's own would smooth over the labels of all tasks at once
    of_model.check_image_size(*of_model.image_size)
    network = MammoSwinForImageClassification(of_model)
    if model not in SIZES:
        load_starting_weights(network, model, processor)
    freeze(network, config.tune)
    return network


def _trainer(
    network: MammoSwinForImageClassification,
    config: ClassificationConfig,
    images: dict[str, LabelledImages],
    unlabelled: TwoViews | None,
    tasks: Tasks,
) -> ClassificationTrainer:
    config.label_names = ["labels"]
    validation = images["validation"] if len(images["validation"]) else None
    if validation is None:
        without_validation(config)
    elif config.eval_strategy != "no":  # Trainer compares evaluations even if the last epoch is kept
        _choose_metric(config, validation, tasks)
    of_model: MammoSwinConfig = network.config
    training: Any = images["train"]
    if unlabelled is not None:
        training = WithUnlabelled(images["train"], unlabelled, config.unlabelled_ratio)
    decay = config.weight_average or (TEACHER_DECAY if config.semi_supervised == "mean_teacher" else 0.0)
    common: dict[str, Any] = {
        "train_dataset": training,
        "eval_dataset": validation,
        "compute_metrics": lambda prediction: epoch_metrics(prediction, of_model),
        "callbacks": [EpochOfDatasets(training)] + [HeadFirst(config.head_first)] * bool(config.head_first),
        "layer_decay": config.layer_decay,
        "average": WeightAverage(network, decay) if decay else None,
    }
    if unlabelled is None:
        return ClassificationTrainer(network, config, **common)
    return SemiSupervisedTrainer(
        network,
        config,
        method=config.semi_supervised,
        thresholds=ClassThresholds(of_model, config.confidence),
        consistency_weight=config.consistency_weight,
        **common,
    )


def _check_metric(config: ClassificationConfig, tasks: Tasks) -> None:
    """Refuse a metric for the best epoch that no evaluation gives, which Trainer would find at its first one.

    Raises:
        UsageError: Names the metrics that there are.
    """
    known = ["auto", "loss", *(f"{task['name']}_{metric}" for task in tasks for metric in ("auroc", "accuracy"))]
    given = str(config.metric_for_best_model).removeprefix("eval_")
    if given not in known:
        raise UsageError(f"is {given!r}", source="metric_for_best_model", remedy=f"use {', '.join(known)}")


def _choose_metric(config: ClassificationConfig, validation: LabelledImages, tasks: Tasks) -> None:
    """Set the metric that chooses the best epoch: as given, or the main task's AUC, or else the loss."""
    if config.metric_for_best_model == "auto":
        known = {labels[0] for labels in validation.prepared["labels"] if labels[0] >= 0}
        defined = len(known) == len(tasks[0]["labels"])
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


def _weights_as_text(weights: dict[str, list[float]], tasks: Tasks) -> str:
    """Return the weights in one line, each class by its label."""
    labels = {task["name"]: task["labels"] for task in tasks}
    return "; ".join(
        f"{name}: {', '.join(f'{label} {weight:.2f}' for label, weight in zip(labels[name], own, strict=True))}"
        for name, own in weights.items()
    )


def epoch_metrics(prediction: EvalPrediction, config: MammoSwinConfig) -> dict[str, float]:
    """Return accuracy and AUC of each task on the rows with a known label; undefined ones are left out."""
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
    """Return logits, the lesion head's scores if there is one, and labels."""
    found = prediction.predictions
    if isinstance(found, tuple):
        return found[0], torch.from_numpy(found[1]), prediction.label_ids
    return found, None, prediction.label_ids


def choose_score(trainer: Trainer, validation: LabelledImages) -> str:
    """Set ``config.score_from`` to the score with the highest AUC on validation images; to pooled if none is ahead."""
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
    logger.info("validation AUC of each score: %s; %s is kept", areas, config.score_from)
    return config.score_from


def predicted_logits(trainer: Trainer, images: LabelledImages) -> np.ndarray:
    """Return the logits of the scores, float64 (images, labels of all tasks), in the images' order."""
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
    """Evaluate on validation, fit calibration and operating points there, and evaluate the test split with them.

    Args:
        network: Model whose configuration gets ``calibration`` and ``operating_points``.
        images: Images of the validation and the test split.
        logits: Logits of those that have images.
        seed: Random seed of the bootstrap.
        report: Further arguments of `evaluate_after_training`: the report's folder and its facts.

    Returns:
        ``validation`` and ``test``: each task's figures with intervals by patient, null with a reason if undefined.
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
    """Draw loss and metrics of the run, and the ROC curve of the test images if the main task has two labels."""
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
