"""Pictures of where a classifier looked on the test images of a collection.

python scripts/explain.py --model out/cls --dataset data/cbis --output_dir out/explanations
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any, cast

from ..configuration_mammo_swin import MammoSwinConfig
from ..errors import UsageError
from ..image_processing_mammo import MammoImageProcessor
from ..training.collection import open_collection, prepared_images
from ..training.visualization import visualize
from .running import log_to


def main(arguments: list[str]) -> None:
    """Runs ``mammo-hf explain``."""
    parser = argparse.ArgumentParser(prog="mammo-hf explain", description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--model", required=True, help="folder of a classifier")
    parser.add_argument("--dataset", required=True, help="folder of the collection")
    parser.add_argument("--output_dir", required=True, help="folder for the pictures")
    parser.add_argument("--count", type=int, default=12, help="how many images (default %(default)s)")
    parser.add_argument("--num_workers", type=int, default=2)
    args = parser.parse_args(arguments)
    model, out = Path(args.model), Path(args.output_dir)
    if not (model / "config.json").is_file():
        raise UsageError("there is no classifier here", source=model, remedy="give the folder that training wrote")
    log_to("console", out)
    tasks = cast(list[dict[str, Any]], MammoSwinConfig.from_pretrained(model).tasks)
    table = open_collection(args.dataset).where(split="test")
    prepared = prepared_images(
        table,
        MammoImageProcessor.from_pretrained(model),
        out / "prepared",
        tasks=tasks,
        num_workers=args.num_workers,
    )
    written = visualize(model, prepared, out, count=args.count)
    print(f"{len(written)} pictures in {out}")
