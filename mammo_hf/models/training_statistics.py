"""Distance of an image from the images that a classifier was trained on, by its pooled features.

It is Mahalanobis' distance from the mean of the training images, under their covariance, shrunk as by Ledoit and Wolf
2004 (doi 10.1016/S0047-259X(03)00096-4); Lee et al. 2018 (arXiv 1807.03888) use it on features of networks. Mean and
covariance of all training images are stored, never the features of one.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors import SafetensorError
from safetensors.numpy import load_file, save_file
from transformers.utils.hub import cached_file

from ..errors import DataError
from ..files import whole_file, writing_errors

STATISTICS = "training_statistics.safetensors"
FEWEST_PATIENTS = 50  # of fewer training patients no statistics are kept: they would say too little, and too much
MOST_COMPARED = 4000  # images of a split whose features are compared: more would change little
QUANTILE = 0.975  # of the distances of validation images, each patient counting as one


@dataclass(frozen=True, eq=False)
class TrainingStatistics:
    """Mean and covariance of the pooled features of training images, and the distance of an unlike image.

    Attributes:
        mean: Mean of the features (channels,).
        precision: Inverse of their covariance (channels, channels).
        threshold: Distance above which an image is unlike them.
    """

    mean: np.ndarray
    precision: np.ndarray
    threshold: float

    @classmethod
    def of(
        cls, features: np.ndarray, patients: Sequence[str], validation: np.ndarray, validation_patients: Sequence[str]
    ) -> TrainingStatistics | None:
        """Fit the statistics; ``None`` with fewer than 50 training patients, or without validation.

        Args:
            features: Pooled features of the training images, float (images, channels).
            patients: Their patients.
            validation: Those of the validation images.
            validation_patients: Their patients.
        """
        if len(set(patients)) < FEWEST_PATIENTS or not len(validation):
            return None
        from sklearn.covariance import LedoitWolf  # takes a second to import, and only training needs it

        fitted = LedoitWolf().fit(features)
        unfinished = cls(fitted.location_.astype(np.float32), fitted.precision_.astype(np.float32), np.inf)
        distances = unfinished.distances(validation)
        _, of_image, images = np.unique(validation_patients, return_inverse=True, return_counts=True)
        order = np.argsort(distances)
        reached = np.cumsum(1 / images[of_image][order]) / len(images)
        place = min(int(np.searchsorted(reached, QUANTILE)), len(order) - 1)
        return cls(unfinished.mean, unfinished.precision, float(distances[order[place]]))

    def distances(self, features: np.ndarray) -> np.ndarray:
        """Return the distance of each image (images,) from features (images, channels)."""
        away = np.asarray(features, np.float64) - self.mean
        return np.sqrt(np.einsum("ij,jk,ik->i", away, self.precision.astype(np.float64), away).clip(min=0))

    def unlike(self, features: np.ndarray) -> np.ndarray:
        """Return whether each image is unlike the training images, bool (images,); what is not finite is."""
        return ~(self.distances(features) <= self.threshold)

    def save(self, folder: str | os.PathLike[str]) -> None:
        """Write them into the folder of a model."""
        arrays = {"mean": self.mean, "precision": self.precision, "threshold": np.float32([self.threshold])}
        target = Path(folder) / STATISTICS
        with writing_errors(target), whole_file(target) as part:
            save_file(arrays, part)


def read_statistics(model: str | os.PathLike[str], commit: str | None = None) -> TrainingStatistics | None:
    """Read the statistics of a folder, or of a commit on the Hub; ``None`` if it has none.

    Args:
        model: Folder, or name on the Hub.
        commit: Commit on the Hub, where it is a name.

    Raises:
        DataError: They are damaged.
    """
    if not (os.path.isdir(model) or commit):
        return None  # a model that was never saved
    quiet = {f"_raise_exceptions_for_{case}": False for case in ("gated_repo", "missing_entries", "connection_errors")}
    path = cached_file(os.fspath(model), STATISTICS, revision=commit, **quiet)
    if path is None:
        return None
    try:
        found = load_file(path)
        mean, precision, threshold = found["mean"], found["precision"], float(found["threshold"][0])
        sound = mean.ndim == 1 and precision.shape == (len(mean), len(mean)) and threshold > 0
    except (SafetensorError, KeyError, IndexError, OSError):
        sound = False
    if not sound:
        raise DataError("is damaged", source=path, remedy="copy it again, or remove it: images are then not compared")
    return TrainingStatistics(mean, precision, threshold)


@contextmanager
def pooled_features(model: Any) -> Iterator[list[torch.Tensor]]:
    """Collect the pooled features (batch, channels) that a model's linear classifier is given, one tensor per call.

    Args:
        model: A Swin, or a head over features.
    """
    seen: list[torch.Tensor] = []
    hook = model.classifier.register_forward_pre_hook(lambda _, inputs: _keep(seen, inputs[0]))
    try:
        yield seen
    finally:
        hook.remove()


def _keep(seen: list[torch.Tensor], features: torch.Tensor) -> None:
    if features.ndim == 2:  # the lesion loss gives it the tokens too
        seen.append(features.detach().float().cpu())
