"""The check that runs before every training: nothing of one side of a split stands on another."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Collection, Iterable
from typing import TYPE_CHECKING

from ..errors import DataError
from .near_duplicates import PreparedImages, near_duplicates

if TYPE_CHECKING:
    from .table import MammoTable

_SHOWN = 10
_PROBE = 1 << 16
# pre-training sees unlabelled and training rows alike: for a leak they are one side
_SIDE = {"train": "training", "unlabelled": "training", "validation": "validation", "test": "test"}


def assert_no_leak(
    table: MammoTable,
    *,
    pretraining: MammoTable | None = None,
    seen: Collection[str] = (),
    prepared: PreparedImages | None = None,
    max_distance: int | None = None,
) -> None:
    """Checks that no patient, exam, image or file stands on two sides of the split.

    The sides are training (with the unlabelled rows, which pre-training sees), validation and test. A row-level
    split of CBIS-DDSM, which this refuses, inflates the AUC by about 0.09. Files are compared by their content: only
    those that have the same size, and then the same start, are read whole.

    Args:
        table: The table.
        pretraining: The table of stage 1, where it is another: its images of the training, unlabelled and validation
            splits stand on the training side. Patients are compared where both tables have the same salt.
        seen: Patients that an earlier stage has learnt from, where its table is not at hand; see
            `mammo_hf.data.seen`.
        prepared: Prepared images of the table or tables: with them, near duplicates are looked for too, such as one
            film scanned into two sets under two names.
        max_distance: Bits of 256 in which near duplicates may differ; ``None`` for the measured default.

    Raises:
        DataError: Lists up to ten offenders of each sort by their hashes; a file by the image_id of its rows.
    """
    columns = ["patient", "exam", "image_id", "path"]
    values = {name: table.column(name) for name in columns}
    sides = [_SIDE[split] for split in table.column("split")]
    if pretraining is not None:
        learnt = [index for index, split in enumerate(pretraining.column("split")) if split != "test"]
        for name in columns:
            other = pretraining.column(name)
            values[name] += [other[index] for index in learnt]
        # a validation image of this table may have been seen in pre-training: that is no leak into the test split
        sides = ["training" if side == "validation" else side for side in sides] + ["training"] * len(learnt)
    problems = []
    for name in ("patient", "exam", "image_id"):
        problems += _describe(name, _on_two_sides(zip(values[name], sides, strict=True)))
    tested = set(table.where(split="test").column("patient")) if seen else set()
    problems += _describe("patient", {key: ["an earlier stage", "test"] for key in sorted(tested.intersection(seen))})
    contents = _contents(values["path"])
    shared = _on_two_sides(zip(contents, sides, strict=True))
    problems += _describe(
        "file",
        {image: shared[file] for file, image in zip(contents, values["image_id"], strict=True) if file in shared},
    )
    if prepared is not None:
        pairs = near_duplicates(prepared, dict(zip(values["image_id"], sides, strict=True)), max_distance)
        problems += _describe("near duplicate", {f"{one} like {other}": places for one, other, places in pairs})
    if problems:
        raise DataError(
            "leak between splits: " + "; ".join(problems),
            source="table",
            remedy="put all images of a patient on one side; a saved split keeps the sides of an earlier stage",
        )


def _contents(paths: list[str]) -> list[str]:
    """A name of each file's content: equal for equal files; for a file that is alone of its size, its path."""
    resolved = [os.path.realpath(path) for path in paths]
    names = {path: path for path in resolved}
    for candidates in _groups(set(resolved), _size):
        for alike in _groups(candidates, _start):
            for same in _groups(alike, _digest):
                first = min(same)
                names.update(dict.fromkeys(same, first))
    return [names[path] for path in resolved]


def _groups(paths: Iterable[str], key: object) -> list[list[str]]:
    """Files with the same key, two or more; those that cannot be read are left out, whoever opens them will say so."""
    found: dict[object, list[str]] = {}
    for path in paths:
        try:
            found.setdefault(key(path), []).append(path)  # type: ignore[operator]
        except OSError:
            continue
    return [group for group in found.values() if len(group) > 1]


def _size(path: str) -> int:
    return os.path.getsize(path)


def _start(path: str) -> bytes:
    with open(path, "rb") as file:
        return hashlib.sha256(file.read(_PROBE)).digest()


def _digest(path: str) -> bytes:
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").digest()


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
