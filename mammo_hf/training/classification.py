"""Stage 2: classification of several tasks from few labels; the test split is read once, at the end."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import datasets
import numpy as np
import torch
from torch.utils.data import DataLoader
from transformers import Trainer, TrainerCallback

from ..data.augmentation import Augmentation
from ..data.collection import Collection
from ..data.prepare.folder import features_folder
from ..data.torch_datasets import EpochOfDatasets, LabelledImages, WithOtherBreast, balanced_cells, rows_of
from ..data.training_data import (
    check_near_duplicates,
    collection_facts,
    image_kinds,
    prepared_images,
    training_processor,
)
from ..errors import DataError, UsageError
from ..evaluation.report.facts import unreadable
from ..evaluation.scored import scored
from ..metrics.inputs import UndefinedMetric
from ..models.checkpoint import (
    MAP_TESTS,
    check_model,
    kind_of_start,
    load_starting_weights,
    locate,
    name_of,
    starting_config,
)
from ..models.configuration_mammo_swin import SCORES, SIZES, MammoSwinConfig
from ..models.modeling_mammo_swin import MammoSwinForImageClassification, probabilities
from ..models.training_statistics import MOST_COMPARED, STATISTICS, TrainingStatistics, pooled_features
from ..processing.image_processing_mammo import MammoImageProcessor
from .bags import DEFAULTS, finetune_bags
from .callbacks import HeadFirst, ModelCardCallback, WeightAverage, freeze
from .options import ENOUGH_UPDATES, ClassificationOptions
from .scoring import (
    Tasks,
    area_of,
    arrays_of,
    begin_classifier,
    choose_metric,
    draw_curves,
    epoch_metrics,
    evaluate,
    own_options,
    predicted_logits,
    sentence,
    task_options,
    used_class_weights,
    used_lesion_loss,
)
from .semi_supervised import ClassThresholds, SemiSupervisedTrainer, TwoViews, WithUnlabelled
from .trainer import (
    REFUSED,
    ClassificationTrainer,
    PairTrainer,
    StageConfig,
    TrainingResult,
    check_batch,
    check_output,
    end_stage,
    resolve_config,
    run,
    without_validation,
)

logger = logging.getLogger(__name__)

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
        images: A collection, prepared or not, or anything that `mammo_hf.load` takes. From a folder of features that
            `mammo_hf.embed` wrote, or its collection, a head over them is trained (`mammo_hf.training.bags`).
        output_dir: Folder of the checkpoint. Images that are not prepared yet are prepared below it.
        model: What training on images starts from: a size (nano, tiny, small, base, large), a checkpoint's folder of
            either stage or of any Swin, a ``.pth`` file of Swin or SimMIM, or a Hub name with an optional
            ``@revision``.
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
    features = features_folder(images)
    if config is None and features is not None:
        options = {**DEFAULTS, **options}
    config = resolve_config(ClassificationConfig, config, output_dir, options, REFUSED_HERE)
    out = Path(str(config.output_dir))
    checkpoint = check_output(out, config.resume_from_checkpoint, overwrite=config.overwrite_output_dir)
    if features is not None:
        if str(model) != "tiny":
            raise UsageError("features have an encoder already", source="model", remedy="leave it out")
        return finetune_bags(images, config, callbacks=callbacks, checkpoint=checkpoint)
    if config.level:
        raise UsageError("a Swin scores images", source="level", remedy="leave it out, or give features from embed")
    start = str(locate(model))
    as_asked: dict[str, Any] = {"named": config.processor, "settings": config.processor_settings}
    processor = training_processor(images, start=start, size=config.image_size, crop=config.crop, **as_asked)
    check_model(start, processor.canvas, crops=bool(config.crop), window_size=config.window_size)
    # Open the collection: split by patient, no test patient whom the start was trained on; choose the labels
    opening: dict[str, Any] = {"model": str(model), "start": start, "processor": processor}
    collection, tasks, patients, target = begin_classifier(images, config, **opening, checkpoint=checkpoint)
    # From here on the output folder is written to
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
    of_crops = ", of crops that lesion annotations place, not of images" if config.crop else ""
    result = TrainingResult(out, metrics, sentence(metrics, tasks[0]["name"]) + of_crops)
    end_stage("classifier", result, config, collection, start=start, target=target)
    return result


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
    weights = used_class_weights(np.array(training["labels"], dtype=np.int64).reshape(-1, len(tasks)), config, tasks)
    annotated = sum(lesions is not None for lesions in training["lesions"])
    lesion_loss = used_lesion_loss(annotated, config)
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
        "train_images_in_pairs": len(getattr(trainer.train_dataset, "others", ())),
        "train_patients": len(set(images["train"].prepared["patient"])),
        "class_weights": weights,
        "lesion_loss_weight": lesion_loss,
        "updates": trainer.state.global_step,
        "processes": config.world_size,
        "seed": config.seed,
        "settings": own_options(config),
    }


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
    table, test = of_collection.get("table"), images["test"].prepared
    processor.image_kinds = image_kinds(images["train"].prepared)
    figures = figures | evaluate(
        network,
        {name: scored(values, images[name].prepared, table) for name, values in logits.items()},
        seed=config.seed,
        evaluated=test,
        report=out / "plots" / "report",
        checkpoint=out.name,
        training=figures,
        processor=processor.to_dict(),
        **of_collection,
    )
    network.save_pretrained(out)
    processor.save_pretrained(out)
    _keep_statistics(trainer, network, images, processor, out)
    labels = np.array(test["labels"], dtype=np.int64) if len(test) else None
    draw_curves(trainer, labels, logits.get("test"), out / "plots", figures)
    return figures


def _keep_statistics(
    trainer: ClassificationTrainer,
    network: MammoSwinForImageClassification,
    images: dict[str, LabelledImages],
    processor: MammoImageProcessor,
    out: Path,
) -> None:
    """Write what tells images apart that are not like the training images, if there are enough patients."""
    for name in (STATISTICS, MAP_TESTS):  # of an earlier model in this folder
        (out / name).unlink(missing_ok=True)
    if trainer.is_fsdp_enabled:  # one process has a part of the weights alone
        return
    features: list[Any] = []
    for name in ("train", "validation"):
        chosen = images[name].prepared
        chosen = chosen.select(range(0, len(chosen), -(-len(chosen) // MOST_COMPARED) or 1))
        features += [_pooled(network, LabelledImages(chosen, processor)), list(chosen["patient"])]
    found = TrainingStatistics.of(*features)
    if found is not None:
        found.save(out)


def _pooled(network: MammoSwinForImageClassification, images: LabelledImages) -> np.ndarray:
    """Return the pooled features (images, channels) of unchanged images."""
    network.eval()
    with torch.inference_mode(), pooled_features(network) as seen:
        for batch in DataLoader(images, batch_size=16):
            network(batch["pixel_values"].to(network.device, network.dtype))
    return torch.cat(seen).numpy() if seen else np.zeros((0, network.swin.num_features), np.float32)


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
    of_training = {
        "augmentation": Augmentation(curve=config.tone_curves),
        "lesion_grid": grid,
        "balanced": balanced,
        "strata": strata,
    }
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
    """Return the unlabelled images, and those of training patients with labels that are not used."""
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
    score = config.score_from if lesion_loss and config.score_from != "auto" else "pooled"
    if score != config.score_from != "auto":
        logger.warning("without lesion locations the score is the pooled one, not %s", config.score_from)
    of_model: MammoSwinConfig = starting_config(
        model,
        processor.canvas,
        num_channels=processor.num_channels,
        **task_options(config, tasks, weights),
        lesion_task=tasks[0]["name"] if lesion_loss else None,
        lesion_loss_weight=lesion_loss,
        score_from=score,
        window_size=config.window_size,
    )
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
        choose_metric(config, np.array(validation.prepared["labels"]), tasks)
    of_model: MammoSwinConfig = network.config
    training: Any = images["train"]
    if config.pair_loss:
        _check_task(tasks[0])
        training = WithOtherBreast(images["train"])
        logger.info("%d of %d training images are in a pair", len(training.others), len(training))
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
    if config.pair_loss:
        return PairTrainer(network, config, pair_loss=config.pair_loss, **common)
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


def _check_task(task: Any) -> None:
    """Check that pairs of a task have a diseased breast: it has two labels, the second one of disease."""
    if len(task["labels"]) != 2:
        problem = f"{task['name']} has {len(task['labels'])} labels"
        raise UsageError(problem, source="pair_loss", remedy="name a task of two labels first in `tasks`")


def choose_score(trainer: Trainer, validation: LabelledImages) -> str:
    """Set ``config.score_from`` to the score with the highest AUC on validation images; to pooled if none is ahead."""
    config: MammoSwinConfig = trainer.accelerator.unwrap_model(trainer.model).config
    if not len(validation):
        return config.score_from
    logits, lesion_scores, labels = arrays_of(trainer.predict(validation))
    place = list(config.task_slices).index(str(config.lesion_task))
    known = labels[:, place] >= 0
    areas = {}
    for score in SCORES:
        config.score_from = score
        shares = probabilities(config, torch.from_numpy(logits), lesion_scores)[str(config.lesion_task)]
        try:
            areas[score] = area_of(labels[known, place], shares.numpy()[known])
        except UndefinedMetric:
            areas[score] = 0.0
    config.score_from = max(SCORES, key=lambda score: areas[score])  # the first of equals: pooled
    logger.info("validation AUC of each score: %s; %s is kept", areas, config.score_from)
    return config.score_from
