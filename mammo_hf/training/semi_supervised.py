"""Stage 2 on unlabelled images as well: pseudo-labels, or the average of the weights as a teacher."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch.func import functional_call
from torch.nn import functional
from torch.utils.data import Dataset

from ..data.augmentation import STRONG_VIEW, WEAK_VIEW
from ..data.torch_datasets import Example, LabelledImages, PreparedImages
from ..models.configuration_mammo_swin import MammoSwinConfig
from .trainer import ClassificationTrainer

THRESHOLDS = "class_thresholds.json"


class TwoViews(PreparedImages):
    """Unlabelled images in a weak view for the teacher and a strong one for the model, with their hidden labels."""

    def __getitem__(self, index: int) -> Example:
        intensity, lesions, row = self.intensity_and_lesions(index)
        views = {}
        for place, (name, augmentation) in enumerate((("weak_views", WEAK_VIEW), ("strong_views", STRONG_VIEW))):
            generator = np.random.default_rng([self.seed, self.epoch, index, place])
            moved, _ = augmentation(intensity, lesions, view=row["view"], generator=generator)
            views[name] = self.normalized(moved)
        return {**views, "hidden_labels": torch.tensor(row["labels"])}


class WithUnlabelled(Dataset[Example]):
    """Labelled images, each together with some unlabelled ones.

    So Trainer's own sampler, resume and distribution hold for both. Which unlabelled ones are chosen depends on (seed,
    epoch, index) alone.

    Args:
        labelled: Labelled images; their number is the length of this set.
        unlabelled: Unlabelled images in two views.
        ratio: Number of unlabelled images per labelled one.
    """

    def __init__(self, labelled: LabelledImages, unlabelled: TwoViews, ratio: int) -> None:
        self.labelled = labelled
        self.unlabelled = unlabelled
        self.ratio = ratio
        self._order: tuple[int, np.ndarray] | None = None

    @property
    def epoch(self) -> int:
        """Return the epoch of the labelled images."""
        return self.labelled.epoch

    @epoch.setter
    def epoch(self, epoch: int) -> None:
        self.labelled.epoch = self.unlabelled.epoch = epoch

    def __len__(self) -> int:
        return len(self.labelled)

    def __getitem__(self, index: int) -> Example:
        if self._order is None or self._order[0] != self.epoch:
            generator = np.random.default_rng([self.unlabelled.seed, self.epoch, len(self.unlabelled)])
            self._order = (self.epoch, generator.permutation(len(self.unlabelled)))
        places = (index * self.ratio + np.arange(self.ratio)) % len(self.unlabelled)
        views = [self.unlabelled[int(row)] for row in self._order[1][places]]
        return self.labelled[index] | {name: torch.stack([view[name] for view in views]) for name in views[0]}


class ClassThresholds:
    """Confidence thresholds of a teacher, lower for a class that it is rarely sure of (FreeMatch, arXiv 2205.07246).

    Args:
        config: Configuration whose tasks are used.
        threshold: Threshold of the most frequently predicted class, in (0, 1).
        decay: Decay of the moving average of each class's probability.
    """

    def __init__(self, config: MammoSwinConfig, threshold: float, decay: float = 0.99) -> None:
        self.threshold = threshold
        self.decay = decay
        self.means = {
            name: torch.full((part.stop - part.start,), 1 / (part.stop - part.start))
            for name, part in config.task_slices.items()
        }

    def update(self, means: dict[str, torch.Tensor]) -> None:
        """Update the averages by the mean probabilities (labels,) of a batch, for each task."""
        for name, mean in means.items():
            self.means[name] = self.decay * self.means[name] + (1 - self.decay) * mean.detach().float().cpu()

    def of(self, name: str) -> torch.Tensor:
        """Return the threshold (labels,) of each class of a task."""
        return self.threshold * self.means[name] / self.means[name].max()

    def save(self, folder: str | Path) -> None:
        """Save the state in a checkpoint."""
        text = json.dumps({name: mean.tolist() for name, mean in self.means.items()})
        (Path(folder) / THRESHOLDS).write_text(text, encoding="utf-8")

    def load(self, folder: str | Path) -> None:
        """Load the state of a checkpoint."""
        stored = json.loads((Path(folder) / THRESHOLDS).read_text(encoding="utf-8"))
        self.means = {name: torch.tensor(mean) for name, mean in stored.items()}


def ramp(step: int, steps: int) -> float:
    """Return exp(-5 (1 - t)^2) over the first 40 % of a training, then 1 (Laine & Aila 2017, arXiv 1610.02242, 3.1)."""
    share = min(1.0, step / max(1.0, 0.4 * steps))
    return math.exp(-5 * (1 - share) ** 2)


class SemiSupervisedTrainer(ClassificationTrainer):
    """Trainer on labels, and on agreement between two views of unlabelled images.

    "pseudo_label" (FixMatch, arXiv 2001.07685): what the model says of the weak view is the label of the strong one.
    "mean_teacher" (arXiv 1703.01780): the strong view's probabilities follow those that the average of the weights
    gives for the weak one. Both count if the teacher is sure enough, since an untrained one would draw everything
    towards its own indifference, and both grow in weight over the first part of the training.

    Args:
        method: "pseudo_label" or "mean_teacher".
        thresholds: Thresholds of the classes.
        consistency_weight: Final weight of the agreement's loss.
    """

    def __init__(
        self, *args: Any, method: str, thresholds: ClassThresholds, consistency_weight: float = 1.0, **kwargs: Any
    ) -> None:
        super().__init__(*args, **kwargs)
        self.method = method
        self.thresholds = thresholds
        self.consistency_weight = consistency_weight
        self._seen: dict[str, torch.Tensor] = {}

    def compute_loss(
        self,
        model: Any,
        inputs: dict[str, Any],
        return_outputs: bool = False,
        num_items_in_batch: torch.Tensor | int | None = None,
    ) -> Any:
        """Return the labels' loss, in training with that of the agreement, from the same forward pass."""
        if "weak_views" not in inputs:
            return super().compute_loss(model, inputs, return_outputs, num_items_in_batch)
        inputs = dict(inputs)
        weak, strong, hidden = (
            inputs.pop(name).flatten(0, 1) for name in ("weak_views", "strong_views", "hidden_labels")
        )
        count = len(inputs["pixel_values"])
        for name, value in (("pixel_values", strong), ("labels", None), ("lesion_targets", None)):
            if name in inputs:
                own = inputs[name]
                more = own.new_full((len(strong), *own.shape[1:]), -100) if value is None else value
                inputs[name] = torch.cat([own, more])
        taught = self._teach(model, weak)
        loss, outputs = super().compute_loss(model, inputs, True, num_items_in_batch)
        agreement = self._agreement(model, outputs.logits[count:], taught, hidden)
        # the labels' loss is divided over the whole update already, this one is a mean over a micro-batch
        if num_items_in_batch is not None:
            agreement = agreement / self.current_gradient_accumulation_steps
        share = self.consistency_weight * ramp(self.state.global_step, self.state.max_steps)
        return (loss + share * agreement, outputs) if return_outputs else loss + share * agreement

    @torch.no_grad()
    def _teach(self, model: Any, weak: torch.Tensor) -> dict[str, torch.Tensor]:
        """Return the teacher's probabilities (images, labels) of the weak views, for each task."""
        network = self.accelerator.unwrap_model(model)
        network.eval()
        average = self.average.average if self.average is not None else {}
        logits = functional_call(network, dict(average), (weak,)).logits
        network.train()
        taught = {name: logits[:, part].float().softmax(-1) for name, part in network.config.task_slices.items()}
        self.thresholds.update({name: self.accelerator.reduce(p.mean(0), "mean") for name, p in taught.items()})
        return taught

    def _agreement(
        self, model: Any, logits: torch.Tensor, taught: dict[str, torch.Tensor], hidden: torch.Tensor
    ) -> torch.Tensor:
        """Return the mean over tasks of the distance of the strong views from the teacher's."""
        losses = []
        slices = self.accelerator.unwrap_model(model).config.task_slices
        for index, (name, part) in enumerate(slices.items()):
            own, target = logits[:, part].float(), taught[name]
            confidence, pseudo = target.max(-1)
            sure = confidence >= self.thresholds.of(name).to(pseudo.device)[pseudo]
            if self.method == "pseudo_label":
                apart = functional.cross_entropy(own, pseudo, reduction="none")
            else:
                apart = (own.softmax(-1) - target).square().sum(-1)
            losses.append((apart * sure).mean())
            self._count(name, sure, pseudo == own.argmax(-1), pseudo == hidden[:, index], hidden[:, index] != -100)
        return torch.stack(losses).mean()

    def _count(
        self, name: str, sure: torch.Tensor, agreed: torch.Tensor, right: torch.Tensor, known: torch.Tensor
    ) -> None:
        counts = [torch.ones_like(sure), sure, sure & agreed, sure & known, sure & known & right]
        new = torch.stack([count.sum() for count in counts]).double()
        self._seen[name] = self._seen.get(name, torch.zeros_like(new)) + new

    def log(self, logs: dict[str, float], *args: Any, **kwargs: Any) -> None:
        """Log Trainer's figures, and what became of the unlabelled images since the last log.

        ``<task>_pseudo_labels``: number of views that the teacher was sure of; ``_share``: their fraction of all;
        ``_agreement``: fraction of them that the model reads alike in the strong view; ``_accuracy``: fraction of those
        with a hidden label that the teacher had right.
        """
        # only here are all processes at the same point
        if "loss" in logs and self._seen:
            for name, counts in self._seen.items():
                seen, sure, agreed, known, right = self.accelerator.reduce(counts.float(), "sum").tolist()
                logs[f"{name}_pseudo_labels"] = int(sure)
                logs[f"{name}_pseudo_label_share"] = sure / seen
                if sure:
                    logs[f"{name}_pseudo_label_agreement"] = agreed / sure
                if known:
                    logs[f"{name}_pseudo_label_accuracy"] = right / known
            self._seen = {}
        super().log(logs, *args, **kwargs)

    def save_model(self, output_dir: str | None = None, _internal_call: bool = False) -> None:
        """Save the model, and the thresholds next to the weights of a checkpoint."""
        super().save_model(output_dir, _internal_call)
        if _internal_call and self.args.should_save:
            self.thresholds.save(str(output_dir))

    def _load_from_checkpoint(self, resume_from_checkpoint: str, model: Any = None) -> None:
        super()._load_from_checkpoint(resume_from_checkpoint, model)
        self.thresholds.load(resume_from_checkpoint)
