"""The Trainer of both stages: checkpoints read back whole, learning rates by layer, averaged weights, a stop at NaN."""

from __future__ import annotations

from typing import Any

import torch
from torch.utils.data import DataLoader
from transformers import Trainer

from ..errors import MammoError, UsageError
from .layer_decay import parameter_groups
from .loading import load_model
from .running import last_whole_checkpoint
from .streaming import StreamedMaskedImages, StreamLoader
from .weight_average import WeightAverage


class Diverged(MammoError):  # noqa: N818 (a state of the run, as Interrupted is)
    """The loss is no longer a number."""


class SwinTrainer(Trainer):
    """Trains a Swin, and reads its own checkpoints of one back whole.

    transformers 5 saves a Swin under the names of its published checkpoints, which differ from the module's, and its
    Trainer loads a checkpoint by the module's: the encoder would silently keep the weights it has, both when the best
    epoch is loaded and after a resume. ``from_pretrained`` knows both names.

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

    def init_hf_repo(self, *args: Any, **kwargs: Any) -> None:
        """Refuses Trainer's own push, which takes every file of its folder along, and with them this machine's paths.

        Raises:
            UsageError: Always.
        """
        raise UsageError(
            "Trainer's own push is not used", source="push_to_hub", remedy="mammo_hf.publish.hub.push_to_hub is"
        )

    def get_train_dataloader(self) -> DataLoader:
        """Trainer's own; for a stream, which divides itself among the processes, one that does not divide it again."""
        if not isinstance(self.train_dataset, StreamedMaskedImages):
            return super().get_train_dataloader()
        return StreamLoader(
            self.train_dataset,
            batch_size=self._train_batch_size,
            collate_fn=self.data_collator,
            num_workers=self.args.dataloader_num_workers,
            pin_memory=self.args.dataloader_pin_memory,
            persistent_workers=self.args.dataloader_persistent_workers,
        )

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
        if self.is_deepspeed_enabled or self.is_fsdp_enabled:
            super()._load_from_checkpoint(resume_from_checkpoint, model)
        else:
            target = self.accelerator.unwrap_model(self.model if model is None else model)
            stored = load_model(type(target), resume_from_checkpoint, config=target.config)
            target.load_state_dict(stored.state_dict())
        if self.average is not None:
            self.average.load(resume_from_checkpoint)

    def _load_best_model(self) -> None:
        if self.is_deepspeed_enabled or self.is_fsdp_enabled:
            super()._load_best_model()
            return
        self._load_from_checkpoint(str(self.state.best_model_checkpoint))
