"""Stage 1: masked image modelling on a collection's training and unlabelled images.

accelerate launch scripts/run_mim.py --dataset data/cbis --output_dir out/mim
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from ..training.options import MimOptions
from .running import Parser
from .stages import run_stage, stage_parser


def parser() -> Parser:
    """Return the parser of the stage's own options."""
    return stage_parser(
        "pretrain",
        "Pre-train an encoder by masked image modelling, without labels.",
        "mammo-hf pretrain --dataset data/cbis --output_dir out/mim --model tiny --num_train_epochs 100",
        MimOptions,
    )


def main(arguments: list[str]) -> None:
    """Run ``mammo-hf pretrain``."""
    run_stage(parser(), arguments, _train, "finetune --dataset {dataset} --model {out} --output_dir OUT")


def _train() -> Callable[..., Any]:
    from ..training.mim import pretrain

    return pretrain
