"""Images a second of stage 2's training loop, against the bare model and against stock Swin under Trainer.

python benchmarks/bench_classification.py
python benchmarks/bench_classification.py --cases nano --rounds 40

For each case, three ratios of images a second:

- of the bare step: our loop on prepared images, with augmentation, against forward, backward, clipping and AdamW of the
  same model on a batch that is in memory.
- of stock: our loop against transformers' own ``SwinForImageClassification`` under ``Trainer``, on the same images as
  tensors in memory and without augmentation, which is the most that a loop can be given.
- from DICOM: our loop where each image is read from its file and cut out anew, over our loop on prepared images.

The loops take turns, step by step, so that what else the machine does meets all of them alike; a ratio is the median
over the rounds, in brackets its quartiles.

No worker processes: what reading takes is then in the same thread. CPU time; on a GPU the clock's.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import torch
from bench_mim import print_table
from mim_loop import WARM, loop_settings, now
from torch.utils.data import Dataset
from transformers import SwinForImageClassification, Trainer, TrainerCallback, TrainingArguments

from mammo_hf import MammoImageProcessor, MammoSwinForImageClassification
from mammo_hf.data import load
from mammo_hf.data.phantom import write_phantom
from mammo_hf.training.augmentation import Augmentation
from mammo_hf.training.classification_trainer import ClassificationTrainer
from mammo_hf.training.collection import prepared_images
from mammo_hf.training.datasets import LabelledImages
from mammo_hf.training.mim import starting_config

# a size of the model, its image size and batch
CASES = {"nano": ((224, 112), 8), "tiny": ((224, 224), 4), "tiny-448": ((448, 224), 4)}


class FromFiles(Dataset[dict[str, torch.Tensor]]):
    """The images of a table, each read from its file whenever it is asked for."""

    def __init__(self, table: Any, processor: MammoImageProcessor, labels: list[list[int]]) -> None:
        self.paths, self.processor, self.labels = table.column("path"), processor, labels

    def __len__(self) -> int:
        return len(self.paths)

    def __getitem__(self, index: int) -> dict[str, torch.Tensor]:
        pixels = self.processor(self.paths[index], return_tensors="pt")["pixel_values"][0]
        return {"pixel_values": pixels, "labels": torch.tensor(self.labels[index])}


class Relay:
    """Lets one of several loops run at a time: each does a step, hands on, and waits until it is its turn again."""

    def __init__(self, loops: list[Callable[[Callable[[], None]], Any]]) -> None:
        self.loops = loops
        self.taken: list[list[float]] = [[] for _ in loops]
        self._turns = [threading.Semaphore(0) for _ in loops]

    def run(self) -> list[list[float]]:
        """The seconds of each loop's steps, fetching the batch included: CPU time, on a GPU the clock's."""
        with ThreadPoolExecutor(len(self.loops)) as pool:
            ended = [pool.submit(self._one, place) for place in range(len(self.loops))]
            self._turns[0].release()
            for one in ended:
                one.result()
        return self.taken

    def _one(self, place: int) -> None:
        mine, others = self._turns[place], self._turns[(place + 1) % len(self._turns)]
        mine.acquire()
        since = now()[0]

        def step_ended() -> None:
            nonlocal since
            self.taken[place].append(now()[0] - since)
            others.release()
            mine.acquire()
            since = now()[0]

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


def training(
    kind: type[Trainer], network: Any, settings: TrainingArguments, images: Any
) -> Callable[[Callable[[], None]], Any]:
    """A trainer's loop, for `Relay`."""
    return lambda step_ended: kind(network, settings, train_dataset=images, callbacks=[StepEnded(step_ended)]).train()


def bare_steps(
    network: Any, settings: TrainingArguments, batch: dict[str, torch.Tensor]
) -> Callable[[Callable[[], None]], Any]:
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


def measured(folder: Path, name: str, rounds: int, device: str) -> dict[str, Any]:
    """One case's row."""
    (size, batch_size), model = CASES[name], name.split("-")[0]
    processor, table = MammoImageProcessor(size=size), load(folder / "phantom")
    table = table.where(lambda row: row["pathology"] is not None)
    prepared = prepared_images(table, processor, folder / name, tasks=table.tasks[:1])
    images = LabelledImages(prepared, processor, augmentation=Augmentation())
    still = LabelledImages(prepared, processor)
    in_memory = [{**still[index], "labels": still[index]["labels"][0]} for index in range(len(still))]
    from_files = FromFiles(table, processor, prepared["labels"])
    settings = loop_settings(folder, WARM + rounds, batch_size, device, label_names=["labels"])
    config = starting_config(model, size, num_channels=1, tasks=table.tasks[:1])
    batch = {name: torch.stack([images[i][name] for i in range(batch_size)]).to(device) for name in images[0]}
    bare, ours, theirs, files = Relay(
        [
            bare_steps(_network(MammoSwinForImageClassification, config).to(device), settings, batch),
            training(ClassificationTrainer, _network(MammoSwinForImageClassification, config), settings, images),
            training(Trainer, _network(SwinForImageClassification, config), settings, in_memory),
            training(ClassificationTrainer, _network(MammoSwinForImageClassification, config), settings, from_files),
        ]
    ).run()
    return {
        "model": model,
        "size": f"{size[0]} x {size[1]}",
        "batch": batch_size,
        "images a second": f"{batch_size / statistics.median(ours[WARM:]):.1f}",
        "of the bare step's": _ratio(bare, ours),
        "of stock's": _ratio(theirs, ours),
        "from DICOM": _ratio(ours, files),
    }


def _network(kind: type[Any], config: Any) -> Any:
    torch.manual_seed(0)
    return kind(config)


def _ratio(over: list[float], under: list[float]) -> str:
    """The median over the rounds, and its quartiles."""
    low, middle, high = statistics.quantiles(one / other for one, other in zip(over[WARM:], under[WARM:], strict=True))
    return f"{100 * middle:.1f} % ({100 * low:.1f} to {100 * high:.1f})"


def main() -> None:
    """Prints the table."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--cases", nargs="+", choices=list(CASES), default=list(CASES))
    parser.add_argument("--rounds", type=int, default=24, help="of a step of each loop (default %(default)s)")
    args = parser.parse_args()
    device = "cuda" if torch.cuda.is_available() else "cpu"
    print(f"torch {torch.__version__} on {device}, {torch.get_num_threads()} threads")
    with tempfile.TemporaryDirectory() as folder:
        write_phantom(Path(folder) / "phantom", patients=24, seed=0, size=(1792, 896), progress=False)
        rows = (measured(Path(folder), name, args.rounds, device) for name in args.cases)
        print_table(rows, "Stage 2's loop on prepared images: its images a second")


if __name__ == "__main__":
    main()
