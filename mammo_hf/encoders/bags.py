"""The head over bags of features: attention over the tiles of an image, the images of a breast, the breasts of an exam.

A unit is an image, a breast or an exam, and always a bag of images; one of one image is a bag of one. So one head
serves every level, with missing and further views.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import nn
from torch.nn import functional
from transformers import AutoModelForImageClassification, PreTrainedModel
from transformers import initialization as init
from transformers.utils import ModelOutput
from transformers.utils.generic import can_return_tuple

from ..data.prepared_row import GRAZED
from ..errors import DataError, UsageError
from ..files import ModelFiles
from ..metrics.aggregation import UNKNOWN
from ..models.losses import lesion_attention_loss, multi_task_loss
from .configuration_mammo_bag import MammoBagConfig

WHOLE, TILE = 1, 2  # scales of a vector; 0 is padding
SIDES = {None: 0, "L": 1, "R": 2}
VIEWS = {None: 0, "CC": 1, "MLO": 2}
OTHER_VIEW = 3


class GatedAttention(nn.Module):
    """Gated attention (Ilse et al. 2018, arXiv 1802.04712, equation 9): one score per vector, at first 0 for all.

    Args:
        size: Length of the vectors.
        width: Width of the two layers that are multiplied.
    """

    def __init__(self, size: int, width: int) -> None:
        super().__init__()
        self.content = nn.Linear(size, width)
        self.gate = nn.Linear(size, width)
        self.score = nn.Parameter(torch.zeros(width))

    def forward(self, vectors: torch.Tensor) -> torch.Tensor:
        """Map vectors (..., size) to scores (...)."""
        gated = torch.tanh(self.content(vectors)) * torch.sigmoid(self.gate(vectors))
        return gated @ self.score


@dataclass
class MammoBagOutput(ModelOutput):
    """The output of the head.

    Attributes:
        loss: Loss, if labels were given.
        logits: Logits (units, labels of all tasks); a task's probabilities are the softmax over its own slice.
        attentions: Weight (units, images, vectors) of each tile in its unit: its attention within the image times the
            image's in its breast and the breast's in the unit. 0 for whole views and padding.
    """

    loss: torch.Tensor | None = None
    logits: torch.Tensor | None = None
    attentions: torch.Tensor | None = None


class MammoBagForClassification(ModelFiles, PreTrainedModel):
    """A linear classifier over attention-pooled features of an image, a breast or an exam.

    An image is the mean of its whole views next to attention over its tiles; a breast is attention over its images; a
    unit is the mean of its breasts next to their absolute left-right difference, 0 if one is missing. Everything is
    linear in the features but the attention and that difference, so that a logistic regression on mean features is
    among the models that can be trained (`start_from_linear`).
    """

    config_class = MammoBagConfig
    main_input_name = "features"
    accepts_loss_kwargs = False
    config: MammoBagConfig
    mean: torch.Tensor
    deviation: torch.Tensor

    def __init__(self, config: MammoBagConfig) -> None:
        config.check()
        super().__init__(config)
        size, hidden = config.feature_size, config.hidden_size
        # mean of whole views and of tiles, and the deviation of both from their mean
        self.register_buffer("mean", torch.zeros(2, size))
        self.register_buffer("deviation", torch.ones(size))
        self.projection = nn.Linear(size, hidden, bias=False)
        self.dropout = nn.Dropout(config.dropout)
        self.tile_attention = GatedAttention(hidden, config.attention_size)
        self.side = nn.Embedding(len(SIDES), 2 * hidden)
        self.view = nn.Embedding(OTHER_VIEW + 1, 2 * hidden)
        self.image_attention = GatedAttention(2 * hidden, config.attention_size)
        self.classifier = nn.Linear(4 * hidden, int(config.num_labels or 0))
        self.post_init()

    @torch.no_grad()
    def _init_weights(self, module: nn.Module) -> None:
        if module is self:
            init.zeros_(self.mean)
            init.ones_(self.deviation)
        elif isinstance(module, nn.Embedding):
            init.zeros_(module.weight)
        elif isinstance(module, GatedAttention):
            init.zeros_(module.score)
        elif isinstance(module, nn.Linear):
            last = module is self.classifier
            init.normal_(module.weight, std=self.config.initializer_range if last else module.in_features**-0.5)
            if module.bias is not None:
                init.zeros_(module.bias)

    def save_pretrained(self, *args: Any, **kwargs: Any) -> None:
        """Save as our models do, unless the configuration has other tasks than the model.

        Raises:
            UsageError: ``config.tasks`` was changed after the model had been built.
        """
        self._check_tasks()
        super().save_pretrained(*args, **kwargs)

    def _check_tasks(self) -> None:
        if self.classifier.out_features != self.config.num_labels:
            raise UsageError(
                f"the model has {self.classifier.out_features} rows, its config.tasks {self.config.num_labels} labels",
                remedy="train a head for the new tasks",
            )

    @torch.no_grad()
    def start_from_linear(self, coefficients: torch.Tensor, intercept: torch.Tensor) -> None:
        """Make the head equal to a linear classifier on the means of `mean_features`, with attention that is uniform.

        If the projection is too narrow for all coefficients, it keeps the largest singular values.

        Args:
            coefficients: Coefficients (labels of all tasks, 2 * feature_size): of whole views, then of tiles.
            intercept: Intercepts (labels of all tasks,).
        """
        hidden, whole = self.config.hidden_size, self.config.feature_size
        both = torch.cat([coefficients[:, :whole], coefficients[:, whole:]]).double()
        left, values, right = torch.linalg.svd(both, full_matrices=False)
        kept = min(hidden, int((values > 1e-9).sum()))
        self.projection.weight[:kept] = right[:kept].to(self.projection.weight)
        self.classifier.weight.zero_()
        rows = (left * values)[:, :kept].to(self.classifier.weight)
        labels = len(intercept)
        self.classifier.weight[:, :kept] = rows[:labels]
        self.classifier.weight[:, hidden : hidden + kept] = rows[labels:]
        self.classifier.bias.copy_(intercept)

    @torch.no_grad()
    def mean_features(self, features: torch.Tensor, scales: torch.Tensor, sides: torch.Tensor) -> torch.Tensor:
        """Return the mean features of each breast of a unit, (units, 3, 2 * feature_size), standardised.

        The breasts are those of unknown, left and right side; the features of whole views come first, then those of
        tiles. What is missing is NaN.
        """
        means = []
        for scale, mean in ((WHOLE, self.mean[0]), (TILE, self.mean[1])):
            inside = scales == scale
            of_image = (_mean(features.to(mean.dtype), inside) - mean) / self.deviation
            means.append(of_image * inside.any(-1, keepdim=True))
        images = torch.cat(means, -1)
        of_side = _of_side(sides, (scales > 0).any(-1))
        breasts = _mean(images[:, None].expand(-1, len(SIDES), -1, -1), of_side)
        return breasts.masked_fill(~of_side.any(-1, keepdim=True), math.nan)

    @can_return_tuple
    def forward(
        self,
        features: torch.Tensor,
        scales: torch.Tensor,
        sides: torch.Tensor,
        views: torch.Tensor,
        labels: torch.Tensor | None = None,
        lesion_targets: torch.Tensor | None = None,
        num_items_in_batch: torch.Tensor | None = None,
        **kwargs: Any,
    ) -> MammoBagOutput:
        """Score each label of each task.

        Args:
            features: Features of the encoder, (units, images, vectors, feature_size), of any floating-point type.
            scales: Kind of each vector, integer (units, images, vectors): 0 padding, 1 whole view, 2 tile.
            sides: Side of each image, integer (units, images): 0 not known, 1 left, 2 right.
            views: View of each image, integer (units, images): 0 not known, 1 CC, 2 MLO, 3 another.
            labels: Labels in the order of ``config.tasks``, int64 (units, tasks), or (units,) for one task; -100 is not
                known.
            lesion_targets: Labels of the tiles, int64 (units, images, vectors): 0 no lesion, 1 lesion, -100 not known.
            num_items_in_batch: `loss_counts` of all micro-batches of an update; ``None``: of this batch.
            kwargs: Further arguments of other models; they are ignored.

        Raises:
            UsageError: The inputs do not fit each other or the configuration.
        """
        _check_shapes(features, scales, sides, views, lesion_targets, self.config.feature_size)
        self._check_tasks()
        # Tiles into images
        hidden = self.dropout(self._projected(features, scales))
        tiles = _softmax(self.tile_attention(hidden), scales == TILE)
        whole, local = _mean(hidden, scales == WHOLE), (tiles[..., None, :] @ hidden).squeeze(-2)
        images = torch.cat([whole, local], -1) + self.side(sides) + self.view(views)
        # Images into breasts, breasts into the unit
        of_side = _of_side(sides, (scales > 0).any(-1))
        in_breast = _softmax(self.image_attention(images)[:, None].expand(-1, len(SIDES), -1), of_side)
        breasts, there = in_breast @ images, of_side.any(-1)
        both = (there[:, 1] & there[:, 2]).to(breasts.dtype)[:, None]
        difference = (breasts[:, 1] - breasts[:, 2]).abs() * both
        logits = self.classifier(torch.cat([_mean(breasts, there), difference], -1))
        # Losses
        loss = None if labels is None else multi_task_loss(logits, labels, self.config, num_items_in_batch)
        if lesion_targets is not None and loss is not None:
            of_lesions = lesion_attention_loss(tiles, lesion_targets, num_items_in_batch)
            loss = loss + self.config.lesion_loss_weight * of_lesions
        in_unit = in_breast.sum(1) / there.sum(-1, keepdim=True).clamp(min=1)
        return MammoBagOutput(loss=loss, logits=logits, attentions=tiles * in_unit[..., None])

    def _projected(self, features: torch.Tensor, scales: torch.Tensor) -> torch.Tensor:
        """Return the projection (units, images, vectors, hidden_size) of the standardised features."""
        # the features are not standardised one by one, which would cost more than their projection
        weight = self.projection.weight / self.deviation
        offset = functional.pad(self.mean @ weight.t(), (0, 0, 1, 0))
        return features.to(weight.dtype) @ weight.t() - functional.embedding(scales.long(), offset)


def _mean(vectors: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
    """Return the mean (..., size) of the vectors (..., n, size) in a mask (..., n); 0 if there are none."""
    weights = mask.to(vectors.dtype)
    total = (weights[..., None, :] @ vectors).squeeze(-2)
    return total / weights.sum(-1, keepdim=True).clamp(min=1)


def _softmax(scores: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
    """Return the softmax over the last axis within a mask; 0 outside, and everywhere if the mask is empty."""
    return scores.masked_fill(~mask, torch.finfo(scores.dtype).min).softmax(-1) * mask


def _of_side(sides: torch.Tensor, there: torch.Tensor) -> torch.Tensor:
    """Return which images are of each side, bool (units, 3, images)."""
    known = torch.arange(len(SIDES), device=sides.device)[None, :, None]
    return (sides[:, None] == known) & there[:, None]


def _check_shapes(
    features: torch.Tensor,
    scales: torch.Tensor,
    sides: torch.Tensor,
    views: torch.Tensor,
    lesion_targets: torch.Tensor | None,
    size: int,
) -> None:
    if features.ndim != 4 or features.shape[-1] != size:
        raise UsageError(
            f"features have shape {tuple(features.shape)}, not (units, images, vectors, {size})",
            remedy="give features of the encoder that the head was trained on",
        )
    wanted = {"scales": (scales, 3), "sides": (sides, 2), "views": (views, 2), "lesion_targets": (lesion_targets, 3)}
    for name, (tensor, axes) in wanted.items():
        if tensor is not None and tensor.shape != features.shape[:axes]:
            raise UsageError(f"{name} have shape {tuple(tensor.shape)}, not {tuple(features.shape[:axes])}")


# Units as the arguments of `forward`.

Image = dict[str, Any]
Batch = dict[str, torch.Tensor]


def bag_image(features: bytes, scales: bytes, lesions: bytes | None, laterality: str | None, view: str | None) -> Image:
    """Return an image of a bag from the columns of a feature store.

    Args:
        features: Vectors, float16 (vectors, feature_size).
        scales: Kind of each vector, uint8 (vectors,): 1 whole view, 2 tile.
        lesions: Largest fraction of a finding's area in each box, float16 (vectors,); ``None``: no located finding.
        laterality: "L", "R" or ``None``.
        view: "CC", "MLO", another, or ``None``.

    Raises:
        DataError: The image has no vector, or another number of features than of scales.
    """
    kinds = np.frombuffer(scales, np.uint8)
    if not len(kinds) or len(features) % (2 * len(kinds)):
        raise DataError(f"{len(features)} bytes of features for {len(kinds)} vectors", remedy="embed the images again")
    side = SIDES.get(laterality, 0)
    place = VIEWS.get(view, OTHER_VIEW)
    found: Image = {"features": np.frombuffer(features, np.float16).reshape(len(kinds), -1), "scales": kinds}
    return found | {"side": side, "view": place, "lesion_targets": _lesion_targets(lesions, kinds)}


def _lesion_targets(lesions: bytes | None, scales: np.ndarray) -> np.ndarray:
    """Return the labels of tiles, int64 (vectors,): 0 no lesion, 1 lesion, -100 not known, or only grazed by one."""
    if lesions is None:
        return np.full(len(scales), UNKNOWN, np.int64)
    fraction = np.where(scales == TILE, np.frombuffer(lesions, np.float16), np.nan)
    largest = np.nanmax(fraction, initial=0)
    holds = (fraction >= GRAZED) | ((fraction == largest) & (largest > 0))
    return np.where(holds, 1, np.where(fraction == 0, 0, UNKNOWN)).astype(np.int64)


def collate_bags(examples: Sequence[Mapping[str, Any]]) -> Batch:
    """Return examples as the arguments of `MammoBagForClassification.forward`, padded to the largest bag.

    Args:
        examples: Units with ``images``, from `bag_image`; with ``labels`` (tasks,) if they are to be trained on, and
            lesion labels of the tiles if their ``lesions`` is true.
    """
    images = [len(example["images"]) for example in examples]
    most = max(len(image["scales"]) for example in examples for image in example["images"])
    size = examples[0]["images"][0]["features"].shape[1]
    shape = (len(examples), max(images))
    features, scales = np.zeros((*shape, most, size), np.float16), np.zeros((*shape, most), np.int64)
    sides, views = np.zeros(shape, np.int64), np.zeros(shape, np.int64)
    targets = np.full((*shape, most), UNKNOWN, np.int64)
    for unit, example in enumerate(examples):
        for place, image in enumerate(example["images"]):
            count = len(image["scales"])
            features[unit, place, :count], scales[unit, place, :count] = image["features"], image["scales"]
            sides[unit, place], views[unit, place] = image["side"], image["view"]
            targets[unit, place, :count] = image["lesion_targets"]
    # features first: Trainer reads the batch size off the first entry
    batch = {"features": features, "scales": scales, "sides": sides, "views": views}
    if "labels" in examples[0]:
        batch["labels"] = np.stack([example["labels"] for example in examples])
    if examples[0].get("lesions"):
        batch["lesion_targets"] = targets
    return {name: torch.from_numpy(values) for name, values in batch.items()}


AutoModelForImageClassification.register(MammoBagConfig, MammoBagForClassification, exist_ok=True)
