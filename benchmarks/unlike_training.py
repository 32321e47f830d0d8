#!/usr/bin/env python
"""How many images of each collection a classifier finds unlike its training images.

    python benchmarks/unlike_training.py demo/classifier home=demo/phantom films=mini-mias:/data/mini-mias

The first collection is the model's own: of it the test split by the model's ``split.json`` is taken, unchanged and
inverted, of the others every image, up to --limit, spread over the collection. Intervals are by bootstrap over
patients. A false alarm at home is expected on 2.5 % of patients' images.
"""

from __future__ import annotations

import argparse
import logging
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from results_tables import fill

from mammo_hf.cli.running import quiet
from mammo_hf.data.splits import SPLIT_FILE
from mammo_hf.data.training_data import open_collection
from mammo_hf.errors import MammoError
from mammo_hf.inference.scoring import load_classifier, logits_and_notes
from mammo_hf.metrics.inputs import UndefinedMetric
from mammo_hf.metrics.intervals import bootstrap_interval


def main() -> None:
    """Print a line for each collection."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("model", type=Path, help="folder of a classifier")
    parser.add_argument("collections", nargs="+", help="NAME=SOURCE, the model's own first")
    parser.add_argument("--limit", type=int, default=200, help="images of each (default %(default)s)")
    parser.add_argument("--write", type=Path, help="page to put the table into, between its two marks")
    args = parser.parse_args()
    logging.getLogger("mammo_hf").setLevel(logging.ERROR)
    quiet()
    model, processor = load_classifier(args.model)
    if model.training_statistics is None:
        parser.error(f"{args.model} keeps no statistics: it had fewer than 50 training patients, or no validation")
    lines = ["| collection | images | patients | unlike the training images |", "|---|---|---|---|"]
    for number, given in enumerate(args.collections):
        name, _, source = given.partition("=")
        split = args.model / SPLIT_FILE if number == 0 else None
        collection = open_collection(source, split_file=split)
        if number == 0:
            collection = collection.where(split="test")
        rows = list(collection)[:: max(1, len(collection) // args.limit)][: args.limit]
        lines.append(_line(name, *_flagged(model, processor, rows, inverted=False)))
        if number == 0:
            lines.append(_line(f"{name}, inverted", *_flagged(model, processor, rows, inverted=True)))
    print(table := "\n".join(lines))
    if args.write:
        fill(args.write, lambda _: f"{table}\n")


def _flagged(model: Any, processor: Any, rows: list[dict[str, Any]], *, inverted: bool) -> tuple[list[bool], list[str]]:
    """Return whether each readable image is flagged, and its patient."""
    flags, patients = [], []
    for row, pixels in _pixels(processor, rows, inverted):
        with torch.inference_mode():
            _, (notes,) = logits_and_notes(model, pixels)
        flags.append(bool(notes))
        patients.append(row["patient"])
    return flags, patients


def _pixels(
    processor: Any, rows: list[dict[str, Any]], inverted: bool
) -> Iterator[tuple[dict[str, Any], torch.Tensor]]:
    for row in rows:
        try:
            image: Any = row["path"]
            if inverted:
                image = 1 - processor.open(image).view(slice(None))
            yield row, processor(image, return_tensors="pt")["pixel_values"]
        except MammoError:  # a damaged file is no image of the collection
            continue


def _line(name: str, flags: list[bool], patients: list[str]) -> str:
    found = np.array(flags, float)
    try:
        low, high = bootstrap_interval(lambda _, values: float(values.mean()), found, found, groups=patients)
        interval = f" ({low:.1%} to {high:.1%})"
    except UndefinedMetric:
        interval = ""
    return f"| {name} | {len(flags)} | {len(set(patients))} | {found.mean():.1%}{interval} |"


if __name__ == "__main__":
    main()
