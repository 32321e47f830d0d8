"""Weights of classes in the loss, so that rare ones count as much as common ones."""

from __future__ import annotations

from typing import Any

import numpy as np

from ..errors import DataError

Tasks = list[dict[str, Any]]


def class_weights(labels: np.ndarray, tasks: Tasks) -> dict[str, list[float]]:
    """w_c = N / (K * N_c) of each task, over the given rows' known labels.

    Args:
        labels: int (rows, tasks), -100 where not known; of training rows alone.
        tasks: In the columns' order.

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
                remedy="check the label tables and the share of labels that is used",
            )
        # a class that never occurs needs no weight: no row will ask for it
        weights[task["name"]] = [len(known) / (len(counts) * n) if n else 0.0 for n in counts.tolist()]
    return weights


def told(weights: dict[str, list[float]], tasks: Tasks) -> str:
    """Weights in one line, each class by its label."""
    labels = {task["name"]: task["labels"] for task in tasks}
    return "; ".join(
        f"{name}: {', '.join(f'{label} {weight:.2f}' for label, weight in zip(labels[name], own, strict=True))}"
        for name, own in weights.items()
    )
