"""What both stages begin with: the table, split and checked, and its images, prepared once."""

from __future__ import annotations

import csv
import hashlib
import json
import logging
from pathlib import Path
from typing import TYPE_CHECKING, Any

import datasets
from accelerate import PartialState

from ..data import MammoTable, assert_no_leak, load
from ..data.prepare import prepare
from ..errors import DataError, UsageError

if TYPE_CHECKING:
    from ..image_processing_mammo import MammoImageProcessor

logger = logging.getLogger(__name__)

PREFERRED_TASKS = ("pathology", "density")


def open_collection(
    dataset: str | Path, *, dicom_path: str | None = None, validation: float = 0.15, seed: int = 0
) -> MammoTable:
    """Loads a collection, splits validation patients off, and refuses one that leaks.

    Raises:
        UsageError: The folder does not exist or is no known collection.
        DataError: A table that contradicts itself, or a patient on two sides.
    """
    options = {} if dicom_path is None else {"dicom_path": dicom_path}
    table = load(dataset, **options).split(validation=validation, seed=seed)
    assert_no_leak(table)
    for note in table.notes:
        logger.info("%s", note)
    return table


def usable_tasks(table: MammoTable, names: tuple[str, ...] = PREFERRED_TASKS) -> list[dict[str, Any]]:
    """The tasks of these names that have at least two classes among the training rows, pathology first.

    The first is kept in any case, so that its absence is an error where it matters and not a silent change of aim.
    """
    tasks = {task["name"]: task for task in table.tasks}
    unknown = [name for name in names if name not in tasks]
    if unknown:
        raise UsageError(f"no task {unknown[0]!r} in this collection", remedy=f"choose from {', '.join(tasks)}")
    training = table.where(split="train")
    kept = [
        tasks[name]
        for place, name in enumerate(names)
        if place == 0 or len({value for value in training.column(name) if value is not None}) > 1
    ]
    for name in names:
        if all(task["name"] != name for task in kept):
            logger.warning("task %s is left out: fewer than two of its classes have labels in training", name)
    return kept


def check_labels(table: MammoTable, task: dict[str, Any]) -> None:
    """Refuses a collection that teaches a classifier nothing, before hours of pre-training.

    Raises:
        DataError: The training rows have no label of the task, or labels of one class only.
    """
    found = {value for value in table.where(split="train").column(task["name"]) if value is not None}
    if len(found) < 2:
        has = f"{found.pop()!r} only" if found else "no labels at all"
        raise DataError(
            f"the training rows have {has} for the task {task['name']!r}",
            remedy="check the label tables; classification needs two classes in training",
        )


def check_test_images(table: MammoTable) -> None:
    """Refuses a collection without a labelled test image, which leaves nothing to explain.

    Raises:
        DataError: There is none.
    """
    test = table.where(split="test")
    if not any(value is not None for task in table.tasks for value in test.column(task["name"])):
        raise DataError("the collection has no labelled test image to explain", remedy="check its test tables")


def prepared_images(
    table: MammoTable, processor: MammoImageProcessor, out: Path, *, tasks: list[dict[str, Any]], num_workers: int = 0
) -> datasets.Dataset:
    """Prepares a table's images below ``out``, or takes what is there where nothing has changed since.

    The first process of a distributed run prepares, the others wait and then read.
    """
    recipe = _recipe(table, processor, tasks)
    stamp = out / "recipe.json"
    with PartialState().main_process_first():
        if (out / "images.arrow").is_file() and stamp.is_file() and stamp.read_text(encoding="utf-8") == recipe:
            return datasets.Dataset.from_file(str(out / "images.arrow"))
        stamp.unlink(missing_ok=True)
        prepared = prepare(table, processor, out, tasks=tasks, lesion_task=tasks[0]["name"], num_workers=num_workers)
        stamp.write_text(recipe, encoding="utf-8")
    with (out / "rejected.csv").open(newline="", encoding="utf-8") as file:
        rejected = sum(1 for _ in csv.reader(file)) - 1
    if rejected:
        logger.warning("%d files or rows were left out: %s says why", rejected, out / "rejected.csv")
    return prepared


def _recipe(table: MammoTable, processor: MammoImageProcessor, tasks: list[dict[str, Any]]) -> str:
    rows = hashlib.sha256()
    for row in table:
        stat = Path(row["path"]).stat() if Path(row["path"]).exists() else None
        facts = [row, None if stat is None else [stat.st_size, stat.st_mtime_ns]]
        rows.update(json.dumps(facts, sort_keys=True, default=str).encode())
    return json.dumps({"rows": rows.hexdigest(), "processor": processor.to_dict(), "tasks": tasks}, sort_keys=True)
