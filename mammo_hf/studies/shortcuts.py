"""Shortcuts: classifiers that need no network, and probes of how well features reveal where an image is from.

A model that is not above them has shown nothing; features that distinguish collections or scanners can be used as a
shortcut wherever these go with the label.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import datasets
import numpy as np
import torch

from ..data.collection import Collection
from ..data.prepare.folder import folder_of, for_training, open_prepared
from ..data.prepare.row import digest
from ..data.splits import in_hash_order
from ..data.terms import write_terms
from ..encoders.logistic import logistic_probabilities
from ..errors import DataError
from ..evaluation.classifier import Evaluation, evaluate_classifier, fit_on_validation
from ..evaluation.scored import Scored, score_images, scored
from ..metrics.classification import auroc_of
from ..metrics.inputs import UndefinedMetric
from ..metrics.intervals import bootstrap_interval
from ..models.checkpoint import load_model, load_processor
from ..models.modeling_mammo_swin import MammoSwinForImageClassification
from ..models.training_statistics import pooled_features
from .cells import BOOSTED, SCANNER
from .features import boosted_probabilities, scanner_features, statistics_table, write_arrays

STATISTICS = "image statistics"
FREE = (STATISTICS, f"{STATISTICS}{BOOSTED}", SCANNER)
PROBED, FEWEST_PATIENTS, FOLDS = 300, 10, 5  # patients of a collection that are probed; of a value; folds over them
Figures = dict[str, Any]


class Shown:
    """A prepared collection's images with the labels of a task, and their statistics.

    Args:
        collection: Collection of a prepared folder, with the splits that count.
        source: The same images as they were opened, with the paths of their files.
        task: Task of the labels.
        cache: Folder that statistics are kept in.
    """

    def __init__(self, collection: Collection, source: Collection, task: Mapping[str, Any], cache: Path) -> None:
        self.collection, self.task = collection, dict(task)
        folder = folder_of(collection)
        assert folder is not None
        rows = open_prepared(folder, collection.column("image_id"))
        self.rows: datasets.Dataset = for_training(rows, collection, [self.task], lesions=False)
        columns = (source.column(name) for name in ("image_id", "vendor", "stratum", "path"))
        self._facts = {image: facts for image, *facts in zip(*columns, strict=True)}
        self._cache = cache / digest(list(self.rows["image_id"]))

    @property
    def labels(self) -> np.ndarray:
        """Labels (n,) of the rows, int64; -100 if not known."""
        return np.array(self.rows["labels"], dtype=np.int64).reshape(len(self.rows))

    @property
    def statistics(self) -> dict[str, np.ndarray]:
        """Statistics of the images and, if their files are there, of the acquisition."""
        paths = [self._facts[image][2] for image in self.rows["image_id"]]
        write_terms(self._cache, self.collection.terms)
        return statistics_table(self.rows, paths, self._cache)

    def facts(self, number: int) -> list[Any]:
        """Return the vendors (0), strata (1) or paths (2) of the rows."""
        return [self._facts[image][number] for image in self.rows["image_id"]]


# Classifiers that need no network, trained on the home of a model and evaluated elsewhere.


def evaluate_free(name: str, home: Shown, tested: Shown, **draw: Any) -> Evaluation:
    """Fit one of `FREE` on the training images of a collection, and evaluate it on images of the same or another.

    Args:
        name: Which one.
        home: Collection that it is trained on; its validation split fixes calibration and operating points.
        tested: Images to evaluate on, with the labels of the same task.
        draw: Arguments ``resamples`` and ``seed`` of the intervals.

    Raises:
        DataError: The training images have labels of one class only, or their files cannot be read.
    """
    train, judge = (_rows_of(home, split) for split in ("train", "validation"))
    features, labels = _features(name, home, tested), home.labels
    patients, classes = np.array(home.rows["patient"]), len(home.task["labels"])
    if len(set(labels[train].tolist())) < 2:
        raise DataError("the training images have labels of one class only", source=home.collection.root)

    def logits(rows: np.ndarray) -> np.ndarray:
        if name.endswith(BOOSTED):
            found = boosted_probabilities(features[0][train], labels[train], rows, classes, seed=draw["seed"])
        else:
            found = logistic_probabilities(features[0][train], labels[train], patients[train], rows, classes)
        return np.log(np.clip(found, 1e-12, None))

    config: Any = SimpleNamespace(tasks=[home.task], calibration=None, operating_points=None)
    fits = None
    if len(judge):
        fits = fit_on_validation(config.tasks, _scored(logits(features[0][judge]), home, judge))
    known = np.flatnonzero(tested.labels >= 0)
    return evaluate_classifier(config, _scored(logits(features[1][known]), tested, known), fits=fits, **draw)


def _rows_of(shown: Shown, split: str) -> np.ndarray:
    return np.flatnonzero((np.array(shown.rows["split"]) == split) & (shown.labels >= 0))


def _features(name: str, home: Shown, tested: Shown) -> tuple[np.ndarray, np.ndarray]:
    if name != SCANNER:
        statistics = (one.statistics[name.removesuffix(BOOSTED)] for one in (home, tested))
        return next(statistics), next(statistics)
    together = scanner_features(*([*home.facts(number), *tested.facts(number)] for number in range(3)))
    if not together.shape[1]:
        together = np.zeros((len(together), 1))  # all images are alike: a constant score
    return together[: len(home.rows)], together[len(home.rows) :]


def _scored(logits: np.ndarray, shown: Shown, rows: np.ndarray) -> Scored:
    return scored(logits, shown.rows.select(rows), shown.collection)


# The probe: do features distinguish the collections, and the strata within one?


def probe(shown: Mapping[str, Shown], models: Mapping[str, Path], out: Path, **draw: int) -> list[Figures]:
    """Measure how well frozen features and statistics distinguish collections, and the strata of each.

    A logistic regression is fitted in cross-validation over at most `PROBED` patients of each collection.

    Args:
        shown: Images of each collection.
        models: Swin classifiers by name, the pooled features of which are probed.
        out: Folder of the features, which are kept.
        draw: Arguments ``resamples`` and ``seed`` of the intervals.

    Returns:
        For each kind of features and each target ("collection", or "stratum of NAME"): ``features``, ``target``,
        ``values``, ``n_images``, ``n_patients``, ``auroc`` (the macro average over more than two values) and
        ``auroc_interval``, or ``auroc_reason``.
    """
    chosen = {name: _probed_rows(one, draw["seed"]) for name, one in shown.items()}
    tables: dict[str, dict[str, np.ndarray]] = {}
    for name, one in shown.items():
        statistics = one.statistics
        for kind in (STATISTICS, "acquisition statistics"):
            if kind in statistics:
                tables.setdefault(kind, {})[name] = statistics[kind][chosen[name]]
        for model, folder in models.items():
            tables.setdefault(model, {})[name] = _frozen(folder, one, chosen[name], out / name / model)
    patients = {name: np.array(one.rows["patient"])[chosen[name]] for name, one in shown.items()}
    strata = {name: np.array([str(v) for v in one.facts(1)])[chosen[name]] for name, one in shown.items()}
    found = []
    for kind, of_collection in tables.items():
        if len(of_collection) > 1:
            values = np.concatenate([[name] * len(table) for name, table in of_collection.items()])
            keys = np.concatenate([np.char.add(f"{name} ", patients[name]) for name in of_collection])
            features = np.concatenate(list(of_collection.values()))
            found.append({"features": kind, "target": "collection", **_probed(features, values, keys, **draw)})
        for name, table in of_collection.items():
            if len(set(strata[name].tolist())) > 1:
                told = _probed(table, strata[name], patients[name], **draw)
                found.append({"features": kind, "target": f"stratum of {name}", **told})
    return found


def _probed_rows(shown: Shown, seed: int) -> np.ndarray:
    patients = np.array(shown.rows["patient"])
    kept = in_hash_order(set(patients.tolist()), purpose="probe", seed=seed)[:PROBED]
    return np.flatnonzero(np.isin(patients, kept))


@torch.no_grad()
def _frozen(folder: Path, shown: Shown, rows: np.ndarray, kept: Path) -> np.ndarray:
    """Return the pooled features (images, channels) of a classifier's encoder, from their file if it is there."""
    images, path = shown.rows.select(rows), kept / "pooled.npz"
    if path.is_file():
        with np.load(path) as stored:
            if stored["images"].tolist() == images["image_id"][:]:
                found: np.ndarray = stored["features"]
                return found
    network = load_model(MammoSwinForImageClassification, folder).eval()
    with pooled_features(network) as seen:
        score_images(network, images, load_processor(folder))
    features: np.ndarray = torch.cat(seen).numpy()
    kept.mkdir(parents=True, exist_ok=True)
    write_arrays(path, images=np.array(images["image_id"]), features=features)
    return features


def _probed(features: np.ndarray, values: np.ndarray, patients: np.ndarray, **draw: int) -> Figures:
    names, target = np.unique(values, return_inverse=True)
    enough = [len(set(patients[target == number].tolist())) >= FEWEST_PATIENTS for number in range(len(names))]
    kept = np.flatnonzero(np.array(enough)[target])
    names, target = np.unique(values[kept], return_inverse=True)
    features, patients = features[kept], patients[kept]
    about: Figures = {"values": names.tolist(), "n_images": len(kept), "n_patients": len(set(patients.tolist()))}
    if len(names) < 2:
        reason = f"fewer than two values have {FEWEST_PATIENTS} patients"
        return about | {"auroc": None, "auroc_interval": None, "auroc_reason": reason}
    order = in_hash_order(set(patients.tolist()), purpose="folds", seed=draw["seed"])
    probabilities = np.zeros((len(kept), len(names)))
    for fold in range(FOLDS):
        test = np.isin(patients, order[fold::FOLDS])
        fitted = features[~test], target[~test], patients[~test], features[test], len(names)
        probabilities[test] = logistic_probabilities(*fitted)
    metric, scores = auroc_of(probabilities)
    try:
        area = metric(target, scores)
        return about | {
            "auroc": area,
            "auroc_interval": list(bootstrap_interval(metric, target, scores, groups=patients, **draw)),
        }
    except UndefinedMetric as error:
        return about | {"auroc": None, "auroc_interval": None, "auroc_reason": error.reason}
