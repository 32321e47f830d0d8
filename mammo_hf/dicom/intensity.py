"""One table from stored value to displayed intensity: the whole grayscale pipeline, computed once a file.

Modality LUT or rescale (PS3.3 C.11.1), then VOI LUT or window (C.11.2), then inversion for MONOCHROME1 (C.7.6.3.1.2),
then padding (C.7.5.1.1.2). 0 and 1 are the ends of the range that the VOI stage can give, so that nothing depends on
which values one image happens to hold.

Where pydicom departs from the standard, the standard is followed: with a negative RescaleSlope ``apply_windowing``
swaps the ends of the output range and so inverts the picture (C.11.2.1.2 has the lowest input at the lowest output);
with a Modality LUT *and* a rescale it applies the rescale to the output range alone; a VOI or modality index can wrap
around (see ``LookupTable``); and it does not know padding.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import numpy as np
from pydicom.dataset import Dataset
from scipy import ndimage

from .errors import MammogramError
from .parsing import differs_by_frame, group_of_frame, items, numbers, text, texts, word, words
from .types import Photometric, PresentationIntent

# A look-up table of the file: Modality LUT (PS3.3 C.11.1.1) and VOI LUT (PS3.3 C.11.2.1.1).


@dataclass(frozen=True)
class LookupTable:
    """One item of a Modality or VOI LUT Sequence.

    Attributes:
        first: The input value that the first entry belongs to.
        entries: Output values, float64.
        bits: The output range is 0 to ``2 ** bits - 1``, whichever entries occur.
    """

    first: int
    entries: np.ndarray
    bits: int

    def __call__(self, values: np.ndarray) -> np.ndarray:
        """The outputs, float64, for inputs of any range; what lies outside the table takes its first or last entry.

        An input that is no whole number, after a fractional rescale, takes the entry below, as in pydicom.
        pydicom computes the index in the type of the entries or of the input, where it can wrap around (300 becomes 44
        for 8-bit entries); PS3.3 C.11.2.1.1 asks for the last entry there.
        """
        index = np.clip(values - self.first, 0, len(self.entries) - 1)
        return self.entries[index.astype(np.intp)]


def lookup_table(item: Dataset, kind: str, low: float, high: float) -> LookupTable | None:
    """The table of a sequence item, or ``None`` if the item is empty.

    Args:
        item: The item of ModalityLUTSequence or VOILUTSequence.
        kind: "modality LUT" or "VOI LUT", for messages.
        low: The lowest input that can occur.
        high: The highest input that can occur.

    Raises:
        MammogramError: Its descriptor and its data do not fit together.
    """
    descriptor, data = words(item, "LUTDescriptor"), words(item, "LUTData")
    if not len(descriptor) and not len(data):
        return None
    bits = int(descriptor[2]) if len(descriptor) == 3 else 0
    count = (int(descriptor[0]) or 1 << 16) if len(descriptor) else 0
    # 8-bit entries may be packed two to a word, the first in the low byte (PS3.3 C.11.1.1.1)
    if bits <= 8 and len(data) == (count + 1) // 2 < count:
        data = data.astype("<u2").view(np.uint8)
    if not 1 <= bits <= 16 or len(data) < count:
        raise MammogramError(
            f"the {kind}'s descriptor says {count} entries of {bits} bits, its data hold {len(data)}",
            remedy="mend the sequence or take it out",
        )
    entries = data[:count]
    # entries wider than announced would leave the output range: the range is then what the entries need
    bits = max(bits, int(entries.max()).bit_length())
    return LookupTable(_signed_where_needed(int(descriptor[1]), low, high), entries.astype(np.float64), bits)


def _signed_where_needed(word: int, low: float, high: float) -> int:
    """The first mapped value, as signed or unsigned, whichever lies among the inputs.

    PS3.3 C.11.1.1.1 and C.11.2.1.1 give it the sign of the input; many files give it the wrong type, so the type is not
    asked (pydicom takes the type as written).
    """
    signed = word - 0x10000
    return word if word < 0x8000 or (word <= high and signed < low) else signed


# Values of interest: which window or VOI LUT a file offers, and what it makes of a value (PS3.3 C.11.2).


Transform = Callable[[np.ndarray], np.ndarray]
# an explanation is free text of the file, which could hold anything: only the field's own words are repeated
_KNOWN_EXPLANATIONS = ("NORMAL", "HARDER", "SOFTER", "BRIGHTER", "DARKER", "USER", "STANDARD", "DEFAULT", "BREAST")


@dataclass(frozen=True)
class VOI:
    """The chosen VOI rule.

    Attributes:
        source: What was chosen, in words.
        transform: From modality values, float64, to the share of the output range, float64 in [0, 1].
    """

    source: str
    transform: Transform


Choice = int | str


"""Which of several windows or tables: its index or its explanation."""


NORMAL = "NORMAL"


"""The choice where nothing else is asked for: the one explained so, else the first."""


def is_normal(choice: Choice) -> bool:
    """Whether nothing else than NORMAL is asked for."""
    return isinstance(choice, str) and choice.strip().upper() == NORMAL


class _NotAmongThemError(MammogramError):
    """There are windows or tables, and the one that is asked for is not among them."""


def find_voi(
    dataset: Dataset, low: float, high: float, prefer: str = "lut", choice: Choice = NORMAL, frame: int = 0
) -> VOI | None:
    """The VOI rule of a dataset, ``None`` if it offers none.

    A multi-frame image may hold them in the Frame VOI LUT functional group (PS3.3 C.7.6.16.2.10).

    Args:
        dataset: The image.
        low: The lowest modality value that can occur.
        high: The highest modality value that can occur.
        prefer: Which one where both are there: "lut", as the IHE Mammography Image profile asks of displays, or
            "window". The other is asked where the preferred one has not the choice.
        choice: Which of several; "NORMAL" takes the first where none is explained so.
        frame: The frame whose functional group is asked.

    Raises:
        MammogramError: The window or table that is to be used is malformed, or there is none such.
    """
    finders = (_find_lut, _find_window) if prefer == "lut" else (_find_window, _find_lut)
    missing: MammogramError | None = None
    for holder in (dataset, *group_of_frame(dataset, "FrameVOILUTSequence", frame)):
        for find in finders:
            try:
                voi = find(holder, low, high, choice)
            except _NotAmongThemError as error:
                missing = missing or error
                continue
            if voi is not None:
                return voi
    if missing is not None:
        raise missing
    return None


def _choose(explanations: tuple[str, ...], count: int, choice: Choice) -> tuple[int, str]:
    """The index of the one that is asked for, and how to name it."""
    upper = [explanation.upper() for explanation in explanations[:count]]
    if isinstance(choice, int):
        index = choice
    else:
        asked_for = choice.strip().upper()
        index = upper.index(asked_for) if asked_for in upper else 0 if is_normal(choice) else -1
    if not 0 <= index < count:
        asked = f"number {choice}" if isinstance(choice, int) else f"explained as {choice}"
        raise _NotAmongThemError(
            f"has {count} windows or VOI LUTs, none {asked}", remedy='ask for another one, or for "NORMAL"'
        )
    if index < len(upper) and upper[index] in _KNOWN_EXPLANATIONS:
        return index, f" '{upper[index]}'"
    return index, f" 1 of {count}" if count > 1 else ""


def _find_lut(holder: Dataset, low: float, high: float, choice: Choice) -> VOI | None:
    tables = [(item, lookup_table(item, "VOI LUT", low, high)) for item in items(holder, "VOILUTSequence")]
    filled = [(text(item, "LUTExplanation"), table) for item, table in tables if table is not None]
    if not filled:
        return None
    index, name = _choose(tuple(explanation for explanation, _ in filled), len(filled), choice)
    table = filled[index][1]
    scale = float((1 << table.bits) - 1)
    return VOI(f"VOI LUT{name}", lambda values: table(values) / scale)


def _find_window(holder: Dataset, low: float, high: float, choice: Choice) -> VOI | None:
    centers, widths = numbers(holder, "WindowCenter"), numbers(holder, "WindowWidth")
    if not centers or not widths:
        return None
    explanations = texts(holder, "WindowCenterWidthExplanation")
    index, name = _choose(explanations, len(centers), choice)
    if len(centers) != len(widths):
        raise MammogramError(
            f"WindowCenter has {len(centers)} values and WindowWidth {len(widths)}", remedy="mend or remove the window"
        )
    function = text(holder, "VOILUTFunction").upper() or "LINEAR"
    if function not in _FUNCTIONS:
        raise MammogramError(
            f"VOILUTFunction is none of {', '.join(_FUNCTIONS)}", remedy="mend or remove the attribute"
        )
    center, width = centers[index], widths[index]
    if width <= 0 or (function == "LINEAR" and width < 1):
        least = "less than 1" if function == "LINEAR" else "not positive"
        raise MammogramError(
            f"WindowWidth is {least}, which {function} does not allow", remedy="mend or remove the window"
        )
    return VOI(f"window{name} ({function})", lambda values: _FUNCTIONS[function](values, center, width))


def _linear(values: np.ndarray, center: float, width: float) -> np.ndarray:
    """PS3.3 C.11.2.1.2.1, LINEAR: the width counts values, so the ramp is one shorter and half a value earlier."""
    return _ramp(values, center - 0.5, width - 1)


def _linear_exact(values: np.ndarray, center: float, width: float) -> np.ndarray:
    """PS3.3 C.11.2.1.3.2, LINEAR_EXACT: the width is a distance."""
    return _ramp(values, center, width)


def _ramp(values: np.ndarray, center: float, width: float) -> np.ndarray:
    if width == 0:
        return (values > center).astype(np.float64)
    # a width of almost nothing overflows to infinity, which is clipped to the right end
    with np.errstate(over="ignore"):
        return np.clip((values - center) / width + 0.5, 0.0, 1.0)


def _sigmoid(values: np.ndarray, center: float, width: float) -> np.ndarray:
    """PS3.3 C.11.2.1.3.1, SIGMOID; its ends are approached and not reached."""
    with np.errstate(over="ignore"):
        return 1.0 / (1.0 + np.exp(-4.0 * (values - center) / width))


_FUNCTIONS: dict[str, Callable[[np.ndarray, float, float], np.ndarray]] = {
    "LINEAR": _linear,
    "LINEAR_EXACT": _linear_exact,
    "SIGMOID": _sigmoid,
}


# What is shown where a file says nothing useful about it: no window at all, or raw detector values.
#
# A For Processing image holds the detector's signal, most often proportional to the X-ray beam, so that air is the
# largest value. Its logarithm is linear in the attenuation along the beam (Beer-Lambert), as films and For
# Presentation images are. Its ends are then air and the brightest tissue, both measured on the image itself,
# robustly. An image without window that uses its range is shown over that range, as pydicom and the standard leave
# it; one that leaves most of it empty (12-bit values called 16-bit) is spread between air and the brightest tissue,
# too.


MissingWindow = Literal["robust", "full_range", "raise"]


"""For Processing images, and those without window: a robust display, the whole range, or a ``MammogramError``."""


_LONGEST_SIDE = 512  # pixels of the subsampled view on which the breast is found
_GLANCE = 192  # and of the one that tells whether an image uses its range
_USED = 0.25  # share of the range above which the range is believed
_BRIGHTEST = 99.5  # percentile of the breast: calcifications and clips are beyond, and are clipped
# a compressed breast lets through more than 0.5 % of the beam (6 cm at 0.8 / cm, dense tissue at 20 keV): less is no
# exposure, behind a collimator or a marker of lead
_LEAST_EXPOSURE = 1e-3


@dataclass(frozen=True)
class Signal:
    """How the values of a For Processing image follow the X-ray beam.

    Attributes:
        logarithmic: Whether they are proportional to its logarithm already (PixelIntensityRelationship LOG or DISP).
        rising: Whether more X-rays give higher values; ``None`` where nothing says so.
    """

    logarithmic: bool
    rising: bool | None


def processing_signal(dataset: Dataset, photometric: Photometric) -> Signal:
    """By PixelIntensityRelationship and its sign (PS3.3 C.8.11.3.1.2), else by MONOCHROME1: dense tissue is white."""
    sign = word(dataset, "PixelIntensityRelationshipSign")
    if sign in (1, 0xFFFF):
        rising: bool | None = sign == 1
    else:
        rising = True if photometric is Photometric.MONOCHROME1 else None
    return Signal(text(dataset, "PixelIntensityRelationship").upper() in ("LOG", "DISP"), rising)


def uses_its_range(frame: np.ndarray, modality: np.ndarray, first: int, padding: np.ndarray) -> bool:
    """Whether an image uses enough of the range that its values could have, or shows nothing at all.

    Args:
        frame: Stored values ``(rows, columns)``.
        modality: The modality value of each possible stored value.
        first: The stored value of entry 0.
        padding: Which entries are padding.
    """
    index = _index(frame, first, _GLANCE)
    values = modality[index[~padding[index]]]
    if not values.size or np.ptp(values) == 0:
        return True
    low, high = np.percentile(values, (0.1, 99.9))
    return bool(high - low >= _USED * np.ptp(modality))


def robust_intensity(
    frame: np.ndarray, modality: np.ndarray, first: int, padding: np.ndarray, inverted: bool, signal: Signal | None
) -> np.ndarray | None:
    """The intensity of every stored value between air, 0, and the brightest tissue, 1.

    Args:
        frame: Stored values ``(rows, columns)``.
        modality: The modality value of each possible stored value, float64.
        first: The stored value of entry 0.
        padding: Which entries are padding.
        inverted: Whether low values are bright, where ``signal`` is not given.
        signal: Of a For Processing image.

    Returns:
        float64 in [0, 1] for each entry; ``None`` if the image shows nothing.
    """
    index = _index(frame, first, _LONGEST_SIDE)
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
    threshold = _otsu(seen)
    breast = _largest(~left_out & (picture > threshold))
    air = picture[~left_out & (picture <= threshold)]
    low, high = float(np.median(air)), float(np.percentile(picture[breast], _BRIGHTEST))
    return np.clip((shown - low) / (high - low), 0.0, 1.0) if high > low else None


def _index(frame: np.ndarray, first: int, longest: int) -> np.ndarray:
    step = max(1, max(frame.shape) // longest)
    return frame[::step, ::step].astype(np.intp) - first


def _attenuation(
    modality: np.ndarray, index: np.ndarray, left_out: np.ndarray, signal: Signal
) -> tuple[np.ndarray, np.ndarray]:
    """What each value stands for along the beam, rising with density, and which values saw no beam."""
    rising = signal.rising
    if rising is None:
        rising = _air_is_high(modality[index][~left_out])
    if signal.logarithmic:
        return -modality if rising else modality, np.zeros(len(modality), bool)
    beam = modality - modality.min() if rising else modality.max() - modality
    step = np.ptp(modality) / (len(modality) - 1)
    there = beam[index][~left_out]
    brightest = float(np.percentile(there, 99)) if there.size else 0.0
    return -np.log(np.maximum(beam, step)), beam <= _LEAST_EXPOSURE * brightest


def _air_is_high(values: np.ndarray) -> bool:
    """Of the two classes the air is the more even one."""
    if not values.size or np.ptp(values) == 0:
        return True
    threshold = _otsu(values)
    high, low = (np.ptp(np.percentile(part, (25, 75))) for part in (values[values > threshold], values))
    return bool(high < low / 2)


def _largest(mask: np.ndarray) -> np.ndarray:
    """The largest connected region after small bridges are cut: labels and markers stand apart from the breast."""
    opened = ndimage.binary_opening(mask, iterations=2)
    regions, count = ndimage.label(opened)
    if not count:
        return mask
    sizes = np.bincount(regions.ravel())
    sizes[0] = 0
    return np.asarray(regions == sizes.argmax())


def _otsu(values: np.ndarray) -> float:
    """The threshold that separates two classes best (Otsu 1979, IEEE Trans. Syst. Man Cybern. 9:62)."""
    counts, edges = np.histogram(values, bins=256)
    centres = (edges[:-1] + edges[1:]) / 2
    below = np.cumsum(counts)[:-1]
    above = counts.sum() - below
    total = np.cumsum(counts * centres)
    with np.errstate(divide="ignore", invalid="ignore"):
        between = below * above * (total[:-1] / below - (total[-1] - total[:-1]) / above) ** 2
    return float(edges[1 + int(np.nanargmax(np.where(np.isfinite(between), between, -1.0)))])


@dataclass(frozen=True)
class IntensityTable:
    """The displayed intensity of each stored value.

    Attributes:
        values: float32 in [0, 1], ``(2 ** bits_stored,)``.
        first_stored_value: The stored value of entry 0.
        source: Which VOI rule was used, in words.
    """

    values: np.ndarray
    first_stored_value: int
    source: str


def intensity_table(
    dataset: Dataset,
    *,
    bits_stored: int,
    signed: bool,
    photometric: Photometric,
    intent: PresentationIntent = PresentationIntent.UNKNOWN,
    prefer: str = "lut",
    window: Choice = NORMAL,
    on_missing_window: MissingWindow = "full_range",
    sample: Callable[[], np.ndarray] | None = None,
    frame: int = 0,
) -> IntensityTable:
    """Build the table of a dataset, or of one of its frames.

    Args:
        dataset: Where the modality, VOI and padding attributes are.
        bits_stored: Bits of a stored value, 1 to 16.
        signed: Whether stored values are two's complement.
        photometric: MONOCHROME1 is inverted.
        intent: What the image was made for: the window of a For Processing image is used only if ``window`` asks for
            another one than "NORMAL".
        prefer: "lut" or "window", where the dataset has both.
        window: Which of several windows or VOI LUTs.
        on_missing_window: What to do where there is none; "robust" needs ``sample``.
        sample: Gives the stored values ``(rows, columns)`` that a robust display is measured on.
        frame: The frame whose functional groups are asked.

    Raises:
        MammogramError: A part of the pipeline is malformed, the window that is asked for is not there, or none is
            and ``on_missing_window`` is "raise".
    """
    first = -(1 << bits_stored - 1) if signed else 0
    stored = np.arange(first, first + (1 << bits_stored), dtype=np.float64)
    modality, low, high = _apply_modality(dataset, stored, frame)
    padding = _is_padding(dataset, stored)
    raw = intent is PresentationIntent.FOR_PROCESSING
    voi = None if raw and is_normal(window) else find_voi(dataset, low, high, prefer, window, frame)
    inverted = is_inverted(dataset, photometric)
    if voi is not None:
        intensity, source = voi.transform(modality), voi.source
        intensity = 1.0 - intensity if inverted else intensity
    else:
        if on_missing_window == "raise":
            problem = "is For Processing: its values are not for display" if raw else "has no window and no VOI LUT"
            raise MammogramError(problem, remedy='allow a rule of ours with on_missing_window="robust"')
        signal = processing_signal(dataset, photometric) if raw else None
        measured = sample if on_missing_window == "robust" else None
        intensity, source = _without_window(modality, first, padding, inverted, signal, measured)
    if raw:
        source += ", For Processing"
    intensity[padding] = 0.0
    values = intensity.astype(np.float32)
    values.flags.writeable = False
    return IntensityTable(values, first, source)


def _without_window(
    modality: np.ndarray,
    first: int,
    padding: np.ndarray,
    inverted: bool,
    signal: Signal | None,
    sample: Callable[[], np.ndarray] | None,
) -> tuple[np.ndarray, str]:
    """The intensity of each stored value, and the rule in words."""
    if sample is not None:
        stored = sample()
        if signal is not None or not uses_its_range(stored, modality, first, padding):
            found = robust_intensity(stored, modality, first, padding, inverted, signal)
            if found is not None:
                rule = "percentiles inside the breast (no window)"
                return found, rule if signal is None or signal.logarithmic else f"log, {rule}"
    low = modality.min()
    share = (modality - low) / (modality.max() - low)
    return (1.0 - share if inverted else share), "full range (no window)"


def frame_tables(dataset: Dataset, frames: int, table: Callable[[int], IntensityTable]) -> tuple[IntensityTable, ...]:
    """One table for all frames, or one for each where their own functional groups say how values are shown.

    Args:
        dataset: The image.
        frames: How many there are.
        table: Makes the table of a frame.
    """
    if frames == 1 or not differs_by_frame(dataset, "FrameVOILUTSequence", "PixelValueTransformationSequence"):
        return (table(0),)
    known: dict[tuple[bytes, str], IntensityTable] = {}
    found = []
    for frame in range(frames):
        made = table(frame)
        found.append(known.setdefault((made.values.tobytes(), made.source), made))
    return tuple(found) if len(known) > 1 else (found[0],)


def is_inverted(dataset: Dataset, photometric: Photometric) -> bool:
    """Whether the lowest value is white: by MONOCHROME1, or by PresentationLUTShape INVERSE (PS3.3 C.8.11.3.1.2).

    The two go together in a valid mammogram and say the same thing, so both together invert once.
    """
    return photometric is Photometric.MONOCHROME1 or text(dataset, "PresentationLUTShape").upper() == "INVERSE"


def _apply_modality(dataset: Dataset, stored: np.ndarray, frame: int) -> tuple[np.ndarray, float, float]:
    """The modality values of all stored values, and the ends of the range that they can take."""
    modality = _modality_values(dataset, stored, frame)
    low, high = float(modality.min()), float(modality.max())
    if not 0 < high - low < float("inf"):
        raise MammogramError("its modality LUT or rescale leaves no range of values", remedy="mend the attributes")
    return modality, low, high


def _modality_values(dataset: Dataset, stored: np.ndarray, frame: int) -> np.ndarray:
    for item in items(dataset, "ModalityLUTSequence")[:1]:
        table = lookup_table(item, "modality LUT", stored[0], stored[-1])
        if table is not None:
            return table(stored)
    slope, intercept = _rescale(dataset, frame)
    with np.errstate(over="ignore", invalid="ignore"):
        return stored * slope + intercept


def _rescale(dataset: Dataset, frame: int) -> tuple[float, float]:
    # a multi-frame image may hold it in the Pixel Value Transformation functional group (PS3.3 C.7.6.16.2.9)
    for holder in (dataset, *group_of_frame(dataset, "PixelValueTransformationSequence", frame)):
        slopes, intercepts = numbers(holder, "RescaleSlope"), numbers(holder, "RescaleIntercept")
        if slopes and intercepts:
            return slopes[0], intercepts[0]
    return 1.0, 0.0


def _is_padding(dataset: Dataset, stored: np.ndarray) -> np.ndarray:
    """Which stored values are padding: PixelPaddingValue, up to PixelPaddingRangeLimit on whichever side."""
    value = word(dataset, "PixelPaddingValue")
    if value is None:
        return np.zeros(len(stored), bool)
    limit = word(dataset, "PixelPaddingRangeLimit")
    ends = [value, value if limit is None else limit]
    if stored[0] < 0:
        ends = [end - 0x10000 if end >= 0x8000 else end for end in ends]
    return (stored >= min(ends)) & (stored <= max(ends))
