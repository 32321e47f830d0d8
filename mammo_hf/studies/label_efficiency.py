"""Study of label efficiency: the split of each cell, its training, the results on disk, and their summary."""

from __future__ import annotations

import json
import logging
import multiprocessing
import os
import shutil
import time
from collections.abc import Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, field, replace
from functools import cache, cached_property
from pathlib import Path
from typing import Any

import datasets
import numpy as np
import torch
from scipy.special import softmax
from scipy.stats import rankdata
from tqdm.auto import tqdm

from ..data.collection import Collection
from ..data.leaks import assert_no_leak
from ..data.loading import HEADER, load
from ..data.prepare.folder import for_training
from ..data.splits import in_hash_order, label_subset, strata
from ..data.terms import Terms, read_terms, terms_of_model, united, write_terms
from ..data.training_data import patients_trained_on, prepared_images, training_processor, usable_tasks
from ..encoders.encoder import load_encoder
from ..encoders.logistic import logistic_probabilities
from ..errors import DataError, MammoError, UsageError
from ..files import write_record, write_whole
from ..metrics.classification import auroc_of
from ..metrics.inputs import UndefinedMetric
from ..metrics.intervals import bca, detectable_difference, resampled, rows_of, without_each
from ..models.checkpoint import locate, name_of, starting_config
from ..models.modeling_mammo_swin import MammoSwinForImageClassification
from ..processing.image_processing_mammo import MammoImageProcessor
from ..training.callbacks import freeze
from ..training.classification import ClassificationConfig, fit_classifier
from ..training.scoring import predicted_logits
from .cells import BASELINES, BOOSTED, FROZEN_RANDOM, SCANNER, SCRATCH, STOCK, UPDATES, Arm, Cell
from .encoders import bag_probabilities, embedded, is_plugin, pooled_features
from .features import (
    boosted_probabilities,
    frozen_encoder,
    frozen_features,
    scanner_features,
    statistics_table,
    write_arrays,
)

logger = logging.getLogger(__name__)
RESAMPLES = 2000
FEWEST_VALIDATION = 5  # patients of each label; an epoch that fewer have chosen is chosen by chance

# scores of a cell's test images: images and patients (salted hashes), labels (int64), probabilities (images, classes),
# and facts (counts and seconds)
CellResult = dict[str, Any]
# an AUC, its value on each resample of the patients, and with each patient left out
Estimate = tuple[float, np.ndarray, np.ndarray]


@dataclass(frozen=True)
class StudySettings:
    """Settings that every cell of a study shares.

    Attributes:
        dataset: Folder of a collection, or one that ``mammo-hf prepare`` wrote.
        task: Name of the task.
        output_dir: Folder of results, features and prepared images.
        size: Size of the model's input, (height, width).
        model: Size of an encoder that starts from scratch.
        folds: Number of folds of cross-validation by patient; 0 means the collection's own test split.
        split_file: Saved split whose test patients are tested, if the collection has no test split of its own.
        validation_fraction: Fraction of the patients with used labels that choose the best evaluation of a training.
        updates: Optimiser steps of a training, whatever the percentage of labels.
        batch_size: Images per optimiser step.
        learning_rate: Highest learning rate of a training.
        num_workers: Number of processes that read and prepare images.
        reading: Options of `mammo_hf.load`, such as ``max_missing``.
        processor_settings: Settings of how images are read, in place of those of a prepared folder's processor, or of
            the default one.
    """

    dataset: str
    task: str
    output_dir: Path
    size: tuple[int, int]
    model: str = "tiny"
    folds: int = 0
    split_file: str | None = None
    validation_fraction: float = 0.15
    updates: int = UPDATES
    batch_size: int = 8
    learning_rate: float = 5e-4
    num_workers: int = 0
    reading: Mapping[str, Any] = field(default_factory=dict)
    processor_settings: Mapping[str, Any] = field(default_factory=dict)

    @property
    def processor(self) -> MammoImageProcessor:
        """Processor of every cell's images."""
        return training_processor(self.dataset, size=self.size, settings=self.processor_settings)


# The split of a cell: by patient, nested, the same for every arm.


def with_saved_test(table: Collection, saved: str | Path | None) -> Collection:
    """Give a collection the test patients of a saved split.

    Raises:
        DataError: The file is not a saved split, or does not fit the collection.
    """
    return table if saved is None else table.split(0, saved=saved)


def split_cell(
    table: Collection,
    task: str,
    *,
    percentage: float,
    seed: int,
    fold: int,
    folds: int,
    validation_fraction: float,
) -> tuple[Collection, tuple[str, ...]]:
    """Split a collection for a cell, and choose the training patients of the used labels.

    Labels that choose the epoch are labels that are used: validation patients are taken from the chosen ones, and all
    other patients who are not tested train. If too few patients are chosen, none validates, and the last epoch is kept.

    Args:
        table: Collection as loaded, with an official test split unless there are folds.
        task: Name of the task.
        percentage: Percentage of the labelled training patients whose labels are used.
        seed: Random seed of folds, validation patients and label subset.
        fold: Fold that is tested; -1 is the official test split.
        folds: Number of folds; 0 means the official split.
        validation_fraction: Fraction of the chosen patients that choose the epoch; 0: none.

    Returns:
        The collection with its splits, and the chosen patients, those of the validation split among them.

    Raises:
        DataError: There is no labelled test image, there are too few patients for the folds, or a patient is on two
            sides.
    """
    if folds:
        by_fold = folds_of(table, task, folds, seed)
        everybody = dict.fromkeys(table.column("patient"), "unlabelled")
        table = table.with_splits(everybody | {p: "test" if at == fold else "train" for p, at in by_fold.items()})
    if not any(value is not None for value in table.where(split="test").column(task)):
        raise DataError(f"no test image has a label of {task}", remedy="give `folds=5` to test by cross-validation")
    table = table.with_splits(dict.fromkeys(table.where(split="validation").column("patient"), "train"))
    assert_no_leak(table)
    chosen = label_subset(table, percentage=percentage, seed=seed, task=task)
    used = table.where(lambda row: row["patient"] in set(chosen), split="train")
    sizes = [len(patients) * validation_fraction for patients in strata(used, task).values()]
    if min(sizes) < FEWEST_VALIDATION:
        return table, chosen
    held = used.split(validation_fraction, seed, task).where(split="validation").column("patient")
    return table.with_splits(dict.fromkeys(held, "validation")), chosen


def folds_of(table: Collection, task: str, folds: int, seed: int) -> dict[str, int]:
    """Assign each patient with a label to the fold that tests it, stratified by the most severe label.

    An official split is ignored: cross-validation is over everybody with a label.

    Raises:
        UsageError: There are fewer than two folds.
        DataError: A label has fewer patients than there are folds.
    """
    if folds < 2:
        raise UsageError(f"is {folds}", source="folds", remedy="it must be 2 or more, or 0 for the official split")
    everybody = table.with_splits(dict.fromkeys(table.column("patient"), "train"))
    found: dict[str, int] = {}
    for label, patients in strata(everybody, task).items():
        if label is None:
            continue
        if len(patients) < folds:
            raise DataError(
                f"{len(patients)} patients are {label}, too few for {folds} folds", remedy="use fewer folds"
            )
        order = in_hash_order(patients, purpose="folds", seed=seed)
        found |= {patient: place % folds for place, patient in enumerate(order)}
    return found


def check_unseen(table: Collection, seen: frozenset[str], name: str) -> None:
    """Refuse to test an encoder on patients that it was trained on.

    Args:
        table: Collection with the split of a cell.
        seen: Patients that the encoder was trained on.
        name: Name of the arm.

    Raises:
        DataError: A test patient is among them.
    """
    tested = seen.intersection(table.where(split="test").column("patient"))
    if tested:
        raise DataError(
            f"was pre-trained on {len(tested)} of the test patients",
            source=name,
            remedy="test on the patients that its split.json keeps apart: `split_file`, without `folds`",
        )


class Study:
    """Prepared images of a collection, and the run of any cell on them.

    Args:
        settings: Settings of the study.
    """

    def __init__(self, settings: StudySettings) -> None:
        self.settings = settings
        header = {name: value for name, value in settings.processor_settings.items() if name in HEADER}
        table = load(settings.dataset, **settings.reading, **header)
        self.table: Collection = with_saved_test(table, settings.split_file)
        self.task = usable_tasks(self.table, (settings.task,))[0]
        self.processor = settings.processor
        # Arms share the split that was made last, and all percentages share an encoder's features
        self._last: tuple[Any, tuple[Collection, tuple[str, ...]]] | None = None
        self._features: dict[str, dict[str, np.ndarray]] = {}
        self._stores: dict[str, str] = {}
        self._seen = cache(_patients_trained_on)  # cached, as it warns if it is not known

    @cached_property
    def prepared(self) -> datasets.Dataset:
        """All images of the collection on the processor's canvas, in the collection's order."""
        folder, workers = self.settings.output_dir / "prepared", self.settings.num_workers
        return prepared_images(self.table, self.processor, folder, tasks=[self.task], num_workers=workers)

    @cached_property
    def statistics(self) -> dict[str, np.ndarray]:
        """Features of the baselines that need no network."""
        paths = dict(zip(self.table.column("image_id"), self.table.column("path"), strict=True))
        sources = [paths[image] for image in self.prepared["image_id"]]
        folder = self.settings.output_dir / "features"
        write_terms(folder, self.table.terms)
        return statistics_table(self.prepared, sources, folder) | {SCANNER: self._scanner()}

    def _scanner(self) -> np.ndarray:
        columns = [self.table.column(name) for name in ("vendor", "stratum", "path")]
        of_image = dict(zip(self.table.column("image_id"), zip(*columns, strict=True), strict=True))
        return scanner_features(*zip(*(of_image[image] for image in self.prepared["image_id"]), strict=True))

    def features(self, arm: Arm, seed: int) -> np.ndarray:
        """Return the features (images, ...) of an arm that trains no network.

        Raises:
            DataError: They cannot be computed from these data.
        """
        if arm.is_free:
            name = arm.init.removesuffix(BOOSTED)
            if name not in self.statistics:
                raise DataError("the source files cannot be read", source=arm.init)
            if not self.statistics[name].shape[1]:
                raise DataError("all images are of one scanner and one file format", source=arm.init)
            return self.statistics[name]
        if arm.embedded:
            pooled = self._features.setdefault(f"{arm.init} embedded", {})
            if arm.pool not in pooled:
                images = self.prepared["image_id"]
                pooled[arm.pool] = pooled_features(self.store(arm), images, tiles=arm.pool == "tiles")
            return pooled[arm.pool]
        # Each seed has another random encoder; a checkpoint is the same for all
        name = f"random_{self.settings.model}_{seed}" if arm.init == FROZEN_RANDOM else Path(arm.init).name
        if name not in self._features:
            encoder = frozen_encoder(arm.init, self.settings.model, self.processor, seed)
            folder = self.settings.output_dir / "features" / name
            write_terms(folder, self.terms(arm))
            self._features[name] = frozen_features(encoder, self.prepared, self.processor, folder)
        return self._features[name][arm.pool]

    def store(self, arm: Arm) -> str:
        """Return the folder of the features of an arm's encoder, whole view and tiles, computed once for the grid."""
        if arm.init not in self._stores:
            folder = self.settings.output_dir / "features" / f"{Path(arm.init).name}_embedded"
            model, workers = self.settings.model, self.settings.num_workers
            self._stores[arm.init] = embedded(arm.init, model, self.table, self.processor, folder, num_workers=workers)
        return self._stores[arm.init]

    def terms(self, arm: Arm) -> tuple[Terms, ...]:
        """Return the terms of the images and, of an arm that starts from a checkpoint, of all it was trained on."""
        if arm.is_free or arm.init in (SCRATCH, STOCK, FROZEN_RANDOM):
            return self.table.terms
        if arm.embedded:
            return united(self.table.terms, tuple(load_encoder(arm.init).terms))
        start = locate(arm.init)
        return united(self.table.terms, terms_of_model(start, name_of(start)))

    def split(self, cell: Cell) -> tuple[Collection, tuple[str, ...]]:
        """Return the split and label subset of a cell, the same for every arm of a percentage, seed and fold."""
        key: dict[str, Any] = {"percentage": cell.percentage, "seed": cell.seed, "fold": cell.fold}
        if self._last is None or self._last[0] != key:
            folds, fraction = self.settings.folds, self.settings.validation_fraction
            name = self.task["name"]
            self._last = key, split_cell(self.table, name, **key, folds=folds, validation_fraction=fraction)
        return self._last[1]

    def run(self, cell: Cell) -> CellResult:
        """Fit a cell's arm and score its test images.

        Raises:
            DataError: A training subset has labels of one class only, a baseline cannot be computed, or the encoder was
                trained on a test patient.
        """
        started = time.monotonic()
        table, chosen = self.split(cell)
        check_unseen(table, self._seen(cell.arm.init), cell.arm.name)
        # The same images in the same order, so that features keep their positions
        prepared = for_training(self.prepared, table, [self.task])
        labels = np.array(prepared["labels"], dtype=np.int64)[:, 0]
        patients, split = np.array(prepared["patient"]), np.array(prepared["split"])
        test = np.flatnonzero((split == "test") & (labels >= 0))
        if cell.arm.trained:
            probabilities, facts = self._train(cell, chosen, prepared)
        elif cell.arm.tune == "bag":
            probabilities, facts = self._bag(cell, table, chosen, list(np.array(prepared["image_id"])[test]))
        else:
            train = np.flatnonzero((split != "test") & (labels >= 0) & np.isin(patients, chosen))
            probabilities = self._fit(cell, train, test, labels, patients)
            facts = {"train_images": len(train)}
        return {
            "images": np.array(prepared["image_id"])[test],
            "patients": patients[test],
            "labels": labels[test],
            "probabilities": probabilities,
            "facts": facts | {"train_patients": len(chosen), "seconds": time.monotonic() - started},
        }

    def _fit(
        self, cell: Cell, train: np.ndarray, test: np.ndarray, labels: np.ndarray, patients: np.ndarray
    ) -> np.ndarray:
        if len(set(labels[train])) < 2:
            raise DataError("the training subset has labels of one class only", remedy="use a larger percentage")
        features, classes = self.features(cell.arm, cell.seed), len(self.task["labels"])
        if cell.arm.init.endswith(BOOSTED) and cell.arm.is_free:
            return boosted_probabilities(features[train], labels[train], features[test], classes, seed=cell.seed)
        return logistic_probabilities(features[train], labels[train], patients[train], features[test], classes)

    def _train(
        self, cell: Cell, patients: tuple[str, ...], prepared: datasets.Dataset
    ) -> tuple[np.ndarray, dict[str, Any]]:
        arm, folder = cell.arm, self.settings.output_dir / "trainer" / cell.key
        shutil.rmtree(folder, ignore_errors=True)  # an interrupted cell starts from the beginning
        fitted = fit_classifier(
            prepared,
            self.processor,
            self._config(cell, folder),
            model=self.settings.model if arm.init in (SCRATCH, STOCK) else arm.init,
            tasks=[self.task],
            patients=patients,
        )
        logits = predicted_logits(fitted.trainer, fitted.images["test"])
        shutil.rmtree(folder, ignore_errors=True)
        return softmax(logits, axis=-1), fitted.figures

    def _bag(
        self, cell: Cell, table: Collection, patients: tuple[str, ...], tested: list[str]
    ) -> tuple[np.ndarray, dict[str, Any]]:
        folder = self.settings.output_dir / "trainer" / cell.key
        shutil.rmtree(folder, ignore_errors=True)
        run: dict[str, Any] = {"output_dir": folder, "seed": cell.seed}
        found = bag_probabilities(self.store(cell.arm), table, self.task, patients, tested, **run)
        shutil.rmtree(folder, ignore_errors=True)
        return found

    def _config(self, cell: Cell, folder: Path) -> ClassificationConfig:
        """Return the recipe of every cell: as many updates and evaluations at each percentage of labels."""
        chosen, arm = self.settings, cell.arm
        interval = max(1, chosen.updates // 10)
        return ClassificationConfig(
            str(folder),
            max_steps=chosen.updates,
            per_device_train_batch_size=chosen.batch_size,
            learning_rate=chosen.learning_rate,
            seed=cell.seed,
            num_workers=chosen.num_workers,
            lesion_loss=arm.lesion_loss,
            tune=arm.tune,
            semi_supervised=arm.semi_supervised,
            sampling="natural" if arm.init == STOCK else "weighted",
            eval_strategy="steps",
            eval_steps=interval,
            save_strategy="steps",
            save_steps=interval,
            save_total_limit=1,
            save_only_model=True,
            logging_steps=interval,
            disable_tqdm=True,
        )


# The results on disk: one file per cell, so that an interrupted run resumes where it was.


def _patients_trained_on(init: str) -> frozenset[str]:
    """Return the patients that an arm's encoder was trained on before; none if it is not a checkpoint's."""
    made_here = init in (SCRATCH, STOCK, FROZEN_RANDOM, *BASELINES)
    return frozenset() if made_here or is_plugin(init) else patients_trained_on(locate(init))


class Results:
    """A folder of results.

    Args:
        folder: Folder of the study.
        settings: Settings of the study, written into ``study.json``; results of other settings are refused.

    Raises:
        UsageError: The folder holds a study of other settings.
    """

    def __init__(self, folder: Path, settings: StudySettings) -> None:
        self.folder = folder / "cells"
        self.folder.mkdir(parents=True, exist_ok=True)
        about = {name: value for name, value in vars(settings).items() if name not in ("output_dir", "num_workers")}
        about["size"] = list(settings.size)
        path = folder / "study.json"
        if path.is_file():
            before = json.loads(path.read_text(encoding="utf-8"))
            other = [name for name, value in about.items() if before.get(name) != value]
            if other:
                raise UsageError(
                    f"holds a study with another {other[0]}: {before.get(other[0])!r}, not {about[other[0]]!r}",
                    source=folder,
                    remedy="give the same arguments, or another `output_dir`",
                )
        write_record(about, path)

    def __contains__(self, cell: Cell) -> bool:
        return self._path(cell).is_file() or self._failure(cell).is_file()

    def save(self, cell: Cell, result: CellResult) -> None:
        """Write a result."""
        write_arrays(self._path(cell), **(result | {"facts": np.array(json.dumps(result["facts"]))}))

    def fail(self, cell: Cell, reason: str) -> None:
        """Write the reason why a cell has no result; it is not tried again."""
        write_whole(self._failure(cell), f"{reason}\n")

    def load(self, cell: Cell) -> CellResult | str | None:
        """Return a result, the reason why there is none, or ``None`` for a cell that has not been run."""
        if self._failure(cell).is_file():
            return self._failure(cell).read_text(encoding="utf-8").strip()
        if not self._path(cell).is_file():
            return None
        with np.load(self._path(cell)) as stored:
            return {name: stored[name] for name in stored.files} | {"facts": json.loads(str(stored["facts"]))}

    def _path(self, cell: Cell) -> Path:
        return self.folder / f"{cell.key}.npz"

    def _failure(self, cell: Cell) -> Path:
        return self.folder / f"{cell.key}.failed"


# The run of a grid: an estimate of its time first, then its cells, in one process or several.


def estimate_seconds(settings: StudySettings, cells: Sequence[Cell]) -> float:
    """Estimate the time of cells in one process, from a few steps of each kind of training.

    Heads on frozen features are not counted: they take seconds.
    """
    by_kind: dict[tuple[str, str, bool], float] = {}
    total = 0.0
    for cell in cells:
        if cell.arm.trained:
            kind = (cell.arm.init, cell.arm.tune, cell.arm.semi_supervised != "none")
            if kind not in by_kind:
                by_kind[kind] = _seconds_per_step(settings, cell.arm)
            # A fifth is added for reading, evaluations and checkpoints
            total += 1.2 * settings.updates * by_kind[kind]
    return total


def _seconds_per_step(settings: StudySettings, arm: Arm, steps: int = 3) -> float:
    start = settings.model if arm.init in (SCRATCH, STOCK) else arm.init
    bare = dict.fromkeys(("class_weights", "task_weights", "ordinal_tasks", "lesion_task"))
    task = [{"name": "task", "labels": ["a", "b"]}]
    config = starting_config(start, settings.size, num_channels=1, tasks=task, **bare, score_from="pooled")
    network = MammoSwinForImageClassification(config).train()
    freeze(network, arm.tune)
    # Two unlabelled images come with each labelled one, and the teacher sees them too, without a gradient
    images = settings.batch_size * (4 if arm.semi_supervised != "none" else 1)
    pixels, labels = torch.zeros(images, 1, *settings.size), torch.zeros(images, 1, dtype=torch.long)
    started = 0.0
    for step in range(steps + 1):
        if step == 1:  # the first step warms up
            started = time.monotonic()
        network(pixels, labels=labels).loss.backward()
    return (time.monotonic() - started) / steps


def run_cells(settings: StudySettings, cells: Sequence[Cell], processes: int) -> None:
    """Run every cell that has no result yet; a cell that cannot be run leaves its reason, and the others are run.

    Args:
        settings: Settings of the study.
        cells: Cells of the grid, in the order in which they are run.
        processes: Number of cells that run at once, each on its part of the cores, or on a GPU of its own if there are
            several.
    """
    results = Results(settings.output_dir, settings)
    left = [cell for cell in cells if cell not in results]
    if not left:
        return
    study = Study(settings)
    earlier = read_terms(settings.output_dir) or ()
    write_terms(settings.output_dir, earlier, *(study.terms(arm) for arm in {cell.arm for cell in left}))
    if processes < 2:
        for cell in tqdm(left, desc="cells", unit="cell", disable=None):
            _run(study, results, cell)
        return
    # made once, before the processes would all begin to
    study.prepared  # noqa: B018
    for arm in {cell.arm.init: cell.arm for cell in left if cell.arm.embedded}.values():
        study.store(arm)
    context = multiprocessing.get_context("spawn")
    counter = context.Value("i", 0)
    with ProcessPoolExecutor(processes, context, _start_worker, (settings, counter, processes)) as pool:
        for _ in tqdm(pool.map(_run_here, left), total=len(left), desc="cells", unit="cell", disable=None):
            pass


_here: tuple[Study, Results] | None = None


def _start_worker(settings: StudySettings, counter: multiprocessing.sharedctypes.Synchronized[int], of: int) -> None:
    global _here
    with counter.get_lock():
        number = counter.value
        counter.value += 1
    if torch.cuda.device_count() > 1:
        torch.cuda.set_device(number % torch.cuda.device_count())
    torch.set_num_threads(max(1, (os.cpu_count() or 1) // of))
    _here = (Study(settings), Results(settings.output_dir, settings))


def _run_here(cell: Cell) -> None:
    assert _here is not None
    _run(*_here, cell)


def _run(study: Study, results: Results, cell: Cell) -> None:
    try:
        results.save(cell, study.run(cell))
    except MammoError as error:
        logger.warning("%s: %s", cell.key, error)
        results.fail(cell, str(error))


# The summary: each arm's AUC with its interval, its gain over its reference, and the labels that it needs.


def summarise(
    results: Results, arms: Sequence[Arm], percentages: Sequence[float], seeds: int, folds: int
) -> list[dict[str, Any]]:
    """Summarise a grid in one row per arm and percentage, as JSON takes it.

    Each row has ``arm``, ``percentage``, ``auroc``, ``interval``, ``by_seed``, and the counts; ``gain`` and
    ``gain_interval`` over its reference, and with the prefix ``unlabelled_`` those over the same arm without unlabelled
    images; ``best_baseline``, the difference from it (``apart``, ``apart_interval``) and ``beats_baselines``: whether
    that interval is above 0; ``beats_free``: whether that from the best baseline without a network is; or ``reason``.
    A difference whose interval holds 0 has a ``..._detectable``: the smallest one that these patients would have shown.
    The row of the largest percentage of an arm with a reference has ``labels_needed``.
    """
    gathered = {(arm, p): gather(results, arm, p, seeds, folds) for arm in arms for p in percentages}
    estimates = {key: estimate for key, (_, estimate) in gathered.items() if estimate is not None}
    rows = []
    for (arm, percentage), (facts, own) in gathered.items():
        row: dict[str, Any] = {"arm": arm.name, "tune": arm.tune, "baseline": arm.is_baseline, "percentage": percentage}
        row |= {"auroc": own and own[0], "interval": own and interval(own), **facts}
        rows.append(row)
        if own is None:
            continue
        row |= _gain(own, arm.reference, estimates.get((arm.reference, percentage)) if arm.reference else None)
        if arm.semi_supervised != "none":
            labelled = replace(arm, semi_supervised="none")
            gain = _gain(own, labelled, estimates.get((labelled, percentage)))
            row |= {f"unlabelled_{name}": value for name, value in gain.items()}
        rivals = {rival: one for (rival, p), one in estimates.items() if p == percentage and rival.is_baseline}
        if not arm.is_baseline and rivals:
            best = max(rivals, key=lambda rival: rivals[rival][0])
            row |= {"best_baseline": best.name, "best_baseline_auroc": rivals[best][0]}
            row |= _apart("apart", _difference(own, rivals[best]))
            row["beats_baselines"] = _is_above(own, rivals[best])
        free = [rivals[rival] for rival in rivals if rival.is_free]
        if not arm.is_free and free:
            row["beats_free"] = _is_above(own, max(free, key=lambda one: one[0]))
    most = max(percentages)
    for row, arm in zip(rows, [arm for arm in arms for _ in percentages], strict=True):
        if row["percentage"] == most and arm.reference is not None and arm.reference in arms:
            (reference,) = [one for one in rows if (one["arm"], one["percentage"]) == (arm.reference.name, most)]
            row["labels_needed"] = _labels_needed(arm, reference, estimates)
    return rows


def gather(
    results: Results, arm: Arm, percentage: float, seeds: int, folds: int
) -> tuple[dict[str, Any], Estimate | None]:
    """Gather an arm's cells at a percentage.

    With folds, each image is scored once per seed; scores are ranked within their fold first, so that a fold with
    higher scores as a whole does not count as better. The AUC is the macro average if there are more than two classes.

    Returns:
        The AUC of each seed, mean facts, and the reason for what is missing; and the mean AUC over the seeds, if any.
    """
    areas, draws, without, facts, reason = [], [], [], [], ""
    for seed in range(seeds):
        loaded = [results.load(Cell(arm, percentage, seed, fold)) for fold in (range(folds) if folds else (-1,))]
        whole = [one for one in loaded if isinstance(one, dict)]
        if len(whole) < len(loaded):
            reason = next((one for one in loaded if isinstance(one, str)), "not run yet")
            continue
        labels, patients = (np.concatenate([one[name] for one in whole]) for name in ("labels", "patients"))
        scores = np.concatenate([_ranked(one["probabilities"]) if folds else one["probabilities"] for one in whole])
        metric, values = auroc_of(scores)
        rows = {"": rows_of(metric)}
        try:
            areas.append(metric(labels, values))
            draws.append(resampled(rows, labels, values, groups=patients, resamples=RESAMPLES)[""])
            without.append(without_each(rows, labels, values, groups=patients)[""])
        except UndefinedMetric as error:
            reason = error.reason
            continue
        facts += [one["facts"] for one in whole]
    if reason and areas:
        reason = f"of {len(areas)} seeds alone: {reason}"
    found = {"by_seed": areas, **_means(facts), **({"reason": reason} if reason else {})}
    if areas:  # each seed tests the same patients, in its folds together
        found |= {"test_patients": len(set(patients.tolist())), "class_counts": np.bincount(labels).tolist()}
    return found, (float(np.mean(areas)), np.mean(draws, axis=0), np.mean(without, axis=0)) if areas else None


def _ranked(probabilities: np.ndarray) -> np.ndarray:
    ranks: np.ndarray = rankdata(probabilities, axis=0) / len(probabilities)
    return ranks


def _means(facts: Sequence[Mapping[str, Any]]) -> dict[str, float]:
    names = ("train_patients", "train_images", "updates", "seconds")
    known = [name for name in names if facts and all(name in one for one in facts)]
    return {name: float(np.mean([one[name] for one in facts])) for name in known}


def interval(one: Estimate) -> tuple[float, float] | None:
    """Return the BCa interval of an estimate; ``None`` if it is not defined."""
    value, draws, left_out = one
    try:
        return bca(draws, value, left_out, len(left_out))
    except UndefinedMetric:
        return None


def _difference(one: Estimate, other: Estimate) -> Estimate:
    return one[0] - other[0], one[1] - other[1], one[2] - other[2]


def _gain(one: Estimate, reference: Arm | None, other: Estimate | None) -> dict[str, Any]:
    if reference is None or other is None:
        return {}
    return {"reference": reference.name} | _apart("gain", _difference(one, other))


def _apart(name: str, difference: Estimate) -> dict[str, Any]:
    """Return a difference and its interval, and what would have been detected if none is shown."""
    found: dict[str, Any] = {name: difference[0], f"{name}_interval": interval(difference)}
    low, high = found[f"{name}_interval"] or (1.0, 1.0)
    return found | ({f"{name}_detectable": detectable_difference((low, high))} if low <= 0 <= high else {})


def _is_above(one: Estimate, other: Estimate) -> bool:
    ends = interval(_difference(one, other))
    return ends is not None and ends[0] > 0


def _labels_needed(
    arm: Arm, reference: Mapping[str, Any], estimates: Mapping[tuple[Arm, float], Estimate]
) -> dict[str, Any]:
    """Find the smallest percentage at which an arm reaches its reference with all labels.

    Args:
        arm: Arm that has a reference.
        reference: Row of the reference at the largest percentage.
        estimates: Estimates of all arms and percentages.

    Returns:
        ``arm``, ``reference``, ``of`` and ``at`` (the reference's AUC, and its percentage), and ``percentage``, the
        smallest one measured at which the arm's AUC is at least that, or ``None``, with ``percentage_interval`` over
        the same resamples, of which an end is ``None`` if no percentage reaches it. A reference that has not been shown
        to be above the best baseline without a network has learned nothing that labels could be saved of: it has
        ``no_reference``, and no percentage.
    """
    at, name = float(reference["percentage"]), reference["arm"]
    found: dict[str, Any] = {"arm": arm.name, "reference": name, "of": reference["auroc"], "at": at, "percentage": None}
    if not reference.get("beats_free"):
        return found | {"no_reference": True}
    assert arm.reference is not None
    own = {percentage: one[:2] for (other, percentage), one in estimates.items() if other == arm}
    if not own:
        return found
    found["percentage"], ends = percentage_needed(own, estimates[arm.reference, at][:2])
    return found | {"percentage_interval": list(ends)}


def percentage_needed(
    own: Mapping[float, tuple[float, np.ndarray]], aim: tuple[float, np.ndarray]
) -> tuple[float | None, tuple[float | None, float | None]]:
    """Find the smallest percentage of the labels with a figure that is at least another one.

    Args:
        own: From each percentage to its figure, and the figure on each resample.
        aim: Figure to reach, and its value on the same resamples.

    Returns:
        The percentage, or ``None`` if none reaches it; and the 95 % interval over the resamples, likewise.
    """
    percentages = [*sorted(own), None]
    reached = np.stack([*(own[p][1] >= aim[1] for p in percentages[:-1] if p is not None), np.ones(len(aim[1]), bool)])
    low, high = np.quantile(reached.argmax(0), (0.025, 0.975), method="nearest")
    smallest = next((p for p in percentages if p is not None and own[p][0] >= aim[0]), None)
    return smallest, (percentages[int(low)], percentages[int(high)])


def labels_needed(rows: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Return the labels that each arm with a reference needs, from the rows of `summarise`."""
    return [row["labels_needed"] for row in rows if "labels_needed" in row]
