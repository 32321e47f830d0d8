"""Lends a model to an explainer and takes it back exactly as it was."""

from __future__ import annotations

import random
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import torch
from torch import nn
from transformers import PreTrainedModel

# what a module keeps its hooks in, and beside them which take keyword arguments or always run
_HOOKS = (
    "_forward_hooks",
    "_forward_hooks_with_kwargs",
    "_forward_hooks_always_called",
    "_forward_pre_hooks",
    "_forward_pre_hooks_with_kwargs",
    "_backward_hooks",
    "_backward_pre_hooks",
)


@contextmanager
def lent(model: PreTrainedModel, *, eager: bool = False) -> Iterator[PreTrainedModel]:
    """In evaluation mode and with gradients possible for the time; afterwards all is as before, also on an error.

    Restored: mode of every module, attention implementation, ``requires_grad``, gradients, hooks, window and shift of
    Swin's layers (stock Swin alters them for small images, for good), and the random state.

    Meanwhile no parameter takes gradients, so that a graph starts only where an explainer puts a leaf; and what
    ``module.compile()`` compiled runs uncompiled, because a compiled graph does not see hooks that come later.

    Args:
        model: The model.
        eager: Whether attention weights are wanted: the fused implementations return none.
    """
    parameters = [(parameter, parameter.requires_grad, parameter.grad) for parameter in model.parameters()]
    modes = [(module, module.training) for module in model.modules()]
    windows = [(m, m.window_size, m.shift_size) for m in model.modules() if hasattr(m, "shift_size")]
    hooks = [(table, dict(table)) for module in model.modules() for table in _hook_tables(module)]
    implementation = model.config._attn_implementation
    compiled = [(m, m._compiled_call_impl) for m in model.modules() if getattr(m, "_compiled_call_impl", None)]
    try:
        with _same_random_state(model), torch.inference_mode(False), torch.enable_grad():
            model.eval()
            for module, _ in compiled:
                module._compiled_call_impl = None
            for parameter, _, _ in parameters:
                parameter.requires_grad_(False)
                parameter.grad = None  # what is added in place would otherwise be added to the caller's
            if eager:
                model.set_attn_implementation("eager")
            yield model
    finally:
        if model.config._attn_implementation != implementation:
            model.set_attn_implementation(implementation)
        for module, mode in modes:
            module.training = mode
        for module, call in compiled:
            module._compiled_call_impl = call
        for layer, window, shift in windows:
            layer.window_size, layer.shift_size = window, shift
        for table, before in hooks:
            _restore_hooks(table, before)
        for parameter, required, grad in parameters:
            parameter.requires_grad_(required)
            parameter.grad = grad


def _hook_tables(module: nn.Module) -> list[dict]:
    return [getattr(module, name) for name in _HOOKS if hasattr(module, name)]


def _restore_hooks(table: dict, before: dict) -> None:
    for key in [key for key in table if key not in before]:
        # transformers puts its own hooks in at the first output_attentions, marks the model and counts on them
        if not str(getattr(table[key], "__module__", "")).startswith("transformers."):
            del table[key]
    table.update(before)


@contextmanager
def _same_random_state(model: PreTrainedModel) -> Iterator[None]:
    python, numpy = random.getstate(), np.random.get_state()
    devices = {parameter.device for parameter in model.parameters() if parameter.device.type == "cuda"}
    try:
        with torch.random.fork_rng(devices=devices):
            yield
    finally:
        random.setstate(python)
        np.random.set_state(numpy)
