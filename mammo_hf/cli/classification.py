"""Stage 2: several tasks from few labels, evaluated once on the test split.

accelerate launch scripts/run_classification.py --dataset data/cbis --model_name_or_path out/mim \
        --label_percentage 25 --output_dir out/cls
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, cast

from transformers import HfArgumentParser, TrainingArguments

from ..data.splits import save_subset
from ..data.training_data import check_labels, check_near_duplicates, labelled_patients, prepared_images, usable_tasks
from ..errors import check_file, check_number
from ..evaluation.after_training import Origin
from ..hub.push import finish_checkpoint, take_over_push
from ..training.classification import train_classifier
from ..training.options import ClassificationArguments
from .stages import check_stage, end_stage, open_stage, parse_stage, start_stage


def parser() -> HfArgumentParser:
    """The command's own arguments and all of Trainer's."""
    return HfArgumentParser(
        (ClassificationArguments, TrainingArguments),  # type: ignore[arg-type]
        prog="mammo-hf classification",
    )


def main(arguments: list[str]) -> None:
    """Runs ``mammo-hf classification``: its own arguments and all of Trainer's."""
    parsed = parse_stage(parser(), arguments)
    own, args = cast(ClassificationArguments, parsed[0]), cast(TrainingArguments, parsed[1])
    out = Path(args.output_dir or "classifier")
    processor = check_stage(own, args, own.model_name_or_path)
    target = take_over_push(args, out)
    percentage = own.label_percentage
    check_number("--label_percentage", percentage, 0 < percentage <= 100, "above 0 and at most 100")
    check_file("--label_file", own.label_file)
    start_stage(own, args, out)
    table = open_stage(own, args, own.model_name_or_path, out)
    tasks = usable_tasks(table, own.tasks)
    check_labels(table, tasks)
    labels: dict[str, Any] = {"percentage": percentage, "seed": args.seed}
    patients = labelled_patients(table, tasks[0]["name"], saved=own.label_file, **labels)
    prepared = prepared_images(
        table, processor, own.prepared_folder(str(out)), tasks=tasks, num_workers=own.prepare_workers
    )
    if own.near_duplicates:
        check_near_duplicates(table, prepared)
    figures = train_classifier(
        prepared,
        processor,
        args,
        model=own.model_name_or_path,
        tasks=tasks,
        patients=patients,
        checkpoint=out,
        plots=out / "plots",
        origin=Origin.of(table, prepared, tasks=tasks, dataset=own.dataset, folder=own.prepared_folder(str(out))),
        settings=own.settings(),
        resume=args.resume_from_checkpoint,
    )
    if args.process_index == 0:
        save_subset(patients, out / "label_subset.json", task=tasks[0]["name"], **labels)
        pushed = finish_checkpoint(
            out,
            "classifier",
            figures,
            plots=out / "plots",
            target=target,
            license=own.license,
            start=own.model_name_or_path,
            private_paths=(own.dataset, own.prepared_folder(str(out))),
        )
        if pushed:
            print(f"pushed: {pushed.url}")
    end_stage()
