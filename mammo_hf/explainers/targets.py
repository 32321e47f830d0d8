"""Which label is explained: its name, its place in the logits, and the score whose gradient is taken."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch

from ..errors import UsageError

Target = str | int | Sequence[str | int] | None


def task_slices(config: Any) -> dict[str, slice]:
    """For each task's name its slice of the logits; a stock classifier is one task without a name."""
    tasks = getattr(config, "tasks", None)
    return config.task_slices if tasks else {"": slice(0, config.num_labels)}


def label_names(config: Any) -> list[str]:
    """The labels in the order of the logits, "task:label" or, for a stock classifier, "label"."""
    return [config.id2label[index] for index in range(config.num_labels)]


def resolve(target: Target, logits: torch.Tensor, config: Any) -> list[int]:
    """The index into the logits of each image's target.

    Args:
        target: ``None``: the label of the first task that the model predicts; "task:label", a label that only one task
            has, an index; or a list with one for each image.
        logits: (batch, labels).
        config: The model's.

    Raises:
        UsageError: A label that does not exist, or that several tasks have.
    """
    if target is None:
        first = next(iter(task_slices(config).values()))
        return [int(index) + first.start for index in logits[:, first].argmax(-1)]
    targets = [target] * len(logits) if isinstance(target, (str, int)) else list(target)
    if len(targets) != len(logits):
        raise UsageError(f"{len(targets)} targets for {len(logits)} images", remedy="give one, or one for each image")
    return [_index(one, config) for one in targets]


def score(logits: torch.Tensor, indices: list[int], config: Any) -> torch.Tensor:
    """The sum over images of the target's logit less the mean of its task's other logits.

    The softmax of a task sees differences alone: a bare logit may rise for all labels at once and say nothing.
    """
    total = logits.new_zeros(())
    for row, index in zip(logits, indices, strict=True):
        part = next(part for part in task_slices(config).values() if part.start <= index < part.stop)
        others = [place for place in range(part.start, part.stop) if place != index]
        total = total + row[index] - (row[others].mean() if others else 0)
    return total


def _index(target: str | int, config: Any) -> int:
    names = label_names(config)
    if isinstance(target, int):
        if 0 <= target < len(names):
            return target
        found = []
    else:
        found = [i for i, name in enumerate(names) if target in (name, name.split(":", 1)[-1])]
    if len(found) != 1:
        what = "stands in several tasks" if found else "is no label of this model"
        raise UsageError(f"target {target!r} {what}", remedy=f"use one of {', '.join(names)}")
    return found[0]
