"""The geometry of preprocessing (crop, orientation, resize, pad) as data, both ways, and resizing by area.

Coordinates are continuous (row, column): pixel i covers [i, i + 1) and its centre is at i + 0.5, on the source as on
the canvas, as in DICOM's spatial coordinates (PS3.3 C.18.6: the origin is the top left corner of the top left pixel;
there column comes first). Millimetres are (row, column) as well, from the same corner. Points, boxes and polygons are
float64 and exact both ways, inside the crop and outside it; boxes are (top, left, bottom, right). Masks and
maps are resampled.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import ArrayLike
from scipy import sparse

from ..errors import UsageError

Unit = Literal["pixel", "mm"]

# The eight orientations of a picture by the names of PIL's transpositions: whether the source's rows are reversed, its
# columns are reversed, and then rows and columns exchanged. The rotations are counter-clockwise.
ORIENTATIONS: dict[str, tuple[bool, bool, bool]] = {
    "identity": (False, False, False),
    "flip_left_right": (False, True, False),
    "flip_top_bottom": (True, False, False),
    "rotate_180": (True, True, False),
    "transpose": (False, False, True),
    "rotate_90": (False, True, True),
    "rotate_270": (True, False, True),
    "transverse": (True, True, True),
}
_NAMES = {steps: name for name, steps in ORIENTATIONS.items()}


def oriented(picture: np.ndarray, orientation: str) -> np.ndarray:
    """Return a picture (..., height, width) in one of the `ORIENTATIONS`, without a copy."""
    rows, columns, exchanged = ORIENTATIONS[orientation]
    picture = picture[..., :: -1 if rows else 1, :: -1 if columns else 1]
    return picture.swapaxes(-1, -2) if exchanged else picture


def in_source(picture: np.ndarray, orientation: str) -> np.ndarray:
    """Return the picture (..., height, width) that `oriented` was called on, without a copy."""
    rows, columns, exchanged = ORIENTATIONS[orientation]
    picture = picture.swapaxes(-1, -2) if exchanged else picture
    return picture[..., :: -1 if rows else 1, :: -1 if columns else 1]


def mirrored(orientation: str) -> str:
    """Return the orientation that is followed by a reflection of left and right."""
    rows, columns, exchanged = ORIENTATIONS[orientation]
    return _NAMES[(not rows, columns, True) if exchanged else (rows, not columns, False)]


@dataclass(frozen=True)
class Geometry:
    """The mapping from source pixels to the model's canvas and back.

    Attributes:
        source_size: (height, width) of the source image in pixels.
        crop: (top, left, bottom, right) of the part that was kept, in source pixels; exclusive at the end.
        orientation: What was done to the crop so that the breast is upright, one of `ORIENTATIONS`.
        resized: (height, width) of the crop on the canvas.
        offset: (top, left) of the resized crop on the canvas.
        size: (height, width) of the canvas, the model's input.
        spacing_mm: (row, column) size of a source pixel in mm; ``None`` if it is not known.
    """

    source_size: tuple[int, int]
    crop: tuple[int, int, int, int]
    orientation: str
    resized: tuple[int, int]
    offset: tuple[int, int]
    size: tuple[int, int]
    spacing_mm: tuple[float, float] | None = None

    @property
    def scale(self) -> tuple[float, float]:
        """Canvas pixels per source pixel, (down, across) on the source."""
        top, left, bottom, right = self.crop
        height, width = self._along_source(self.resized)
        return height / (bottom - top), width / (right - left)

    def _along_source(self, pair: tuple[int, int]) -> tuple[int, int]:
        """Return a pair for the canvas' (vertical, horizontal) axes as one for the source's."""
        return pair[::-1] if ORIENTATIONS[self.orientation][2] else pair

    def to_model(self, points: ArrayLike, unit: Unit = "pixel") -> np.ndarray:
        """Map points (..., 2) on the source, in pixels or mm, to canvas pixels.

        Raises:
            ValueError: The unit is mm and the spacing is not known.
        """
        in_pixels = np.asarray(points, np.float64) / self._pixel(unit)
        top, left, bottom, right = self.crop
        down, across, exchanged = ORIENTATIONS[self.orientation]
        rows, columns = in_pixels[..., 0] - top, in_pixels[..., 1] - left
        rows = (bottom - top) - rows if down else rows
        columns = (right - left) - columns if across else columns
        axes = [rows * self.scale[0], columns * self.scale[1]]
        return np.stack(axes[::-1] if exchanged else axes, axis=-1) + self.offset

    def to_source(self, points: ArrayLike, unit: Unit = "pixel") -> np.ndarray:
        """Map points (..., 2) in canvas pixels to the source, in pixels or mm.

        Raises:
            ValueError: The unit is mm and the spacing is not known.
        """
        points = np.asarray(points, np.float64)
        top, left, bottom, right = self.crop
        down, across, exchanged = ORIENTATIONS[self.orientation]
        axes = points - self.offset
        axes = axes[..., ::-1] if exchanged else axes
        rows, columns = axes[..., 0] / self.scale[0], axes[..., 1] / self.scale[1]
        rows = (bottom - top) - rows if down else rows
        columns = (right - left) - columns if across else columns
        return np.stack([rows + top, columns + left], axis=-1) * self._pixel(unit)

    def boxes_to_model(self, boxes: ArrayLike, unit: Unit = "pixel") -> np.ndarray:
        """Map boxes (..., 4) on the source to canvas pixels; they stay ordered when mirrored."""
        return _boxes(boxes, lambda points: self.to_model(points, unit))

    def boxes_to_source(self, boxes: ArrayLike, unit: Unit = "pixel") -> np.ndarray:
        """Map boxes (..., 4) in canvas pixels to the source."""
        return _boxes(boxes, lambda points: self.to_source(points, unit))

    def polygons_to_model(self, polygons: Iterable[ArrayLike], unit: Unit = "pixel") -> list[np.ndarray]:
        """Map polygons, (corners, 2) each, to canvas pixels; they keep their sense when mirrored."""
        return [self._same_sense(self.to_model(polygon, unit)) for polygon in polygons]

    def polygons_to_source(self, polygons: Iterable[ArrayLike], unit: Unit = "pixel") -> list[np.ndarray]:
        """Map polygons, (corners, 2) each, in canvas pixels to the source."""
        return [self._same_sense(self.to_source(polygon, unit)) for polygon in polygons]

    def mask_to_model(self, mask: np.ndarray) -> np.ndarray:
        """Return the fraction of each canvas pixel that a mask covers.

        Args:
            mask: Mask (..., source height, source width), bool or float in [0, 1].

        Returns:
            float32 (..., height, width) in [0, 1]; 0 in the padding.

        Raises:
            ValueError: The mask has another size than the source.
        """
        return self.map_to_model(mask)

    def mask_to_source(self, mask: np.ndarray) -> np.ndarray:
        """Map a mask (..., height, width), bool or fractions, to bool (..., source height, source width)."""
        return self.map_to_source(np.asarray(mask, np.float32)) >= 0.5

    def map_to_model(self, values: np.ndarray) -> np.ndarray:
        """Resample values (..., source height, source width) to float32 (..., height, width) by area; 0 in the padding.

        Raises:
            ValueError: The array has another size than the source.
        """
        if values.shape[-2:] != tuple(self.source_size):
            raise ValueError(f"an array of {values.shape} does not belong to an image of {self.source_size}")
        top, left, bottom, right = self.crop
        return self.place(values[..., top:bottom, left:right])

    def place(self, cropped: np.ndarray) -> np.ndarray:
        """Resize by area, orient and pad the cropped part (..., crop height, crop width), float32."""
        return self._on_canvas(resize_area(cropped, self._along_source(self.resized)))

    def place_strips(self, read: Callable[[slice], tuple[np.ndarray, int]], level: int = 0) -> np.ndarray:
        """Do as `place` with a cropped part that is read some rows at a time; see `resize_area_strips`.

        Args:
            read: Function from rows to pixels of the crop; of a source that was halved, to pixels of all of it.
            level: Number of times that the source was halved.
        """
        top, left, bottom, right = self.crop
        down, across = (
            area_weights(end - start, new) if not level else low_band_weights(start, end, new, side, level)
            for start, end, new, side in zip(
                (top, left), (bottom, right), self._along_source(self.resized), self.source_size, strict=True
            )
        )
        return self._on_canvas(resize_strips(read, down, across))

    def map_to_source(self, values: np.ndarray, fill: float = 0.0) -> np.ndarray:
        """Resample values (..., height, width) to float32 (..., source height, source width), bilinear.

        Args:
            values: One value per canvas pixel, at its centre.
            fill: Value outside the crop.
        """
        top, left, bottom, right = self.crop
        reverse_rows, reverse_columns, exchanged = ORIENTATIONS[self.orientation]
        values = np.asarray(values, np.float32)
        values = values.swapaxes(-1, -2) if exchanged else values
        first, size = self._along_source(self.offset), self._along_source(self.size)
        rows = np.arange(bottom - top)[:: -1 if reverse_rows else 1] + 0.5
        columns = np.arange(right - left)[:: -1 if reverse_columns else 1] + 0.5
        down = interpolation_weights(rows * self.scale[0] + first[0] - 0.5, size[0])
        across = interpolation_weights(columns * self.scale[1] + first[1] - 0.5, size[1])
        source = np.full((*values.shape[:-2], *self.source_size), fill, np.float32)
        for index in np.ndindex(values.shape[:-2]):
            source[(*index, slice(top, bottom), slice(left, right))] = (across @ (down @ values[index]).T).T
        return source

    def to_dict(self) -> dict[str, Any]:
        """Return the fields as lists and numbers for JSON."""
        return {key: list(value) if isinstance(value, tuple) else value for key, value in asdict(self).items()}

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> Geometry:
        """Return the geometry that ``to_dict`` was called on."""
        fields: dict[str, Any] = {k: tuple(v) if isinstance(v, list) else v for k, v in values.items()}
        return cls(**fields)

    def _pixel(self, unit: Unit) -> np.ndarray:
        """Return the (row, column) size of a source pixel in a unit."""
        if unit == "pixel":
            return np.ones(2)
        if unit != "mm":
            raise ValueError(f"{unit!r} is not a unit: give 'pixel' or 'mm'")
        if self.spacing_mm is None:
            raise ValueError("the size of a source pixel is not known: only pixels can be mapped")
        return np.asarray(self.spacing_mm, np.float64)

    def _same_sense(self, polygon: np.ndarray) -> np.ndarray:
        # each reflection turns clockwise into counter-clockwise
        return polygon[::-1] if sum(ORIENTATIONS[self.orientation]) % 2 else polygon

    def _on_canvas(self, resized: np.ndarray) -> np.ndarray:
        canvas = np.zeros((*resized.shape[:-2], *self.size), np.float32)
        rows, columns = self.resized
        top, left = self.offset
        canvas[..., top : top + rows, left : left + columns] = oriented(resized, self.orientation)
        return canvas


def fitted(sides: tuple[int, int], canvas: tuple[int, int]) -> tuple[tuple[int, int], tuple[int, int]]:
    """Return the size at which a picture of (height, width) just fits on a canvas, and its (top, left) there.

    It is as large as its aspect ratio allows, in the middle of the height and at the left, where the chest wall is.
    """
    scale = min(canvas[0] / sides[0], canvas[1] / sides[1])
    height, width = (min(max(round(side * scale), 1), most) for side, most in zip(sides, canvas, strict=True))
    return (height, width), ((canvas[0] - height) // 2, 0)


def _boxes(boxes: ArrayLike, move: Callable[[np.ndarray], np.ndarray]) -> np.ndarray:
    boxes = np.asarray(boxes, np.float64)
    corners = move(boxes.reshape(*boxes.shape[:-1], 2, 2))
    return np.concatenate([corners.min(axis=-2), corners.max(axis=-2)], axis=-1)


# Resizing by area, in float32: the mean of the source under each target pixel, computed a strip of rows at a time.


STRIP = 1 << 19  # source pixels that are resized together: they and the result stay in the processor's cache


def resize_area(image: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """Resize (..., height, width) by area: each target pixel is the mean of the source area under it, in float32.

    If a side grows, the target pixel is the interpolation between the source pixels it straddles.
    """
    height, width = image.shape[-2:]
    down, across = area_weights(height, size[0]), area_weights(width, size[1])
    planes = [
        resize_strips(lambda rows, plane=plane: (plane[rows], 0), down, across)  # type: ignore[misc]
        for plane in image.reshape(-1, height, width)
    ]
    return (
        np.stack(planes).reshape(*image.shape[:-2], *size)
        if planes
        else np.zeros((*image.shape[:-2], *size), np.float32)
    )


def resize_strips(
    read: Callable[[slice], tuple[np.ndarray, int]], down: sparse.csr_array, across: sparse.csr_array
) -> np.ndarray:
    """Resize an image that is read strip by strip and never held as a whole.

    Args:
        read: Function from a slice of rows to their pixels (rows, up to source width), of any number type, and the
            column of the first of them; pixels left and right of them count as 0.
        down: Part of each source row in each row of the result, (height, source height).
        across: Part of each source column in each column of the result, (width, source width).
    """
    size = down.shape[0], across.shape[0]
    result = np.empty(size, np.float32)
    step = max(1, STRIP * size[0] // max(1, down.shape[1] * across.shape[1]))
    for top in range(0, size[0], step):
        first, weights = _rows_from(down, top, min(top + step, size[0]))
        strip, left = read(slice(first, first + weights.shape[1]))
        lower = np.zeros((weights.shape[0], across.shape[1]), np.float32)
        lower[:, left : left + strip.shape[1]] = weights @ np.asarray(strip, np.float32)
        result[top : top + step] = (across @ lower.T).T
    return result


def _rows_from(weights: sparse.csr_array, top: int, bottom: int) -> tuple[int, sparse.csr_array]:
    """Return how many columns are empty on the left of some rows of `area_weights`, and the rows without empty columns.

    scipy's own slicing gives the same, but takes longer than multiplying with the result does.
    """
    start, stop = weights.indptr[top], weights.indptr[bottom]
    columns = weights.indices[start:stop]
    first, end = int(columns[0]), int(columns[-1]) + 1
    part = (weights.data[start:stop], columns - first, weights.indptr[top : bottom + 1] - start)
    return first, sparse.csr_array(part, shape=(bottom - top, end - first))


def area_weights(old: int, new: int) -> sparse.csr_array:
    """Return the fraction of each source pixel in each target pixel, (new, old); a row sums to 1."""
    edges = np.arange(new + 1) * (old / new)
    first = np.minimum(np.floor(edges[:-1] + 1e-9).astype(np.intp), old - 1)
    width = int(np.ceil(old / new)) + 1
    positions = first[:, None] + np.arange(width)
    overlap = np.minimum(edges[1:, None], positions + 1) - np.maximum(edges[:-1, None], positions)
    overlap = np.where(positions < old, np.clip(overlap, 0, None), 0)
    fractions = (overlap / overlap.sum(1, keepdims=True)).astype(np.float32)
    used = fractions > 0
    rows = np.concatenate([[0], np.cumsum(used.sum(1))])
    return sparse.csr_array((fractions[used], positions[used], rows), shape=(new, old))


def low_band_weights(start: int, end: int, new: int, side: int, level: int) -> sparse.csr_array:
    """Return the part of each sample of a low band in each target pixel, (new, samples); a row sums to 1.

    The target covers pixels ``start`` to ``end`` by area. Between the samples, which are centred on every
    2 ** level-th pixel from the first on, the image is what the inverse of the reversible wavelet transform makes of
    them without any detail: their interpolation (ITU-T T.800 F.3.8.2). Taken as the mean of the pixels after it, a
    sample would be (2 ** level - 1) / 2 pixels too far on.

    Args:
        start: First pixel of the source.
        end: Pixel of the source behind the last one.
        new: Number of target pixels.
        side: Number of pixels of the source.
        level: Number of times that the source was halved.
    """
    pixels = interpolation_weights(np.arange(start, end) / (1 << level), -(-side >> level))
    weights = sparse.csr_array(area_weights(end - start, new) @ pixels)
    weights.eliminate_zeros()
    weights.sort_indices()
    return weights


def interpolation_weights(positions: np.ndarray, length: int) -> sparse.csr_array:
    """Return (targets, length) that interpolates at positions counted from pixel centres, and repeats the ends."""
    clipped = np.clip(positions, 0, length - 1)
    low = np.minimum(np.floor(clipped).astype(np.intp), max(length - 2, 0))
    fraction = (clipped - low).astype(np.float32)
    targets = np.arange(len(positions))
    columns = np.concatenate([low, np.minimum(low + 1, length - 1)])
    weights = sparse.coo_array(
        (np.concatenate([1 - fraction, fraction]), (np.concatenate([targets, targets]), columns)),
        shape=(len(positions), length),
    )
    return weights.tocsr()


# Image sizes as they are given on a command line.


def parse_size(values: list[int]) -> tuple[int, int]:
    """Return (height, width) from ``[224]`` or ``[896, 448]``.

    Raises:
        UsageError: There are other than one or two numbers, or one is below 1.
    """
    if len(values) not in (1, 2) or min(values) < 1:
        raise UsageError(
            f"an image size of {' '.join(map(str, values))}", remedy="give one number, or height and width"
        )
    return values[0], values[-1]
