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
from pathlib import Path
from typing import Any

import torch
from bench_mim import print_table
from relay import WARM, Relay, bare_steps, loop_settings, ratio, training
from torch.utils.data import Dataset
from transformers import SwinForImageClassification, Trainer

from mammo_hf import MammoImageProcessor, MammoSwinForImageClassification
from mammo_hf.data.augmentation import Augmentation
from mammo_hf.data.loading import load
from mammo_hf.data.torch_datasets import LabelledImages
from mammo_hf.data.training_data import prepared_images
from mammo_hf.models.checkpoint import starting_config
from mammo_hf.phantom.writing import write_phantom
from mammo_hf.training.trainer import ClassificationTrainer

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
        "images a second": f"{batch_size / statistics.median(cpu for cpu, _ in ours[WARM:]):.1f}",
        "of the bare step's": ratio(bare, ours),
        "of stock's": ratio(theirs, ours),
        "from DICOM": ratio(ours, files),
    }


def _network(kind: type[Any], config: Any) -> Any:
    torch.manual_seed(0)
    return kind(config)


def main() -> None:
    """Print the table."""
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
