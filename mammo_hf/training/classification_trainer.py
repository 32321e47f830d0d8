"""The Trainer of stage 2: losses by labels and tokens, however an update is split up."""

from __future__ import annotations

from typing import Any

import torch

from ..classification_loss import loss_counts
from .swin_trainer import SwinTrainer


class ClassificationTrainer(SwinTrainer):
    """Trains a classifier of several tasks whose labels are partly unknown."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        # the model leaves this out: a plain Trainer would count the labels of all tasks as one
        self.model_accepts_loss_kwargs = True

    def _get_num_items_in_batch(self, batch_samples: list[Any], device: torch.device) -> Any:
        """What the losses of one update are divided by, over all its micro-batches and processes."""
        if not batch_samples or self.args.n_gpu > 1:
            return None
        counts = torch.stack([loss_counts(batch["labels"], batch.get("lesion_labels")) for batch in batch_samples])
        total = counts.sum(0).to(device)
        if self.args.average_tokens_across_devices and self.args.world_size > 1:
            total = self.accelerator.gather(total[None]).sum(0)
        return total
