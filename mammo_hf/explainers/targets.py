"""The label that is explained: its name, its index into the logits, and its score, which is differentiated."""

from __future__ import annotations

import operator
from collections.abc import Callable, Sequence
from functools import cached_property
from typing import Any, SupportsIndex

import numpy as np
import torch

from ..errors import UsageError
from ..metrics.calibration import calibrated
from ..models.configuration_tasks import slices_of

Target = str | SupportsIndex | Sequence[str | SupportsIndex] | np.ndarray | torch.Tensor | None


def task_slices(config: Any) -> dict[str, slice]:
    """Return each task's slice of the logits by its name; a classifier without tasks has one without a name.

    Stock transformers keeps ``config.tasks`` of our checkpoints as plain data, so it is read as such.
    """
    return slices_of(getattr(config, "tasks", None) or []) or {"": slice(0, config.num_labels)}


def label_names(config: Any) -> list[str]:
    """Return the labels in the order of the logits: "task:label" or, for a stock classifier, "label"."""
    return [config.id2label[index] for index in range(config.num_labels)]


def predicted(logits: torch.Tensor, config: Any, task: str | None = None) -> list[int]:
    """Return the index of a task's strongest label per image, from logits (batch, labels).

    Args:
        logits: Logits (batch, labels of all tasks).
        config: The model's configuration.
        task: The task's name; ``None``: the first.
    """
    slices = task_slices(config)
    part = next(iter(slices.values())) if task is None else slices[task]
    return [int(index) + part.start for index in logits[:, part].argmax(-1)]


def fixed_target(config: Any, task: str | None = None) -> int | None:
    """Return the index of the label of a task that is explained of every image, whatever the model predicts.

    Of two labels it is the positive one, the last, as in `evaluate`: a map for "benign" would look like a finding. Of
    more there is one only if the mapping of the collection gave their ``severity``: the most severe.

    Args:
        config: The model's configuration.
        task: The task's name; ``None``: the first.
    """
    name = next(iter(task_slices(config))) if task is None else task
    part = task_slices(config)[name]
    ordered = any(one["name"] == name and one.get("severity") for one in getattr(config, "tasks", None) or [])
    return part.stop - 1 if part.stop - part.start == 2 or ordered else None


def default_targets(logits: torch.Tensor, config: Any, task: str | None = None) -> list[int]:
    """Return the index of the label that is explained unless another one is asked for, per image.

    It is that of `fixed_target` or, without one, the strongest.

    Args:
        logits: Logits (batch, labels of all tasks).
        config: The model's configuration.
        task: The task's name; ``None``: the first.
    """
    fixed = fixed_target(config, task)
    return predicted(logits, config, task) if fixed is None else [fixed] * len(logits)


def resolve(target: Target, count: int, config: Any) -> list[int]:
    """Return the index into the logits of each image's target.

    Args:
        target: "task:label", a label that only one task has, an index, or a list with one of these per image.
        count: Number of images in the batch.
        config: The model's configuration.

    Raises:
        UsageError: A label that does not exist or that several tasks have, or not one target per image.
    """
    target = target.tolist() if isinstance(target, (np.ndarray, torch.Tensor)) else target
    targets = list(target) if isinstance(target, (list, tuple)) else [target] * count
    if len(targets) != count:
        raise UsageError(
            f"{len(targets)} targets for {count} images", source="target", remedy="give one, or one per image"
        )
    return [_index(one, config) for one in targets]


class Default(Sequence[int]):
    """The targets of a batch for which none was asked, see `default_targets`, computed when they are first needed.

    An explainer that runs the model before it needs its targets, as ``score`` does, needs no second pass.

    Args:
        logits: A function that returns the logits (batch, labels) of the images.
        count: Number of images.
        config: The model's configuration.
    """

    def __init__(self, logits: Callable[[], torch.Tensor], count: int, config: Any) -> None:
        self._logits, self._count, self._config = logits, count, config

    @cached_property
    def _indices(self) -> list[int]:
        return default_targets(self._logits(), self._config)

    def __len__(self) -> int:
        return self._count

    def __getitem__(self, index: Any) -> Any:
        return self._indices[index]


def score(logits: torch.Tensor, indices: Sequence[int], config: Any) -> torch.Tensor:
    """Return the scalar that is differentiated: the sum of ``scores`` over images."""
    return scores(logits, indices, config).sum()


def scores(logits: torch.Tensor, indices: Sequence[int], config: Any) -> torch.Tensor:
    """Return each target's logit minus the mean of its rivals', (batch,).

    The rivals are the other labels of its task. A task's softmax depends only on differences between its logits: a
    logit alone may rise together with all others without any effect. With two labels this is the log-odds.
    Probabilities are not used because they saturate, and their gradient with them, when the model is certain.

    Args:
        logits: Logits (batch, labels).
        indices: Index of the target, per image.
        config: The model's configuration.
    """
    parts = []
    for row, index in zip(logits, indices, strict=True):
        part = _task_of(index, config)
        rivals = [rival for rival in range(part.start, part.stop) if rival != index]
        parts.append(row[index] - row[rivals].mean() if rivals else row[index])
    return torch.stack(parts)


def probabilities(logits: torch.Tensor, indices: Sequence[int], config: Any) -> torch.Tensor:
    """Return each target's probability, float32 (batch,): the softmax over its task's own slice."""
    parts = [(row, index, _task_of(index, config)) for row, index in zip(logits.float(), indices, strict=True)]
    return torch.stack([row[part].softmax(-1)[index - part.start] for row, index, part in parts])


def calibrated_scores(config: Any, logits: np.ndarray) -> dict[str, np.ndarray]:
    """Return each task's scores by its name, float64 (batch, labels), with rows that sum to 1.

    They are calibrated if ``config.calibration`` says how.

    Args:
        config: The model's configuration.
        logits: Logits (batch, labels of all tasks).
    """
    calibrations = getattr(config, "calibration", None) or {}
    return {name: calibrated(logits[:, part], calibrations.get(name)) for name, part in task_slices(config).items()}


def threshold_of(index: int, config: Any, operating_point: str) -> float | None:
    """Return the score from which on a label counts as found, that validation images have fixed.

    Args:
        index: The label's index into the logits.
        config: The model's configuration.
        operating_point: Rule of `mammo_hf.metrics.operating_points.RULES`; "none" for no threshold.

    Returns:
        The threshold of the positive label of a task with two; ``None`` of any other label, or if the model holds none.
    """
    for name, part in task_slices(config).items():
        if index == part.stop - 1 and part.stop - part.start == 2:
            of_image = ((getattr(config, "operating_points", None) or {}).get(name) or {}).get("image") or {}
            return (of_image.get(operating_point) or {}).get("threshold")
    return None


def deferral_thresholds(config: Any, fraction: float, level: str) -> dict[str, float]:
    """Return for each task the highest probability below which a score is left to a person.

    It is the percentile of validation images (or breasts, or exams) that would have left this fraction of them.

    Args:
        config: The model's configuration.
        fraction: Fraction of validation that is left to a person, above 0 and below 1.
        level: "image", "breast" or "exam".

    Raises:
        UsageError: The model holds no percentiles, as without validation images.
    """
    stored = getattr(config, "confidences", None) or {}
    found = {name: of_task[level] for name, of_task in stored.items() if level in of_task}
    if not found:
        problem = f"holds no confidences of validation by {level}, from which the threshold is taken"
        raise UsageError(problem, source="the model", remedy="train it with a validation split, or leave `defer` out")
    return {name: float(np.interp(100 * fraction, range(len(values)), values)) for name, values in found.items()}


def gradients_of(total: torch.Tensor, inputs: Sequence[torch.Tensor]) -> tuple[torch.Tensor, ...]:
    """Return the gradient of a score with respect to each tensor; zeros if the score does not depend on it.

    Raises:
        UsageError: No gradient can flow, as through a quantised layer.
    """
    if not total.requires_grad:
        raise no_gradient()
    try:
        found = torch.autograd.grad(total, inputs, allow_unused=True)
    except (RuntimeError, NotImplementedError) as error:
        if "out of memory" in str(error):
            raise
        raise no_gradient() from error
    if all(gradient is None for gradient in found):  # not zero, which is possible, but unknown
        raise no_gradient()
    return tuple(
        torch.zeros_like(tensor) if gradient is None else gradient
        for tensor, gradient in zip(inputs, found, strict=True)
    )


def no_gradient() -> UsageError:
    """Return the error of a model through which no gradient can flow."""
    problem = "no gradient flows through this model (are its layers quantised?)"
    remedy = "explain the model in float32 or bfloat16, or use attention or occlusion, which need none"
    return UsageError(problem, source="model", remedy=remedy)


def _task_of(index: int, config: Any) -> slice:
    return next(part for part in task_slices(config).values() if part.start <= index < part.stop)


def _index(target: str | SupportsIndex, config: Any) -> int:
    names = label_names(config)
    found = []
    if isinstance(target, str):
        found = [index for index, name in enumerate(names) if target in (name, name.split(":", 1)[-1])]
    elif hasattr(target, "__index__"):
        found = [index for index in range(len(names)) if index == operator.index(target)]
    if len(found) != 1:
        problem = "is a label of several tasks" if found else "is not a label of this model"
        raise UsageError(f"{target!r} {problem}", source="target", remedy=f"use one of {', '.join(names)}")
    return found[0]
