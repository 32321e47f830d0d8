"""A study: one collection and task, opened once, and the run of any of its cells."""

from __future__ import annotations

import logging
import shutil
import time
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import datasets
import numpy as np
from scipy.special import softmax
from transformers import TrainingArguments

from ..data import MammoTable, load
from ..data.prepare import for_training
from ..errors import DataError
from ..training.arguments import ClassificationSettings, sensible_defaults
from ..training.classification import fit_classifier
from ..training.collection import prepared_images, usable_tasks, whom_it_has_seen
from ..training.processors import training_processor
from ..training.scoring import predicted_logits
from .baselines import statistics_table
from .cells import FROZEN_RANDOM, SCRATCH, STOCK, Arm, Cell
from .features import frozen_encoder, frozen_features
from .folds import Sides, check_unseen, sides_of, with_saved_test
from .heads import attentive_probabilities, logistic_probabilities

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
        validation: Share of the training patients that choose the best evaluation of a training.
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
    validation: float = 0.15
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
        self.table: MammoTable = with_saved_test(load(settings.dataset), settings.split_file)
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
                validation=self.settings.validation,
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
        check_unseen(sides, self._whom_it_has_seen(cell.arm.init), cell.arm.name)
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

    def _whom_it_has_seen(self, init: str) -> frozenset[str]:
        if init not in self._seen:  # once, as it says where it is not known
            self._seen[init] = whom_it_has_seen(init)
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
            self._arguments(folder, cell.seed),
            model=self.settings.model if arm.init in (SCRATCH, STOCK) else arm.init,
            tasks=[self.task],
            patients=sides.patients,
            settings=ClassificationSettings(
                lesion_loss=arm.lesion_loss,
                tune=arm.tune,
                semi_supervised=arm.semi_supervised,
                sampling="natural" if arm.init == STOCK else "weighted",
            ),
        )
        logits = predicted_logits(fitted.trainer, fitted.images["test"])
        shutil.rmtree(folder, ignore_errors=True)
        return softmax(logits, axis=-1), fitted.figures

    def _arguments(self, folder: Path, seed: int) -> TrainingArguments:
        chosen = self.settings
        between = max(1, chosen.updates // 10)
        return sensible_defaults(
            str(folder),
            epochs=1,
            batch_size=chosen.batch_size,
            learning_rate=chosen.learning_rate,
            seed=seed,
            num_workers=chosen.num_workers,
            show_progress=False,
            max_steps=chosen.updates,
            eval_strategy="steps",
            eval_steps=between,
            save_strategy="steps",
            save_steps=between,
            save_total_limit=1,
            save_only_model=True,
            logging_steps=between,
        )
