"""The configuration of heads over bags of features; importing it needs no torch."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar

from ..errors import UsageError
from ..metrics.aggregation import LEVELS
from ..models.configuration_tasks import TaskConfig


class MammoBagConfig(TaskConfig):
    """The configuration of a head over the features that a frozen encoder gave: of an image, a breast or an exam.

    Args:
        feature_size: Length of a feature vector: twice the encoder's channels, their mean and their maximum.
        hidden_size: Length of the projected vectors.
        attention_size: Width of the gated attention.
        dropout: Fraction of the projected features that is dropped in training, in [0, 1).
        lesion_loss_weight: Weight of the loss that draws the attention to tiles with a lesion; 0: none.
        encoder_record: What is known of the encoder: its name, revision, the hash of its weights, licence.
        tiles: Settings of the features: ``tiles``, ``spacing``, ``overlap`` and ``image_size``.
        others: Arguments of `TaskConfig`. Each task also has a ``level``: "image", "breast" or "exam", the unit that
            it is trained on; "image" if it is not given.

    Raises:
        UsageError: A size is not positive, a level is unknown, or in the cases of `TaskConfig`.
    """

    model_type = "mammo_bag"
    # outputs that Trainer need not gather
    keys_to_ignore_at_inference: ClassVar[list[str]] = ["attentions"]

    feature_size: int = 1536
    hidden_size: int = 32
    attention_size: int = 16
    dropout: float | int = 0.1
    initializer_range: float = 0.02
    lesion_loss_weight: float | int = 0.0
    encoder_record: dict[str, Any] | None = None
    tiles: dict[str, Any] | None = None

    def check(self, num_labels: int | None = None) -> None:
        """Check all fields against each other, as `TaskConfig.check` does."""
        for name, most in (("feature_size", 1 << 16), ("hidden_size", 1 << 10), ("attention_size", 1 << 10)):
            if not 0 < getattr(self, name) <= most:
                raise UsageError(f"{name} is {getattr(self, name)}", remedy=f"use 1 to {most}")
        if not 0 <= self.dropout < 1:
            raise UsageError(f"dropout is {self.dropout}", remedy="it must be at least 0 and below 1")
        super().check(num_labels)

    @staticmethod
    def _task(name: str, task: Any) -> dict[str, Any]:
        level = task.get("level", "image") if isinstance(task, Mapping) else "image"
        if level not in LEVELS:
            raise UsageError(f"task {name!r} has the level {level!r}", remedy=f"use {', '.join(LEVELS)}")
        return {**TaskConfig._task(name, task), "level": level}


def public_record(record: Mapping[str, Any]) -> dict[str, Any]:
    """Return the record of an encoder without the folders of this machine, for what may be published."""
    named = {"name": Path(str(record["name"])).name} if record.get("kind") == "checkpoint" else {}
    return {**record, **named}
