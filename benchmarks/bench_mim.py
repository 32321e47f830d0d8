"""Masked image modelling, ours against stock ``SwinForMaskedImageModeling``: all that we claim of it, in one run.

python benchmarks/bench_mim.py
python benchmarks/bench_mim.py --models tiny --sizes 224x224 --pairs 5 --only steps

Three tables, each printed as it is made:

- steps: forward and backward of the sparse encoder against stock Swin, batch 4, both with the linear head, and the peak
  of activation memory. On a square the peer is stock Swin itself, and our dense encoder is measured next to it; on a
  rectangle, which stock Swin cannot reconstruct, the peer is our dense encoder.
- decoders: parameters, multiply-accumulates and time of both, next to a step of the dense encoder.
- loop: images a second of the whole training loop on prepared phantoms, over those of the bare step.

All that is compared takes turns, step by step, and a ratio is the median over the turns. CPU time is what the process
used, wall time what the clock says: on a machine that is busy with other things the first is the fairer. About half an
hour on two cores and 20 GB of memory for the default; --pairs 2 or fewer sizes for less.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterable
from typing import Any

import torch
from mim_decoders import compare_decoders
from mim_loop import compare_loop
from mim_steps import compare_steps

from mammo_hf.models.configuration_mammo_swin import SIZES

SECTIONS = ("steps", "decoders", "loop")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--models", nargs="+", default=["tiny", "small", "base"], choices=list(SIZES))
    parser.add_argument("--sizes", nargs="+", type=_size, default=[(224, 224), (448, 224), (896, 448)], metavar="HxW")
    parser.add_argument("--ratios", nargs="+", type=float, default=[0.5, 0.75])
    parser.add_argument("--batch_size", type=int, default=4)
    parser.add_argument("--pairs", type=int, default=3, help="turns that a median is taken over")
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--bf16", action="store_true", help="autocast to bfloat16")
    parser.add_argument("--only", nargs="+", choices=SECTIONS, default=list(SECTIONS))
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    device = "cuda" if torch.cuda.is_available() else "cpu"
    name = torch.cuda.get_device_name() if device == "cuda" else f"CPU, {args.threads} threads"
    print(f"torch {torch.__version__} on {name}, batch {args.batch_size}, medians of {args.pairs} turns")
    if "steps" in args.only:
        print_table(compare_steps(args, device), "Forward and backward, linear head: speed-up and peak of memory")
    if "decoders" in args.only:
        print_table(compare_decoders(args, device), "Decoders, next to a step of the dense encoder")
    if "loop" in args.only:
        print_table(compare_loop(args, device), "The training loop on prepared images, over the bare step")


def _size(text: str) -> tuple[int, int]:
    height, width = (int(side) for side in text.split("x"))
    return height, width


def print_table(rows: Iterable[dict[str, Any]], title: str) -> None:
    """Print a Markdown table, each row as soon as it is there; all rows have the first one's keys."""
    print(f"\n{title}\n")
    for number, row in enumerate(rows):
        if number == 0:
            print("| " + " | ".join(row) + " |\n" + "|---" * len(row) + "|")
        print("| " + " | ".join(str(value) for value in row.values()) + " |", flush=True)


if __name__ == "__main__":
    main()
