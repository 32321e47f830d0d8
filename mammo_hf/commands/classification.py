"""Stage 2: several tasks from few labels, evaluated once on the test split.

    accelerate launch scripts/run_classification.py --dataset data/cbis --model_name_or_path out/mim \
        --label_percentage 25 --output_dir out/cls
"""

from __future__ import annotations

from pathlib import Path
from typing import cast

from transformers import HfArgumentParser, TrainingArguments

from ..data import label_subset
from ..data.subsets import save_subset
from ..image_processing_mammo import MammoImageProcessor
from ..training.arguments import ClassificationArguments, check_number
from ..training.classification import train_classifier
from ..training.collection import check_labels, open_collection, prepared_images, usable_tasks
from .running import write_metrics
from .stages import check_stage, end_stage, parse_stage, start_stage


def main(arguments: list[str]) -> None:
    """Runs ``mammo-hf classification``: its own arguments and all of Trainer's."""
    parser = HfArgumentParser(
        (ClassificationArguments, TrainingArguments),  # type: ignore[arg-type]
        prog="mammo-hf classification",
    )
    parsed = parse_stage(parser, arguments)
    own, args = cast(ClassificationArguments, parsed[0]), cast(TrainingArguments, parsed[1])
    out = Path(args.output_dir or "classifier")
    check_stage(own, args, own.model_name_or_path)
    percentage = own.label_percentage
    check_number("--label_percentage", percentage, 0 < percentage <= 100, "above 0 and at most 100")
    start_stage(own, args, out)
    table = open_collection(own.dataset, dicom_path=own.dicom_path, validation=own.validation, seed=args.seed)
    tasks = usable_tasks(table, tuple(own.tasks))
    check_labels(table, tasks[0])
    patients = label_subset(table, percentage=own.label_percentage, seed=args.seed, task=tasks[0]["name"])
    height, width = own.size()
    processor = MammoImageProcessor(size={"height": height, "width": width})
    prepared = prepared_images(
        table, processor, own.prepared_folder(str(out)), tasks=tasks, num_workers=own.prepare_workers
    )
    figures = train_classifier(
        prepared,
        processor,
        args,
        model=own.model_name_or_path,
        tasks=tasks,
        patients=patients,
        lesion_loss=own.lesion_loss,
        checkpoint=out,
        plots=out / "plots",
        window_size=own.window_size,
        resume=args.resume_from_checkpoint,
    )
    if args.process_index == 0:
        save_subset(patients, out / "label_subset.json", percentage=own.label_percentage)
        write_metrics(out, "classifier", figures | {"seed": args.seed})
    end_stage()
