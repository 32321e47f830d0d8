"""The losses of stage 2: several tasks with few known labels, and what the places of lesions teach the tokens."""

from __future__ import annotations

import math

import torch
from torch.nn import functional

from .configuration_mammo_swin import MammoSwinConfig

# the image-level loss is content with a little evidence everywhere, since the mean makes much of it: hold against it
ELSEWHERE_WEIGHT = 4.0


def multi_task_loss(logits: torch.Tensor, labels: torch.Tensor, config: MammoSwinConfig) -> torch.Tensor:
    """Mean over the tasks with a known label of: sum of w_y * cross-entropy over known labels / their number.

    Divided by the number and not by the sum of weights, as torch's weighted cross-entropy does: that would cancel the
    weights in a batch of one class. A batch without any known label gives an exact zero that keeps the graph.
    """
    labels = labels.unsqueeze(1) if labels.ndim == 1 else labels
    losses = []
    for index, (name, part) in enumerate(config.task_slices.items()):
        known = labels[:, index] != -100
        if not known.any():
            continue
        weights = (config.class_weights or {}).get(name)
        weight = None if weights is None else torch.tensor(weights, dtype=torch.float32, device=logits.device)
        target = labels[known, index]
        losses.append(functional.cross_entropy(logits[known, part].float(), target, weight, reduction="sum"))
        losses[-1] = losses[-1] / known.sum()
    return torch.stack(losses).mean() if losses else logits.float().sum() * 0.0


def lesion_token_loss(lesion_logits: torch.Tensor, lesion_labels: torch.Tensor, background: float) -> torch.Tensor:
    """Cross-entropy at each token whose label is known, tokens without a lesion weighted by ``background``."""
    if not (lesion_labels != -100).any():
        return lesion_logits.float().sum() * 0.0
    weight = torch.ones(lesion_logits.shape[1], device=lesion_logits.device)
    weight[0] = background
    return functional.cross_entropy(lesion_logits.float(), lesion_labels, weight)


def lesion_evidence_loss(evidence: torch.Tensor, lesion_labels: torch.Tensor) -> torch.Tensor:
    """Teaches the classifier that its evidence for a lesion's class lies in the lesion, and nowhere else.

    The classifier is linear behind a mean, so its logits are the mean of what it says of each token. Cross-entropy at
    the tokens of lesions, plus the divergence of what is said of a token known to have none from the uniform
    distribution, weighted by ``ELSEWHERE_WEIGHT``: each a mean over its own tokens, or the many without a lesion would
    drown the few with one.

    Args:
        evidence: (batch, tokens, labels of the lesion task), the classifier applied to each token.
        lesion_labels: int64 (batch, tokens): 0 no lesion, 1 + label, -100 not known.

    Returns:
        A scalar, 0 where evidence is certain in lesions and absent elsewhere; exactly 0 where nothing is known.
    """
    evidence = evidence.float()
    lesion, none = lesion_labels > 0, lesion_labels == 0
    inside = functional.cross_entropy(evidence[lesion], lesion_labels[lesion] - 1, reduction="sum")
    outside = -functional.log_softmax(evidence[none], -1).mean(-1) - math.log(evidence.shape[-1])
    inside = inside / lesion.sum().clamp(min=1)
    return inside + ELSEWHERE_WEIGHT * outside.sum() / none.sum().clamp(min=1)
