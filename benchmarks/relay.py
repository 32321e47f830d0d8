"""Training loops that take turns, step by step, so that what else the machine does meets all of them alike."""

from __future__ import annotations

import statistics
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import torch
from transformers import Trainer, TrainerCallback, TrainingArguments

WARM = 2  # steps that are not counted

Seconds = tuple[float, float]  # CPU time, and the clock's; on a GPU twice the clock's
Loop = Callable[[Callable[[], None]], None]  # called with what it must call after each of its steps


def now() -> tuple[float, float]:
    if torch.cuda.is_available():
        torch.cuda.synchronize()
        return (time.perf_counter(),) * 2
    return time.process_time(), time.perf_counter()


class Relay:
    """Lets one of several loops run at a time: each does a step, hands on, and waits until it is its turn again."""

    def __init__(self, loops: list[Loop]) -> None:
        self.loops = loops
        self.taken: list[list[Seconds]] = [[] for _ in loops]
        self._turns = [threading.Semaphore(0) for _ in loops]

    def run(self) -> list[list[Seconds]]:
        """Return the time of each loop's steps, fetching the batch included."""
        with ThreadPoolExecutor(len(self.loops)) as pool:
            ended = [pool.submit(self._one, place) for place in range(len(self.loops))]
            self._turns[0].release()
            for one in ended:
                one.result()
        return self.taken

    def _one(self, place: int) -> None:
        mine, others = self._turns[place], self._turns[(place + 1) % len(self._turns)]
        mine.acquire()
        since = now()

        def step_ended() -> None:
            nonlocal since
            ended = now()
            self.taken[place].append((ended[0] - since[0], ended[1] - since[1]))
            others.release()
            mine.acquire()
            since = now()

        try:
            self.loops[place](step_ended)
        finally:
            others.release()


class StepEnded(TrainerCallback):
    """Tells at each step's end."""

    def __init__(self, tell: Callable[[], None]) -> None:
        self.tell = tell

    def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        self.tell()


def training(kind: type[Trainer], network: Any, settings: TrainingArguments, images: Any, **more: Any) -> Loop:
    """Return a trainer's loop, for `Relay`."""

    def run(step_ended: Callable[[], None]) -> None:
        kind(network, settings, train_dataset=images, callbacks=[StepEnded(step_ended)], **more).train()

    return run


def bare_steps(network: Any, settings: TrainingArguments, batch: dict[str, Any]) -> Loop:
    """As many steps of the model alone on one batch, for `Relay`."""

    def run(step_ended: Callable[[], None]) -> None:
        network.train()
        optimizer = torch.optim.AdamW(network.parameters(), lr=settings.learning_rate, fused=True)
        for _ in range(settings.max_steps):
            network(**batch).loss.backward()
            torch.nn.utils.clip_grad_norm_(network.parameters(), settings.max_grad_norm)
            optimizer.step()
            optimizer.zero_grad()
            step_ended()

    return run


def loop_settings(folder: Path, steps: int, batch_size: int, device: str, **more: Any) -> TrainingArguments:
    """Of a Trainer that does nothing but train."""
    return TrainingArguments(
        str(folder / "trainer"),
        max_steps=steps,
        per_device_train_batch_size=batch_size,
        report_to="none",
        disable_tqdm=True,
        save_strategy="no",
        logging_strategy="no",
        remove_unused_columns=False,
        dataloader_pin_memory=device == "cuda",
        use_cpu=device == "cpu",
        **more,
    )


def ratio(over: list[Seconds], under: list[Seconds], kind: int = 0) -> str:
    """Return the median over the rounds, and its quartiles: CPU time (0) or the clock's (1)."""
    pairs = zip(over[WARM:], under[WARM:], strict=True)
    low, middle, high = statistics.quantiles(one[kind] / other[kind] for one, other in pairs)
    return f"{100 * middle:.1f} % ({100 * low:.1f} to {100 * high:.1f})"
