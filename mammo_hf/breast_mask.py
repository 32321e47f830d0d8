"""Which pixels of a mammogram show the breast: everything else is film, labels, wedges, frames and collimator edges.

Works on a small view of the image, without loops over pixels. A few thresholds between background and skin are tried;
the region is taken that has a breast's shape and a steep, smooth outline all around.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from scipy import ndimage

SPLITS = 3  # thresholds that are tried
BINS = 256  # of the histogram
EMPTY = 1e-4  # a range of intensity under which an image shows nothing
SMALLEST = 0.01  # of the image; a region below is noise, not a breast
# of the way from the background to the threshold that splits the histogram best: skin is nearer to the background
SKIN = 0.3
# of the longer side: half the width of what is cut off the breast (labels that touch it, lines, frames, scanner edges)
NECK = 0.025
# a region that fills more of its own box is a film or a collimated field; half an ellipse fills 0.79
FULL_BOX = 0.93
# of a region's width, counted from its side; and the share of its height that may reach into it on both sides: a breast
# has its chest wall on one side and its nipple on the other
SIDE_WIDTH = 0.02
FAR_SIDE = 0.5
GOOD = 0.6  # of the best score
SAME = 0.6  # of the best region's area
RIM = 0.03  # of the height and width, from the edge to the rim that is judged
FLATTEST = 0.15  # of an outline may be as flat as it likes: where it crosses skin folds, labels, the chest wall


class Region(NamedTuple):
    """A region that may be the breast.

    Attributes:
        mask: bool (height, width).
        score: How steep and smooth its outline is, for comparison with others of the same image.
        shaped: Whether it has the shape of a breast.
        smooth: float32 (height, width), the view that was looked at.
    """

    mask: np.ndarray
    score: float
    shaped: bool
    smooth: np.ndarray


def breast_region(view: np.ndarray) -> Region:
    """The breast in a small view.

    Args:
        view: Intensity (height, width), about 256 to 511 pixels on its longer side; tissue is brighter than the
            background.

    Returns:
        The best region; one of no pixels where nothing stands out.
    """
    if view.size == 0 or np.ptp(view) < EMPTY:
        return Region(np.zeros(view.shape, bool), 0.0, False, view)
    smooth = ndimage.uniform_filter(view.astype(np.float32, copy=False), 3)
    # the square root makes the faint skin line count as much as edges inside the gland
    steepness = _steepness(np.sqrt(smooth - smooth.min()))
    masks = [largest_region(smooth > threshold) for threshold in skin_thresholds(smooth)]
    regions = [Region(mask, _outline_score(mask, steepness), is_breast_shaped(mask), smooth) for mask in masks]
    shaped = [region for region in regions if region.shaped]
    if not shaped:  # the breast may fill the image
        return regions[-1]
    best = max(shaped, key=lambda region: region.score)
    # of those about as good and as large, the one of the highest threshold: it holds the least of the background, and
    # is not a gland or an implant inside the breast
    least_area = SAME * np.count_nonzero(best.mask)
    alike = [one for one in shaped if one.score >= GOOD * best.score and np.count_nonzero(one.mask) >= least_area]
    return alike[-1]


def rim_share(mask: np.ndarray) -> float:
    """How much of the image's rim a region covers; a breast covers one side and a part of another, a background more.

    The rim is taken a little inside the image, where narrow bands along its edges do not count.
    """
    rows, columns = (round(RIM * length) for length in mask.shape)
    inner = mask[rows : mask.shape[0] - rows, columns : mask.shape[1] - columns]
    if 0 in inner.shape:
        return 0.0
    return float(np.concatenate([inner[0], inner[-1], inner[:, 0], inner[:, -1]]).mean())


def skin_thresholds(smooth: np.ndarray) -> list[float]:
    """Intensities that may part skin and background, from low to high.

    The best split of the histogram parts background and tissue, or, where the breast fills most of the image, fat and
    gland; then the best split of its darker side parts background and fat.
    """
    low, high = float(smooth.min()), float(smooth.max())
    bins = ((smooth - low) * (BINS / (high - low))).astype(np.uint16)
    counts = np.bincount(bins.ravel(), minlength=BINS)
    centres = low + (np.arange(len(counts)) + 0.5) * (high - low) / BINS
    found: list[float] = []
    end = len(counts)
    for _ in range(SPLITS):
        if np.count_nonzero(counts[:end]) < 3:
            break
        split = _otsu(counts[:end], centres[:end])
        background = centres[np.searchsorted(np.cumsum(counts[: split + 1]), counts[: split + 1].sum() / 2)]
        found.insert(0, float(background + SKIN * (centres[split] - background)))
        end = split + 1
    return found


def _otsu(counts: np.ndarray, centres: np.ndarray) -> int:
    """The bin after which two classes part best (Otsu 1979, IEEE Trans. Syst. Man Cybern. 9:62)."""
    below = np.cumsum(counts)
    above = below[-1] - below
    total = np.cumsum(counts * centres)
    with np.errstate(divide="ignore", invalid="ignore"):
        between = below * above * (total / below - (total[-1] - total) / above) ** 2
    return int(np.argmax(np.where(np.isfinite(between), between, -1)))


def largest_region(bright: np.ndarray) -> np.ndarray:
    """The largest bright region with what hangs on it by a narrow neck cut off, and its holes filled."""
    neck = max(1, round(NECK * max(bright.shape)))
    core = dilated(eroded(bright, neck), neck)
    regions, count = ndimage.label(core)
    if count == 0:
        return core
    sizes = np.bincount(regions.ravel())
    sizes[0] = 0
    if sizes.max() < SMALLEST * core.size:
        return np.zeros(core.shape, bool)
    core = regions == sizes.argmax()
    # the opening has rounded the outline and cut the nipple: what was bright right beside the region comes back
    return without_holes(connected(dilated(core, neck) & bright, core))


def is_breast_shaped(mask: np.ndarray) -> bool:
    """Whether a region is no frame, film or field: it leaves room in its box and has one straight side at most."""
    # a line that sticks out does not count for the box
    rows, columns = (np.flatnonzero(count > 0.05 * count.max(initial=0)) for count in (mask.sum(1), mask.sum(0)))
    if len(rows) == 0:
        return False
    box = mask[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]
    reach = max(2, round(SIDE_WIDTH * box.shape[1]))
    sides = box[:, :reach].any(1).mean(), box[:, -reach:].any(1).mean()
    return bool(box.mean() < FULL_BOX and min(sides) < FAR_SIDE)


def _steepness(image: np.ndarray) -> np.ndarray:
    """The length of the gradient; 0 along the image's edges, where no outline is judged."""
    steepness = np.zeros_like(image)
    down, across = image[2:, 1:-1] - image[:-2, 1:-1], image[1:-1, 2:] - image[1:-1, :-2]
    steepness[1:-1, 1:-1] = 0.5 * np.sqrt(down * down + across * across)
    return steepness


def _outline_score(mask: np.ndarray, steepness: np.ndarray) -> float:
    """How steep the image is along most of a region's outline, and how short the outline is for the region's area.

    The outline of the breast is steep and smooth; one drawn through background or between fat and gland is neither.
    """
    inner = np.zeros(mask.shape, bool)
    inner[1:-1, 1:-1] = eroded(mask, 1)[1:-1, 1:-1] | ~mask[1:-1, 1:-1]
    outline = ~inner
    outline[[0, -1]] = outline[:, [0, -1]] = False
    steps = steepness[outline]
    if len(steps) == 0:
        return 0.0
    flattest = np.partition(steps, int(FLATTEST * len(steps)))[int(FLATTEST * len(steps))]
    return float(flattest * np.sqrt(np.count_nonzero(mask)) / len(steps))


def connected(region: np.ndarray, seed: np.ndarray) -> np.ndarray:
    """The part of a region that hangs together with the seed, which is a connected part of it."""
    found = np.zeros(region.shape, bool)
    box = _box_of(region)
    regions, _ = ndimage.label(region[box])
    found[box] = regions == regions.ravel()[seed[box].argmax()]
    return found


def without_holes(mask: np.ndarray) -> np.ndarray:
    """Fills what the mask encloses, alone or together with the image's left or right edge (the chest wall)."""
    box = _box_of(mask)
    inside = mask[box]
    closed = _framed(inside, 1)
    for edge, at_edge in ((0, box[1].start == 0), (-1, box[1].stop == mask.shape[1])):
        touching = np.flatnonzero(inside[:, edge]) if at_edge and inside.size else np.zeros(0, np.intp)
        if len(touching):
            closed[touching[0] + 1 : touching[-1] + 2, edge] = True
    regions, _ = ndimage.label(~closed)
    # the padding's rim is one region, or two, above and below, where both edges are closed; all else is enclosed
    filled = mask.copy()
    filled[box] = (regions != regions[0, 0])[1:-1, 1:-1] & (regions != regions[-1, 0])[1:-1, 1:-1]
    return filled


def _box_of(mask: np.ndarray) -> tuple[slice, slice]:
    """The rows and columns that a mask lies in."""
    rows, columns = np.flatnonzero(mask.any(1)), np.flatnonzero(mask.any(0))
    if not len(rows):
        return slice(0, 0), slice(0, 0)
    return slice(int(rows[0]), int(rows[-1]) + 1), slice(int(columns[0]), int(columns[-1]) + 1)


def eroded(mask: np.ndarray, radius: int) -> np.ndarray:
    """By a square of 2 * radius + 1; outside the image counts as empty, so that bands along its edge go."""
    return _over_squares(np.logical_and, mask, radius)


def dilated(mask: np.ndarray, radius: int) -> np.ndarray:
    """A mask, bool (height, width), widened by a square of 2 * radius + 1 pixels."""
    return _over_squares(np.logical_or, mask, radius)


def _framed(mask: np.ndarray, width: int) -> np.ndarray:
    framed = np.zeros((mask.shape[0] + 2 * width, mask.shape[1] + 2 * width), bool)
    framed[width : framed.shape[0] - width, width : framed.shape[1] - width] = mask
    return framed


def _over_squares(combine: np.ufunc, mask: np.ndarray, radius: int) -> np.ndarray:
    """All or any of the pixels in the square around each pixel; those outside the image are ``False``.

    A run of 2 n pixels is made of two runs of n, so the steps grow with the logarithm of the radius.
    """
    found = _framed(mask, radius)
    for _ in range(2):
        length, wanted = 1, 2 * radius + 1
        while length < wanted:
            step = min(length, wanted - length)
            found = combine(found[:-step], found[step:])
            length += step
        found = found.T
    return found
