"""Reading a mammogram: one file becomes stored pixels, a table of displayed intensity, and what the header says."""

from __future__ import annotations

from ..slabs import Slab
from .errors import MammogramError
from .header import MammogramHeader
from .mammogram import Mammogram
from .reading import read_mammogram
from .types import (
    ImageKind,
    Implant,
    Laterality,
    Photometric,
    PresentationIntent,
    Vendor,
    View,
    ViewModifier,
)
from .writing import mammogram_dataset

__all__ = [
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
