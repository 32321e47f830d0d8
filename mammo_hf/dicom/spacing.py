"""The size of a pixel: which attribute says so, and what it means for a projection."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from pydicom.dataset import Dataset

from .elements import group_items, numbers
from .errors import MammogramError

Spacing = tuple[float, float]

# magnification views and calibration differ by more; rounding differs by less
_TOLERANCE = 0.01


@dataclass(frozen=True)
class PixelSize:
    """Distance between pixel centres.

    Attributes:
        spacing_mm: (row, column) distance in mm, or ``None``.
        source: The attribute it is from, or ``None``.
        contradictions: What is malformed or says otherwise, in words.
    """

    spacing_mm: Spacing | None
    source: str | None
    contradictions: tuple[str, ...]


def find_spacing(dataset: Dataset) -> PixelSize:
    """The pixel size of a dataset.

    ImagerPixelSpacing is measured at the detector; divided by EstimatedRadiographicMagnificationFactor it holds in the
    breast (PS3.3 C.8.7.1.1.3 and 10.7.1.3). Then PixelSpacing, then the Pixel Measures functional group, then
    NominalScannedPixelSpacing of a film.
    """
    notes: list[str] = []
    imager = _pair(dataset, "ImagerPixelSpacing", notes)
    pixel = _pair(dataset, "PixelSpacing", notes)
    if imager is not None:
        factor = _magnification(dataset, notes)
        spacing = (imager[0] / factor, imager[1] / factor)
        if pixel is not None and not _close(pixel, imager) and not _close(pixel, spacing):
            notes.append("PixelSpacing is neither ImagerPixelSpacing nor that divided by the magnification")
        name = "ImagerPixelSpacing" + ("" if factor == 1 else " / EstimatedRadiographicMagnificationFactor")
        return PixelSize(spacing, name, tuple(notes))
    sources: list[tuple[str, Callable[[], Spacing | None]]] = [
        ("PixelSpacing", lambda: pixel),
        ("PixelMeasuresSequence", lambda: _measured(dataset, notes)),
        ("NominalScannedPixelSpacing", lambda: _pair(dataset, "NominalScannedPixelSpacing", notes)),
    ]
    for name, find in sources:
        found = find()
        if found is not None:
            return PixelSize(found, name, tuple(notes))
    return PixelSize(None, None, tuple(notes))


def _measured(dataset: Dataset, notes: list[str]) -> Spacing | None:
    return next((_pair(item, "PixelSpacing", notes) for item in group_items(dataset, "PixelMeasuresSequence")), None)


def _pair(dataset: Dataset, keyword: str, notes: list[str]) -> Spacing | None:
    values = _positive(dataset, keyword, notes)
    if values and len(values) != 2:
        notes.append(f"{keyword} has {len(values)} values, not two")
    return (values[0], values[1]) if len(values) == 2 else None


def _magnification(dataset: Dataset, notes: list[str]) -> float:
    return next(iter(_positive(dataset, "EstimatedRadiographicMagnificationFactor", notes)), 1.0)


def _positive(dataset: Dataset, keyword: str, notes: list[str]) -> tuple[float, ...]:
    try:
        values = numbers(dataset, keyword)
    except MammogramError as error:
        notes.append(error.problem)
        return ()
    if any(value <= 0 for value in values):
        notes.append(f"{keyword} is not positive")
        return ()
    return values


def _close(first: Spacing, second: Spacing) -> bool:
    return all(abs(a - b) <= _TOLERANCE * max(a, b) for a, b in zip(first, second, strict=True))
