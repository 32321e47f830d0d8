"""Reading a mammogram: one file becomes stored pixels, a table of displayed intensity, and what the header says."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING

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


def __getattr__(name: str) -> object:
    if name not in _LAZY:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(importlib.import_module(f".{_LAZY[name]}", __name__), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
