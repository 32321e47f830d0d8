"""The verb ``explain``, from a model and a batch of images to an ``Explanation``, and the explainers it chooses from.

Explainers are found through the entry-point group ``mammo_hf.explainers``. An entry point is anything with the three
names of ``Explainer``: a module, or a function that the decorator ``explainer`` has given them.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping, Sequence
from contextlib import nullcontext
from typing import Any, Protocol

import numpy as np
import torch
from torch.nn import functional
from transformers import PreTrainedModel

from ..errors import UsageError, check_choice
from ..metrics.operating_points import RULES
from ..plugins import Plugin, find_plugin, plugin_errors, plugins
from ..processing.geometry import Geometry
from .explanation import Explanation, Facts
from .swin import preserve_state, swin_of
from .targets import (
    Default,
    Target,
    calibrated_scores,
    label_names,
    predicted,
    resolve,
    task_slices,
    threshold_of,
)

GROUP, NAMES = "mammo_hf.explainers", ("REQUIRES", "available", "explain_map")
OPERATING_POINT = "specificity_95"  # the rule below whose threshold a map is not drawn unless another is named
OPERATING_POINTS = (*RULES, "none")
FLAT = 1e-5  # a spread below this fraction of the largest value is rounding: the map is the same everywhere


class Explainer(Protocol):
    """The contract of an explainer, often kept by a module with these three names.

    ``SUPERVISED = True`` may be added if the map was trained on lesion annotations: wherever the explainer is listed or
    measured, this is then stated.

    Attributes:
        REQUIRES: Names of the packages, as pip knows them, that it needs in addition to mammo_hf's own.
    """

    REQUIRES: tuple[str, ...]

    def available(self) -> bool:
        """Return whether those packages are installed; must not raise if they are not."""

    def explain_map(
        self, model: PreTrainedModel, pixel_values: torch.Tensor, target: Sequence[int], **options: Any
    ) -> torch.Tensor | tuple[torch.Tensor, Facts]:
        """Return maps of where a score comes from; the model must come back unchanged (see ``preserve_state``).

        Args:
            model: A classifier whose output has ``logits`` (batch, labels).
            pixel_values: Normalised images (batch, channels, height, width).
            target: The index into the logits that is explained, per image; ``score`` gives the value to differentiate.
            options: Keyword arguments of this explainer, passed on by ``explain``.

        Returns:
            (batch, rows, columns) of any grid over the image, or (batch, heads, rows, columns), whose mean over heads
            is the map. Finite, of any scale, larger for stronger; a negative value is evidence against the target and
            is drawn as 0. An explainer that has something to report returns a pair: the maps, and a mapping from a name
            to one number per image, which becomes ``Explanation.facts``.
        """


def explainer(function: Callable[..., Any] | None = None, *, supervised: bool = False) -> Any:
    """Make a function ``explain_map`` an explainer that needs no further package.

    Args:
        function: The function; it gets the names of `Explainer` as attributes and stays callable.
        supervised: Whether the map was trained on lesion annotations.
    """
    if function is None:
        return lambda decorated: explainer(decorated, supervised=supervised)
    vars(function).update(REQUIRES=(), available=lambda: True, explain_map=function, SUPERVISED=supervised)
    return function


def explain(
    model: PreTrainedModel,
    pixel_values: torch.Tensor,
    target: Target = None,
    explainer: str | Explainer = "grad_cam",
    *,
    images: np.ndarray | None = None,
    geometry: Sequence[Geometry] | None = None,
    operating_point: str = OPERATING_POINT,
    **options: Any,
) -> Explanation:
    """Show where a classifier's score comes from. The model comes back as it was given.

    Args:
        model: A classifier; most of the built-in explainers need a Swin.
        pixel_values: Normalised images (batch, channels, height, width).
        target: What is explained: "task:label", a label, an index, a list with one of these per image, or ``None`` for
            the default of the first task: of two labels the positive one, of more the predicted one, see
            `mammo_hf.explainers.targets.default_targets`.
        explainer: A name (``mammo-hf explainers`` lists them), or a plug-in itself.
        images: Images (batch, height, width) in [0, 1] for overlays; by default the pixel values, scaled to [0, 1].
        geometry: The way back to source pixels, per image.
        operating_point: Rule of the threshold below which a positive label's map is not drawn, "specificity_95",
            "specificity_90" or "sensitivity_90"; "none" to draw every map.
        options: Options of the explainer, such as ``stage=1``.

    Returns:
        Maps at the input's size, each scaled to [0, 1]; an empty map is 0 everywhere and flagged.

    Raises:
        UsageError: An unknown explainer, option, target or operating point, an input that does not fit the model, or an
            explainer whose maps break the contract.
        PluginError: An explainer that was given by its name raised something.
    """
    plugin = find_explainer(explainer) if isinstance(explainer, str) else explainer
    name = explainer if isinstance(explainer, str) else str(getattr(explainer, "__name__", type(explainer).__name__))
    # a graph that torch.compile wrapped would not see an explainer's hooks
    model = getattr(model, "_orig_mod", model)
    check_choice("operating_point", operating_point, OPERATING_POINTS)
    _check_input(model, pixel_values, images, geometry)
    _check_options(plugin, name, options)
    # Run the explainer; the state is kept here too, in case a plug-in forgets to or fails half way
    count, pixel_values = len(pixel_values), pixel_values.detach().to(getattr(model, "dtype", pixel_values.dtype))
    # gradients are computed in the precision of the weights, whatever the caller's is
    with preserve_state(model), torch.autocast(pixel_values.device.type, enabled=False):
        passes = _Passes(model, pixel_values)
        default = Default(passes.logits, count, model.config)
        indices = default if target is None else resolve(target, count, model.config)
        with plugin_errors("explainer", name) if isinstance(explainer, str) else nullcontext():
            result = plugin.explain_map(model, pixel_values.detach().clone(), indices, **options)
        raw, facts = result if isinstance(result, tuple) else (result, {})
        raw = _checked_maps(raw, count, name)
        _check_facts(facts, count, name)
        logits = passes.logits().float().cpu()
        # Bring the maps to the input's size; evidence against the target is not a place where the model found it
        coarse = (raw.mean(dim=1) if raw.ndim == 4 else raw).relu()
        maps, flat = _scaled(upsampled(coarse, (pixel_values.shape[-2], pixel_values.shape[-1])).numpy())
    if images is None:
        images, _ = _scaled(pixel_values.float().mean(dim=1).cpu().numpy())
    scores = np.concatenate(list(calibrated_scores(model.config, logits.double().numpy()).values()), axis=1)
    return Explanation(
        map=maps,
        target=tuple(label_names(model.config)[index] for index in indices),
        explainer=name.rsplit(".", 1)[-1],
        flat=flat,
        images=np.array(images, np.float32),
        geometry=None if geometry is None else tuple(geometry),
        heads=raw.numpy() if raw.ndim == 4 else None,
        logits=logits.numpy(),
        score=tuple(float(scores[row, index]) for row, index in enumerate(indices)),
        thresholds=tuple(threshold_of(index, model.config, operating_point) for index in indices),
        predicted=tuple(_is_prediction(logits, model.config, indices)),
        facts=facts,
        supervised=is_supervised(plugin),
    )


def _is_prediction(logits: torch.Tensor, config: Any, indices: Sequence[int]) -> list[bool]:
    """Return for each image whether what is explained is the strongest of more than two labels."""
    found = [False] * len(logits)
    for name, part in task_slices(config).items():
        if part.stop - part.start > 2:
            strongest = predicted(logits, config, name)
            found = [one or index == at for one, index, at in zip(found, indices, strongest, strict=True)]
    return found


class _Passes:
    """The model's logits on the unchanged images: from an explainer's own pass, or from one of ours."""

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
        """Return the logits (batch, labels); the model is run if it has not been yet."""
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
            f"{shape} is not a batch of images",
            source="pixel_values",
            remedy="give a tensor (batch, channels, height, width)",
        )
    if not hasattr(model, "config") or not hasattr(model.config, "num_labels"):
        raise UsageError(
            f"{type(model).__name__} is not a classifier of transformers",
            source="model",
            remedy="give one with a config",
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
        swin_of(model, *size)  # for any explainer: stock Swin stays altered after an image that is too small
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
    parameters = list(inspect.signature(plugin.explain_map).parameters.values()) if options else []
    if any(parameter.kind is parameter.VAR_KEYWORD for parameter in parameters):
        return
    known = [parameter.name for parameter in parameters[3:]]
    for option in options:
        if option not in known:
            remedy = f"its options: {', '.join(known) or 'none'}"
            raise UsageError(f"has no option {option!r}", source=name, remedy=remedy)


def _check_facts(facts: Facts, count: int, name: str) -> None:
    if not isinstance(facts, Mapping) or any(len(values) != count for values in facts.values()):
        raise UsageError(
            "reports something other than one number per image",
            source=name,
            remedy='in addition to its maps an explainer returns {"what it is": [one number per image]}',
        )


def _checked_maps(maps: torch.Tensor, count: int, name: str) -> torch.Tensor:
    """Return an explainer's maps as float32 on the CPU, after a check that there is one per image."""
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
    """Scale each map of (batch, height, width) to [0, 1]; one that is the same everywhere becomes 0 and is flagged."""
    low, high = maps.min(axis=(1, 2), keepdims=True), maps.max(axis=(1, 2), keepdims=True)
    flat = high - low <= FLAT * np.maximum(np.abs(low), np.abs(high))
    scaled = np.where(flat, 0, (maps - low) / np.where(flat, 1, high - low)).astype(np.float32)
    return scaled, tuple(bool(value) for value in flat.ravel())


# From a token grid to pixels, by cubic B-splines.
#
# Bilinear interpolation has its maxima at the centres of tokens, however strong their neighbours are: the peak of a
# lesion that two tokens share is then off the lesion. A B-spline passes near the tokens' values and not through them,
# and its peak is between such tokens. It never leaves the range of the values, and has no ringing (Unser 1999, IEEE
# Signal Processing Magazine 16(6), 22-38).


def upsampled(maps: torch.Tensor, size: tuple[int, int]) -> torch.Tensor:
    """Return maps (batch, rows, columns) as (batch, height, width); values at an edge continue beyond it.

    Args:
        maps: Maps in float32. Maps of the image's size are returned as they are, finer ones are averaged.
        size: The image's (height, width).
    """
    if tuple(maps.shape[1:]) == tuple(size):
        return maps
    if maps.shape[1] > size[0] or maps.shape[2] > size[1]:
        return functional.interpolate(maps[:, None], size=size, mode="area")[:, 0]
    down, across = (_weights(tokens, pixels) for tokens, pixels in zip(maps.shape[1:], size, strict=True))
    return down.to(maps.device) @ maps @ across.to(maps.device).T


def _weights(tokens: int, pixels: int) -> torch.Tensor:
    """Return how much of each token there is at each pixel's centre, (pixels, tokens); rows sum to 1."""
    at = (torch.arange(pixels, dtype=torch.float64) + 0.5) * tokens / pixels - 0.5
    weights = torch.zeros(pixels, tokens, dtype=torch.float64)
    for offset in range(-1, 3):
        token = at.floor().long() + offset
        away = (at - token).abs()
        near, far = 2 / 3 - away**2 + away**3 / 2, (2 - away).clamp(min=0) ** 3 / 6
        weights.scatter_add_(1, token.clamp(0, tokens - 1)[:, None], torch.where(away < 1, near, far)[:, None])
    return weights.float()


# The explainers that are installed.


def explainers() -> dict[str, Plugin]:
    """Return all explainers by name; a broken or incomplete one is listed with its reason and hinders no other."""
    return plugins(GROUP, NAMES)


def find_explainer(name: str) -> Explainer:
    """Return the explainer of a name; no other plug-in is imported.

    Raises:
        UsageError: There is none (the nearest name is suggested), or it cannot be used (with the reason).
    """
    explainer: Explainer = find_plugin(GROUP, name, NAMES, kind="explainer")
    return explainer


def is_supervised(explainer: Any) -> bool:
    """Return whether an explainer's map was trained on lesion annotations."""
    return bool(getattr(explainer, "SUPERVISED", False))
