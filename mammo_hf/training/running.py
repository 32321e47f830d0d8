"""Running a Trainer: interrupts that leave a checkpoint, and the facts of a run."""

from __future__ import annotations

import json
import logging
import os
import shutil
import signal
from pathlib import Path
from types import FrameType
from typing import Any

from transformers import Trainer, TrainerCallback, TrainerControl, TrainerState, TrainingArguments
from transformers.trainer_utils import IntervalStrategy, get_last_checkpoint

from ..errors import MammoError, UsageError
from .progress import show_progress

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
