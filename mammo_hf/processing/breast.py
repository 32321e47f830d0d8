"""Finding the breast in a displayed mammogram: its mask, the box around it, and on which side the chest wall lies."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from scipy import ndimage

if TYPE_CHECKING:
    from .geometry import Geometry

# Which pixels of a mammogram show the breast: everything else is film, labels, wedges, frames and collimator edges.
#
# Works on a small view of the image, without loops over pixels. A few thresholds between background and skin are tried;
# the region is taken that has a breast's shape and a steep, smooth outline all around.


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
FLATTEST_FRACTION = 0.15  # of an outline may be as flat as it likes: skin folds, labels, the chest wall


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
    flattest = np.partition(steps, int(FLATTEST_FRACTION * len(steps)))[int(FLATTEST_FRACTION * len(steps))]
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


# The faint rim of a breast: skin, nipple and the thin fat under them, which lie between the breast and its background.
#
# A threshold that parts a breast from its background over the whole film leaves out what is hardly brighter than that
# background. Close to the breast the background is known better, so a lower threshold can be used there.


REACH = 0.05  # of the longer side: how far beyond a breast's outline its skin is looked for
LEAST_SKIN_STEP = 0.15  # of the way from the background to the outline's brightness: what skin has at least
LEAST_DEVIATIONS = 4.0  # and in deviations of the background
# of the longer side: half the width of what is no skin (scratches, frames, letters that touch it)
NARROW = 0.008
MOST_AT_REACH = 0.3  # of what lies as far out as is looked for: where more is that bright, it is background that glows
LEAST_LIT = 0.25  # of the background, where it is not the darkest value itself as beyond the film's edge


def with_faint_skin(smooth: np.ndarray, mask: np.ndarray) -> np.ndarray:
    """A breast's mask, grown to its skin line.

    Args:
        smooth: Intensity (height, width) without its noise; tissue is brighter than the background.
        mask: bool, likewise: the breast, one connected region.

    Returns:
        bool (height, width), the mask and what was added to it.
    """
    longest = max(mask.shape)
    reach, narrow = max(1, round(REACH * longest)), max(1, round(NARROW * longest))
    near = dilated(mask, reach)
    threshold = _threshold(smooth, mask, dilated(near, reach) & ~near)
    if threshold is None:
        return mask
    bright = near & ((smooth > threshold) | mask)
    grown = connected(dilated(eroded(bright, narrow), narrow) | mask, mask)
    furthest = near & ~dilated(mask, reach - 1)
    if np.count_nonzero(grown & furthest) > MOST_AT_REACH * np.count_nonzero(furthest):
        return mask
    return without_holes(grown)


def _threshold(smooth: np.ndarray, mask: np.ndarray, background: np.ndarray) -> float | None:
    """The intensity above which a pixel beside the breast is skin; ``None`` where there is no room for one."""
    values = smooth[background]
    lit = values[values > smooth.min()]
    values = lit if len(lit) > LEAST_LIT * len(values) else values
    if not len(values):
        return None
    level = float(np.median(values))
    deviation = 1.4826 * float(np.median(np.abs(values - level)))  # of a normal distribution
    outline = float(np.median(smooth[mask & ~eroded(mask, 1)]))
    threshold = level + max(LEAST_DEVIATIONS * deviation, LEAST_SKIN_STEP * (outline - level))
    return threshold if threshold < outline else None


# The exposed field of a mammogram: what a collimator or a scanner has left bright and even along the edges is no part.
#
# Such an edge is as bright as the breast and may touch it, so no threshold parts the two. But along the whole side it
# has one value, and it ends at a straight line.


EVEN = 0.05  # of the range of intensity: how far a pixel may be from its line's median
ALL = 0.9  # of a line within the collimated edge that must be as even as that
STEEP = 0.15  # of the range of intensity, what the edge differs from what lies beyond it
REST = 0.6  # of the first line beyond it that may differ less: where a breast of that brightness touches it
STEP = 3  # pixels over which the edge may end
BRIGHT = 0.2  # of the range of intensity above the darkest, what the edge has at least
THICKEST = 0.3  # of the height or width


def exposed_field(view: np.ndarray) -> tuple[slice, slice]:
    """Rows and columns of a view that lie within its collimated edges; all of them where there are none.

    Args:
        view: Intensity (height, width).
    """
    low, high = float(view.min()), float(view.max())
    rows = _between(view, low, high)
    return rows, _between(view[rows].T, low, high)


def _between(lines: np.ndarray, low: float, high: float) -> slice:
    return slice(_thickness(lines, low, high), len(lines) - _thickness(lines[::-1], low, high))


def _thickness(lines: np.ndarray, low: float, high: float) -> int:
    """How many of the first lines are a collimated edge."""
    level = float(np.median(lines[0]))
    if level - low <= BRIGHT * (high - low):
        return 0
    apart = np.abs(lines[: int(THICKEST * len(lines)) + STEP] - level) / (high - low)
    uneven = np.flatnonzero((apart <= EVEN).mean(1) < ALL)
    if not len(uneven) or not uneven[0]:
        return 0
    # a breast that fills the image is bright and even, too, but its brightness fades
    after = np.flatnonzero((apart[uneven[0] : uneven[0] + STEP] <= STEEP).mean(1) < REST)
    return int(uneven[0] + after[0]) if len(after) else 0


# The pectoral muscle in an oblique view: the bright corner above a straight edge.
#
# Its edge is taken for a straight line from the image's top to the chest wall, as in Karssemeijer 1998 (Phys. Med.
# Biol. 43:365). All lines of a grid are judged at once by how much brighter the image is on the muscle's side.


SAMPLES = 48  # points along a line
TOPS = np.linspace(0.15, 1.0, 30)  # where a line begins, as a share of the breast's width
SIDES = np.linspace(0.2, 1.0, 33)  # where it ends, as a share of the breast's height
STEEPEST_ANGLE, FLATTEST_ANGLE = 78.0, 30.0  # degrees from the horizontal
LEAST_MUSCLE_STEP = 0.02  # of the range of intensity, across the edge
LEAST_SHARE = 0.7  # of the line that must show a step


def pectoral_mask(view: np.ndarray, mask: np.ndarray, chest_wall: str) -> np.ndarray | None:
    """The pectoral muscle in a small view of an oblique mammogram.

    Args:
        view: Intensity (height, width); tissue is bright.
        mask: bool, likewise: the breast with the muscle.
        chest_wall: "left" or "right".

    Returns:
        bool (height, width), inside the mask; ``None`` where no convincing edge was found.
    """
    if chest_wall == "right":
        found = pectoral_mask(view[:, ::-1], mask[:, ::-1], "left")
        return None if found is None else found[:, ::-1]
    rows, columns = np.flatnonzero(mask.any(1)), np.flatnonzero(mask.any(0))
    if len(rows) < 20 or len(columns) < 20:
        return None
    top, left = rows[0], columns[0]
    height, width = rows[-1] + 1 - top, columns[-1] + 1 - left
    tops, sides = (grid.ravel() for grid in np.meshgrid(TOPS * width, SIDES * height))
    angle = np.degrees(np.arctan2(sides, tops))
    possible = (angle > FLATTEST_ANGLE) & (angle < STEEPEST_ANGLE)
    tops, sides = tops[possible], sides[possible]
    steps = _steps(ndimage.uniform_filter(view.astype(np.float32), 5), mask, (top, left), tops, sides)
    scale = float(np.ptp(view[mask]))
    convincing = (steps > LEAST_MUSCLE_STEP * scale).mean(1)
    # no single strong edge, as a gland's, may outweigh the rest of the line
    score = np.clip(steps, -0.1 * scale, 0.1 * scale).mean(1) * np.sqrt(np.hypot(tops, sides))
    score[convincing < LEAST_SHARE] = -1
    best = int(score.argmax())
    if score[best] <= 0:
        return None
    i, j = np.ogrid[: view.shape[0], : view.shape[1]]
    inside = (j - left) / tops[best] + (i - top) / sides[best] < 1
    return np.asarray(inside & mask)


def _steps(
    smooth: np.ndarray, mask: np.ndarray, corner: tuple[int, int], tops: np.ndarray, sides: np.ndarray
) -> np.ndarray:
    """How much brighter the muscle's side is, (lines, samples); 0 where a point lies outside the breast."""
    share = (np.arange(SAMPLES) + 0.5) / SAMPLES
    rows = corner[0] + sides[:, None] * share
    columns = corner[1] + tops[:, None] * (1 - share)
    # the normal towards the breast, with the length of half the band that is compared
    half = 0.02 * max(smooth.shape)
    length = np.hypot(tops, sides)
    down, out = (half * tops / length)[:, None], (half * sides / length)[:, None]
    inner, outer = (
        (np.rint(rows + sign * down).astype(np.intp), np.rint(columns + sign * out).astype(np.intp)) for sign in (-1, 1)
    )
    inner, outer = ((np.clip(i, 0, smooth.shape[0] - 1), np.clip(j, 0, smooth.shape[1] - 1)) for i, j in (inner, outer))
    return np.where(mask[outer] & mask[inner], smooth[inner] - smooth[outer], 0)


LONGEST_SIDE = 256  # pixels of the subsampled view that is searched, up to twice as many less one
MARGIN = 0.02  # of the image's longer side
# times the tissue of the other side: what the side of the chest wall has at least
CHEST_WALL_RATIO = 1.2
# of the image: a dark region this large on a bright background is a breast shown as a negative
LEAST_NEGATIVE = 0.15
NOTED_FIELD = 0.95  # of the image: a scanner's narrow edge is not worth a word
MOST_RIM = 0.65  # of the image's rim; a region that covers more of it may be the background


@dataclass(frozen=True, eq=False)
class Breast:
    """Where the breast lies.

    Args:
        box: (top, left, bottom, right) in source pixels, exclusive at the end; the whole image where
            nothing stands out.
        mask: bool (rows, columns) of the view: entry (i, j) stands for the ``stride`` x ``stride`` source pixels from
            (i * stride, j * stride) on; all ``False`` where nothing stands out.
        stride: Source pixels a pixel of the mask.
        chest_wall: "left" or "right": the side of the image; ``None`` where nothing tells.
        negative: Whether tissue is dark on a bright background.
        notes: What was unusual, as short texts.
        pectoral: As ``mask``, the pectoral muscle; ``None`` where it was not looked for or not found.
        field: Rows and columns of the mask that lie within bright collimated edges.
    """

    box: tuple[int, int, int, int]
    mask: np.ndarray
    stride: int = 1
    chest_wall: str | None = None
    negative: bool = False
    notes: tuple[str, ...] = ()
    pectoral: np.ndarray | None = None
    field: tuple[slice, slice] = (slice(None), slice(None))

    def widened(self, margin: int) -> Breast:
        """With ``margin`` pixels of the mask added around the mask, within the field; the box stays."""
        mask = np.zeros(self.mask.shape, bool)
        mask[self.field] = dilated(self.mask, margin)[self.field]
        return replace(self, mask=mask)

    def mask_at(self, rows: np.ndarray, columns: np.ndarray) -> np.ndarray:
        """Whether source pixels belong to the breast.

        Args:
            rows: (height,) positions in source pixels, those outside the image count as its edge.
            columns: (width,) likewise.

        Returns:
            bool (height, width): one entry for each pair of a row and a column.
        """
        return sampled(self.mask, rows, columns, self.stride)

    def columns_of(self, rows: slice) -> slice:
        """The columns between which the mask lies in some rows, in source pixels; none where it does not."""
        band = self.mask[rows.start // self.stride : -(-rows.stop // self.stride)].any(0)
        columns = np.flatnonzero(band)
        return slice(int(columns[0]) * self.stride, int(columns[-1] + 1) * self.stride) if len(columns) else slice(0, 0)

    def on_canvas(self, geometry: Geometry, *, cell: int = 1) -> np.ndarray:
        """Where the breast lies on the model's canvas, without a pectoral muscle that was looked for and found.

        Args:
            geometry: From source pixels to the canvas.
            cell: Side in canvas pixels of what one entry stands for, by its centre.

        Returns:
            bool (height // cell, width // cell); false in the padding.
        """
        centres = [(np.arange(side // cell) + 0.5) * cell for side in geometry.size]
        rows, columns = (geometry.to_source(np.stack([c, c], axis=-1))[:, i] for i, c in enumerate(centres))
        shown_rows, shown_columns = (
            (c > start) & (c < start + length)
            for c, start, length in zip(centres, geometry.offset, geometry.resized, strict=True)
        )
        inside = self.mask_at(rows, columns) & shown_rows[:, None] & shown_columns
        return inside if self.pectoral is None else inside & ~sampled(self.pectoral, rows, columns, self.stride)


def sampled(mask: np.ndarray, rows: np.ndarray, columns: np.ndarray, stride: int) -> np.ndarray:
    """The entries of a strided mask at source positions: (height,) and (width,) give (height, width)."""
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
    """Finds the breast: the region with the steepest and smoothest outline that has a breast's shape.

    Args:
        intensity: (height, width) in [0, 1], every ``stride``-th pixel of the image.
        stride: Of the subsampling.
        size: (height, width) of the whole image; the intensity's where not given.
        margin: Around the breast on all sides but that of the chest wall, as a share of the image's longer side.
        expected_chest_wall: The side that the header speaks for; used where the image does not tell, and otherwise
            only compared.
        pectoral: Whether to look for the pectoral muscle, as in an oblique view.

    Returns:
        The breast; the whole image as its box where nothing stands out from the background.
    """
    height, width = size or intensity.shape
    field = exposed_field(intensity)
    mask = np.zeros(intensity.shape, bool)
    mask[field], negative = _mask_and_polarity(intensity[field])
    if not mask.any():
        return Breast((0, 0, height, width), mask, stride, expected_chest_wall, notes=("no breast was found",))
    seen = _chest_wall(mask)
    notes = []
    if mask[field].size < NOTED_FIELD * mask.size:
        notes.append("bright edges around the exposed field are left out")
    if negative:
        notes.append("tissue is dark on a bright background")
    if seen is None:
        notes.append("the side of the chest wall is not clear from the image")
    elif expected_chest_wall not in (None, seen):
        notes.append(
            f"the header speaks for a chest wall at the {expected_chest_wall}, the image shows it at the {seen}"
        )
    chest_wall = seen or expected_chest_wall
    limits = _limits(field, intensity.shape, stride, (height, width))
    box = _box(mask, chest_wall, stride, limits, round(margin * max(height, width)))
    muscle = None
    if pectoral and chest_wall is not None:
        muscle = pectoral_mask(-intensity if negative else intensity, mask, chest_wall)
    return Breast(box, mask, stride, chest_wall, negative, tuple(notes), muscle, field)


def _mask_and_polarity(intensity: np.ndarray) -> tuple[np.ndarray, bool]:
    """The breast's mask, and whether it was found in the negative."""
    region = breast_region(intensity)
    if rim_share(region.mask) < MOST_RIM:
        return with_faint_skin(region.smooth, region.mask), False
    # it lies around the image as a background does: is there a breast in the negative?
    other = breast_region(-intensity)
    found = other.shaped and other.mask.mean() >= LEAST_NEGATIVE and rim_share(other.mask) < MOST_RIM
    return (with_faint_skin(other.smooth, other.mask), True) if found else (region.mask, False)


def _chest_wall(mask: np.ndarray) -> str | None:
    """The side with more tissue: a breast is widest at the chest wall and ends at the nipple."""
    columns = np.flatnonzero(mask.any(0))
    inside = mask[:, columns[0] : columns[-1] + 1]
    third = max(inside.shape[1] // 3, 1)
    left, right = int(inside[:, :third].sum()), int(inside[:, -third:].sum())
    if max(left, right) < CHEST_WALL_RATIO * min(left, right):
        return None
    return "left" if left > right else "right"


def _box(
    mask: np.ndarray, chest_wall: str | None, stride: int, limits: tuple[int, int, int, int], margin: int
) -> tuple[int, int, int, int]:
    """The box in source pixels; at the chest wall the breast runs into the edge of the film, so no margin there."""
    rows, columns = np.flatnonzero(mask.any(1)), np.flatnonzero(mask.any(0))
    # the true edge lies within a step of the view's pixel
    margin += stride
    top, bottom = rows[0] * stride - margin, (rows[-1] + 1) * stride + margin
    left = columns[0] * stride - (0 if chest_wall == "left" else margin)
    right = (columns[-1] + 1) * stride + (0 if chest_wall == "right" else margin)
    first, start, last, end = limits
    return int(max(top, first)), int(max(left, start)), int(min(bottom, last)), int(min(right, end))


def _limits(
    field: tuple[slice, slice], shape: tuple[int, ...], stride: int, size: tuple[int, int]
) -> tuple[int, int, int, int]:
    """What the box may reach, in source pixels: the image, or the rows and columns surely within collimated edges."""
    first, start = (side.start * stride for side in field)
    last, end = (
        length if side.stop == steps else (side.stop - 1) * stride + 1
        for side, steps, length in zip(field, shape, size, strict=True)
    )
    return first, start, last, end
