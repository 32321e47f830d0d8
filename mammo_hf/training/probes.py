"""Whether pre-training helps, seen before stage 2: simple classifiers on the frozen encoder's pooled features."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from transformers import Trainer, TrainerCallback, TrainerControl, TrainerState, TrainingArguments

from ..errors import UsageError
from ..evaluation import UndefinedMetric, auroc_of

if TYPE_CHECKING:
    from ..modeling_mammo_swin import MammoSwinForMaskedImageModeling
    from .datasets import LabelledImages

logger = logging.getLogger(__name__)

PROBES = ("linear", "knn")


def linear_scores(train: np.ndarray, labels: np.ndarray, test: np.ndarray) -> np.ndarray:
    """Class probabilities (n, classes) of a logistic regression on standardised features (n, channels)."""
    probe = make_pipeline(StandardScaler(), LogisticRegression(max_iter=1000))
    scores: np.ndarray = probe.fit(train, labels).predict_proba(test)
    return scores


def knn_scores(
    train: np.ndarray, labels: np.ndarray, test: np.ndarray, neighbours: int = 20, temperature: float = 0.07
) -> np.ndarray:
    """Votes of the nearest by cosine, weighted by exp(similarity / temperature) (Wu et al. 2018, arXiv 1805.01978)."""
    unit = [values / np.maximum(np.linalg.norm(values, axis=1, keepdims=True), 1e-12) for values in (train, test)]
    similarity = unit[1] @ unit[0].T
    nearest = np.argsort(-similarity, axis=1, kind="stable")[:, :neighbours]
    # less the largest, so that the exponential cannot overflow; shares do not change
    close = np.take_along_axis(similarity, nearest, 1)
    weights = np.exp((close - close.max(1, keepdims=True)) / temperature)
    votes = np.stack([(weights * (labels[nearest] == label)).sum(1) for label in np.unique(labels)], axis=1)
    shares: np.ndarray = votes / votes.sum(1, keepdims=True)
    return shares


@torch.no_grad()
def pooled_features(
    network: MammoSwinForMaskedImageModeling, images: LabelledImages, rows: list[int], batch_size: int = 16
) -> np.ndarray:
    """The mean of the encoder's last tokens of whole, unmasked images: float32 (n, channels)."""
    was_training = network.training
    network.eval()
    parts = []
    for start in range(0, len(rows), batch_size):
        pixels = torch.stack([images[row]["pixel_values"] for row in rows[start : start + batch_size]])
        parts.append(network.swin(pixels.to(network.device)).last_hidden_state.mean(1).float().cpu().numpy())
    network.train(was_training)
    return np.concatenate(parts)


class Probes(TrainerCallback):
    """At each evaluation: fits the probes on labelled training images and logs their AUC on validation images.

    Args:
        trainer: Logs the figures, to its history and its trackers.
        network: The model.
        train: Images of training patients, without augmentation.
        validation: Images of validation patients.
        kinds: Of ``PROBES``.
        limit: The most training images to use, evenly chosen.

    Raises:
        UsageError: A probe that is not known.
    """

    def __init__(
        self,
        trainer: Trainer,
        network: MammoSwinForMaskedImageModeling,
        train: LabelledImages,
        validation: LabelledImages,
        kinds: list[str],
        limit: int = 1000,
    ) -> None:
        unknown = [kind for kind in kinds if kind not in PROBES]
        if unknown:
            raise UsageError(f"no probe {unknown[0]!r}", remedy=f"use {' or '.join(PROBES)}")
        self.trainer = trainer
        self.network = network
        self.kinds = kinds
        self.sides = [(images, *_known(images, limit)) for images in (train, validation)]

    def on_evaluate(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any) -> None:
        """Logs ``probe_linear_auroc`` and ``probe_knn_auroc``; where a side lacks a class, nothing."""
        if state.is_world_process_zero:
            figures = self.figures()
            if figures:
                logger.info("probes at step %d: %s", state.global_step, figures)
                self.trainer.log(figures)

    def figures(self) -> dict[str, float]:
        """The AUC of each probe; empty where one of the sides has fewer than two classes."""
        (_, _, labels), (_, _, truth) = self.sides
        if len(set(labels)) < 2:
            return {}
        train, test = (pooled_features(self.network, images, rows) for images, rows, _ in self.sides)
        found = {}
        for kind in self.kinds:
            scores = (linear_scores if kind == "linear" else knn_scores)(train, labels, test)
            try:
                metric, values = auroc_of(scores)
                area = metric(truth, values)
            except UndefinedMetric as reason:
                logger.warning("the %s probe has no AUC: %s", kind, reason)
                continue
            found[f"probe_{kind}_auroc"] = float(area)
        return found


def _known(images: LabelledImages, limit: int) -> tuple[list[int], np.ndarray]:
    """Rows with a label of the first task, evenly chosen up to the limit, and those labels."""
    labels = np.array([row[0] for row in images.prepared["labels"]])
    rows = np.flatnonzero(labels >= 0)
    rows = rows[np.linspace(0, len(rows) - 1, min(limit, len(rows))).astype(int)] if len(rows) else rows
    return rows.tolist(), labels[rows]
