"""What comes of explaining: an ``Explanation``, frozen, with its places, its pictures and its files."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np
from PIL import Image
from pydicom.dataset import Dataset
from scipy import ndimage

from ..errors import UsageError
from ..files import whole_file, writing_errors
from ..processing.geometry import Geometry, Unit
from .discovery import Facts
from .overlay import STYLES, Style, drawn
from .secondary_capture import secondary_capture

# Places of a map: its peaks and the boxes around its regions, in model pixels, source pixels and mm.


Values = tuple[float, ...]
APART = 14  # peaks are at least this part of the height apart: a token of the last stage at the sizes we use


@dataclass(frozen=True)
class Place:
    """A place of a map.

    Attributes:
        value: The map's value there, its highest where the place is a region.
        model: In pixels of the model's input.
        source: In pixels of the source image; ``None`` where the geometry is not known.
        mm: In mm from the source image's top left corner; ``None`` where the size of a source pixel is not known.
    """

    value: float
    model: Values
    source: Values | None = None
    mm: Values | None = None

    def to_dict(self) -> dict[str, Any]:
        """As lists and numbers that JSON takes."""
        return {key: list(value) if isinstance(value, tuple) else value for key, value in asdict(self).items()}


class Peak(Place):
    """A local maximum; each place is (row, column)."""


class Box(Place):
    """A region's box; each place is (top, left, bottom, right), bottom and right being the first outside."""


def peak(values: np.ndarray) -> tuple[int, int]:
    """(row, column) of a map's maximum; of a plateau the pixel of it that is nearest to its centre."""
    places = np.argwhere(values == values.max())
    centre = places.mean(axis=0)
    row, column = places[((places - centre) ** 2).sum(axis=1).argmin()]
    return int(row), int(column)


def find_peaks(values: np.ndarray, n: int, geometry: Geometry | None = None) -> list[Peak]:
    """The highest local maxima above 0 of a map (height, width), strongest first.

    Raises:
        UsageError: ``n`` is below 1.
    """
    if n < 1:
        raise UsageError(f"is {n}", source="n", remedy="ask for at least one peak")
    radius = max(1, round(values.shape[0] / APART))
    rows, columns = np.ogrid[: values.shape[0], : values.shape[1]]
    highest = ndimage.maximum_filter(values, size=2 * radius + 1, mode="nearest")
    left = np.where((values == highest) & (values > 0), values, 0)
    found: list[Peak] = []
    while len(found) < n and left.max() > 0:
        row, column = peak(left)
        places = _everywhere((row + 0.5, column + 0.5), geometry)
        found.append(Peak(float(values[row, column]), *places))
        left[(rows - row) ** 2 + (columns - column) ** 2 <= radius**2] = 0
    return found


def find_boxes(values: np.ndarray, threshold: float, geometry: Geometry | None = None) -> list[Box]:
    """Boxes around the connected regions of a map (height, width) at or above a threshold, strongest first.

    Raises:
        UsageError: The threshold is not above 0 and at most 1.
    """
    if not 0 < threshold <= 1:
        raise UsageError(f"is {threshold}", source="threshold", remedy="give a share of the map's maximum, above 0")
    regions, _ = ndimage.label(values >= threshold, structure=np.ones((3, 3)))
    found = []
    for number, (rows, columns) in enumerate(ndimage.find_objects(regions), start=1):
        value = float(values[rows, columns][regions[rows, columns] == number].max())
        corners = (float(rows.start), float(columns.start), float(rows.stop), float(columns.stop))
        found.append(Box(value, *_everywhere(corners, geometry)))
    return sorted(found, key=lambda box: -box.value)


def _everywhere(place: Values, geometry: Geometry | None) -> tuple[Values, Values | None, Values | None]:
    """A point or box in model pixels, in source pixels, and in mm."""
    if geometry is None:
        return place, None, None
    move = geometry.boxes_to_source if len(place) == 4 else geometry.to_source

    def moved(unit: Unit) -> Values:
        return tuple(float(value) for value in move(place, unit))

    return place, moved("pixel"), moved("mm") if geometry.spacing_mm is not None else None


# An explanation's files: a picture, arrays, or places, each written whole or not at all.


SUFFIXES = (".png", ".npz", ".json")


def save_explanation(
    explanation: Explanation, path: str | os.PathLike[str], index: int, style: Style, outline: np.ndarray | None
) -> Path:
    """Writes what the suffix asks for; see ``Explanation.save``.

    Raises:
        UsageError: Another suffix, or a folder that cannot be written to.
    """
    path = Path(path)
    suffix = path.suffix.lower()
    if suffix not in SUFFIXES:
        raise UsageError(
            f"an explanation is saved as {', '.join(SUFFIXES)}", source=path, remedy="choose one of these suffixes"
        )
    with writing_errors(path), whole_file(path) as part:
        if suffix == ".png":
            explanation.overlay(index, style=style, outline=outline).save(part)
        elif suffix == ".npz":
            np.savez_compressed(part, **_arrays(explanation))
        else:
            part.write_text(json.dumps(explanation.to_dict(index), indent=2, allow_nan=False) + "\n", encoding="utf-8")
    return path


def _arrays(explanation: Explanation) -> dict[str, np.ndarray]:
    arrays = {
        "map": explanation.map,
        "target": np.array(explanation.target),
        "explainer": np.array(explanation.explainer),
        "flat": np.array(explanation.flat),
        "score": np.array(explanation.score),
        **{f"fact_{name}": np.array(values) for name, values in explanation.facts.items()},
    }
    optional = {"heads": explanation.heads, "logits": explanation.logits}
    return {**arrays, **{name: array for name, array in optional.items() if array is not None}}


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
        logits: float32 (batch, labels), the model's output on the images; from the same pass where there was one.
        score: For each image the probability of its target among the labels of the target's task.
        facts: What the explainer reports beside its map, a number for each image.
        supervised: Whether the map was taught from lesions' places: it shows what was taught, not why it decided.
    """

    map: np.ndarray
    target: tuple[str, ...]
    explainer: str
    flat: tuple[bool, ...]
    images: np.ndarray
    geometry: tuple[Geometry, ...] | None = None
    heads: np.ndarray | None = None
    logits: np.ndarray | None = None
    score: tuple[float, ...] = ()
    facts: Facts = field(default_factory=dict)
    supervised: bool = False

    def __post_init__(self) -> None:
        for array in (self.map, self.images, self.heads, self.logits):
            if array is not None:
                array.setflags(write=False)
        facts: Mapping[str, Sequence[float]] = {name: tuple(values) for name, values in self.facts.items()}
        object.__setattr__(self, "facts", MappingProxyType(facts))

    def of_image(self, index: int) -> Explanation:
        """The explanation of one image of the batch, as a batch of one.

        Raises:
            UsageError: There is no such image.
        """
        one = slice(self.checked(index), index + 1)
        return replace(
            self,
            map=self.map[one],
            target=self.target[one],
            flat=self.flat[one],
            images=self.images[one],
            geometry=None if self.geometry is None else self.geometry[one],
            heads=None if self.heads is None else self.heads[one],
            logits=None if self.logits is None else self.logits[one],
            score=self.score[one],
            facts={name: values[one] for name, values in self.facts.items()},
        )

    def in_source(self, index: int = 0) -> np.ndarray:
        """The map of one image in its source's pixels, float32 (source height, source width); 0 outside the crop.

        Raises:
            UsageError: The geometry was not given, or there is no such image.
        """
        geometry = self.geometry_of(index)
        if geometry is None:
            raise UsageError("no geometry is known", remedy="pass geometry= to explain (return_geometry=True gives it)")
        return geometry.map_to_source(self.map[index])

    def peaks(self, n: int = 3, index: int = 0) -> list[Peak]:
        """The map's highest places, strongest first; fewer than ``n`` where there are no more.

        Two are at least a 14th part of the image's height apart. Each is given in model pixels and, where the geometry
        is known, in source pixels, and in mm where the size of a source pixel is.

        Raises:
            UsageError: There is no such image, or ``n`` is below 1.
        """
        return find_peaks(self.map[self.checked(index)], n, self.geometry_of(index))

    def boxes(self, threshold: float = 0.5, index: int = 0) -> list[Box]:
        """A box around each connected region in which the map is at or above a threshold, strongest first.

        Raises:
            UsageError: There is no such image, or the threshold is not above 0 and at most 1.
        """
        return find_boxes(self.map[self.checked(index)], threshold, self.geometry_of(index))

    def overlay(
        self, index: int = 0, *, style: Style = "heat", outline: np.ndarray | None = None, scale: int = 1
    ) -> Image.Image:
        """The image with the map over it, and below it a bar of some mm where the size of a pixel is known.

        Args:
            index: Of the image in the batch.
            style: "heat": colour that grows with the map and leaves the image as it is where the map is zero.
                "contour": lines at a quarter, a half and three quarters, which hide no tissue. "side_by_side": the
                image alone beside the image with heat, with the scale of colours.
            outline: A lesion's mask (height, width) whose rim is drawn.
            scale: Whole number of screen pixels a model pixel.

        Raises:
            UsageError: There is no such image or style, or the mask has another size.
        """
        if style not in STYLES:
            raise UsageError(f"{style!r} is no style", source="style", remedy=f"use one of {', '.join(STYLES)}")
        if not isinstance(scale, int) or scale < 1:
            raise UsageError(f"is {scale!r}", source="scale", remedy="give a whole number from 1")
        image, values = self.images[self.checked(index)], self.map[index]
        return drawn(
            image,
            {self.explainer: values},
            style,
            outline,
            scale,
            mm_a_pixel(self.geometry_of(index)),
            self.about(index),
        )

    def save(
        self, path: str | os.PathLike[str], index: int = 0, *, style: Style = "heat", outline: np.ndarray | None = None
    ) -> Path:
        """Writes an overlay of one image (.png), all maps with their targets (.npz), or the places (.json).

        All or nothing: an interrupted or failed call leaves whatever stood there before.

        Raises:
            UsageError: Another suffix, no such image or style, or a folder that cannot be written to.
        """
        return save_explanation(self, path, self.checked(index), style, outline)

    def to_dicom(self, source: str | os.PathLike[str] | Dataset, index: int = 0, *, style: Style = "heat") -> Dataset:
        """A Secondary Capture of the overlay that belongs into the original's study; ``save_as(path)`` writes it.

        See ``mammo_hf.explainers.secondary_capture``.

        Args:
            source: The DICOM file that was explained, or its dataset.
            index: Of the image in the batch.
            style: "heat" or "contour".

        Raises:
            UsageError: No geometry is known, the source is another image than the one that was explained, or a style
                that is not drawn on one image.
            MammogramError: The source cannot be read.
        """
        return secondary_capture(self, source, self.checked(index), style)

    def about(self, index: int = 0) -> str:
        """One line on what is shown: the target, its score, and what must be known of the map."""
        score = f" {self.score[index]:.2f}" if self.score else ""
        notes = ["the map is empty"] * self.flat[index] + ["supervised"] * self.supervised
        return f"{self.target[index]}{score}" + "".join(f", {note}" for note in notes)

    def geometry_of(self, index: int) -> Geometry | None:
        """The way back of one image, where it is known."""
        return None if self.geometry is None else self.geometry[self.checked(index)]

    def checked(self, index: int) -> int:
        """The index, if there is such an image.

        Raises:
            UsageError: There is none.
        """
        if not 0 <= index < len(self.map):
            raise UsageError(f"there is no image {index} among {len(self.map)}", source="index")
        return index

    def to_dict(self, index: int = 0) -> dict[str, Any]:
        """What can be said of one image's map in words and numbers that JSON takes."""
        geometry = self.geometry_of(self.checked(index))
        return {
            "explainer": self.explainer,
            "supervised": self.supervised,
            "target": self.target[index],
            "score": self.score[index] if self.score else None,
            "flat": self.flat[index],
            "size": list(self.map.shape[1:]),
            "geometry": None if geometry is None else geometry.to_dict(),
            "facts": {name: values[index] for name, values in self.facts.items()},
            "peaks": [peak.to_dict() for peak in self.peaks(index=index)],
            "boxes": [box.to_dict() for box in self.boxes(index=index)],
        }


def mm_a_pixel(geometry: Geometry | None) -> float | None:
    """The side of a model pixel in mm; ``None`` where it is not known."""
    if geometry is None or geometry.spacing_mm is None:
        return None
    # crops keep their shape, so that both directions agree up to rounding
    return float(np.mean([spacing / scale for spacing, scale in zip(geometry.spacing_mm, geometry.scale, strict=True)]))
