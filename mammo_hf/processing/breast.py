"""The breast in a displayed mammogram: its mask, the box around it, the side of the chest wall, the pectoral muscle.

All of it is found on a small view of the image, without loops over pixels:

1. The view gets a tone of its own, so that what follows does not depend on the curve of a film, detector or display.
2. Collimated edges around the exposed field are cut off.
3. A few thresholds between background and skin are tried, and the region is taken that has a breast's shape and the
   steepest and smoothest outline in an even background; everything else is film, labels, wedges, frames and scanner
   edges.
4. The region grows to its faint skin line.
5. The side with more tissue is the chest wall, and the box is drawn.
6. What speaks against the mask is noted.

The thresholds are fractions of a length, an area or the range of tone; that they hold was checked by eye on mini-MIAS,
DDSM (the dark films of its scanner A among them) and CDD-CESM.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np
from scipy import ndimage

from ..dicom.display import otsu
from ..notes import Note
from .geometry import ORIENTATIONS

if TYPE_CHECKING:
    from .geometry import Geometry

LONGEST_SIDE = 256  # pixels of the view that is searched, up to twice as many less one
MARGIN = 0.02  # of the image's longer side, around the breast: what the view's coarse pixels and faint skin may miss
NOTED_FIELD = 0.95  # of the image's area: a larger field lacks a scanner's narrow edge, which is not worth a note


@dataclass(frozen=True, eq=False)
class Breast:
    """The breast as it was found in an image.

    Attributes:
        box: (top, left, bottom, right) in source pixels, exclusive at the end; the whole image if nothing stands out.
        mask: bool (rows, columns) of the view: entry (i, j) is for the ``stride`` x ``stride`` source pixels that
            begin at (i * stride, j * stride); all ``False`` if nothing stands out.
        stride: Source pixels per pixel of the mask, in both directions.
        chest_wall: Side of the image that the chest wall is at, "left" or "right", of a picture on its side "top" or
            "bottom"; ``None`` if it is not clear.
        negative: Whether tissue is dark on a bright background.
        notes: Notes on what is unusual.
        pectoral: Mask of the pectoral muscle, like ``mask``; ``None`` if it was not looked for or not found.
        field: Rows and columns of the mask within bright collimated edges.
        orientation: What makes the breast upright, one of `mammo_hf.processing.geometry.ORIENTATIONS`.
    """

    box: tuple[int, int, int, int]
    mask: np.ndarray
    stride: int = 1
    chest_wall: str | None = None
    negative: bool = False
    notes: tuple[Note, ...] = ()
    pectoral: np.ndarray | None = None
    field: tuple[slice, slice] = (slice(None), slice(None))
    orientation: str = "identity"

    def widened(self, margin: int) -> Breast:
        """Return it with ``margin`` pixels added around the mask, within the field; the box stays."""
        mask = np.zeros(self.mask.shape, bool)
        mask[self.field] = dilated(self.mask, margin)[self.field]
        return replace(self, mask=mask)

    def mask_at(self, rows: np.ndarray, columns: np.ndarray) -> np.ndarray:
        """Return whether source pixels belong to the breast.

        Args:
            rows: Positions (height,) in source pixels; those outside the image count as its edge.
            columns: Positions (width,) in source pixels, likewise.

        Returns:
            bool (height, width): one entry for each pair of a row and a column.
        """
        return sampled(self.mask, rows, columns, self.stride)

    def columns_of(self, rows: slice) -> slice:
        """Return the range of source columns that the mask covers in some source rows; empty if it covers none."""
        band = self.mask[rows.start // self.stride : -(-rows.stop // self.stride)].any(0)
        columns = np.flatnonzero(band)
        return slice(int(columns[0]) * self.stride, int(columns[-1] + 1) * self.stride) if len(columns) else slice(0, 0)

    def on_canvas(self, geometry: Geometry, *, cell: int = 1) -> np.ndarray:
        """Return the breast's mask on the model's canvas, without a pectoral muscle that was found.

        Args:
            geometry: Geometry from source pixels to the canvas.
            cell: Side in canvas pixels of the square that one entry is for, judged by its centre.

        Returns:
            bool (height // cell, width // cell); false in the padding.
        """
        centres = [(np.arange(side // cell) + 0.5) * cell for side in geometry.size]
        exchanged = ORIENTATIONS[geometry.orientation][2]
        places = [geometry.to_source(np.stack([c, c], axis=-1))[:, i ^ exchanged] for i, c in enumerate(centres)]
        rows, columns = places[::-1] if exchanged else places
        shown_rows, shown_columns = (
            (c > start) & (c < start + length)
            for c, start, length in zip(centres, geometry.offset, geometry.resized, strict=True)
        )
        inside = self.mask_at(rows, columns)
        if self.pectoral is not None:
            inside &= ~sampled(self.pectoral, rows, columns, self.stride)
        return (inside.T if exchanged else inside) & shown_rows[:, None] & shown_columns


def sampled(mask: np.ndarray, rows: np.ndarray, columns: np.ndarray, stride: int) -> np.ndarray:
    """Return the entries of a strided mask at source positions: (height,) and (width,) give (height, width)."""
    i, j = (
        np.clip(np.asarray(positions) // stride, 0, length - 1).astype(np.intp)
        for positions, length in zip((rows, columns), mask.shape, strict=True)
    )
    return mask[i][:, j]


def find_breast(
    intensity: np.ndarray,
    *,
    stride: int = 1,
    size: tuple[int, int] | None = None,
    margin: float = MARGIN,
    expected_chest_wall: str | None = None,
    pectoral: bool = False,
) -> Breast:
    """Find the breast.

    Args:
        intensity: Every ``stride``-th pixel of the image, (height, width), in any tone.
        stride: Source pixels per pixel of ``intensity``, in both directions.
        size: (height, width) of the whole image; ``None``: that of ``intensity``.
        margin: Space around the breast on all sides but the chest wall's, as a fraction of the image's longer side.
        expected_chest_wall: Side that the header implies; used if the image does not show it, else only compared.
        pectoral: Whether to look for the pectoral muscle, as in an oblique view.

    Returns:
        The breast; its box is the whole image if nothing stands out from the background.
    """
    height, width = size or intensity.shape
    tone = canonical_tone(intensity)
    field = exposed_field(tone)
    mask = np.zeros(intensity.shape, bool)
    mask[field], negative = _mask_and_polarity(tone[field])
    if not mask.any():
        return Breast((0, 0, height, width), mask, stride, expected_chest_wall, notes=(Note("breast_not_found"),))
    tone = 1 - tone if negative else tone
    seen = _chest_wall(mask, tone)
    chest_wall = seen or expected_chest_wall
    limits = _limits(field, intensity.shape, stride, (height, width))
    box = _box(mask, chest_wall, stride, limits, round(margin * max(height, width)))
    muscle = pectoral_mask(tone, mask, chest_wall) if pectoral and chest_wall is not None else None
    notes = _notes(mask, field, negative, seen, expected_chest_wall) + _doubts(tone[field], mask[field], chest_wall)
    return Breast(box, mask, stride, chest_wall, negative, notes, muscle, field)


def _notes(
    mask: np.ndarray, field: tuple[slice, slice], negative: bool, seen: str | None, expected: str | None
) -> tuple[Note, ...]:
    notes = []
    if mask[field].size < NOTED_FIELD * mask.size:
        notes.append(Note("bright_edges"))
    if negative:
        notes.append(Note("negative"))
    if seen is None:
        notes.append(Note("chest_wall_unclear"))
    elif expected not in (None, seen):
        notes.append(Note("chest_wall_contradicted", expected=expected, seen=seen))
    return tuple(notes)


# Step 1. A tone of the image's own.
#
# Films, detectors and displays differ by monotone curves of tone, and thresholds and steps of brightness depend on
# them. What does not is the shape of the contours at which the brightness passes a level. So the distance between two
# levels is taken to be that of their contours: the area between them, divided by their length. Smooth tissue is spread,
# and the noise of a background, whose contours are long, is pressed together.

LEVELS = 512  # of equally many pixels each, or fewer if the image has fewer
# of the image's area: the most that one level counts for, so that an even background of few levels is not spread
MOST_OF_LEVEL = 0.01
SHORTEST_CONTOUR = 0.5  # of the longer side, added to each contour: a label's, near 0, would spread its tones


def canonical_tone(view: np.ndarray) -> np.ndarray:
    """Return a view in the tone that its own contours give it, the same after any strictly monotone change of tone.

    Args:
        view: Intensity (height, width), in any tone.

    Returns:
        float32 (height, width) in [0, 1], brighter where the view is; 0 everywhere if it has one value.
    """
    level = _levels(view)
    counts = np.bincount(level.ravel())
    if len(counts) < 2:
        return np.zeros(view.shape, np.float32)
    crossings = np.zeros(len(counts), np.intp)
    for one, other in ((level[1:], level[:-1]), (level[:, 1:], level[:, :-1])):
        crossings += np.bincount(np.minimum(one, other).ravel(), minlength=len(counts))
        crossings -= np.bincount(np.maximum(one, other).ravel(), minlength=len(counts))
    lengths = np.cumsum(crossings)[:-1] + SHORTEST_CONTOUR * max(view.shape)
    areas = np.minimum(counts, MOST_OF_LEVEL * view.size)
    areas[[0, -1]] = 0  # beyond the film's edge or saturated: there is no contour on the other side
    steps = (areas[1:] + areas[:-1] + 1) / lengths
    tone = np.concatenate([[0], np.cumsum(steps)]) / steps.sum()
    return np.asarray(tone, np.float32)[level]


def _levels(view: np.ndarray) -> np.ndarray:
    """Return the level of each pixel, from 0: equal values have one, and higher values none that is lower."""
    values = np.sort(view, axis=None)  # several times faster than finding their order
    lowest = np.unique(values[np.arange(LEVELS) * values.size // LEVELS])
    return np.searchsorted(lowest[1:], view, side="right").astype(np.int16)


# Step 2. The exposed field: within what a collimator or a scanner has left bright and even along the edges.
#
# Such an edge is as bright as the breast and may touch it, so no threshold separates the two. But along the whole side
# it has one value, and it ends at a straight line.

EVEN = 0.05  # of the range of intensity: how far a pixel of an edge may be from the edge's median; film noise is less
ALL = 0.9  # of a line's pixels that must be as even as that: labels and dust cover the rest
BRIGHT = 0.1  # of the range of intensity above the darkest: a darker edge is background, which thresholds remove
STEEP = 0.07  # of the range of intensity: an edge's least difference from what follows it
REST = 0.6  # of the line behind the edge that must differ so much: elsewhere a breast as bright may touch it
STEP = 3  # pixels over which an edge may end, since a subsampled or blurred edge is not sharp
THICKEST = 0.3  # of the height or width: a thicker even band is the content of the image


def exposed_field(view: np.ndarray) -> tuple[slice, slice]:
    """Return the rows and columns of a view (height, width) that are within its collimated edges, if it has any."""
    low, high = float(view.min()), float(view.max())
    rows = _between_edges(view, low, high)
    return rows, _between_edges(view[rows].T, low, high)


def _between_edges(lines: np.ndarray, low: float, high: float) -> slice:
    return slice(_edge_thickness(lines, low, high), len(lines) - _edge_thickness(lines[::-1], low, high))


def _edge_thickness(lines: np.ndarray, low: float, high: float) -> int:
    """Return how many of the first lines are a collimated edge."""
    level = float(np.median(lines[0]))
    if level - low <= BRIGHT * (high - low):
        return 0
    difference = np.abs(lines[: int(THICKEST * len(lines)) + STEP] - level) / (high - low)
    uneven = np.flatnonzero((difference <= EVEN).mean(1) < ALL)
    if not len(uneven) or not uneven[0]:
        return 0
    # a breast that fills the image is bright and even, too, but its brightness fades
    after = np.flatnonzero((difference[uneven[0] : uneven[0] + STEP] <= STEEP).mean(1) < REST)
    return int(uneven[0] + after[0]) if len(after) else 0


# Step 3. The region of the breast, in the image or in its negative.

# of the image's rim: one side is the chest wall (at most a third of the rim) and an oblique breast reaches two more in
# part; a region that covers more of the rim is around the image, as a background is
MOST_RIM = 0.65
RIM = 0.03  # of the height and width, from the image's edge to its rim: bright bands along the edges are narrower
LEAST_NEGATIVE = 0.15  # of the image's area: a smaller dark region on a bright background is not a negative's breast

SPLITS = 3  # thresholds that are tried: between gland, fat and background, and one more in a two-tone background
BINS = 256  # of the histogram: 8 bits are finer than the noise of film
# of the way from the background to the threshold that splits the histogram best: skin is nearer to the background
SKIN = 0.3
# of the best score, and of the largest good region's area: regions at least as good and large are the same breast
GOOD, SAME = 0.72, 0.6


def _mask_and_polarity(tone: np.ndarray) -> tuple[np.ndarray, bool]:
    """Return the breast's mask, and whether it was found in the negative."""
    if tone.size == 0 or np.ptp(tone) == 0:
        return np.zeros(tone.shape, bool), False
    smooth = smoothed(tone)
    mask = breast_region(smooth)
    if _rim_fraction(mask) < MOST_RIM:
        return with_faint_skin(smooth, mask), False
    # it is around the image as a background is: is there a breast in the negative?
    smooth = smoothed(-tone)
    other = breast_region(smooth)
    found = is_breast_shaped(other) and other.mean() >= LEAST_NEGATIVE and _rim_fraction(other) < MOST_RIM
    return (with_faint_skin(smooth, other), True) if found else (mask, False)


def smoothed(view: np.ndarray) -> np.ndarray:
    """Return a view as float32 with less noise."""
    return ndimage.uniform_filter(view.astype(np.float32, copy=False), 3)


def breast_region(smooth: np.ndarray) -> np.ndarray:
    """Return the mask of the region that is most like a breast, not always of its shape; empty if tones do not differ.

    Args:
        smooth: Intensity (height, width) without noise, 256 to 511 pixels on its longer side; tissue is brighter than
            the background.
    """
    coarse = _halved(_halved(smooth).T).T
    # the square root makes the faint skin line count as much as edges inside the gland
    steepness = _steepness(np.sqrt(coarse - coarse.min()))
    thresholds = _skin_thresholds(coarse)
    if not thresholds:
        return np.zeros(smooth.shape, bool)
    masks = [_largest_region(coarse > threshold) for threshold in thresholds]
    shaped = [
        (_outline_score(mask, steepness), np.count_nonzero(mask), threshold)
        for mask, threshold in zip(masks, thresholds, strict=True)
        if is_breast_shaped(mask)
    ]
    if not shaped:  # the breast may fill the image
        return _largest_region(smooth > thresholds[-1])
    best = max(score for score, _, _ in shaped)
    good = [region for region in shaped if region[0] >= GOOD * best]
    # the largest of those about as good is not a gland, a muscle or an implant inside the breast; of those about as
    # large, the one of the highest threshold holds the least of the background
    least_area = SAME * max(area for _, area, _ in good)
    threshold = [threshold for _, area, threshold in good if area >= least_area][-1]
    return _largest_region(smooth > threshold)


def _halved(image: np.ndarray) -> np.ndarray:
    """Return an image with half its columns, of a mirror image the mirrored ones; no tone is added between two."""
    return image[:, ::2] if image.shape[1] % 2 else np.maximum(image[:, ::2], image[:, 1::2])


def _rim_fraction(mask: np.ndarray) -> float:
    """Return the fraction of the image's rim that a region covers."""
    rows, columns = (round(RIM * length) for length in mask.shape)
    inner = mask[rows : mask.shape[0] - rows, columns : mask.shape[1] - columns]
    if 0 in inner.shape:
        return 0.0
    return float(np.concatenate([inner[0], inner[-1], inner[:, 0], inner[:, -1]]).mean())


def _skin_thresholds(smooth: np.ndarray) -> list[float]:
    """Return intensities that may separate skin and background, from low to high.

    The best split of the histogram separates background and tissue or, if the breast fills most of the image, fat and
    gland; then the best split of its darker side separates background and fat. In an image of few tones, the best split
    of its brighter side separates film and tissue.
    """
    low, high = float(smooth.min()), float(smooth.max())
    if low == high:
        return []
    bins = ((smooth - low) * (BINS / (high - low))).astype(np.uint16)
    counts = np.bincount(bins.ravel(), minlength=BINS)
    centres = low + (np.arange(len(counts)) + 0.5) * (high - low) / BINS
    found: list[float] = []
    start, end = 0, len(counts)
    for _ in range(SPLITS):
        split = _split(counts[:end], centres[:end])
        if split is None:
            break
        found.insert(0, _nearer_to_background(counts[: split + 1], centres[: split + 1]))
        start, end = start or split + 1, split + 1
    brighter = _split(counts[start:], centres[start:]) if len(found) < SPLITS else None
    if brighter is not None:  # few tones: an even film may be as far from black as from tissue
        found.append(_nearer_to_background(counts[start : start + brighter + 1], centres[start : start + brighter + 1]))
    return found


def _nearer_to_background(counts: np.ndarray, centres: np.ndarray) -> float:
    """Return an intensity between the median of a histogram's bins and their upper end."""
    background = centres[np.searchsorted(np.cumsum(counts), counts.sum() / 2)]
    return float(background + SKIN * (centres[-1] - background))


def _split(counts: np.ndarray, centres: np.ndarray) -> int | None:
    """Return the bin after which two classes separate best; ``None`` if too few bins hold anything."""
    return otsu(counts, centres) if np.count_nonzero(counts) >= 3 else None


# Of the longer side: half the width of what is cut off the breast: labels that touch it, lines, frames, scanner edges.
# A nipple is wider, and comes back anyway.
NECK = 0.025
SMALLEST = 0.01  # of the image's area: a smaller region is noise or a label, not a breast


def _largest_region(bright: np.ndarray) -> np.ndarray:
    """Return the largest bright region without what is attached to it by a narrow neck, its holes filled."""
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
    # the opening has rounded the outline and cut the nipple: what was bright right next to the region comes back
    return without_holes(connected(dilated(core, neck) & bright, core))


LINE = 0.05  # of the longest row or column of a region: fewer pixels are a line that sticks out, not its extent
FULL_BOX = 0.93  # of a region's own box: one that fills more is a film or a field; half an ellipse fills 0.79
# a breast has its chest wall on one side and its nipple on the other, so on one side, within a fraction SIDE_WIDTH of
# the region's width, it covers less than a fraction FAR_SIDE of the height
SIDE_WIDTH, FAR_SIDE = 0.02, 0.5


def is_breast_shaped(mask: np.ndarray) -> bool:
    """Return whether a region is not a frame, film or field: it leaves room in its box and has one straight side."""
    rows, columns = (np.flatnonzero(count > LINE * count.max(initial=0)) for count in (mask.sum(1), mask.sum(0)))
    if len(rows) == 0:
        return False
    box = mask[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]
    reach = max(2, round(SIDE_WIDTH * box.shape[1]))
    sides = box[:, :reach].any(1).mean(), box[:, -reach:].any(1).mean()
    return bool(box.mean() < FULL_BOX and min(sides) < FAR_SIDE)


def _steepness(image: np.ndarray) -> np.ndarray:
    """Return the length of the gradient; 0 along the image's edges, where no outline is judged."""
    steepness = np.zeros_like(image)
    down, across = image[2:, 1:-1] - image[:-2, 1:-1], image[1:-1, 2:] - image[1:-1, :-2]
    steepness[1:-1, 1:-1] = 0.5 * np.sqrt(down * down + across * across)
    return steepness


# of an outline: its flattest part, which is not judged; skin folds, labels and the chest wall are flat on any breast
FLATTEST_FRACTION = 0.1
OUTER_GAP = 2  # pixels between a region and the band around it, which a blurred outline does not reach
OUTER_BAND = 0.04  # of the longer side: width of that band
OUTER_QUANTILE = 0.9  # of the band's pixels: labels and lines in it do not count
EVEN_STEEPNESS = 0.005  # added to that of the band: an even background's may be 0


def _outline_score(mask: np.ndarray, steepness: np.ndarray) -> float:
    """Return how steep a region's outline is, times how short it is for the region's area.

    The outline of the breast is steep and smooth; one drawn through background or between fat and gland is neither.
    Scores are for comparing regions of one image.
    """
    inner = np.zeros(mask.shape, bool)
    inner[1:-1, 1:-1] = eroded(mask, 1)[1:-1, 1:-1] | ~mask[1:-1, 1:-1]
    outline = ~inner
    outline[[0, -1]] = outline[:, [0, -1]] = False
    steps = steepness[outline]
    if len(steps) == 0:
        return 0.0
    rank = int(FLATTEST_FRACTION * len(steps))
    contrast = np.partition(steps, rank)[rank] / (_outer_steepness(mask, steepness) + EVEN_STEEPNESS)
    return float(contrast * np.sqrt(np.count_nonzero(mask)) / len(steps))


def _outer_steepness(mask: np.ndarray, steepness: np.ndarray) -> float:
    """Return the steepness that few pixels around a region exceed."""
    near = dilated(mask, OUTER_GAP)
    around = steepness[dilated(near, max(1, round(OUTER_BAND * max(mask.shape)))) & ~near]
    rank = int(OUTER_QUANTILE * len(around))
    return float(np.partition(around, rank)[rank]) if len(around) else 0.0


# Step 4. The faint rim of a breast: skin, nipple and the thin fat under them, between the breast and its background.
#
# A threshold that separates a breast from its background over the whole film leaves out what is hardly brighter than
# that background. Close to the breast the background is known better, so a lower threshold can be used there.

REACH = 0.05  # of the longer side: how far from a breast's outline its skin is looked for, about 1 cm of 24
LEAST_SKIN_STEP = 0.15  # of the way from the background's brightness to the outline's: the least of skin
LEAST_DEVIATIONS = 4.0  # standard deviations of the background that skin is above it, so that noise adds nothing
NARROW = 0.008  # of the longer side: half the width of what is not skin: scratches, frames, letters that touch it
MOST_AT_REACH = 0.3  # of the pixels at the full reach: if more are as bright as skin, the background itself glows
LEAST_LIT = 0.25  # of the background that is brighter than the darkest value; if less, it is beyond the film's edge


def with_faint_skin(smooth: np.ndarray, mask: np.ndarray) -> np.ndarray:
    """Return a breast's mask, grown to its skin line.

    Args:
        smooth: Intensity (height, width) without its noise; tissue is brighter than the background.
        mask: Mask of the breast, bool (height, width), one connected region.
    """
    longest = max(mask.shape)
    reach, narrow = max(1, round(REACH * longest)), max(1, round(NARROW * longest))
    near = dilated(mask, reach)
    threshold = _faint_threshold(smooth, mask, dilated(near, reach) & ~near)
    if threshold is None:
        return mask
    bright = near & ((smooth > threshold) | mask)
    grown = connected(dilated(eroded(bright, narrow), narrow) | mask, mask)
    furthest = near & ~dilated(mask, reach - 1)
    if np.count_nonzero(grown & furthest) > MOST_AT_REACH * np.count_nonzero(furthest):
        return mask
    return without_holes(grown)


def _faint_threshold(smooth: np.ndarray, mask: np.ndarray, background: np.ndarray) -> float | None:
    """Return the intensity above which a pixel next to the breast is skin; ``None`` if there is no room for one."""
    values = smooth[background]
    lit = values[values > smooth.min()]
    values = lit if len(lit) > LEAST_LIT * len(values) else values
    if not len(values):
        return None
    level = float(np.median(values))
    # the median absolute deviation, which bright letters do not move; times 1.4826 it is a normal standard deviation
    deviation = 1.4826 * float(np.median(np.abs(values - level)))
    outline = float(np.median(smooth[mask & ~eroded(mask, 1)]))
    threshold = level + max(LEAST_DEVIATIONS * deviation, LEAST_SKIN_STEP * (outline - level))
    return threshold if threshold < outline else None


# Step 5. The chest wall and the box.

# times the tissue of the other third: what the chest wall's third has at least; with less the sides are about equal
CHEST_WALL_RATIO = 1.2
CHEST_WALL_TONE_RATIO = 1.5  # the same with each pixel weighted by its tone, if the number of pixels does not decide


def _chest_wall(mask: np.ndarray, tone: np.ndarray) -> str | None:
    """Return the side with more tissue: a breast is widest at the chest wall and ends at the nipple.

    If the mask holds background that glows, its sides are about equal; the background is darker than the breast.
    """
    columns = np.flatnonzero(mask.any(0))
    inside = slice(columns[0], columns[-1] + 1)
    third = max((inside.stop - inside.start) // 3, 1)
    for weight, ratio in ((mask, CHEST_WALL_RATIO), (mask * tone, CHEST_WALL_TONE_RATIO)):
        left, right = (float(side.sum()) for side in (weight[:, inside][:, :third], weight[:, inside][:, -third:]))
        if max(left, right) >= ratio * min(left, right):
            return "left" if left > right else "right"
    return None


def _box(
    mask: np.ndarray, chest_wall: str | None, stride: int, limits: tuple[int, int, int, int], margin: int
) -> tuple[int, int, int, int]:
    """Return the box in source pixels; at the chest wall the breast runs into the film edge: a step, no margin."""
    rows, columns = np.flatnonzero(mask.any(1)), np.flatnonzero(mask.any(0))
    # the true edge is within a step of the view's pixel
    margin += stride
    top, bottom = rows[0] * stride - margin, (rows[-1] + 1) * stride + margin
    left = columns[0] * stride - (stride if chest_wall == "left" else margin)
    right = (columns[-1] + 1) * stride + (stride if chest_wall == "right" else margin)
    first, start, last, end = limits
    return int(max(top, first)), int(max(left, start)), int(min(bottom, last)), int(min(right, end))


def _limits(
    field: tuple[slice, slice], shape: tuple[int, ...], stride: int, size: tuple[int, int]
) -> tuple[int, int, int, int]:
    """Return the largest box, in source pixels: the image, or what is certainly within its collimated edges."""
    first, start = (side.start * stride for side in field)
    last, end = (
        length if side.stop == steps else (side.stop - 1) * stride + 1
        for side, steps, length in zip(field, shape, size, strict=True)
    )
    return first, start, last, end


# Step 6. What speaks against the mask.

# codes of the notes on a mask that may be wrong
DOUBTS = frozenset(
    {
        "breast_not_found",
        "chest_wall_unclear",
        "breast_reaches_across",
        "bright_beyond_breast",
        "breast_outline_straight",
        "breast_even",
        "background_uneven",
        "breast_much_smaller",
    }
)
# of the rows: a breast that covers more of the side opposite its chest wall may be half a film; one that fills its
# image only touches that side
ACROSS = 0.2
BEYOND = 0.4  # of the way from the tone of the background to that of the rim of the mask: a brighter pixel is tissue
# of the pixels next to the mask: if more are tissue, the mask lacks some, or the background is not even
MOST_BEYOND = 0.08
MUCH_SMALLER = 0.4  # of the collection's median: a smaller breast is often its muscle or gland alone
DARKEST = 25  # percentile of the tone outside the mask that is taken for the background's
FAR = 6  # pixels, of every second one, beyond which scatter from the breast no longer brightens its background
BRIGHTEST = 90  # percentile of the tone far from the mask that its labels reach; few pixels of a background do
MOST_BRIGHTER = 0.6  # of the pixels next to the mask that may be brighter than that: faint skin is
MOST_DARKER = 0.65  # of the pixels next to the mask that may be darker than a quarter of those far from it
# of the difference between the rim and its background: how far the middle half of the background's tones may spread
MOST_SPREAD = 0.4
ANGLES = np.radians(np.arange(0, 180, 3))  # of the lines that an outline is compared with
LONGEST_STRAIGHT = 0.4  # of the image's longer side: a longer straight outline is that of a film, shadow or ramp
MOST_EVEN = 0.35  # of the mask: more of one tone with all its neighbours is no tissue


def _doubts(tone: np.ndarray, mask: np.ndarray, chest_wall: str | None) -> tuple[Note, ...]:
    """Return notes on a mask that may hold background or lack tissue; every second row and column is read."""
    smooth, tone, mask = smoothed(tone)[::2, ::2], tone[::2, ::2], mask[::2, ::2]
    sides = {"left": mask[:, 0].mean(), "right": mask[:, -1].mean()}
    across = min(sides.values()) > ACROSS
    across |= chest_wall is not None and sides["left" if chest_wall == "right" else "right"] > ACROSS
    codes = ["breast_reaches_across"] if across else []
    codes += _doubts_outside(smooth, tone, mask)
    codes += ["breast_outline_straight"] if _longest_straight(mask, chest_wall) > LONGEST_STRAIGHT else []
    codes += ["breast_even"] if _even_fraction(tone, mask) > MOST_EVEN else []
    return tuple(Note(code) for code in codes)


def _doubts_outside(smooth: np.ndarray, tone: np.ndarray, mask: np.ndarray) -> list[str]:
    """Return codes of what is unusual right outside a mask: next to a whole breast a background is even."""
    near, inner = dilated(mask, 2), eroded(mask, 2)
    beside, rim, far = dilated(near, 4) & ~near, inner & ~eroded(inner, 4), ~dilated(mask, FAR)
    if not (beside.any() and rim.any()):
        return []
    background = np.percentile(smooth[~near], DARKEST)
    contrast = np.median(smooth[rim]) - background
    bright = (smooth[beside] - background > BEYOND * contrast).mean() > MOST_BEYOND
    uneven = False
    if far.any():
        dark = np.percentile(smooth[far], 25)
        # brighter than the breast's rim are labels, and what is beyond the film; next to the mask they are `bright`
        dimmer = smooth[far & (smooth <= max(background + contrast, dark))]
        middle = np.percentile(dimmer, [25, 75])
        uneven = np.ptp(middle) > MOST_SPREAD * contrast or (smooth[beside] < dark).mean() > MOST_DARKER
        # a single level of a dark film may be its skin, which only the order of tones shows
        bright |= (tone[beside] > np.percentile(tone[far], BRIGHTEST)).mean() > MOST_BRIGHTER
    return ["bright_beyond_breast"] * bool(bright) + ["background_uneven"] * bool(uneven)


def _longest_straight(mask: np.ndarray, chest_wall: str | None) -> float:
    """Return how much of a mask's outline is on one line, as a fraction of the longer side.

    The edges of the image and the side of the chest wall, where a film may end, do not count.
    """
    mask = mask[:, ::-1] if chest_wall == "right" else mask
    inside = np.pad(mask, 1, mode="edge")
    i, j = np.nonzero(mask & ~(inside[1:-1, 2:] & inside[2:, 1:-1] & inside[:-2, 1:-1]))
    if not len(i):
        return 0.0
    distances = np.rint(i[:, None] * np.cos(ANGLES) + j[:, None] * np.sin(ANGLES)).astype(np.intp)
    distances -= distances.min()
    lines = distances + (distances.max() + 1) * np.arange(len(ANGLES))
    return float(np.bincount(lines.ravel()).max() / max(mask.shape))


def _even_fraction(tone: np.ndarray, mask: np.ndarray) -> float:
    """Return the fraction of the pixels of a mask that have the tone of all their neighbours."""
    down, across = tone[1:] == tone[:-1], tone[:, 1:] == tone[:, :-1]
    even = down[1:, 1:-1] & down[:-1, 1:-1] & across[1:-1, 1:] & across[1:-1, :-1]
    return float((even & mask[1:-1, 1:-1]).sum() / max(1, np.count_nonzero(mask)))


def much_smaller(fractions: Sequence[float]) -> list[bool]:
    """Return which breasts cover much less of their image than the others of a collection do.

    Args:
        fractions: Fraction of each image that its breast's mask covers; 0 if no breast was found.
    """
    found = [fraction for fraction in fractions if fraction > 0]
    return [0 < fraction < MUCH_SMALLER * float(np.median(found)) for fraction in fractions]


# The pectoral muscle in an oblique view: the bright corner above a straight edge.
#
# Its edge is taken for a straight line from the image's top to the chest wall, as in Karssemeijer 1998 (Phys. Med.
# Biol. 43:365). All lines of a grid are judged at once by how much brighter the image is on the muscle's side.

SMALLEST_BREAST = 20  # pixels of height and width of a view: in a smaller one no line can be judged
SAMPLES = 48  # points along a line
TOPS = np.linspace(0.15, 1.0, 30)  # where a line begins, as a fraction of the breast's width
SIDES = np.linspace(0.2, 1.0, 33)  # where it ends, as a fraction of the breast's height
STEEPEST_ANGLE, FLATTEST_ANGLE = 78.0, 30.0  # degrees from the horizontal; outside them it is skin or a fold
HALF_BAND = 0.02  # of the longer side: how far to each side of the line the brightness is compared
LEAST_MUSCLE_STEP = 0.02  # of the range of intensity, across the edge, to count as a step
LEAST_EDGE = 0.7  # of the line that must show a step: the gland covers the edge in part
MOST_STEP = 0.1  # of the range of intensity: a stronger step, such as a gland's, may not outweigh the rest of the line


def pectoral_mask(view: np.ndarray, mask: np.ndarray, chest_wall: str) -> np.ndarray | None:
    """Return the pectoral muscle in a small view of an oblique mammogram.

    Args:
        view: Intensity (height, width); tissue is bright.
        mask: Mask of the breast with the muscle, bool (height, width).
        chest_wall: Side of the image that the chest wall is at, "left" or "right".

    Returns:
        bool (height, width), inside the mask; ``None`` if no convincing edge was found.
    """
    if chest_wall == "right":
        found = pectoral_mask(view[:, ::-1], mask[:, ::-1], "left")
        return None if found is None else found[:, ::-1]
    rows, columns = np.flatnonzero(mask.any(1)), np.flatnonzero(mask.any(0))
    if min(len(rows), len(columns)) < SMALLEST_BREAST:
        return None
    top, left = rows[0], columns[0]
    tops, sides = _possible_edges(rows[-1] + 1 - top, columns[-1] + 1 - left)
    steps = _steps(ndimage.uniform_filter(view.astype(np.float32), 5), mask, (top, left), tops, sides)
    scale = float(np.ptp(view[mask]))
    score = np.clip(steps, -MOST_STEP * scale, MOST_STEP * scale).mean(1) * np.sqrt(np.hypot(tops, sides))
    score[(steps > LEAST_MUSCLE_STEP * scale).mean(1) < LEAST_EDGE] = -1
    best = int(score.argmax())
    if score[best] <= 0:
        return None
    i, j = np.ogrid[: view.shape[0], : view.shape[1]]
    inside = (j - left) / tops[best] + (i - top) / sides[best] < 1
    return np.asarray(inside & mask)


def _possible_edges(height: int, width: int) -> tuple[np.ndarray, np.ndarray]:
    """Return for each line of the grid its distance from the corner along the top and along the chest wall."""
    tops, sides = (grid.ravel() for grid in np.meshgrid(TOPS * width, SIDES * height))
    angle = np.degrees(np.arctan2(sides, tops))
    possible = (angle > FLATTEST_ANGLE) & (angle < STEEPEST_ANGLE)
    return tops[possible], sides[possible]


def _steps(
    smooth: np.ndarray, mask: np.ndarray, corner: tuple[int, int], tops: np.ndarray, sides: np.ndarray
) -> np.ndarray:
    """Return how much brighter the muscle's side is, (lines, samples); 0 if a point is outside the breast."""
    fraction = (np.arange(SAMPLES) + 0.5) / SAMPLES
    rows = corner[0] + sides[:, None] * fraction
    columns = corner[1] + tops[:, None] * (1 - fraction)
    # the normal towards the breast, with the length of half the band that is compared
    half = HALF_BAND * max(smooth.shape)
    length = np.hypot(tops, sides)
    down, out = (half * tops / length)[:, None], (half * sides / length)[:, None]
    inner, outer = (
        (np.rint(rows + sign * down).astype(np.intp), np.rint(columns + sign * out).astype(np.intp)) for sign in (-1, 1)
    )
    inner, outer = ((np.clip(i, 0, smooth.shape[0] - 1), np.clip(j, 0, smooth.shape[1] - 1)) for i, j in (inner, outer))
    return np.where(mask[outer] & mask[inner], smooth[inner] - smooth[outer], 0)


# Binary morphology by squares: measured to be faster on these masks than scipy's and scikit-image's.


def dilated(mask: np.ndarray, radius: int) -> np.ndarray:
    """Return a mask, bool (height, width), widened by a square of 2 * radius + 1 pixels."""
    return _over_squares(np.logical_or, mask, radius)


def eroded(mask: np.ndarray, radius: int) -> np.ndarray:
    """Return a mask narrowed by a square of 2 * radius + 1 pixels; outside the image is empty, so bands there go."""
    return _over_squares(np.logical_and, mask, radius)


def _over_squares(combine: np.ufunc, mask: np.ndarray, radius: int) -> np.ndarray:
    """Combine the pixels in the square around each pixel; those outside the image are ``False``.

    A run of 2 n pixels is made of two runs of n, so the steps grow with the logarithm of the radius.
    """
    found = np.pad(mask, radius)
    for _ in range(2):
        length, wanted = 1, 2 * radius + 1
        while length < wanted:
            step = min(length, wanted - length)
            found = combine(found[:-step], found[step:])
            length += step
        found = found.T
    return found


def connected(region: np.ndarray, seed: np.ndarray) -> np.ndarray:
    """Return the part of a region that is connected with the seed, which is a connected part of it."""
    found = np.zeros(region.shape, bool)
    box = _box_of(region)
    regions, _ = ndimage.label(region[box])
    found[box] = regions == regions.ravel()[seed[box].argmax()]
    return found


def without_holes(mask: np.ndarray) -> np.ndarray:
    """Fill what the mask encloses, alone or together with the image's left or right edge (the chest wall)."""
    box = _box_of(mask)
    inside = mask[box]
    closed = np.pad(inside, 1)
    for edge, at_edge in ((0, box[1].start == 0), (-1, box[1].stop == mask.shape[1])):
        touching = np.flatnonzero(inside[:, edge]) if at_edge and inside.size else np.zeros(0, np.intp)
        if len(touching):
            closed[touching[0] + 1 : touching[-1] + 2, edge] = True
    regions, _ = ndimage.label(~closed)
    # the padding's rim is one region, or two, above and below, if both edges are closed; all else is enclosed
    filled = mask.copy()
    filled[box] = (regions != regions[0, 0])[1:-1, 1:-1] & (regions != regions[-1, 0])[1:-1, 1:-1]
    return filled


def _box_of(mask: np.ndarray) -> tuple[slice, slice]:
    """Return the rows and columns that a mask covers."""
    rows, columns = np.flatnonzero(mask.any(1)), np.flatnonzero(mask.any(0))
    if not len(rows):
        return slice(0, 0), slice(0, 0)
    return slice(int(rows[0]), int(rows[-1]) + 1), slice(int(columns[0]), int(columns[-1]) + 1)
