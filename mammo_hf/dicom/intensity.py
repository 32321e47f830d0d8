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

from dataclasses import dataclass

import numpy as np
from pydicom.dataset import Dataset

from .elements import group_items, items, numbers, text, word
from .errors import MammogramError
from .lookup_table import lookup_table
from .types import Photometric, PresentationIntent
from .voi import find_voi


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
) -> IntensityTable:
    """Build the table of a dataset.

    Args:
        dataset: Where the modality, VOI and padding attributes are.
        bits_stored: Bits of a stored value, 1 to 16.
        signed: Whether stored values are two's complement.
        photometric: MONOCHROME1 is inverted.
        intent: What the image was made for, for the words of ``source``.
        prefer: "lut" or "window", where the dataset has both.

    Raises:
        MammogramError: A part of the pipeline is malformed.
    """
    first = -(1 << bits_stored - 1) if signed else 0
    stored = np.arange(first, first + (1 << bits_stored), dtype=np.float64)
    modality, low, high = _apply_modality(dataset, stored)
    voi = find_voi(dataset, low, high, prefer)
    if voi is not None:
        intensity, source = voi.transform(modality), voi.source
    else:
        intensity, source = (modality - low) / (high - low), "full range (no window)"
    if intent is PresentationIntent.FOR_PROCESSING:
        source += ", For Processing"
    if is_inverted(dataset, photometric):
        intensity = 1.0 - intensity
    intensity[_is_padding(dataset, stored)] = 0.0
    values = intensity.astype(np.float32)
    values.flags.writeable = False
    return IntensityTable(values, first, source)


def is_inverted(dataset: Dataset, photometric: Photometric) -> bool:
    """Whether the lowest value is white: by MONOCHROME1, or by PresentationLUTShape INVERSE (PS3.3 C.8.11.3.1.2).

    The two go together in a valid mammogram and say the same thing, so both together invert once.
    """
    return photometric is Photometric.MONOCHROME1 or text(dataset, "PresentationLUTShape").upper() == "INVERSE"


def _apply_modality(dataset: Dataset, stored: np.ndarray) -> tuple[np.ndarray, float, float]:
    """The modality values of all stored values, and the ends of the range that they can take."""
    modality = _modality_values(dataset, stored)
    low, high = float(modality.min()), float(modality.max())
    if not 0 < high - low < float("inf"):
        raise MammogramError("its modality LUT or rescale leaves no range of values", remedy="mend the attributes")
    return modality, low, high


def _modality_values(dataset: Dataset, stored: np.ndarray) -> np.ndarray:
    for item in items(dataset, "ModalityLUTSequence")[:1]:
        table = lookup_table(item, "modality LUT", stored[0], stored[-1])
        if table is not None:
            return table(stored)
    slope, intercept = _rescale(dataset)
    with np.errstate(over="ignore", invalid="ignore"):
        return stored * slope + intercept


def _rescale(dataset: Dataset) -> tuple[float, float]:
    # a multi-frame image may hold it in the Pixel Value Transformation functional group (PS3.3 C.7.6.16.2.9)
    groups = group_items(dataset, "PixelValueTransformationSequence")
    for holder in (dataset, *groups[:1]):
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
