"""The study of label efficiency: a collection and task, the run of its cells, and their results on disk."""

from __future__ import annotations

import io
import json
import logging
import multiprocessing
import os
import shutil
import time
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import datasets
import numpy as np
import torch
from scipy.special import softmax
from tqdm.auto import tqdm

from ..data.collection import Collection
from ..data.loading import load
from ..data.prepare.reading import for_training
from ..data.training_data import patients_trained_on, prepared_images, training_processor, usable_tasks
from ..errors import DataError, MammoError, UsageError
from ..files import write_record, write_whole
from ..models.checkpoint import starting_config
from ..models.modeling_mammo_swin import MammoSwinForImageClassification
from ..training.callbacks import freeze
from ..training.classification import ClassificationConfig, fit_classifier, predicted_logits
from .cells import FROZEN_RANDOM, SCRATCH, STOCK, Arm, Cell
from .features import attentive_probabilities, frozen_encoder, frozen_features, logistic_probabilities, statistics_table
from .folds import Sides, check_unseen, sides_of, with_saved_test

# A study: one collection and task, opened once, and the run of any of its cells.


logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class StudySettings:
    """What every cell of a study shares.

    Attributes:
        dataset: A collection, or a folder that ``mammo-hf prepare`` wrote.
        task: What is told apart.
        out: Folder of results, features and prepared images.
        size: (height, width) of the model's input.
        model: Size of an encoder that starts from scratch.
        folds: Of cross-validation by patient; 0: the collection's own test split.
        split_file: A saved split whose test patients are tested, where the collection has no test split of its own.
        validation_fraction: Fraction of the training patients that choose the best evaluation of a training.
        updates: Optimiser steps of a training, whatever the share of labels.
        batch_size: Of a training.
        learning_rate: Of a training.
        num_workers: Processes that read and prepare images.
    """

    dataset: str
    task: str
    out: Path
    size: tuple[int, int]
    model: str = "tiny"
    folds: int = 0
    split_file: str | None = None
    validation_fraction: float = 0.15
    updates: int = 3000
    batch_size: int = 8
    learning_rate: float = 5e-4
    num_workers: int = 0


@dataclass(frozen=True)
class CellResult:
    """What a cell's test images were given.

    Attributes:
        images: Salted hashes, (n,).
        patients: Salted hashes, (n,).
        labels: int64 (n,).
        probabilities: float64 (n, classes).
        facts: Counts and seconds.
    """

    images: np.ndarray
    patients: np.ndarray
    labels: np.ndarray
    probabilities: np.ndarray
    facts: dict[str, Any] = field(default_factory=dict)


class Study:
    """A collection's images prepared, and cells run on them."""

    def __init__(self, settings: StudySettings) -> None:
        self.settings = settings
        self.table: Collection = with_saved_test(load(settings.dataset), settings.split_file)
        self.task = usable_tasks(self.table, (settings.task,))[0]
        self.processor = training_processor(settings.dataset, size=settings.size)
        # the split that was made last, which the next arm asks for again; and features, which every share asks for
        self._last: tuple[tuple[float, int, int], Sides] | None = None
        self._features: dict[str, dict[str, np.ndarray]] = {}
        self._seen: dict[str, frozenset[str]] = {}

    @cached_property
    def prepared(self) -> datasets.Dataset:
        """All images of the collection on the processor's canvas, in the table's order."""
        return prepared_images(
            self.table,
            self.processor,
            self.settings.out / "prepared",
            tasks=[self.task],
            num_workers=self.settings.num_workers,
        )

    @cached_property
    def statistics(self) -> dict[str, np.ndarray]:
        """The features of the baselines that need no network."""
        paths = dict(zip(self.table.column("image_id"), self.table.column("path"), strict=True))
        sources = [paths[image] for image in self.prepared["image_id"]]
        return statistics_table(self.prepared, sources, self.settings.out / "features")

    def features(self, arm: Arm, seed: int) -> np.ndarray:
        """The features (images, ...) of an arm without training.

        Raises:
            DataError: They cannot be had of these data.
        """
        if arm.tune == "baseline":
            if arm.init not in self.statistics:
                raise DataError("the source files cannot be read", source=arm.init)
            return self.statistics[arm.init]
        # another random encoder for each seed; a checkpoint is the same for all
        name = f"random_{self.settings.model}_{seed}" if arm.init == FROZEN_RANDOM else Path(arm.init).name
        if name not in self._features:
            encoder = frozen_encoder(arm.init, self.settings.model, self.processor, seed)
            folder = self.settings.out / "features" / name
            self._features[name] = frozen_features(encoder, self.prepared, self.processor, folder)
        return self._features[name][arm.pool]

    def sides(self, cell: Cell) -> Sides:
        """The split of a cell; the same for every arm of a seed and fold."""
        key = cell.percentage, cell.seed, cell.fold
        if self._last is None or self._last[0] != key:
            sides = sides_of(
                self.table,
                self.task,
                percentage=cell.percentage,
                seed=cell.seed,
                fold=cell.fold,
                folds=self.settings.folds,
                validation_fraction=self.settings.validation_fraction,
            )
            self._last = key, sides
        return self._last[1]

    def run(self, cell: Cell) -> CellResult:
        """Fits a cell's arm and scores its test images.

        Raises:
            DataError: A training subset has labels of one class only, a baseline cannot be had, or the encoder has
                learnt from a test patient.
        """
        started = time.monotonic()
        sides = self.sides(cell)
        check_unseen(sides, self._patients_trained_on(cell.arm.init), cell.arm.name)
        # the same images in the same order, so that features stand where they stood
        prepared = for_training(self.prepared, sides.table, [self.task])
        labels = np.array(prepared["labels"], dtype=np.int64)[:, 0]
        patients, split = np.array(prepared["patient"]), np.array(prepared["split"])
        test = np.flatnonzero((split == "test") & (labels >= 0))
        if cell.arm.trained:
            probabilities, facts = self._train(cell, sides, prepared)
        else:
            train = np.flatnonzero((split == "train") & (labels >= 0) & np.isin(patients, sides.patients))
            probabilities = self._fit(cell, train, test, labels, patients)
            facts = {"train_images": len(train)}
        facts |= {"train_patients": len(sides.patients), "seconds": time.monotonic() - started}
        return CellResult(np.array(prepared["image_id"])[test], patients[test], labels[test], probabilities, facts)

    def _patients_trained_on(self, init: str) -> frozenset[str]:
        if init not in self._seen:  # once, as it says where it is not known
            self._seen[init] = patients_trained_on(init)
        return self._seen[init]

    def _fit(
        self, cell: Cell, train: np.ndarray, test: np.ndarray, labels: np.ndarray, patients: np.ndarray
    ) -> np.ndarray:
        if len(set(labels[train])) < 2:
            raise DataError("the training subset has labels of one class only", remedy="use a larger share")
        features, classes = self.features(cell.arm, cell.seed), len(self.task["labels"])
        if cell.arm.pool == "attentive" and cell.arm.tune == "head":
            return attentive_probabilities(features[train], labels[train], features[test], classes, seed=cell.seed)
        return logistic_probabilities(features[train], labels[train], patients[train], features[test], classes)

    def _train(self, cell: Cell, sides: Sides, prepared: datasets.Dataset) -> tuple[np.ndarray, dict[str, Any]]:
        arm, folder = cell.arm, self.settings.out / "trainer" / cell.key
        shutil.rmtree(folder, ignore_errors=True)  # a cell is run whole, or again
        fitted = fit_classifier(
            prepared,
            self.processor,
            self._config(cell, folder),
            model=self.settings.model if arm.init in (SCRATCH, STOCK) else arm.init,
            tasks=[self.task],
            patients=sides.patients,
        )
        logits = predicted_logits(fitted.trainer, fitted.images["test"])
        shutil.rmtree(folder, ignore_errors=True)
        return softmax(logits, axis=-1), fitted.figures

    def _config(self, cell: Cell, folder: Path) -> ClassificationConfig:
        """Return the recipe of every cell: as many updates and evaluations at each percentage of labels."""
        chosen, arm = self.settings, cell.arm
        between = max(1, chosen.updates // 10)
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
            eval_steps=between,
            save_strategy="steps",
            save_steps=between,
            save_total_limit=1,
            save_only_model=True,
            logging_steps=between,
            disable_tqdm=True,
        )


# The results of a grid on disk: a file a cell, so that a broken run goes on where it was.


class Results:
    """A folder of results.

    Args:
        folder: Of the study.
        settings: Written into ``study.json``; results of other settings are refused.

    Raises:
        UsageError: The folder holds a study of other settings.
    """

    def __init__(self, folder: Path, settings: StudySettings) -> None:
        self.folder = folder / "cells"
        self.folder.mkdir(parents=True, exist_ok=True)
        about = {name: _plain(value) for name, value in vars(settings).items() if name not in ("out", "num_workers")}
        path = folder / "study.json"
        if path.is_file():
            before = json.loads(path.read_text(encoding="utf-8"))
            other = [name for name, value in about.items() if before.get(name) != value]
            if other:
                raise UsageError(
                    f"holds a study with another {other[0]}: {before.get(other[0])!r}, not {about[other[0]]!r}",
                    source=folder,
                    remedy="give the same arguments, or another --output_dir",
                )
        write_record(about, path)

    def __contains__(self, cell: Cell) -> bool:
        return self._path(cell).is_file() or self._failure(cell).is_file()

    def save(self, cell: Cell, result: CellResult) -> None:
        """Writes a result; it appears whole or not at all."""
        content = io.BytesIO()
        arrays = {name: value for name, value in vars(result).items() if name != "facts"}
        np.savez(content, **arrays, facts=np.array(json.dumps(result.facts)))
        write_whole(self._path(cell), content.getvalue())

    def fail(self, cell: Cell, reason: str) -> None:
        """Writes why a cell has no result; it is not tried again."""
        write_whole(self._failure(cell), reason.encode() + b"\n")

    def load(self, cell: Cell) -> CellResult | str | None:
        """A result, the reason why there is none, or ``None`` for a cell that has not been run."""
        if self._failure(cell).is_file():
            return self._failure(cell).read_text(encoding="utf-8").strip()
        if not self._path(cell).is_file():
            return None
        with np.load(self._path(cell)) as stored:
            arrays = {name: stored[name] for name in stored.files if name != "facts"}
            return CellResult(**arrays, facts=json.loads(str(stored["facts"])))

    def _path(self, cell: Cell) -> Path:
        return self.folder / f"{cell.key}.npz"

    def _failure(self, cell: Cell) -> Path:
        return self.folder / f"{cell.key}.failed"


def _plain(value: Any) -> Any:
    return list(value) if isinstance(value, tuple) else value


# Running a grid: an estimate of its time first, then its cells, in one process or several.


ENOUGH_UPDATES = 3000  # below, a network trained in full on image labels may be at chance for no other reason


def estimate_seconds(settings: StudySettings, cells: Sequence[Cell]) -> float:
    """About how long these cells take in one process, from a few steps of each kind of training.

    Heads on frozen features are not counted: they take seconds.
    """
    by_kind: dict[tuple[str, str, bool], float] = {}
    total = 0.0
    for cell in cells:
        if cell.arm.trained:
            kind = (cell.arm.init, cell.arm.tune, cell.arm.semi_supervised != "none")
            if kind not in by_kind:
                by_kind[kind] = _seconds_a_step(settings, cell.arm)
            # a fifth on top: reading, evaluations and checkpoints
            total += 1.2 * settings.updates * by_kind[kind]
    return total


def _seconds_a_step(settings: StudySettings, arm: Arm, steps: int = 3) -> float:
    start = settings.model if arm.init in (SCRATCH, STOCK) else arm.init
    bare = dict.fromkeys(("class_weights", "task_weights", "ordinal_tasks", "lesion_task"))
    task = [{"name": "task", "labels": ["a", "b"]}]
    config = starting_config(start, settings.size, num_channels=1, tasks=task, **bare, score_from="pooled")
    network = MammoSwinForImageClassification(config).train()
    freeze(network, arm.tune)
    # two unlabelled images come along with each, their teacher's view without a gradient
    images = settings.batch_size * (4 if arm.semi_supervised != "none" else 1)
    pixels, labels = torch.zeros(images, 1, *settings.size), torch.zeros(images, 1, dtype=torch.long)
    started = 0.0
    for step in range(steps + 1):
        if step == 1:  # the first one warms up
            started = time.monotonic()
        network(pixels, labels=labels).loss.backward()
    return (time.monotonic() - started) / steps


def run_cells(settings: StudySettings, cells: Sequence[Cell], processes: int) -> None:
    """Runs every cell that has no result yet. One that cannot be run leaves its reason, and the others go on.

    Args:
        settings: Of the study.
        cells: Of the grid, in the order in which they are run.
        processes: How many run at once, each on its share of the cores, or on a GPU of its own where there are some.
    """
    results = Results(settings.out, settings)
    left = [cell for cell in cells if cell not in results]
    if not left:
        return
    if processes < 2:
        study = Study(settings)
        for cell in tqdm(left, desc="cells", unit="cell"):
            _run(study, results, cell)
        return
    Study(settings).prepared  # noqa: B018 (prepared once, before the processes would all begin to)
    context = multiprocessing.get_context("spawn")
    counter = context.Value("i", 0)
    arguments = (settings, counter, processes)
    with ProcessPoolExecutor(processes, context, _start_worker, arguments) as pool:
        for _ in tqdm(pool.map(_run_here, left), total=len(left), desc="cells", unit="cell"):
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
    _here = (Study(settings), Results(settings.out, settings))


def _run_here(cell: Cell) -> None:
    assert _here is not None
    _run(*_here, cell)


def _run(study: Study, results: Results, cell: Cell) -> None:
    try:
        results.save(cell, study.run(cell))
    except MammoError as error:
        logger.warning("%s: %s", cell.key, error)
        results.fail(cell, str(error))
