"""Visible tokens alone against all tokens: what is learnt in the same steps, on phantoms, over seeds.

python benchmarks/mim_quality.py --output_dir mim-quality --seeds 0 1 2 --steps 300

Prints a table: masked L1, PSNR and SSIM on validation images, the AUC of probes for breast density on the frozen
features, and CPU seconds; each as the mean over seeds with the smallest and largest. The row of steps 0 is a random
encoder.
"""

from __future__ import annotations

import argparse
import json
import logging
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch

from mammo_hf import MammoImageProcessor, MammoSwinForMaskedImageModeling
from mammo_hf.data.collection import Collection
from mammo_hf.data.torch_datasets import LabelledImages, rows_of
from mammo_hf.data.training_data import open_collection, prepared_images, usable_tasks
from mammo_hf.models.checkpoint import starting_config
from mammo_hf.phantom.writing import write_phantom
from mammo_hf.training.callbacks import Probes
from mammo_hf.training.mim import pretrain

SIZE = (224, 112)
FIGURES = ("masked_l1", "psnr", "ssim", "linear_probe", "knn_probe", "cpu_seconds")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--output_dir", default="mim-quality")
    parser.add_argument("--patients", type=int, default=160, help="four views each")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--steps", type=int, default=300)
    parser.add_argument("--batch_size", type=int, default=16)
    parser.add_argument("--model", default="nano")
    args = parser.parse_args()
    logging.disable(logging.WARNING)
    out = Path(args.output_dir)
    if not (out / "phantom").is_dir():
        write_phantom(out / "phantom", patients=args.patients, seed=0, size=(448, 224), progress=False)
    # one split for all seeds: what varies is the training
    table = open_collection(out / "phantom", validation_fraction=0.3, seed=0)
    tasks = usable_tasks(table, ("density",))
    processor = MammoImageProcessor(size=SIZE)
    prepared = prepared_images(table, processor, out / "prepared", tasks=tasks)
    rows: dict[str, list[dict[str, float]]] = {"random encoder": [], "all tokens": [], "visible tokens": []}
    for seed in args.seeds:
        torch.manual_seed(seed)
        untrained = MammoSwinForMaskedImageModeling(starting_config(args.model, SIZE, num_channels=1))
        rows["random encoder"].append(_probed(untrained, prepared, processor))
        for name, sparse in (("all tokens", False), ("visible tokens", True)):
            rows[name].append(_trained(table, prepared, processor, out / f"{name}-{seed}", seed, sparse, args))
            print(json.dumps({"seed": seed, "encoder": name} | rows[name][-1]), flush=True)
    counts = {split: len(rows_of(prepared, (split,))) for split in ("train", "unlabelled", "validation")}
    print(f"\n{args.model} at {SIZE[0]} x {SIZE[1]}, {counts}, {args.steps} steps of {args.batch_size}\n")
    print(table_of(rows))


def _trained(
    table: Collection,
    prepared: Any,
    processor: MammoImageProcessor,
    folder: Path,
    seed: int,
    sparse: bool,
    args: argparse.Namespace,
) -> dict[str, float]:
    started = time.process_time()
    figures = pretrain(
        table,
        folder / "checkpoint",
        prepared_dir=str(folder.parent / "prepared"),
        image_size=list(SIZE),
        tasks=["density"],
        model=args.model,
        sparse_encoder=sparse,
        max_steps=args.steps,
        per_device_train_batch_size=args.batch_size,
        learning_rate=1e-3,
        seed=seed,
        num_workers=0,
        disable_tqdm=True,
        eval_strategy="no",
        save_strategy="no",
        load_best_model_at_end=False,
        overwrite_output_dir=True,
    ).metrics
    seconds = time.process_time() - started
    network = MammoSwinForMaskedImageModeling.from_pretrained(folder / "checkpoint")
    quality = figures["hidden_inside_the_breast"]
    return {
        "masked_l1": figures["validation_loss"],
        "psnr": quality["psnr"],
        "ssim": quality["ssim"],
        **_probed(network, prepared, processor),
        "cpu_seconds": seconds,
    }


def _probed(
    network: MammoSwinForMaskedImageModeling, prepared: Any, processor: MammoImageProcessor
) -> dict[str, float]:
    train, validation = (
        LabelledImages(prepared.select(rows_of(prepared, (split,))), processor) for split in ("train", "validation")
    )
    # only its figures are wanted: there is no Trainer to log them
    found = Probes(None, network.eval(), train, validation, ["linear", "knn"]).figures()  # type: ignore[arg-type]
    return {f"{kind}_probe": found.get(f"probe_{kind}_auroc", float("nan")) for kind in ("linear", "knn")}


def table_of(rows: dict[str, list[dict[str, float]]]) -> str:
    """Return a Markdown table: for each encoder each figure's mean over seeds, and its range."""
    lines = ["| encoder | " + " | ".join(FIGURES) + " |", "|---" * (len(FIGURES) + 1) + "|"]
    for name, runs in rows.items():
        cells = []
        for figure in FIGURES:
            values = [run[figure] for run in runs if figure in run]
            digits = 1 if figure in ("psnr", "cpu_seconds") else 3
            cells.append(
                f"{np.mean(values):.{digits}f} ({min(values):.{digits}f} to {max(values):.{digits}f})" if values else ""
            )
        lines.append(f"| {name} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


if __name__ == "__main__":
    main()
