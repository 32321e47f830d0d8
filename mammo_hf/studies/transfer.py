"""Study of transfer: how each of several models fares on each of several collections, at home and away.

Every model scores the same images of a collection: its test split if it has one, or else all labelled images. Left out
are patients that one of the models was trained on, and films that are among their training images under another name.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np
from scipy.special import ndtri
from scipy.stats import false_discovery_control

from ..data.collection import Collection
from ..data.datasets.tables import SUFFIXES as TABLE_SUFFIXES
from ..data.leaks import close_pairs, source_hashes
from ..data.loading import load
from ..data.prepare.folder import folder_of
from ..data.prepare.row import digest, fit_parameters
from ..data.splits import SPLIT_FILE, in_hash_order, read_seen, read_split
from ..data.training_data import open_as_trained
from ..errors import DataError, UsageError, check_number
from ..evaluation.classifier import Evaluation, main_figures, published
from ..evaluation.evaluate import evaluate
from ..evaluation.strata import PATIENT, patient_strata
from ..files import writable_folder, write_record
from ..hub.prepare import prepare
from ..inference.predict import identity
from ..metrics.calibration import calibrated, fit_calibration
from ..metrics.classification import auroc_within, brier, ece
from ..metrics.comparisons import DeLong, delong, paired_delong
from ..metrics.inputs import UndefinedMetric
from ..metrics.intervals import bootstrap_interval, detectable_difference, paired_interval
from ..models.checkpoint import BAG, is_bag, load_processor, locate, name_of, read_tasks
from .shortcuts import FREE, Shown, evaluate_free, probe

logger = logging.getLogger(__name__)
RECALIBRATED = 0.25  # fraction of a collection's patients that a model is recalibrated on; they are then left out
REPORT, SCORES = "report.json", "scores.json"
Figures = dict[str, Any]
Translation = tuple[str, str, dict[str, str]]


def transfer(
    models: Sequence[str | Path],
    datasets: Sequence[str | Path],
    output_dir: str | Path,
    *,
    task_map: Sequence[str] = (),
    reading: Mapping[str, Any] | None = None,
    near_duplicates: bool = True,
    baselines: bool = True,
    resamples: int = 2000,
    seed: int = 0,
    batch_size: int = 16,
    num_workers: int = 2,
    device: str = "auto",
) -> Figures:
    """Evaluate models on collections, and compare them with one another and with themselves at home.

    Each pair of a model and a collection has a folder of its own with a report; a run that was interrupted is resumed
    by the same call.

    Args:
        models: Classifiers, as `mammo_hf.evaluate` takes them, heads over features among them.
        datasets: Collections, as `mammo_hf.load` takes them. The one that a model was trained on is its home.
        output_dir: Folder of the reports and of ``transfer.json``.
        task_map: What a model's task is called elsewhere: "pathology=cancer:no=benign,yes=malignant" for the model's
            task pathology, which is cancer in a collection without pathology, with its labels and the model's.
        reading: Options of `mammo_hf.load` for each of the collections, such as ``{"stratum": "scanner"}``.
        near_duplicates: Whether films that are among a model's training images under another name are left out, by
            their perceptual hash; each file of the collections is read once more for that.
        baselines: Whether classifiers that need no network (statistics of the image, the scanner alone), trained on the
            home of each model, are evaluated too, and whether it is probed how well features distinguish the
            collections and their strata.
        resamples: Bootstrap resamples of the intervals.
        seed: Seed of the bootstrap, and of the choice of the patients who recalibrate.
        batch_size: Images per batch.
        num_workers: Processes that prepare and read images.
        device: "auto", "cpu" or "cuda".

    Returns:
        Figures as JSON takes them: ``cells`` (one for each model, collection and task), ``differences`` (between models
        on one collection and task), ``left_out`` (images by collection that a model knows under another name) and
        ``probe`` (`shortcuts.probe`).

    Raises:
        UsageError: An argument is wrong, or a model is not a classifier.
        DataError: A collection cannot be read, or no image of it has a label that a model knows.
    """
    # Check the arguments and the models before an image is read
    check_number("resamples", resamples, resamples >= 100, "100 or more")
    folders = _by_name([locate(model) for model in models], name_of, "models")
    places = _by_name(datasets, _place_name, "datasets")
    tasks = {name: read_tasks(folder, ("swin", BAG)) for name, folder in folders.items()}
    translations = [_translation(text) for text in task_map]
    out = writable_folder(Path(output_dir))
    # Choose the images, the same for every model
    opened = {name: load(place, **(reading or {})) for name, place in places.items()}
    whole = {name: _as_trained(one, list(folders.values()), translations) for name, one in opened.items()}
    tested, left_out = _tested(whole, list(folders.values()), near_duplicates)
    # Score and evaluate them
    how: dict[str, Any] = {"resamples": resamples, "seed": seed, "batch_size": batch_size}
    how |= {"num_workers": num_workers, "device": device}
    cells: list[Figures] = []
    for dataset, collection in tested.items():
        for model, folder in folders.items():
            cell = _cell(folder, collection, tasks[model], out, f"{dataset}/{model}", how)
            is_home = _is_home(folder, whole[dataset])
            cells += [{"model": model, "dataset": dataset, "home": is_home, **of_task} for of_task in cell]
    # Find out what costs nothing, and how well features distinguish the collections
    probed: list[Figures] = []
    if baselines:
        shown = _Shelf(whole, tested, next(iter(folders.values())), out, how)
        for home, task in _homes(folders, tasks, whole):
            cells += _free_cells(shown, home, task)
        probed = shown.probe({name: folder for name, folder in folders.items() if not is_bag(folder)}, tasks)
    # Compare them
    draw = {"resamples": resamples, "seed": seed}
    for one in cells:
        one |= _away(one, cells) | _recalibrated(one, **draw)
    differences = _differences(cells, **draw)
    figures = {"cells": [_without_scores(one) for one in cells], "differences": differences, "left_out": left_out}
    figures["probe"] = probed
    write_record(figures, out / "transfer.json")
    return figures


def _place_name(dataset: str | Path) -> str:
    """Return what a collection is called: the name of its folder."""
    path = Path(dataset)
    return (path.resolve().parent if path.suffix.lower() in TABLE_SUFFIXES else path).name


def _by_name(given: Sequence[Any], name_of_one: Callable[[Any], str], what: str) -> dict[str, Any]:
    found = {name_of_one(one): one for one in given}
    if len(found) < len(given):
        raise UsageError("two of them have the same name", source=what, remedy="rename a folder")
    if not found:
        raise UsageError("there is none", source=what, remedy="give at least one")
    return found


# The images: none that a model was trained on.


def _translation(text: str) -> Translation:
    """Return the model's task, the collection's task, and from its labels to the model's.

    Raises:
        UsageError: The text has another form.
    """
    task, _, rest = text.partition("=")
    other, _, labels = rest.partition(":")
    pairs = [pair.partition("=") for pair in labels.split(",")]
    if not (task and other and labels) or not all(theirs and sign and ours for theirs, sign, ours in pairs):
        remedy = "write pathology=cancer:no=benign,yes=malignant"
        raise UsageError(f"is {text!r}", source="task_map", remedy=remedy)
    return task, other, {theirs: ours for theirs, _, ours in pairs}


def _as_trained(collection: Collection, models: Sequence[Path], translations: Sequence[Translation]) -> Collection:
    """Return a collection with the split of the model that was trained on it, and its tasks under the models' names."""
    for model in models:
        collection = open_as_trained(collection, model)
    names = {task["name"] for task in collection.tasks}
    for task, other, labels in translations:
        if task in names or other not in names:
            continue
        unknown = sorted({value for value in collection.column(other) if value is not None} - set(labels))
        if unknown:
            logger.warning("%s: %s has no counterpart among the labels of %s", other, ", ".join(unknown), task)
        collection = collection.with_task(
            task, list(labels.values()), [labels.get(v) for v in collection.column(other)]
        )
    return collection


def _tested(
    whole: Mapping[str, Collection], models: Sequence[Path], near_duplicates: bool
) -> tuple[dict[str, Collection], dict[str, int]]:
    """Return the images of each collection that all models are tested on, and how many were left out as duplicates."""
    seen = frozenset[str]().union(*(read_seen(model) or frozenset() for model in models))
    tested: dict[str, Collection] = {}
    left_out: dict[str, int] = {}
    for name, collection in whole.items():
        some = collection.where(split="test") if "test" in collection.column("split") else collection
        tested[name] = some.where(lambda row: row["patient"] not in seen)
    if not near_duplicates:
        return tested, left_out
    trained_on = [collection.where(lambda row: row["patient"] in seen) for collection in whole.values()]
    known = np.concatenate([source_hashes(collection)[1] for collection in trained_on])
    for name in tested:
        images, hashes = source_hashes(tested[name]) if len(known) else ([], known)
        found = {images[one] for one, _ in close_pairs(hashes, known)}
        patients = {row["patient"] for row in tested[name] if row["image_id"] in found}
        tested[name], left_out[name] = tested[name].where(lambda row: row["patient"] not in patients), len(found)  # noqa: B023
    return tested, left_out


def _is_home(model: Path, collection: Collection) -> bool:
    split = model / SPLIT_FILE
    return split.is_file() and not read_split(split).keys().isdisjoint(collection.column("patient"))


# One model on one collection: its report, and the scores that comparisons need.


def _cell(
    model: Path, collection: Collection, tasks: Sequence[Mapping[str, Any]], out: Path, name: str, how: Figures
) -> list[Figures]:
    """Return the figures and scores of each task, from an earlier run if nothing has changed."""
    known = {task["name"] for task in collection.tasks}
    common = [task["name"] for task in tasks if task["name"] in known]
    lacking = [task["name"] for task in tasks if task["name"] not in known]
    missing = [_undefined(task, "the collection does not have this task") for task in lacking]
    if not common:
        return missing
    folder = out / "cells" / name
    labels = [collection.column(task) for task in ("image_id", "stratum", *common)]
    wanted = digest([identity(model), labels, how["resamples"], how["seed"]])
    record = json.loads((folder / SCORES).read_text()) if (folder / SCORES).is_file() else {}
    if record.get("made_of") != wanted:
        try:
            record = _evaluated(model, collection, out, folder, how) | {"made_of": wanted}
        except DataError as error:
            return [*(_undefined(task, error.problem) for task in common), *missing]
        write_record(record, folder / SCORES)
    figures = json.loads((folder / REPORT).read_text())["tasks"]
    return [*(_of_task(task, figures[task], record["tasks"][task]) for task in common), *missing]


def _undefined(task: str, reason: str) -> Figures:
    return {"task": task, "auroc": None, "auroc_interval": None, "auroc_reason": reason, "scores": None}


def _evaluated(model: Path, collection: Collection, out: Path, folder: Path, how: Figures) -> Figures:
    if not is_bag(model):  # a head has its images embedded
        collection = _prepared(model, collection, folder.parent.name, out, how)
    return _record(evaluate(model, collection, folder, split="all", pictures=False, **how))


def _prepared(model: Path, collection: Collection, name: str, out: Path, how: Figures) -> Collection:
    """Return a collection of prepared images: itself, or what is prepared by a model's processor."""
    if folder_of(collection) is not None:
        return collection
    processor = load_processor(model)
    prepared = out / "prepared" / f"{name}-{digest(fit_parameters(processor))}"
    return prepare(collection, prepared, processor=processor, num_workers=how["num_workers"])


def _record(evaluation: Evaluation) -> Figures:
    """Return the scores of an evaluation as JSON takes them, in the order of the images' hashes."""
    views = evaluation.images.facts.get("view", [None] * len(evaluation.images))
    found = {}
    for name, scores in evaluation.scores.items():
        images = np.array([evaluation.images.image_ids[index] for index in scores.indices])
        order = np.argsort(images)
        found[name] = {
            "images": images[order].tolist(),
            "patients": scores.patients[order].tolist(),
            "views": [views[index] for index in scores.indices[order]],
            "references": scores.references[order].tolist(),
            "before": scores.before[order].tolist(),
            "after": scores.after[order].tolist(),
        }
    return {"tasks": found}


def _of_task(task: str, figures: Figures, scores: Figures) -> Figures:
    kept = ("labels", "n_images", "n_patients", "class_counts", "auroc", "auroc_interval", "within")
    found = {"task": task} | {name: figures.get(name) for name in kept} | {"scores": scores}
    if figures.get("level", "image") != "image":
        own = main_figures(figures)
        found["own_level"] = {name: own.get(name) for name in ("auroc", "auroc_interval")} | {"level": figures["level"]}
    at = (figures.get("operating_points") or {}).get("specificity_95")
    reason = figures.get("chosen_operating_points_reason", "not for more than two labels")
    return found | ({"operating_point": at} if at else {"operating_point": None, "operating_point_reason": reason})


def _without_scores(cell: Figures) -> Figures:
    return {name: value for name, value in cell.items() if name != "scores"}


# What needs no network: trained on the home of a model, and evaluated on the same images.


def _homes(
    folders: Mapping[str, Path], tasks: Mapping[str, Sequence[Figures]], whole: Mapping[str, Collection]
) -> list[tuple[str, Figures]]:
    """Return the collections that models were trained on, each with a task that it has."""
    found: dict[tuple[str, str], tuple[str, Figures]] = {}
    for model, folder in folders.items():
        for name, collection in whole.items():
            if _is_home(folder, collection):
                known = {task["name"] for task in collection.tasks}
                of_model = [task for task in tasks[model] if task["name"] in known]
                found |= {(name, task["name"]): (name, dict(task)) for task in of_model}
    return list(found.values())


class _Shelf:
    """Prepared images of the collections, read by the processor of one model."""

    def __init__(
        self,
        whole: Mapping[str, Collection],
        tested: Mapping[str, Collection],
        model: Path,
        out: Path,
        how: Figures,
    ) -> None:
        self.whole, self.tested, self.model, self.out, self.how = whole, tested, model, out, how
        self._prepared: dict[tuple[str, str], Collection] = {}

    def shown(self, dataset: str, task: Figures, *, training: bool = False) -> Shown:
        collection, name = self.tested[dataset], dataset
        if training:
            collection, name = self.whole[dataset].where(split=("train", "validation")), f"{dataset} training"
            collection = collection.where(lambda row: row[task["name"]] in task["labels"])
        key = (name, task["name"] if training else "")
        if key not in self._prepared:
            self._prepared[key] = _prepared(self.model, collection, name, self.out, self.how)
        return Shown(self._prepared[key], collection, task, self.out / "features" / name)

    def probe(self, models: Mapping[str, Path], tasks: Mapping[str, Sequence[Figures]]) -> list[Figures]:
        any_task = next(iter(tasks.values()))[0]
        shown = {name: self.shown(name, any_task) for name, one in self.tested.items() if len(one)}
        draw = {name: self.how[name] for name in ("resamples", "seed")}
        return probe(shown, models, self.out / "features", **draw)


def _free_cells(shelf: _Shelf, home: str, task: Figures) -> list[Figures]:
    """Return the cells of each of `shortcuts.FREE` on each collection, for one home and task."""
    trained, found = shelf.shown(home, task, training=True), []
    for dataset, collection in shelf.tested.items():
        for name in FREE:
            cell: Figures = {"model": f"{name} ({home})", "dataset": dataset, "home": dataset == home, "free": True}
            if task["name"] not in {one["name"] for one in collection.tasks}:
                found.append(cell | _undefined(task["name"], "the collection does not have this task"))
                continue
            try:
                found.append(
                    cell | _free_cell(name, shelf, trained, shelf.out / "cells" / dataset / cell["model"], task)
                )
            except DataError as error:
                found.append(cell | _undefined(task["name"], error.problem))
    return found


def _free_cell(name: str, shelf: _Shelf, trained: Shown, folder: Path, task: Figures) -> Figures:
    """Return the figures and scores of a task, from an earlier run if nothing has changed."""
    draw = {of_draw: shelf.how[of_draw] for of_draw in ("resamples", "seed")}
    of_task, dataset = str(task["name"]), folder.parent.name
    tables = (trained.collection, shelf.tested[dataset])
    columns = ("image_id", "split", "stratum", of_task)
    made_of = digest([name, draw, [one.column(column) for one in tables for column in columns]])
    path = folder / f"{of_task}.json"
    record = json.loads(path.read_text()) if path.is_file() else {}
    if record.get("made_of") != made_of:
        evaluation = evaluate_free(name, trained, shelf.shown(dataset, task), **draw)
        record = _record(evaluation) | {"figures": published(evaluation.figures), "made_of": made_of}
        folder.mkdir(parents=True, exist_ok=True)
        write_record(record, path)
    return _of_task(of_task, record["figures"][of_task], record["tasks"][of_task])


# Comparisons: away from home, after recalibration, and between models.


def _away(cell: Figures, cells: Sequence[Figures]) -> Figures:
    """Return how much lower the AUC is than at the model's home; both are of different patients."""
    same = [one for one in cells if (one["model"], one["task"]) == (cell["model"], cell["task"]) and one["home"]]
    if cell["home"] or not same or len(cell.get("labels") or ()) != 2:
        return {}
    try:
        here, there = (_delong(one) for one in (cell, same[0]))
    except UndefinedMetric as error:
        areas = same[0]["auroc"], cell["auroc"]
        drop = None if None in areas else areas[0] - areas[1]
        return {"drop": drop, "drop_interval": None, "drop_reason": error.reason}
    reach = float(ndtri(0.975) * np.hypot(here.standard_error, there.standard_error))
    drop = there.value - here.value
    return {"drop": drop, "drop_interval": [drop - reach, drop + reach], "home_dataset": same[0]["dataset"]}


def _delong(cell: Figures) -> DeLong:
    if cell["scores"] is None:
        raise UndefinedMetric(cell["auroc_reason"])
    truth, scores, patients = _arrays(cell)
    return delong(truth, scores[:, 1], groups=patients)


def _arrays(cell: Figures) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    scores = cell["scores"]
    return np.array(scores["references"]), np.array(scores["after"]), np.array(scores["patients"])


def _recalibrated(cell: Figures, *, resamples: int, seed: int) -> Figures:
    """Return errors of the probabilities before and after recalibration, both on patients who did not recalibrate."""
    if cell["scores"] is None:
        return {}
    truth, after, patients = _arrays(cell)
    logits = np.log(np.clip(np.array(cell["scores"]["before"]), 1e-12, None))
    order = in_hash_order(set(patients.tolist()), purpose="recalibration", seed=seed)
    chosen = np.isin(patients, order[: round(RECALIBRATED * len(order))])
    try:
        fit = fit_calibration(truth[chosen], logits[chosen], patients[chosen])
    except DataError as error:
        return {"recalibration": None, "recalibration_reason": error.problem}
    rest: Figures = {"references": truth[~chosen], "groups": patients[~chosen], "resamples": resamples, "seed": seed}
    found: Figures = {"n_patients": fit["n_patients"]}
    for when, table in (("before", after[~chosen]), ("after", calibrated(logits[~chosen], fit))):
        values = table[:, 1] if table.shape[1] == 2 else table
        found |= _with_interval(f"brier_{when}", brier, values, **rest)
        found |= _with_interval(f"ece_{when}", ece, values, **rest)
    return {"recalibration": found}


def _with_interval(name: str, metric: Any, values: np.ndarray, *, references: np.ndarray, **draw: Any) -> Figures:
    try:
        found = float(metric(references, values))
        interval = bootstrap_interval(metric, references, values, **draw)
    except UndefinedMetric as error:
        return {name: None, f"{name}_reason": error.reason}
    return {name: found, f"{name}_interval": list(interval)}


def _differences(cells: Sequence[Figures], *, resamples: int, seed: int) -> list[Figures]:
    """Compare each two models, or one and what needs no network, on the images of a collection that both have scored.

    The p-values of one collection and task are adjusted together by Benjamini and Hochberg's procedure (Journal of the
    Royal Statistical Society B 1995).
    """
    found: list[Figures] = []
    for dataset, task in dict.fromkeys((one["dataset"], one["task"]) for one in cells):
        own = [one for one in cells if (one["dataset"], one["task"]) == (dataset, task)]
        own = [one for one in own if one["scores"] is not None and len(one["labels"]) == 2]
        wanted = [pair for pair in combinations(own, 2) if not all(one.get("free") for one in pair)]
        pairs = [_difference(*pair, resamples=resamples, seed=seed) for pair in wanted]
        tested = [pair for pair in pairs if pair["p"] is not None]
        adjusted = false_discovery_control([pair["p"] for pair in tested]) if tested else []
        for pair, p in zip(tested, adjusted, strict=True):
            pair["p_adjusted"] = float(p)
        found += [{"dataset": dataset, "task": task, **pair} for pair in pairs]
    return found


def _difference(one: Figures, other: Figures, **draw: int) -> Figures:
    found: Figures = {"first": one["model"], "second": other["model"], "p": None, "p_adjusted": None}
    (truth, first, patients), (_, second, _) = _arrays(one), _arrays(other)
    if one["scores"]["images"] != other["scores"]["images"]:
        return found | {"difference": None, "difference_reason": "they could not read the same images"}
    try:
        pooled = paired_delong(truth, first[:, 1], second[:, 1], groups=patients)
    except UndefinedMetric as error:
        return found | {"difference": None, "difference_reason": error.reason}
    low, high = pooled.interval
    found |= {"difference": pooled.value, "difference_interval": [low, high], "p": pooled.p}
    if low <= 0 <= high:
        found["detectable"] = detectable_difference((low, high))
    strata = patient_strata(patients, one["scores"]["views"])
    within = partial(auroc_within, strata=strata, nested=True)
    try:
        values = [within(truth, scores[:, 1]) for scores in (first, second)]
        interval = paired_interval(within, truth, first[:, 1], second[:, 1], groups=patients, **draw)
    except UndefinedMetric as error:
        return found | {f"within_{PATIENT}": None, f"within_{PATIENT}_reason": error.reason}
    return found | {f"within_{PATIENT}": values[1] - values[0], f"within_{PATIENT}_interval": list(interval)}
