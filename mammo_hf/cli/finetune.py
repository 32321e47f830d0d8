"""Stage 2: classification of several tasks from few labels, evaluated once on the test split.

accelerate launch scripts/run_classification.py --dataset data/cbis --model out/mim --output_dir out/cls
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from ..training.options import ClassificationOptions
from .running import Parser
from .stages import run_stage, stage_parser


def parser() -> Parser:
    """Return the parser of the stage's own options."""
    return stage_parser(
        "finetune",
        "Train a classifier from few labels, and evaluate it on the test split.",
        "mammo-hf finetune --dataset data/cbis --model out/mim --label_percentage 25 --output_dir out/cls",
        ClassificationOptions,
    )


def main(arguments: list[str]) -> None:
    """Run ``mammo-hf finetune``."""
    run_stage(parser(), arguments, _train, "explain {out} {dataset} --output_dir OUT")


def _train() -> Callable[..., Any]:
    from ..training.classification import finetune

    return finetune
