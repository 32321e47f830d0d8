"""How much of a classifier is trained: its heads, the last stage of the encoder too, or everything."""

from __future__ import annotations

from typing import Any

from torch import nn
from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments
from transformers.models.swin.modeling_swin import SwinDropPath

from ..modeling_mammo_swin import MammoSwinForImageClassification


def freeze(network: MammoSwinForImageClassification, tune: str) -> None:
    """Takes the gradients, and the random depth, of what is not trained.

    Args:
        network: Changed in place.
        tune: "full": nothing is frozen; "last_stage": the heads, the last stage and the norm behind it are trained,
            with the patch merging before it; "head": the heads alone.
    """
    swin = network.swin
    frozen: list[nn.Module] = []
    if tune == "head":
        frozen = [swin]
    elif tune == "last_stage":
        frozen = [swin.embeddings, *swin.encoder.layers[:-1]]
    for module in frozen:
        module.requires_grad_(False)
        for part in module.modules():
            if isinstance(part, SwinDropPath):
                part.drop_prob = 0.0
    if tune == "last_stage" and swin.encoder.layers[-2].downsample is not None:
        # it stands in the stage before, but makes the last one's tokens
        swin.encoder.layers[-2].downsample.requires_grad_(True)


class HeadFirst(TrainerCallback):
    """Leaves the encoder alone for the first updates, while the heads are still random (Kumar et al. 2022, LP-FT).

    Its gradients are dropped rather than its parameters frozen: distributed training fixes what it synchronises before
    the first update.

    Args:
        updates: How many.
    """

    def __init__(self, updates: int) -> None:
        self.updates = updates

    def on_pre_optimizer_step(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        """An optimiser leaves a parameter without a gradient as it is."""
        if state.global_step >= self.updates:
            return
        network = kwargs["model"]
        for parameter in getattr(network, "module", network).swin.parameters():
            parameter.grad = None
