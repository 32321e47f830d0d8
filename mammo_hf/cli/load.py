"""Show what a collection holds: images, patients, labels, splits, what was left out, and its terms."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from .running import Parser, print_next, processor_settings, reading_options, writable_folder

if TYPE_CHECKING:
    from ..data.collection import Collection


def parser() -> argparse.ArgumentParser:
    """Return the parser of the command's arguments."""
    p = Parser(
        "mammo-hf load", (__doc__ or "").split("\n")[0], "mammo-hf load data/cbis --output_dir out/split --seed 1"
    )
    p.add_argument(
        "source",
        metavar="SOURCE",
        help="table of images, folder of a collection, NAME:FOLDER, a mapping's file, or a prepared folder",
    )
    p.add_reading_options()
    p.add_processor_options("use_descriptions", "any_anatomy")
    p.add_argument("--pixels", action="store_true", help="read every image, and list films that are there twice")
    split = p.add_argument_group("split", "with any of these options the splits that the collection lacks are made")
    split.add_argument("--output_dir", type=Path, help="folder for split.json, summary.json and summary.png")
    split.add_argument("--validation_fraction", type=float, help="fraction of the training patients (default 0.15)")
    split.add_argument(
        "--test_fraction", type=float, help="fraction for a test split if the collection has none (default 0.2)"
    )
    split.add_argument("--seed", type=int, help="random seed of the split (default 0)")
    split.add_argument("--task", help="task to stratify by (default: the first task)")
    split.add_argument("--split_file", help="saved split whose patients keep their split, such as a split.json")
    return p


def main(arguments: list[str]) -> None:
    """Run ``mammo-hf load``."""
    args = parser().parse_args(arguments)
    from ..data.leaks import assert_no_leak
    from ..data.loading import load
    from ..data.splits import complete_split

    given = vars(args)
    collection = load(args.source, **reading_options(given), **processor_settings(given))
    names = ("validation_fraction", "test_fraction", "seed", "task")
    asked = {name: getattr(args, name) for name in names if getattr(args, name) is not None}
    if asked or args.split_file or args.output_dir:
        collection = complete_split(collection, saved=args.split_file, **asked)
    assert_no_leak(collection)
    print(collection.summary())
    print(_duplicates(collection, args.pixels))
    print("no leak found between the splits")
    if args.output_dir:
        from ..data.splits import SPLIT_FILE, TEST_FRACTION, VALIDATION_FRACTION, save_split
        from ..data.summary import draw_summary
        from ..files import write_record

        out = writable_folder(args.output_dir)
        defaults = {"seed": 0, "validation_fraction": VALIDATION_FRACTION, "test_fraction": TEST_FRACTION, "task": None}
        save_split(collection, out / SPLIT_FILE, **{**defaults, **asked})
        write_record(collection.summary(), out / "summary.json")
        draw_summary(collection.summary(), out / "summary.png")
        print(f"written: {out / SPLIT_FILE}, summary.json, summary.png")
    print_next("prepare", args.source, "--output_dir", "PREPARED")


def _duplicates(collection: Collection, pixels: bool) -> str:
    from ..data.leaks import copies, similar_images

    groups = copies(collection)
    lines = [f"duplicates: {sum(map(len, groups)) - len(groups)} images have the file of another one"]
    if pixels:
        pairs = similar_images(collection)
        lines += [f"near duplicates by pixels: {len(pairs)} pairs", *(f"  {one} {other}" for one, other in pairs[:10])]
    return "\n".join(lines)
