"""How a training was run, taken from Trainer while it runs: the card's part that no file of a checkpoint tells."""

from __future__ import annotations

import importlib.metadata
from typing import Any

import torch
from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments

_PACKAGES = ("mammo-hf", "torch", "transformers")


class ModelCardCallback(TrainerCallback):
    """Gathers the facts of a run for its model card.

    Attributes:
        facts: Of the run, once it has ended: nothing in them names a person, a place or a machine.
    """

    def __init__(self) -> None:
        self.facts: dict[str, Any] = {}

    def on_train_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        """Takes what was asked for, and what came of it."""
        batch = args.train_batch_size * args.gradient_accumulation_steps * args.world_size
        self.facts = {
            "updates": state.global_step,
            "epochs": round(float(state.epoch or 0), 2),
            "images_an_update": batch,
            "optimizer": str(getattr(args.optim, "value", args.optim)),
            "learning_rate": args.learning_rate,
            "schedule": str(getattr(args.lr_scheduler_type, "value", args.lr_scheduler_type)),
            "weight_decay": args.weight_decay,
            "precision": "bfloat16" if args.bf16 else "float16" if args.fp16 else "float32",
            "device": _kind_of_device(args),
            "chosen_by": args.metric_for_best_model if args.load_best_model_at_end else None,
            "packages": {name: importlib.metadata.version(name) for name in _PACKAGES},
        }


def _kind_of_device(args: TrainingArguments) -> str:
    device = args.device
    return torch.cuda.get_device_name(device) if device.type == "cuda" else str(device.type)
