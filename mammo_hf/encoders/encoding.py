"""The bag of an image: the features of its whole view and of its tiles, as `embed` and `predict` compute them."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import pairwise
from typing import NamedTuple

import numpy as np
import torch

from ..models.modeling_mammo_swin import pooled
from ..processing.geometry import Geometry
from .bags import TILE, WHOLE
from .encoder import Encoder
from .views import Drawn, Picture, Views, boxes_of, drawn, tile_corners

BATCH_SIZE = 16  # tiles that are encoded together: always the same, so that results are equal to the bit
_LARGEST = float(np.finfo(np.float16).max)
_counting, _state = threading.Lock(), {"encoding": 0, "threads": 1}


class Bag(NamedTuple):
    """The features of the views of one image.

    Attributes:
        features: float16 (vectors, 2 * channels), the whole view first, then tiles row by row.
        boxes: float32 (vectors, 4): top, left, bottom, right in source pixels. A tile's is its whole square, which may
            reach beyond a breast that is smaller.
        scales: uint8 (vectors,): `WHOLE` or `TILE`.
        geometry: Geometry from the source to the canvas of the whole view.
        notes: Codes of the notes on the image and its tiles.
        grid: Features of cells of the canvas of the whole view, float16 (rows, columns, channels); ``None`` if not
            asked for.
    """

    features: np.ndarray
    boxes: np.ndarray
    scales: np.ndarray
    geometry: Geometry
    notes: tuple[str, ...]
    grid: np.ndarray | None = None


def bag_of(image: Picture | Drawn, encoder: Encoder, views: Views, grid: tuple[int, int] | None = None) -> Bag:
    """Encode the views of one image.

    The result is equal to the bit on one kind of device: the whole view is encoded alone, tiles in batches of a fixed
    number, with one thread.

    Args:
        image: Picture, or its views that are drawn already.
        encoder: Encoder; a thread of several needs one of its own.
        views: Choice of the views.
        grid: (rows, columns) of the cells of the whole view whose features are kept too; ``None``: none are.
    """
    views_of = image if isinstance(image, Drawn) else drawn(image, views, encoder.tile)
    features, boxes, scales, cells = [], [], [], None
    with _one_thread(), torch.inference_mode():
        if views_of.whole is not None:
            found, features_of_cells = _encoded_whole(encoder, views_of.whole, grid)
            features.append(found)
            cells = None if features_of_cells is None else _rounded(features_of_cells)
            boxes.append(np.array([views_of.geometry.crop], np.float32))
            scales.append(WHOLE)
        if views_of.native is not None:
            corners = tile_corners(views_of.native, encoder.tile, views.overlap)
            features += [_encoded(encoder, tiles) for tiles in _batches(views_of.native, corners, encoder.tile)]
            boxes.append(boxes_of(corners, encoder.tile, views_of.native_geometry))
            scales += [TILE] * len(corners)
    return Bag(
        _rounded(np.concatenate(features)),
        np.concatenate(boxes),
        np.array(scales, np.uint8),
        views_of.geometry,
        views_of.notes,
        cells,
    )


def _rounded(features: np.ndarray) -> np.ndarray:
    return np.clip(features, -_LARGEST, _LARGEST).astype(np.float16)


def _batches(canvas: np.ndarray, corners: np.ndarray, side: int) -> Iterator[np.ndarray]:
    for first, end in pairwise([*range(0, len(corners), BATCH_SIZE), len(corners)]):
        yield np.stack([canvas[row : row + side, column : column + side] for row, column in corners[first:end]])


def _encoded(encoder: Encoder, intensities: np.ndarray) -> np.ndarray:
    """Return the pooled features float32 (batch, 2 * channels) of intensities (batch, height, width)."""
    pixels = torch.from_numpy(intensities)[:, None].to(encoder.mean.device)
    return pooled(encoder(pixels), pixels > 0).float().cpu().numpy()


def _encoded_whole(
    encoder: Encoder, intensity: np.ndarray, grid: tuple[int, int] | None
) -> tuple[np.ndarray, np.ndarray | None]:
    """Return the pooled features (1, 2 * channels) of a whole view and, on request, those of its cells.

    For cells the canvas may have any size: it is continued by background to the next one that the encoder takes.

    Args:
        encoder: Encoder of this thread.
        intensity: Whole view, float32 (height, width).
        grid: (rows, columns) of the cells; ``None``: none are wanted.

    Returns:
        The features, and float32 (rows, columns, channels): the mean of the encoder's features over the area of each
        cell.
    """
    if grid is None:
        return _encoded(encoder, intensity[None]), None
    size = intensity.shape
    padding = [(0, -side % encoder.multiple) for side in size]
    pixels = torch.from_numpy(np.pad(intensity, padding))[None, None].to(encoder.mean.device)
    features = encoder(pixels)
    found = features[0].float().cpu().numpy()
    down, across = (_overlaps(size[axis], grid[axis], found.shape[1 + axis], encoder.multiple) for axis in range(2))
    cells = np.einsum("ir,jc,krc->ijk", down, across, found, optimize=True)
    return pooled(features, pixels > 0).float().cpu().numpy(), cells


def _overlaps(length: int, cells: int, old_cells: int, side: int) -> np.ndarray:
    """Return the fraction of each new cell that is in each old one, (cells, old_cells); a row sums to 1.

    Args:
        length: Pixels that the new cells divide evenly.
        cells: Number of new cells.
        old_cells: Number of old cells, which cover the length.
        side: Pixels of an old cell.
    """
    edges, old_edges = np.arange(cells + 1) * (length / cells), np.arange(old_cells + 1) * side
    low = np.maximum(edges[:-1, None], old_edges[:-1])
    high = np.minimum(edges[1:, None], old_edges[1:])
    return np.clip(high - low, 0, None) * (cells / length)


@contextmanager
def _one_thread() -> Iterator[None]:
    # sums are split by torch's threads: another number of them gives other last bits. Workers are what scales. The
    # number is the process': the first of several encoding threads sets it, and the last sets it back
    with _counting:
        _state["encoding"] += 1
        if _state["encoding"] == 1:
            _state["threads"] = torch.get_num_threads()
            torch.set_num_threads(1)
    try:
        yield
    finally:
        with _counting:
            _state["encoding"] -= 1
            if not _state["encoding"]:
                torch.set_num_threads(_state["threads"])
