"""The check that runs before every training: nothing of one side of a split stands on another."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Collection as AnyCollection
from collections.abc import Iterable, Iterator, Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
from scipy.fft import dctn

from ..errors import DataError
from .prepared_row import pixels_of

if TYPE_CHECKING:
    from .collection import Collection

_SHOWN = 10
_PROBE = 1 << 16
# pre-training sees unlabelled and training rows alike: for a leak they are one side
_SIDE = {"train": "training", "unlabelled": "training", "validation": "validation", "test": "test"}


def assert_no_leak(
    table: Collection,
    *,
    pretraining: Collection | None = None,
    seen: AnyCollection[str] = (),
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
            `mammo_hf.data.splits`.
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


# Near duplicates: images that are the same film under another name, by a perceptual hash of the prepared image.
#
# The hash is pHash: the signs of the lowest frequencies of the discrete cosine transform of a small copy, against their
# median (Zauner, "Implementation and benchmarking of perceptual image hash functions", 2010). Mammograms are alike, so
# more frequencies are taken than the usual 8 x 8.


SIDE = 16  # frequencies a side: 256 bits
SMALL = 64  # pixels a side of the copy
MAX_DISTANCE = 20


"""Bits of 256 up to which two images count as one. Measured by ``benchmarks/near_duplicates.py``."""


_BLOCK = 1024
PreparedImages = Iterable[Mapping[str, Any]]


"""Rows with ``image_id``, ``size`` and ``pixels``, as `mammo_hf.data.prepare` writes them."""


def perceptual_hash(image: np.ndarray) -> np.ndarray:
    """The perceptual hash of an image.

    Args:
        image: (height, width), any range.

    Returns:
        uint64 (4,): 256 bits. Equal under any linear change of the grey values with a positive factor.
    """
    small = _shrink(np.asarray(image, np.float32), SMALL)
    low = dctn(small, norm="ortho")[:SIDE, :SIDE].ravel()
    bits = low > np.median(low[1:])  # the first is the mean brightness
    bits[0] = False
    return np.packbits(bits).view(np.uint64)


def _shrink(image: np.ndarray, side: int) -> np.ndarray:
    """Means over a grid of side x side cells that cover the image; a cell is at least one pixel."""
    for axis in (0, 1):
        edges = np.linspace(0, image.shape[axis], side + 1)
        starts = np.minimum(edges[:-1].astype(int), image.shape[axis] - 1)
        counts = np.maximum(np.diff(np.append(starts, image.shape[axis])), 1)
        sums = np.add.reduceat(image, starts, axis=axis)
        image = sums / np.expand_dims(counts, 1 - axis)
    return image


def near_duplicates(
    prepared: PreparedImages, sides: Mapping[str, str], max_distance: int | None = None
) -> Iterator[tuple[str, str, list[str]]]:
    """Pairs of images that stand on two sides and are almost equal.

    Args:
        prepared: The images.
        sides: From each image_id to its side; others are passed over. What the rows say of their split is not asked:
            they may have been prepared before the split was made.
        max_distance: Bits in which they may differ; ``None`` for ``MAX_DISTANCE``.

    Yields:
        The two image_ids and their sides.
    """
    limit = MAX_DISTANCE if max_distance is None else max_distance
    groups: dict[str, tuple[list[str], list[np.ndarray]]] = {}
    for row in prepared:
        if row["image_id"] not in sides:
            continue
        names, hashes = groups.setdefault(sides[row["image_id"]], ([], []))
        names.append(row["image_id"])
        hashes.append(perceptual_hash(pixels_of(row)))
    found = sorted(groups)
    for place, one in enumerate(found):
        for other in found[place + 1 :]:
            for first, second in _close(np.stack(groups[one][1]), np.stack(groups[other][1]), limit):
                yield groups[one][0][first], groups[other][0][second], [one, other]


def _close(one: np.ndarray, other: np.ndarray, limit: int) -> Iterator[tuple[int, int]]:
    for start in range(0, len(one), _BLOCK):
        distances = np.zeros((min(_BLOCK, len(one) - start), len(other)), np.uint16)
        for word in range(one.shape[1]):
            distances += np.bitwise_count(one[start : start + _BLOCK, word, None] ^ other[None, :, word])
        for first, second in np.argwhere(distances <= limit):
            yield start + int(first), int(second)
