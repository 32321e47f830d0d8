"""Images with a model's scores: the labels, patients and facts that an evaluation needs, and breasts and patients."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, NamedTuple, cast

import datasets
import numpy as np
import torch
from torch.utils.data import DataLoader
from tqdm.auto import tqdm

from ..data.prepared_row import ACQUISITION, CELL, geometry_of, lesions_of, without_pixels
from ..data.torch_datasets import LabelledImages
from ..encoders.bags import MammoBagForClassification
from ..encoders.units import Bags, columns_of, score_bags
from ..errors import DataError
from ..metrics.aggregation import HEAD, LEVELS, RULES, UNKNOWN, aggregate, counted_images, unit_keys, unit_labels
from ..models.configuration_mammo_swin import MammoSwinConfig
from ..models.modeling_mammo_swin import MammoSwinForImageClassification, score_logits
from ..processing.image_processing_mammo import MammoImageProcessor

if TYPE_CHECKING:
    from ..data.collection import Collection


@dataclass(frozen=True)
class Scored:
    """Scored images of a split, all columns in one order.

    Args:
        logits: ``(n, labels of all tasks)`` logits, in the order of ``config.tasks``.
        labels: int ``(n, tasks)`` class numbers, -100 if not known.
        patients: ``(n,)`` patient keys.
        facts: Columns ``(n,)`` of further facts of each image, ``None`` if not known: ``view``, ``laterality``,
            ``exam``, ``density``, ``age_band``, ``vendor``, ``stratum``, ``lesion_type``, ``lesion_size``, ``source``.
        image_ids: ``(n,)`` hashes of the images.
        of_units: By kind of unit, such as "breast", the logits ``(n, labels of all tasks)`` that the model itself gives
            to the unit of each image; empty: it scores images alone.
        precedence: Place of each image among those of its exam, side and view, ``None`` if it is the only one; empty:
            no two images share a view.

    Raises:
        DataError: A column has another length.
    """

    logits: np.ndarray
    labels: np.ndarray
    patients: Sequence[str]
    facts: Mapping[str, Sequence[str | None]] = field(default_factory=dict)
    image_ids: Sequence[str] = ()
    of_units: Mapping[str, np.ndarray] = field(default_factory=dict)
    precedence: Sequence[int | None] = ()

    def __post_init__(self) -> None:
        columns: dict[str, Any] = {"labels": self.labels, "patients": self.patients, **self.facts, **self.of_units}
        for name in ("image_ids", "precedence"):
            if len(getattr(self, name)):
                columns[name] = getattr(self, name)
        for name, column in columns.items():
            if len(column) != len(self.logits):
                raise DataError(f"{len(column)} values for {len(self.logits)} images", source=name)

    def __len__(self) -> int:
        return len(self.logits)

    def groupings(self) -> dict[str, list[str]]:
        """Return the keys of the breast and the patient of each image, and of its exam if the model scores exams."""
        levels = ["breast", *(["exam"] if "exam" in self.of_units else [])]
        columns = [self.facts.get(name, [None] * len(self)) for name in ("exam", "laterality")]
        found = {level: unit_keys(level, self.patients, *columns) for level in levels}
        return {**found, "patient": list(self.patients)}

    def counted(self) -> np.ndarray:
        """Return bool ``(n,)``, which images count for the scores of their breast, exam and patient."""
        exams, sides, views = (self.facts.get(name, [None] * len(self)) for name in ("exam", "laterality", "view"))
        places = self.precedence if len(self.precedence) else [None] * len(self)
        return counted_images(self.patients, exams, sides, views, places)

    def taken(self, rows: Sequence[int]) -> Scored:
        """Return some of the images, with the logits of their units as they are."""
        place = list(rows)

        def some(columns: Mapping[str, Sequence[Any]]) -> dict[str, Any]:
            return {name: [column[row] for row in place] for name, column in columns.items()}

        return Scored(
            self.logits[place],
            np.asarray(self.labels)[place],
            [self.patients[row] for row in place],
            some(self.facts),
            [self.image_ids[row] for row in place] if len(self.image_ids) else (),
            {level: logits[place] for level, logits in self.of_units.items()},
            [self.precedence[row] for row in place] if len(self.precedence) else (),
        )

    def known(self, task: int) -> np.ndarray:
        """Return bool ``(n,)``, True if the image's label of a task, given by its number, is known."""
        return np.asarray(self.labels)[:, task] >= 0


# From images to breasts and patients.


class Units(NamedTuple):
    """Breasts, exams or patients with their labels and scores.

    Attributes:
        references: int64 ``(units,)`` class numbers.
        patients: ``(units,)`` patient keys.
        scores: Scores by rule, float64 ``(units, classes)``; those of the model itself under "head".
        conflicting: Number of units that were left out because their images disagree.
    """

    references: np.ndarray
    patients: np.ndarray
    scores: dict[str, np.ndarray]
    conflicting: int


def into_units(
    name: str,
    references: np.ndarray,
    probabilities: np.ndarray,
    patients: np.ndarray,
    keys: np.ndarray,
    *,
    of_units: np.ndarray | None = None,
    counted: np.ndarray | None = None,
    ordered: bool = False,
) -> Units:
    """Combine images into breasts, exams or patients.

    With two classes a unit is positive if any of its images is, and with ordered ones it has the most severe label of
    its images; otherwise a unit whose images disagree has no label and is left out. Its scores are, for each class, the
    mean of the images' probabilities, their maximum, or the noisy-or 1 - prod(1 - p), which treats the images as
    independent evidence. With two classes the last two are those of the positive class, and with more they are scaled
    to a sum of one.

    Args:
        name: Kind of the units, for messages.
        references: int ``(n,)`` class numbers, all known.
        probabilities: ``(n, classes)`` probabilities of the images.
        patients: ``(n,)`` patient keys.
        keys: ``(n,)`` key of each image's unit.
        of_units: ``(n, classes)`` probabilities that the model itself gives to the unit of each image.
        counted: bool ``(n,)``, the images whose scores are combined, and all those of a unit that has none;
            ``None``: all.
        ordered: Whether more than two classes have an order.

    Raises:
        DataError: A unit has images of two patients.
    """
    _, first, unit = np.unique(keys, return_index=True, return_inverse=True)
    if np.any(patients[first][unit] != patients):
        raise DataError(f"a {name} has images of two patients", source=name, remedy="include the patient in its key")
    count = len(first)
    labels = unit_labels(references, unit, count, ordered=ordered or probabilities.shape[1] == 2)
    agreed = labels != UNKNOWN
    used = (
        np.ones(len(unit), bool)
        if counted is None
        else counted | (np.bincount(unit[counted], minlength=count) == 0)[unit]
    )
    scores = {rule: aggregate(rule, probabilities[used], unit[used], count)[agreed] for rule in RULES}
    if of_units is not None:
        scores[HEAD] = of_units[first][agreed]
    return Units(labels[agreed], patients[first][agreed], scores, int((~agreed).sum()))


# What is known of each image in addition to its labels, for subgroups and the cohort table.


Column = list[str | None]
_OF_THE_TABLE = ("view", "laterality", "exam", "age_band", "vendor", "stratum", "source", "density")
_BANDS_MM = (10.0, 20.0)  # a tumour above 20 mm is T2


def facts_of(table: Collection | None, prepared: datasets.Dataset) -> dict[str, Column]:
    """Return the facts of prepared images, in their order.

    Args:
        table: Collection that they were prepared from, or a part that has them; ``None``: only the facts of the
            prepared rows.
        prepared: Prepared rows with ``image_id``, ``lesions`` and ``geometry``.

    Returns:
        Columns ``(n,)``: view, laterality, exam, age band, vendor, stratum, source and density if the table has them;
        machine and bands of the exposure if the prepared rows have them;
        ``lesion_type`` if its findings have a kind; ``lesion_size`` if lesions are located: the equivalent diameter, in
        mm if the spacing is known, else in thirds by pixels of the model's input.
    """
    if table is None:
        facts = {name: list(prepared[name]) for name in ("view", "laterality")}
    else:
        facts = facts_of_table(table, list(prepared["image_id"]))
    there = [name for name in ACQUISITION if name in prepared.column_names]
    found = {name: list(prepared[name]) for name in there} | {"lesion_size": _lesion_sizes(prepared)}
    return facts | {name: values for name, values in found.items() if any(value is not None for value in values)}


def facts_of_table(table: Collection, image_ids: Sequence[str]) -> dict[str, Column]:
    """Return the facts of some images of a collection that it has as columns, in their order."""
    rows = {image_id: row for row, image_id in enumerate(table.column("image_id"))}
    order = [rows[image_id] for image_id in image_ids]
    columns = {name: table.column(name) for name in _OF_THE_TABLE if name in table.dataset.column_names}
    facts = {name: [values[row] for row in order] for name, values in columns.items()}
    kinds = [lesion_type(findings) for findings in table.column("findings")]
    if any(kind not in (None, "none") for kind in kinds):
        facts["lesion_type"] = [kinds[row] for row in order]
    return facts


def lesion_type(findings: Sequence[dict[str, object]]) -> str | None:
    """Return the kind of an image's findings: "mass", ..., "several" for more than one kind, or "none"."""
    kinds = {finding["kind"] for finding in findings}
    if not kinds:
        return "none"
    return "several" if len(kinds) > 1 else (None if None in kinds else str(kinds.pop()))


def _lesion_sizes(prepared: datasets.Dataset) -> Column:
    found = [_diameter(row) for row in without_pixels(prepared)]
    known = [diameter for diameter in found if diameter is not None]
    if not known:
        return [None] * len(found)
    if all(unit == "mm" for _, unit in known):
        low, high = _BANDS_MM
        names = (f"below {low:g} mm", f"{low:g} to {high:g} mm", f"above {high:g} mm")
    else:
        # Pixels cannot be compared across collections, so the bands are thirds of this collection.
        known = [(diameter, unit) for diameter, unit in known if unit == "px"]
        low, high = np.quantile([diameter for diameter, _ in known], [1 / 3, 2 / 3])
        names = (f"1: below {low:.0f} px", f"2: {low:.0f} to {high:.0f} px", f"3: above {high:.0f} px")
    unit = known[0][1]
    return [
        None if diameter is None or diameter[1] != unit else names[int(diameter[0] >= low) + int(diameter[0] > high)]
        for diameter in found
    ]


def _diameter(row: Mapping[str, Any]) -> tuple[float, str] | None:
    """Return the diameter of the disc with the lesions' area, and its unit; ``None`` if the row has no lesion."""
    cells = lesions_of(row)
    if cells is None or not cells.any():
        return None
    area = float(np.count_nonzero(cells) * CELL**2)
    place = geometry_of(row)
    if place is None or place.spacing_mm is None:
        return 2 * float(np.sqrt(area / np.pi)), "px"
    in_mm = area * place.spacing_mm[0] * place.spacing_mm[1] / (place.scale[0] * place.scale[1])
    return 2 * float(np.sqrt(in_mm / np.pi)), "mm"


# Scoring prepared images with a classifier.


def score_images(
    model: MammoSwinForImageClassification,
    prepared: datasets.Dataset,
    processor: MammoImageProcessor,
    *,
    batch_size: int = 16,
    num_workers: int = 0,
) -> np.ndarray:
    """Return the logits of prepared images, float64 ``(n, labels of all tasks)``, in their order.

    Args:
        model: Classifier on the device to compute on; its training mode is restored.
        prepared: Prepared images.
        processor: Processor of the model.
        batch_size: Images per batch.
        num_workers: Processes that read images.

    Raises:
        DataError: A score is not finite.
    """
    loader = DataLoader(LabelledImages(prepared, processor), batch_size=batch_size, num_workers=num_workers)
    training, found = model.training, []
    config = cast(MammoSwinConfig, model.config)
    model.eval()
    try:
        with torch.inference_mode(), tqdm(total=len(prepared), desc="scoring", unit=" images", disable=None) as bar:
            for batch in loader:
                output = model(pixel_values=batch["pixel_values"].to(model.device))
                chosen = score_logits(config, output.logits, output.lesion_scores)
                found.append(chosen.double().cpu().numpy())
                bar.update(len(chosen))
    finally:
        model.train(training)
    logits = np.concatenate(found) if found else np.zeros((0, int(model.config.num_labels or 0)))
    bad = int((~np.isfinite(logits)).any(axis=1).sum())
    if bad:
        raise DataError(
            f"{bad} of {len(logits)} images get scores that are not finite", remedy="check the model's weights"
        )
    return logits


def scored(logits: np.ndarray, prepared: datasets.Dataset, table: Collection | None = None) -> Scored:
    """Combine logits with the labels and facts of their images.

    Args:
        logits: ``(n, labels of all tasks)`` logits.
        prepared: Images that they are of, with ``labels`` in the order of the tasks.
        table: Collection that the images were prepared from, which has more facts; ``None``: not available.
    """
    return Scored(
        logits=np.asarray(logits, dtype=np.float64),
        labels=np.array(prepared["labels"], dtype=np.int64),
        patients=list(prepared["patient"]),
        facts=facts_of(table, prepared),
        image_ids=list(prepared["image_id"]),
        precedence=list(prepared["precedence"]) if "precedence" in prepared.column_names else (),
    )


def scored_units(
    model: MammoBagForClassification, rows: datasets.Dataset, table: Collection, *, batch_size: int = 64
) -> Scored:
    """Score images, breasts and exams with a head over bags, each from the features of its own images.

    Args:
        model: Head on the device to compute on.
        rows: Rows of a feature store, with ``labels`` in the order of the model's tasks.
        table: Collection that has further facts of the images.
        batch_size: Units per batch.
    """
    tasks: Any = model.config.tasks
    of_level: dict[str, np.ndarray] = {}
    for level in LEVELS:
        bags = Bags(rows, tasks, level=level)
        logits = score_bags(model, bags, batch_size=batch_size)
        of_level[level] = np.empty((len(rows), logits.shape[1]))
        for members, values in zip(bags.members, logits, strict=True):
            of_level[level][list(members)] = values
    ids, patients, labels = columns_of(rows, "image_id", "patient", "labels")
    places = columns_of(rows, "precedence")[0] if "precedence" in rows.column_names else ()
    return Scored(
        logits=of_level.pop("image"),
        labels=np.array(labels, dtype=np.int64).reshape(len(rows), -1),
        patients=patients,
        facts=facts_of_table(table, ids),
        image_ids=ids,
        of_units=of_level,
        precedence=places,
    )
