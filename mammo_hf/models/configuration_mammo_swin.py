"""The configuration of the models: a Swin's, with rectangles, several tasks and lesion annotations, and the sizes."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, ClassVar

from transformers import SwinConfig

from ..errors import DataError, UsageError

DECODERS = ("conv", "linear")
LOSS_REGIONS = ("masked", "masked_breast", "all")
SIZES: dict[str, dict[str, Any]] = {
    # nano is for tests and demonstrations; the others are the paper's (Liu et al. 2021, arXiv 2103.14030, section 3.3)
    "nano": {"embed_dim": 32, "depths": [2, 2, 2], "num_heads": [1, 2, 4], "drop_path_rate": 0.0},
    "tiny": {"embed_dim": 96, "depths": [2, 2, 6, 2], "num_heads": [3, 6, 12, 24]},
    "small": {"embed_dim": 96, "depths": [2, 2, 18, 2], "num_heads": [3, 6, 12, 24]},
    "base": {"embed_dim": 128, "depths": [2, 2, 18, 2], "num_heads": [4, 8, 16, 32]},
    "large": {"embed_dim": 192, "depths": [2, 2, 18, 2], "num_heads": [6, 12, 24, 48]},
}
SCORES = ("pooled", "lesion", "mean")
# the parameters of each method of calibration, the first of them above 0
_CALIBRATIONS: dict[Any, tuple[str, ...]] = {"temperature": ("temperature",), "platt": ("slope", "intercept")}


class MammoSwinConfig(SwinConfig):
    r"""The configuration of the mammo_hf models; ``model_type`` stays ``"swin"``, so stock transformers reads it.

    Args:
        image_size: (height, width) of the model's input in pixels.
        num_channels: Channels of the input; 1 for a mammogram.
        tasks: Tasks of the classifier: a list of ``{"name": ..., "labels": [...]}``, or a dict from name to
            labels, which becomes such a list. The list's order is the order of the classifier's rows. A list because
            JSON configurations are written with sorted keys: a dict would come back in another order.
        class_weights: Weights of the labels by task, w_c = N / (K * N_c) of the labelled training rows.
        task_weights: Weights in the mean over tasks, by task; 1 for a task that is not named.
        ordinal_tasks: Tasks whose labels have an order, trained with the ranked probability score.
        label_smoothing: Fraction of a label that is spread evenly over all labels, in [0, 1); not in ordinal tasks.
        lesion_task: Task whose labels the lesion head predicts at each token; ``None``: no lesion head.
        lesion_loss_weight: Weight of the lesion head's token loss and the classifier's evidence loss, which lesion
            annotations give, against the image-level loss.
        score_from: Source of the lesion task's probabilities: "pooled", the classifier on the mean of the tokens;
            "lesion", the most certain token of the lesion head; or "mean" of both.
        lesion_background_weight: Weight of a token without a lesion in the token loss, against 1 for one with.
        decoder: Decoder of masked image modelling: "conv", or "linear" as in stock Swin.
        sparse_encoder: Whether masked image modelling runs the encoder on visible tokens if size and mask allow it.
        loss_region: Pixels of the loss of masked image modelling: "masked", "masked_breast" or "all".
        calibration: Calibration of the probabilities by task: ``{"method": "temperature", "temperature": ...}`` or
            ``{"method": "platt", "slope": ..., "intercept": ...}``; a task that is not named has the plain softmax.
        operating_points: Thresholds by task that validation images fixed, as
            ``evaluation.choose_operating_points`` returns them, by image, breast and patient.
        normalized_patch: Side in pixels of the patches that the target of masked image modelling is normalised by;
            ``None``: the target is the image.

    Raises:
        UsageError: A task has no labels, two tasks have one name, weights do not fit the tasks, a decoder, region or
            score is unknown, a normalised patch does not tile the image, or a calibration is not valid.
        DataError: ``id2label`` contradicts ``tasks``.
    """

    # outputs that Trainer need not gather from every batch of an evaluation
    keys_to_ignore_at_inference: ClassVar[list[str]] = [
        *("hidden_states", "attentions", "reshaped_hidden_states", "lesion_logits")
    ]

    image_size: int | list[int] | tuple[int, int] = (896, 448)
    num_channels: int = 1
    tasks: list[dict[str, Any]] | dict[str, Any] | None = None
    class_weights: dict[str, Any] | None = None
    task_weights: dict[str, float] | None = None
    ordinal_tasks: list[str] | None = None
    label_smoothing: float | int = 0.0
    lesion_task: str | None = None
    lesion_loss_weight: float | int = 1.0
    lesion_background_weight: float | int = 0.05
    score_from: str = "pooled"
    decoder: str = "conv"
    sparse_encoder: bool = True
    loss_region: str = "masked"
    normalized_patch: int | None = None
    calibration: dict[str, Any] | None = None
    operating_points: dict[str, Any] | None = None

    def __post_init__(self, **kwargs: Any) -> None:
        self.image_size = list(_pair(self.image_size))
        self.encoder_stride = _pair(self.patch_size)[0] * 2 ** (len(self.depths) - 1)
        self._check_masked_modelling()
        if self.tasks is not None:
            self.tasks = _normalised_tasks(self.tasks)
            self._check_against_tasks()
            names = [f"{task['name']}:{label}" for task in self._task_list() for label in task["labels"]]
            if self.id2label is not None and not _agrees(self.id2label, names):
                raise DataError(
                    f"id2label {list(self.id2label.values())} contradicts the tasks, which say {names}",
                    source="config.json",
                    remedy="leave id2label out, or bring both into the same order",
                )
            self.id2label = dict(enumerate(names))
            self.label2id = {name: index for index, name in enumerate(names)}
            kwargs.pop("num_labels", None)
        self._check_calibration()
        super().__post_init__(**kwargs)

    def _task_list(self) -> list[dict[str, Any]]:
        # always a list once the configuration has been made
        return self.tasks if isinstance(self.tasks, list) else []

    def _check_against_tasks(self) -> None:
        labels = {task["name"]: task["labels"] for task in self._task_list()}
        for name, weights in (self.class_weights or {}).items():
            if name not in labels or len(weights) != len(labels[name]):
                raise UsageError(
                    f"class_weights[{name!r}] has {len(weights)} weights, the task {len(labels.get(name, []))} labels",
                    remedy="give one weight per label, by the task's name",
                )
        named = [("lesion_task", name) for name in (self.lesion_task,) if name is not None]
        named += [("ordinal_tasks", name) for name in self.ordinal_tasks or ()]
        named += [("task_weights", name) for name in self.task_weights or ()]
        for where, name in named:
            if name not in labels:
                raise UsageError(f"{where} {name!r} is not among the tasks {list(labels)}")
        for name, weight in (self.task_weights or {}).items():
            if not 0 <= weight < float("inf"):
                raise UsageError(f"task_weights[{name!r}] is {weight}", remedy="it must be 0 or more")
        if not 0 <= self.label_smoothing < 1:
            raise UsageError(f"label_smoothing is {self.label_smoothing}", remedy="it must be at least 0 and below 1")
        if self.score_from not in SCORES:
            raise UsageError(f"score_from is {self.score_from!r}", remedy=f"use {' or '.join(SCORES)}")
        if self.score_from != "pooled" and self.lesion_task is None:
            raise UsageError(f"score_from is {self.score_from!r} without a lesion head", remedy="name a lesion_task")

    def _check_calibration(self) -> None:
        labels = {task["name"]: task["labels"] for task in self._task_list()}
        for name in {**(self.calibration or {}), **(self.operating_points or {})}:
            if name not in labels:
                raise UsageError(f"calibration or operating points of {name!r}, which is not among {list(labels)}")
        for name, entry in (self.calibration or {}).items():
            method = entry.get("method") if isinstance(entry, dict) else None
            numbers = [entry.get(key) for key in _CALIBRATIONS.get(method, ())]
            fits = bool(numbers) and all(isinstance(n, int | float) and math.isfinite(n) for n in numbers)
            if not fits or numbers[0] <= 0 or (method == "platt" and len(labels[name]) != 2):
                raise UsageError(
                    f"calibration[{name!r}] is {entry}",
                    remedy="use temperature above 0, or for two labels platt with slope above 0 and intercept",
                )

    def _check_masked_modelling(self) -> None:
        for name, value, known in (
            ("decoder", self.decoder, DECODERS),
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

    @property
    def task_slices(self) -> dict[str, slice]:
        """The slice of the logits of each task, by its name and in order."""
        return slices_of(self._task_list())

    def stage_grids(self, height: int, width: int) -> list[tuple[int, int]]:
        """Return the token grid (rows, columns) of each stage for an input of (height, width) pixels."""
        patch = _pair(self.patch_size)
        return [(height // (patch[0] * 2**s), width // (patch[1] * 2**s)) for s in range(len(self.depths))]

    def takes_visible_tokens(self, height: int, width: int) -> bool:
        """Return whether the encoder can run on visible tokens alone: no window before the last stage is padded."""
        early = self.stage_grids(height, width)[:-1]
        return bool(early) and all(extent % self.window_size == 0 for grid in early for extent in grid)

    def check_image_size(self, height: int, width: int) -> None:
        """Refuse an input size whose grids are smaller than a window or not whole.

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


def slices_of(tasks: Iterable[Mapping[str, Any]]) -> dict[str, slice]:
    """Return the slice of the logits of each task, by its name and in order.

    Args:
        tasks: Tasks ``[{"name": ..., "labels": [...]}, ...]``, as in ``config.tasks``.
    """
    slices, start = {}, 0
    for task in tasks:
        slices[str(task["name"])] = slice(start, start + len(task["labels"]))
        start += len(task["labels"])
    return slices


def _pair(value: int | Sequence[int]) -> tuple[int, int]:
    return (value, value) if isinstance(value, int) else (int(value[0]), int(value[1]))


def _normalised_tasks(tasks: list[dict[str, Any]] | dict[str, Any]) -> list[dict[str, Any]]:
    pairs = tasks.items() if isinstance(tasks, dict) else [(task["name"], task["labels"]) for task in tasks]
    normalised = [{"name": str(name), "labels": [str(label) for label in labels]} for name, labels in pairs]
    names = [task["name"] for task in normalised]
    if not normalised or len(set(names)) != len(names):
        raise UsageError(f"tasks must be one or more of different names, got {names}")
    for task in normalised:
        if len(task["labels"]) < 2 or len(set(task["labels"])) != len(task["labels"]):
            raise UsageError(f"task {task['name']!r} needs two or more different labels, got {task['labels']}")
    return normalised


def _agrees(id2label: dict[Any, str], names: list[str]) -> bool:
    found = [id2label[key] for key in sorted(id2label, key=int)]
    # transformers fills in LABEL_0, LABEL_1, ... if no names were given; that contradicts nothing
    return found == names or all(re.fullmatch(r"LABEL_\d+", name) for name in found)
