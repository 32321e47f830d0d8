"""Which label is explained: its name, its place in the logits, and the score whose gradient is taken."""

from __future__ import annotations

import operator
from collections.abc import Sequence
from typing import Any, SupportsIndex

import numpy as np
import torch

from ..errors import UsageError

Target = str | SupportsIndex | Sequence[str | SupportsIndex] | np.ndarray | torch.Tensor | None


def task_slices(config: Any) -> dict[str, slice]:
    """For each task's name its slice of the logits; a classifier without tasks is one without a name.

    Stock transformers keeps ``config.tasks`` of our checkpoints as plain data, so it is read as such.
    """
    slices, start = {}, 0
    for task in getattr(config, "tasks", None) or []:
        slices[task["name"]] = slice(start, start + len(task["labels"]))
        start += len(task["labels"])
    return slices or {"": slice(0, config.num_labels)}


def label_names(config: Any) -> list[str]:
    """The labels in the order of the logits, "task:label" or, for a stock classifier, "label"."""
    return [config.id2label[index] for index in range(config.num_labels)]


def predicted(logits: torch.Tensor, config: Any) -> list[int]:
    """For each image of (batch, labels) logits the index of the first task's strongest label."""
    first = next(iter(task_slices(config).values()))
    return [int(index) + first.start for index in logits[:, first].argmax(-1)]


def resolve(target: Target, count: int, config: Any) -> list[int]:
    """The index into the logits of each image's target.

    Args:
        target: "task:label", a label that only one task has, an index; or a list with one for each image.
        count: Images in the batch.
        config: The model's.

    Raises:
        UsageError: A label that does not exist or that several tasks have, or not one target for each image.
    """
    target = target.tolist() if isinstance(target, (np.ndarray, torch.Tensor)) else target
    targets = list(target) if isinstance(target, (list, tuple)) else [target] * count
    if len(targets) != count:
        raise UsageError(
            f"{len(targets)} targets for {count} images", source="target", remedy="give one, or one for each image"
        )
    return [_index(one, config) for one in targets]


def score(logits: torch.Tensor, indices: Sequence[int], config: Any) -> torch.Tensor:
    """The scalar whose gradient is taken: over images the sum of the target's logit less its rivals' mean.

    The rivals are the other labels of its task. A task's softmax sees only differences between its logits: a bare
    logit may rise together with all others and say nothing. With two labels this is the log-odds. Probabilities are
    not taken because they saturate, and their gradient with them, where the model is sure.

    Args:
        logits: (batch, labels).
        indices: For each image the target's index.
        config: The model's.
    """
    total = logits.new_zeros(())
    for row, index in zip(logits, indices, strict=True):
        part = next(part for part in task_slices(config).values() if part.start <= index < part.stop)
        rivals = [place for place in range(part.start, part.stop) if place != index]
        total = total + row[index] - (row[rivals].mean() if rivals else 0)
    return total


def _index(target: str | SupportsIndex, config: Any) -> int:
    names = label_names(config)
    found = []
    if isinstance(target, str):
        found = [place for place, name in enumerate(names) if target in (name, name.split(":", 1)[-1])]
    elif hasattr(target, "__index__"):
        found = [place for place in range(len(names)) if place == operator.index(target)]
    if len(found) != 1:
        what = "stands in several tasks" if found else "is no label of this model"
        raise UsageError(f"{target!r} {what}", source="target", remedy=f"use one of {', '.join(names)}")
    return found[0]
