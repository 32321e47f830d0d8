"""What the other benchmarks compare with stock transformers, on a GPU in under six minutes, in one table.

python benchmarks/gpu.py --output gpu.md
python benchmarks/gpu.py --only mim explain
python benchmarks/gpu.py --model nano --image_size 224 112 --batch_size 2 --rounds 1 --images 24 --frame 512 256   a try

Ratios of time by the clock on a GPU, of processor time on a CPU, medians over turns in which both sides do a step:

- mim: forward and backward of stock Swin over the sparse encoder's (`mim_steps.py`), on squares, which stock takes.
- classification: images per second of our training loop over those of the bare step and of stock under Trainer
  (`bench_classification.py`).
- predict: images per second from DICOM over a loop of the stock pipeline over PNGs (`bench_predict.py`).
- explain: time of `explain` over a forward pass (`bench_explain.py`).

With bfloat16 (`--bf16`) mim runs under autocast. Weights are random: they cost what trained ones do.
"""

from __future__ import annotations

import argparse
import os
import platform
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import bench_classification
import bench_explain
import bench_predict
import torch
from mim_steps import compare_steps

from mammo_hf import MammoImageProcessor, MammoSwinConfig, MammoSwinForImageClassification
from mammo_hf.explainers import explain
from mammo_hf.models.configuration_mammo_swin import SIZES
from mammo_hf.phantom.writing import write_phantom

Row = tuple[str, str, str, str]  # part, what is compared, ratio, and what else is known
EXPLAINERS = ("grad_cam", "attention", "legrad")


def mim(args: argparse.Namespace, device: str, folder: Path) -> Iterator[Row]:
    given = {"sizes": [(args.image_size[1],) * 2], "models": [args.model], "ratios": [0.5, 0.75], "pairs": args.rounds}
    settings = argparse.Namespace(**given, batch_size=args.batch_size, bf16=args.bf16)
    for row in compare_steps(settings, device):
        ratio = row["by the clock"] if device == "cuda" else row["speed-up, CPU time"]
        what = f"{row['model']}, {row['size']}, {row['encoder']} against {row['against']}"
        yield "mim", what, ratio, f"peak of memory {row['peak']} of {row['peak of the peer, MB']} MB"


def classification(args: argparse.Namespace, device: str, folder: Path) -> Iterator[Row]:
    name = f"{args.model}-gpu"
    bench_classification.CASES[name] = (tuple(args.image_size), args.batch_size)
    patients = max(8, args.batch_size)
    write_phantom(folder / "phantom", patients=patients, seed=0, size=tuple(args.image_size), progress=False)
    row = bench_classification.measured(folder, name, 4 * args.rounds, device)
    what = f"{args.model}, {row['size']}, batch {row['batch']}, against"
    for peer in ("the bare step", "stock"):
        percent = float(row[f"of {peer}'s"].split()[0])
        yield "classification", f"{what} {peer}", f"{percent / 100:.2f}", f"{row['images a second']} images per second"


def predict(args: argparse.Namespace, device: str, folder: Path) -> Iterator[Row]:
    size = list(args.image_size)
    model, processor = classifier(args).to(device), MammoImageProcessor(size=tuple(size))
    files = bench_predict.drawn(folder, args.images, tuple(args.frame))
    pictures = bench_predict.ready_made(processor, files, folder)
    peer = bench_predict.stock_pipeline(SIZES[args.model] | {"image_size": tuple(size)}, size, device)
    ratio = bench_predict.against_stock("", model, processor, files, folder, peer, pictures, min(args.rounds, 3))
    cores = len(os.sched_getaffinity(0))
    yield (
        "predict",
        f"{args.model}, {size[0]} x {size[1]}, from DICOM against PNGs",
        f"{ratio:.2f}",
        f"{cores} cores read",
    )


def explaining(args: argparse.Namespace, device: str, folder: Path) -> Iterator[Row]:
    model = classifier(args).to(device)
    pixels = torch.randn(args.batch_size, 1, *args.image_size, device=device)

    def forward() -> None:
        with torch.no_grad():
            model(pixels)

    memory = bench_explain.peak(forward, device)
    for name in EXPLAINERS:

        def step(name: str = name) -> None:
            explain(model, pixels, [1] * len(pixels), name)

        ratio = bench_explain.ratio(step, forward, args.rounds, device)["ratio"]
        held = bench_explain.peak(step, device) / memory
        yield "explain", f"{args.model}, {name} against a forward pass", f"{ratio:.2f}", f"peak of memory {held:.2f}"


PARTS: dict[str, Callable[[argparse.Namespace, str, Path], Iterator[Row]]] = {
    "mim": mim,
    "classification": classification,
    "predict": predict,
    "explain": explaining,
}


def classifier(args: argparse.Namespace) -> Any:
    """Return a classifier of random weights."""
    config = MammoSwinConfig(**SIZES[args.model], image_size=tuple(args.image_size), tasks=bench_predict.TASKS)
    return MammoSwinForImageClassification(config).eval()


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--model", choices=list(SIZES), default="tiny")
    parser.add_argument("--image_size", type=int, nargs=2, default=[448, 224])
    parser.add_argument("--batch_size", type=int, default=32)
    parser.add_argument("--rounds", type=int, default=8, help="turns that a median is taken over (default %(default)s)")
    parser.add_argument("--images", type=int, default=256, help="files to predict (default %(default)s)")
    parser.add_argument("--frame", type=int, nargs=2, default=[4096, 3328], help="size of these files' frames")
    parser.add_argument("--bf16", action="store_true", help="autocast masked image modelling to bfloat16")
    parser.add_argument("--only", nargs="+", choices=list(PARTS), default=list(PARTS))
    parser.add_argument("--output", type=Path, help="file to write the table to, too")
    args = parser.parse_args()
    device, started = "cuda" if torch.cuda.is_available() else "cpu", time.perf_counter()
    name = torch.cuda.get_device_name() if device == "cuda" else f"CPU ({platform.machine()}), no GPU is here"
    lines = [f"torch {torch.__version__} on {name}", "", "| part | what | ratio | |", "|---|---|---|---|"]
    for part in args.only:
        with tempfile.TemporaryDirectory() as folder:
            lines += ["| " + " | ".join(row) + " |" for row in PARTS[part](args, device, Path(folder))]
        if device == "cuda":
            torch.cuda.empty_cache()
    lines += ["", f"{time.perf_counter() - started:.0f} seconds in all"]
    print("\n".join(lines), flush=True)
    if args.output:
        args.output.write_text("\n".join(lines) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
