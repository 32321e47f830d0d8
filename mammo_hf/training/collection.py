"""What both stages begin with: the table, split and checked, and its images, prepared once."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import datasets
from accelerate import PartialState

from ..configuration_mammo_swin import SIZES
from ..data import MammoTable, assert_no_leak, complete_split, label_subset, load, read_subset
from ..data.prepare import (
    check_canvas,
    folder_of,
    for_training,
    is_prepared,
    open_prepared,
    prepare,
    prepared_lesion_task,
    stream_prepared,
)
from ..data.seen import SPLIT_FILE, read_seen
from ..data.training_split import TEST_SHARE, VALIDATION_SHARE
from ..errors import DataError, UsageError
from .augmentation import Augmentation
from .streaming import StreamedMaskedImages

if TYPE_CHECKING:
    from ..image_processing_mammo import MammoImageProcessor

logger = logging.getLogger(__name__)

PREFERRED_TASKS = ("pathology", "density")


def open_collection(
    dataset: str | Path,
    *,
    dicom_path: str | None = None,
    validation: float = VALIDATION_SHARE,
    test_share: float = TEST_SHARE,
    split_file: str | Path | None = None,
    seed: int = 0,
    starts: Sequence[str | Path] = (),
) -> MammoTable:
    """Loads a collection, gives it the splits that it lacks, and refuses one that leaks.

    Args:
        dataset: Folder of a collection, recognised by its files, or one that ``mammo-hf prepare`` has finished.
        dicom_path: Text file of further DICOM paths.
        validation: Share of the training patients; a validation split that is there already stays instead.
        test_share: Share of the patients for a test split; an official one stays instead.
        split_file: A saved split, whose patients stand as they stood there.
        seed: The seed of the split.
        starts: The checkpoints that training starts from, by folder or by a model size's name, which has learnt from
            nobody: whom they have learnt from must not be tested on.

    Raises:
        UsageError: The folder does not exist or is no known collection.
        DataError: A table that contradicts itself, or a patient on two sides.
    """
    table = load(dataset, **({} if dicom_path is None else {"dicom_path": dicom_path}))
    table = complete_split(table, validation=validation, test=test_share, seed=seed, saved=split_file)
    assert_no_leak(table, seen=frozenset().union(*map(whom_it_has_seen, starts)))
    for note in table.notes:
        logger.info("%s", note)
    return table


def whom_it_has_seen(start: str | Path) -> frozenset[str]:
    """The patients that a starting point has learnt from, as the split beside it says; none of a size by name."""
    if str(start) in SIZES or not Path(start).exists():
        return frozenset()
    seen = read_seen(start)
    if seen is None:
        logger.warning(
            "%s has no %s: whether it has learnt from test patients is not known", Path(start).name, SPLIT_FILE
        )
    return seen or frozenset()


def check_near_duplicates(table: MammoTable, prepared: datasets.Dataset | None = None) -> None:
    """Refuses a table of which a film stands on two sides under two names, by the prepared images themselves.

    The first process of a distributed run looks, and ends the run where it finds one.

    Args:
        table: The table, split.
        prepared: Its prepared images; ``None``: they are read as a stream from the table's prepared folder.

    Raises:
        DataError: Lists the pairs.
    """
    if not PartialState().is_main_process:
        return
    if prepared is None:
        rows = stream_prepared(folder_of(table) or "", ["image_id", "size", "pixels"])
    else:
        rows = prepared.select_columns(["image_id", "size", "pixels"])
    logger.info("looking for near duplicates among %d images", len(table))
    assert_no_leak(table, prepared=rows)
    logger.info("near duplicates on two sides: none")


def usable_tasks(table: MammoTable, names: Sequence[str] | None = None) -> list[dict[str, Any]]:
    """The tasks of these names that have at least two classes among the training rows, the main one first.

    The main one is kept in any case, so that its absence is an error where it matters and not a silent change of aim.

    Args:
        table: The table.
        names: The main task and others; ``None``: those of pathology and density that the collection has, or else its
            first.

    Raises:
        UsageError: The collection has no such task.
    """
    tasks = {task["name"]: task for task in table.tasks}
    if names is None:
        names = [name for name in PREFERRED_TASKS if name in tasks]
        if "pathology" not in names:  # density alone is no aim where the collection says more of its breasts
            names = list(dict.fromkeys([*list(tasks)[:1], *names]))
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


def check_labels(table: MammoTable, tasks: list[dict[str, Any]]) -> None:
    """Refuses a collection that teaches a classifier nothing, before hours of pre-training.

    Raises:
        DataError: The training rows have no label of the main task, or labels of one class only.
    """
    if not tasks:
        raise DataError("the collection has no task", remedy="describe one in its mapping: see docs/data.md")
    task = tasks[0]
    found = {value for value in table.where(split="train").column(task["name"]) if value is not None}
    if len(found) < 2:
        has = f"{found.pop()!r} only" if found else "no labels at all"
        raise DataError(
            f"the training rows have {has} for the task {task['name']!r}",
            remedy="check the label tables; classification needs two classes in training",
        )


def labelled_patients(
    table: MammoTable, task: str, *, percentage: float, seed: int, saved: str | Path | None = None
) -> tuple[str, ...]:
    """The training patients whose labels are used: a share by rule, or those of a saved subset.

    Raises:
        UsageError: The percentage is out of range.
        DataError: There is no such patient, or the file is no label subset.
    """
    if saved is None:
        return label_subset(table, percentage=percentage, seed=seed, task=task)
    wanted, training = read_subset(saved), set(table.where(split="train").column("patient"))
    patients = tuple(patient for patient in wanted if patient in training)
    if not patients:
        raise DataError(
            "names no training patient of this collection", source=saved, remedy="give its --split_file too"
        )
    logger.info(
        "labels of %d training patients are used, of %d that the saved subset names", len(patients), len(wanted)
    )
    return patients


def check_test_images(table: MammoTable) -> None:
    """Refuses a collection without a labelled test image, which leaves nothing to explain.

    Raises:
        DataError: There is none.
    """
    test = table.where(split="test")
    if not any(value is not None for task in table.tasks for value in test.column(task["name"])):
        raise DataError(
            "the collection has no labelled test image to explain", remedy="check its test tables, or give --test_share"
        )


def prepared_images(
    table: MammoTable, processor: MammoImageProcessor, out: Path, *, tasks: list[dict[str, Any]], num_workers: int = 0
) -> datasets.Dataset:
    """A table's images on the processor's canvas, with the table's split and the tasks' labels.

    A table of a prepared folder is read from there. Any other is prepared below ``out``, where whatever has not changed
    since is taken as it is. The first process of a distributed run prepares, the others wait and then read.

    Raises:
        UsageError: The prepared folder is of another canvas than the processor's; or see ``prepare``.
        DataError: See ``prepare``.
    """
    folder = folder_of(table)
    if folder is None:
        folder = str(out)
        state = PartialState()
        with state.main_process_first():
            # on a second machine without this one's disks the folder is not there yet
            if state.is_main_process or not is_prepared(folder):
                _prepare(table, processor, folder, tasks, num_workers)
    else:
        check_canvas(folder, processor)
    lesions = bool(tasks) and prepared_lesion_task(folder) == tasks[0]["name"]
    return for_training(open_prepared(folder, table.column("image_id")), table, tasks, lesions=lesions)


def streamed_images(table: MammoTable, processor: MammoImageProcessor, *, seed: int) -> StreamedMaskedImages:
    """The training and unlabelled images of a prepared folder's table as a stream, for stage 1.

    Raises:
        UsageError: The table is not of a prepared folder, or that is of another canvas or of another format.
    """
    folder = folder_of(table)
    if folder is None:
        raise UsageError(
            "source files cannot be streamed", source="--streaming", remedy="mammo-hf prepare --format parquet first"
        )
    check_canvas(folder, processor)
    learnt = table.where(split=("train", "unlabelled")).column("image_id")
    return StreamedMaskedImages(folder, learnt, processor, augmentation=Augmentation(), seed=seed)


def _prepare(
    table: MammoTable, processor: MammoImageProcessor, folder: str, tasks: list[dict[str, Any]], num_workers: int
) -> None:
    known = [task["name"] for task in table.tasks]
    lesion_task = next((task["name"] for task in tasks[:1] if task["name"] in known), None)
    summary = prepare(table, processor, folder, lesion_task=lesion_task, num_workers=num_workers)
    if summary.rejected:
        logger.warning("%d files or rows were left out: %s says why", summary.rejected, Path(folder) / "rejected.csv")
