"""Near duplicates: images that are the same film under another name, by a perceptual hash of the prepared image.

The hash is pHash: the signs of the lowest frequencies of the discrete cosine transform of a small copy, against their
median (Zauner, "Implementation and benchmarking of perceptual image hash functions", 2010). Mammograms are alike, so
more frequencies are taken than the usual 8 x 8.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import numpy as np
from scipy.fft import dctn

SIDE = 16  # frequencies a side: 256 bits
SMALL = 64  # pixels a side of the copy
MAX_DISTANCE = 20
"""Bits of 256 up to which two images count as one. Measured by ``benchmarks/near_duplicates.py``."""

_BLOCK = 1024

PreparedImages = Iterable[Mapping[str, Any]]
"""Rows with ``image_id``, ``size`` and ``pixels``, as `mammo_hf.data.prepare` writes them."""


def perceptual_hash(image: np.ndarray) -> np.ndarray:
    """The perceptual hash of an image.

    Args:
        image: (height, width), any range.

    Returns:
        uint64 (4,): 256 bits. Equal under any linear change of the grey values with a positive factor.
    """
    small = _shrink(np.asarray(image, np.float32), SMALL)
    low = dctn(small, norm="ortho")[:SIDE, :SIDE].ravel()
    bits = low > np.median(low[1:])  # the first is the mean brightness
    bits[0] = False
    return np.packbits(bits).view(np.uint64)


def _shrink(image: np.ndarray, side: int) -> np.ndarray:
    """Means over a grid of side x side cells that cover the image; a cell is at least one pixel."""
    for axis in (0, 1):
        edges = np.linspace(0, image.shape[axis], side + 1)
        starts = np.minimum(edges[:-1].astype(int), image.shape[axis] - 1)
        counts = np.maximum(np.diff(np.append(starts, image.shape[axis])), 1)
        sums = np.add.reduceat(image, starts, axis=axis)
        image = sums / np.expand_dims(counts, 1 - axis)
    return image


def near_duplicates(
    prepared: PreparedImages, sides: Mapping[str, str], max_distance: int | None = None
) -> Iterator[tuple[str, str, list[str]]]:
    """Pairs of images that stand on two sides and are almost equal.

    Args:
        prepared: The images.
        sides: From each image_id to its side; others are passed over. What the rows say of their split is not asked:
            they may have been prepared before the split was made.
        max_distance: Bits in which they may differ; ``None`` for ``MAX_DISTANCE``.

    Yields:
        The two image_ids and their sides.
    """
    limit = MAX_DISTANCE if max_distance is None else max_distance
    groups: dict[str, tuple[list[str], list[np.ndarray]]] = {}
    for row in prepared:
        if row["image_id"] not in sides:
            continue
        names, hashes = groups.setdefault(sides[row["image_id"]], ([], []))
        names.append(row["image_id"])
        hashes.append(perceptual_hash(np.frombuffer(row["pixels"], np.uint16).reshape(row["size"])))
    found = sorted(groups)
    for place, one in enumerate(found):
        for other in found[place + 1 :]:
            for first, second in _close(np.stack(groups[one][1]), np.stack(groups[other][1]), limit):
                yield groups[one][0][first], groups[other][0][second], [one, other]


def _close(one: np.ndarray, other: np.ndarray, limit: int) -> Iterator[tuple[int, int]]:
    for start in range(0, len(one), _BLOCK):
        distances = np.zeros((min(_BLOCK, len(one) - start), len(other)), np.uint16)
        for word in range(one.shape[1]):
            distances += np.bitwise_count(one[start : start + _BLOCK, word, None] ^ other[None, :, word])
        for first, second in np.argwhere(distances <= limit):
            yield start + int(first), int(second)
