"""The Trainer of stage 1: a loss by pixels however an update is split up, and a stop where the loss breaks."""

from __future__ import annotations

from typing import Any

import torch

from ..errors import MammoError
from .layer_decay import parameter_groups
from .running import SwinTrainer, last_whole_checkpoint
from .weight_average import WeightAverage


class Diverged(MammoError):  # noqa: N818 (a state of the run, as Interrupted is)
    """The loss is no longer a number."""


class MimTrainer(SwinTrainer):
    """Trains a masked image model.

    Args:
        layer_decay: Factor of the learning rate from one layer to the one below; 1: all alike.
        average: An average of the weights that evaluation and the best checkpoint use; ``None``: the weights.
    """

    def __init__(
        self, *args: Any, layer_decay: float = 1.0, average: WeightAverage | None = None, **kwargs: Any
    ) -> None:
        super().__init__(*args, **kwargs)
        self.layer_decay = layer_decay
        self.average = average
        if average is not None:
            self.add_callback(average)

    def create_optimizer(self, model: Any = None) -> torch.optim.Optimizer:
        """Trainer's own optimiser, over groups by layer."""
        network = self.model if model is None else model
        if self.optimizer is None:
            kind, options = self.get_optimizer_cls_and_kwargs(self.args, network)
            depths = self.accelerator.unwrap_model(network).config.depths
            groups = parameter_groups(
                network,
                depths,
                learning_rate=self.args.learning_rate,
                weight_decay=self.args.weight_decay,
                layer_decay=self.layer_decay,
            )
            self.optimizer = kind(groups, **options)
        return self.optimizer

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

    def training_step(self, *args: Any, **kwargs: Any) -> torch.Tensor:
        """One micro-batch.

        Raises:
            Diverged: Its loss is not finite; the last checkpoint was written before.
        """
        loss = super().training_step(*args, **kwargs)
        if not torch.isfinite(loss):
            raise self._diverged(f"the loss became {float(loss)} at step {self.state.global_step + 1}")
        return loss

    def _diverged(self, problem: str) -> Diverged:
        last = last_whole_checkpoint(str(self.args.output_dir))
        remedy = f"the last good checkpoint is {last or 'none yet'}: resume with a smaller learning rate"
        return Diverged(problem, source=self.args.output_dir, remedy=remedy)

    def evaluate(self, *args: Any, **kwargs: Any) -> dict[str, float]:
        """Trainer's evaluation, with the averaged weights where there are some."""
        if self.average is None:
            return super().evaluate(*args, **kwargs)
        with self.average.applied():
            return super().evaluate(*args, **kwargs)

    def save_model(self, output_dir: str | None = None, _internal_call: bool = False) -> None:
        """Trainer's own, and the average beside the weights of a checkpoint.

        Raises:
            Diverged: The weights are not finite, though the loss still was; no checkpoint is made of them.
        """
        if _internal_call and not all(torch.isfinite(weights).all() for weights in self.model.parameters()):
            raise self._diverged(f"the weights are no longer finite after step {self.state.global_step}")
        super().save_model(output_dir, _internal_call)
        # here, and not when the checkpoint is whole: a kill in between would leave a whole one without its average
        if self.average is not None and _internal_call and self.args.should_save:
            self.average.save(str(output_dir))

    def _load_from_checkpoint(self, resume_from_checkpoint: str, model: Any = None) -> None:
        super()._load_from_checkpoint(resume_from_checkpoint, model)
        if self.average is not None:
            self.average.load(resume_from_checkpoint)
