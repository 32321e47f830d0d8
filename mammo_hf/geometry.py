"""Geometry: how an image was cropped, mirrored, resized and padded, as data, and the way back.

Coordinates are continuous (row, column): pixel i covers [i, i + 1) and its centre is at i + 0.5, on the source as on
the canvas, as in DICOM's spatial coordinates (PS3.3 C.18.6: the origin is the top left corner of the top left pixel;
there column comes first). Millimetres are (row, column) as well, from the same corner. Points, boxes and polygons are
float64 and exact both ways, whether they lie inside the crop or not; boxes are (top, left, bottom, right). Masks and
maps are resampled.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import ArrayLike

from .resizing import interpolation_weights, resize_area, resize_area_strips

Unit = Literal["pixel", "mm"]


@dataclass(frozen=True)
class Geometry:
    """From source pixels to the model's canvas and back.

    Args:
        source_size: (height, width) of the source image in pixels.
        crop: (top, left, bottom, right) of the part that was kept, in source pixels; bottom and right are exclusive.
        flip: Whether the crop was mirrored left to right.
        resized: (height, width) of the crop after resizing.
        offset: (top, left) of the resized crop on the canvas.
        size: (height, width) of the canvas, the model's input.
        spacing_mm: (row, column) size of a source pixel in mm; ``None`` where it is not known.
    """

    source_size: tuple[int, int]
    crop: tuple[int, int, int, int]
    flip: bool
    resized: tuple[int, int]
    offset: tuple[int, int]
    size: tuple[int, int]
    spacing_mm: tuple[float, float] | None = None

    @property
    def scale(self) -> tuple[float, float]:
        """Canvas pixels a source pixel, (vertically, horizontally)."""
        top, left, bottom, right = self.crop
        return self.resized[0] / (bottom - top), self.resized[1] / (right - left)

    def to_model(self, points: ArrayLike, unit: Unit = "pixel") -> np.ndarray:
        """Points (..., 2) on the source, in pixels or mm, to canvas pixels.

        Raises:
            ValueError: Millimetres are asked for and the spacing is not known.
        """
        in_pixels = np.asarray(points, np.float64) / self._pixel(unit)
        top, left, _, right = self.crop
        rows, columns = in_pixels[..., 0] - top, in_pixels[..., 1] - left
        if self.flip:
            columns = (right - left) - columns
        return np.stack([rows * self.scale[0] + self.offset[0], columns * self.scale[1] + self.offset[1]], axis=-1)

    def to_source(self, points: ArrayLike, unit: Unit = "pixel") -> np.ndarray:
        """Points (..., 2) in canvas pixels to the source, in pixels or mm.

        Raises:
            ValueError: Millimetres are asked for and the spacing is not known.
        """
        points = np.asarray(points, np.float64)
        top, left, _, right = self.crop
        rows = (points[..., 0] - self.offset[0]) / self.scale[0]
        columns = (points[..., 1] - self.offset[1]) / self.scale[1]
        if self.flip:
            columns = (right - left) - columns
        return np.stack([rows + top, columns + left], axis=-1) * self._pixel(unit)

    def boxes_to_model(self, boxes: ArrayLike, unit: Unit = "pixel") -> np.ndarray:
        """Boxes (..., 4) on the source to canvas pixels; they stay ordered when mirrored."""
        return _boxes(boxes, lambda points: self.to_model(points, unit))

    def boxes_to_source(self, boxes: ArrayLike, unit: Unit = "pixel") -> np.ndarray:
        """Boxes (..., 4) in canvas pixels to the source."""
        return _boxes(boxes, lambda points: self.to_source(points, unit))

    def polygons_to_model(self, polygons: Iterable[ArrayLike], unit: Unit = "pixel") -> list[np.ndarray]:
        """Polygons, (corners, 2) each, on the source to canvas pixels; they keep their sense when mirrored."""
        return [self._same_sense(self.to_model(polygon, unit)) for polygon in polygons]

    def polygons_to_source(self, polygons: Iterable[ArrayLike], unit: Unit = "pixel") -> list[np.ndarray]:
        """Polygons, (corners, 2) each, in canvas pixels to the source."""
        return [self._same_sense(self.to_source(polygon, unit)) for polygon in polygons]

    def mask_to_model(self, mask: np.ndarray) -> np.ndarray:
        """Share of each canvas pixel that a mask covers.

        Args:
            mask: bool, or float in [0, 1], (..., source height, source width).

        Returns:
            float32 (..., height, width) in [0, 1]; 0 in the padding.

        Raises:
            ValueError: The mask is not of the source's size.
        """
        return self.map_to_model(mask)

    def mask_to_source(self, mask: np.ndarray) -> np.ndarray:
        """A mask (..., height, width) on the canvas, bool or share, to bool (..., source height, source width)."""
        return self.map_to_source(np.asarray(mask, np.float32)) >= 0.5

    def map_to_model(self, values: np.ndarray) -> np.ndarray:
        """A map (..., source height, source width) to float32 (..., height, width) by area; 0 in the padding.

        Raises:
            ValueError: The map is not of the source's size.
        """
        if values.shape[-2:] != tuple(self.source_size):
            raise ValueError(f"an array of {values.shape} does not belong to an image of {self.source_size}")
        top, left, bottom, right = self.crop
        return self.place(values[..., top:bottom, left:right])

    def place(self, cropped: np.ndarray) -> np.ndarray:
        """Resizes by area, mirrors and pads the cropped part (..., crop height, crop width), float32."""
        return self._on_canvas(resize_area(cropped, self.resized))

    def place_strips(self, read: Callable[[slice], tuple[np.ndarray, int]]) -> np.ndarray:
        """As ``place``, where ``read`` gives some rows of the cropped part at a time; see ``resize_area_strips``."""
        top, left, bottom, right = self.crop
        return self._on_canvas(resize_area_strips(read, (bottom - top, right - left), self.resized))

    def map_to_source(self, values: np.ndarray, fill: float = 0.0) -> np.ndarray:
        """A map (..., height, width) on the canvas to float32 (..., source height, source width), bilinear.

        Args:
            values: What is known of each canvas pixel, as at its centre.
            fill: What stands outside the crop.
        """
        top, left, bottom, right = self.crop
        rows = (np.arange(bottom - top) + 0.5) * self.scale[0] + self.offset[0] - 0.5
        columns = np.arange(right - left)[:: -1 if self.flip else 1] + 0.5
        columns = columns * self.scale[1] + self.offset[1] - 0.5
        down, across = interpolation_weights(rows, self.size[0]), interpolation_weights(columns, self.size[1])
        values = np.asarray(values, np.float32)
        source = np.full((*values.shape[:-2], *self.source_size), fill, np.float32)
        for index in np.ndindex(values.shape[:-2]):
            source[(*index, slice(top, bottom), slice(left, right))] = (across @ (down @ values[index]).T).T
        return source

    def to_dict(self) -> dict[str, Any]:
        """As lists and numbers that JSON takes."""
        return {key: list(value) if isinstance(value, tuple) else value for key, value in asdict(self).items()}

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> Geometry:
        """From what ``to_dict`` gave."""
        fields: dict[str, Any] = {k: tuple(v) if isinstance(v, list) else v for k, v in values.items()}
        return cls(**fields)

    def _pixel(self, unit: Unit) -> np.ndarray:
        """The size of a source pixel in a unit, (row, column)."""
        if unit == "pixel":
            return np.ones(2)
        if unit != "mm":
            raise ValueError(f"{unit!r} is no unit: give 'pixel' or 'mm'")
        if self.spacing_mm is None:
            raise ValueError("the size of a source pixel is not known: only pixels can be mapped")
        return np.asarray(self.spacing_mm, np.float64)

    def _same_sense(self, polygon: np.ndarray) -> np.ndarray:
        # mirroring turns clockwise into counter-clockwise
        return polygon[::-1] if self.flip else polygon

    def _on_canvas(self, resized: np.ndarray) -> np.ndarray:
        canvas = np.zeros((*resized.shape[:-2], *self.size), np.float32)
        rows, columns = self.resized
        top, left = self.offset
        canvas[..., top : top + rows, left : left + columns] = resized[..., ::-1] if self.flip else resized
        return canvas


def _boxes(boxes: ArrayLike, move: Callable[[np.ndarray], np.ndarray]) -> np.ndarray:
    boxes = np.asarray(boxes, np.float64)
    corners = move(boxes.reshape(*boxes.shape[:-1], 2, 2))
    return np.concatenate([corners.min(axis=-2), corners.max(axis=-2)], axis=-1)
