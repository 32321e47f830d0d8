"""What training refuses before an image is read: words, numbers and files that cannot be."""

from __future__ import annotations

from pathlib import Path

import torch
from transformers import TrainingArguments

from ..errors import UsageError


def check_device(device: str) -> None:
    """Raises UsageError where CUDA is asked for and there is none."""
    if device == "cuda" and not torch.cuda.is_available():
        raise UsageError("CUDA is not available here", source="--device cuda", remedy="use --device cpu, or auto")


def check_arguments(args: TrainingArguments) -> None:
    """Refuses, before an image is read, numbers that Trainer would stumble over late or take in silence.

    Raises:
        UsageError: Names the argument and its range.
    """
    batch, rate, epochs = args.per_device_train_batch_size, args.learning_rate, args.num_train_epochs
    check_number("the batch size", batch, batch >= 1, "1 or more")
    check_number("the learning rate", rate, 0 < rate < float("inf"), "above 0")
    check_number("the seed", args.seed, 0 <= args.seed < 2**32, "at least 0 and below 2 ** 32")
    if args.max_steps <= 0:
        check_number("the number of epochs", epochs, 0 < epochs < float("inf"), "above 0")


def check_split(validation: float, test_share: float, split_file: str | None) -> None:
    """Refuses shares that leave nothing to train on, and a saved split that is not there.

    Raises:
        UsageError: Names the argument.
    """
    check_number("--validation", validation, 0 < validation < 1, "above 0 and below 1")
    rest = f"at least 0, and below {1 - validation:g} beside --validation {validation:g}"
    check_number("--test_share", test_share, 0 <= test_share < 1 - validation, rest)
    check_file("--split_file", split_file)


def check_file(name: str, path: str | None) -> None:
    """Raises UsageError where a file that an argument names is not there."""
    if path is not None and not Path(path).is_file():
        raise UsageError(
            "no such file", source=path, remedy=f"{name} takes a file that training wrote beside a checkpoint"
        )


def check_number(name: str, value: float, holds: bool, rule: str) -> None:
    """Raises UsageError where a number breaks its rule; NaN breaks every one."""
    if not holds:
        raise UsageError(f"is {value}", source=name, remedy=f"it must be {rule}")


def check_choice(name: str, value: str, choices: tuple[str, ...]) -> None:
    """Raises UsageError where a word is not among its choices."""
    if value not in choices:
        raise UsageError(f"is {value!r}", source=name, remedy=f"use {', '.join(choices)}")
