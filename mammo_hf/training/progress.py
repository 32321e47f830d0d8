"""How a run shows itself: the newest loss beside the progress bar, each evaluation on a line of its own."""

from __future__ import annotations

import logging
from typing import Any

from transformers import Trainer, TrainerCallback, TrainerControl, TrainerState, TrainingArguments
from transformers.trainer_callback import PrinterCallback, ProgressCallback

logger = logging.getLogger(__name__)

_TIMING = ("_runtime", "_per_second")
Logs = dict[str, Any]


class ProgressBar(ProgressCallback):
    """Trainer's bar with the newest loss beside it, instead of a printed dictionary every few steps."""

    def on_log(
        self,
        args: TrainingArguments,
        state: TrainerState,
        control: TrainerControl,
        logs: Logs | None = None,
        **kwargs: Any,
    ) -> None:
        """Shows a loss beside the bar, and an evaluation as a line above it."""
        if self.training_bar is None:
            return
        line = _evaluation(logs or {}, state)
        if line:
            self.training_bar.write(line)
        elif logs and "loss" in logs:
            self.training_bar.set_postfix_str(f"loss {float(logs['loss']):.4g}")


class LoggedFigures(TrainerCallback):
    """Where no bar is wanted, as with a log file: the same lines through ``logging``."""

    def on_log(
        self,
        args: TrainingArguments,
        state: TrainerState,
        control: TrainerControl,
        logs: Logs | None = None,
        **kwargs: Any,
    ) -> None:
        """Logs a loss or an evaluation."""
        if not state.is_world_process_zero or not logs:
            return
        line = _evaluation(logs, state)
        if line:
            logger.info("%s", line)
        elif "loss" in logs:
            logger.info("step %d of %d: loss %.4g", state.global_step, state.max_steps, float(logs["loss"]))


def show_progress(trainer: Trainer) -> None:
    """Puts these in the place of Trainer's own; a notebook's table stays."""
    if trainer.pop_callback(ProgressCallback) is not None:
        trainer.add_callback(ProgressBar())
    elif trainer.pop_callback(PrinterCallback) is not None:
        trainer.add_callback(LoggedFigures())


def _evaluation(logs: Logs, state: TrainerState) -> str:
    figures = [
        f"{name.removeprefix('eval_').replace('_', ' ')} {float(value):.4g}"
        for name, value in logs.items()
        if name.startswith("eval_") and not name.endswith(_TIMING)
    ]
    return f"epoch {state.epoch or 0:.4g}: validation {', '.join(figures)}" if figures else ""
