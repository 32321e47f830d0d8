"""Callbacks of both stages: progress, averaged weights, what is trained, probes, and the facts for the model card."""

from __future__ import annotations

import importlib.metadata
import logging
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from safetensors.torch import load_file, save_file
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from torch import nn
from transformers import Trainer, TrainerCallback, TrainerControl, TrainerState, TrainingArguments
from transformers.models.swin.modeling_swin import SwinDropPath
from transformers.trainer_callback import PrinterCallback, ProgressCallback

from ..errors import UsageError
from ..files import as_new_files
from ..metrics.classification import auroc_of
from ..metrics.inputs import UndefinedMetric
from ..models.modeling_mammo_swin import MammoSwinForImageClassification

if TYPE_CHECKING:
    from ..data.torch_datasets import LabelledImages
    from ..models.modeling_mammo_swin import MammoSwinForMaskedImageModeling

logger = logging.getLogger(__name__)
_TIMING = ("_runtime", "_per_second")
Logs = dict[str, Any]


class ProgressBar(ProgressCallback):
    """Trainer's progress bar with the newest loss next to it, in place of a printed dictionary every few steps."""

    def on_log(
        self,
        args: TrainingArguments,
        state: TrainerState,
        control: TrainerControl,
        logs: Logs | None = None,
        **kwargs: Any,
    ) -> None:
        """Show a loss next to the bar, and an evaluation as a line above it."""
        if self.training_bar is None:
            return
        line = _evaluation(logs or {}, state)
        if line:
            self.training_bar.write(line)
        elif logs and "loss" in logs:
            self.training_bar.set_postfix_str(f"loss {float(logs['loss']):.4g}")


class LoggedFigures(TrainerCallback):
    """The same lines through ``logging``, if no bar is wanted, as with a log file."""

    def on_log(
        self,
        args: TrainingArguments,
        state: TrainerState,
        control: TrainerControl,
        logs: Logs | None = None,
        **kwargs: Any,
    ) -> None:
        """Log a loss or an evaluation."""
        if not state.is_world_process_zero or not logs:
            return
        line = _evaluation(logs, state)
        if line:
            logger.info("%s", line)
        elif "loss" in logs:
            logger.info("step %d of %d: loss %.4g", state.global_step, state.max_steps, float(logs["loss"]))


def show_progress(trainer: Trainer) -> None:
    """Replace Trainer's own callbacks of progress by these; a notebook's table is kept."""
    if trainer.pop_callback(ProgressCallback) is not None:
        trainer.add_callback(ProgressBar())
    elif trainer.pop_callback(PrinterCallback) is not None:
        trainer.add_callback(LoggedFigures())


def _evaluation(logs: Logs, state: TrainerState) -> str:
    figures = [
        f"{name.removeprefix('eval_').replace('_', ' ')} {float(value):.4g}"
        for name, value in logs.items()
        if name.startswith("eval_") and not name.endswith(_TIMING)
    ]
    return f"epoch {state.epoch or 0:.4g}: validation {', '.join(figures)}" if figures else ""


# An exponential moving average of a model's weights, kept beside them and in every checkpoint.


FILE = "weight_average.safetensors"


class WeightAverage(TrainerCallback):
    """Moving average of the weights: after each step d * average + (1 - d) * weights.

    d = min(decay, (1 + step) / (10 + step)).

    So the average reaches back over a tenth of the steps so far and no further, and early weights, which know nothing,
    are soon forgotten.

    Args:
        network: Model whose trainable parameters are averaged.
        decay: Decay in (0, 1); 0.999 averages over about a thousand steps, once there have been ten thousand.
    """

    def __init__(self, network: nn.Module, decay: float) -> None:
        self.network = network
        self.decay = decay
        self.average = {name: value.detach().clone() for name, value in self._weights()}

    def _weights(self) -> Iterator[tuple[str, nn.Parameter]]:
        return ((name, value) for name, value in self.network.named_parameters() if value.requires_grad)

    @torch.no_grad()
    def on_step_end(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any) -> None:
        """Update the average by the new weights."""
        decay = min(self.decay, (1 + state.global_step) / (10 + state.global_step))
        for name, value in self._weights():
            self.average[name] = self.average[name].to(value.device).lerp_(value, 1 - decay)

    def save(self, folder: str | Path) -> None:
        """Save the average in a checkpoint that is being written."""
        save_file({name: value.contiguous().cpu() for name, value in self.average.items()}, Path(folder) / FILE)
        as_new_files(Path(folder) / FILE)

    def load(self, folder: str | Path) -> None:
        """Load the average of a checkpoint; if it has none, its weights, which the network must have by now."""
        path = Path(folder) / FILE
        stored = load_file(path) if path.is_file() else dict(self._weights())
        self.average = {name: stored[name].detach().to(value.device).clone() for name, value in self._weights()}

    @contextmanager
    def applied(self) -> Iterator[None]:
        """Give the network the averaged weights, and its own again afterwards."""
        own = {name: value.detach().clone() for name, value in self._weights()}
        self.apply()
        try:
            yield
        finally:
            self._set(own)

    def apply(self) -> None:
        """Give the network the averaged weights for good."""
        self._set(self.average)

    @torch.no_grad()
    def _set(self, values: dict[str, torch.Tensor]) -> None:
        for name, parameter in self._weights():
            parameter.copy_(values[name])


def freeze(network: MammoSwinForImageClassification, tune: str) -> None:
    """Switch off gradients and random depth of what is not trained.

    Args:
        network: Classifier, changed in place.
        tune: What is trained. "full": everything; "last_stage": the heads, the last stage, the norm behind it and the
            patch merging before it; "head": the heads alone.
    """
    swin = network.swin
    frozen: list[nn.Module] = []
    if tune == "head":
        frozen = [swin]
    elif tune == "last_stage":
        frozen = [swin.embeddings, *swin.encoder.layers[:-1]]
    for module in frozen:
        module.requires_grad_(False)
        for part in module.modules():
            if isinstance(part, SwinDropPath):
                part.drop_prob = 0.0
    if tune == "last_stage" and swin.encoder.layers[-2].downsample is not None:
        # it belongs to the stage before, but makes the last one's tokens
        swin.encoder.layers[-2].downsample.requires_grad_(True)


class HeadFirst(TrainerCallback):
    """Callback that keeps the encoder fixed for the first updates, while the heads are random (Kumar et al. 2022).

    Its gradients are dropped rather than its parameters frozen: distributed training fixes what it synchronises before
    the first update.

    Args:
        updates: Number of updates.
    """

    def __init__(self, updates: int) -> None:
        self.updates = updates

    def on_pre_optimizer_step(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        """Drop the encoder's gradients: an optimiser leaves a parameter without a gradient as it is."""
        if state.global_step >= self.updates:
            return
        network = kwargs["model"]
        for parameter in getattr(network, "module", network).swin.parameters():
            parameter.grad = None


PROBES = ("linear", "knn")


def linear_scores(train: np.ndarray, labels: np.ndarray, test: np.ndarray) -> np.ndarray:
    """Return class probabilities (n, classes) of a logistic regression on standardised features (n, channels)."""
    probe = make_pipeline(StandardScaler(), LogisticRegression(max_iter=1000))
    scores: np.ndarray = probe.fit(train, labels).predict_proba(test)
    return scores


def knn_scores(
    train: np.ndarray, labels: np.ndarray, test: np.ndarray, neighbours: int = 20, temperature: float = 0.07
) -> np.ndarray:
    """Return votes of the nearest by cosine, weighted by exp(similarity / temperature) (Wu et al. 2018, 1805.01978)."""
    unit = [values / np.maximum(np.linalg.norm(values, axis=1, keepdims=True), 1e-12) for values in (train, test)]
    similarity = unit[1] @ unit[0].T
    nearest = np.argsort(-similarity, axis=1, kind="stable")[:, :neighbours]
    # minus the largest, so that the exponential cannot overflow; the fractions do not change
    close = np.take_along_axis(similarity, nearest, 1)
    weights = np.exp((close - close.max(1, keepdims=True)) / temperature)
    votes = np.stack([(weights * (labels[nearest] == label)).sum(1) for label in np.unique(labels)], axis=1)
    shares: np.ndarray = votes / votes.sum(1, keepdims=True)
    return shares


@torch.no_grad()
def pooled_features(
    network: MammoSwinForMaskedImageModeling, images: LabelledImages, rows: list[int], batch_size: int = 16
) -> np.ndarray:
    """Return the mean of the encoder's last tokens of unmasked images, float32 (n, channels)."""
    was_training = network.training
    network.eval()
    parts = []
    for start in range(0, len(rows), batch_size):
        pixels = torch.stack([images[row]["pixel_values"] for row in rows[start : start + batch_size]])
        parts.append(network.swin(pixels.to(network.device)).last_hidden_state.mean(1).float().cpu().numpy())
    network.train(was_training)
    return np.concatenate(parts)


class Probes(TrainerCallback):
    """Callback that fits probes on labelled training images at each evaluation and logs their AUC on validation images.

    They show before stage 2 whether pre-training helps.

    Args:
        trainer: Trainer that logs the figures.
        network: Model whose frozen features are used.
        train: Images of training patients, without augmentation.
        validation: Images of validation patients.
        kinds: Names of probes, "linear" or "knn".
        limit: Largest number of training images, evenly chosen.

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
        """Log ``probe_linear_auroc`` and ``probe_knn_auroc``, unless a split lacks a class."""
        if state.is_world_process_zero:
            figures = self.figures()
            if figures:
                logger.info("probes at step %d: %s", state.global_step, figures)
                self.trainer.log(figures)

    def figures(self) -> dict[str, float]:
        """Return the AUC of each probe; nothing if a split has fewer than two classes."""
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
    """Return rows with a label of the main task, evenly chosen up to the limit, and their labels."""
    labels = np.array([row[0] for row in images.prepared["labels"]])
    rows = np.flatnonzero(labels >= 0)
    rows = rows[np.linspace(0, len(rows) - 1, min(limit, len(rows))).astype(int)] if len(rows) else rows
    return rows.tolist(), labels[rows]


_PACKAGES = ("mammo-hf", "torch", "transformers")


class ModelCardCallback(TrainerCallback):
    """Callback that gathers the facts of a run for its model card.

    Attributes:
        facts: Facts of the run, once it has ended; none names a person, a place or a machine.
    """

    def __init__(self) -> None:
        self.facts: dict[str, Any] = {}

    def on_train_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        """Record what was asked for, and what was done."""
        batch = args.train_batch_size * args.gradient_accumulation_steps * args.world_size
        self.facts = {
            "updates": state.global_step,
            "epochs": round(float(state.epoch or 0), 2),
            "images_an_update": batch,
            "optimizer": str(getattr(args.optim, "value", args.optim)),
            "learning_rate": args.learning_rate,
            "schedule": str(getattr(args.lr_scheduler_type, "value", args.lr_scheduler_type)),
            "weight_decay": args.weight_decay,
            "precision": "bfloat16" if args.bf16 else "float16" if args.fp16 else "float32",
            "device": _kind_of_device(args),
            "chosen_by": args.metric_for_best_model if args.load_best_model_at_end else None,
            "packages": {name: importlib.metadata.version(name) for name in _PACKAGES},
        }


def _kind_of_device(args: TrainingArguments) -> str:
    device = args.device
    return torch.cuda.get_device_name(device) if device.type == "cuda" else str(device.type)
