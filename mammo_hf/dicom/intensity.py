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

import numpy as np
from pydicom.dataset import Dataset

from .elements import differs_by_frame, group_of_frame, items, numbers, text, word
from .errors import MammogramError
from .lookup_table import lookup_table
from .missing_window import MissingWindow, Signal, processing_signal, robust_intensity, uses_its_range
from .types import Photometric, PresentationIntent
from .voi import NORMAL, Choice, find_voi, is_normal


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
