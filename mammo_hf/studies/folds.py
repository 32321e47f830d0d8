"""Who is tested in a cell, and whose labels may be learnt from: by patient, nested, the same for every arm."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..data.collection import Collection
from ..data.leaks import assert_no_leak
from ..data.splits import in_hash_order, label_subset, strata
from ..errors import DataError, UsageError


@dataclass(frozen=True)
class Sides:
    """A cell's split.

    Attributes:
        table: With the split of the cell.
        patients: Training patients whose labels are used.
    """

    table: Collection
    patients: tuple[str, ...]


def with_saved_test(table: Collection, saved: str | Path | None) -> Collection:
    """The table with the test patients of a saved split; its validation patients train, and each seed draws its own.

    Raises:
        DataError: The file is no saved split, or does not fit the table.
    """
    if saved is None:
        return table
    table = table.split(0, saved=saved)
    return table.on_sides(dict.fromkeys(table.where(split="validation").column("patient"), "train"))


def check_unseen(sides: Sides, seen: frozenset[str], name: str) -> None:
    """Refuses to test an encoder on patients from whom it has learnt.

    Args:
        sides: A cell's.
        seen: The patients that the encoder has learnt from.
        name: The arm's.

    Raises:
        DataError: There are such patients.
    """
    tested = seen.intersection(sides.table.where(split="test").column("patient"))
    if tested:
        raise DataError(
            f"has learnt from {len(tested)} of the test patients in pre-training",
            source=name,
            remedy="test on those whom its split.json keeps apart: --split_file, without --folds",
        )


def sides_of(
    table: Collection,
    task: dict[str, Any],
    *,
    percentage: float,
    seed: int,
    fold: int,
    folds: int,
    validation_fraction: float,
) -> Sides:
    """The split of a cell, checked for leaks.

    Args:
        table: As loaded: an official test split, or none where there are folds.
        task: The task.
        percentage: Share of the labelled training patients.
        seed: Of folds, validation patients and label subset.
        fold: Which is tested; -1: the official test split.
        folds: How many there are; 0 with the official split.
        validation_fraction: Fraction of the training patients that choose the epoch; 0: none are needed. A validation
            split that is there already stays instead.

    Raises:
        DataError: No labelled test image, or too few patients for the folds.
    """
    name = task["name"]
    if folds:
        by_fold = folds_of(table, name, folds, seed)
        everybody = dict.fromkeys(table.column("patient"), "unlabelled")
        table = table.on_sides(everybody | {p: "test" if at == fold else "train" for p, at in by_fold.items()})
    if not any(value is not None for value in table.where(split="test").column(name)):
        raise DataError(f"no test image has a label of {name}", remedy="give --folds 5 to test by cross-validation")
    if validation_fraction and "validation" not in table.column("split"):
        table = table.split(validation_fraction, seed, name)
    assert_no_leak(table)
    return Sides(table, label_subset(table, percentage=percentage, seed=seed, task=name))


def folds_of(table: Collection, task: str, folds: int, seed: int) -> dict[str, int]:
    """From each patient with a label to the fold that tests it, stratified by the gravest label.

    The official split, if there is one, is not heeded: cross-validation is over everybody with a label.

    Raises:
        UsageError: Fewer than two folds.
        DataError: A label has fewer patients than there are folds.
    """
    if folds < 2:
        raise UsageError(f"is {folds}", source="--folds", remedy="it must be 2 or more, or 0 for the official split")
    everybody = table.on_sides(dict.fromkeys(table.column("patient"), "train"))
    found: dict[str, int] = {}
    for label, patients in strata(everybody, task).items():
        if label is None:
            continue
        if len(patients) < folds:
            raise DataError(
                f"{len(patients)} patients are {label}, too few for {folds} folds", remedy="use fewer folds"
            )
        order: Sequence[str] = in_hash_order(patients, purpose="folds", seed=seed)
        found |= {patient: place % folds for place, patient in enumerate(order)}
    return found
