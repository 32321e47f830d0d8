"""Reading a mammogram: one file becomes stored pixels, a table of displayed intensity, and what the header says."""

from __future__ import annotations

from .errors import MammogramError
from .header import MammogramHeader
from .mammogram import Mammogram
from .reading import read_mammogram
from .types import Laterality, Photometric, PresentationIntent, Vendor, View
from .writing import mammogram_dataset

__all__ = [
    "Laterality",
    "Mammogram",
    "MammogramError",
    "MammogramHeader",
    "Photometric",
    "PresentationIntent",
    "Vendor",
    "View",
    "mammogram_dataset",
    "read_mammogram",
]
