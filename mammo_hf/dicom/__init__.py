"""Reading a mammogram: one file becomes stored pixels, a table of displayed intensity, and what the header says."""

from __future__ import annotations

from typing import TYPE_CHECKING

from .._lazy import lazy_names
from .display import Display, Slab
from .types import (
    ImageKind,
    Implant,
    Laterality,
    MammogramError,
    Photometric,
    PresentationIntent,
    Vendor,
    View,
    ViewModifier,
)

# imported on first use: ``display`` travels as remote code and must not load pydicom
_LAZY = {"Mammogram": "reader", "read_mammogram": "reader", "MammogramHeader": "header", "mammogram_dataset": "writer"}

if TYPE_CHECKING:
    from .header import MammogramHeader
    from .reader import Mammogram, read_mammogram
    from .writer import mammogram_dataset

__all__ = [
    "Display",
    "ImageKind",
    "Implant",
    "Laterality",
    "Mammogram",
    "MammogramError",
    "MammogramHeader",
    "Photometric",
    "PresentationIntent",
    "Slab",
    "Vendor",
    "View",
    "ViewModifier",
    "mammogram_dataset",
    "read_mammogram",
]


__getattr__, __dir__ = lazy_names(__name__, _LAZY)
