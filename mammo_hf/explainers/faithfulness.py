"""How true a map is to the model: what happens to the score when what it shows is taken away, or given alone.

Squares of the image are replaced by what a strong blur leaves of them. Hidden squares are things that no training image
holds, so that part of a fall is surprise and not evidence: compare with the random map, never with zero.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
from torch.nn import functional

Probability = Callable[[torch.Tensor], torch.Tensor]
BATCH = 32


def deletion_and_insertion(
    probability: Probability, pixels: torch.Tensor, values: np.ndarray, *, steps: int = 14, cell: int = 8
) -> tuple[float, float]:
    """Areas under the probability as squares are hidden, and as they are shown, in the order of the map.

    Petsiuk et al. 2018 (RISE, arXiv 1806.07421, section 4.3). Deletion is better the smaller, insertion the larger.

    Args:
        probability: From (batch, channels, height, width) to the target's probability, (batch,).
        pixels: The image (channels, height, width).
        values: Its map (height, width).
        steps: How many times a part is replaced.
        cell: Side of a square in pixels.

    Returns:
        Deletion and insertion, both in [0, 1].
    """
    blurred, cells = _blurred(pixels, cell), _cells(values, cell)
    # the order must not follow from where cells lie if a map has plateaus, as a flat one is
    rank = np.lexsort((np.random.default_rng(0).permutation(cells.size), -cells.ravel()))
    place = np.empty(cells.size, int)
    place[rank] = np.arange(cells.size)
    shares = np.linspace(0, 1, steps + 1)
    first = torch.from_numpy(place.reshape(cells.shape)[None] < shares[:, None, None] * cells.size)
    chosen = _spread(first, pixels, cell)
    deleted = _in_batches(probability, torch.where(chosen, blurred, pixels))
    inserted = _in_batches(probability, torch.where(chosen, pixels, blurred))
    return float(np.trapezoid(deleted, shares)), float(np.trapezoid(inserted, shares))


def sensitivity_n(
    probability: Probability,
    pixels: torch.Tensor,
    values: np.ndarray,
    *,
    share: float = 0.1,
    subsets: int = 40,
    cell: int = 16,
    seed: int = 0,
) -> float:
    """Correlation of what a map gives to random sets of squares with how far the probability falls without them.

    Sensitivity-n (Ancona et al. 2018, arXiv 1711.06104, section 4.2) for one n.

    Args:
        probability: As above.
        pixels: The image (channels, height, width).
        values: Its map (height, width).
        share: Of the squares that show tissue, how many are in a set: n.
        subsets: How many sets.
        cell: Side of a square in pixels.
        seed: Of the sets, the same for every map of an image.

    Returns:
        Pearson's correlation; 0 where the map or the probability does not vary.
    """
    cells = _cells(values, cell)
    tissue = np.flatnonzero(_cells(pixels.float().mean(0).numpy() - float(pixels.min()), cell) > 1e-3)
    count = max(1, round(share * tissue.size))
    rng = np.random.default_rng(seed)
    hidden = np.zeros((subsets, cells.size), bool)
    for one in hidden:
        one[rng.choice(tissue, min(count, tissue.size), replace=False)] = True
    given = (hidden * cells.ravel()).sum(1)
    chosen = _spread(torch.from_numpy(hidden.reshape(subsets, *cells.shape)), pixels, cell)
    falls = -_in_batches(probability, torch.where(chosen, _blurred(pixels, cell), pixels))
    if np.ptp(given) == 0 or np.ptp(falls) < 1e-9:
        return 0.0
    return float(np.corrcoef(given, falls)[0, 1])


def _blurred(pixels: torch.Tensor, cell: int) -> torch.Tensor:
    """The mean of 8 squares around each pixel, within the image."""
    side = 8 * cell + 1
    return functional.avg_pool2d(pixels[None].float(), side, stride=1, padding=side // 2, count_include_pad=False)[
        0
    ].to(pixels.dtype)


def _cells(values: np.ndarray, cell: int) -> np.ndarray:
    """The mean of a map in squares; an incomplete one at an edge counts by what it has."""
    # a copy, because a map is read-only
    grid = functional.avg_pool2d(torch.from_numpy(np.array(values, np.float32))[None], cell, ceil_mode=True)
    return grid[0].numpy()


def _spread(cells: torch.Tensor, pixels: torch.Tensor, cell: int) -> torch.Tensor:
    """bool (sets, rows, columns) of squares as bool (sets, 1, height, width) of pixels."""
    large = cells.repeat_interleave(cell, 1).repeat_interleave(cell, 2)
    return large[:, None, : pixels.shape[-2], : pixels.shape[-1]]


def _in_batches(probability: Probability, images: torch.Tensor) -> np.ndarray:
    with torch.no_grad():
        return np.concatenate([probability(batch).float().cpu().numpy() for batch in images.split(BATCH)])
