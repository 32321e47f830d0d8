"""Pictures of where a classifier looked on the test images of a collection.

python scripts/explain.py --model out/cls --dataset data/cbis --output_dir out/explanations
"""

from __future__ import annotations

import argparse
from pathlib import Path

from ..data.training_data import open_as_trained, prepared_images
from ..errors import DataError, check_number
from ..evaluation.report.pictures import SEED_EXPLAINERS, visualize
from ..explainers import find_explainer
from ..models.checkpoint import load_processor, read_tasks
from .running import check_outputs, log_to
from .stages import check_dataset


def parser() -> argparse.ArgumentParser:
    """The command's arguments."""
    p = argparse.ArgumentParser(prog="mammo-hf explain", description=(__doc__ or "").split("\n")[0])
    p.add_argument("--model", required=True, help="folder of a classifier")
    p.add_argument("--dataset", required=True, help="folder of the collection")
    p.add_argument("--output_dir", required=True, help="folder for the pictures")
    p.add_argument("--count", type=int, default=12, help="how many images (default %(default)s)")
    p.add_argument("--explainers", nargs="+", default=list(SEED_EXPLAINERS), help="default: %(default)s")
    p.add_argument("--num_workers", type=int, default=2)
    return p


def main(arguments: list[str]) -> None:
    """Runs ``mammo-hf explain``."""
    args = parser().parse_args(arguments)
    model, out = Path(args.model), Path(args.output_dir)
    check_dataset(args.dataset, "--dataset")
    check_number("--count", args.count, args.count >= 1, "1 or more")
    check_number("--num_workers", args.num_workers, args.num_workers >= 0, "0 or more")
    for name in args.explainers:
        find_explainer(name)  # before images are prepared
    tasks = read_tasks(model)
    processor = load_processor(model)
    check_outputs(out, out / "prepared")
    log_to("console", out)
    table = open_as_trained(args.dataset, model).where(split="test")
    if not len(table):
        raise DataError("holds no test image to explain", source=args.dataset, remedy="check its test tables")
    prepared = prepared_images(table, processor, out / "prepared", tasks=tasks, num_workers=args.num_workers)
    written = visualize(model, prepared, out, count=args.count, explainers=args.explainers)
    print(f"{len(written)} pictures in {out}")
