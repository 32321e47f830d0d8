"""Where a model looked: one verb, ``explain``, over explainers that are found as entry points."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch.nn import functional
from transformers import PreTrainedModel

from ..errors import UsageError
from ..geometry import Geometry
from .base import Explanation
from .discovery import Found, explainers, find_explainer
from .model_state import lent
from .targets import Target, label_names, resolve

__all__ = ["Explanation", "Found", "explain", "explainers", "find_explainer"]


def explain(
    model: PreTrainedModel,
    pixel_values: torch.Tensor,
    target: Target = None,
    explainer: str = "grad_cam",
    *,
    images: np.ndarray | None = None,
    geometry: Sequence[Geometry] | None = None,
) -> Explanation:
    """Explains a score of a classifier on a batch of images; the model comes back as it was.

    Args:
        model: A Swin classifier.
        pixel_values: (batch, channels, height, width), normalised.
        target: "task:label", a label, an index, one for each image, or ``None`` for what is predicted.
        explainer: "attention", "grad_cam", "grad_cam_attention", or a plugin's name.
        images: (batch, height, width) in [0, 1] for overlays; without it the pixel values, scaled to their range.
        geometry: For each image the way back to source pixels.

    Returns:
        Maps at the input's size, each scaled to [0, 1].

    Raises:
        UsageError: An unknown explainer or target, or an input that is no batch of images.
    """
    plugin = find_explainer(explainer)
    if pixel_values.ndim != 4 or not torch.isfinite(pixel_values).all():
        raise UsageError(
            f"pixel_values of shape {tuple(pixel_values.shape)} are no batch of finite images",
            remedy="give (batch, channels, height, width)",
        )
    if target is None:
        with lent(model), torch.no_grad():
            logits = model(pixel_values).logits
        indices = resolve(None, logits, model.config)
    else:
        indices = resolve(target, pixel_values.new_zeros(len(pixel_values), model.config.num_labels), model.config)
    raw = plugin.explain_map(model, pixel_values, indices).detach().float()
    size = pixel_values.shape[-2:]
    maps = functional.interpolate(raw[:, None], size=tuple(size), mode="bilinear", align_corners=False)[:, 0].cpu()
    maps, flat = _scaled(maps.numpy())
    if images is None:
        images, _ = _scaled(pixel_values.float().mean(1).cpu().numpy())
    return Explanation(
        map=maps,
        target=tuple(label_names(model.config)[index] for index in indices),
        explainer=explainer,
        flat=flat,
        images=np.asarray(images, np.float32),
        geometry=None if geometry is None else tuple(geometry),
    )


def _scaled(maps: np.ndarray) -> tuple[np.ndarray, tuple[bool, ...]]:
    """Each map to [0, 1]; one that is the same everywhere carries nothing and becomes 0."""
    low = maps.min(axis=(1, 2), keepdims=True)
    spread = maps.max(axis=(1, 2), keepdims=True) - low
    # differences of the last digits are rounding, not a place
    flat = ~(spread > 1e-6 * np.abs(maps).max(axis=(1, 2), keepdims=True) + 1e-30)
    scaled = np.where(flat, 0, (maps - low) / np.where(flat, 1, spread)).astype(np.float32)
    return scaled, tuple(bool(value) for value in flat.ravel())
