"""Study of explanations: explainers measured on images with known lesions, with intervals by patient and baselines."""

from __future__ import annotations

import logging
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import datasets
import numpy as np
import torch
from tqdm.auto import tqdm
from transformers import PreTrainedModel

from ..data.collection import Collection
from ..data.findings import has_location, lesion_masks
from ..data.native_row import relabelled
from ..data.prepare.folder import folder_of
from ..data.prepare.row import labels_of, overridden
from ..data.prepared_row import breast_of, enlarged, geometry_of, lesion_mask
from ..data.terms import terms_of_model, write_terms
from ..data.torch_datasets import LabelledImages, rows_of
from ..data.training_data import open_as_trained, prepared_images, public_name, reading_of
from ..encoders.classifier import BagClassifier
from ..encoders.views import Picture, drawn
from ..errors import DataError, UsageError, refusing
from ..evaluation.study_tables import explanation_table, plot_study, sanity_table
from ..explainers import explainers as installed_explainers
from ..explainers import find_explainer, is_supervised
from ..explainers.explain import explain
from ..explainers.explanation import mm_per_pixel
from ..explainers.measures import (
    best_iou,
    brightest,
    cascade,
    centre,
    deletion_and_insertion,
    distance_to_lesion,
    energy_over_chance,
    pixel_auroc,
    pointing_hit,
    random_map,
    rank_correlation,
    sensitivity_n,
    untrained,
)
from ..explainers.targets import fixed_target, label_names, predicted, probabilities, resolve, task_slices
from ..files import readable, write_whole
from ..inference.scoring import load_classifier
from ..metrics.inputs import UndefinedMetric
from ..metrics.intervals import bootstrap_interval, mean_score
from ..models.checkpoint import locate, name_of, repository_of, write_metrics
from ..models.modeling_mammo_swin import MammoSwinForImageClassification
from ..models.own_figures import write_map_tests
from ..processing.geometry import Geometry
from ..processing.image_processing_mammo import MammoImageProcessor
from ..training.classification import ClassificationConfig, fit_classifier

logger = logging.getLogger(__name__)
BATCH = 8
SHOWN = "shown"  # the label that explain, predict and the page show, where none is asked for
NEAR_MM = 10.0  # a peak this close to a lesion would lead a reader to it
PLACEMENT = ("pointing_game", "energy_over_chance", "pixel_auroc", "best_iou", "within_10_mm")
FAITHFULNESS = ("deletion", "insertion", "sensitivity_n")
Figures = dict[str, Any]
# explainers of a Swin, and of a head over features, without occlusion: it runs the model a hundred times for each image
DEFAULTS = (
    (
        *("attention", "attention_rollout", "grad_cam", "grad_cam_attention", "hires_cam", "layer_cam", "legrad"),
        "lesion_head",
    ),
    ("bag_attention", "grad_cam", "hires_cam", "layer_cam"),
)


def study_explanations(
    model: str | Path,
    images: Collection | str | Path,
    output_dir: str | Path,
    explainers: Sequence[str] | None = None,
    *,
    target: str = SHOWN,
    split: str = "test",
    count: int | None = None,
    spacing_mm: float | None = None,
    num_workers: int = 2,
    random_labels: str | None = None,
    random_label_updates: int = 1000,
    seed: int = 0,
    processor_settings: Mapping[str, Any] | None = None,
    encoder: str | None = None,
    trust_remote_code: bool = False,
    **measured: Any,
) -> str:
    """Measure explainers on the images of a collection with known lesions, and write table, plot and figures.

    Args:
        model: Folder or Hub name of a classifier: a Swin, or a head over features, whose maps are on the pixels at the
            spacing of its tiles.
        images: Collection that states where lesions are, as in `mammo_hf.load`; one that the classifier was trained on
            keeps the training's split.
        output_dir: Folder of ``explanations.md``, ``explanations.png``, ``metrics.json`` and the prepared images. The
            tests that are shown below maps go into the folder of the model, ``map_tests.json``; of
            a model on the Hub into this one.
        explainers: Names of the explainers; by default all built-in ones of such a model but occlusion.
        target: Label that is explained, as in `evaluate_explainers`. One label for all images is tested on the images
            that have it: a map for "malignant" has nothing to find in a benign lesion.
        split: Split whose images are explained, or "all".
        count: Highest number of images, spread over all; by default every image.
        spacing_mm: Side of a source pixel in mm, for files that do not state it.
        num_workers: Number of processes that prepare images.
        random_labels: Size or checkpoint that the classifier's training started from: a model is trained from it on
            permuted labels, for the second sanity check.
        random_label_updates: Optimiser steps of that training.
        seed: Random seed.
        processor_settings: Settings of how images are read in place of the model's own, such as
            ``{"orientation": "header"}``.
        encoder: Encoder of a head over features, if it is no longer where the head says.
        trust_remote_code: Whether code of the encoder's own repository may be run.
        measured: Keywords of `evaluate_explainers`: ``faithfulness_images`` and ``sanity_images``.

    Returns:
        The text of ``explanations.md``.

    Raises:
        DataError: The split holds no image, or none of that label with the location of a lesion.
        UsageError: There is no such model, target or explainer.
    """
    folder, out = locate(model), Path(output_dir)
    network, processor = load_classifier(folder, encoder=encoder, trust_remote_code=trust_remote_code)
    of_bags = isinstance(network, BagClassifier)
    if of_bags and random_labels is not None:
        raise UsageError(
            "is for a Swin, and this is a head over features", source="random_labels", remedy="leave it out"
        )
    processor = processor.with_settings(processor_settings)
    collection = open_as_trained(images, folder, **reading_of(images, processor))
    asked = collection if split == "all" else collection.where(split=split)
    if not len(asked):
        raise DataError(f"there is no image of the split {split!r}", remedy="use `split=all`")
    label = _one_label(target, network.config)
    if of_bags:
        cases = bag_cases(network, asked, processor, label=label, count=count, spacing_mm=spacing_mm)
    else:
        # Prepare the images of the split; permuted labels need those of the training patients too
        table, tasks = asked if random_labels is None else collection, network.config.tasks
        prepared = prepared_images(table, processor, out / "prepared", tasks=tasks, num_workers=num_workers)
        splits = sorted(set(prepared["split"])) if split == "all" else [split]
        # Not whole rows: those of a native store are drawn when they are read
        small = prepared.select_columns(["labels", "lesions"])
        rows = [row for row in rows_of(prepared, splits) if small[row]["lesions"] is not None]
        rows = [row for row in rows if _has(small[row]["labels"], label, network.config)]
        chosen = [rows[place] for place in _spread(len(rows), len(rows) if count is None else count)]
        cases = lesion_cases(LabelledImages(prepared.select(chosen), processor), spacing_mm)
        if random_labels is not None:
            start, updates = random_labels, random_label_updates
            measured["random_labels"] = train_on_random_labels(network, prepared, processor, start, updates, seed)
    # Measure, and write what was found
    figures = evaluate_explainers(network, cases, explainers or DEFAULTS[of_bags], target=target, seed=seed, **measured)
    write_terms(out, collection.terms, terms_of_model(folder, name_of(folder)))
    write_metrics(out, "explanations", figures)
    kept = write_map_tests(folder if repository_of(folder) is None else out, figures, public_name(collection))
    logger.info("tests of the maps, which explain, predict and the page show below them: %s", kept)
    plot_study(figures, out / "explanations.png")
    write_whole(out / "explanations.md", report := _report(figures))
    return report


@dataclass(frozen=True)
class Case:
    """One image with a lesion.

    Attributes:
        image: Intensities in [0, 1], (height, width).
        pixel_values: Normalised input of the model, (channels, height, width).
        lesion: Mask of the lesions, bool (height, width).
        breast: Mask of the breast, bool (height, width).
        patient: Key of the patient.
        label: Index of the image's own label among the logits, -100 if it is not known.
        mm_per_pixel: Side of a model pixel in mm; ``None`` if it is not known.
    """

    image: np.ndarray
    pixel_values: torch.Tensor
    lesion: np.ndarray
    breast: np.ndarray
    patient: str
    label: int = -100
    mm_per_pixel: float | None = None


def evaluate_explainers(
    model: PreTrainedModel,
    cases: Sequence[Case],
    names: Sequence[str],
    *,
    target: str = SHOWN,
    faithfulness_images: int = 24,
    sanity_images: int = 16,
    random_labels: PreTrainedModel | None = None,
    seed: int = 0,
) -> Figures:
    """Measure localisation, faithfulness and sanity of explainers.

    Args:
        model: A classifier in evaluation mode: a Swin, or a head over features with its encoder.
        cases: The images.
        names: Names of the explainers; one that fails on this model is left out with its reason.
        target: Label that is explained: "shown", the one that maps show unless another is asked for (of the first task,
            of two labels the positive one, of more the predicted one); "predicted", the first task's prediction;
            "label", the image's own label; or a label's name.
        faithfulness_images: Number of images that faithfulness is measured on, spread over all: each takes about 70
            passes per map.
        sanity_images: Number of images whose maps are compared with those of randomised models.
        random_labels: The same model trained on permuted labels, for the second sanity check.
        seed: Random seed of the random map, of new weights and of the bootstrap.

    Returns:
        Counts, and for each explainer and baseline its figures, ``{"value", "interval", "images"}`` each.

    Raises:
        DataError: There is no case.
        UsageError: There is no such target or explainer.
    """
    label = _one_label(target, model.config)
    named = ("label" if target == "label" else "predicted") if label is None else label_names(model.config)[label]
    if not cases:
        which = "" if label is None else f" of the label {named}"
        remedy = "give a collection with lesion annotations" + (which and ", or `target=predicted`")
        raise DataError(f"there is no image{which} with the location of a lesion", remedy=remedy)
    for name in names:
        find_explainer(name)
    targets = _targets(model, cases, named)
    maps, reasons = _maps_of(model, cases, names, targets)
    baselines = _baselines(model, cases, targets, seed)
    patients = [case.patient for case in cases]
    chosen = _spread(len(cases), faithfulness_images)
    values = {
        name: _placement(cases, rows) | _faithfulness(model, cases, rows, targets, chosen, seed)
        for name, rows in (maps | baselines).items()
    }
    lesion_fraction = np.array([np.mean(case.lesion[case.lesion | case.breast]) for case in cases])
    return {
        "images": len(cases),
        "patients": len(set(patients)),
        "target": named,
        "chance_of_pointing": summary(lesion_fraction, patients, seed),
        "explainers": _summaries(values, list(baselines), patients, seed),
        "failed": reasons,
        "sanity": _sanity(model, cases, maps, targets, sanity_images, random_labels, seed) if sanity_images else None,
    }


def _summaries(
    values: Mapping[str, Mapping[str, np.ndarray]], baselines: Sequence[str], patients: Sequence[str], seed: int
) -> Figures:
    """Return each map's measures with their intervals, those of explainers with the difference from each baseline."""
    return {
        name: {
            "supervised": name not in baselines and is_supervised(find_explainer(name)),
            "baseline": name in baselines,
            **{measure: summary(of_images, patients, seed) for measure, of_images in measures.items()},
            "pointing_game_over": {
                baseline: summary(measures["pointing_game"] - values[baseline]["pointing_game"], patients, seed)
                for baseline in (() if name in baselines else baselines)
            },
            "deletion_over_random": summary(measures["deletion"] - values["random"]["deletion"], patients, seed),
        }
        for name, measures in values.items()
    }


def _spread(total: int, count: int) -> list[int]:
    """Choose ``count`` positions spread over all images: the first ones may be of a few patients."""
    chosen: list[int] = np.unique(np.linspace(0, total - 1, min(count, total)).round().astype(int)).tolist()
    return chosen


def _baselines(
    model: PreTrainedModel, cases: Sequence[Case], targets: Sequence[int], seed: int
) -> dict[str, list[np.ndarray]]:
    coarse = [brightest(case.image, case.breast, len(case.image) / 28) for case in cases]  # as coarse as a token map
    return {
        "brightest tissue": [brightest(case.image, case.breast) for case in cases],
        "brightest region": coarse,
        "centre of the breast": [centre(case.breast) for case in cases],
        "random": [random_map(case.breast, [seed, place]) for place, case in enumerate(cases)],
        "untrained model": _maps_of(untrained(model, seed), cases, ["grad_cam"], targets)[0]["grad_cam"],
    }


def summary(values: np.ndarray, patients: Sequence[str], seed: int = 0) -> Figures:
    """Return the mean of the finite values and its 95 % interval by patient; null if there is none."""
    known = np.isfinite(values)
    if not known.any():
        return {"value": None, "interval": None, "images": 0}
    found, groups = values[known], [patient for patient, there in zip(patients, known, strict=True) if there]
    try:
        interval = list(bootstrap_interval(mean_score, found, found, groups=groups, seed=seed))
    except UndefinedMetric:
        interval = None
    return {"value": float(found.mean()), "interval": interval, "images": int(known.sum())}


def _one_label(target: str, config: Any) -> int | None:
    """Return the label that is explained of every image, as an index into the logits; ``None`` if they differ."""
    if target == SHOWN:
        return fixed_target(config)
    return None if target in ("predicted", "label") else resolve(target, 1, config)[0]


def _has(labels: Sequence[int], label: int | None, config: Any) -> bool:
    """Return whether an image has a label, given the index of its label in each task; ``None``: any will do."""
    tasks = zip(task_slices(config).values(), labels, strict=True)
    return label is None or any(own >= 0 and part.start + own == label for part, own in tasks)


def _targets(model: PreTrainedModel, cases: Sequence[Case], target: str) -> list[int]:
    if target == "label":
        labels = [case.label for case in cases]
        if min(labels) < 0:
            raise UsageError("some images have no label of their own", source="target", remedy="use predicted")
        return labels
    if target != "predicted":
        return resolve(target, len(cases), model.config)
    with torch.no_grad():
        return [index for batch in _batches(cases) for index in predicted(model(_stack(batch)).logits, model.config)]


def _maps_of(
    model: PreTrainedModel, cases: Sequence[Case], names: Sequence[str], targets: Sequence[int]
) -> tuple[dict[str, list[np.ndarray]], dict[str, str]]:
    """Compute each explainer's maps (height, width) of all cases, and the reason why an explainer has none."""
    maps, reasons = {}, {}
    for name in names:
        found: list[np.ndarray] = []
        try:
            with tqdm(total=len(cases), desc=f"maps of {name}", unit=" images", leave=False, disable=None) as bar:
                for batch in _batches(cases):
                    of_batch = targets[len(found) : len(found) + len(batch)]
                    found.extend(explain(model, _stack(batch), list(of_batch), name).map)
                    bar.update(len(batch))
        except Exception as error:
            # A plug-in may raise anything on this model; the others are still measured, and the reason is kept
            reasons[name] = str(error) if isinstance(error, UsageError) else f"{type(error).__name__}: {error}"
            logger.warning("%s is left out: %s", name, reasons[name])
            continue
        maps[name] = found
    return maps, reasons


def _placement(cases: Sequence[Case], maps: Sequence[np.ndarray]) -> dict[str, np.ndarray]:
    rows = []
    for case, values in zip(cases, maps, strict=True):
        near = np.nan
        if case.mm_per_pixel is not None:
            near = float(distance_to_lesion(values, case.lesion) * case.mm_per_pixel <= NEAR_MM)
        try:
            area = pixel_auroc(values, case.lesion, case.breast)
        except UndefinedMetric:
            area = np.nan
        energy = energy_over_chance(values, case.lesion, case.breast)
        rows.append((pointing_hit(values, case.lesion), energy, area, best_iou(values, case.lesion), near))
    return dict(zip(PLACEMENT, np.array(rows, float).T, strict=True))


def _faithfulness(
    model: PreTrainedModel,
    cases: Sequence[Case],
    maps: Sequence[np.ndarray],
    targets: Sequence[int],
    chosen: Sequence[int],
    seed: int,
) -> dict[str, np.ndarray]:
    """Measure the faithfulness of maps; NaN on images that are not chosen."""
    result = {name: np.full(len(cases), np.nan) for name in FAITHFULNESS}
    for place in tqdm(chosen, desc="hiding parts of", unit=" images", leave=False, disable=None):
        index, pixels = targets[place], cases[place].pixel_values

        def probability(images: torch.Tensor, index: int = index) -> torch.Tensor:
            return probabilities(model(images).logits, [index] * len(images), model.config)

        areas = deletion_and_insertion(probability, pixels, maps[place])
        correlation = sensitivity_n(probability, pixels, maps[place], seed=seed + place)
        for name, value in zip(FAITHFULNESS, (*areas, correlation), strict=True):
            result[name][place] = value
    return result


def _sanity(
    model: PreTrainedModel,
    cases: Sequence[Case],
    maps: dict[str, list[np.ndarray]],
    targets: Sequence[int],
    count: int,
    random_labels: PreTrainedModel | None,
    seed: int,
) -> Figures:
    """Correlate each explainer's maps with those of models whose weights are randomised part by part."""
    chosen = _spread(len(cases), count)
    some, patients = [cases[place] for place in chosen], [cases[place].patient for place in chosen]

    def compared(other: PreTrainedModel) -> dict[str, Figures]:
        others, _ = _maps_of(other, some, list(maps), [targets[place] for place in chosen])
        found = {}
        for name, other_maps in others.items():
            pairs = zip(chosen, other_maps, some, strict=True)
            values = [rank_correlation(maps[name][place], map_, case.breast) for place, map_, case in pairs]
            found[name] = summary(np.array(values), patients, seed)
        return found

    parts = {part: compared(other) for part, other in cascade(model, seed)}
    return {
        "images": len(some),
        "parts": list(parts),
        "rank_correlation": {
            name: {part: found[name] for part, found in parts.items() if name in found} for name in maps
        },
        "random_labels": None if random_labels is None else compared(random_labels),
    }


def _batches(cases: Sequence[Case]) -> Iterator[Sequence[Case]]:
    size = BATCH if len({case.image.shape for case in cases}) == 1 else 1  # images at a spacing have sizes of their own
    for start in range(0, len(cases), size):
        yield cases[start : start + size]


def _stack(cases: Sequence[Case]) -> torch.Tensor:
    return torch.stack([case.pixel_values for case in cases])


# The images: those with the location of a lesion.


def lesion_cases(images: LabelledImages, spacing_mm: float | None = None) -> list[Case]:
    """Return a case for each image that has a lesion with a known location.

    Args:
        images: Prepared images; ``label`` is that of the first task.
        spacing_mm: Side of a pixel of the source images in mm, for files that do not state it.
    """
    cases = []
    for index in range(len(images)):
        intensity, _, row = images.intensity_and_lesions(index)
        lesion = lesion_mask(row)
        if lesion is None:
            continue
        geometry = geometry_of(row)
        cases.append(
            Case(
                image=intensity[0].numpy(),
                pixel_values=images.normalized(intensity),
                lesion=lesion,
                breast=enlarged(breast_of(row)),
                patient=row["patient"],
                label=row["labels"][0],
                mm_per_pixel=_mm_per_pixel(geometry, spacing_mm),
            )
        )
    return cases


def bag_cases(
    model: BagClassifier,
    images: Collection,
    processor: MammoImageProcessor,
    *,
    label: int | None = None,
    count: int | None = None,
    spacing_mm: float | None = None,
) -> list[Case]:
    """Return a case for each image that has a lesion with a known location, at the spacing of the tiles of a head.

    Args:
        model: A head over features with its encoder.
        images: Collection of files.
        processor: Processor of the head.
        label: Label that the images have, as an index into the logits; ``None``: any.
        count: Highest number of images, spread over all.
        spacing_mm: Side of a pixel of the source images in mm, for files that do not state it.

    Raises:
        UsageError: The images were prepared, so that their own pixels are not there.
        MammoError: A file cannot be read.
    """
    if folder_of(images) is not None:
        remedy = "give the collection that they were prepared from"
        raise UsageError("holds prepared images, and a head is explained on the files", source="images", remedy=remedy)
    cases, tasks = [], cast(Any, model.config.tasks)
    rows = [row for row in images if any(has_location(finding) for finding in row["findings"] or [])]
    rows = [row for row in rows if _has(labels_of(row, tasks), label, model.config)]
    for place in _spread(len(rows), len(rows) if count is None else count):
        row = rows[place]
        with refusing(row["path"]):
            picture = Picture.of_image(readable(row["path"]), processor, **overridden(row))
            pixels, geometry = drawn(picture, model.views, model.encoder.tile).finest
            masks = lesion_masks(row["findings"], geometry.source_size)
        if masks:
            cases.append(
                Case(
                    image=pixels,
                    pixel_values=torch.from_numpy(pixels)[None],
                    lesion=geometry.mask_to_model(np.any(masks, axis=0)) >= 0.5,
                    breast=pixels > 0,
                    patient=row["patient"],
                    label=labels_of(row, tasks[:1])[0],
                    mm_per_pixel=_mm_per_pixel(geometry, spacing_mm),
                )
            )
    return cases


def _mm_per_pixel(geometry: Geometry | None, spacing_mm: float | None) -> float | None:
    stated = mm_per_pixel(geometry)
    if stated is not None or spacing_mm is None or geometry is None:
        return stated
    return spacing_mm / float(np.mean(geometry.scale))


# The data randomisation test: if the explanations of a model trained on permuted labels look like the model's own, they
# show the image and not what was learned (Adebayo et al. 2018, arXiv 1810.03292, section 4).


def train_on_random_labels(
    network: MammoSwinForImageClassification,
    prepared: datasets.Dataset,
    processor: MammoImageProcessor,
    start: str,
    updates: int,
    seed: int,
) -> MammoSwinForImageClassification:
    """Train a classifier of the same kind on permuted labels of the training patients; its last update is kept.

    Args:
        network: The classifier that is studied.
        prepared: Prepared images, those of the training patients among them.
        processor: Image processor of the model.
        start: Size or checkpoint that training starts from.
        updates: Number of optimiser steps.
        seed: Random seed of the permutation and of the training.

    Raises:
        DataError: There is no labelled training image.
    """
    rows = rows_of(prepared, ("train",))
    with tempfile.TemporaryDirectory() as folder:
        config = ClassificationConfig(
            folder,
            max_steps=updates,
            seed=seed,
            lesion_loss=network.config.lesion_loss_weight if network.config.lesion_task else 0.0,
            # Validation images keep their labels: the epoch that is best on them would be the least fitted one
            eval_strategy="no",
            save_strategy="no",
            load_best_model_at_end=False,
        )
        fitted = fit_classifier(
            permuted_labels(prepared, rows, seed),
            processor,
            config,
            model=start,
            tasks=network.config.tasks,
            patients=tuple(sorted({prepared[row]["patient"] for row in rows})),
        )
    trained: MammoSwinForImageClassification = fitted.trainer.accelerator.unwrap_model(fitted.trainer.model)
    return trained.cpu().eval()


def permuted_labels(prepared: datasets.Dataset, rows: Sequence[int], seed: int) -> datasets.Dataset:
    """Permute the labels of some rows among them, each task by itself.

    The number of images of each label stays. Lesions keep their location and take the new label of their image's first
    task.

    Args:
        prepared: Prepared images, with ``labels`` and ``lesions``.
        rows: Rows that are trained on; all others keep their labels.
        seed: Random seed of the permutation.
    """
    generator = np.random.default_rng(seed)
    labels = np.array(prepared["labels"], dtype=np.int64)
    chosen = np.asarray(rows)
    for task in range(labels.shape[1]):
        known = chosen[labels[chosen, task] >= 0]
        labels[known, task] = labels[generator.permutation(known), task]
    lesions = list(prepared["lesions"])
    for row in rows:
        if lesions[row] is not None:
            lesions[row] = relabelled(lesions[row], int(labels[row, 0]))
    kinds = prepared.features
    changed = prepared.remove_columns(["labels", "lesions"])
    changed = changed.add_column("labels", labels.tolist(), feature=kinds["labels"])
    return changed.add_column("lesions", lesions, feature=kinds["lesions"])


# The report.


def _report(figures: dict) -> str:
    supervised = [name for name, row in figures["explainers"].items() if row["supervised"]]
    lines = [
        f"{figures['images']} images of {figures['patients']} patients; explained label: {figures['target']}; means "
        "with 95 % intervals by patient.",
        "A peak anywhere in the breast hits a lesion with a probability of "
        f"{figures['chance_of_pointing']['value']:.2f}.",
        "",
        explanation_table(figures),
    ]
    if supervised:
        lines += ["", f"Supervised ({', '.join(supervised)}): trained on lesion annotations, does not explain a score."]
    lines += ["", "Pointing game, each explainer minus each baseline on the same images:", "", _differences(figures)]
    if figures["sanity"]:
        images = figures["sanity"]["images"]
        lines += ["", f"Rank correlation with the map before weights are randomised ({images} images):", ""]
        lines += [sanity_table(figures)]
    lines += [f"\nLeft out: {name}: {reason}" for name, reason in figures["failed"].items()]
    installed = sum(found.reason is None for found in installed_explainers().values())
    return "\n".join(lines) + f"\n\n{installed} explainers are installed (mammo-hf explainers).\n"


def _differences(figures: dict) -> str:
    rows = {name: row["pointing_game_over"] for name, row in figures["explainers"].items() if not row["baseline"]}
    baselines = [name for name, row in figures["explainers"].items() if row["baseline"]]
    lines = ["| | " + " | ".join(baselines) + " |", "|---" * (len(baselines) + 1) + "|"]
    for name, over in rows.items():
        cells = []
        for baseline in baselines:
            value, interval = over[baseline]["value"], over[baseline]["interval"]
            cells.append(f"{value:+.2f}" + (f" ({interval[0]:+.2f} to {interval[1]:+.2f})" if interval else ""))
        lines.append(f"| {name} | " + " | ".join(cells) + " |")
    return "\n".join(lines)
