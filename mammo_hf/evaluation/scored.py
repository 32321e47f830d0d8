"""Images that a model has scored, once, with everything that an evaluation asks of them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from ..errors import DataError


@dataclass(frozen=True)
class Scored:
    """The scored images of a split, all columns in one order.

    Args:
        logits: ``(n, labels of all tasks)``, in the order of ``config.tasks``.
        labels: int ``(n, tasks)``, -100 where not known.
        patients: ``(n,)`` patient keys.
        facts: Columns ``(n,)`` of what else is known of each image, ``None`` where it is not: ``view``, ``laterality``,
            ``exam``, ``density``, ``age_band``, ``vendor``, ``lesion_type``, ``lesion_size``, ``source``.
        image_ids: ``(n,)`` hashes of the images.

    Raises:
        DataError: A column of another length.
    """

    logits: np.ndarray
    labels: np.ndarray
    patients: Sequence[str]
    facts: Mapping[str, Sequence[str | None]] = field(default_factory=dict)
    image_ids: Sequence[str] = ()

    def __post_init__(self) -> None:
        columns: dict[str, Any] = {"labels": self.labels, "patients": self.patients, **self.facts}
        if len(self.image_ids):
            columns["image_ids"] = self.image_ids
        for name, column in columns.items():
            if len(column) != len(self.logits):
                raise DataError(f"{len(column)} values for {len(self.logits)} images", source=name)

    def __len__(self) -> int:
        return len(self.logits)

    def groupings(self) -> dict[str, list[str]]:
        """The breast and the patient of each image; an image of which nothing says the side is a breast of its own."""
        sides = self.facts.get("laterality", [None] * len(self))
        exams = self.facts.get("exam", [None] * len(self))
        breasts = [
            f"{patient} {exam} {side or f'image {place}'}"
            for place, (patient, exam, side) in enumerate(zip(self.patients, exams, sides, strict=True))
        ]
        return {"breast": breasts, "patient": list(self.patients)}

    def known(self, task: int) -> np.ndarray:
        """Bool ``(n,)``: where the label of a task, by its number, is known."""
        return np.asarray(self.labels)[:, task] >= 0
