"""The one verb: ``explain``, from a model and a batch of images to an ``Explanation``."""

from __future__ import annotations

import inspect
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch.nn import functional
from transformers import PreTrainedModel

from ..errors import UsageError
from ..processing.geometry import Geometry
from .discovery import Explainer, Facts, find_explainer
from .explanation import Explanation
from .swin import lent, swin_of
from .targets import Predicted, Target, label_names, probabilities, resolve

# From a token grid to pixels, by cubic B-splines.
#
# Bilinear interpolation has its maxima at the centres of tokens, however strong their neighbours are: a lesion that two
# tokens share then has its peak beside it. A B-spline passes near the tokens' values and not through them, and its peak
# lies between such tokens. It never leaves the range of the values, and has no ringing (Unser 1999, IEEE Signal
# Processing Magazine 16(6), 22-38).


def upsampled(maps: torch.Tensor, size: tuple[int, int]) -> torch.Tensor:
    """Maps (batch, rows, columns) as (batch, height, width); what lies beyond an edge is what lies at it.

    Args:
        maps: float32; those that are as fine as the image already are left as they are, finer ones are averaged.
        size: (height, width).
    """
    if tuple(maps.shape[1:]) == tuple(size):
        return maps
    if maps.shape[1] > size[0] or maps.shape[2] > size[1]:
        return functional.interpolate(maps[:, None], size=size, mode="area")[:, 0]
    down, across = (_weights(tokens, pixels) for tokens, pixels in zip(maps.shape[1:], size, strict=True))
    return down.to(maps.device) @ maps @ across.to(maps.device).T


def _weights(tokens: int, pixels: int) -> torch.Tensor:
    """(pixels, tokens): how much of each token there is at each pixel's centre; rows sum to 1."""
    at = (torch.arange(pixels, dtype=torch.float64) + 0.5) * tokens / pixels - 0.5
    weights = torch.zeros(pixels, tokens, dtype=torch.float64)
    for offset in range(-1, 3):
        token = at.floor().long() + offset
        away = (at - token).abs()
        near, far = 2 / 3 - away**2 + away**3 / 2, (2 - away).clamp(min=0) ** 3 / 6
        weights.scatter_add_(1, token.clamp(0, tokens - 1)[:, None], torch.where(away < 1, near, far)[:, None])
    return weights.float()


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
    **options: Any,
) -> Explanation:
    """Explains a score of a classifier on a batch of images; the model comes back as it was.

    The scores come with the map, from the same pass where the explainer runs the model on the images as they are.

    Args:
        model: A classifier; most of the built-in explainers need a Swin.
        pixel_values: (batch, channels, height, width), normalised.
        target: "task:label", a label, an index, one for each image, or ``None`` for what the first task predicts.
        explainer: A name (``mammo-hf explainers`` lists them), or a plugin itself.
        images: (batch, height, width) in [0, 1] for overlays; without it the pixel values, scaled to their range.
        geometry: For each image the way back to source pixels.
        options: What the explainer takes besides, such as ``stage=1``.

    Returns:
        Maps at the input's size, each scaled to [0, 1]; one that carries nothing is 0 everywhere and flagged.

    Raises:
        UsageError: An unknown explainer, option or target, an input that does not fit the model, or an explainer whose
            maps are not what was agreed.
    """
    plugin = find_explainer(explainer) if isinstance(explainer, str) else explainer
    name = explainer if isinstance(explainer, str) else str(getattr(explainer, "__name__", type(explainer).__name__))
    model = getattr(
        model, "_orig_mod", model
    )  # what torch.compile wrapped: its graph would not see an explainer's hooks
    _check_input(model, pixel_values, images, geometry)
    _check_options(plugin, name, options)
    # lent here too, so that a plugin that forgets, or fails half way, leaves no trace
    with lent(model):
        passes = _Passes(model, pixel_values)
        indices: Sequence[int] = Predicted(passes.logits, len(pixel_values), model.config)
        if target is not None:
            indices = resolve(target, len(pixel_values), model.config)
        result = plugin.explain_map(model, pixel_values.detach().clone(), indices, **options)
        raw, facts = result if isinstance(result, tuple) else (result, {})
        raw = _checked_maps(raw, len(pixel_values), name)
        _check_facts(facts, len(pixel_values), name)
        logits = passes.logits().float().cpu()
    coarse = raw.mean(dim=1) if raw.ndim == 4 else raw
    size = (pixel_values.shape[-2], pixel_values.shape[-1])
    # what speaks against the target is no place where the model found it
    coarse = coarse.relu()
    maps, flat = _scaled(upsampled(coarse, size).numpy())
    if images is None:
        images, _ = _scaled(pixel_values.float().mean(dim=1).cpu().numpy())
    return Explanation(
        map=maps,
        target=tuple(label_names(model.config)[index] for index in indices),
        explainer=name.rsplit(".", 1)[-1],
        flat=flat,
        images=np.array(images, np.float32),
        geometry=None if geometry is None else tuple(geometry),
        heads=raw.numpy() if raw.ndim == 4 else None,
        logits=logits.numpy(),
        score=tuple(probabilities(logits, indices, model.config).tolist()),
        facts=facts,
        supervised=bool(getattr(plugin, "SUPERVISED", False)),
    )


class _Passes:
    """The model's logits on the images as they are: from an explainer's own pass, or from one of ours."""

    def __init__(self, model: PreTrainedModel, pixel_values: torch.Tensor) -> None:
        self._model, self._pixels, self._found = model, pixel_values.detach(), None
        model.register_forward_hook(self._see, with_kwargs=True)

    def _see(self, model: Any, inputs: tuple, named: dict[str, Any], output: Any) -> None:
        seen = named.get("pixel_values", inputs[0] if inputs else None)
        logits = getattr(output, "logits", None)
        # an explainer may also run the model on images that it has changed, or on some of them
        if self._found is None and isinstance(logits, torch.Tensor) and isinstance(seen, torch.Tensor):
            same = seen.shape == self._pixels.shape and seen.dtype == self._pixels.dtype
            self._found = logits.detach() if same and torch.equal(seen.detach(), self._pixels) else None

    def logits(self) -> torch.Tensor:
        """(batch, labels); the model is run where it was not yet."""
        if self._found is None:
            with torch.no_grad():
                self._found = self._model(self._pixels.clone()).logits
        return self._found


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
    if not hasattr(model, "config") or not hasattr(model.config, "num_labels"):
        raise UsageError(
            f"{type(model).__name__} is no classifier of transformers", source="model", remedy="give one with a config"
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
    count, size = len(pixel_values), (pixel_values.shape[-2], pixel_values.shape[-1])
    if hasattr(model, "swin"):
        swin_of(model, *size)  # whatever the explainer: stock Swin stays altered after an image that is too small
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


def _check_options(plugin: Explainer, name: str, options: dict[str, Any]) -> None:
    if not options:
        return
    parameters = inspect.signature(plugin.explain_map).parameters.values()
    if any(parameter.kind is parameter.VAR_KEYWORD for parameter in parameters):
        return
    known = [parameter.name for parameter in list(parameters)[3:]]
    unknown = [option for option in options if option not in known]
    if unknown:
        raise UsageError(
            f"takes no option {unknown[0]!r}", source=name, remedy=f"it takes {', '.join(known) if known else 'none'}"
        )


def _check_facts(facts: Facts, count: int, name: str) -> None:
    if not isinstance(facts, Mapping) or any(len(values) != count for values in facts.values()):
        raise UsageError(
            "reports something else than a number for each image",
            source=name,
            remedy='beside its maps an explainer gives {"what it is": [a number for each image]}',
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
