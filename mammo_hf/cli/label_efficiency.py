"""How many labels a method needs: a grid of arms and shares of the labels, one table, one plot.

mammo-hf label-efficiency --dataset data/cbis --task pathology --percentages 10 25 50 100 \
    --init scratch out/mim --tune head last_stage --seeds 5 --output_dir out/labels
"""

from __future__ import annotations

import argparse
import json
import logging
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from ..data.prepare.reading import is_prepared
from ..data.training_data import processor_differences, training_processor
from ..errors import UsageError, check_file, check_number
from ..evaluation.study_tables import csv_table, markdown_table, plot_label_efficiency, remarks
from ..models.checkpoint import check_model
from ..plotting import save_figure
from ..processing.geometry import parse_size
from ..studies.cells import POOLS, SCRATCH, Arm, Cell, arms, cells
from ..studies.label_efficiency import ENOUGH_UPDATES, Results, StudySettings, estimate_seconds, run_cells
from ..studies.summary import labels_needed, summarise
from ..training.options import SEMI_SUPERVISED, TUNE
from .running import log_to, writable_folder
from .stages import check_dataset


def parser() -> argparse.ArgumentParser:
    """The command's arguments."""
    p = argparse.ArgumentParser(prog="mammo-hf label-efficiency", description=(__doc__ or "").split("\n")[0])
    p.add_argument("--dataset", required=True, help="a collection, or a folder of mammo-hf prepare")
    p.add_argument("--output_dir", type=Path, required=True, help="results, features, table and plot")
    p.add_argument("--task", default="pathology", help="default %(default)s")
    p.add_argument("--percentages", type=float, nargs="+", default=[10, 25, 50, 100], help="default: 10 25 50 100")
    p.add_argument("--init", nargs="+", default=[SCRATCH], help="scratch, and checkpoint folders (default: scratch)")
    p.add_argument("--tune", nargs="+", choices=TUNE, default=["head"], help="default: head")
    p.add_argument("--pool", nargs="+", choices=POOLS, default=["mean"], help="with head (default: mean)")
    p.add_argument("--lesion_loss", type=float, nargs="+", default=[0.0], help="weights, where networks are trained")
    p.add_argument("--semi_supervised", nargs="+", choices=SEMI_SUPERVISED, default=["none"], help="default: none")
    p.add_argument("--seeds", type=int, default=3, help="default %(default)s")
    p.add_argument("--folds", type=int, default=0, help="cross-validation by patient; 0: the official test split")
    p.add_argument(
        "--split_file", help="a saved split, such as the split.json of stage 1: its test patients are tested"
    )
    p.add_argument("--model", default="tiny", help="size of encoders from scratch (default %(default)s)")
    p.add_argument("--image_size", type=int, nargs="+", help="height and width (default: as prepared, or 448 224)")
    p.add_argument("--validation_fraction", type=float, default=0.15, help="share of the training patients")
    p.add_argument("--updates", type=int, default=ENOUGH_UPDATES, help="of a training (default %(default)s)")
    p.add_argument("--batch_size", type=int, default=8, help="default %(default)s")
    p.add_argument("--learning_rate", type=float, default=5e-4, help="default %(default)s")
    p.add_argument("--num_workers", type=int, default=0, help="that read images (default %(default)s)")
    p.add_argument("--processes", type=int, default=1, help="cells that run at once (default %(default)s)")
    p.add_argument("--dry-run", "--dry_run", action="store_true", help="say how long it will take, and stop")
    return p


def main(arguments: list[str]) -> None:
    """Runs ``mammo-hf label-efficiency``."""
    args = parser().parse_args(arguments)
    settings = _settings(args)
    chosen = arms(
        args.init,
        args.tune,
        pools=args.pool,
        lesion_losses=args.lesion_loss,
        semi_supervised=args.semi_supervised,
    )
    grid = list(cells(chosen, sorted(set(args.percentages)), args.seeds, args.folds))
    writable_folder(args.output_dir)
    log_to("console", args.output_dir)
    results = Results(args.output_dir, settings)
    _announce(settings, grid, results, args)
    if args.dry_run:
        return
    with _quiet_training():
        run_cells(settings, grid, args.processes)
    _write(args, chosen, results)


@contextmanager
def _quiet_training() -> Iterator[None]:
    """Leaves out what each cell's training tells."""
    told = logging.getLogger("mammo_hf.training")
    before = told.level
    told.setLevel(logging.WARNING)
    try:
        yield
    finally:
        told.setLevel(before)


def _settings(args: argparse.Namespace) -> StudySettings:
    check_dataset(args.dataset, "--dataset")
    for percentage in args.percentages:
        check_number("--percentages", percentage, 0 < percentage <= 100, "above 0 and at most 100")
    check_number("--seeds", args.seeds, args.seeds >= 1, "1 or more")
    check_number("--folds", args.folds, args.folds == 0 or args.folds >= 2, "0, or 2 or more")
    check_number("--updates", args.updates, args.updates >= 1, "1 or more")
    check_number(
        "--validation_fraction", args.validation_fraction, 0 < args.validation_fraction < 1, "above 0 and below 1"
    )
    check_number("--processes", args.processes, args.processes >= 1, "1 or more")
    check_file("--split_file", args.split_file)
    if args.split_file and args.folds:
        raise UsageError("and --folds both say who is tested", source="--split_file", remedy="give one of them")
    asked = parse_size(args.image_size) if args.image_size else None
    size = training_processor(args.dataset, size=asked).canvas
    for init in args.init:
        check_model(args.model if init == SCRATCH else init, size)
    return StudySettings(
        dataset=args.dataset,
        task=args.task,
        out=args.output_dir,
        size=size,
        model=args.model,
        folds=args.folds,
        split_file=args.split_file,
        validation_fraction=args.validation_fraction,
        updates=args.updates,
        batch_size=args.batch_size,
        learning_rate=args.learning_rate,
        num_workers=args.num_workers,
    )


def _announce(settings: StudySettings, grid: list[Cell], results: Results, args: argparse.Namespace) -> None:
    left = [cell for cell in grid if cell not in results]
    trained = [cell for cell in left if cell.arm.trained]
    hours = estimate_seconds(settings, left) / args.processes / 3600
    print(f"{len(grid)} cells, {len(grid) - len(left)} of them done; {len(trained)} of the others train a network")
    if trained:
        print(f"each makes {settings.updates} updates of {settings.batch_size} images; about {hours:.2g} hours in all")
        if settings.updates < ENOUGH_UPDATES and any(cell.arm.tune == "full" for cell in trained):
            print(f"warning: below {ENOUGH_UPDATES} updates a network trained in full may be at chance for that alone")
    processor = training_processor(settings.dataset, size=settings.size)
    for init in args.init:
        for difference in processor_differences(init, processor):
            print(f"warning: {init} has learnt from images of {difference}")
    if not is_prepared(settings.dataset):
        print("the collection is prepared first")


def _write(args: argparse.Namespace, chosen: list[Arm], results: Results) -> None:
    out, percentages = args.output_dir, sorted(set(args.percentages))
    rows = summarise(results, chosen, percentages, args.seeds, args.folds)
    needed = labels_needed(rows)
    said = remarks(rows, needed)
    table = markdown_table(rows)
    summary: dict[str, Any] = {"rows": rows, "labels_needed": needed, "seeds": args.seeds, "folds": args.folds}
    (out / "summary.json").write_text(json.dumps(summary, indent=2, allow_nan=False) + "\n", encoding="utf-8")
    (out / "table.md").write_text(table + "\n" + "".join(f"- {line}\n" for line in said), encoding="utf-8")
    (out / "table.csv").write_text(csv_table(rows), encoding="utf-8")
    seeds = f"{args.seeds} seeds" if args.seeds > 1 else "1 seed"
    split = "the saved test split" if args.split_file else "the collection's test split"
    split = f"{args.folds} folds by patient" if args.folds else split
    figure = plot_label_efficiency(rows, f"{args.task}: {seeds}, {split}")
    save_figure(figure, out / "label_efficiency.png")
    print(table)
    print("\n".join(said))
    print(f"\nwritten: {out / 'table.md'}, table.csv, summary.json, label_efficiency.png")
