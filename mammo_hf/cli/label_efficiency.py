"""Measure how many labels a method needs: a grid of trainings at percentages of the labels, one table, one plot."""

from __future__ import annotations

import json
import logging
from argparse import Namespace
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..errors import UsageError, check_file, check_number
from ..studies.cells import POOLS, SCRATCH, UPDATES, Arm, Cell, arms, cells
from ..training.options import ENOUGH_UPDATES, SEMI_SUPERVISED, TUNE
from .running import Parser, log_to, processor_settings, reading_options, writable_folder

if TYPE_CHECKING:
    from ..studies.label_efficiency import Results, StudySettings


def parser() -> Parser:
    """Return the command's arguments."""
    p = Parser(
        "mammo-hf label-efficiency",
        __doc__ or "",
        "mammo-hf label-efficiency --dataset data/cbis --init scratch out/mim --tune head last_stage --output_dir out",
    )
    p.add_argument(
        "--dataset",
        required=True,
        help="folder of a collection, or one that mammo-hf prepare wrote",
    )
    p.add_argument("--output_dir", type=Path, required=True, help="folder of results, features, table and plot")
    p.add_argument("--task", default="pathology", help="task to learn (default %(default)s)")
    p.add_argument("--dry_run", action="store_true", help="estimate the time, and stop")
    p.add_argument("--processes", type=int, default=1, help="cells that run at once (default %(default)s)")
    p.add_argument("--num_workers", type=int, default=0, help="processes that read images (default %(default)s)")
    _add_grid(p)
    p.add_reading_options()
    p.add_processor_options(overrides=False)  # which is an option of reading too
    split = p.add_argument_group("split")
    split.add_argument("--folds", type=int, default=0, help="cross-validation by patient; 0: the official test split")
    split.add_argument("--split_file", help="saved split, such as stage 1's split.json: its test patients are tested")
    split.add_argument("--validation_fraction", type=float, default=0.15, help="fraction of the training patients")
    training = p.add_argument_group("training")
    training.add_argument("--model", default="tiny", help="size of encoders from scratch (default %(default)s)")
    training.add_argument("--image_size", type=int, nargs="+", help="default: as prepared, or 448 224")
    training.add_argument("--updates", type=int, default=UPDATES, help="per training (default %(default)s)")
    training.add_argument("--batch_size", type=int, default=8, help="images per update (default %(default)s)")
    training.add_argument("--learning_rate", type=float, default=5e-4, help="highest one (default %(default)s)")
    return p


def _add_grid(p: Parser) -> None:
    grid = p.add_argument_group("grid (every combination is a cell)")
    grid.add_argument("--percentages", type=float, nargs="+", default=[10, 25, 50, 100], help="default: 10 25 50 100")
    grid.add_argument("--seeds", type=int, default=3, help="number of seeds (default %(default)s)")
    grid.add_argument(
        "--init",
        nargs="+",
        default=[SCRATCH],
        help="scratch, checkpoints, and any encoder that mammo-hf embed takes (default: scratch)",
    )
    grid.add_argument(
        "--tune", nargs="+", choices=(*TUNE, "bag"), default=["head"], help="trained part (default: head)"
    )
    grid.add_argument("--pool", nargs="+", choices=POOLS, default=["mean"], help="features of head (default: mean)")
    grid.add_argument("--lesion_loss", type=float, nargs="+", default=[0.0], help="weights of the lesion loss")
    grid.add_argument("--semi_supervised", nargs="+", choices=SEMI_SUPERVISED, default=["none"], help="default: none")


def main(arguments: list[str]) -> None:
    """Run ``mammo-hf label-efficiency``."""
    args = parser().parse_args(arguments)
    from ..studies.encoders import is_other_encoder
    from ..studies.label_efficiency import Results, run_cells

    settings = _settings(args)
    options = {"pools": args.pool, "lesion_losses": args.lesion_loss, "semi_supervised": args.semi_supervised}
    others = [init for init in args.init if init != SCRATCH and is_other_encoder(init)]
    chosen = arms(args.init, args.tune, **options, others=others)
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
    """Leave out what each cell's training logs."""
    logger = logging.getLogger("mammo_hf.training")
    before = logger.level
    logger.setLevel(logging.WARNING)
    try:
        yield
    finally:
        logger.setLevel(before)


def _settings(args: Namespace) -> StudySettings:
    """Check the arguments, before an image is read."""
    from dataclasses import fields

    from ..data.training_data import training_processor
    from ..encoders.encoder import load_encoder
    from ..models.checkpoint import check_model
    from ..processing.geometry import parse_size
    from ..studies.encoders import is_other_encoder
    from ..studies.label_efficiency import StudySettings
    from .stages import check_dataset

    check_dataset(args.dataset, "--dataset")
    for percentage in args.percentages:
        check_number("--percentages", percentage, 0 < percentage <= 100, "above 0 and at most 100")
    for name in ("seeds", "updates", "processes"):
        check_number(f"--{name}", getattr(args, name), getattr(args, name) >= 1, "1 or more")
    check_number("--folds", args.folds, args.folds == 0 or args.folds >= 2, "0, or 2 or more")
    fraction = args.validation_fraction
    check_number("--validation_fraction", fraction, 0 < fraction < 1, "above 0 and below 1")
    check_file("--split_file", args.split_file)
    if args.split_file and args.folds:
        raise UsageError("and --folds both name the test patients", source="--split_file", remedy="give one of them")
    asked = parse_size(args.image_size) if args.image_size else None
    size = training_processor(args.dataset, size=asked).canvas
    for init in args.init:
        if init != SCRATCH and is_other_encoder(init):
            load_encoder(init)
        else:
            check_model(args.model if init == SCRATCH else init, size)
    reading, processor = reading_options(vars(args)), processor_settings(vars(args))
    names = {field.name for field in fields(StudySettings)} - {"size", "reading", "processor_settings"}
    given = {name: getattr(args, name) for name in names}
    return StudySettings(**given, size=size, reading=reading, processor_settings=processor)


def _announce(settings: StudySettings, grid: list[Cell], results: Results, args: Namespace) -> None:
    """Print how much there is to do, and warn of what would spoil the comparison."""
    from ..data.prepare.folder import is_prepared
    from ..data.training_data import processor_differences
    from ..models.checkpoint import locate
    from ..studies.encoders import is_other_encoder
    from ..studies.label_efficiency import estimate_seconds

    left = [cell for cell in grid if cell not in results]
    trained = [cell for cell in left if cell.arm.trained]
    hours = estimate_seconds(settings, left) / args.processes / 3600
    print(f"{len(grid)} cells, {len(grid) - len(left)} of them done; {len(trained)} of the others train a network")
    if trained:
        print(f"each makes {settings.updates} updates of {settings.batch_size} images; about {hours:.2g} hours in all")
        if settings.updates < ENOUGH_UPDATES and any(cell.arm.tune == "full" for cell in trained):
            print(f"warning: with fewer than {ENOUGH_UPDATES} updates a network trained in full may stay at chance")
    for init in args.init:
        swin = init != SCRATCH and not is_other_encoder(init)
        for difference in processor_differences(locate(init), settings.processor) if swin else []:
            print(f"warning: {init} was trained on images of {difference}")
    if not is_prepared(settings.dataset):
        print("the collection is prepared first")


def _write(args: Namespace, chosen: list[Arm], results: Results) -> None:
    from ..evaluation.study_tables import csv_table, markdown_table, plot_label_efficiency, remarks
    from ..files import write_whole
    from ..plotting import save_figure
    from ..studies.label_efficiency import labels_needed, summarise

    out = args.output_dir
    rows = summarise(results, chosen, sorted(set(args.percentages)), args.seeds, args.folds)
    needed = labels_needed(rows)
    table, notes = markdown_table(rows), remarks(rows, needed)
    summary: dict[str, Any] = {"rows": rows, "labels_needed": needed, "seeds": args.seeds, "folds": args.folds}
    write_whole(out / "summary.json", json.dumps(summary, indent=2, allow_nan=False) + "\n")
    write_whole(out / "table.md", table + "\n" + "".join(f"- {line}\n" for line in notes))
    write_whole(out / "table.csv", csv_table(rows))
    seeds = f"{args.seeds} seeds" if args.seeds > 1 else "1 seed"
    split = "the saved test split" if args.split_file else "the collection's test split"
    split = f"{args.folds} folds by patient" if args.folds else split
    save_figure(plot_label_efficiency(rows, f"{args.task}: {seeds}, {split}"), out / "label_efficiency.png")
    print("\n".join([table, *notes]))
    print(f"\nwritten: {out / 'table.md'}, table.csv, summary.json, label_efficiency.png")
