"""Running a Trainer: interrupts that leave a checkpoint, and the facts of a run."""

from __future__ import annotations

import logging
import signal
from pathlib import Path
from types import FrameType
from typing import Any

from torch.utils.data import DataLoader
from transformers import Trainer, TrainerCallback, TrainerControl, TrainerState, TrainingArguments
from transformers.trainer_utils import get_last_checkpoint

from ..errors import MammoError, UsageError
from .streaming import StreamedMaskedImages, StreamLoader

logger = logging.getLogger(__name__)


class SwinTrainer(Trainer):
    """A Trainer that reads its own checkpoints of a Swin back whole.

    transformers 5 saves a Swin under the names of its published checkpoints, which differ from the module's, and its
    Trainer loads a checkpoint by the module's: the encoder would silently keep the weights it has, both when the best
    epoch is loaded and after a resume. ``from_pretrained`` knows both names.
    """

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

    def _load_from_checkpoint(self, resume_from_checkpoint: str, model: Any = None) -> None:
        if self.is_deepspeed_enabled or self.is_fsdp_enabled:
            super()._load_from_checkpoint(resume_from_checkpoint, model)
            return
        target = self.accelerator.unwrap_model(self.model if model is None else model)
        stored = type(target).from_pretrained(resume_from_checkpoint, config=target.config)
        target.load_state_dict(stored.state_dict())

    def _load_best_model(self) -> None:
        if self.is_deepspeed_enabled or self.is_fsdp_enabled:
            super()._load_best_model()
            return
        self._load_from_checkpoint(str(self.state.best_model_checkpoint))


class Interrupted(MammoError):  # noqa: N818 (a state of the run, not a fault)
    """The user ended the training; a checkpoint that resumes has been written."""

    exit_status = 130


class SaveOnInterrupt(TrainerCallback):
    """Ctrl-C ends the training after the step in progress and saves a checkpoint; a second one ends it at once."""

    def __init__(self) -> None:
        self.interrupted = False
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
    if resume is True or (isinstance(resume, str) and resume.lower() == "true"):
        resume = get_last_checkpoint(output) if Path(output).is_dir() else None
        if resume is None:
            raise UsageError("no checkpoint to resume from", source=output, remedy="start without resuming")
    guard = SaveOnInterrupt()
    trainer.add_callback(guard)
    try:
        trainer.train(resume_from_checkpoint=resume or None)
    finally:
        guard.release()
    if guard.interrupted:
        raise Interrupted(
            f"interrupted at step {trainer.state.global_step}",
            source=output,
            remedy="the same command with resuming (--resume, or --resume_from_checkpoint true) goes on from there",
        )


def without_last_batch_surprise(images: int, batch_size: int, what: str) -> None:
    """Warns where a batch is larger than the set that it is drawn from."""
    if batch_size > images:
        logger.warning("a batch of %d is larger than the %d %s: each batch holds them all", batch_size, images, what)
