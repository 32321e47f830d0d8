"""What the author of a plugin tests against."""

from __future__ import annotations

from types import ModuleType

import torch

from .configuration_mammo_swin import MammoSwinConfig
from .modeling_mammo_swin import MammoSwinForImageClassification

TASKS = [{"name": "pathology", "labels": ["benign", "malignant"]}, {"name": "density", "labels": ["a", "b", "c"]}]


def tiny_classifier(num_channels: int = 1, seed: int = 0) -> MammoSwinForImageClassification:
    """A classifier of a few thousand parameters for rectangles of 112 x 56, with a shifted block in its first stage.

    Its weights are drawn larger than for training, so that attention and gradients differ from place to place.
    """
    config = MammoSwinConfig(
        embed_dim=8,
        depths=[2, 2],
        num_heads=[1, 2],
        image_size=(112, 56),
        num_channels=num_channels,
        tasks=TASKS,
        drop_path_rate=0.0,
    )
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        model = MammoSwinForImageClassification(config)
        with torch.no_grad():
            for parameter in model.parameters():
                parameter.add_(0.2 * torch.randn_like(parameter))
    return model.eval()


def check_explainer(explainer: ModuleType, *, depends_on_target: bool = True) -> None:
    """Checks that an explainer keeps the contract, on a tiny model.

    Args:
        explainer: A module with ``REQUIRES``, ``available()`` and ``explain_map(model, pixel_values, target)``.
        depends_on_target: Whether another label must give another map; attention, for one, does not.

    Raises:
        AssertionError: It does not; the text says which part.
    """
    assert isinstance(explainer.REQUIRES, tuple), "REQUIRES is a tuple of package names"
    assert explainer.available(), f"available() is false: it needs {', '.join(explainer.REQUIRES)}"
    for channels in (1, 3):
        _check_maps(explainer, channels, depends_on_target)
    _check_model_unchanged(explainer)


def _check_maps(explainer: ModuleType, channels: int, depends_on_target: bool) -> None:
    model = tiny_classifier(channels)
    pixels = torch.randn(2, channels, 112, 56, generator=torch.Generator().manual_seed(1))
    maps = explainer.explain_map(model, pixels, [1, 0])
    assert isinstance(maps, torch.Tensor), "explain_map returns a tensor"
    assert maps.ndim == 3, f"a map is (batch, rows, columns), not {tuple(maps.shape)}"
    assert len(maps) == 2, f"{len(maps)} maps for 2 images"
    assert torch.isfinite(maps).all(), "a map holds NaN or infinite values"
    assert maps[0].float().std() > 0, "a map of an ordinary image is the same everywhere"
    again = explainer.explain_map(model, pixels, [1, 0])
    assert torch.equal(maps, again), "the same call gave another map"
    for index, target in enumerate([1, 0]):
        alone = explainer.explain_map(model, pixels[index : index + 1], [target])
        assert torch.allclose(alone[0], maps[index], rtol=1e-3, atol=1e-6), "a batch differs from its images one by one"
    if depends_on_target:
        other = explainer.explain_map(model, pixels, [3, 4])
        assert not torch.allclose(maps, other), "another target gave the same map"


def _check_model_unchanged(explainer: ModuleType) -> None:
    model = tiny_classifier()
    model.train()
    model.swin.eval()
    model.classifier.weight.requires_grad_(False)
    model.classifier.bias.grad = torch.ones_like(model.classifier.bias)
    before = _state(model)
    explainer.explain_map(model, torch.randn(1, 1, 112, 56, generator=torch.Generator().manual_seed(1)), [0])
    for what, value in _state(model).items():
        assert value == before[what], f"the model came back with other {what}"


def _state(model: MammoSwinForImageClassification) -> dict[str, object]:
    return {
        "weights": [float(parameter.detach().double().sum()) for parameter in model.parameters()],
        "gradients": [None if p.grad is None else float(p.grad.double().sum()) for p in model.parameters()],
        "requires_grad": [parameter.requires_grad for parameter in model.parameters()],
        "mode": [module.training for module in model.modules()],
        "hooks": [_foreign_hooks(module) for module in model.modules()],
        "attention implementation": model.config._attn_implementation,
        "windows": [(m.window_size, m.shift_size) for m in model.modules() if hasattr(m, "shift_size")],
        "random state": torch.get_rng_state().tolist(),
    }


def _foreign_hooks(module: torch.nn.Module) -> int:
    """Hooks that are not transformers' own, which it leaves in a model whose attention was asked for once."""
    hooks = (*module._forward_hooks.values(), *module._forward_pre_hooks.values())
    return sum(not str(getattr(hook, "__module__", "")).startswith("transformers.") for hook in hooks)
