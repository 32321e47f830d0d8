"""The result of explaining, an ``Explanation``: maps with their locations, pictures and files."""

from __future__ import annotations

import base64
import io
import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from html import escape
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np
from PIL import Image
from scipy import ndimage

from ..errors import UsageError
from ..files import write_whole
from ..processing.geometry import Geometry, Unit
from .overlay import STYLES, Style, method_name, percent, render

Facts = Mapping[str, Sequence[float]]
Values = tuple[float, ...]
SUFFIXES = (".png", ".npz", ".json")
APART = 14  # peaks are at least this part of the height apart: a token of the last stage at the usual sizes
WEAKEST = 0.3  # strength of a map that is drawn whatever the score is
SHOWN = 4  # images that a notebook shows of a batch


@dataclass(frozen=True, repr=False)
class Explanation:
    """Maps of where a model looked, for a batch of images.

    Attributes:
        map: Maps, float32 (batch, height, width) in [0, 1] at the model's input size; 1 is an image's strongest point.
        target: The label that was explained, per image, such as "pathology:malignant".
        explainer: The explainer's name.
        flat: Whether the map is empty (no gradient reached it), per image; such a map is 0 everywhere.
        images: The images for overlays, float32 (batch, height, width) in [0, 1].
        geometry: The way back to source pixels, per image, if it was given.
        heads: Unscaled maps per attention head, float32 (batch, heads, rows, columns) on the token grid, if the
            explainer keeps heads.
        logits: The model's output on the images, float32 (batch, labels), from the explainer's own pass if it had one.
        score: The probability of the target among the labels of its task, per image, calibrated if the model is.
        thresholds: The score below which the map is not drawn, per image; ``None`` for no such score.
        predicted: Whether the target is the strongest of more than two labels, per image.
        doubts: What the model's own test says against its scores, in the line of the result.
        remarks: Sentences below the result: the model's own figures, and the tests of its maps.
        facts: One number per image for each quantity that the explainer reports in addition to its map.
        supervised: Whether the map was trained on lesion annotations: it shows what was trained, not why the model
            decided.
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
    thresholds: tuple[float | None, ...] = ()
    predicted: tuple[bool, ...] = ()
    doubts: tuple[str, ...] = ()
    remarks: tuple[str, ...] = ()
    facts: Facts = field(default_factory=dict)
    supervised: bool = False

    def __post_init__(self) -> None:
        for array in (self.map, self.images, self.heads, self.logits):
            if array is not None:
                array.setflags(write=False)
        facts: Facts = {name: tuple(values) for name, values in self.facts.items()}
        object.__setattr__(self, "facts", MappingProxyType(facts))

    def __repr__(self) -> str:
        count, height, width = self.map.shape
        captions = ", ".join(self.caption(index) for index in range(min(count, SHOWN)))
        more = ", ..." * (count > SHOWN)
        images = "1 image" if count == 1 else f"{count} images"
        return f"Explanation({self.explainer}, {images} of {height} x {width}: {captions}{more})"

    def _repr_html_(self) -> str:
        """Show the overlays of the first images in a notebook."""
        parts = [f"<p>{method_name(self.explainer)}, {len(self.map)} image{'s' * (len(self.map) > 1)}</p>"]
        for index in range(min(len(self.map), SHOWN)):
            picture = base64.b64encode(_png(self.overlay(index))).decode()
            parts.append(
                f'<figure style="display: inline-block; margin: 4px"><img src="data:image/png;base64,{picture}" '
                f'alt="{escape(self.caption(index))}" style="max-height: 520px"></figure>'
            )
        return "".join(parts)

    def of_image(self, index: int) -> Explanation:
        """Return the explanation of one image of the batch, as a batch of one.

        Raises:
            UsageError: There is no such image.
        """
        one = slice(self.check_index(index), index + 1)
        names = ("map", "target", "flat", "images", "geometry", "heads", "logits", "score", "thresholds", "predicted")
        known = {name: getattr(self, name) for name in names if getattr(self, name) is not None}
        facts = {name: values[one] for name, values in self.facts.items()}
        return replace(self, **{name: values[one] for name, values in known.items()}, facts=facts)

    def in_source(self, index: int = 0) -> np.ndarray:
        """Return one image's map in its source's pixels, float32 (source height, source width); 0 outside the crop.

        Raises:
            UsageError: The geometry was not given, or there is no such image.
        """
        return self.known_geometry(index).map_to_source(self.map[index])

    def peaks(self, n: int = 3, index: int = 0) -> list[Location]:
        """Return the map's highest points as (row, column), strongest first; fewer than ``n`` if there are no more.

        Two are at least a 14th of the image's height apart. Each is given in model pixels and, if the geometry is
        known, in source pixels, and in mm if the size of a source pixel is known too.

        Raises:
            UsageError: There is no such image, or ``n`` is below 1.
        """
        return find_peaks(self.map[self.check_index(index)], n, self.geometry_of(index))

    def boxes(self, threshold: float = 0.5, index: int = 0) -> list[Location]:
        """Return boxes (top, left, bottom, right) around the map's connected regions, strongest first.

        Args:
            threshold: The value from which on a pixel belongs to a region.
            index: The image's index in the batch.

        Raises:
            UsageError: There is no such image, or the threshold is not above 0 and at most 1.
        """
        return find_boxes(self.map[self.check_index(index)], threshold, self.geometry_of(index))

    def overlay(
        self, index: int = 0, *, style: Style = "heat", outline: np.ndarray | None = None, scale: int | None = None
    ) -> Image.Image:
        """Draw the map over its image, with the result, the scale of colours and, if it is known, a scale in mm.

        The map is as strong as its score: its opacity follows it, and below the operating point no map is drawn.

        Args:
            index: The image's index in the batch.
            style: "heat": colour that grows with the map and leaves the image as it is where the map is zero.
                "contour": lines at a quarter, a half and three quarters, which hide no tissue. "side_by_side": the
                image alone next to the image with heat.
            outline: The mask (height, width) of annotated lesions, drawn as an outline.
            scale: Whole number of screen pixels per model pixel; ``None``: for a picture about 450 pixels high or more.

        Raises:
            UsageError: There is no such image or style, or the mask has another size.
        """
        if style not in STYLES:
            raise UsageError(f"{style!r} is not a style", source="style", remedy=f"use one of {', '.join(STYLES)}")
        if scale is not None and (not isinstance(scale, int) or scale < 1):
            raise UsageError(f"is {scale!r}", source="scale", remedy="give a whole number from 1")
        return render(
            self.images[self.check_index(index)],
            {self.explainer: self.map[index]},
            style,
            outline,
            scale,
            mm_per_pixel(self.geometry_of(index)),
            self.text(index) if style == "side_by_side" else self.caption(index),
            self.strength(index),
        )

    def save(
        self, path: str | os.PathLike[str], index: int = 0, *, style: Style = "heat", outline: np.ndarray | None = None
    ) -> Path:
        """Write an overlay of one image (.png), all maps with their targets (.npz), or the locations (.json).

        The file is written whole or not at all: an interrupted or failed call leaves an earlier file as it was.

        Raises:
            UsageError: Another suffix, no such image or style, or a file that cannot be written.
        """
        path, index = Path(path), self.check_index(index)
        suffix = path.suffix.lower()
        if suffix not in SUFFIXES:
            raise UsageError(
                f"an explanation is saved as {', '.join(SUFFIXES)}", source=path, remedy="choose one of these suffixes"
            )
        if suffix == ".png":
            content = _png(self.overlay(index, style=style, outline=outline))
        elif suffix == ".json":
            content = (json.dumps(self.to_dict(index), indent=2, allow_nan=False) + "\n").encode()
        else:
            file = io.BytesIO()
            np.savez_compressed(file, **self._arrays())
            content = file.getvalue()
        write_whole(path, content)
        return path

    def to_dict(self, index: int = 0) -> dict[str, Any]:
        """Return what is known of one image's map as data that JSON takes."""
        geometry = self.geometry_of(self.check_index(index))
        return {
            "explainer": self.explainer,
            "supervised": self.supervised,
            "target": self.target[index],
            "score": self.score[index] if self.score else None,
            "threshold": self.thresholds[index] if self.thresholds else None,
            "flat": self.flat[index],
            "size": list(self.map.shape[1:]),
            "geometry": None if geometry is None else geometry.to_dict(),
            "facts": {name: values[index] for name, values in self.facts.items()},
            "peaks": [peak.to_dict() for peak in self.peaks(index=index)],
            "boxes": [box.to_dict() for box in self.boxes(index=index)],
        }

    def result(self, index: int = 0) -> str:
        """Return one line on what is explained: the label, its probability, and why no map is drawn if none is."""
        named = f"{self.target[self.check_index(index)]}{' (predicted)' * any(self.predicted[index : index + 1])}"
        score = f" {percent(self.score[index])}" if self.score else ""
        threshold = self.thresholds[index] if self.thresholds else None
        if threshold is not None and self.strength(index) == 0:
            score += f", no map below the operating point of {percent(threshold)}"
        notes = ["the map is empty"] * self.flat[index] + ["trained on lesion annotations"] * self.supervised
        return named + score + "".join(f", {note}" for note in [*self.doubts, *notes])

    def caption(self, index: int = 0) -> str:
        """Return `result` with the name of the method, as it is shown with every map."""
        return f"{self.result(index)}; {method_name(self.explainer)}"

    def text(self, index: int = 0) -> str:
        """Return the lines below pictures side by side: the result, and what is known of the model and of its maps."""
        return "\n".join([self.result(index), *self.remarks])

    def strength(self, index: int = 0) -> float:
        """Return how strongly the map is drawn, in [0, 1]: its score, or 0 below the operating point.

        Without an operating point it is drawn at `WEAKEST` or more, so that what was asked for can be seen.
        """
        if not self.score:
            return 1.0
        score, threshold = self.score[self.check_index(index)], self.thresholds[index] if self.thresholds else None
        if threshold is None:
            return max(score, WEAKEST)
        return 0.0 if score < threshold else score

    def geometry_of(self, index: int) -> Geometry | None:
        """Return one image's way back to source pixels, if it is known."""
        return None if self.geometry is None else self.geometry[self.check_index(index)]

    def known_geometry(self, index: int) -> Geometry:
        """Return one image's way back to source pixels.

        Raises:
            UsageError: It is not known, or there is no such image.
        """
        geometry = self.geometry_of(index)
        if geometry is None:
            raise UsageError("no geometry is known", remedy="pass geometry= to explain (return_geometry=True gives it)")
        return geometry

    def check_index(self, index: int) -> int:
        """Return the index if there is such an image.

        Raises:
            UsageError: There is none.
        """
        if not 0 <= index < len(self.map):
            raise UsageError(f"there is no image {index} among {len(self.map)}", source="index")
        return index

    def _arrays(self) -> dict[str, np.ndarray]:
        arrays = {
            "map": self.map,
            "target": np.array(self.target),
            "explainer": np.array(self.explainer),
            "flat": np.array(self.flat),
            "score": np.array(self.score),
            **{f"fact_{name}": np.array(values) for name, values in self.facts.items()},
        }
        optional = {"heads": self.heads, "logits": self.logits}
        return {**arrays, **{name: array for name, array in optional.items() if array is not None}}


def mm_per_pixel(geometry: Geometry | None) -> float | None:
    """Return the side of a model pixel in mm; ``None`` if it is not known."""
    if geometry is None or geometry.spacing_mm is None:
        return None
    # crops keep their aspect ratio, so that both directions agree up to rounding
    return float(np.mean([spacing / scale for spacing, scale in zip(geometry.spacing_mm, geometry.scale, strict=True)]))


def _png(picture: Image.Image) -> bytes:
    file = io.BytesIO()
    picture.save(file, format="PNG")
    return file.getvalue()


# Locations in a map: its peaks, and the boxes around its regions.


@dataclass(frozen=True)
class Location:
    """A peak (row, column) or a box (top, left, bottom, right) of a map, bottom and right being the first outside.

    Attributes:
        value: The map's value at the peak, or its highest value in the box.
        model: The location in pixels of the model's input.
        source: The location in pixels of the source image; ``None`` if the geometry is not known.
        mm: The location in mm from the source image's top left corner; ``None`` if the size of a source pixel is not
            known.
    """

    value: float
    model: Values
    source: Values | None = None
    mm: Values | None = None

    def to_dict(self) -> dict[str, Any]:
        """Return lists and numbers that JSON takes."""
        return {key: list(value) if isinstance(value, tuple) else value for key, value in asdict(self).items()}


def peak(values: np.ndarray) -> tuple[int, int]:
    """Return (row, column) of a map's maximum; of a plateau the pixel that is nearest to its centre."""
    highest = np.argwhere(values == values.max())
    centre = highest.mean(axis=0)
    row, column = highest[((highest - centre) ** 2).sum(axis=1).argmin()]
    return int(row), int(column)


def find_peaks(values: np.ndarray, n: int, geometry: Geometry | None = None) -> list[Location]:
    """Return the highest local maxima above 0 of a map (height, width), strongest first.

    Raises:
        UsageError: ``n`` is below 1.
    """
    if n < 1:
        raise UsageError(f"is {n}", source="n", remedy="ask for at least one peak")
    radius = max(1, round(values.shape[0] / APART))
    rows, columns = np.ogrid[: values.shape[0], : values.shape[1]]
    highest = ndimage.maximum_filter(values, size=2 * radius + 1, mode="nearest")
    left = np.where((values == highest) & (values > 0), values, 0)
    found: list[Location] = []
    while len(found) < n and left.max() > 0:
        row, column = peak(left)
        found.append(_location(values[row, column], (row + 0.5, column + 0.5), geometry))
        left[(rows - row) ** 2 + (columns - column) ** 2 <= radius**2] = 0
    return found


def find_boxes(values: np.ndarray, threshold: float, geometry: Geometry | None = None) -> list[Location]:
    """Return boxes around the connected regions of a map (height, width) from a threshold on, strongest first.

    Raises:
        UsageError: The threshold is not above 0 and at most 1.
    """
    if not 0 < threshold <= 1:
        raise UsageError(f"is {threshold}", source="threshold", remedy="give a fraction of the map's maximum, above 0")
    regions, _ = ndimage.label(values >= threshold, structure=np.ones((3, 3)))
    found = []
    for number, (rows, columns) in enumerate(ndimage.find_objects(regions), start=1):
        value = values[rows, columns][regions[rows, columns] == number].max()
        corners = (float(rows.start), float(columns.start), float(rows.stop), float(columns.stop))
        found.append(_location(value, corners, geometry))
    return sorted(found, key=lambda box: -box.value)


def _location(value: float, place: Values, geometry: Geometry | None) -> Location:
    """Add source pixels and mm to a point or box in model pixels."""
    if geometry is None:
        return Location(float(value), place)
    move = geometry.boxes_to_source if len(place) == 4 else geometry.to_source

    def moved(unit: Unit) -> Values:
        return tuple(float(value) for value in move(place, unit))

    return Location(float(value), place, moved("pixel"), moved("mm") if geometry.spacing_mm is not None else None)
