"""What is shown where a file says nothing useful about it: no window at all, or raw detector values.

A For Processing image holds the detector's signal, most often proportional to the X-ray beam, so that air is the
largest value. Its logarithm is linear in the attenuation along the beam (Beer-Lambert), as films and For Presentation
images are. Its ends are then air and the brightest tissue, both measured on the image itself, robustly. An image
without window that uses its range is shown over that range, as pydicom and the standard leave it; one that leaves most
of it empty (12-bit values called 16-bit) is spread between air and the brightest tissue, too.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
from pydicom.dataset import Dataset
from scipy import ndimage

from .elements import text, word
from .types import Photometric

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
