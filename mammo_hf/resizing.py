"""Resizing by area, in float32: the mean of the source under each target pixel, computed a strip of rows at a time."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from scipy import sparse

STRIP = 1 << 19  # source pixels looked at together: they and what is made of them stay in the processor's cache


def resize_area(image: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """Resizes (..., height, width) by area: each target pixel is the mean of the source area under it, in float32.

    Where a side grows, the target pixel is the interpolation between the source pixels it straddles.
    """
    height, width = image.shape[-2:]
    planes = [
        resize_area_strips(lambda rows, plane=plane: (plane[rows], 0), (height, width), size)  # type: ignore[misc]
        for plane in image.reshape(-1, height, width)
    ]
    return (
        np.stack(planes).reshape(*image.shape[:-2], *size)
        if planes
        else np.zeros((*image.shape[:-2], *size), np.float32)
    )


def resize_area_strips(
    read: Callable[[slice], tuple[np.ndarray, int]], source_size: tuple[int, int], size: tuple[int, int]
) -> np.ndarray:
    """As ``resize_area``, of an image that is read strip by strip, so that it never exists as a whole.

    Args:
        read: Gives the rows of a slice, (rows, up to source width), of any number type, and the column of the first of
            its pixels; what lies left and right of them counts as 0.
        source_size: (height, width) of the image.
        size: (height, width) of the result.
    """
    down, across = area_weights(source_size[0], size[0]), area_weights(source_size[1], size[1])
    result = np.empty(size, np.float32)
    step = max(1, STRIP * size[0] // max(1, source_size[0] * source_size[1]))
    for top in range(0, size[0], step):
        first, weights = _rows_from(down, top, min(top + step, size[0]))
        strip, left = read(slice(first, first + weights.shape[1]))
        lower = np.zeros((weights.shape[0], source_size[1]), np.float32)
        lower[:, left : left + strip.shape[1]] = weights @ np.asarray(strip, np.float32)
        result[top : top + step] = (across @ lower.T).T
    return result


def _rows_from(weights: sparse.csr_array, top: int, bottom: int) -> tuple[int, sparse.csr_array]:
    """Some rows of ``area_weights``, without the columns left and right of them, and how many of those are left out.

    What scipy's own slicing gives, which takes longer than multiplying with the result does.
    """
    start, stop = weights.indptr[top], weights.indptr[bottom]
    columns = weights.indices[start:stop]
    first, end = int(columns[0]), int(columns[-1]) + 1
    part = (weights.data[start:stop], columns - first, weights.indptr[top : bottom + 1] - start)
    return first, sparse.csr_array(part, shape=(bottom - top, end - first))


def area_weights(old: int, new: int) -> sparse.csr_array:
    """(new, old): the share of each source pixel in each target pixel; a row sums to 1."""
    edges = np.arange(new + 1) * (old / new)
    first = np.minimum(np.floor(edges[:-1] + 1e-9).astype(np.intp), old - 1)
    width = int(np.ceil(old / new)) + 1
    positions = first[:, None] + np.arange(width)
    overlap = np.minimum(edges[1:, None], positions + 1) - np.maximum(edges[:-1, None], positions)
    overlap = np.where(positions < old, np.clip(overlap, 0, None), 0)
    shares = (overlap / overlap.sum(1, keepdims=True)).astype(np.float32)
    used = shares > 0
    rows = np.concatenate([[0], np.cumsum(used.sum(1))])
    return sparse.csr_array((shares[used], positions[used], rows), shape=(new, old))


def interpolation_weights(positions: np.ndarray, length: int) -> sparse.csr_array:
    """(targets, length): interpolates at positions counted from pixel centres, and repeats the ends."""
    clipped = np.clip(positions, 0, length - 1)
    low = np.minimum(np.floor(clipped).astype(np.intp), max(length - 2, 0))
    share = (clipped - low).astype(np.float32)
    targets = np.arange(len(positions))
    columns = np.concatenate([low, np.minimum(low + 1, length - 1)])
    weights = sparse.coo_array(
        (np.concatenate([1 - share, share]), (np.concatenate([targets, targets]), columns)),
        shape=(len(positions), length),
    )
    return weights.tocsr()
