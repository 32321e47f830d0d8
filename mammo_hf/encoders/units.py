"""Units as bags: which images of a feature store are a unit, and what their labels are."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from typing import Any

import datasets
import numpy as np
import torch
from torch.utils.data import DataLoader, Dataset

from ..data.collection import Collection
from ..data.prepare.folder import features_folder, known_labels
from ..data.schema import ORDINAL
from ..errors import DataError, UsageError
from ..metrics.aggregation import UNKNOWN, counted_images, unit_keys, unit_labels
from .bags import MammoBagForClassification, bag_image, collate_bags
from .configuration_mammo_bag import MammoBagConfig
from .store import features_about, read_features

_READ = ("features", "scales", "lesions", "laterality", "view")


def features_of(
    collection: Collection, tasks: Sequence[Mapping[str, Any]], folder: str | None = None
) -> datasets.Dataset:
    """Return the rows of a collection's feature store as the collection has them: its order, split and labels.

    Args:
        collection: Collection of a feature store, or a part of one.
        tasks: Tasks of ``labels``, in order; -100 if the collection has no such label.
        folder: Feature store of these images; ``None``: the one that the collection was read from.
    """
    rows = read_features(folder or features_folder(collection) or "")
    ids = columns_of(rows, "image_id")[0]
    wanted = {image_id: place for place, image_id in enumerate(collection.column("image_id"))}
    split, labels = collection.column("split"), known_labels(collection, [dict(task) for task in tasks])
    rows = rows.remove_columns([name for name in ("split", "labels") if name in rows.column_names])
    # columns are added to all rows and not to some, for which the features would be copied
    for name, values, kind in (("split", split, "string"), ("labels", labels, "int64")):
        feature: Any = datasets.Value(kind) if name == "split" else datasets.List(datasets.Value(kind))
        all_values = [values[wanted[image_id]] if image_id in wanted else None for image_id in ids]
        rows = rows.add_column(name, all_values, feature=feature)
    order = sorted((wanted[image_id], row) for row, image_id in enumerate(ids) if image_id in wanted)
    return rows.select([row for _, row in order])


def columns_of(rows: datasets.Dataset, *names: str) -> list[list[Any]]:
    """Return the values of some columns of prepared rows, read at once."""
    table = rows.select_columns(list(names)).with_format("arrow")[:]
    return [table[name].to_pylist() for name in names]


def counted_rows(rows: datasets.Dataset) -> np.ndarray:
    """Return which of some prepared rows count for the scores of their breast and exam, bool (n,)."""
    if "precedence" not in rows.column_names:
        return np.ones(len(rows), bool)
    return counted_images(*columns_of(rows, "patient", "exam", "laterality", "view", "precedence"))


def check_features(config: MammoBagConfig, folder: str | os.PathLike[str]) -> None:
    """Refuse a feature store of another encoder, or of other tiles, than a head was trained on.

    Args:
        config: Configuration of the head.
        folder: Feature store.

    Raises:
        UsageError: Names what differs.
    """
    about = features_about(folder)
    record, own = about["encoder"], config.encoder_record or {}
    theirs = {"weights": record.get("weights"), **{name: about.get(name) for name in config.tiles or {}}}
    wanted = {"weights": own.get("weights"), **(config.tiles or {})}
    for name, value in wanted.items():
        if theirs[name] != value and json.dumps(theirs[name]) != json.dumps(value):
            what = f"the encoder {record.get('name')}" if name == "weights" else f"{name} {theirs[name]}"
            needed = f"the encoder {own.get('name')}" if name == "weights" else f"{name} {value}"
            raise UsageError(
                f"holds features with {what}, the head was trained on {needed}",
                source=folder,
                remedy="embed the images as those that it was trained on",
            )


class Bags(Dataset[dict[str, Any]]):
    """Units of a feature store, each with its images and its labels.

    An example has the ``images`` of a unit, as `bag_image` returns them, and its ``labels`` (tasks,); `collate_bags`
    makes a batch of several. Of several images of one view, one is in the bag of its breast and exam (see
    `mammo_hf.data.precedence`), whose label is that of all its images.

    Args:
        rows: Rows of a feature store, one per image, with ``labels`` (tasks,) in the order of the tasks.
        tasks: Tasks with ``name``, ``labels`` and ``level``.
        level: Level of all units, with labels of every task; ``None``: units of each level that a task has, with labels
            of the tasks of that level alone.
        lesions: Whether examples have the lesion labels of their tiles too.

    Attributes:
        units: Rows of the images in the bag of each unit.
        members: Rows of all images of each unit.
        labels: Labels of each unit, int64 (units, tasks), -100 if not known.
        patients: Patient of each unit.
    """

    def __init__(
        self,
        rows: datasets.Dataset,
        tasks: Sequence[Mapping[str, Any]],
        *,
        level: str | None = None,
        lesions: bool = False,
    ) -> None:
        self.rows = rows.select_columns([name for name in rows.column_names if name in _READ]).with_format("arrow")
        self.lesions = lesions
        *keys, known_of_image = columns_of(rows, "patient", "exam", "laterality", "labels")
        of_image = np.array(known_of_image, dtype=np.int64).reshape(-1, len(tasks))
        self.members: list[tuple[int, ...]] = []
        self.units: list[tuple[int, ...]] = []
        counted = counted_rows(rows)
        labels: list[np.ndarray] = [np.zeros((0, len(tasks)), np.int64)]
        for one in [level] if level else dict.fromkeys(str(task["level"]) for task in tasks):
            members = _members(unit_keys(one, *keys))
            known = [level is not None or task["level"] == one for task in tasks]
            labels.append(_labels(of_image, members, tasks, known))
            self.members += members
            self.units += (
                members if one == "image" else [tuple(row for row in unit if counted[row]) for unit in members]
            )
        self.labels = np.concatenate(labels)
        self.patients = [keys[0][rows_of_unit[0]] for rows_of_unit in self.units]

    def labelled(self) -> Bags:
        """Return the units with a known label of any task."""
        kept = np.flatnonzero((self.labels != UNKNOWN).any(1))
        found = object.__new__(Bags)
        found.__dict__ |= self.__dict__
        found.units, found.members = ([unit[index] for index in kept] for unit in (self.units, self.members))
        found.labels, found.patients = self.labels[kept], [self.patients[index] for index in kept]
        return found

    def __len__(self) -> int:
        return len(self.units)

    def __getitem__(self, index: int) -> dict[str, Any]:
        return self.__getitems__([index])[0]

    def __getitems__(self, indices: Sequence[int]) -> list[dict[str, Any]]:
        """Return several examples, with one access to the store; PyTorch's loaders call it for each batch."""
        members = [self.units[index] for index in indices]
        wanted = [row for rows in members for row in rows]
        table = self.rows[wanted]
        columns = [table[name].to_pylist() if name in table.column_names else [None] * len(wanted) for name in _READ]
        images = iter([bag_image(*values) for values in zip(*columns, strict=True)])
        return [
            {"images": [next(images) for _ in rows], "labels": self.labels[index], "lesions": self.lesions}
            for index, rows in zip(indices, members, strict=True)
        ]


def _members(keys: Sequence[str]) -> list[tuple[int, ...]]:
    found: dict[str, list[int]] = {}
    for row, key in enumerate(keys):
        found.setdefault(key, []).append(row)
    return [tuple(rows) for rows in found.values()]


def _labels(
    of_image: np.ndarray, members: list[tuple[int, ...]], tasks: Sequence[Mapping[str, Any]], known: Sequence[bool]
) -> np.ndarray:
    """Return the labels of units from those of their images, (units, tasks)."""
    unit = np.empty(len(of_image), np.int64)
    for number, rows in enumerate(members):
        unit[list(rows)] = number
    columns = [
        unit_labels(of_image[:, place], unit, len(members), ordered=task["name"] in ORDINAL or len(task["labels"]) == 2)
        if known[place]
        else np.full(len(members), UNKNOWN, np.int64)
        for place, task in enumerate(tasks)
    ]
    return np.stack(columns, axis=1)


def score_bags(model: MammoBagForClassification, bags: Bags, *, batch_size: int = 64) -> np.ndarray:
    """Return the logits of units, float64 (units, labels of all tasks), in their order.

    Args:
        model: Head on the device to compute on; its training mode is restored.
        bags: Units of features of its encoder.
        batch_size: Units per batch.

    Raises:
        DataError: A score is not finite.
    """
    training, found = model.training, [np.zeros((0, int(model.config.num_labels or 0)))]
    model.eval()
    try:
        with torch.inference_mode():
            for batch in DataLoader(bags, batch_size=batch_size, collate_fn=collate_bags):
                del batch["labels"]
                batch.pop("lesion_targets", None)
                output = model(**{name: values.to(model.device) for name, values in batch.items()})
                found.append(output.logits.double().cpu().numpy())
    finally:
        model.train(training)
    logits = np.concatenate(found)
    bad = int((~np.isfinite(logits)).any(axis=1).sum())
    if bad:
        raise DataError(f"{bad} of {len(logits)} units get scores that are not finite", remedy="check the features")
    return logits
