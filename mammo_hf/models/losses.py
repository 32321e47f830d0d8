"""The losses of stage 2: several tasks with few known labels, and what the places of lesions teach the tokens.

Each is a sum divided by a number of labels or tokens. That number may span more than one batch (`loss_counts`), so that
an update is the same however it is split into micro-batches and processes.
"""

from __future__ import annotations

import math

import torch
from torch.nn import functional

from ..errors import UsageError
from .configuration_mammo_swin import MammoSwinConfig

# the image-level loss is content with a little evidence everywhere, since the mean makes much of it: hold against it
ELSEWHERE_WEIGHT = 4.0


def loss_counts(labels: torch.Tensor, lesion_labels: torch.Tensor | None = None) -> torch.Tensor:
    """What the losses are divided by: float (tasks + 2,), to be added up over the batches of an update.

    Args:
        labels: int64 (batch, tasks) or (batch,), -100 where not known.
        lesion_labels: int64 (batch, rows, columns): 0 no lesion, 1 + label, -100 not known.

    Returns:
        The known labels of each task, the tokens with a lesion, and those known to have none.
    """
    labels = labels.unsqueeze(1) if labels.ndim == 1 else labels
    known = (labels != -100).sum(0)
    tokens = labels.new_zeros(2) if lesion_labels is None else _token_counts(lesion_labels)
    return torch.cat([known, tokens]).float()


def _token_counts(lesion_labels: torch.Tensor) -> torch.Tensor:
    """Tokens with a lesion, and tokens known to have none: (2,)."""
    return torch.stack([(lesion_labels > 0).sum(), (lesion_labels == 0).sum()])


def multi_task_loss(
    logits: torch.Tensor, labels: torch.Tensor, config: MammoSwinConfig, counts: torch.Tensor | None = None
) -> torch.Tensor:
    """Mean over the tasks with a known label of: sum of w_y * loss over known labels / their number.

    Divided by the number and not by the sum of weights, as torch's weighted cross-entropy does: that would cancel the
    weights in a batch of one class. The mean weighs a task by ``config.task_weights``. A task's loss is the
    cross-entropy, or the ranked probability score where ``config.ordinal_tasks`` names it.

    Args:
        logits: (batch, labels of all tasks).
        labels: int64 (batch, tasks) or (batch,), -100 where not known.
        config: Tasks, class weights, task weights, label smoothing.
        counts: `loss_counts` of the whole update; ``None``: of this batch.

    Returns:
        A scalar; an exact zero that keeps the graph where no label is known.
    """
    labels = labels.unsqueeze(1) if labels.ndim == 1 else labels
    counts = loss_counts(labels) if counts is None else counts
    total, weight_of_known = logits.float().sum() * 0.0, logits.new_zeros((), dtype=torch.float32)
    for index, (name, part) in enumerate(config.task_slices.items()):
        weight = (config.task_weights or {}).get(name, 1.0)
        weight_of_known = weight_of_known + weight * (counts[index] > 0)
        known = labels[:, index] != -100
        if not known.any():
            continue
        target = labels[known, index]
        losses = _label_losses(logits[known, part].float(), target, name, config)
        class_weights = (config.class_weights or {}).get(name)
        if class_weights is not None:
            losses = losses * torch.tensor(class_weights, dtype=torch.float32, device=logits.device)[target]
        total = total + weight * losses.sum() / counts[index]
    return total / weight_of_known.clamp(min=torch.finfo(torch.float32).tiny)


def _label_losses(logits: torch.Tensor, target: torch.Tensor, name: str, config: MammoSwinConfig) -> torch.Tensor:
    """(n,) unweighted losses of one task's logits (n, labels)."""
    if name in (config.ordinal_tasks or ()):
        return ranked_probability_score(logits, target)
    losses = functional.cross_entropy(logits, target, reduction="none")
    smoothing = config.label_smoothing
    return (1 - smoothing) * losses - smoothing * logits.log_softmax(-1).mean(-1) if smoothing else losses


def ranked_probability_score(logits: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
    """How far the cumulative softmax is from the label's step (Epstein 1969), for labels in their natural order.

    A label further off costs more, which cross-entropy does not know.

    Args:
        logits: (n, labels).
        target: int64 (n,).

    Returns:
        (n,), each in [0, 1]: the sum over thresholds of (P(label <= k) - [target <= k])^2, divided by labels - 1.
    """
    cumulative = logits.softmax(-1).cumsum(-1)[:, :-1]
    thresholds = torch.arange(cumulative.shape[1], device=logits.device)
    step = (target[:, None] <= thresholds).to(cumulative.dtype)
    return (cumulative - step).square().mean(-1)


def lesion_token_loss(
    lesion_logits: torch.Tensor, lesion_labels: torch.Tensor, background: float, counts: torch.Tensor | None = None
) -> torch.Tensor:
    """Cross-entropy at each token whose label is known, tokens without a lesion weighted by ``background``.

    Args:
        lesion_logits: (batch, 1 + labels, rows, columns).
        lesion_labels: int64 (batch, rows, columns): 0 no lesion, 1 + label, -100 not known.
        background: Weight of a token without a lesion, against 1 for one with.
        counts: `loss_counts` of the whole update; ``None``: of this batch.
    """
    lesion, none = _token_counts(lesion_labels) if counts is None else counts[-2:]
    weight = torch.ones(lesion_logits.shape[1], device=lesion_logits.device)
    weight[0] = background
    total = functional.cross_entropy(lesion_logits.float(), lesion_labels, weight, reduction="sum")
    return total / (lesion + background * none).clamp(min=torch.finfo(torch.float32).tiny)


def lesion_evidence_loss(
    evidence: torch.Tensor, lesion_labels: torch.Tensor, counts: torch.Tensor | None = None
) -> torch.Tensor:
    """Teaches the classifier that its evidence for a lesion's class lies in the lesion, and nowhere else.

    The classifier is linear behind a mean, so its logits are the mean of what it says of each token. Cross-entropy at
    the tokens of lesions, plus the divergence of what is said of a token known to have none from the uniform
    distribution, weighted by ``ELSEWHERE_WEIGHT``: each a mean over its own tokens, or the many without a lesion would
    drown the few with one.

    Args:
        evidence: (batch, tokens, labels of the lesion task), the classifier applied to each token.
        lesion_labels: int64 (batch, tokens): 0 no lesion, 1 + label, -100 not known.
        counts: `loss_counts` of the whole update; ``None``: of this batch.

    Returns:
        A scalar, 0 where evidence is certain in lesions and absent elsewhere; exactly 0 where nothing is known.
    """
    evidence = evidence.float()
    lesion, none = lesion_labels > 0, lesion_labels == 0
    of_lesions, of_none = _token_counts(lesion_labels) if counts is None else counts[-2:]
    inside = functional.cross_entropy(evidence[lesion], lesion_labels[lesion] - 1, reduction="sum")
    outside = -functional.log_softmax(evidence[none], -1).mean(-1) - math.log(evidence.shape[-1])
    return inside / of_lesions.clamp(min=1) + ELSEWHERE_WEIGHT * outside.sum() / of_none.clamp(min=1)


# The loss of masked image modelling: which pixels count, what is predicted, and the mean absolute error.


def counted_pixels(
    bool_masked_pos: torch.Tensor,
    size: tuple[int, int],
    grid: tuple[int, int],
    *,
    region: str,
    content_mask: torch.Tensor | None = None,
    breast_mask: torch.Tensor | None = None,
) -> torch.Tensor:
    """Which pixels the loss is taken over.

    Args:
        bool_masked_pos: bool (batch, patches), row by row; true: hidden.
        size: (height, width) of the image in pixels.
        grid: (rows, columns) of patches.
        region: "masked": hidden pixels; "masked_breast": hidden pixels inside the breast; "all": visible ones too.
        content_mask: bool (batch, height, width): false in the padding, which never counts.
        breast_mask: bool (batch, height, width): true inside the breast; needed for "masked_breast".

    Returns:
        bool (batch, height, width).

    Raises:
        UsageError: "masked_breast" without a breast mask, or a mask of another shape.
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


def spread_over_pixels(patches: torch.Tensor, size: tuple[int, int], grid: tuple[int, int]) -> torch.Tensor:
    """One value a patch (batch, patches) to one a pixel (batch, height, width)."""
    values = patches.view(-1, *grid)
    return values.repeat_interleave(size[0] // grid[0], 1).repeat_interleave(size[1] // grid[1], 2)


def normalized_target(pixel_values: torch.Tensor, side: int) -> torch.Tensor:
    """Each patch less its mean, over its standard deviation (He et al. 2022, arXiv 2111.06377, section 4.1).

    Args:
        pixel_values: (batch, channels, height, width).
        side: Of the patches in pixels; divides height and width.
    """
    mean, deviation = _patch_statistics(pixel_values, side)
    return (pixel_values - mean) / deviation


def denormalized(reconstruction: torch.Tensor, pixel_values: torch.Tensor, side: int) -> torch.Tensor:
    """A reconstruction of normalised patches with the true patches' mean and deviation put back, to look at it."""
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


def mean_absolute_error(
    reconstruction: torch.Tensor,
    target: torch.Tensor,
    counted: torch.Tensor,
    pixels: torch.Tensor | int | None = None,
) -> torch.Tensor:
    """Absolute error over the counted pixels and all channels, divided by their number.

    Args:
        reconstruction: (batch, channels, height, width).
        target: The same shape.
        counted: bool (batch, height, width).
        pixels: What to divide by instead: the counted pixels of all micro-batches and processes of one update, so that
            each pixel weighs the same however the update is split up.
    """
    error = (reconstruction.float() - target.float()).abs().mean(1)
    divisor = counted.sum().clamp(min=1) if pixels is None else pixels
    return (error * counted).sum() / divisor
