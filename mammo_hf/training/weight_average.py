"""An exponential moving average of a model's weights, kept beside them and in every checkpoint."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from torch import nn
from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments

FILE = "weight_average.safetensors"


class WeightAverage(TrainerCallback):
    """After each step: average = d * average + (1 - d) * weights, with d = min(decay, (1 + step) / (10 + step)).

    So the average reaches back over a tenth of the steps so far and no further, and early weights, which know nothing,
    are soon forgotten.

    Args:
        network: Whose trainable parameters are averaged.
        decay: In (0, 1); 0.999 averages over about a thousand steps, once there have been ten thousand.
    """

    def __init__(self, network: nn.Module, decay: float) -> None:
        self.network = network
        self.decay = decay
        self.average = {name: value.detach().clone() for name, value in self._weights()}

    def _weights(self) -> Iterator[tuple[str, nn.Parameter]]:
        return ((name, value) for name, value in self.network.named_parameters() if value.requires_grad)

    @torch.no_grad()
    def on_step_end(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any) -> None:
        """Takes the new weights in."""
        decay = min(self.decay, (1 + state.global_step) / (10 + state.global_step))
        for name, value in self._weights():
            self.average[name] = self.average[name].to(value.device).lerp_(value, 1 - decay)

    def save(self, folder: str | Path) -> None:
        """Puts the average into a checkpoint that is being written."""
        save_file({name: value.contiguous().cpu() for name, value in self.average.items()}, Path(folder) / FILE)

    def load(self, folder: str | Path) -> None:
        """Takes the average of a checkpoint; where it has none, its weights, which the network must have by now."""
        path = Path(folder) / FILE
        stored = load_file(path) if path.is_file() else dict(self._weights())
        self.average = {name: stored[name].detach().to(value.device).clone() for name, value in self._weights()}

    @contextmanager
    def applied(self) -> Iterator[None]:
        """The network has the averaged weights inside, and its own again afterwards."""
        own = {name: value.detach().clone() for name, value in self._weights()}
        self.apply()
        try:
            yield
        finally:
            self._set(own)

    def apply(self) -> None:
        """Gives the network the averaged weights for good."""
        self._set(self.average)

    @torch.no_grad()
    def _set(self, values: dict[str, torch.Tensor]) -> None:
        for name, parameter in self._weights():
            parameter.copy_(values[name])
