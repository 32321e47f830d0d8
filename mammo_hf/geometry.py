"""Geometry: how an image was cropped, mirrored, resized and padded, as data, and the way back.

Coordinates are continuous (row, column): pixel i covers [i, i + 1), its centre is at i + 0.5.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike


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
    """

    source_size: tuple[int, int]
    crop: tuple[int, int, int, int]
    flip: bool
    resized: tuple[int, int]
    offset: tuple[int, int]
    size: tuple[int, int]

    @property
    def scale(self) -> tuple[float, float]:
        """Canvas pixels a source pixel, (vertically, horizontally)."""
        top, left, bottom, right = self.crop
        return self.resized[0] / (bottom - top), self.resized[1] / (right - left)

    def to_model(self, points: ArrayLike) -> np.ndarray:
        """Points (n, 2) in source pixels to canvas pixels, float64."""
        points = np.asarray(points, np.float64)
        top, left, _, right = self.crop
        rows, columns = points[..., 0] - top, points[..., 1] - left
        if self.flip:
            columns = (right - left) - columns
        return np.stack([rows * self.scale[0] + self.offset[0], columns * self.scale[1] + self.offset[1]], axis=-1)

    def to_source(self, points: ArrayLike) -> np.ndarray:
        """Points (n, 2) in canvas pixels to source pixels, float64."""
        points = np.asarray(points, np.float64)
        top, left, _, right = self.crop
        rows = (points[..., 0] - self.offset[0]) / self.scale[0]
        columns = (points[..., 1] - self.offset[1]) / self.scale[1]
        if self.flip:
            columns = (right - left) - columns
        return np.stack([rows + top, columns + left], axis=-1)

    def boxes_to_model(self, boxes: ArrayLike) -> np.ndarray:
        """Boxes (n, 4) as (top, left, bottom, right), source to canvas; they stay ordered when mirrored."""
        return _boxes(boxes, self.to_model)

    def boxes_to_source(self, boxes: ArrayLike) -> np.ndarray:
        """Boxes (n, 4) as (top, left, bottom, right), canvas to source."""
        return _boxes(boxes, self.to_source)

    def mask_to_model(self, mask: np.ndarray) -> np.ndarray:
        """Share of each canvas pixel that a mask covers.

        Args:
            mask: bool, or float in [0, 1], (source height, source width).

        Returns:
            float32 (height, width) in [0, 1]; 0 in the padding.

        Raises:
            ValueError: The mask is not of the source's size.
        """
        if mask.shape != tuple(self.source_size):
            raise ValueError(f"a mask of {mask.shape} does not belong to an image of {self.source_size}")
        return self.place(mask[self.crop[0] : self.crop[2], self.crop[1] : self.crop[3]].astype(np.float32))

    def place(self, cropped: np.ndarray) -> np.ndarray:
        """Mirrors, resizes by area and pads the cropped part (crop height, crop width) onto the canvas, float32."""
        canvas = np.zeros(self.size, np.float32)
        rows, columns = self.resized
        top, left = self.offset
        cropped = cropped[:, ::-1] if self.flip else cropped
        canvas[top : top + rows, left : left + columns] = resize_area(cropped, self.resized)
        return canvas

    def map_to_source(self, values: np.ndarray, fill: float = 0.0) -> np.ndarray:
        """A map (height, width) on the canvas to float32 (source height, source width), bilinear, ``fill`` outside."""
        top, left, bottom, right = self.crop
        rows = (np.arange(bottom - top) + 0.5) * self.scale[0] + self.offset[0] - 0.5
        columns = np.arange(right - left)[:: -1 if self.flip else 1] + 0.5
        columns = columns * self.scale[1] + self.offset[1] - 0.5
        source = np.full(self.source_size, fill, np.float32)
        lifted = _interpolation(rows, self.size[0]) @ np.asarray(values, np.float32)
        source[top:bottom, left:right] = lifted @ _interpolation(columns, self.size[1]).T
        return source

    def to_dict(self) -> dict[str, Any]:
        """As lists and numbers that JSON takes."""
        return {key: list(value) if isinstance(value, tuple) else value for key, value in asdict(self).items()}

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> Geometry:
        """From what ``to_dict`` gave."""
        fields: dict[str, Any] = {k: tuple(v) if isinstance(v, list) else v for k, v in values.items()}
        return cls(**fields)


def resize_area(image: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """Resizes (height, width) by area: each target pixel is the mean of the source area under it, in float32.

    Separable. Where a side grows, the target pixel is the interpolation between the source pixels it straddles.
    """
    rows, columns = (_area_weights(old, new) for old, new in zip(image.shape, size, strict=True))
    return np.asarray(_reduce(_reduce(image.astype(np.float32, copy=False), rows).T, columns).T, np.float32)


def _area_weights(old: int, new: int) -> tuple[np.ndarray, np.ndarray]:
    """For each target pixel the first source pixel under it and the weights of it and its followers."""
    edges = np.arange(new + 1) * (old / new)
    first = np.minimum(np.floor(edges[:-1] + 1e-9).astype(np.intp), old - 1)
    width = int(np.ceil(old / new)) + 1
    positions = first[:, None] + np.arange(width)
    overlap = np.minimum(edges[1:, None], positions + 1) - np.maximum(edges[:-1, None], positions)
    overlap = np.where(positions < old, np.clip(overlap, 0, None), 0)
    return first, (overlap / overlap.sum(1, keepdims=True)).astype(np.float32)


def _reduce(image: np.ndarray, weights: tuple[np.ndarray, np.ndarray]) -> np.ndarray:
    first, shares = weights
    result = np.zeros((len(first), image.shape[1]), np.float32)
    for step in range(shares.shape[1]):
        rows = np.minimum(first + step, image.shape[0] - 1)
        result += shares[:, step, None] * image[rows]
    return result


def _interpolation(positions: np.ndarray, length: int) -> np.ndarray:
    """A (targets, length) matrix that interpolates between neighbours and repeats the ends."""
    clipped = np.clip(positions, 0, length - 1)
    low = np.minimum(np.floor(clipped).astype(np.intp), max(length - 2, 0))
    share = (clipped - low).astype(np.float32)
    matrix = np.zeros((len(positions), length), np.float32)
    rows = np.arange(len(positions))
    matrix[rows, low] = 1 - share
    matrix[rows, np.minimum(low + 1, length - 1)] += share
    return matrix


def _boxes(boxes: ArrayLike, move: Any) -> np.ndarray:
    corners = move(np.asarray(boxes, np.float64).reshape(-1, 2, 2))
    return np.concatenate([corners.min(axis=1), corners.max(axis=1)], axis=1)
