"""What both stages begin with: the table, split and checked, and its images, prepared once."""

from __future__ import annotations

import json
import logging
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import datasets
from accelerate import PartialState

from ..errors import DataError, UsageError
from ..files import MARKER
from ..models.checkpoint import load_processor
from ..models.configuration_mammo_swin import SIZES
from ..processing.image_processing_mammo import MammoImageProcessor
from .augmentation import Augmentation
from .collection import Collection
from .leaks import assert_no_leak
from .loading import load
from .prepare.reading import (
    check_canvas,
    folder_of,
    for_training,
    is_prepared,
    open_prepared,
    prepared_lesion_task,
    prepared_processor,
    stream_prepared,
)
from .prepare.row import differences
from .prepare.running import prepare
from .privacy import PRIVATE
from .splits import SPLIT_FILE, TEST_FRACTION, VALIDATION_FRACTION, complete_split, label_subset, read_seen, read_subset
from .torch_datasets import StreamedMaskedImages

logger = logging.getLogger(__name__)
PREFERRED_TASKS = ("pathology", "density")


def open_collection(
    dataset: str | Path,
    *,
    dicom_path: str | None = None,
    validation_fraction: float = VALIDATION_FRACTION,
    test_fraction: float = TEST_FRACTION,
    split_file: str | Path | None = None,
    seed: int = 0,
    starts: Sequence[str | Path] = (),
) -> Collection:
    """Loads a collection, gives it the splits that it lacks, and refuses one that leaks.

    Args:
        dataset: Folder of a collection, recognised by its files, or one that ``mammo-hf prepare`` has finished.
        dicom_path: Text file of further DICOM paths.
        validation_fraction: Fraction of the training patients; a validation split that is there already stays instead.
        test_fraction: Fraction of the patients for a test split; an official one stays instead.
        split_file: A saved split, whose patients stand as they stood there.
        seed: The seed of the split.
        starts: The checkpoints that training starts from, by folder or by a model size's name, which has learnt from
            nobody: whom they have learnt from must not be tested on.

    Raises:
        UsageError: The folder does not exist or is no known collection.
        DataError: A table that contradicts itself, or a patient on two sides.
    """
    table = load(dataset, **({} if dicom_path is None else {"dicom_path": dicom_path}))
    table = complete_split(
        table, validation_fraction=validation_fraction, test_fraction=test_fraction, seed=seed, saved=split_file
    )
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


def check_near_duplicates(table: Collection, prepared: datasets.Dataset | None = None) -> None:
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


def usable_tasks(table: Collection, names: Sequence[str] | None = None) -> list[dict[str, Any]]:
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


def check_labels(table: Collection, tasks: list[dict[str, Any]]) -> None:
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
    table: Collection, task: str, *, percentage: float, seed: int, saved: str | Path | None = None
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


def check_test_images(table: Collection) -> None:
    """Refuses a collection without a labelled test image, which leaves nothing to explain.

    Raises:
        DataError: There is none.
    """
    test = table.where(split="test")
    if not any(value is not None for task in table.tasks for value in test.column(task["name"])):
        raise DataError(
            "the collection has no labelled test image to explain",
            remedy="check its test tables, or give --test_fraction",
        )


def prepared_images(
    table: Collection, processor: MammoImageProcessor, out: Path, *, tasks: list[dict[str, Any]], num_workers: int = 0
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


def streamed_images(table: Collection, processor: MammoImageProcessor, *, seed: int) -> StreamedMaskedImages:
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
    table: Collection, processor: MammoImageProcessor, folder: str, tasks: list[dict[str, Any]], num_workers: int
) -> None:
    known = [task["name"] for task in table.tasks]
    lesion_task = next((task["name"] for task in tasks[:1] if task["name"] in known), None)
    summary = prepare(table, processor, folder, lesion_task=lesion_task, num_workers=num_workers)
    if summary.rejected:
        logger.warning("%d files or rows were left out: %s says why", summary.rejected, Path(folder) / "rejected.csv")


# What a card says of a collection: its name where that is public, and how many stand on which side.


PHANTOMS = "mammo_hf phantoms"
SIDES = ("train", "validation", "test", "unlabelled")


def collection_facts(table: Collection, tasks: Sequence[Mapping[str, Any]], dataset: str | Path) -> dict[str, Any]:
    """Counts of a table, for ``metrics.json``.

    Args:
        table: As it was trained on, with its splits.
        tasks: Whose labels are counted.
        dataset: The folder that it was read from: phantoms lie there in the layout of a real collection.

    Returns:
        ``name``, ``None`` for a private collection; and ``splits``: for each side ``images``, ``patients``, and by
        task's name ``labels``, from a label to its images.
    """
    columns = {name: table.column(name) for name in ("split", "patient", *(str(task["name"]) for task in tasks))}
    splits: dict[str, Any] = {}
    for side in SIDES:
        rows = [row for row, split in enumerate(columns["split"]) if split == side]
        if not rows:
            continue
        splits[side] = {
            "images": len(rows),
            "patients": len({columns["patient"][row] for row in rows}),
            "labels": {str(task["name"]): _counts(task, columns[str(task["name"])], rows) for task in tasks},
        }
    return {"name": public_name(table, dataset), "splits": splits}


def public_name(table: Collection, dataset: str | Path) -> str | None:
    """The collection's name; ``None`` for a private one."""
    if is_phantom(dataset):
        return PHANTOMS
    return None if table.salt_name == PRIVATE else table.salt_name


def is_phantom(dataset: str | Path) -> bool:
    """Whether a folder, prepared or not, named alone or as NAME:FOLDER, holds images that were drawn."""
    folders = (str(dataset), str(dataset).partition(":")[2])
    return any((Path(folder) / MARKER).is_file() for folder in folders if folder)


def _counts(task: Mapping[str, Any], values: Sequence[str | None], rows: Sequence[int]) -> dict[str, int]:
    found = Counter(values[row] for row in rows)
    return {str(label): found[label] for label in task["labels"]}


# The processor of a training: what is done to its images, whatever they come from.


PROCESSOR_FILE = "preprocessor_config.json"
SIZE = (448, 224)


def training_processor(
    dataset: str | Path,
    *,
    start: str | Path | None = None,
    named: str | Path | None = None,
    size: tuple[int, int] | None = None,
    **changes: Any,
) -> MammoImageProcessor:
    """The processor that is asked for, or that a prepared folder, or else the starting checkpoint, was made with.

    A model that goes on from another then sees its images as that one did: the same slices of a volume, the same
    window, the same size.

    Args:
        dataset: A collection, or a folder that ``mammo-hf prepare`` wrote.
        start: What training starts from; a checkpoint folder or a model size's name.
        named: A folder with a ``preprocessor_config.json``, before all others.
        size: (height, width) instead of its own.
        **changes: Other arguments of `MammoImageProcessor` instead of its own.

    Raises:
        UsageError: The prepared folder is not finished, or a change makes no sense.
        DataError: The named folder's processor cannot be read.
    """
    if named is not None:
        found = load_processor(named)
    elif is_prepared(dataset):
        found = prepared_processor(dataset)
    elif start is not None and _is_ours(Path(start) / PROCESSOR_FILE):
        found = load_processor(start)
    else:
        found = MammoImageProcessor(size=SIZE)
    if size is not None:
        changes["size"] = size
    return MammoImageProcessor.from_dict(found.to_dict() | changes)


def unlike(start: str | Path, processor: MammoImageProcessor) -> list[str]:
    """In what the images that a checkpoint has learnt from differ from those of a processor.

    Args:
        start: A checkpoint's folder; what has no processor of ours differs in nothing that is known.
        processor: Of the images that it is to see now.

    Returns:
        Parameters with both values, theirs first.
    """
    if not _is_ours(Path(start) / PROCESSOR_FILE):
        return []
    return differences(load_processor(start).to_dict(), processor.to_dict())


def _is_ours(path: Path) -> bool:
    """Whether a file is of this package's processor; that of a stock Swin knows nothing of mammograms."""
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return False
    return isinstance(found, dict) and found.get("image_processor_type") == MammoImageProcessor.__name__
