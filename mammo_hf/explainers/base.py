"""Explanation: a map an image, frozen, with its overlay and its files."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image

from ..errors import UsageError
from ..geometry import Geometry
from .overlay import tinted


@dataclass(frozen=True)
class Explanation:
    """Where a model looked, for each image of a batch.

    Attributes:
        map: float32 (batch, height, width) in [0, 1] at the model's input size; 1 is the image's strongest place.
        target: The label that was explained, for each image, such as "pathology:malignant".
        explainer: The explainer's name.
        flat: For each image whether the map carries nothing (no gradient reached it); such a map is 0 everywhere.
        images: float32 (batch, height, width) in [0, 1], the images for overlays.
        geometry: For each image the way back to source pixels, where it was given.
    """

    map: np.ndarray
    target: tuple[str, ...]
    explainer: str
    flat: tuple[bool, ...]
    images: np.ndarray
    geometry: tuple[Geometry, ...] | None = None

    def in_source(self, index: int = 0) -> np.ndarray:
        """The map of one image in its source's pixels, float32 (source height, source width).

        Raises:
            UsageError: The geometry was not given.
        """
        if self.geometry is None:
            raise UsageError("no geometry is known", remedy="pass geometry= to explain (return_geometry=True gives it)")
        return self.geometry[index].map_to_source(self.map[index])

    def overlay(self, index: int = 0) -> Image.Image:
        """The image with the map as colour over it; untinted where the map is zero."""
        return Image.fromarray(tinted(self.images[index], self.map[index]))

    def save(self, path: str | os.PathLike[str], index: int = 0) -> Path:
        """Writes one image's overlay (.png), or all maps and targets (.npz); all or nothing.

        Raises:
            UsageError: Another suffix, or a folder that cannot be written to.
        """
        path = Path(path)
        if path.suffix not in (".png", ".npz"):
            raise UsageError("an explanation is saved as .png or .npz", source=path)
        part = path.with_name(f".{path.stem}.{os.getpid()}{path.suffix}")
        try:
            if path.suffix == ".png":
                self.overlay(index).save(part)
            else:
                np.savez_compressed(part, map=self.map, target=np.array(self.target), explainer=self.explainer)
            part.replace(path)
        except OSError as error:
            raise UsageError(f"cannot be written ({error.strerror})", source=path) from error
        finally:
            part.unlink(missing_ok=True)
        return path
