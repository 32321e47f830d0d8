"""Which logits belong to which task: the slices that the order of the tasks gives."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any


def slices_of(tasks: Iterable[Mapping[str, Any]]) -> dict[str, slice]:
    """For each task's name the slice of the logits that is its own, in order.

    Args:
        tasks: ``[{"name": ..., "labels": [...]}, ...]``, as a model's ``config.tasks`` or plain data of it.
    """
    slices, start = {}, 0
    for task in tasks:
        slices[str(task["name"])] = slice(start, start + len(task["labels"]))
        start += len(task["labels"])
    return slices
