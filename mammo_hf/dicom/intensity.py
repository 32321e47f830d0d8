"""One table from stored value to displayed intensity: the whole grayscale pipeline, computed once per file.

Modality LUT or rescale (PS3.3 C.11.1), then VOI LUT or window (C.11.2), then inversion for MONOCHROME1 (C.7.6.3.1.2),
then padding (C.7.5.1.1.2). 0 and 1 are the ends of the range that the VOI stage can give, so that nothing depends on
which values one image happens to hold.

Where pydicom departs from the standard, the standard is followed: with a negative RescaleSlope ``apply_windowing``
swaps the ends of the output range and so inverts the picture (C.11.2.1.2 has the lowest input at the lowest output);
with a Modality LUT *and* a rescale it applies the rescale to the output range alone; a VOI or modality index can wrap
around, and the output range of a VOI LUT is what its descriptor says (see ``lookup_table``); and it does not know
padding.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial

import numpy as np
from pydicom.dataset import Dataset
from scipy import ndimage

from ..notes import Note
from .display import NORMAL, Display, otsu
from .parsing import differs_by_frame, group_of_frame, items, numbers, optional_word, text, texts, words
from .pixels import ImagePixel, StoredFrames
from .types import MammogramError, Photometric, PresentationIntent

Transform = Callable[[np.ndarray], np.ndarray]


@dataclass(frozen=True)
class IntensityTable:
    """The displayed intensity of each stored value.

    Attributes:
        values: float32 in [0, 1], ``(2 ** bits_stored,)``.
        first_stored_value: The stored value of entry 0.
        source: Description of the VOI rule that was used.
        notes: Notes on attributes that were passed over, and on a rule that shows nothing of a plain image.
    """

    values: np.ndarray
    first_stored_value: int
    source: str
    notes: tuple[Note, ...] = ()


def intensity_tables(
    dataset: Dataset, image: ImagePixel, intent: PresentationIntent, display: Display, frames: StoredFrames
) -> tuple[IntensityTable, ...]:
    """Build one table for all frames, or one per frame if their own functional groups say how values are displayed.

    Args:
        dataset: The image.
        image: The Image Pixel module of the image.
        intent: Purpose of the image.
        display: The choices of the reader.
        frames: The frames of the image; the middle one is measured if the display needs it.

    Raises:
        MammogramError: So many frames have windows of their own that their tables would take all memory.
    """

    def table(frame: int) -> IntensityTable:
        middle = image.frames // 2
        return intensity_table(
            dataset, image, intent, display, lambda: frames[middle], frame, lambda: frames.glance(_GLANCE)
        )

    if image.frames == 1 or not differs_by_frame(dataset, "FrameVOILUTSequence", "PixelValueTransformationSequence"):
        return (table(0),)
    # frames with the same table share it
    known: dict[tuple[bytes, str], IntensityTable] = {}
    found = []
    for made in map(table, range(min(image.frames, _MOST_FRAMES + 1))):
        found.append(known.setdefault((hashlib.sha256(made.values.tobytes()).digest(), made.source), made))
        if len(found) > _MOST_FRAMES or len(known) * made.values.nbytes > _MOST_BYTES:
            problem = "more of its frames have windows of their own than any mammogram's"
            raise MammogramError(problem, remedy="leave the file out", code="hostile")
    return tuple(found) if len(known) > 1 else (found[0],)


_MOST_FRAMES, _MOST_BYTES = 1024, 1 << 27  # frames with windows of their own; bytes of tables: 512 of 16 bits


def intensity_table(
    dataset: Dataset,
    image: ImagePixel,
    intent: PresentationIntent,
    display: Display,
    sample: Callable[[], np.ndarray],
    frame: int = 0,
    glance: Callable[[], np.ndarray] | None = None,
) -> IntensityTable:
    """Build the table of a dataset, or of one of its frames.

    Args:
        dataset: The dataset that has the modality, VOI and padding attributes.
        image: The Image Pixel module of the image.
        intent: Purpose of the image: the window of a For Processing image is used only if the display asks for
            another one than "NORMAL".
        display: The choices of the reader.
        sample: Function that returns the stored values ``(rows, columns)`` that a robust display is measured on.
        frame: Index of the frame that has the functional groups.
        glance: Function that returns as much of them as shows whether anything is seen; ``None``: ``sample``.

    Raises:
        MammogramError: The window that is asked for does not exist, or there is none and the display refuses that.
    """
    notes: list[Note] = []
    # Modality LUT or rescale, of every value that the bits can hold
    first = -(1 << image.bits_stored - 1) if image.signed else 0
    stored = np.arange(first, first + (1 << image.bits_stored), dtype=np.float64)
    modality = _modality_values(dataset, stored, frame, notes)
    # VOI LUT or window, or a rule without them, and inversion
    padding = _is_padding(dataset, stored, notes)
    raw = intent is PresentationIntent.FOR_PROCESSING
    unused = display.window is None or (raw and display.is_normal)
    voi = None if unused else find_voi(dataset, modality, display, notes, frame)
    # a valid mammogram has both or neither (PS3.3 C.8.11.3.1.2), and both together invert once
    inverted = image.photometric is Photometric.MONOCHROME1
    inverted = inverted or text(dataset, "PresentationLUTShape").upper() == "INVERSE"
    if voi is not None:
        source, transform = voi
        intensity = 1.0 - transform(modality) if inverted else transform(modality)
    elif display.on_missing_window == "raise":
        problem = "is For Processing: its values are not for display" if raw else "has no window and no VOI LUT"
        raise MammogramError(problem, remedy='allow a rule of ours with on_missing_window="robust"')
    else:
        signal = processing_signal(dataset, image.photometric, notes) if raw else None
        measured = sample if display.on_missing_window == "robust" else None
        intensity, source = _without_window(modality, first, padding, inverted, signal, measured)
    # Padding is background
    intensity[padding] = 0.0
    values = intensity.astype(np.float32)
    values.flags.writeable = False
    if image.frames == 1:
        notes += _display_notes(values, _subsampled((glance or sample)(), first, _GLANCE), padding, source)
    return IntensityTable(values, first, f"{source}, For Processing" if raw else source, tuple(dict.fromkeys(notes)))


def _display_notes(values: np.ndarray, index: np.ndarray, padding: np.ndarray, source: str) -> list[Note]:
    """Return the note on a rule that shows almost nothing of an image: white or black all over.

    Args:
        values: Intensity of each possible stored value.
        index: Indices of the image's stored values, subsampled.
        padding: Which entries are padding.
        source: Description of the rule.
    """
    seen = index[~padding[index]]
    if not seen.size or np.ptp(seen) == 0:
        return []
    low, high = np.percentile(values[seen], (0.5, 99.5))
    return [Note("window_beside_values", rule=source, percent=f"{100 * (high - low):.1f}")] if high - low < SEEN else []


def _is_padding(dataset: Dataset, stored: np.ndarray, notes: list[Note]) -> np.ndarray:
    """Return which stored values are padding: PixelPaddingValue, up to PixelPaddingRangeLimit on whichever side."""
    value = optional_word(dataset, "PixelPaddingValue", notes)
    if value is None:
        return np.zeros(len(stored), bool)
    limit = optional_word(dataset, "PixelPaddingRangeLimit", notes)
    ends = [value, value if limit is None else limit]
    if stored[0] < 0:
        ends = [end - 0x10000 if end >= 0x8000 else end for end in ends]
    return (stored >= min(ends)) & (stored <= max(ends))


# Modality: look-up table or rescale (PS3.3 C.11.1).


def _modality_values(dataset: Dataset, stored: np.ndarray, frame: int, notes: list[Note]) -> np.ndarray:
    """Return the modality value of each stored value: by the first LUT or rescale that leaves a range of values."""
    transforms: list[Transform] = []
    for item in items(dataset, "ModalityLUTSequence")[:1]:
        if (found := _lookup_table(item, "modality LUT", stored, notes)) is not None:
            transforms.append(found[0])
    # a multi-frame image may hold it in the Pixel Value Transformation functional group (PS3.3 C.7.6.16.2.9)
    for holder in (*group_of_frame(dataset, "PixelValueTransformationSequence", frame), dataset):
        slopes, intercepts = numbers(holder, "RescaleSlope", notes), numbers(holder, "RescaleIntercept", notes)
        if slopes and intercepts:
            transforms.append(partial(_rescaled, slope=slopes[0], intercept=intercepts[0]))
    for transform in transforms:
        values = transform(stored)
        if 0 < np.ptp(values) < np.inf:
            return values
        notes.append(Note("modality_meaningless"))
    return stored


def _rescaled(stored: np.ndarray, slope: float, intercept: float) -> np.ndarray:
    with np.errstate(over="ignore", invalid="ignore"):
        return stored * slope + intercept


def _lookup_table(item: Dataset, kind: str, inputs: np.ndarray, notes: list[Note]) -> tuple[Transform, int] | None:
    """Return a look-up table as `lookup_table` does, or ``None`` and a note if it is malformed."""
    try:
        return lookup_table(item, kind, float(inputs.min()), float(inputs.max()), notes)
    except MammogramError as error:
        notes.append(Note("lut_malformed", problem=error.problem))
        return None


def lookup_table(item: Dataset, kind: str, low: float, high: float, notes: list[Note]) -> tuple[Transform, int] | None:
    """Return the look-up table of a sequence item (PS3.3 C.11.1.1 and C.11.2.1.1), or ``None`` if the item is empty.

    An input outside the table takes its first or last entry; an input that is not a whole number, after a fractional
    rescale, takes the entry below, as in pydicom. pydicom computes the index in the type of the entries or of the
    input, where it can wrap around (300 becomes 44 for 8-bit entries); PS3.3 C.11.2.1.1 asks for the last entry there.

    Args:
        item: The item of ModalityLUTSequence or VOILUTSequence.
        kind: "modality LUT" or "VOI LUT", for messages.
        low: The lowest input that can occur.
        high: The highest input that can occur.
        notes: List that gets a note on a descriptor that announces other bits than the entries have.

    Returns:
        A function from inputs of any range to outputs, float64, and the bits of the outputs: those of the largest
        entry. The descriptor's third value is no guide to them: several makers write the size of a word there, and
        pydicom, which believes it, shows 12-bit entries called 16-bit as almost black.

    Raises:
        MammogramError: The descriptor and the data do not match.
    """
    descriptor, data = words(item, "LUTDescriptor"), words(item, "LUTData")
    if not len(descriptor) and not len(data):
        return None
    bits = int(descriptor[2]) if len(descriptor) == 3 else 0
    count = (int(descriptor[0]) or 1 << 16) if len(descriptor) else 0
    # 8-bit entries may be packed two to a word, the first in the low byte (PS3.3 C.11.1.1.1)
    if bits <= 8 and len(data) == (count + 1) // 2 < count:
        data = data.astype("<u2").view(np.uint8)
    if not count or len(data) < count:
        raise MammogramError(
            f"the {kind}'s descriptor says {count} entries of {bits} bits, its data hold {len(data)}",
            remedy="fix the sequence or remove it",
        )
    entries = data[:count].astype(np.float64)
    first = _signed_if_needed(int(descriptor[1]), low, high)

    def transform(values: np.ndarray) -> np.ndarray:
        return entries[np.clip(values - first, 0, count - 1).astype(np.intp)]

    needed = max(1, int(entries.max()).bit_length())
    if needed != bits:
        notes.append(Note("lut_bits_contradicted", lut=kind, bits=bits, needed=needed))
    return transform, needed


def _signed_if_needed(word: int, low: float, high: float) -> int:
    """Return the first mapped value, as signed or unsigned, whichever is among the inputs.

    PS3.3 C.11.1.1.1 and C.11.2.1.1 give it the sign of the input; many files give it the wrong type, so the type is
    ignored (pydicom takes the type as written).
    """
    signed = word - 0x10000
    return word if word < 0x8000 or (word <= high and signed < low) else signed


# Values of interest: which window or VOI LUT a file has, and what it makes of a value (PS3.3 C.11.2).

# an explanation is free text of the file, which could hold anything: only the field's own words are repeated
_KNOWN_EXPLANATIONS = (NORMAL, "HARDER", "SOFTER", "BRIGHTER", "DARKER", "USER", "STANDARD", "DEFAULT", "BREAST")


class _NotAmongThemError(MammogramError):
    """There are windows or tables, and the one that is asked for is not among them."""


def find_voi(
    dataset: Dataset, modality: np.ndarray, display: Display, notes: list[Note], frame: int = 0
) -> tuple[str, Transform] | None:
    """Return the VOI rule of a dataset, ``None`` if it has none that means anything.

    A multi-frame image may hold it in the Frame VOI LUT functional group (PS3.3 C.7.6.16.2.10), which takes precedence
    over the attributes at the root. If a file has both kinds, the preferred one is searched first (a VOI LUT, as the
    IHE Mammography Image profile asks of displays), and the other one if that does not have the window that is asked
    for.

    Args:
        dataset: The image.
        modality: Modality value of each value that can occur.
        display: The choices of the reader.
        notes: List that gets a note on each window or table that is passed over.
        frame: Index of the frame that has the functional group.

    Returns:
        A description of the rule, and the function from modality values, float64, to the fraction of the output range,
        float64 in [0, 1].

    Raises:
        MammogramError: The window or table that is asked for does not exist.
    """
    finders = (_find_lut, _find_window) if display.prefer == "lut" else (_find_window, _find_lut)
    missing: MammogramError | None = None
    groups = group_of_frame(dataset, "FrameVOILUTSequence", frame)
    if any(_has_voi(group) for group in groups) and _has_voi(dataset):
        notes.append(Note("window_in_groups_and_root"))
    for holder in (*groups, dataset):
        for find in finders:
            try:
                voi = find(holder, modality, display, notes)
            except _NotAmongThemError as error:
                missing = missing or error
                continue
            if voi is not None:
                return voi
    if missing is not None:
        raise missing
    return None


def _has_voi(holder: Dataset) -> bool:
    return bool(text(holder, "WindowCenter") or items(holder, "VOILUTSequence"))


def _choose(explanations: Mapping[int, str], display: Display) -> tuple[int, str]:
    """Return the index of the one that is asked for among usable ones, and how to name it."""
    upper = {index: explanation.upper() for index, explanation in explanations.items()}
    choice = display.window
    if isinstance(choice, int):
        index, asked = choice, f"number {choice}"
    else:
        wanted, asked = str(choice).strip().upper(), f"explained as {choice}"
        named = [index for index, explanation in upper.items() if explanation == wanted]
        index = next(iter(named or (upper if display.is_normal else ())), -1)
    if index not in upper:
        raise _NotAmongThemError(
            f"has {len(upper)} windows or VOI LUTs, none {asked}", remedy='ask for another one, or for "NORMAL"'
        )
    if upper[index] in _KNOWN_EXPLANATIONS:
        return index, f" '{upper[index]}'"
    return index, f" 1 of {len(upper)}" if len(upper) > 1 else ""


def _find_lut(
    holder: Dataset, modality: np.ndarray, display: Display, notes: list[Note]
) -> tuple[str, Transform] | None:
    found = [(item, _lookup_table(item, "VOI LUT", modality, notes)) for item in items(holder, "VOILUTSequence")]
    filled = [(text(item, "LUTExplanation"), table) for item, table in found if table is not None]
    if not filled:
        return None
    index, name = _choose({index: explanation for index, (explanation, _) in enumerate(filled)}, display)
    transform, bits = filled[index][1]
    return f"VOI LUT{name}", lambda values: transform(values) / float((1 << bits) - 1)


def _find_window(
    holder: Dataset, modality: np.ndarray, display: Display, notes: list[Note]
) -> tuple[str, Transform] | None:
    centers, widths = numbers(holder, "WindowCenter", notes), numbers(holder, "WindowWidth", notes)
    if not centers or not widths:
        return None
    if len(centers) != len(widths):
        notes.append(Note("window_values_contradicted", centers=len(centers), widths=len(widths)))
    function = text(holder, "VOILUTFunction").upper() or "LINEAR"
    if function not in _FUNCTIONS:
        notes.append(Note("voi_function_unknown", known=", ".join(_FUNCTIONS)))
        function = "LINEAR"
    # the distance of two values that follow each other
    step = float(np.ptp(modality)) / (len(modality) - 1)
    functions = [_window_function(function, *pair, step) for pair in zip(centers, widths, strict=False)]
    if "" in functions:
        notes.append(Note("window_meaningless"))
    if set(functions) - {"", function}:
        notes.append(Note("window_width_below_1"))
    names = dict(enumerate(texts(holder, "WindowCenterWidthExplanation")))
    usable = {index: names.get(index, "") for index, found in enumerate(functions) if found}
    if not usable:
        return None
    index, name = _choose(usable, display)
    center, width, chosen = centers[index], widths[index], _FUNCTIONS[functions[index]]
    return f"window{name} ({functions[index]})", lambda values: chosen(values, center, width)


def _window_function(function: str, center: float, width: float, step: float) -> str:
    """Return the function that a window means, "" if it means nothing.

    LINEAR counts values and needs a width of 1 (PS3.3 C.11.2.1.2.1). A width below it that spans several values, as
    after a rescale by a small slope, is a distance: viewers show it as LINEAR_EXACT.
    """
    if not (np.isfinite(center) and width > 0):
        return ""
    if function != "LINEAR" or width >= 1:
        return function
    return "LINEAR_EXACT" if width >= 2 * step else ""


def _linear(values: np.ndarray, center: float, width: float) -> np.ndarray:
    """Apply LINEAR of PS3.3 C.11.2.1.2.1: the width counts values: a ramp one shorter and half a value earlier."""
    return _linear_exact(values, center - 0.5, width - 1)


def _linear_exact(values: np.ndarray, center: float, width: float) -> np.ndarray:
    """Apply LINEAR_EXACT of PS3.3 C.11.2.1.3.2: the width is a distance."""
    if width == 0:
        return (values > center).astype(np.float64)
    # a width of almost nothing overflows to infinity, which is clipped to the right end
    with np.errstate(over="ignore"):
        return np.clip((values - center) / width + 0.5, 0.0, 1.0)


def _sigmoid(values: np.ndarray, center: float, width: float) -> np.ndarray:
    """Apply SIGMOID of PS3.3 C.11.2.1.3.1; its ends are approached and not reached."""
    with np.errstate(over="ignore"):
        return 1.0 / (1.0 + np.exp(-4.0 * (values - center) / width))


_FUNCTIONS = {"LINEAR": _linear, "LINEAR_EXACT": _linear_exact, "SIGMOID": _sigmoid}


# What is displayed if a file says nothing useful about it: no window at all, or raw detector values.
#
# A For Processing image holds the detector's signal, most often proportional to the X-ray beam, so that air is the
# largest value. Its logarithm is linear in the attenuation along the beam (Beer-Lambert), as films and For
# Presentation images are. Its ends are then air and the brightest tissue, both measured on the image itself,
# robustly. An image without window that uses its range is displayed over that range, as pydicom and the standard leave
# it; one that leaves most of it empty (12-bit values called 16-bit) is spread between air and the brightest tissue,
# too.

_LONGEST_SIDE = 512  # pixels of the subsampled view on which the breast is found
_GLANCE = 192  # pixels of the view that shows whether an image uses its range
SEEN = 0.0625  # fraction of the intensities that an image spans below which a rule shows almost nothing of it
_USED = 0.25  # fraction of the range above which the range is believed
_BRIGHTEST = 99.5  # percentile of the breast: calcifications and clips are beyond, and are clipped
# a compressed breast lets through more than 0.5 % of the beam (6 cm at 0.8 / cm, dense tissue at 20 keV): less is no
# exposure, behind a collimator or a marker of lead
_LEAST_EXPOSURE = 1e-3

# How the values of a For Processing image follow the X-ray beam: whether they are proportional to its logarithm, and
# whether more X-rays give higher values; ``None`` if the file does not say
Signal = tuple[bool, bool | None]


def processing_signal(dataset: Dataset, photometric: Photometric, notes: list[Note]) -> Signal:
    """Return how the values follow the beam: by PixelIntensityRelationship and its sign (PS3.3 C.8.11.3.1.2).

    Without a sign it is MONOCHROME1 that says so: dense tissue is white.
    """
    sign = optional_word(dataset, "PixelIntensityRelationshipSign", notes)
    rising = sign == 1 if sign in (1, 0xFFFF) else photometric is Photometric.MONOCHROME1 or None
    return text(dataset, "PixelIntensityRelationship").upper() in ("LOG", "DISP"), rising


def _without_window(
    modality: np.ndarray,
    first: int,
    padding: np.ndarray,
    inverted: bool,
    signal: Signal | None,
    sample: Callable[[], np.ndarray] | None,
) -> tuple[np.ndarray, str]:
    """Return the intensity of each stored value, and a description of the rule."""
    if sample is not None:
        stored = sample()
        if signal is not None or not _uses_its_range(stored, modality, first, padding):
            found = _robust_intensity(stored, modality, first, padding, inverted, signal)
            if found is not None:
                rule = "percentiles inside the breast (no window)"
                return found, rule if signal is None or signal[0] else f"log, {rule}"
    low = modality.min()
    fraction = (modality - low) / (modality.max() - low)
    return (1.0 - fraction if inverted else fraction), "full range (no window)"


def _uses_its_range(frame: np.ndarray, modality: np.ndarray, first: int, padding: np.ndarray) -> bool:
    """Return whether an image uses enough of the range that its values could have, or shows nothing at all."""
    index = _subsampled(frame, first, _GLANCE)
    values = modality[index[~padding[index]]]
    if not values.size or np.ptp(values) == 0:
        return True
    low, high = np.percentile(values, (0.1, 99.9))
    return bool(high - low >= _USED * np.ptp(modality))


def _robust_intensity(
    frame: np.ndarray, modality: np.ndarray, first: int, padding: np.ndarray, inverted: bool, signal: Signal | None
) -> np.ndarray | None:
    """Return the intensity of every stored value between air, 0, and the brightest tissue, 1.

    Args:
        frame: Stored values ``(rows, columns)``.
        modality: Modality value of each possible stored value, float64.
        first: The stored value of entry 0.
        padding: Which entries are padding.
        inverted: Whether low values are bright if ``signal`` is not given.
        signal: Relationship of a For Processing image's values to the beam.

    Returns:
        float64 in [0, 1] for each entry; ``None`` if the image shows nothing.
    """
    index = _subsampled(frame, first, _LONGEST_SIDE)
    left_out = padding[index]
    if signal is None:
        shown = -modality if inverted else modality
    else:
        shown, unexposed = _attenuation(modality, index, left_out, signal)
        left_out = left_out | unexposed[index]
    picture = shown[index]
    seen = picture[~left_out]
    if not seen.size or np.ptp(seen) == 0:
        return None
    threshold = _threshold(seen)
    breast = _largest_region(~left_out & (picture > threshold))
    air = picture[~left_out & (picture <= threshold)]
    low, high = float(np.median(air)), float(np.percentile(picture[breast], _BRIGHTEST))
    return np.clip((shown - low) / (high - low), 0.0, 1.0) if high > low else None


def _subsampled(frame: np.ndarray, first: int, longest: int) -> np.ndarray:
    """Return the table's indices of a view of the frame with a longest side of about ``longest``."""
    step = max(1, max(frame.shape) // longest)
    return frame[::step, ::step].astype(np.intp) - first


def _attenuation(
    modality: np.ndarray, index: np.ndarray, left_out: np.ndarray, signal: Signal
) -> tuple[np.ndarray, np.ndarray]:
    """Return the attenuation of each value along the beam, rising with density, and which values saw no beam."""
    logarithmic, rising = signal
    if rising is None:
        rising = _air_is_high(modality[index][~left_out])
    if logarithmic:
        return -modality if rising else modality, np.zeros(len(modality), bool)
    beam = modality - modality.min() if rising else modality.max() - modality
    step = np.ptp(modality) / (len(modality) - 1)
    there = beam[index][~left_out]
    brightest = float(np.percentile(there, 99)) if there.size else 0.0
    return -np.log(np.maximum(beam, step)), beam <= _LEAST_EXPOSURE * brightest


def _air_is_high(values: np.ndarray) -> bool:
    """Return whether air is the upper of two classes: it is the more even one."""
    if not values.size or np.ptp(values) == 0:
        return True
    threshold = _threshold(values)
    high, low = (np.ptp(np.percentile(part, (25, 75))) for part in (values[values > threshold], values))
    return bool(high < low / 2)


def _largest_region(mask: np.ndarray) -> np.ndarray:
    """Return the largest connected region after small bridges are cut: labels and markers are apart from the breast."""
    opened = ndimage.binary_opening(mask, iterations=2)
    regions, count = ndimage.label(opened)
    if not count:
        return mask
    sizes = np.bincount(regions.ravel())
    sizes[0] = 0
    return np.asarray(regions == sizes.argmax())


def _threshold(values: np.ndarray) -> float:
    """Return the value that separates two classes best."""
    counts, edges = np.histogram(values, bins=256)
    return float(edges[1 + otsu(counts, (edges[:-1] + edges[1:]) / 2)])
