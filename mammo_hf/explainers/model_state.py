"""Lends a model to an explainer and hands it back exactly as it was."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from transformers import PreTrainedModel


@contextmanager
def lent(model: PreTrainedModel, *, eager: bool = False) -> Iterator[PreTrainedModel]:
    """In evaluation mode and with gradients on for the time; afterwards everything is as before, also on an error.

    Restored: mode of every module, attention implementation, ``requires_grad``, gradients, hooks, window and shift of
    Swin's layers, and the random state.

    Args:
        model: The model.
        eager: Whether attention weights are wanted: the fused implementations return none.
    """
    modes = {module: module.training for module in model.modules()}
    windows = {m: (m.window_size, m.shift_size) for m in model.modules() if hasattr(m, "shift_size")}
    hooks = {key for module in model.modules() for key in (*module._forward_hooks, *module._forward_pre_hooks)}
    grads = {parameter: (parameter.requires_grad, parameter.grad) for parameter in model.parameters()}
    implementation = model.config._attn_implementation
    random_state = torch.get_rng_state()
    try:
        model.eval()
        model.requires_grad_(False)
        if eager:
            model.set_attn_implementation("eager")
        with torch.enable_grad():
            yield model
    finally:
        if eager:
            model.set_attn_implementation(implementation)
        for module, mode in modes.items():
            module.training = mode
        for module, (window, shift) in windows.items():
            module.window_size, module.shift_size = window, shift
        _remove_new_hooks(model, hooks)
        for parameter, (required, grad) in grads.items():
            parameter.requires_grad_(required)
            parameter.grad = grad
        torch.set_rng_state(random_state)


def _remove_new_hooks(model: PreTrainedModel, before: set[int]) -> None:
    for module in model.modules():
        for table in (module._forward_hooks, module._forward_pre_hooks):
            for key in [key for key in table if key not in before]:
                # transformers records attention through hooks that it puts in once, for good: those stay
                if not str(getattr(table[key], "__module__", "")).startswith("transformers."):
                    del table[key]
