"""The Trainer of stage 1: a loss by pixels, however an update is split up."""

from __future__ import annotations

from typing import Any

import torch

from .swin_trainer import SwinTrainer


class MimTrainer(SwinTrainer):
    """Trains a masked image model."""

    def _get_num_items_in_batch(self, batch_samples: list[Any], device: torch.device) -> Any:
        """The pixels that the loss of one update is taken over, in all micro-batches and processes."""
        if not batch_samples or self.args.n_gpu > 1:
            return None
        network = self.accelerator.unwrap_model(self.model)
        count = torch.zeros((), device=device)
        for batch in batch_samples:
            counted = network.counted_pixels(
                batch["bool_masked_pos"],
                tuple(batch["pixel_values"].shape[-2:]),
                batch.get("content_mask"),
                batch.get("breast_mask"),
            )
            count += counted.sum().to(device)
        # in evaluation each process's batch stands for itself
        if self.args.average_tokens_across_devices and self.args.world_size > 1:
            count = self.accelerator.gather(count[None]).sum()
        return count.clamp(min=1)
