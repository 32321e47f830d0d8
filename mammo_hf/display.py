"""How the values of a DICOM file become a picture, where the file leaves a choice."""

from __future__ import annotations

from dataclasses import dataclass

from .errors import UsageError

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
