#!/usr/bin/env python
"""How many images of each collection a classifier finds unlike its training images.

    python benchmarks/unlike_training.py demo/classifier home=demo/phantom films=mini-mias:/data/mini-mias

The first collection is the model's own: of it the test split by the model's ``split.json`` is taken, unchanged and
inverted, of the others every image, up to --limit, spread over the collection. ``SOURCE,*.png`` takes the files of a
pattern; ``files:FOLDER`` takes the files of a folder, each as an image of its own, whatever part of the body they show.
Intervals are by bootstrap over patients. A false alarm at home is expected on 2.5 % of patients' images.
"""

from __future__ import annotations

import argparse
import logging
import os
from fnmatch import fnmatch
from pathlib import Path
from typing import Any

import numpy as np
from results_tables import fill
from transformers import pipeline

from mammo_hf.cli.running import quiet
from mammo_hf.data.splits import SPLIT_FILE
from mammo_hf.data.training_data import open_collection
from mammo_hf.errors import MammoError
from mammo_hf.inference.reading import files_below
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
    read = pipeline("mammogram-classification", model=str(args.model))
    processor = read.image_processor
    if read.model.training_statistics is None:
        parser.error(f"{args.model} keeps no statistics: it had fewer than 50 training patients, or no validation")
    lines = ["| collection | images | patients | unlike the training images |", "|---|---|---|---|"]
    for number, given in enumerate(args.collections):
        name, _, source = given.partition("=")
        rows = _rows(source, args.model / SPLIT_FILE if number == 0 else None)
        rows = rows[:: max(1, len(rows) // args.limit)][: args.limit]
        read.image_processor = processor.with_settings({"any_anatomy": True}) if "files:" in source else processor
        lines.append(_line(name, *_flagged(read, rows, inverted=False)))
        if number == 0:
            lines.append(_line(f"{name}, inverted", *_flagged(read, rows, inverted=True)))
    print(table := "\n".join(lines))
    if args.write:
        fill(args.write, lambda _: f"{table}\n")


def _rows(source: str, split_file: Path | None) -> list[dict[str, Any]]:
    source, _, pattern = source.partition(",")
    if source.startswith("files:"):
        folder = source.removeprefix("files:")
        return [{"path": os.path.join(folder, file), "patient": file} for file in files_below(folder)]
    collection = open_collection(source, split_file=split_file)
    rows = list(collection if split_file is None else collection.where(split="test"))
    return [row for row in rows if fnmatch(str(row["path"]), pattern or "*")]


def _flagged(read: Any, rows: list[dict[str, Any]], *, inverted: bool) -> tuple[list[bool], list[str]]:
    """Return whether each readable image is flagged, and its patient."""
    flags, patients = [], []
    for row in rows:
        try:
            image = 1 - read.image_processor.open(row["path"]).view(slice(None)) if inverted else row["path"]
            found = read(image)
        except MammoError:  # a damaged file is no image of the collection
            continue
        flags.append("unlike_training_images" in found[0].get("notes", ()))
        patients.append(row["patient"])
    return flags, patients


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
