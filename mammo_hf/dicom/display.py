"""Choices that a DICOM file leaves to its reader: the window, the slices of a volume, and where background ends.

A leaf: it is published as remote code with the image processor, so it imports neither pydicom nor the rest of the room.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from ..errors import DataError, UsageError

NORMAL = "NORMAL"
# How many pixels a frame or picture may have before it is refused: more than twice those of the largest film scan
MAX_PIXELS = 1 << 26
Projection = Literal["maximum", "mean"]
MissingWindow = Literal["robust", "full_range", "raise"]

MissingEnd = Literal["raise", "note"]
Decode = Literal["exact", "fast"]

_PREFER = ("lut", "window")
_MISSING = ("robust", "full_range", "raise")
_MISSING_END = ("raise", "note")
DECODES = ("exact", "fast")
_SLICES = ("middle", "all")
_LARGEST_STEP = 1 / 64  # of the intensity, between neighbouring values of an image that may be halved


@dataclass(frozen=True)
class Display:
    """The choices that a file leaves open; see ``mammo_hf.read_mammogram``.

    Args:
        window: The one of several windows or VOI LUTs that is used: its index, or its explanation. "NORMAL" takes the
            first if none has that explanation, and ignores those of a For Processing image; ``None`` ignores all.
        prefer: The one that is used if a file has both: "lut" or "window".
        on_missing_window: The rule for For Processing images and with files without a window: "robust",
            "full_range" or "raise".
        on_missing_end: The rule for compressed frames without their end marker: "raise" or "note".
        decode: Whether JPEG 2000 and HTJ2K are read "exact", or "fast": at a fraction of their size if that is enough.

    Raises:
        UsageError: A choice is none of these.
    """

    window: int | str | None = NORMAL
    prefer: str = "lut"
    on_missing_window: str = "robust"
    on_missing_end: str = "raise"
    decode: str = "exact"

    def __post_init__(self) -> None:
        window = self.window
        index = isinstance(window, int) and not isinstance(window, bool) and window >= 0
        if window is not None and not index and not (isinstance(window, str) and window.strip()):
            raise UsageError(f"window is {window!r}", remedy='use an index from 0, or an explanation such as "NORMAL"')
        choices = {"prefer": _PREFER, "on_missing_window": _MISSING, "on_missing_end": _MISSING_END}
        choices["decode"] = DECODES
        for name, allowed in choices.items():
            if getattr(self, name) not in allowed:
                raise UsageError(f"{name} is {getattr(self, name)!r}", remedy=f"use one of {', '.join(allowed)}")

    @property
    def is_normal(self) -> bool:
        """Whether no particular window is asked for."""
        return isinstance(self.window, str) and self.window.strip().upper() == NORMAL


@dataclass(frozen=True)
class Slab:
    """One picture of a tomosynthesis volume: which slices it shows, and how they are combined.

    Attributes:
        slices: "middle", "all", the index of one slice (counted from the end if negative), or (start, stop) as in a
            Python slice, either of which may be ``None``.
        projection: The way several slices are combined: the "maximum" or the "mean" of their displayed intensity.
    """

    slices: str | int | tuple[int | None, int | None] = "middle"
    projection: Projection = "maximum"

    def __post_init__(self) -> None:
        slices = self.slices
        word = isinstance(slices, str) and slices in _SLICES
        number = isinstance(slices, int) and not isinstance(slices, bool)
        pair = isinstance(slices, tuple) and len(slices) == 2 and all(end is None or type(end) is int for end in slices)
        if not (word or number or pair) or self.projection not in ("maximum", "mean"):
            raise UsageError(
                f"slices {slices!r} with projection {self.projection!r} is not a slab",
                remedy='slices is "middle", "all", an index or [start, stop]; projection is "maximum" or "mean"',
            )

    @classmethod
    def from_policy(cls, policy: Slab | Mapping[str, Any] | str | int) -> Slab:
        """Return the slab that a processor's JSON describes.

        Args:
            policy: The slab, such as ``{"slices": [10, 20], "projection": "mean"}``, or its slices alone.

        Raises:
            UsageError: The policy does not describe a slab.
        """
        if isinstance(policy, Slab):
            return policy
        if not isinstance(policy, Mapping):
            return cls(policy)
        unknown = sorted(set(policy) - {"slices", "projection"})
        if unknown:
            raise UsageError(f"a slab has no {', '.join(unknown)}", remedy="give slices and projection")
        slices = policy.get("slices", "middle")
        return cls(tuple(slices) if isinstance(slices, list) else slices, policy.get("projection", "maximum"))

    def to_policy(self) -> dict[str, Any]:
        """Return the slab as a processor's JSON holds it."""
        slices = list(self.slices) if isinstance(self.slices, tuple) else self.slices
        return {"slices": slices, "projection": self.projection}

    def indices(self, frames: int) -> range:
        """Return the indices of the slices in a volume of so many frames, in order.

        Raises:
            DataError: The volume has no such slices.
        """
        if self.slices == "middle":
            return range(frames // 2, frames // 2 + 1)
        if self.slices == "all":
            return range(frames)
        if isinstance(self.slices, int):
            found = range(frames)[self.slices :][:1] if -frames <= self.slices < frames else range(0)
        else:
            assert isinstance(self.slices, tuple)
            found = range(frames)[slice(*self.slices)]
        if not found:
            raise DataError(f"there are no slices {self.slices} among {frames}", remedy="ask for slices it has")
        return found


def is_smooth(table: np.ndarray) -> bool:
    """Return whether an image that is displayed by a table may be halved while it is decoded.

    Between values that are shown very differently, as padding next to white may be, there is no mean.

    Args:
        table: Intensity of each value, in order.
    """
    return bool(np.abs(np.diff(table)).max(initial=0.0) <= _LARGEST_STEP)


def otsu(counts: np.ndarray, centres: np.ndarray) -> int:
    """Return the bin of a histogram after which two classes separate best.

    The method is that of Otsu 1979, IEEE Trans. Syst. Man Cybern. 9:62.

    Args:
        counts: Number of values in each bin, (bins,).
        centres: Value of each bin, (bins,).
    """
    below = np.cumsum(counts)
    above = below[-1] - below
    total = np.cumsum(counts * centres)
    with np.errstate(divide="ignore", invalid="ignore"):
        between = below * above * (total / below - (total[-1] - total) / above) ** 2
    return int(np.argmax(np.where(np.isfinite(between), between, -1)))
