"""Quality of maps: localisation of lesions, faithfulness to the model, sanity, and baselines that ignore the model.

Localisation does not show that a map is faithful to the model: one that always shows the lesion would do well for any
model.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import torch
from scipy import ndimage, stats
from torch.nn import functional
from transformers import PreTrainedModel

from ..errors import UsageError
from ..metrics.classification import auroc
from .explanation import peak


def pointing_hit(values: np.ndarray, lesion: np.ndarray) -> bool:
    """Return whether the map's peak is in the lesion (pointing game: Zhang et al. 2018, arXiv 1608.00507).

    A map that is the same everywhere points nowhere and misses.

    Args:
        values: The map (height, width).
        lesion: The lesion's mask (height, width), bool or coverage.

    Raises:
        UsageError: Map and mask differ in size.
    """
    if np.shape(values) != np.shape(lesion):
        raise UsageError(
            f"size {np.shape(lesion)}, the map has {np.shape(values)}",
            source="lesion",
            remedy="bring the mask to the model's size (Geometry.mask_to_model)",
        )
    return bool(np.ptp(values) > 0 and lesion[peak(values)] > 0)


def energy_over_chance(values: np.ndarray, lesion: np.ndarray, breast: np.ndarray) -> float:
    """Return the map's energy in the lesion over that of an even map of the breast; 1 is chance.

    The energy-based pointing game (Wang et al. 2020, arXiv 1910.01279, section 4.3), divided by the lesion's fraction
    of the breast: a large lesion is easier to hit. Energy outside the breast counts against the map.

    Args:
        values: The map (height, width), 0 or more.
        lesion: The lesion's mask (height, width).
        breast: The breast's mask (height, width); the lesion is counted as part of it.
    """
    inside = lesion > 0
    whole = float(values.sum())
    fraction = inside.sum() / np.count_nonzero(inside | (breast > 0))
    return float(values[inside].sum()) / whole / float(fraction) if whole > 0 else 0.0


def pixel_auroc(values: np.ndarray, lesion: np.ndarray, breast: np.ndarray) -> float:
    """Return the probability that a lesion's pixel has a higher value than another one of the breast; 0.5 is chance.

    Args:
        values: The map (height, width).
        lesion: The lesion's mask (height, width).
        breast: The breast's mask (height, width); the background is left out, because it is easily distinguished.

    Raises:
        UndefinedMetric: The lesion fills the breast.
    """
    inside = lesion > 0
    counted = inside | (breast > 0)
    return auroc(inside[counted], values[counted])


def best_iou(values: np.ndarray, lesion: np.ndarray) -> float:
    """Return the largest intersection over union of the lesion and the pixels above a threshold, over thresholds.

    An upper bound: the threshold is chosen knowing the lesion.
    """
    order = np.argsort(-values, axis=None, kind="stable")
    ordered = values.ravel()[order]
    hits = np.cumsum((lesion > 0).ravel()[order])
    # pixels of one value go in together, and those at zero never do
    last = np.append(ordered[1:] != ordered[:-1], True) & (ordered > 0)
    union = np.arange(1, hits.size + 1) + hits[-1] - hits
    return float((hits / union)[last].max(initial=0.0))


def distance_to_lesion(values: np.ndarray, lesion: np.ndarray) -> float:
    """Return the distance of the map's peak from the lesion in pixels; 0 inside it, infinite if the map is flat."""
    if np.ptp(values) == 0:
        return float("inf")
    away: np.ndarray = ndimage.distance_transform_edt(lesion <= 0)
    return float(away[peak(values)])


# Faithfulness to the model: what happens to the score if the region that a map shows is removed, or kept alone.
#
# Squares of the image are replaced by a strong blur. No training image has blurred squares, so that part of a fall
# comes from the change itself and not from lost evidence: compare with the random map, never with zero.

Probability = Callable[[torch.Tensor], torch.Tensor]
BATCH = 32


def deletion_and_insertion(
    probability: Probability, pixels: torch.Tensor, values: np.ndarray, *, steps: int = 14, cell: int = 8
) -> tuple[float, float]:
    """Return the areas under the probability as squares are hidden, and as they are shown, in the map's order.

    Petsiuk et al. 2018 (RISE, arXiv 1806.07421, section 4.3). A smaller deletion and a larger insertion are better.

    Args:
        probability: A function from images (batch, channels, height, width) to the target's probability, (batch,).
        pixels: The image (channels, height, width).
        values: The image's map (height, width).
        steps: Number of steps in which the squares are replaced.
        cell: Side of a square in pixels.

    Returns:
        Deletion and insertion, both in [0, 1].
    """
    blurred, cells = _blurred(pixels, cell), _cells(values, cell)
    # cells of equal value, as of a flat map, come in random order and not in that of their position
    order = np.lexsort((np.random.default_rng(0).permutation(cells.size), -cells.ravel()))
    rank = np.empty(cells.size, int)
    rank[order] = np.arange(cells.size)
    fractions = np.linspace(0, 1, steps + 1)
    first = torch.from_numpy(rank.reshape(cells.shape)[None] < fractions[:, None, None] * cells.size)
    chosen = _spread(first, pixels, cell)
    deleted = _in_batches(probability, torch.where(chosen, blurred, pixels))
    inserted = _in_batches(probability, torch.where(chosen, pixels, blurred))
    return float(np.trapezoid(deleted, fractions)), float(np.trapezoid(inserted, fractions))


def sensitivity_n(
    probability: Probability,
    pixels: torch.Tensor,
    values: np.ndarray,
    *,
    fraction: float = 0.1,
    subsets: int = 40,
    cell: int = 16,
    seed: int = 0,
) -> float:
    """Correlate a map's sum over random sets of squares with the fall of the probability without them.

    Sensitivity-n (Ancona et al. 2018, arXiv 1711.06104, section 4.2) for one n.

    Args:
        probability: A function from images (batch, channels, height, width) to the target's probability, (batch,).
        pixels: The image (channels, height, width).
        values: The image's map (height, width).
        fraction: The fraction of the squares with tissue that is in a set: n.
        subsets: Number of sets.
        cell: Side of a square in pixels.
        seed: Random seed of the sets, the same for every map of an image.

    Returns:
        Pearson's correlation; 0 if the map or the probability does not vary.
    """
    cells = _cells(values, cell)
    tissue = np.flatnonzero(_cells(pixels.float().mean(0).numpy() - float(pixels.min()), cell) > 1e-3)
    count = max(1, round(fraction * tissue.size))
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
    """Return the mean of 8 squares around each pixel, within the image."""
    side = 8 * cell + 1
    return functional.avg_pool2d(pixels[None].float(), side, stride=1, padding=side // 2, count_include_pad=False)[
        0
    ].to(pixels.dtype)


def _cells(values: np.ndarray, cell: int) -> np.ndarray:
    """Return the mean of a map in squares; an incomplete square at an edge is averaged over its own pixels."""
    # a copy, because a map is read-only
    grid = functional.avg_pool2d(torch.from_numpy(np.array(values, np.float32))[None], cell, ceil_mode=True)
    return grid[0].numpy()


def _spread(cells: torch.Tensor, pixels: torch.Tensor, cell: int) -> torch.Tensor:
    """Return squares, bool (sets, rows, columns), as pixels, bool (sets, 1, height, width)."""
    large = cells.repeat_interleave(cell, 1).repeat_interleave(cell, 2)
    return large[:, None, : pixels.shape[-2], : pixels.shape[-1]]


def _in_batches(probability: Probability, images: torch.Tensor) -> np.ndarray:
    with torch.no_grad():
        return np.concatenate([probability(batch).float().cpu().numpy() for batch in images.split(BATCH)])


# The sanity check: a map that stays the same when the model's weights are replaced does not explain the model.
#
# Adebayo et al. 2018 (arXiv 1810.03292): weights are randomised from the classifier down, one part more at each step.


def cascade(model: PreTrainedModel, seed: int = 0) -> Iterator[tuple[str, PreTrainedModel]]:
    """Yield copies of a classifier, each with one part more randomised, from the classifier down to the pixels.

    Args:
        model: A Swin, or a head over features with its encoder; it is not changed.
        seed: Random seed of the new weights.

    Yields:
        The name of the part that was randomised last, and the copy, which is the same object each time.
    """
    other = copy.deepcopy(model)
    for step, (name, modules) in enumerate(_parts_of(other)):
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed + step)
            for module in modules:
                _randomise(module)
        yield name, other


def _parts_of(model: Any) -> list[tuple[str, list[torch.nn.Module]]]:
    """Return the parts of a Swin classifier, or of a head over features with its encoder, from the classifier down."""
    if not hasattr(model, "swin"):
        head = model.head
        attention = [head.tile_attention, head.image_attention, head.side, head.view]
        return [
            ("classifier", [head.classifier]),
            ("attention", attention),
            ("projection", [head.projection]),
            ("encoder", [model.encoder.tower]),
        ]
    parts = [("classifier", [model.classifier, model.swin.layernorm])]
    stages = list(enumerate(model.swin.encoder.layers, start=1))
    parts += [(f"stage {number}", [stage]) for number, stage in reversed(stages)]
    parts += [("patches", [model.swin.embeddings])]
    if getattr(model, "lesion_head", None) is not None:
        parts[0][1].append(model.lesion_head)
    return parts


def untrained(model: PreTrainedModel, seed: int = 0) -> PreTrainedModel:
    """Return a copy with all parts randomised."""
    *_, (_, other) = cascade(model, seed)
    return other


def rank_correlation(one: np.ndarray, other: np.ndarray, breast: np.ndarray) -> float:
    """Return Spearman's correlation of two maps (height, width) inside the breast; 0 if one of them is flat."""
    first, second = one[breast > 0], other[breast > 0]
    if first.size < 2 or np.ptp(first) == 0 or np.ptp(second) == 0:
        return 0.0
    return float(stats.spearmanr(first, second).statistic)


@torch.no_grad()
def _randomise(module: torch.nn.Module) -> None:
    """Draw new weights of the spread that they had: new ones of the initial, tiny spread would flatten every map."""
    for part in module.modules():
        if isinstance(part, torch.nn.LayerNorm):
            part.reset_parameters()
            continue
        for name, parameter in part.named_parameters(recurse=False):
            if name == "bias":
                parameter.zero_()
            elif name != "weight" or parameter.ndim > 1:  # and not the scale of another norm, which is like all others
                parameter.normal_(0.0, float(parameter.std()) or 0.02)


# Baselines: maps that ignore the model, which an explainer must outperform.


def brightest(image: np.ndarray, breast: np.ndarray | None = None, sigma: float = 1.0) -> np.ndarray:
    """Return the image itself as a map, lightly smoothed so that single bright pixels of noise do not win.

    Args:
        image: The image (height, width) in [0, 1].
        breast: The breast's mask (height, width); anything outside it, such as a film label, becomes 0.
        sigma: Standard deviation of the Gaussian in pixels.
    """
    smooth = ndimage.gaussian_filter(np.asarray(image, np.float32), sigma)
    return smooth if breast is None else np.where(breast > 0, smooth, 0)


def centre(breast: np.ndarray) -> np.ndarray:
    """Return a map that falls off evenly from the breast's centre of mass, 0 outside the breast.

    Args:
        breast: The breast's mask (height, width).
    """
    inside = np.asarray(breast) > 0
    if not inside.any():
        return np.zeros(inside.shape, np.float32)
    row, column = ndimage.center_of_mass(inside)
    rows, columns = np.ogrid[: inside.shape[0], : inside.shape[1]]
    away = np.hypot(rows - row, columns - column)
    return np.where(inside, 1 - away / (away[inside].max() + 1), 0).astype(np.float32)


def random_map(breast: np.ndarray, seed: int | list[int], token: int = 16) -> np.ndarray:
    """Return noise with the grain of a token map, 0 outside the breast.

    Args:
        breast: The breast's mask (height, width).
        seed: Random seed of the noise.
        token: Side of a grain in pixels.
    """
    height, width = breast.shape
    coarse = np.random.default_rng(seed).random((-(-height // token), -(-width // token)))
    zoomed = ndimage.zoom(coarse, token, order=1, mode="grid-constant", grid_mode=True)[:height, :width]
    return np.where(breast > 0, zoomed, 0).astype(np.float32)
