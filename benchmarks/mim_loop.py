"""Images a second of stage 1's whole loop on prepared images, over those of the bare step on a batch that is there."""

from __future__ import annotations

import argparse
import copy
import statistics
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from transformers import TrainerCallback, TrainingArguments

from mammo_hf import MammoImageProcessor, MammoSwinForMaskedImageModeling
from mammo_hf.data import load
from mammo_hf.data.phantom import write_phantom
from mammo_hf.training.augmentation import Augmentation
from mammo_hf.training.collection import prepared_images
from mammo_hf.training.datasets import MaskedImages
from mammo_hf.training.masked_examples import MaskedCollator
from mammo_hf.training.mim import starting_config
from mammo_hf.training.mim_trainer import MimTrainer

# a model with its image size and batch; the first is what the demonstration trains
CASES = (("nano", (224, 112), 16), ("tiny", (224, 224), 4), ("tiny", (448, 224), 4))
WARM = 2  # steps that are not counted


class TakingTurns(TrainerCallback):
    """After each step of the loop does a bare one with a copy of the model, and keeps what both took.

    Both optimise; the bare step has its batch already, packed. What the bare steps take is no part of the loop's time.
    """

    def __init__(self, network: MammoSwinForMaskedImageModeling, batch: dict[str, Any]) -> None:
        self.copy = copy.deepcopy(network).train()
        self.batch = batch
        self.optimizer = torch.optim.AdamW([p for p in self.copy.parameters() if p.requires_grad], lr=1e-4)
        self.loop: list[tuple[float, float]] = []
        self.bare: list[tuple[float, float]] = []
        self._since = now()

    def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        ended = now()
        self.optimizer.zero_grad()
        self.copy(**self.batch).loss.backward()
        torch.nn.utils.clip_grad_norm_(self.copy.parameters(), args.max_grad_norm)
        self.optimizer.step()
        self.loop.append((ended[0] - self._since[0], ended[1] - self._since[1]))
        self._since = now()
        self.bare.append((self._since[0] - ended[0], self._since[1] - ended[1]))

    def medians(self, kind: int) -> tuple[float, float]:
        """Seconds of a step of the loop and of a bare one: CPU (0) or the clock's (1)."""
        loop, bare = (statistics.median(taken[kind] for taken in steps[WARM:]) for steps in (self.loop, self.bare))
        return loop, bare


def now() -> tuple[float, float]:
    if torch.cuda.is_available():
        torch.cuda.synchronize()
        return (time.perf_counter(),) * 2
    return time.process_time(), time.perf_counter()


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


def compare_loop(args: argparse.Namespace, device: str) -> Iterator[dict[str, Any]]:
    """A row for each case, without worker processes: what the loop takes more is then in the same thread."""
    with tempfile.TemporaryDirectory() as folder:
        write_phantom(Path(folder) / "phantom", patients=16, seed=0, size=(896, 448), progress=False)
        for model, size, batch_size in CASES:
            yield _measured(Path(folder), model, size, batch_size, device)


def _measured(folder: Path, model: str, size: tuple[int, int], batch_size: int, device: str) -> dict[str, Any]:
    processor = MammoImageProcessor(size=size)
    table = load(folder / "phantom")
    prepared = prepared_images(table, processor, folder / f"{size[0]}x{size[1]}", tasks=table.tasks)
    images = MaskedImages(prepared, processor, augmentation=Augmentation(), masking=processor.masking(), fresh=True)
    torch.manual_seed(0)
    network = MammoSwinForMaskedImageModeling(starting_config(model, size, num_channels=1)).to(device)
    collator = MaskedCollator(network.config)
    batch = {name: value.to(device) for name, value in collator([images[index] for index in range(batch_size)]).items()}
    turns = TakingTurns(network, batch)
    settings = loop_settings(folder, WARM + 12, batch_size, device)
    MimTrainer(network, settings, train_dataset=images, data_collator=collator, callbacks=[turns]).train()
    started = now()[0]
    for first in range(8):
        collator([images[first + index] for index in range(batch_size)])
    reading = (now()[0] - started) / 8
    (loop, bare), (loop_wall, bare_wall) = turns.medians(0), turns.medians(1)
    return {
        "model": model,
        "size": f"{size[0]} x {size[1]}",
        "batch": batch_size,
        "images a second": f"{batch_size / loop_wall:.1f}",
        "of the bare step's, CPU time": f"{100 * bare / loop:.1f} %",
        "by the clock": f"{100 * bare_wall / loop_wall:.1f} %",
        "reading, masking and packing": f"{100 * reading / loop:.1f} % of the loop",
    }
