"""The check that runs before every training: nothing of one side of a split stands on another."""

from __future__ import annotations

import os
from collections.abc import Iterable
from typing import TYPE_CHECKING

from ..errors import DataError

if TYPE_CHECKING:
    from .table import MammoTable

_SHOWN = 10
# pre-training sees unlabelled and training rows alike: for a leak they are one side
_SIDE = {"train": "training", "unlabelled": "training", "validation": "validation", "test": "test"}


def assert_no_leak(table: MammoTable) -> None:
    """Checks that no patient, exam, image or file stands on two sides of the split.

    The sides are training (with the unlabelled rows, which pre-training sees), validation and test. A row-level
    split of CBIS-DDSM, which this refuses, inflates the AUC by about 0.09.

    Args:
        table: The table.

    Raises:
        DataError: Lists up to ten offenders of each sort by their hashes; a file by the image_id of its rows.
    """
    sides = [_SIDE[split] for split in table.column("split")]
    images = table.column("image_id")
    problems = []
    for column in ("patient", "exam", "image_id"):
        values = table.column(column)
        problems += _describe(column, _on_two_sides(zip(values, sides, strict=True)))
    paths = [os.path.realpath(path) for path in table.column("path")]
    shared = _on_two_sides(zip(paths, sides, strict=True))
    problems += _describe(
        "file", {image: shared[path] for path, image in zip(paths, images, strict=True) if path in shared}
    )
    if problems:
        raise DataError(
            "leak between splits: " + "; ".join(problems),
            source="table",
            remedy="put all images of a patient on one side",
        )


def _on_two_sides(pairs: Iterable[tuple[str | None, str]]) -> dict[str, list[str]]:
    """From each value that stands on more than one side to those sides."""
    sides: dict[str, set[str]] = {}
    for value, side in pairs:
        if value is not None:
            sides.setdefault(value, set()).add(side)
    return {value: sorted(found) for value, found in sides.items() if len(found) > 1}


def _describe(what: str, offenders: dict[str, list[str]]) -> list[str]:
    if not offenders:
        return []
    shown = [f"{value} ({' and '.join(sides)})" for value, sides in list(offenders.items())[:_SHOWN]]
    more = [f"and {len(offenders) - _SHOWN} more"] if len(offenders) > _SHOWN else []
    return [f"{len(offenders)} of {what} on two sides: {', '.join(shown + more)}"]
