"""Images a second of stage 1's whole loop on prepared images, over those of the bare step on a batch that is there."""

from __future__ import annotations

import argparse
import statistics
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from relay import WARM, Relay, bare_steps, loop_settings, now, ratio, training

from mammo_hf import MammoImageProcessor, MammoSwinForMaskedImageModeling
from mammo_hf.data.augmentation import Augmentation
from mammo_hf.data.loading import load
from mammo_hf.data.torch_datasets import MaskedCollator, MaskedImages
from mammo_hf.data.training_data import prepared_images
from mammo_hf.models.checkpoint import starting_config
from mammo_hf.models.configuration_mammo_swin import MammoSwinConfig
from mammo_hf.phantom.writing import write_phantom
from mammo_hf.training.mim import MimTrainer

# a model with its image size and batch; the first is what the demonstration trains
CASES = (("nano", (224, 112), 16), ("tiny", (224, 224), 4), ("tiny", (448, 224), 4))
ROUNDS = 12  # of a step of each


def compare_loop(args: argparse.Namespace, device: str) -> Iterator[dict[str, Any]]:
    """Measure a row for each case, without worker processes: what the loop takes more is then in the same thread."""
    with tempfile.TemporaryDirectory() as folder:
        write_phantom(Path(folder) / "phantom", patients=16, seed=0, size=(896, 448), progress=False)
        for model, size, batch_size in CASES:
            yield _measured(Path(folder), model, size, batch_size, device)


def _measured(folder: Path, model: str, size: tuple[int, int], batch_size: int, device: str) -> dict[str, Any]:
    processor = MammoImageProcessor(size=size)
    table = load(folder / "phantom")
    prepared = prepared_images(table, processor, folder / f"{size[0]}x{size[1]}", tasks=table.tasks)
    images = MaskedImages(prepared, processor, augmentation=Augmentation(), masking=processor.masking(), fresh=True)
    config = starting_config(model, size, num_channels=1)
    collator = MaskedCollator(config)
    batch = {name: value.to(device) for name, value in collator([images[index] for index in range(batch_size)]).items()}
    settings = loop_settings(folder, WARM + ROUNDS, batch_size, device)
    bare, loop = Relay(
        [
            bare_steps(_network(config).to(device), settings, batch),
            training(MimTrainer, _network(config), settings, images, data_collator=collator),
        ]
    ).run()
    started = now()[0]
    for first in range(8):
        collator([images[first + index] for index in range(batch_size)])
    reading = (now()[0] - started) / 8
    cpu, clock = (statistics.median(taken[kind] for taken in loop[WARM:]) for kind in (0, 1))
    return {
        "model": model,
        "size": f"{size[0]} x {size[1]}",
        "batch": batch_size,
        "images a second": f"{batch_size / clock:.1f}",
        "of the bare step's, CPU time": ratio(bare, loop),
        "by the clock": ratio(bare, loop, kind=1),
        "reading, masking and packing": f"{100 * reading / cpu:.1f} % of the loop",
    }


def _network(config: MammoSwinConfig) -> MammoSwinForMaskedImageModeling:
    torch.manual_seed(0)
    return MammoSwinForMaskedImageModeling(config)
