"""The losses of both stages: masked image modelling, several tasks with few known labels, and lesion annotations.

Each is a sum divided by a number of pixels, labels or tokens. That number may span more than one batch, so that an
update is the same however it is split into micro-batches and processes.
"""

from __future__ import annotations

import math
from collections.abc import Mapping

import torch
from torch.nn import functional

from ..errors import UsageError
from .configuration_tasks import TaskConfig

# Classification: image-level labels of several tasks, and labels of the tokens from lesion annotations.

# weight of evidence outside lesions: the image-level loss is content with a little evidence everywhere, since the mean
# over tokens makes much of it
ELSEWHERE_WEIGHT = 4.0


def loss_counts(labels: torch.Tensor, lesion_targets: torch.Tensor | None = None) -> torch.Tensor:
    """Return the divisors of the losses, float (tasks + 2,), to be summed over the batches of an update.

    Args:
        labels: Labels, int64 (batch, tasks) or (batch,); -100 is not known.
        lesion_targets: Labels of tokens, int64 (batch, rows, columns): 0 no lesion, 1 + label, -100 not known.

    Returns:
        The number of known labels of each task, of tokens with a lesion, and of tokens known to have none.
    """
    labels = labels.unsqueeze(1) if labels.ndim == 1 else labels
    known = (labels != -100).sum(0)
    tokens = labels.new_zeros(2) if lesion_targets is None else _token_counts(lesion_targets)
    return torch.cat([known, tokens]).float()


def _token_counts(lesion_targets: torch.Tensor) -> torch.Tensor:
    """Return the number of tokens with a lesion, and of tokens known to have none: (2,)."""
    return torch.stack([(lesion_targets > 0).sum(), (lesion_targets == 0).sum()])


def multi_task_loss(
    logits: torch.Tensor, labels: torch.Tensor, config: TaskConfig, counts: torch.Tensor | None = None
) -> torch.Tensor:
    """Return the mean over the tasks with a known label of: sum of w_y * loss over known labels / their number.

    The divisor is the number, not the sum of weights as in torch's weighted cross-entropy: that would cancel the
    weights in a batch of one class. The mean weighs a task by ``config.task_weights``. A task's loss is the
    cross-entropy, or the ranked probability score if ``config.ordinal_tasks`` names it.

    Args:
        logits: Logits (batch, labels of all tasks).
        labels: Labels, int64 (batch, tasks) or (batch,); -100 is not known.
        config: Configuration with tasks, class weights, task weights and label smoothing.
        counts: `loss_counts` of the whole update; ``None``: of this batch.

    Returns:
        A scalar; if no label is known an exact zero that keeps the graph.

    Raises:
        UsageError: The labels have another shape, or are not whole numbers.
    """
    labels = _label_columns(labels, len(logits), list(config.task_slices))
    counts = loss_counts(labels) if counts is None else counts
    total, weight_of_known = logits.float().sum() * 0.0, logits.new_zeros((), dtype=torch.float32)
    for index, (name, part) in enumerate(config.task_slices.items()):
        weight = (config.task_weights or {}).get(name, 1.0)
        weight_of_known = weight_of_known + weight * (counts[index] > 0)
        target = labels[:, index]
        losses = _label_losses(logits[:, part].float(), target, name, config)
        class_weights = (config.class_weights or {}).get(name)
        if class_weights is not None:
            by_label = torch.tensor(class_weights, dtype=torch.float32, device=logits.device)
            losses = losses * by_label[target.clamp(min=0)]
        total = total + weight * losses.sum() / counts[index].clamp(min=1)
    return total / weight_of_known.clamp(min=torch.finfo(torch.float32).tiny)


def _label_columns(labels: torch.Tensor, images: int, tasks: list[str]) -> torch.Tensor:
    """Return labels as (batch, tasks), refusing any other shape: columns are taken by their position alone."""
    columns = labels.unsqueeze(1) if labels.ndim == 1 else labels
    if columns.shape != (images, len(tasks)):
        either = f" or ({images},)" if len(tasks) == 1 else ""
        raise UsageError(
            f"labels have shape {tuple(labels.shape)}, not (batch, tasks) = {(images, len(tasks))}{either}",
            remedy=f"give one whole number for each of {', '.join(tasks)}, -100 if it is not known",
        )
    if columns.is_floating_point():
        raise UsageError(f"labels are {labels.dtype}", remedy="give whole numbers, -100 for a label that is not known")
    return columns.long()


def _label_losses(logits: torch.Tensor, target: torch.Tensor, name: str, config: TaskConfig) -> torch.Tensor:
    """Return the unweighted losses (batch,) of one task's logits (batch, labels); 0 for a label that is not known."""
    # no selection of the known ones: its size depends on the values, which neither a compiler nor other ranks know
    if name in (config.ordinal_tasks or ()):
        return ranked_probability_score(logits, target.clamp(min=0)) * (target != -100)
    losses = functional.cross_entropy(logits, target, reduction="none")
    smoothing = config.label_smoothing
    if not smoothing:
        return losses
    return (1 - smoothing) * losses - smoothing * logits.log_softmax(-1).mean(-1) * (target != -100)


def ranked_probability_score(logits: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
    """Return the ranked probability score (Epstein 1969) of labels with an order.

    It is the squared distance of the cumulative softmax from the label's step, so that a label further away costs more,
    which cross-entropy ignores.

    Args:
        logits: Logits (n, labels).
        target: Labels, int64 (n,).

    Returns:
        Scores (n,) in [0, 1]: the sum over thresholds of (P(label <= k) - [target <= k])^2, divided by labels - 1.
    """
    cumulative = logits.softmax(-1).cumsum(-1)[:, :-1]
    thresholds = torch.arange(cumulative.shape[1], device=logits.device)
    step = (target[:, None] <= thresholds).to(cumulative.dtype)
    return (cumulative - step).square().mean(-1)


def lesion_token_loss(
    lesion_logits: torch.Tensor, lesion_targets: torch.Tensor, background: float, counts: torch.Tensor | None = None
) -> torch.Tensor:
    """Return the mean cross-entropy over tokens with a known label, those without a lesion weighted by ``background``.

    Args:
        lesion_logits: Logits (batch, 1 + labels, rows, columns).
        lesion_targets: Labels of tokens, int64 (batch, rows, columns): 0 no lesion, 1 + label, -100 not known.
        background: Weight of a token without a lesion, against 1 for one with.
        counts: `loss_counts` of the whole update; ``None``: of this batch.
    """
    lesion, none = _token_counts(lesion_targets) if counts is None else counts[-2:]
    weight = torch.ones(lesion_logits.shape[1], device=lesion_logits.device)
    weight[0] = background
    total = functional.cross_entropy(lesion_logits.float(), lesion_targets, weight, reduction="sum")
    return total / (lesion + background * none).clamp(min=torch.finfo(torch.float32).tiny)


def lesion_evidence_loss(
    evidence: torch.Tensor, lesion_targets: torch.Tensor, counts: torch.Tensor | None = None
) -> torch.Tensor:
    """Return a loss that is low if the classifier's evidence for a lesion's class comes from the lesion alone.

    The classifier is linear after a mean, so its logits are the mean of its logits of each token, the evidence. The
    loss is the cross-entropy at tokens with a lesion, plus ``ELSEWHERE_WEIGHT`` times the divergence from the uniform
    distribution of the evidence at tokens known to have none. Each is a mean over its own tokens, or the many without a
    lesion would outweigh the few with one.

    Args:
        evidence: Classifier applied to each token, (batch, tokens, labels of the lesion task).
        lesion_targets: Labels of tokens, int64 (batch, tokens): 0 no lesion, 1 + label, -100 not known.
        counts: `loss_counts` of the whole update; ``None``: of this batch.

    Returns:
        A scalar, 0 if evidence is certain in lesions and absent elsewhere; exactly 0 if nothing is known.
    """
    evidence = evidence.float()
    lesion, none = lesion_targets > 0, lesion_targets == 0
    of_lesions, of_none = _token_counts(lesion_targets) if counts is None else counts[-2:]
    labels = torch.where(lesion, lesion_targets - 1, -100)
    inside = functional.cross_entropy(evidence.transpose(1, 2), labels, reduction="sum")
    outside = (-functional.log_softmax(evidence, -1).mean(-1) - math.log(evidence.shape[-1])) * none
    return inside / of_lesions.clamp(min=1) + ELSEWHERE_WEIGHT * outside.sum() / of_none.clamp(min=1)


def lesion_attention_loss(
    attention: torch.Tensor, lesion_targets: torch.Tensor, counts: torch.Tensor | None = None
) -> torch.Tensor:
    """Return a loss that is low if the attention over an image's tiles is on the tiles that hold a lesion.

    It is minus the logarithm of the part of the attention that is on tiles with a lesion, among tiles of which that is
    known. An image weighs by its number of tiles with a lesion; one that has none, or nothing else, counts nothing.

    Args:
        attention: Attention (..., tiles), 0 or more.
        lesion_targets: Labels of the tiles, int64 (..., tiles): 0 no lesion, 1 lesion, -100 not known.
        counts: `loss_counts` of the whole update; ``None``: of this batch.
    """
    lesion, none = lesion_targets > 0, lesion_targets == 0
    of_lesions = _token_counts(lesion_targets)[0] if counts is None else counts[-2]
    inside, outside = ((attention.float() * part).sum(-1) for part in (lesion, none))
    tiny = torch.finfo(torch.float32).tiny
    missed = (inside + outside).clamp(min=tiny).log() - inside.clamp(min=tiny).log()
    judged = lesion.sum(-1) * none.any(-1)
    return (missed * judged).sum() / of_lesions.clamp(min=1)


# Masked image modelling: which pixels count, what is predicted, and the mean absolute error.


def counted_pixels(
    bool_masked_pos: torch.Tensor,
    size: tuple[int, int],
    grid: tuple[int, int],
    *,
    region: str,
    content_mask: torch.Tensor | None = None,
    breast_mask: torch.Tensor | None = None,
) -> torch.Tensor:
    """Return the pixels that the loss is taken over.

    Args:
        bool_masked_pos: Hidden patches, bool (batch, patches), row by row.
        size: (height, width) of the image in pixels.
        grid: (rows, columns) of patches.
        region: Pixels that count: "masked" for hidden ones, "masked_breast" for those inside the breast, "all" for
            visible ones too.
        content_mask: Mask of the image, bool (batch, height, width): false in the padding, which never counts.
        breast_mask: Mask of the breast, bool (batch, height, width); needed for "masked_breast".

    Returns:
        bool (batch, height, width).

    Raises:
        UsageError: The breast mask is missing for "masked_breast", or a mask has another shape.
    """
    counted = spread_over_pixels(bool_masked_pos.bool(), size, grid)
    if region == "all":
        counted = torch.ones_like(counted)
    if region == "masked_breast" and breast_mask is None:
        raise UsageError("loss_region 'masked_breast' needs breast_mask", remedy="give it, or use 'masked'")
    asked = {"content_mask": content_mask, "breast_mask": breast_mask if region == "masked_breast" else None}
    for name, mask in asked.items():
        if mask is None:
            continue
        if mask.shape != counted.shape:
            raise UsageError(f"{name} has shape {tuple(mask.shape)}, not {tuple(counted.shape)}")
        counted = counted & mask.bool()
    return counted


def breast_pixels(
    bool_masked_pos: torch.Tensor,
    size: tuple[int, int],
    content_mask: torch.Tensor | None = None,
    breast_mask: torch.Tensor | None = None,
) -> torch.Tensor:
    """Return the pixels of the breast, bool (batch, height, width); of the image if no breast is known.

    Args:
        bool_masked_pos: Hidden patches, bool (batch, patches), for the number of images.
        size: (height, width) of the images in pixels.
        content_mask: Mask of the image, bool (batch, height, width): false in the padding.
        breast_mask: Mask of the breast, bool (batch, height, width).
    """
    content = bool_masked_pos.new_ones((len(bool_masked_pos), *size)).bool() if content_mask is None else content_mask
    if breast_mask is None:
        return content
    return torch.where(breast_mask.any((1, 2), keepdim=True), breast_mask, content)


def spread_over_pixels(patches: torch.Tensor, size: tuple[int, int], grid: tuple[int, int]) -> torch.Tensor:
    """Repeat one value per patch (batch, patches) to one per pixel (batch, height, width)."""
    values = patches.view(-1, *grid)
    return values.repeat_interleave(size[0] // grid[0], 1).repeat_interleave(size[1] // grid[1], 2)


def normalized_target(pixel_values: torch.Tensor, side: int) -> torch.Tensor:
    """Normalise each patch to mean 0 and standard deviation 1 (He et al. 2022, arXiv 2111.06377, section 4.1).

    Args:
        pixel_values: Images (batch, channels, height, width).
        side: Side of the patches in pixels; divides height and width.
    """
    mean, deviation = _patch_statistics(pixel_values, side)
    return (pixel_values - mean) / deviation


def denormalized(reconstruction: torch.Tensor, pixel_values: torch.Tensor, side: int) -> torch.Tensor:
    """Put the true patches' mean and deviation back into a reconstruction of normalised patches, to look at it."""
    mean, deviation = _patch_statistics(pixel_values, side)
    return reconstruction * deviation + mean


def _patch_statistics(pixel_values: torch.Tensor, side: int) -> tuple[torch.Tensor, torch.Tensor]:
    values = pixel_values.float()
    mean = functional.avg_pool2d(values, side)
    # the unbiased variance, as in MAE; a flat patch (background) gets a small one and so a target of zero
    variance = (functional.avg_pool2d(values**2, side) - mean**2).clamp(min=0) * (side**2 / max(side**2 - 1, 1))
    deviation = (variance + 1e-6).sqrt()
    return _spread(mean, side), _spread(deviation, side)


def _spread(values: torch.Tensor, side: int) -> torch.Tensor:
    return values.repeat_interleave(side, 2).repeat_interleave(side, 3)


def teacher_loss(
    taught: Mapping[str, tuple[torch.Tensor, torch.Tensor]], weights: torch.Tensor, counts: torch.Tensor
) -> torch.Tensor:
    """Return the smooth L1 distance of predictions from a teacher's standardised features, of cells plus of images.

    Args:
        taught: Predictions and targets of "cells" (batch, rows, columns, channels) and "image" (batch, features).
        weights: Weight of each cell, (batch, rows, columns) from 0 to 1.
        counts: Divisors, each at least 1: the number of pixels, which is not used here, the sum of the weights of
            cells, and the number of images.
    """
    of_cells, of_image = (
        functional.smooth_l1_loss(*(values.float() for values in taught[name]), reduction="none").mean(-1)
        for name in ("cells", "image")
    )
    return (of_cells * weights).sum() / counts[1] + of_image.sum() / counts[2]


def mean_absolute_error(
    reconstruction: torch.Tensor,
    target: torch.Tensor,
    counted: torch.Tensor,
    pixels: torch.Tensor | int | None = None,
) -> torch.Tensor:
    """Return the mean absolute error over the counted pixels and all channels.

    Args:
        reconstruction: Images (batch, channels, height, width).
        target: Images of the same shape.
        counted: Pixels that count, bool (batch, height, width).
        pixels: Number of counted pixels in all micro-batches and processes of one update, so that each pixel weighs the
            same however the update is split up; ``None``: in this batch.
    """
    error = (reconstruction.float() - target.float()).abs().mean(1)
    divisor = counted.sum().clamp(min=1) if pixels is None else pixels
    return (error * counted).sum() / divisor
