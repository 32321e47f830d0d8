"""The start of a training stage: a collection, split and checked, its tasks, processor and prepared images."""

from __future__ import annotations

import json
import logging
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, cast

import datasets
from accelerate import PartialState

from ..errors import DataError, UsageError
from ..files import MARKER
from ..models.checkpoint import load_processor, repository_of
from ..models.configuration_mammo_swin import SIZES
from ..models.own_figures import FEWEST_PATIENTS
from ..processing.geometry import parse_size
from ..processing.image_processing_mammo import MammoImageProcessor
from . import TEST_FRACTION, VALIDATION_FRACTION
from .augmentation import Augmentation
from .collection import Collection
from .datasets.discovery import looked_for
from .datasets.folder import NAME as FOLDER
from .leaks import assert_no_leak
from .loading import load, on_this_machine, with_stated_terms
from .native_row import check_crop
from .prepare.folder import (
    check_canvas,
    drawn_by,
    folder_of,
    for_training,
    is_features,
    is_prepared,
    open_prepared,
    prepared_lesion_task,
    prepared_processor,
    stream_prepared,
)
from .prepare.row import NATIVE_STORE, differences
from .prepare.running import prepare_images
from .prepared_row import geometry_of
from .privacy import PRIVATE
from .splits import SPLIT_FILE, complete_split, label_subset, nearest, read_seen, read_split, read_subset, strata
from .torch_datasets import StreamedMaskedImages

logger = logging.getLogger(__name__)
PREFERRED_TASKS = ("pathology", "density")


def open_collection(
    images: Collection | str | Path,
    *,
    reading: Mapping[str, Any] | None = None,
    validation_fraction: float = VALIDATION_FRACTION,
    test_fraction: float = TEST_FRACTION,
    split_file: str | Path | None = None,
    seed: int = 0,
    starts: Sequence[str | Path] = (),
    terms: str | None = None,
) -> Collection:
    """Load a collection, give it the splits that it lacks, and refuse one that leaks.

    Args:
        images: A collection, or anything that `mammo_hf.load` takes.
        reading: Options of `mammo_hf.load`, such as ``dicom_path``; those that are ``None`` or empty are not given.
        validation_fraction: Fraction of the training patients for validation; an official validation split is kept.
        test_fraction: Fraction of the patients for a test split; an official test split is kept.
        split_file: Saved split whose patients keep their sides.
        seed: Random seed of the split.
        starts: Folders or sizes that training starts from; the patients that they were trained on must not be tested.
        terms: Terms of own images, as for `mammo_hf.load`.

    Raises:
        UsageError: The folder does not exist or is not a known collection.
        DataError: A table contradicts itself, or a patient is on two sides.
    """
    options = {name: value for name, value in (reading or {}).items() if value not in (None, [], ())}
    if isinstance(images, Collection) and options:
        name = next(iter(options))
        raise UsageError("adds nothing to a collection that is loaded", source=name, remedy="give it to load")
    table = images if isinstance(images, Collection) else load(images, **options)
    table = table if terms is None else with_stated_terms(table, terms)
    table = complete_split(
        table, validation_fraction=validation_fraction, test_fraction=test_fraction, seed=seed, saved=split_file
    )
    assert_no_leak(table, seen=frozenset().union(*map(patients_trained_on, starts)))
    for note in table.notes:
        logger.info("%s", note)
    return table


def reading_of(images: Any, processor: MammoImageProcessor) -> dict[str, Any]:
    """Return the options of `mammo_hf.load` that read headers as a processor does; none for what is loaded already."""
    if not isinstance(images, (str, Path)):
        return {}
    folder = on_this_machine(images)
    return {} if is_prepared(folder) or is_features(folder) else dict(processor.of_headers)


def patients_trained_on(start: str | Path) -> frozenset[str]:
    """Return the patients that a starting point was trained on, from the split next to it; none for a size."""
    if str(start) in SIZES or not Path(start).exists():
        return frozenset()
    seen = read_seen(start)
    if seen is None:
        logger.warning(
            "%s has no %s: whether it was trained on test patients is not known", Path(start).name, SPLIT_FILE
        )
    return seen or frozenset()


def open_as_trained(images: Collection | str | Path, model: str | Path, **reading: Any) -> Collection:
    """Load a collection to apply a model to; a collection that it was trained on keeps the training's split.

    Args:
        images: Collection, or anything that `mammo_hf.load` takes.
        model: Folder of the checkpoint, in which training wrote its split.
        reading: Options of `mammo_hf.load`.

    Raises:
        MammoError: In the cases of `mammo_hf.load`.
    """
    table = images if isinstance(images, Collection) else load(images, **reading)
    saved = Path(model) / SPLIT_FILE
    if "test" in table.column("split") or not saved.is_file():
        return table
    # nothing is trained here: no validation split is needed, and a collection of test images alone has none
    trained_on = not read_split(saved).keys().isdisjoint(table.column("patient"))
    return table.split(validation_fraction=0, saved=saved) if trained_on else table


def check_near_duplicates(table: Collection, prepared: datasets.Dataset | None = None) -> None:
    """Refuse a table that has one film in two splits under two names, by the pixels of the prepared images.

    Only the main process of a distributed run compares.

    Args:
        table: Collection with its splits.
        prepared: The prepared images; ``None``: they are streamed from the collection's prepared folder.

    Raises:
        DataError: There are such pairs; they are listed.
    """
    if not PartialState().is_main_process:
        return
    folder, rows = folder_of(table), cast(Any, prepared)
    if folder is not None:  # compared at the folder's own size
        stored: Any = stream_prepared(folder) if prepared is None else prepared.with_format(None)
        rows = map(drawn_by(folder, prepared_processor(folder)), stored)
    logger.info("looking for near duplicates among %d images", len(table))
    assert_no_leak(table, prepared=rows)
    logger.info("no near duplicates in two splits")


def usable_tasks(table: Collection, names: Sequence[str] | None = None) -> list[dict[str, Any]]:
    """Return the named tasks that have at least two classes among the training rows, the main one first.

    The main task is kept in any case, so that missing labels are an error and not a silent change of the task.

    Args:
        table: Collection with its splits.
        names: Names of the main task and of others; ``None``: pathology and density, or else the collection's first.

    Raises:
        UsageError: The collection has no such task.
    """
    tasks = {task["name"]: task for task in table.tasks}
    if names is None:
        names = [name for name in PREFERRED_TASKS if name in tasks]
        if "pathology" not in names:  # density alone is rarely what a collection was made for
            names = list(dict.fromkeys([*list(tasks)[:1], *names]))
    unknown = [name for name in names if name not in tasks]
    if unknown:
        raise UsageError(f"the collection has no task {unknown[0]!r}", remedy=f"choose from {', '.join(tasks)}")
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
    """Refuse a collection that a classifier cannot be trained on, before hours of pre-training.

    Raises:
        DataError: The folder has images without a table, or the training rows have no label of the main task, or labels
            of one class only.
    """
    if {FOLDER} == set(table.column("source")):
        raise DataError(
            "holds images without a table of labels",
            source=table.root,
            remedy="give a table with a row per image (labels.csv), or the tables of a known collection: "
            + looked_for(),
        )
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
    """Return the training patients whose labels are used: a percentage by rule, or those of a saved subset.

    Raises:
        UsageError: The percentage is out of range.
        DataError: There is no such patient, or the file is not a label subset.
    """
    if saved is None:
        if percentage < 1:
            _check_small_percentage(table, task, percentage)
        return label_subset(table, percentage=percentage, seed=seed, task=task)
    wanted, training = read_subset(saved), set(table.where(split="train").column("patient"))
    patients = tuple(patient for patient in wanted if patient in training)
    if not patients:
        raise DataError(
            "names no training patient of this collection",
            source=saved,
            remedy="give its split_file too",
        )
    logger.info(
        "labels of %d training patients are used, of %d that the saved subset names", len(patients), len(wanted)
    )
    return patients


def _check_small_percentage(table: Collection, task: str, percentage: float) -> None:
    """Warn that a percentage below 1 is a percentage, and refuse one that leaves a class without a patient."""
    groups = {label: patients for label, patients in strata(table, task).items() if label is not None}
    counts = {label: nearest(len(patients) * (percentage / 100)) for label, patients in groups.items()}
    shown = ", ".join(f"{label} {count} of {len(groups[label])}" for label, count in counts.items())
    if not all(counts.values()):
        raise DataError(
            f"a label percentage of {percentage:g} leaves a class without a patient ({shown})",
            remedy=f"percentages go from 0 to 100: {percentage * 100:g} is that fraction in percent",
        )
    logger.warning("a label percentage of %g uses the labels of these patients alone: %s", percentage, shown)


def check_test_images(table: Collection) -> None:
    """Refuse a collection without a labelled test image, which leaves nothing to explain.

    Raises:
        DataError: There is none.
    """
    test = table.where(split="test")
    if not any(value is not None for task in table.tasks for value in test.column(task["name"])):
        raise DataError(
            "the collection has no labelled test image to explain",
            remedy="check its test tables, or give `test_fraction`",
        )


def prepared_images(
    table: Collection, processor: MammoImageProcessor, out: Path, *, tasks: list[dict[str, Any]], num_workers: int = 0
) -> datasets.Dataset:
    """Return a table's images on the processor's canvas, with the table's split and the tasks' labels.

    A table of a prepared folder is read from there. Any other is prepared into ``out``, where images that are there
    already and have not changed are kept. The main process of a distributed run prepares; the others wait and read.

    Raises:
        UsageError: The prepared folder has another canvas than the processor; or as `prepare`.
        DataError: No image could be read, or too many could not.
    """
    folder = folder_of(table)
    if folder is None and processor.native_crops:
        problem, remedy = "crops are cut from a native store, and these images are in none", "prepare them"
        raise UsageError(problem, source="crop", remedy=f"{remedy} with `store={NATIVE_STORE}` first")
    if folder is None:
        folder = str(out)
        state = PartialState()
        with state.main_process_first():
            # on a second machine that does not share this one's disks the folder is not there yet
            if state.is_main_process or not is_prepared(folder):
                _prepare(table, processor, folder, tasks, num_workers)
    else:
        check_canvas(folder, processor)
    lesions = bool(tasks) and prepared_lesion_task(folder) == tasks[0]["name"]
    rows = for_training(open_prepared(folder, table.column("image_id"), processor), table, tasks, lesions=lesions)
    if processor.native_crops:
        for row in rows.select_columns(["image_id", "geometry"]).with_format(None):
            stored = geometry_of(row)
            assert stored is not None  # every row of a native store has one
            check_crop(stored, processor.canvas, row["image_id"])
    return rows


def streamed_images(table: Collection, processor: MammoImageProcessor, *, seed: int) -> StreamedMaskedImages:
    """Return the training and unlabelled images of a prepared folder's table as a stream, for stage 1.

    Raises:
        UsageError: The table is not that of a prepared folder, or the folder has another canvas or format.
    """
    folder = folder_of(table)
    if folder is None:
        raise UsageError(
            "source files cannot be streamed",
            source="streaming",
            remedy="prepare them with `format=parquet`",
        )
    check_canvas(folder, processor)
    trained_on = table.where(split=("train", "unlabelled")).column("image_id")
    return StreamedMaskedImages(folder, trained_on, processor, augmentation=Augmentation(), seed=seed)


def _prepare(
    table: Collection, processor: MammoImageProcessor, folder: str, tasks: list[dict[str, Any]], num_workers: int
) -> None:
    known = [task["name"] for task in table.tasks]
    lesion_task = next((task["name"] for task in tasks[:1] if task["name"] in known), None)
    summary = prepare_images(table, processor, folder, lesion_task=lesion_task, num_workers=num_workers)
    if summary.rejected:
        logger.warning("%d files or rows were left out: see %s", summary.rejected, Path(folder) / "rejected.csv")


# What a card says of a collection: its name where that is public, and how many stand on which side.


PHANTOMS = "mammo_hf phantoms"
SIDES = ("train", "validation", "test", "unlabelled")


def collection_facts(table: Collection, tasks: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Return the counts of a collection, for ``metrics.json``.

    Args:
        table: Collection as it was trained on, with its splits.
        tasks: Tasks whose labels are counted.

    Returns:
        ``name``, ``None`` for a private collection; ``repository`` and ``revision`` of one that was loaded from the
        Hub; and ``splits``: for each side ``images``, ``patients``, and by task's name ``labels``, from a label to its
        number of images.
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
    repository = repository_of(Path(table.root or ""))
    of_hub = {"repository": repository, "revision": Path(str(table.root)).name} if repository else {}
    return {"name": public_name(table), **of_hub, "splits": splits}


def public_name(table: Collection) -> str | None:
    """Return the collection's name; ``None`` for a private one."""
    if is_phantom(table.root):
        return PHANTOMS
    return None if table.salt_name == PRIVATE else table.salt_name


def is_phantom(folder: str | Path | None) -> bool:
    """Return whether a folder, prepared or not, holds images that were drawn."""
    return folder is not None and (Path(folder) / MARKER).is_file()


def _counts(task: Mapping[str, Any], values: Sequence[str | None], rows: Sequence[int]) -> dict[str, int]:
    found = Counter(values[row] for row in rows)
    return {str(label): found[label] for label in task["labels"]}


PROCESSOR_FILE = "preprocessor_config.json"
SIZE = (448, 224)


def training_processor(
    images: Collection | str | Path,
    *,
    start: str | Path | None = None,
    named: str | Path | None = None,
    size: Sequence[int] | None = None,
    crop: Sequence[int] | None = None,
    settings: Mapping[str, Any] | None = None,
    **changes: Any,
) -> MammoImageProcessor:
    """Return the processor that is asked for, or that of the prepared folder, or else of the starting checkpoint.

    A model that is trained further then sees its images as before: the same slices of a volume, the same window, the
    same size.

    Args:
        images: A collection, or its folder, prepared or not.
        start: What training starts from: a checkpoint's folder or a size.
        named: Folder with a ``preprocessor_config.json``, which takes precedence over all others.
        size: Height and width, or one number for both, in place of the processor's own.
        crop: Height and width of crops at the images' own resolution in place of whole images, or one number for both.
        settings: Settings of how images are read in place of the processor's own.
        **changes: Further arguments of `MammoImageProcessor` in place of its own.

    Raises:
        UsageError: The prepared folder is not finished, or a change makes no sense.
        DataError: The named folder's processor cannot be read.
    """
    images = on_this_machine(images)
    folder = folder_of(images) if isinstance(images, Collection) else images if is_prepared(images) else None
    if named is not None:
        found = load_processor(named)
    elif folder is not None:
        found = prepared_processor(folder)
    elif start is not None and _is_ours(Path(start) / PROCESSOR_FILE):
        found = load_processor(start)
    else:
        found = MammoImageProcessor(size=SIZE)
    if not crop and start is not None and _is_ours(Path(start) / PROCESSOR_FILE) and load_processor(start).native_crops:
        logger.info("%s was trained on crops at the images' own resolution: a start for whole images", Path(start).name)
    if size or crop:
        changes["size"] = parse_size(list(crop or size or ()))
    changes["native_crops"] = bool(crop)
    return MammoImageProcessor.from_dict(found.with_settings(settings).to_dict() | {"image_kinds": None} | changes)


def image_kinds(prepared: datasets.Dataset) -> list[str]:
    """Return the kinds of image, such as "2D" or "film", that prepared images have by their headers, ten or more each.

    Args:
        prepared: Images of one split; without their kind, as features are, none is known.
    """
    counts = Counter(prepared["kind"]) if "kind" in prepared.column_names else Counter()
    return sorted(kind for kind, count in counts.items() if kind is not None and count >= FEWEST_PATIENTS)


def processor_differences(start: str | Path, processor: MammoImageProcessor) -> list[str]:
    """Return the differences between the processor of a checkpoint and another one.

    Args:
        start: Folder of the checkpoint; one without a processor of ours has no known differences.
        processor: Processor of the images that the model is to see now.

    Returns:
        Parameters with both values, the checkpoint's first.
    """
    if not _is_ours(Path(start) / PROCESSOR_FILE):
        return []
    return differences(load_processor(start).to_dict(), processor.to_dict())


def _is_ours(path: Path) -> bool:
    """Return whether a file configures this package's processor; that of a stock Swin does not read mammograms."""
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return False
    return isinstance(found, dict) and found.get("image_processor_type") == MammoImageProcessor.__name__
