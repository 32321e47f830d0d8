"""The conformance kit for authors of an explainer, and the tiny classifier that it runs on."""

from __future__ import annotations

import gc
import random
from collections.abc import Callable
from typing import Any

import numpy as np
import torch

from ..explainers import Explainer, explain, find_explainer
from ..models.configuration_mammo_swin import MammoSwinConfig
from ..models.modeling_mammo_swin import MammoSwinForImageClassification

TASKS = [{"name": "pathology", "labels": ["benign", "malignant"]}, {"name": "density", "labels": ["a", "b", "c"]}]
# at the first the last block sees two windows, one above the other; at the second six, and shifted
SIZES = ((112, 56), (168, 112))


def tiny_classifier(
    num_channels: int = 1,
    seed: int = 0,
    image_size: tuple[int, int] = (112, 56),
    lesion_task: str | None = None,
) -> MammoSwinForImageClassification:
    """Return a classifier of a few thousand parameters: two stages of two blocks, patch 4, window 7, two tasks.

    Its weights are larger than for training, so that attention and gradients differ from token to token.

    Args:
        num_channels: Number of channels of the input.
        seed: Seed of the weights; the global random state is left alone.
        image_size: (height, width) in pixels, multiples of 56.
        lesion_task: Task of the lesion head, "pathology" or "density"; ``None``: there is no such head.
    """
    config = MammoSwinConfig(
        embed_dim=8,
        depths=[2, 2],
        num_heads=[1, 2],
        image_size=image_size,
        num_channels=num_channels,
        tasks=TASKS,
        lesion_task=lesion_task,
        drop_path_rate=0.0,
    )
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        model = MammoSwinForImageClassification(config)
        with torch.no_grad():
            for parameter in model.parameters():
                parameter.add_(0.2 * torch.randn_like(parameter))
    return model.eval()


def check_explainer(
    explainer: str | Explainer,
    *,
    depends_on_target: bool = True,
    model: Callable[..., MammoSwinForImageClassification] = tiny_classifier,
    other_targets: list[int] | None = None,
) -> None:
    """Check that an explainer keeps the contract of ``mammo_hf.explainers.Explainer``.

    Maps: one for each image, finite, upright, in [0, 1] through ``explain``, the same at each call, different for
    different targets, a batch equal to its images one by one; for rectangles, 1 and 3 channels; in bfloat16 about as in
    float32. Model: unchanged weights, gradients, ``requires_grad``, modes, attention implementation, hooks, windows and
    random state. Memory: nothing is kept after a call.

    Args:
        explainer: Name of an installed one, or a module with ``REQUIRES``, ``available()`` and ``explain_map``.
        depends_on_target: Whether another label must give another map; that of attention, for example, need not.
        model: Function that makes the classifier, called as `tiny_classifier` with ``num_channels`` and ``image_size``.
        other_targets: Labels (indices into the logits) of two images whose maps must differ from those of [1, 0];
            ``None``: two of another task.

    Raises:
        AssertionError: It breaks the contract; the text says which part.
        UsageError: No explainer of that name can be used.
    """
    plugin = find_explainer(explainer) if isinstance(explainer, str) else explainer
    assert isinstance(plugin.REQUIRES, tuple), "REQUIRES is a tuple of package names"
    assert plugin.available(), f"available() is false: it needs {', '.join(plugin.REQUIRES)}"
    # first, because a model that comes back changed fails the other checks too, under another name
    _check_model_unchanged(plugin, model())
    others = ([3, 4] if other_targets is None else other_targets) if depends_on_target else None
    for size in SIZES:
        for channels in (1, 3):
            _check_maps(plugin, model(channels, image_size=size), _pixels(2, channels, size), others)
    _check_range(plugin, model())
    _check_half_precision(plugin, model)
    _check_memory(plugin, model())


def _pixels(count: int, channels: int, size: tuple[int, int]) -> torch.Tensor:
    return torch.randn(count, channels, *size, generator=torch.Generator().manual_seed(1))


def _maps(plugin: Explainer, model: Any, pixels: torch.Tensor, target: list[int]) -> torch.Tensor:
    """Return the maps of an explainer, without the facts that it may return with them."""
    result = plugin.explain_map(model, pixels, target)
    return result[0] if isinstance(result, tuple) else result


def _check_maps(
    plugin: Explainer, model: MammoSwinForImageClassification, pixels: torch.Tensor, others: list[int] | None
) -> None:
    channels, *size = pixels.shape[1:]
    where = f"at {size[0]} x {size[1]} with {channels} channels: "
    given = pixels.clone()
    maps = _maps(plugin, model, pixels, [1, 0])
    assert torch.equal(pixels, given), where + "the pixel values came back changed"
    assert isinstance(maps, torch.Tensor), where + "explain_map returns a tensor"
    assert maps.ndim in (3, 4), where + f"a map is (batch[, heads], rows, columns), not {tuple(maps.shape)}"
    assert len(maps) == 2, where + f"{len(maps)} maps for 2 images"
    assert not maps.requires_grad, where + "a map keeps its graph, and with it memory"
    rows, columns = maps.shape[-2:]
    assert rows * size[1] == columns * size[0], where + f"a grid of {rows} x {columns} is not the image's rectangle"
    assert torch.isfinite(maps).all(), where + "a map holds NaN or infinite values"
    for map_of_one in maps:
        assert map_of_one.float().std() > 0, where + "a map of an ordinary image is the same everywhere"
    assert torch.equal(maps, _maps(plugin, model, pixels, [1, 0])), where + "the same call gave another map"
    for index, target in enumerate([1, 0]):
        alone = _maps(plugin, model, pixels[index : index + 1], [target])
        same = torch.allclose(alone[0], maps[index], rtol=1e-3, atol=1e-4 * float(maps[index].abs().max()))
        assert same, where + "a batch differs from its images one by one"
    if others is not None:
        other = _maps(plugin, model, pixels, others)
        assert not torch.allclose(maps, other), where + "another target gave the same map"


def _check_range(plugin: Explainer, model: MammoSwinForImageClassification) -> None:
    explanations = [explain(model, _pixels(2, 1, SIZES[0]), target, plugin) for target in ([1, 0], [0, 1])]
    for explanation in explanations:
        assert explanation.map.shape == (2, *SIZES[0]), f"an explanation of shape {explanation.map.shape}"
        assert explanation.map.min() >= 0, "an explanation below 0"
        assert explanation.map.max() <= 1, "an explanation above 1"
    # evidence against one label is evidence for the other
    flat = [all(of_image) for of_image in zip(*(one.flat for one in explanations), strict=True)]
    assert not any(flat), "an ordinary image's explanation is flagged as carrying nothing, whatever the label"


def _check_half_precision(plugin: Explainer, model: Callable[..., MammoSwinForImageClassification]) -> None:
    pixels = _pixels(2, 1, SIZES[0])
    full = _maps(plugin, model(), pixels, [1, 0]).float()
    half = _maps(plugin, model().bfloat16(), pixels.bfloat16(), [1, 0]).float()
    assert torch.isfinite(half).all(), "in bfloat16 a map holds NaN or infinite values"
    alike = float(torch.corrcoef(torch.stack([full.flatten(), half.flatten()]))[0, 1])
    assert alike > 0.5, f"in bfloat16 the maps differ (their correlation with float32's is {alike:.2f})"


def _check_memory(plugin: Explainer, model: MammoSwinForImageClassification) -> None:
    """Compare the number of tensors after further calls with that after a first one, which may fill caches."""
    pixels, held = _pixels(1, 1, SIZES[0]), []
    for _ in range(3):
        _maps(plugin, model, pixels, [0])
        gc.collect()
        held.append(sum(type(thing) is torch.Tensor for thing in gc.get_objects()))
    assert held[2] <= held[1], f"each call leaves {held[2] - held[1]} tensors in memory"


def _check_model_unchanged(plugin: Explainer, model: MammoSwinForImageClassification) -> None:
    """Explain a model whose parts are in different modes, as in the middle of training with a frozen layer."""
    model.train()
    model.swin.eval()
    model.classifier.weight.requires_grad_(False)
    model.classifier.bias.grad = torch.ones_like(model.classifier.bias)
    before = _state(model)
    plugin.explain_map(model, _pixels(1, 1, SIZES[0]), [0])
    for what, value in _state(model).items():
        assert _same(value, before[what]), f"the model came back with changed {what}"


def _state(model: MammoSwinForImageClassification) -> dict[str, Any]:
    parameters = list(model.parameters())
    return {
        "weights": [value.detach().clone() for value in model.state_dict().values()],
        "gradients": [None if p.grad is None else p.grad.clone() for p in parameters],
        "requires_grad": [parameter.requires_grad for parameter in parameters],
        "modes": [module.training for module in model.modules()],
        "hooks": [_hooks(module) for module in model.modules()],
        "attention implementation": [
            module.config._attn_implementation for module in model.modules() if hasattr(module, "config")
        ],
        "windows": [(m.window_size, m.shift_size) for m in model.modules() if hasattr(m, "shift_size")],
        "random state of torch": torch.get_rng_state(),
        "random state of numpy": list(np.random.get_state()[1:3]),
        "random state of Python": random.getstate(),
    }


def _same(one: Any, other: Any) -> bool:
    if isinstance(one, list):
        return len(one) == len(other) and all(_same(*pair) for pair in zip(one, other, strict=True))
    if isinstance(one, torch.Tensor):
        return isinstance(other, torch.Tensor) and torch.equal(one, other)
    return bool(np.array_equal(one, other)) if isinstance(one, np.ndarray) else one == other


def _hooks(module: torch.nn.Module) -> int:
    """Count the hooks, without those that transformers leaves in a model whose attention it has returned once."""
    tables = (module._forward_hooks, module._forward_pre_hooks, module._backward_hooks, module._backward_pre_hooks)
    hooks = [hook for table in tables for hook in table.values()]
    return sum(not str(getattr(hook, "__module__", "")).startswith("transformers.") for hook in hooks)
