"""The configuration of the models: a Swin's, with rectangles, several tasks and lesion annotations, and the sizes."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

from transformers import SwinConfig

from ..errors import UsageError
from .configuration_tasks import TaskConfig

DECODERS = ("conv", "linear")
LOSS_REGIONS = ("masked", "masked_breast", "all")
TEACHER_TOKENS = ("all", "hidden", "visible")
SIZES: dict[str, dict[str, Any]] = {
    # nano is for tests and demonstrations; the others are the paper's (Liu et al. 2021, arXiv 2103.14030, section 3.3)
    "nano": {"embed_dim": 32, "depths": [2, 2, 2], "num_heads": [1, 2, 4], "drop_path_rate": 0.0},
    "tiny": {"embed_dim": 96, "depths": [2, 2, 6, 2], "num_heads": [3, 6, 12, 24]},
    "small": {"embed_dim": 96, "depths": [2, 2, 18, 2], "num_heads": [3, 6, 12, 24]},
    "base": {"embed_dim": 128, "depths": [2, 2, 18, 2], "num_heads": [4, 8, 16, 32]},
    "large": {"embed_dim": 192, "depths": [2, 2, 18, 2], "num_heads": [6, 12, 24, 48]},
}
SCORES = ("pooled", "lesion", "mean")


class MammoSwinConfig(TaskConfig, SwinConfig):
    r"""The configuration of the mammo_hf models; ``model_type`` stays ``"swin"``, so stock transformers reads it.

    The fields of tasks, their losses, calibration and operating points are those of `TaskConfig`.

    Args:
        image_size: (height, width) of the model's input in pixels.
        num_channels: Channels of the input; 1 for a mammogram.
        lesion_task: Task whose labels the lesion head predicts at each token; ``None``: no lesion head.
        score_from: Source of the lesion task's probabilities: "pooled", the classifier on the mean of the tokens;
            "lesion", the most certain token of the lesion head; or "mean" of both.
        lesion_background_weight: Weight of a token without a lesion in the token loss, against 1 for one with.
        mim_decoder: Decoder of masked image modelling: "conv", or "linear" as in stock Swin. transformers reads a field
            of the name ``decoder`` as a configuration of its own.
        sparse_encoder: Whether masked image modelling runs the encoder on visible tokens if size and mask allow it.
        loss_region: Pixels of the loss of masked image modelling: "masked", "masked_breast" or "all".
        normalized_patch: Side in pixels of the patches that the target of masked image modelling is normalised by;
            ``None``: the target is the image.
        teacher: Settings of masked image modelling with a teacher, in training alone: ``channels`` of the teacher,
            ``tokens`` that it acts on ("hidden", "visible" or "all"), its ``weight`` and the ``l1_weight`` of the
            reconstruction; ``None``: no teacher.

    Raises:
        UsageError: A task has no labels, two tasks have one name, weights do not fit the tasks, a decoder, region or
            score is unknown, a normalised patch does not tile the image, or a calibration is not valid.
        DataError: ``id2label`` contradicts ``tasks``.
    """

    # outputs that Trainer need not gather: the logits alone are what `compute_metrics` is written for
    keys_to_ignore_at_inference: ClassVar[list[str]] = [
        *("hidden_states", "attentions", "reshaped_hidden_states", "lesion_logits", "lesion_scores")
    ]

    image_size: int | list[int] | tuple[int, int] = (896, 448)
    num_channels: int = 1
    lesion_task: str | None = None
    lesion_background_weight: float | int = 0.05
    score_from: str = "pooled"
    mim_decoder: str = "conv"
    sparse_encoder: bool = True
    loss_region: str = "masked"
    normalized_patch: int | None = None
    teacher: dict[str, Any] | None = None

    def __post_init__(self, **kwargs: Any) -> None:
        kwargs.pop("hidden_size", None)  # follows from width and depths; a damaged file may say something else
        super().__post_init__(**kwargs)

    def check(self, num_labels: int | None = None) -> None:
        """Check all fields against each other, and complete those that follow from others.

        Models do so before they are built, so that a field that was changed as an attribute is checked too.

        Args:
            num_labels: Number of labels that was asked for, which must be that of the tasks; ``None``: any.

        Raises:
            UsageError: Two fields contradict each other, or one is out of its range.
            DataError: ``id2label`` contradicts ``tasks``.
        """
        self._check_bounds()
        self.image_size = list(_pair(self.image_size))
        rows, columns = _pair(self.patch_size)
        if rows != columns:
            raise UsageError(f"patch_size is {rows} x {columns}", remedy="patches must be square: use 4")
        self.encoder_stride = rows * 2 ** (len(self.depths) - 1)
        self._check_masked_modelling()
        super().check(num_labels)

    def _check_bounds(self) -> None:
        """Refuse what no encoder has, before memory is taken for it: a configuration may come from anywhere."""
        sizes = {
            "image_size": max(_pair(self.image_size)),
            "width of the last stage": self.embed_dim << min(len(self.depths) - 1, 64),
            "sum of depths": sum(self.depths),
            "mlp_ratio": self.mlp_ratio,
        }
        most = dict(zip(sizes, (1 << 14, 1 << 15, 1 << 10, 64), strict=True))
        for name, size in sizes.items():
            if size > most[name]:
                raise UsageError(
                    f"{name} is above {most[name]}", source="the configuration", remedy="check config.json"
                )

    def _check_weights(self) -> None:
        super()._check_weights()
        if not 0 <= self.lesion_background_weight < math.inf:
            raise UsageError(
                f"lesion_background_weight is {self.lesion_background_weight}", remedy="it must be 0 or more"
            )

    def _check_options_of_tasks(self) -> None:
        names = [task["name"] for task in self._task_list()]
        self._check_names("lesion_task", [] if self.lesion_task is None else [self.lesion_task], names)
        super()._check_options_of_tasks()
        if self.score_from not in SCORES:
            raise UsageError(f"score_from is {self.score_from!r}", remedy=f"use {' or '.join(SCORES)}")
        if self.score_from != "pooled" and self.lesion_task is None:
            raise UsageError(f"score_from is {self.score_from!r} without a lesion head", remedy="name a lesion_task")

    @classmethod
    def _without_tasks(cls, stored: Mapping[str, Any], tasks: list[dict[str, Any]] | None) -> dict[str, Any]:
        options = super()._without_tasks(stored, tasks)
        kept = {task["name"] for task in stored.get("tasks") or () if task in (tasks or ())}
        options["lesion_task"] = stored.get("lesion_task") if stored.get("lesion_task") in kept else None
        if options["lesion_task"] is None:
            options["score_from"] = "pooled"
        return options

    def _check_masked_modelling(self) -> None:
        for name, value, known in (
            ("mim_decoder", self.mim_decoder, DECODERS),
            ("loss_region", self.loss_region, LOSS_REGIONS),
        ):
            if value not in known:
                raise UsageError(f"{name} is {value!r}", remedy=f"use {' or '.join(map(repr, known))}")
        side = self.normalized_patch
        if side is not None and (side < 2 or any(extent % side for extent in _pair(self.image_size))):
            raise UsageError(
                f"patches of {side} pixels do not tile an image of {' x '.join(map(str, _pair(self.image_size)))}",
                remedy="use 16, or another divisor of height and width above 1, as normalized_patch",
            )

    def stage_grids(self, height: int, width: int) -> list[tuple[int, int]]:
        """Return the token grid (rows, columns) of each stage for an input of (height, width) pixels."""
        patch = _pair(self.patch_size)
        return [(height // (patch[0] * 2**s), width // (patch[1] * 2**s)) for s in range(len(self.depths))]

    def takes_visible_tokens(self, height: int, width: int) -> bool:
        """Return whether the encoder can run on visible tokens alone: no window before the last stage is padded."""
        early = self.stage_grids(height, width)[:-1]
        return bool(early) and all(extent % self.window_size == 0 for grid in early for extent in grid)

    def check_image_size(self, height: int, width: int) -> None:
        """Refuse an input size with grids that are smaller than a window or not whole.

        Raises:
            UsageError: Names the nearest size that fits.
        """
        patch = _pair(self.patch_size)
        strides = [p * 2 ** (len(self.depths) - 1) for p in patch]
        fits = [
            extent % stride == 0 and extent // stride >= self.window_size
            for extent, stride in zip((height, width), strides, strict=True)
        ]
        if all(fits):
            return
        nearest = tuple(
            max(round(extent / stride), self.window_size) * stride
            for extent, stride in zip((height, width), strides, strict=True)
        )
        raise UsageError(
            f"an image of {height} x {width} does not fit {len(self.depths)} stages with window {self.window_size}: "
            f"the last stage's grid would be {height / strides[0]:g} x {width / strides[1]:g}",
            remedy=f"use {nearest[0]} x {nearest[1]}, the nearest size that fits, or a model of fewer stages",
        )


def _pair(value: int | Sequence[int]) -> tuple[int, int]:
    return (value, value) if isinstance(value, int) else (int(value[0]), int(value[1]))
