"""How the values of a DICOM file become a picture, where the file leaves a choice."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from ..errors import DataError, UsageError

_PREFER = ("lut", "window")
_MISSING = ("robust", "full_range", "raise")


@dataclass(frozen=True)
class Display:
    """The choices; see ``mammo_hf.read_mammogram``.

    Args:
        window: Which of several windows or VOI LUTs: its index, or its explanation. "NORMAL" takes the first where none
            is explained so, and leaves those of a For Processing image alone.
        prefer: "lut" or "window", where a file has both.
        on_missing_window: "robust", "full_range" or "raise", for For Processing images and those without a window.

    Raises:
        UsageError: A choice that is none of these.
    """

    window: int | str = "NORMAL"
    prefer: str = "lut"
    on_missing_window: str = "robust"

    def __post_init__(self) -> None:
        window = self.window
        index = isinstance(window, int) and not isinstance(window, bool) and window >= 0
        if not index and not (isinstance(window, str) and window.strip()):
            raise UsageError(f"window is {window!r}", remedy='use an index from 0, or an explanation such as "NORMAL"')
        for name, value, allowed in (
            ("prefer", self.prefer, _PREFER),
            ("on_missing_window", self.on_missing_window, _MISSING),
        ):
            if value not in allowed:
                raise UsageError(f"{name} is {value!r}", remedy=f"use one of {', '.join(allowed)}")


# One picture of a tomosynthesis volume: a slice, or the maximum or mean of a slab of slices.


Projection = Literal["maximum", "mean"]
_WORDS = ("middle", "all")


@dataclass(frozen=True)
class Slab:
    """Which slices are looked at, and how they become one picture; as data, for a processor's JSON.

    Attributes:
        slices: "middle", "all", the index of one slice (from the end if negative), or (start, stop) as in a Python
            slice, either of which may be ``None``.
        projection: "maximum" or "mean" of the displayed intensity, where there are several.
    """

    slices: str | int | tuple[int | None, int | None] = "middle"
    projection: Projection = "maximum"

    def __post_init__(self) -> None:
        slices = self.slices
        word = isinstance(slices, str) and slices in _WORDS
        number = isinstance(slices, int) and not isinstance(slices, bool)
        pair = isinstance(slices, tuple) and len(slices) == 2 and all(end is None or type(end) is int for end in slices)
        if not (word or number or pair) or self.projection not in ("maximum", "mean"):
            raise UsageError(
                f"slices {slices!r} with projection {self.projection!r} is no slab",
                remedy='slices is "middle", "all", an index or [start, stop]; projection is "maximum" or "mean"',
            )

    @classmethod
    def from_policy(cls, policy: Slab | Mapping[str, Any] | str | int) -> Slab:
        """From a processor's JSON: ``{"slices": [10, 20], "projection": "mean"}``, or ``slices`` alone.

        Raises:
            UsageError: It describes no slab.
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
        """As JSON holds it."""
        slices = list(self.slices) if isinstance(self.slices, tuple) else self.slices
        return {"slices": slices, "projection": self.projection}

    def indices(self, frames: int) -> range:
        """The slices among so many, in order.

        Raises:
            DataError: There are none such.
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
