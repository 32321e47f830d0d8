"""Running a Trainer: interrupts that leave a checkpoint, and the facts of a run."""

from __future__ import annotations

import json
import logging
import os
import re
import shutil
import signal
from collections import defaultdict
from pathlib import Path
from types import FrameType
from typing import Any

import torch
from torch import nn
from torch.utils.data import DataLoader
from transformers import Trainer, TrainerCallback, TrainerControl, TrainerState, TrainingArguments
from transformers.trainer_utils import IntervalStrategy, get_last_checkpoint

from ..data.torch_datasets import StreamedMaskedImages, StreamLoader
from ..errors import MammoError, UsageError
from ..models.checkpoint import load_model
from ..models.losses import loss_counts
from .callbacks import WeightAverage, show_progress

logger = logging.getLogger(__name__)


class Interrupted(MammoError):  # noqa: N818 (a state of the run, not a fault)
    """The user ended the training; a checkpoint that resumes has been written."""

    exit_status = 130


class SaveOnInterrupt(TrainerCallback):
    """Ctrl-C ends the training after the step in progress and saves a checkpoint; a second one ends it at once."""

    def __init__(self) -> None:
        self.interrupted = False
        self._process = os.getpid()
        self._before: Any = None

    def on_train_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        """Takes the interrupt signal over."""
        try:
            self._before = signal.signal(signal.SIGINT, self._note)
        except ValueError:  # not the main thread, where Python delivers signals
            self._before = None

    def on_step_end(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any) -> None:
        """Asks Trainer to save and stop where an interrupt has come."""
        if self.interrupted:
            control.should_save = True
            control.should_training_stop = True

    def on_train_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        """Gives the signal back."""
        self.release()

    def release(self) -> None:
        """Gives the signal back to whoever had it."""
        if self._before is not None:
            signal.signal(signal.SIGINT, self._before)
            self._before = None

    def _note(self, number: int, frame: FrameType | None) -> None:
        if os.getpid() != self._process:
            return  # a worker that reads images, forked since: it lives on until the main process ends the training
        self.interrupted = True
        self.release()
        logger.warning("interrupted: saving a checkpoint after this step (again: end at once)")


def run(trainer: Trainer, resume: str | bool | None) -> None:
    """Trains, from a checkpoint where asked.

    Args:
        trainer: Ready to train.
        resume: ``None`` or false: from the start; true: from the newest checkpoint of ``output_dir``; or a folder.

    Raises:
        UsageError: There is no checkpoint to resume from.
        Interrupted: Ctrl-C; a checkpoint is there.
    """
    output = str(trainer.args.output_dir)
    resume = checkpoint_to_resume(Path(output), resume)
    show_progress(trainer)
    guard = SaveOnInterrupt()
    trainer.add_callback(guard)
    try:
        trainer.train(resume_from_checkpoint=resume)
    finally:
        guard.release()
    if guard.interrupted:
        raise Interrupted(
            f"interrupted at step {trainer.state.global_step}",
            source=output,
            remedy="the same command with resuming (--resume, or --resume_from_checkpoint true) goes on from there",
        )


def checkpoint_to_resume(output: Path, resume: str | bool | None) -> str | None:
    """The checkpoint that is meant: ``None`` for a new start, the newest one below ``output``, or a folder by name.

    Raises:
        UsageError: It is not there.
    """
    if not resume or str(resume).lower() == "false":
        return None
    folder = str(resume)
    if folder.lower() == "true":
        newest = last_whole_checkpoint(output)
        if newest is None:
            raise UsageError("no checkpoint to resume from", source=output, remedy="start without resuming")
        return newest
    if not (Path(folder) / "trainer_state.json").is_file():
        raise UsageError("is no checkpoint to resume from", source=folder, remedy="give a folder checkpoint-NUMBER")
    return folder


def clear_for_a_new_start(output: Path) -> None:
    """Takes away the checkpoints of an earlier, finished run, which a later resume would mistake for its own.

    Raises:
        UsageError: The earlier run had not come to its end: its checkpoints may be all that is left of it.
    """
    newest = get_last_checkpoint(str(output)) if output.is_dir() else None
    if newest is None:
        return
    try:
        state = json.loads((Path(newest) / "trainer_state.json").read_text(encoding="utf-8"))
        done, planned = int(state["global_step"]), int(state["max_steps"])
    except (OSError, ValueError, KeyError, TypeError):
        done, planned = 0, 1
    if done < planned:
        raise UsageError(
            f"an earlier run was left unfinished here (step {done} of {planned})",
            source=newest,
            remedy="go on with --resume (or --resume_from_checkpoint true), name another --output_dir, or remove it",
        )
    earlier = [folder for folder in output.glob("checkpoint-*") if folder.is_dir()]
    for folder in earlier:
        shutil.rmtree(folder)
    logger.info("removed %d checkpoints of an earlier, finished run from %s", len(earlier), output)


def last_whole_checkpoint(output: str | Path) -> str | None:
    """The newest checkpoint of a folder that was written to its end; one that a kill cut short is not."""
    # Trainer writes its state last
    whole = [path.parent for path in Path(output).glob("checkpoint-*/trainer_state.json") if path.stat().st_size]
    steps = [path for path in whole if path.name.removeprefix("checkpoint-").isdigit()]
    newest = max(steps, key=lambda path: int(path.name.removeprefix("checkpoint-")), default=None)
    return None if newest is None else str(newest)


def without_last_batch_surprise(images: int, batch_size: int, what: str) -> None:
    """Warns where a batch is larger than the set that it is drawn from."""
    if batch_size > images:
        logger.warning("a batch of %d is larger than the %d %s: each batch holds them all", batch_size, images, what)


def without_validation(args: TrainingArguments) -> None:
    """Trains without an evaluation in between where there is no validation image; Trainer would refuse."""
    logger.warning("no image to validate on: the last epoch is kept, whichever was best")
    args.eval_strategy = IntervalStrategy.NO
    args.load_best_model_at_end = False


# Layer-wise learning-rate decay: the nearer to the pixels, the smaller the step (Bao et al. 2022, BEiT, section 3).


def layer_depth(name: str, depths: list[int]) -> int:
    """How far a Swin's parameter is from the pixels.

    Args:
        name: Of the parameter in a model with a ``swin``.
        depths: Blocks of each stage.

    Returns:
        0 for the embeddings, then one more with each block; a patch merging counts to the block before it, everything
        above the encoder one more than the last block.
    """
    if ".embeddings." in f".{name}":
        return 0
    stage = re.search(r"encoder\.layers\.(\d+)\.", name)
    if stage is None:
        return sum(depths) + 1
    before = sum(depths[: int(stage[1])])
    block = re.search(r"\.blocks\.(\d+)\.", name)
    return before + (depths[int(stage[1])] if block is None else 1 + int(block[1]))


def parameter_groups(
    network: nn.Module, depths: list[int], *, learning_rate: float, weight_decay: float, layer_decay: float
) -> list[dict[str, Any]]:
    """Groups for an optimiser: learning rate by depth; no weight decay on biases, norms, tokens and position tables.

    Args:
        network: Its trainable parameters are grouped.
        depths: Blocks of each stage.
        learning_rate: Of what stands above the encoder.
        weight_decay: Of matrices and kernels.
        layer_decay: Factor in (0, 1] from one layer to the one below.
    """
    groups: dict[tuple[int, bool], list[nn.Parameter]] = defaultdict(list)
    for name, parameter in network.named_parameters():
        if parameter.requires_grad:
            spared = parameter.ndim < 2 or name.endswith(("_token", "position_embeddings", "position_bias_table"))
            groups[layer_depth(name, depths), spared].append(parameter)
    top = sum(depths) + 1
    return [
        {
            "params": parameters,
            "lr": learning_rate * layer_decay ** (top - depth),
            "weight_decay": 0.0 if spared else weight_decay,
        }
        for (depth, spared), parameters in sorted(groups.items(), key=lambda item: item[0])
    ]


# The Trainer of both stages: checkpoints read back whole, learning rates by layer, averaged weights, a stop at NaN.


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
        raise UsageError("Trainer's own push is not used", source="push_to_hub", remedy="use mammo_hf.push")

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


# The Trainer of stage 1: a loss by pixels, however an update is split up.


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


# The Trainer of stage 2: losses by labels and tokens, however an update is split up.


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
