"""The bag of an image: the features of its whole view and of its tiles, as `embed` and `predict` compute them."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import pairwise
from typing import NamedTuple

import numpy as np
import torch

from ..processing.geometry import Geometry
from .bags import TILE, WHOLE
from .encoder import Encoder, pooled
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
    """

    features: np.ndarray
    boxes: np.ndarray
    scales: np.ndarray
    geometry: Geometry
    notes: tuple[str, ...]


def bag_of(image: Picture | Drawn, encoder: Encoder, views: Views) -> Bag:
    """Encode the views of one image.

    The result is equal to the bit on one kind of device: the whole view is encoded alone, tiles in batches of a fixed
    number, with one thread.

    Args:
        image: Picture, or its views that are drawn already.
        encoder: Encoder; a thread of several needs one of its own.
        views: Choice of the views.
    """
    views_of = image if isinstance(image, Drawn) else drawn(image, views, encoder.tile)
    features, boxes, scales = [], [], []
    with _one_thread(), torch.inference_mode():
        if views_of.whole is not None:
            features.append(_encoded(encoder, views_of.whole[None]))
            boxes.append(np.array([views_of.geometry.crop], np.float32))
            scales.append(WHOLE)
        if views_of.native is not None:
            corners = tile_corners(views_of.native, encoder.tile, views.overlap)
            features += [_encoded(encoder, tiles) for tiles in _batches(views_of.native, corners, encoder.tile)]
            boxes.append(boxes_of(corners, encoder.tile, views_of.native_geometry))
            scales += [TILE] * len(corners)
    return Bag(
        np.clip(np.concatenate(features), -_LARGEST, _LARGEST).astype(np.float16),
        np.concatenate(boxes),
        np.array(scales, np.uint8),
        views_of.geometry,
        views_of.notes,
    )


def _batches(canvas: np.ndarray, corners: np.ndarray, side: int) -> Iterator[np.ndarray]:
    for first, end in pairwise([*range(0, len(corners), BATCH_SIZE), len(corners)]):
        yield np.stack([canvas[row : row + side, column : column + side] for row, column in corners[first:end]])


def _encoded(encoder: Encoder, intensities: np.ndarray) -> np.ndarray:
    """Return the pooled features float32 (batch, 2 * channels) of intensities (batch, height, width)."""
    pixels = torch.from_numpy(intensities)[:, None].to(encoder.mean.device)
    return pooled(encoder(pixels), pixels > 0).float().cpu().numpy()


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
