"""Image sizes as they are given on a command line."""

from __future__ import annotations

from ..errors import UsageError


def parse_size(values: list[int]) -> tuple[int, int]:
    """``[224]`` or ``[896, 448]`` to (height, width).

    Raises:
        UsageError: Another count of numbers, or one below 1.
    """
    if len(values) not in (1, 2) or min(values) < 1:
        raise UsageError(
            f"an image size of {' '.join(map(str, values))}", remedy="give one number, or height and width"
        )
    return values[0], values[-1]
