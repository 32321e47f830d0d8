"""What a classifier's scores are worth: at each epoch, on validation to choose by, and on the test split at the end."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

import datasets
import numpy as np
import torch
from scipy.special import softmax
from transformers import EvalPrediction, Trainer

from ..configuration_mammo_swin import SCORES, MammoSwinConfig
from ..errors import DataError
from ..evaluation import UndefinedMetric, accuracy, auroc_of, evaluate_task
from ..evaluation.after_training import evaluate_after_training
from ..evaluation.scoring import scored
from ..modeling_mammo_swin import MammoSwinForImageClassification, probabilities, score_logits
from .datasets import LabelledImages
from .plots import plot_loss_curves, plot_metric_curves, plot_roc

logger = logging.getLogger(__name__)

Tasks = list[dict[str, Any]]


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
