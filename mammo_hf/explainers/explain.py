"""The one verb: ``explain``, from a model and a batch of images to an ``Explanation``."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch.nn import functional
from transformers import PreTrainedModel

from ..errors import UsageError
from ..geometry import Geometry
from .base import Explainer, Explanation
from .discovery import find_explainer
from .model_state import lent
from .targets import Target, label_names, predicted, resolve

# a spread below this share of the largest value is rounding: the map is the same everywhere
FLAT = 1e-5


def explain(
    model: PreTrainedModel,
    pixel_values: torch.Tensor,
    target: Target = None,
    explainer: str | Explainer = "grad_cam",
    *,
    images: np.ndarray | None = None,
    geometry: Sequence[Geometry] | None = None,
) -> Explanation:
    """Explains a score of a classifier on a batch of images; the model comes back as it was.

    Args:
        model: A classifier; the built-in explainers need a Swin.
        pixel_values: (batch, channels, height, width), normalised.
        target: "task:label", a label, an index, one for each image, or ``None`` for what the first task predicts.
        explainer: "attention", "grad_cam", "grad_cam_attention", a plugin's name, or a plugin itself.
        images: (batch, height, width) in [0, 1] for overlays; without it the pixel values, scaled to their range.
        geometry: For each image the way back to source pixels.

    Returns:
        Maps at the input's size, each scaled to [0, 1]; one that carries nothing is 0 everywhere and flagged.

    Raises:
        UsageError: An unknown explainer or target, an input that does not fit the model, or an explainer whose maps
            are not what was agreed.
    """
    plugin = find_explainer(explainer) if isinstance(explainer, str) else explainer
    name = explainer if isinstance(explainer, str) else str(getattr(explainer, "__name__", type(explainer).__name__))
    _check_input(model, pixel_values, images, geometry)
    # lent here too, so that a plugin that forgets, or fails half way, leaves no trace
    with lent(model):
        pixel_values = pixel_values.detach().clone()
        if target is None:
            with torch.no_grad():
                indices = predicted(model(pixel_values).logits, model.config)
        else:
            indices = resolve(target, len(pixel_values), model.config)
        raw = _checked_maps(plugin.explain_map(model, pixel_values, indices), len(pixel_values), name)
    heads = raw.numpy() if raw.ndim == 4 else None
    coarse = raw.mean(dim=1, keepdim=True) if raw.ndim == 4 else raw[:, None]
    size = (pixel_values.shape[-2], pixel_values.shape[-1])
    maps, flat = _scaled(functional.interpolate(coarse, size=size, mode="bilinear", align_corners=False)[:, 0].numpy())
    if images is None:
        images, _ = _scaled(pixel_values.float().mean(dim=1).cpu().numpy())
    return Explanation(
        map=maps,
        target=tuple(label_names(model.config)[index] for index in indices),
        explainer=name.rsplit(".", 1)[-1],
        flat=flat,
        images=np.array(images, np.float32),
        geometry=None if geometry is None else tuple(geometry),
        heads=heads,
    )


def _check_input(
    model: PreTrainedModel, pixel_values: torch.Tensor, images: np.ndarray | None, geometry: Sequence[Geometry] | None
) -> None:
    if not isinstance(pixel_values, torch.Tensor) or pixel_values.ndim != 4 or not len(pixel_values):
        shape = tuple(getattr(pixel_values, "shape", ())) or type(pixel_values).__name__
        raise UsageError(
            f"{shape} is no batch of images",
            source="pixel_values",
            remedy="give a tensor (batch, channels, height, width)",
        )
    channels = getattr(model.config, "num_channels", pixel_values.shape[1])
    if pixel_values.shape[1] != channels:
        raise UsageError(
            f"{pixel_values.shape[1]} channels, the model takes {channels}",
            source="pixel_values",
            remedy=f"use a processor with num_channels={channels}",
        )
    if not torch.isfinite(pixel_values).all():
        raise UsageError("holds values that are not finite", source="pixel_values", remedy="check the images")
    count, size = len(pixel_values), tuple(pixel_values.shape[-2:])
    if images is not None and np.shape(images) != (count, *size):
        raise UsageError(
            f"shape {np.shape(images)}", source="images", remedy=f"give (batch, height, width) = {(count, *size)}"
        )
    if geometry is not None and [tuple(one.size) for one in geometry] != [size] * count:
        raise UsageError(
            f"sizes {[tuple(one.size) for one in geometry]} for {count} images of {size}",
            source="geometry",
            remedy="give the one that the processor returned for each image",
        )


def _checked_maps(maps: torch.Tensor, count: int, name: str) -> torch.Tensor:
    """What an explainer returned as float32 on the CPU, after a look whether it is a map for each image."""
    if not isinstance(maps, torch.Tensor) or maps.ndim not in (3, 4) or len(maps) != count:
        shape = tuple(getattr(maps, "shape", ())) or type(maps).__name__
        raise UsageError(
            f"gave {shape} for {count} images", source=name, remedy="an explainer gives (batch[, heads], rows, columns)"
        )
    maps = maps.detach().float().cpu()
    if not torch.isfinite(maps).all():
        raise UsageError("gave values that are not finite", source=name, remedy="check the model's weights")
    return maps


def _scaled(maps: np.ndarray) -> tuple[np.ndarray, tuple[bool, ...]]:
    """Each of (batch, height, width) to [0, 1]; one that is the same everywhere becomes 0 and is flagged."""
    low, high = maps.min(axis=(1, 2), keepdims=True), maps.max(axis=(1, 2), keepdims=True)
    flat = high - low <= FLAT * np.maximum(np.abs(low), np.abs(high))
    scaled = np.where(flat, 0, (maps - low) / np.where(flat, 1, high - low)).astype(np.float32)
    return scaled, tuple(bool(value) for value in flat.ravel())
