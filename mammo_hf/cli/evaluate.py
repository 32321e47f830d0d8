"""Evaluates a classifier on a collection, its own or another: figures with intervals, plots, checklists, one report.

mammo-hf evaluate out/cls --dataset data/inbreast --split all --external --output_dir out/inbreast
"""

from __future__ import annotations

import argparse
import json
import logging
from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from ..data.collection import Collection
from ..data.leaks import assert_no_leak
from ..data.splits import SPLIT_FILE, read_seen, read_split
from ..data.training_data import open_as_trained, prepared_images, public_name
from ..errors import DataError, UsageError, check_device, check_number
from ..evaluation.after_training import model_facts
from ..evaluation.classifier import evaluate_classifier
from ..evaluation.report import PRIVATE_COLLECTION, About, write_report
from ..evaluation.report.facts import flow, unreadable
from ..evaluation.report.pictures import add_pictures, confident_errors
from ..evaluation.report.words import preprocessing_in_words
from ..evaluation.report.writing import command_line, environment
from ..evaluation.scored import score_images, scored
from ..models.checkpoint import load_model, load_processor, read_checkpoint, read_tasks
from ..models.modeling_mammo_swin import MammoSwinForImageClassification
from .running import check_outputs, log_to
from .stages import check_dataset

logger = logging.getLogger(__name__)
FROM_CHECKPOINT = "from-checkpoint"
Tasks = list[dict[str, Any]]


def parser() -> argparse.ArgumentParser:
    """The command's arguments."""
    p = argparse.ArgumentParser(prog="mammo-hf evaluate", description=(__doc__ or "").split("\n")[0])
    p.add_argument("checkpoint", help="folder of a classifier that training wrote")
    p.add_argument("--dataset", required=True, help="the collection: its folder, NAME:FOLDER, or a prepared folder")
    p.add_argument(
        "--split", default="test", help="test, validation, train, or all: every labelled image (default %(default)s)"
    )
    p.add_argument(
        "--operating_point",
        default=FROM_CHECKPOINT,
        help=f"{FROM_CHECKPOINT} (default), or a threshold from 0 to 1 for every task of two labels",
    )
    p.add_argument("--output_dir", default="evaluation", help="for report.html and report.json (default %(default)s)")
    p.add_argument("--external", action="store_true", help="the model was not trained on this collection")
    p.add_argument("--without_pictures", action="store_true", help="no image of a patient in the report")
    p.add_argument(
        "--label_efficiency",
        help="summary.json that mammo-hf label-efficiency has written; its plot goes into the report",
    )
    p.add_argument("--resamples", type=int, default=2000, help="of the bootstrap (default %(default)s)")
    p.add_argument("--seed", type=int, default=0)
    p.add_argument("--batch_size", type=int, default=16)
    p.add_argument("--num_workers", type=int, default=2)
    p.add_argument("--device", choices=("auto", "cpu", "cuda"), default="auto")
    return p


def main(arguments: list[str]) -> None:
    """Runs ``mammo-hf evaluate``."""
    args = parser().parse_args(arguments)
    checkpoint, out = Path(args.checkpoint), Path(args.output_dir)
    tasks, threshold, efficiency = _check(args)
    check_outputs(out)
    log_to("console", out)
    table = _open(args.dataset, checkpoint)
    chosen = _chosen(table, args.split, tasks, args.dataset)
    trained_here, known = _learnt_from(chosen, checkpoint, args.external)
    processor = load_processor(checkpoint)
    model = load_model(MammoSwinForImageClassification, checkpoint).eval()
    if threshold is not None:
        model.config.operating_points = _given(tasks, threshold)
    model.to("cuda" if args.device != "cpu" and torch.cuda.is_available() else "cpu")
    prepared = prepared_images(chosen, processor, out / "prepared", tasks=tasks, num_workers=args.num_workers)
    if not len(prepared):
        raise DataError("no image could be read", source=args.dataset, remedy=f"see {out / 'prepared'}/rejected.csv")
    logits = score_images(
        model, prepared, processor, batch_size=args.batch_size, num_workers=min(args.num_workers, len(prepared) // 64)
    )
    images = scored(logits, prepared, chosen)
    evaluation = evaluate_classifier(model.config, images, resamples=args.resamples, seed=args.seed)
    evaluation = replace(evaluation, warnings=(*known, *evaluation.warnings))
    errors = confident_errors(evaluation)
    if not args.without_pictures:
        add_pictures(errors, model, prepared, processor)
    about = About(
        checkpoint=checkpoint.resolve().name,
        collection=public_name(table) or PRIVATE_COLLECTION,
        split=args.split,
        tasks=tasks,
        model=model_facts(model),
        training=read_checkpoint(checkpoint).figures,
        preprocessing=preprocessing_in_words(processor.to_dict()),
        trained_here=trained_here,
        seed=args.seed,
        resamples=args.resamples,
        flow=flow(table, prepared, args.split, unreadable(chosen, prepared, out / "prepared")),
        errors=errors,
        label_efficiency=efficiency,
        environment=environment(str(model.device)),
        command=command_line(["mammo-hf", "evaluate", *arguments]),
    )
    written = write_report(evaluation, about, out)
    _print(evaluation.figures, evaluation.warnings)
    print(f"written: {written[0]}, {written[1].name}")


def _check(args: argparse.Namespace) -> tuple[Tasks, float | None, list[dict[str, Any]]]:
    """What can be said before an image is read: the model's tasks, the threshold, the label efficiency's rows."""
    tasks: Tasks = read_tasks(Path(args.checkpoint))
    check_dataset(args.dataset, "--dataset")
    check_number("--resamples", args.resamples, args.resamples >= 100, "100 or more")
    check_number("--seed", args.seed, args.seed >= 0, "0 or more")
    check_number("--batch_size", args.batch_size, args.batch_size >= 1, "1 or more")
    check_number("--num_workers", args.num_workers, args.num_workers >= 0, "0 or more")
    check_device(args.device)
    threshold = None
    if args.operating_point != FROM_CHECKPOINT:
        try:
            threshold = float(args.operating_point)
        except ValueError:
            threshold = float("nan")
        if not 0 <= threshold <= 1:
            raise UsageError(
                f"is {args.operating_point!r}",
                source="--operating_point",
                remedy=f"use {FROM_CHECKPOINT}, or a threshold from 0 to 1",
            )
    return tasks, threshold, _efficiency(args.label_efficiency)


def _efficiency(path: str | None) -> list[dict[str, Any]]:
    if path is None:
        return []
    try:
        rows: list[dict[str, Any]] = json.loads(Path(path).read_text(encoding="utf-8"))["rows"]
        for row in rows:
            row["arm"], row["baseline"], float(row["percentage"])
            if row["auroc"] is not None:
                low, high = row["interval"] or (row["auroc"], row["auroc"])
                float(row["auroc"]), float(low), float(high)
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise UsageError(
            "cannot be read as the summary of a label-efficiency study",
            source=path,
            remedy="give the summary.json that mammo-hf label-efficiency has written",
        ) from error
    return rows


def _open(dataset: str, checkpoint: Path) -> Collection:
    table = open_as_trained(dataset, checkpoint)
    assert_no_leak(table)
    for note in table.notes:
        logger.info("%s", note)
    return table


def _chosen(table: Collection, split: str, tasks: Tasks, dataset: str) -> Collection:
    """The images of the split that have a label of one of the model's tasks, one that the model knows."""
    counts = Counter(table.column("split"))
    if split != "all" and not counts[split]:
        has = ", ".join(f"{name} ({count} images)" for name, count in counts.items()) or "no image"
        raise DataError(
            f"has no {split!r} split, it has {has}",
            source=dataset,
            remedy="give --split one of these, or all where the model was trained on none of them",
        )
    known = {task["name"] for task in table.tasks}
    common = [task for task in tasks if task["name"] in known]
    if not common:
        raise DataError(
            f"has none of the model's tasks: {', '.join(task['name'] for task in tasks)}",
            source=dataset,
            remedy=f"it has {', '.join(sorted(known)) or 'no labels'}",
        )
    of_split = table if split == "all" else table.where(split=split)
    for task in common:
        foreign = Counter(value for value in of_split.column(task["name"]) if value not in (None, *task["labels"]))
        for label, count in foreign.items():
            logger.warning("%s: %d images are labelled %s, which the model does not know", task["name"], count, label)
    chosen = of_split.where(lambda row: any(row[task["name"]] in task["labels"] for task in common))
    if not len(chosen):
        raise DataError(f"no image of the {split} split has a label that the model knows", source=dataset)
    return chosen


def _learnt_from(chosen: Collection, checkpoint: Path, external: bool) -> tuple[bool | None, list[str]]:
    """Whether the model was trained on other patients of this collection, and what a reader must know of that.

    Raises:
        UsageError: The collection is called external, and is not.
    """
    seen, patients = read_seen(checkpoint), set(chosen.column("patient"))
    learnt = patients & (seen or frozenset())
    if external and learnt:
        raise UsageError(
            f"the model has learnt from {len(learnt)} of these {len(patients)} patients, or was chosen on them",
            source="--external",
            remedy="leave it out, and evaluate the test split",
        )
    if external:
        return False, []
    if learnt:
        told = f"The model has learnt from {len(learnt)} of these {len(patients)} patients, or was chosen on them"
        return None, [f"{told}: the figures say nothing of patients whom it has not seen."]
    own = seen is not None and not patients.isdisjoint(read_split(checkpoint / SPLIT_FILE))
    return (True if own else None), []


def _given(tasks: Tasks, threshold: float) -> dict[str, Any]:
    point = {"given": {"threshold": threshold, "sensitivity": None, "specificity": None}}
    return {
        task["name"]: dict.fromkeys(("image", "breast", "patient"), point) for task in tasks if len(task["labels"]) == 2
    }


def _print(figures: dict[str, dict[str, Any]], warnings: tuple[str, ...]) -> None:
    for name, of_task in figures.items():
        for unit, part in (("image", of_task), ("patient, mean", of_task["units"]["patient"]["mean"])):
            if part["auroc"] is None:
                print(f"{name}, by {unit}: no AUC, {part['auroc_reason']}")
                continue
            interval = part["auroc_interval"]
            reach = "" if interval is None else f", 95 % interval by patient {interval[0]:.2f} to {interval[1]:.2f}"
            print(f"{name}, by {unit}: AUC {part['auroc']:.2f}{reach}")
    for warning in warnings:
        print(f"note: {warning}")
