"""Reading a mammogram: one file becomes stored pixels, a table of displayed intensity, and what the header says."""

from __future__ import annotations

from .display import Slab
from .errors import MammogramError
from .header import MammogramHeader
from .reader import Mammogram, read_mammogram
from .types import ImageKind, Implant, Laterality, Photometric, PresentationIntent, Vendor, View, ViewModifier
from .writer import mammogram_dataset

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
