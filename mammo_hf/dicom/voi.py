"""Values of interest: which window or VOI LUT a file offers, and what it makes of a value (PS3.3 C.11.2)."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from pydicom.dataset import Dataset

from .elements import group_of_frame, items, numbers, text, texts
from .errors import MammogramError
from .lookup_table import lookup_table

Transform = Callable[[np.ndarray], np.ndarray]

# an explanation is free text of the file, which could hold anything: only the field's own words are repeated
_KNOWN_EXPLANATIONS = ("NORMAL", "HARDER", "SOFTER", "BRIGHTER", "DARKER", "USER", "STANDARD", "DEFAULT", "BREAST")


@dataclass(frozen=True)
class VOI:
    """The chosen VOI rule.

    Attributes:
        source: What was chosen, in words.
        transform: From modality values, float64, to the share of the output range, float64 in [0, 1].
    """

    source: str
    transform: Transform


Choice = int | str
"""Which of several windows or tables: its index or its explanation."""

NORMAL = "NORMAL"
"""The choice where nothing else is asked for: the one explained so, else the first."""


def is_normal(choice: Choice) -> bool:
    """Whether nothing else than NORMAL is asked for."""
    return isinstance(choice, str) and choice.strip().upper() == NORMAL


class _NotAmongThemError(MammogramError):
    """There are windows or tables, and the one that is asked for is not among them."""


def find_voi(
    dataset: Dataset, low: float, high: float, prefer: str = "lut", choice: Choice = NORMAL, frame: int = 0
) -> VOI | None:
    """The VOI rule of a dataset, ``None`` if it offers none.

    A multi-frame image may hold them in the Frame VOI LUT functional group (PS3.3 C.7.6.16.2.10).

    Args:
        dataset: The image.
        low: The lowest modality value that can occur.
        high: The highest modality value that can occur.
        prefer: Which one where both are there: "lut", as the IHE Mammography Image profile asks of displays, or
            "window". The other is asked where the preferred one has not the choice.
        choice: Which of several; "NORMAL" takes the first where none is explained so.
        frame: The frame whose functional group is asked.

    Raises:
        MammogramError: The window or table that is to be used is malformed, or there is none such.
    """
    finders = (_find_lut, _find_window) if prefer == "lut" else (_find_window, _find_lut)
    missing: MammogramError | None = None
    for holder in (dataset, *group_of_frame(dataset, "FrameVOILUTSequence", frame)):
        for find in finders:
            try:
                voi = find(holder, low, high, choice)
            except _NotAmongThemError as error:
                missing = missing or error
                continue
            if voi is not None:
                return voi
    if missing is not None:
        raise missing
    return None


def _choose(explanations: tuple[str, ...], count: int, choice: Choice) -> tuple[int, str]:
    """The index of the one that is asked for, and how to name it."""
    upper = [explanation.upper() for explanation in explanations[:count]]
    if isinstance(choice, int):
        index = choice
    else:
        asked_for = choice.strip().upper()
        index = upper.index(asked_for) if asked_for in upper else 0 if is_normal(choice) else -1
    if not 0 <= index < count:
        asked = f"number {choice}" if isinstance(choice, int) else f"explained as {choice}"
        raise _NotAmongThemError(
            f"has {count} windows or VOI LUTs, none {asked}", remedy='ask for another one, or for "NORMAL"'
        )
    if index < len(upper) and upper[index] in _KNOWN_EXPLANATIONS:
        return index, f" '{upper[index]}'"
    return index, f" 1 of {count}" if count > 1 else ""


def _find_lut(holder: Dataset, low: float, high: float, choice: Choice) -> VOI | None:
    tables = [(item, lookup_table(item, "VOI LUT", low, high)) for item in items(holder, "VOILUTSequence")]
    filled = [(text(item, "LUTExplanation"), table) for item, table in tables if table is not None]
    if not filled:
        return None
    index, name = _choose(tuple(explanation for explanation, _ in filled), len(filled), choice)
    table = filled[index][1]
    scale = float((1 << table.bits) - 1)
    return VOI(f"VOI LUT{name}", lambda values: table(values) / scale)


def _find_window(holder: Dataset, low: float, high: float, choice: Choice) -> VOI | None:
    centers, widths = numbers(holder, "WindowCenter"), numbers(holder, "WindowWidth")
    if not centers or not widths:
        return None
    explanations = texts(holder, "WindowCenterWidthExplanation")
    index, name = _choose(explanations, len(centers), choice)
    if len(centers) != len(widths):
        raise MammogramError(
            f"WindowCenter has {len(centers)} values and WindowWidth {len(widths)}", remedy="mend or remove the window"
        )
    function = text(holder, "VOILUTFunction").upper() or "LINEAR"
    if function not in _FUNCTIONS:
        raise MammogramError(
            f"VOILUTFunction is none of {', '.join(_FUNCTIONS)}", remedy="mend or remove the attribute"
        )
    center, width = centers[index], widths[index]
    if width <= 0 or (function == "LINEAR" and width < 1):
        least = "less than 1" if function == "LINEAR" else "not positive"
        raise MammogramError(
            f"WindowWidth is {least}, which {function} does not allow", remedy="mend or remove the window"
        )
    return VOI(f"window{name} ({function})", lambda values: _FUNCTIONS[function](values, center, width))


def _linear(values: np.ndarray, center: float, width: float) -> np.ndarray:
    """PS3.3 C.11.2.1.2.1, LINEAR: the width counts values, so the ramp is one shorter and half a value earlier."""
    return _ramp(values, center - 0.5, width - 1)


def _linear_exact(values: np.ndarray, center: float, width: float) -> np.ndarray:
    """PS3.3 C.11.2.1.3.2, LINEAR_EXACT: the width is a distance."""
    return _ramp(values, center, width)


def _ramp(values: np.ndarray, center: float, width: float) -> np.ndarray:
    if width == 0:
        return (values > center).astype(np.float64)
    # a width of almost nothing overflows to infinity, which is clipped to the right end
    with np.errstate(over="ignore"):
        return np.clip((values - center) / width + 0.5, 0.0, 1.0)


def _sigmoid(values: np.ndarray, center: float, width: float) -> np.ndarray:
    """PS3.3 C.11.2.1.3.1, SIGMOID; its ends are approached and not reached."""
    with np.errstate(over="ignore"):
        return 1.0 / (1.0 + np.exp(-4.0 * (values - center) / width))


_FUNCTIONS: dict[str, Callable[[np.ndarray, float, float], np.ndarray]] = {
    "LINEAR": _linear,
    "LINEAR_EXACT": _linear_exact,
    "SIGMOID": _sigmoid,
}
