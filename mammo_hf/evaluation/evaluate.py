"""Evaluation of a classifier: on any collection by `evaluate`, and on the test split at the end of its training."""

from __future__ import annotations

import json
import logging
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import datasets
import numpy as np
import torch
from transformers import PreTrainedModel

from ..data.collection import Collection, Rejected
from ..data.leaks import assert_no_leak
from ..data.prepare.folder import features_folder, folder_of
from ..data.splits import SPLIT_FILE, read_seen, read_split
from ..data.terms import read_terms, write_terms
from ..data.training_data import open_as_trained, prepared_images, public_name, reading_of
from ..encoders.bags import MammoBagForClassification
from ..encoders.classifier import encoder_name
from ..encoders.embed import embed
from ..encoders.units import check_features, features_of
from ..encoders.views import Views
from ..errors import DataError, UsageError, check_choice, check_device, check_number
from ..files import writable_folder
from ..metrics.aggregation import LEVELS
from ..models.checkpoint import BAG, is_bag, load_model, load_processor, locate, name_of, read_checkpoint, read_tasks
from ..models.modeling_mammo_swin import MammoSwinForImageClassification
from ..notes import codes_in
from ..processing.image_processing_mammo import MammoImageProcessor
from .classifier import Evaluation, evaluate_classifier, fit_on_validation, store_fits
from .report import PRIVATE_COLLECTION, command_line, environment, write_report
from .report.facts import flow, unreadable
from .report.pictures import add_pictures, confident_errors
from .scored import Scored, score_images, scored, scored_units
from .strata import COMPARISONS, POOLED

logger = logging.getLogger(__name__)
Scores = tuple[datasets.Dataset, np.ndarray]
Tasks = list[dict[str, Any]]
DEVICES = ("auto", "cpu", "cuda")


def evaluate(
    model: str | Path,
    images: Any,
    output_dir: str | Path = "evaluation",
    *,
    split: str = "test",
    external: bool = False,
    comparison: str = POOLED,
    operating_point: float | None = None,
    pictures: bool = True,
    label_efficiency: str | Path | None = None,
    resamples: int = 2000,
    seed: int = 0,
    batch_size: int = 16,
    num_workers: int = 2,
    device: str = "auto",
    processor_settings: Mapping[str, Any] | None = None,
    encoder: str | Path | None = None,
    trust_remote_code: bool = False,
) -> Evaluation:
    """Evaluate a classifier on a collection, its own or another, and write ``report.html`` and ``report.json``.

    The calibration and operating points that the checkpoint stores are applied unchanged. Patients that the model was
    trained on, or chosen on, are counted and reported.

    Args:
        model: Classifier: the folder that training wrote, or a name on the Hub with an optional ``@revision``.
        images: Collection, or anything that `mammo_hf.load` takes. If it has no test split and the model was trained on
            it, the test split of that training is used.
        output_dir: Folder of the report, and of the prepared images unless ``images`` are prepared.
        split: "test", "validation", "train", or "all" for every labelled image.
        external: Whether to state that the model was not trained on this collection; refused if it was.
        comparison: What the result's text states: "pooled" for all pairs of images, "within_patient" for those of one
            patient (the diseased breast and the other one), or "within_stratum", "within_vendor", "within_source". The
            report has them all.
        operating_point: Threshold from 0 to 1 for every task with two labels; ``None``: those of the checkpoint.
        pictures: Whether the report shows the most confident errors, which are images of patients.
        label_efficiency: ``summary.json`` of a label-efficiency study; its plot goes into the report.
        resamples: Bootstrap resamples of the intervals, 100 or more.
        seed: Seed of the bootstrap.
        batch_size: Images per batch.
        num_workers: Processes that prepare and read images.
        device: "auto", "cpu" or "cuda".
        processor_settings: Settings of how images are read in place of the model's own, such as
            ``{"any_anatomy": True}``; see `mammo_hf.processing.image_processing_mammo.SETTINGS`.
        encoder: Encoder of a head over features, if it is no longer where the head says.
        trust_remote_code: Whether code of the encoder's own repository may be run.

    Returns:
        The evaluation; as text it is the AUC with its interval, the verdict against chance, and the folder.

    Raises:
        UsageError: An argument is out of range, the model is not a classifier, or the collection is not external.
        DataError: There is no such split, no label that the model knows, or no image could be read.
    """
    # Check the arguments and the model before an image is read.
    tasks = read_tasks(folder := locate(model), ("swin", BAG))
    check_choice("comparison", comparison, COMPARISONS)
    _check_arguments(operating_point, resamples, seed, batch_size, num_workers, device)
    study = _label_efficiency_rows(label_efficiency)
    out = writable_folder(Path(output_dir))
    # Choose the images, and find out which of their patients the model was trained on.
    processor = load_processor(folder).with_settings(processor_settings)
    collection = checked_collection(images, folder, processor)
    chosen = labelled_images(collection, split, tasks)
    trained_here, warnings = _trained_on(chosen, folder, external)
    # Score them.
    classifier = _load_classifier(folder, tasks, operating_point, device)
    if isinstance(classifier, MammoBagForClassification):
        embedding: dict[str, Any] = {"num_workers": num_workers, "trust_remote_code": trust_remote_code}
        embedding |= {"encoder": encoder, "processor_settings": processor_settings}
        prepared, scores = _bag_scores(classifier, collection, chosen, folder, out / "features", embedding)
    else:
        prepared, logits = _scores(classifier, processor, chosen, out / "prepared", tasks, batch_size, num_workers)
        scores = scored(logits, prepared, chosen)
    # Compute the figures, and write the report.
    draw: dict[str, Any] = {"resamples": resamples, "seed": seed}
    found = evaluate_classifier(classifier.config, scores, **draw)
    made = "features" if isinstance(classifier, MammoBagForClassification) else "prepared"
    missing = unreadable(chosen, prepared, out / made)
    about_run: dict[str, Any] = {"split": split, "folder": out, "comparison": comparison} | _counts(prepared, missing)
    evaluation = replace(found, warnings=(*warnings, *found.warnings), **about_run)
    errors = confident_errors(evaluation)
    if pictures and isinstance(classifier, MammoSwinForImageClassification):
        add_pictures(errors, classifier, prepared, processor)
    about = (
        _facts_of_run(classifier)
        | _facts_of_checkpoint(folder, processor)
        | {
            "collection": public_name(collection) or PRIVATE_COLLECTION,
            "trained_here": trained_here,
            "flow": flow(collection, prepared, split, [one.reason for one in missing]),
            "errors": errors,
            "label_efficiency": study,
        }
    )
    write_terms(out, collection.terms, read_terms(folder) or ())
    write_report(evaluation, out, about | draw)
    logger.info("%s", evaluation)
    return evaluation


def _counts(prepared: datasets.Dataset, missing: Sequence[Rejected]) -> dict[str, Counter[str]]:
    """Return the numbers of images by code of a note, and of those that could not be read by code of the reason."""
    notes = Counter(code for cell in prepared["notes"] for code in codes_in(cell))
    return {"notes": notes, "refusals": Counter(one.code for one in missing)}


def evaluate_after_training(
    model: PreTrainedModel,
    *,
    validation: Scored | None,
    test: Scored | None,
    report: Path,
    checkpoint: str,
    evaluated: datasets.Dataset | None = None,
    table: Collection | None = None,
    unreadable: Sequence[str] = (),
    training: Mapping[str, Any] | None = None,
    processor: Mapping[str, Any] | None = None,
    seed: int = 0,
    resamples: int = 2000,
) -> Evaluation | None:
    """Fit calibration and operating points on validation, evaluate the test split with them, and write the report.

    The model is not run: both splits come with their logits. Its configuration gets ``calibration`` and
    ``operating_points``, so save it afterwards. The report has no pictures of images, because what training writes may
    be pushed; `evaluate` writes one with pictures.

    Args:
        model: Trained model.
        validation: Scored images of the validation split; ``None``: there is no such split, and the calibration that an
            earlier training stored is removed.
        test: Scored images of the test split; ``None``: there is no such split, and no report.
        report: Folder of ``report.html`` and ``report.json``.
        checkpoint: Name of the model.
        evaluated: Rows of the test split that were scored, for the flow.
        table: Collection that the images are of, for the flow.
        unreadable: Reason for each image of the test split that could not be prepared.
        training: Record of the training; the collection's name is taken from it.
        processor: Content of ``preprocessor_config.json``.
        seed: Seed of the bootstrap.
        resamples: Bootstrap resamples.

    Returns:
        The evaluation of the test split, or ``None`` without one.

    Raises:
        UsageError: The report cannot be written.
    """
    config = model.config
    config.calibration = config.operating_points = config.confidences = None
    fits = None if validation is None else fit_on_validation(config.tasks, validation)
    if test is None:
        if fits is not None:
            store_fits(config, fits)
        return None
    found = evaluate_classifier(config, test, fits=fits, seed=seed, resamples=resamples)
    evaluation = replace(found, folder=report)
    training = training or {}
    about = {
        "checkpoint": checkpoint,
        "collection": (training.get("collection") or {}).get("name") or PRIVATE_COLLECTION,
        "training": training,
        "processor": processor or {},
        "trained_here": True,
        "seed": seed,
        "resamples": resamples,
        "flow": [] if table is None or evaluated is None else flow(table, evaluated, "test", unreadable),
        "errors": confident_errors(evaluation),
    }
    write_report(evaluation, report, _facts_of_run(model) | about)
    # the report is in the checkpoint's folder, or next to its plots
    known = [terms for folder in (report.parent, report.parent.parent) if (terms := read_terms(folder)) is not None]
    if known:
        write_terms(report, *known)
    return evaluation


def _facts_of_run(model: PreTrainedModel) -> dict[str, Any]:
    """Return what a report states of the model and of this run."""
    config: Any = model.config
    facts: dict[str, Any] = {"parameters": model.num_parameters()}
    if isinstance(model, MammoBagForClassification):
        record, tiles = config.encoder_record or {}, config.tiles or {}
        size = tiles.get("image_size")
        facts["size"] = f"head over features of the frozen encoder {record.get('name', 'that is not known')}"
    else:
        size = config.image_size
        facts["size"] = f"Swin transformer of {len(config.depths)} stages, width {config.embed_dim}"
    facts["image_size"] = [size, size] if isinstance(size, int) else list(size or [])
    made = {"environment": environment(str(model.device)), "command": command_line()}
    return {"tasks": config.tasks, "model": facts, **made}


def _facts_of_checkpoint(folder: Path, processor: MammoImageProcessor) -> dict[str, Any]:
    return {
        "checkpoint": name_of(folder),
        "training": read_checkpoint(folder).figures,
        "processor": processor.to_dict(),
    }


def checked_collection(images: Any, folder: Path, processor: MammoImageProcessor) -> Collection:
    """Load a collection to evaluate a model on, with the split of the model's training, and check it for leaks."""
    collection = open_as_trained(images, folder, **reading_of(images, processor))
    assert_no_leak(collection)
    for note in collection.notes:
        logger.info("%s", note)
    return collection


def _load_classifier(
    folder: Path, tasks: Tasks, operating_point: float | None, device: str
) -> MammoSwinForImageClassification | MammoBagForClassification:
    kind: Any = MammoBagForClassification if is_bag(folder) else MammoSwinForImageClassification
    classifier: Any = load_model(kind, folder).eval()
    if operating_point is not None:
        classifier.config.operating_points = _given_point(tasks, operating_point)
    classifier.to("cuda" if device != "cpu" and torch.cuda.is_available() else "cpu")
    return classifier


def _scores(
    model: MammoSwinForImageClassification,
    processor: MammoImageProcessor,
    images: Collection,
    folder: Path,
    tasks: Tasks,
    batch_size: int,
    num_workers: int,
) -> Scores:
    prepared = prepared_images(images, processor, folder, tasks=tasks, num_workers=num_workers)
    if not len(prepared):
        raise DataError("no image could be read", source=images.root, remedy=f"see {folder}/rejected.csv")
    # A worker process takes seconds to start, so a few images are read without.
    workers = min(num_workers, len(prepared) // 64)
    return prepared, score_images(model, prepared, processor, batch_size=batch_size, num_workers=workers)


def _bag_scores(
    model: MammoBagForClassification,
    collection: Collection,
    chosen: Collection,
    folder: Path,
    features: Path,
    embedding: dict[str, Any],
) -> tuple[datasets.Dataset, Scored]:
    """Score the images of some units, and the units, with a head over features.

    Args:
        model: Head over bags of features.
        collection: Collection of a feature store, or of images, which are embedded with the encoder of the model.
        chosen: Images of it with a label; further images of the same exams count in the scores of units.
        folder: Folder of the model.
        features: Folder of features of images.
        embedding: Options of `embed`; the encoder may be ``None`` for the one that the model names.

    Raises:
        UsageError: The features are those of another encoder, or the encoder is not here.
    """
    splits, patients = set(chosen.column("split")), set(chosen.column("patient"))
    whole = collection.where(lambda row: row["split"] in splits and row["patient"] in patients)
    if features_folder(whole) is None:
        views = Views.of(model.config.tiles or {}).to_dict()
        views["image_size"] = tuple(views["image_size"])
        named = encoder_name(model.config, folder, embedding.pop("encoder"))
        read_by = folder if folder_of(whole) is None else None  # prepared pixels have been read
        whole = embed(whole, features, encoder=named, processor=read_by, **embedding, **views)
    check_features(model.config, str(features_folder(whole)))
    tasks: Any = model.config.tasks
    rows = features_of(whole, tasks)
    scores = scored_units(model, rows, whole)
    wanted = set(chosen.column("image_id"))
    kept = [row for row, image_id in enumerate(rows["image_id"]) if image_id in wanted]
    return rows.select(kept), scores.taken(kept)


def _check_arguments(
    operating_point: float | None, resamples: int, seed: int, batch_size: int, num_workers: int, device: str
) -> None:
    if operating_point is not None:
        check_number("operating_point", operating_point, 0 <= operating_point <= 1, "a threshold from 0 to 1")
    check_number("resamples", resamples, resamples >= 100, "100 or more")
    check_number("seed", seed, seed >= 0, "0 or more")
    check_number("batch_size", batch_size, batch_size >= 1, "1 or more")
    check_number("num_workers", num_workers, num_workers >= 0, "0 or more")
    check_choice("device", device, DEVICES)
    check_device(device)


def _label_efficiency_rows(path: str | Path | None) -> list[dict[str, Any]]:
    if path is None:
        return []
    try:
        rows: list[dict[str, Any]] = json.loads(Path(path).read_text(encoding="utf-8"))["rows"]
        for row in rows:  # touch whatever the plot needs
            row["arm"], row["baseline"], float(row["percentage"])
            if row["auroc"] is not None:
                low, high = row["interval"] or (row["auroc"], row["auroc"])
                float(row["auroc"]), float(low), float(high)
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise UsageError(
            "cannot be read as the summary of a label-efficiency study",
            source=path,
            remedy="give the summary.json that mammo-hf label-efficiency wrote",
        ) from error
    return rows


def labelled_images(collection: Collection, split: str, tasks: Tasks) -> Collection:
    """Return the images of a split that have a label of one of the model's tasks, one that the model knows."""
    counts = Counter(collection.column("split"))
    if split != "all" and not counts[split]:
        has = ", ".join(f"{name} ({count} images)" for name, count in counts.items()) or "no image"
        raise DataError(
            f"has no {split!r} split, it has {has}",
            source=collection.root,
            remedy="choose one of these as split, or all if the model was trained on none of them",
        )
    known = {task["name"] for task in collection.tasks}
    common = [task for task in tasks if task["name"] in known]
    if not common:
        raise DataError(
            f"has none of the model's tasks: {', '.join(task['name'] for task in tasks)}",
            source=collection.root,
            remedy=f"its tasks are: {', '.join(sorted(known)) or 'none'}",
        )
    of_split = collection if split == "all" else collection.where(split=split)
    for task in common:
        foreign = Counter(value for value in of_split.column(task["name"]) if value not in (None, *task["labels"]))
        for label, count in foreign.items():
            logger.warning("%s: %d images are labelled %s, which the model does not know", task["name"], count, label)
    chosen = of_split.where(lambda row: any(row[task["name"]] in task["labels"] for task in common))
    if not len(chosen):
        raise DataError(f"no image of the {split} split has a label that the model knows", source=collection.root)
    return chosen


def _trained_on(chosen: Collection, folder: Path, external: bool) -> tuple[bool | None, list[str]]:
    """Find out whether the model was trained on this collection, from the split next to it.

    Returns:
        True if it was trained on other patients of the collection, False if the collection is external, ``None`` if
        that is not known or it was trained on these patients; and what a reader must know of that.

    Raises:
        UsageError: The collection is called external, and is not.
    """
    seen, patients = read_seen(folder), set(chosen.column("patient"))
    trained_on = patients & (seen or frozenset())
    known = f"the model was trained or chosen on {len(trained_on)} of these {len(patients)} patients"
    if external and trained_on:
        raise UsageError(known, source="external", remedy="leave it out, and evaluate the test split")
    if external:
        return False, []
    if trained_on:
        return None, [f"{known.capitalize()}: the figures do not hold for patients that it has not seen."]
    own = seen is not None and not patients.isdisjoint(read_split(folder / SPLIT_FILE))
    return (True if own else None), []


def _given_point(tasks: Tasks, threshold: float) -> dict[str, Any]:
    point = {"given": {"threshold": threshold, "sensitivity": None, "specificity": None}}
    return {task["name"]: dict.fromkeys((*LEVELS, "patient"), point) for task in tasks if len(task["labels"]) == 2}
