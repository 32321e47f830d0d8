"""Stage 1: masked image modelling on a collection's training and unlabelled images.

accelerate launch scripts/run_mim.py --dataset data/cbis --output_dir out/mim --num_train_epochs 100
"""

from __future__ import annotations

from pathlib import Path
from typing import cast

from transformers import HfArgumentParser, TrainingArguments

from ..data.training_data import check_near_duplicates, collection_facts, prepared_images, streamed_images, usable_tasks
from ..hub.push import finish_checkpoint, take_over_push
from ..training.mim import train_mim
from ..training.options import MimArguments
from .stages import check_stage, end_stage, open_stage, parse_stage, start_stage

# where Trainer's own defaults, which are for fine-tuning, would not pre-train; each can be given
DEFAULTS = {
    "learning_rate": 5e-4,
    "lr_scheduler_type": "cosine",
    "warmup_steps": 0.1,  # below 1: the share of all steps
    "weight_decay": 0.05,
    "eval_strategy": "epoch",
}


def parser() -> HfArgumentParser:
    """The command's own arguments and all of Trainer's."""
    p = HfArgumentParser((MimArguments, TrainingArguments), prog="mammo-hf mim")  # type: ignore[arg-type]
    p.set_defaults(**DEFAULTS)
    return p


def main(arguments: list[str]) -> None:
    """Runs ``mammo-hf mim``."""
    parsed = parse_stage(parser(), arguments)
    own, args = cast(MimArguments, parsed[0]), cast(TrainingArguments, parsed[1])
    out = Path(args.output_dir or "mim")
    blocks = {"mask_block_size": own.mask_block_size, "mask_ratio": own.mask_ratio}
    processor = check_stage(own, args, own.model, **blocks)
    target = take_over_push(args, out)
    processor.masking()(processor.canvas, seed=0)  # refuses blocks that do not tile the image
    start_stage(own, args, out)
    table = open_stage(own, args, own.model, out)
    tasks, stream, kept = usable_tasks(table), None, table
    if own.streaming:
        stream, kept = streamed_images(table, processor, seed=args.seed), table.where(split="validation")
    prepared = prepared_images(
        kept,
        processor,
        own.prepared_folder(str(out)),
        tasks=tasks,
        num_workers=own.prepare_workers,
    )
    if own.near_duplicates:
        check_near_duplicates(table, None if own.streaming else prepared)
    figures = train_mim(
        prepared,
        processor,
        args,
        model=own.model,
        checkpoint=out,
        plots=out / "plots",
        settings=own.settings(),
        stream=stream,
        resume=args.resume_from_checkpoint,
    )
    if args.process_index == 0:
        figures |= {
            "seed": args.seed,
            "model": Path(own.model).name,
            "collection": collection_facts(table, tasks, own.dataset),
        }
        pushed = finish_checkpoint(
            out,
            "mim",
            figures,
            plots=out / "plots",
            target=target,
            license=own.license,
            start=own.model,
            private_paths=(own.dataset, own.prepared_folder(str(out))),
        )
        if pushed:
            print(f"pushed: {pushed.url}")
    end_stage()
