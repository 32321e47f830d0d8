"""The label that is explained: its name, its index into the logits, and its score, which is differentiated."""

from __future__ import annotations

import operator
from collections.abc import Callable, Sequence
from functools import cached_property
from typing import Any, SupportsIndex

import numpy as np
import torch

from ..errors import UsageError
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


def predicted(logits: torch.Tensor, config: Any) -> list[int]:
    """Return the index of the first task's strongest label per image, from logits (batch, labels)."""
    first = next(iter(task_slices(config).values()))
    return [int(index) + first.start for index in logits[:, first].argmax(-1)]


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


class Predicted(Sequence[int]):
    """The first task's predictions for a batch, computed when they are first needed.

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
        return predicted(self._logits(), self._config)

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


def gradients_of(total: torch.Tensor, inputs: Sequence[torch.Tensor]) -> tuple[torch.Tensor, ...]:
    """Return the gradient of a score with respect to each tensor; zeros if the score does not depend on it.

    Raises:
        UsageError: No gradient can flow, as through a quantised layer.
    """
    problem = "no gradient flows through this model (are its layers quantised?)"
    remedy = "explain the model in float32 or bfloat16, or use attention or occlusion, which need none"
    if not total.requires_grad:
        raise UsageError(problem, source="model", remedy=remedy)
    try:
        found = torch.autograd.grad(total, inputs, allow_unused=True)
    except (RuntimeError, NotImplementedError) as error:
        if "out of memory" in str(error):
            raise
        raise UsageError(problem, source="model", remedy=remedy) from error
    if all(gradient is None for gradient in found):  # not zero, which is possible, but unknown
        raise UsageError(problem, source="model", remedy=remedy)
    return tuple(
        torch.zeros_like(tensor) if gradient is None else gradient
        for tensor, gradient in zip(inputs, found, strict=True)
    )


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
