"""What an explainer is, and what comes of it: an ``Explanation``, frozen, with its overlay and its files."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import numpy as np
import torch
from PIL import Image
from transformers import PreTrainedModel

from ..errors import UsageError
from ..geometry import Geometry
from .overlay import tinted


class Explainer(Protocol):
    """What a plugin offers under its name, usually as a module with these three names.

    Attributes:
        REQUIRES: The packages it needs beyond mammo_hf's own, as pip knows them.
    """

    REQUIRES: tuple[str, ...]

    def available(self) -> bool:
        """Whether those packages are there; must not raise where they are not."""

    def explain_map(self, model: PreTrainedModel, pixel_values: torch.Tensor, target: list[int]) -> torch.Tensor:
        """Maps of where a score comes from; the model must come back as it was (see ``lent``).

        Args:
            model: A classifier whose output has ``logits`` (batch, labels).
            pixel_values: (batch, channels, height, width), normalised.
            target: For each image an index into the logits; ``score`` makes what is to be differentiated of it.

        Returns:
            (batch, rows, columns) of any grid over the image, or (batch, heads, rows, columns), whose mean over heads
            is the map. Finite; any scale, larger for stronger.
        """


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
        heads: float32 (batch, heads, rows, columns) on the token grid, unscaled, where the explainer keeps heads.
    """

    map: np.ndarray
    target: tuple[str, ...]
    explainer: str
    flat: tuple[bool, ...]
    images: np.ndarray
    geometry: tuple[Geometry, ...] | None = None
    heads: np.ndarray | None = None

    def __post_init__(self) -> None:
        for array in (self.map, self.images, self.heads):
            if array is not None:
                array.setflags(write=False)

    def in_source(self, index: int = 0) -> np.ndarray:
        """The map of one image in its source's pixels, float32 (source height, source width); 0 outside the crop.

        Raises:
            UsageError: The geometry was not given, or there is no such image.
        """
        if self.geometry is None:
            raise UsageError("no geometry is known", remedy="pass geometry= to explain (return_geometry=True gives it)")
        return self.geometry[self._checked(index)].map_to_source(self.map[index])

    def overlay(self, index: int = 0, *, outline: np.ndarray | None = None) -> Image.Image:
        """The image with the map as colour over it; untinted where the map is zero.

        Args:
            index: Of the image in the batch.
            outline: A lesion's mask (height, width) whose rim is drawn.

        Raises:
            UsageError: There is no such image, or the mask has another size.
        """
        return Image.fromarray(tinted(self.images[self._checked(index)], self.map[index], outline))

    def save(self, path: str | os.PathLike[str], index: int = 0) -> Path:
        """Writes one image's overlay (.png), or all maps with their targets (.npz); all or nothing.

        Raises:
            UsageError: Another suffix, no such image, or a folder that cannot be written to.
        """
        path = Path(path)
        suffix = path.suffix.lower()
        if suffix not in (".png", ".npz"):
            raise UsageError("an explanation is saved as .png or .npz", source=path, remedy="choose one of the two")
        picture = self.overlay(index) if suffix == ".png" else None
        part = path.with_name(f".{path.stem}.{os.getpid()}{suffix}")
        try:
            if picture is not None:
                picture.save(part)
            else:
                np.savez_compressed(part, **self._arrays())
            part.replace(path)
        except OSError as error:
            raise UsageError(
                f"cannot be written ({error.strerror})", source=path, remedy="choose a folder that can be"
            ) from error
        finally:
            if part.exists():
                part.unlink()
        return path

    def _arrays(self) -> dict[str, np.ndarray]:
        arrays = {
            "map": self.map,
            "target": np.array(self.target),
            "explainer": np.array(self.explainer),
            "flat": np.array(self.flat),
        }
        return arrays if self.heads is None else {**arrays, "heads": self.heads}

    def _checked(self, index: int) -> int:
        if not 0 <= index < len(self.map):
            raise UsageError(f"there is no image {index} among {len(self.map)}", source="index")
        return index
