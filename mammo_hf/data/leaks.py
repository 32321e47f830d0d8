"""Leak check that runs before every training: nothing of one split is in another."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Iterable, Iterator, Mapping
from collections.abc import Collection as AnyCollection
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from scipy.fft import dctn

from ..errors import DataError, MammoError
from ..processing.image_source import open_image
from .prepared_row import pixels_of

if TYPE_CHECKING:
    from .collection import Collection

PreparedImages = Iterable[Mapping[str, Any]]  # rows with image_id, size and pixels, as `data.prepare` writes them
MAX_DISTANCE = 20  # bits of 256 up to which two images count as one; measured by benchmarks/near_duplicates.py
_SHOWN = 10
_PROBE = 1 << 16
# pre-training sees unlabelled and training rows alike: for a leak they are one split
_SIDE = {"train": "training", "unlabelled": "training", "validation": "validation", "test": "test"}


def assert_no_leak(
    collection: Collection,
    *,
    pretraining: Collection | None = None,
    seen: AnyCollection[str] = (),
    prepared: PreparedImages | None = None,
    files: bool = True,
) -> None:
    """Check that no patient, exam, image or file is in two splits.

    The splits are training (with the unlabelled rows, which pre-training sees), validation and test. A row-level
    split of CBIS-DDSM, which this refuses, inflates the AUC by about 0.09. Files are compared by their content: only
    those that have the same size, and then the same start, are read completely.

    Args:
        collection: Collection to check.
        pretraining: Collection of stage 1, if it is another: its images of the training, unlabelled and validation
            splits count as training. Patients are compared if both collections have the same salt.
        seen: Patients that an earlier stage was trained on, if its collection is not at hand; see
            `mammo_hf.data.splits.read_seen`.
        prepared: Prepared images of the collections: with them, near duplicates are looked for too, such as one film
            that was scanned into two sets under two names.
        files: Whether the contents of the files are compared, too, each of which is asked for its size.

    Raises:
        DataError: Lists up to ten offenders of each sort by their hashes; a file by the image_id of its rows.
    """
    rows = _sided(collection, pretraining)
    if len(rows["side"].unique()) < 2 and not seen:  # nothing can be in two
        return
    problems = []
    for name in ("patient", "exam", "image_id"):
        problems += _describe(name, _in_two_splits(rows[name], rows["side"]))
    tested = set(collection.where(split="test").column("patient")) if seen else set()
    problems += _describe("patient", {key: ["an earlier stage", "test"] for key in sorted(tested.intersection(seen))})
    if files:
        contents, images = _contents(rows["path"].to_pylist()), rows["image_id"].to_pylist()
        shared = _in_two_splits(pa.array(contents, pa.string()), rows["side"])
        in_two = {image: shared[file] for file, image in zip(contents, images, strict=True) if file in shared}
        problems += _describe("file", in_two)
    if prepared is not None:
        sides = dict(zip(rows["image_id"].to_pylist(), rows["side"].to_pylist(), strict=True))
        pairs = near_duplicates(prepared, sides)
        problems += _describe("near duplicate", {f"{one} like {other}": splits for one, other, splits in pairs})
    if problems:
        raise DataError(
            "leak between splits: " + "; ".join(problems),
            source="table",
            remedy="put all images of a patient into one split; a saved split keeps that of an earlier stage",
        )


def _sided(collection: Collection, pretraining: Collection | None) -> pa.Table:
    """Return what is compared of each row, and the side that it is on."""
    columns = ("patient", "exam", "image_id", "path", "split")
    rows = collection.to_arrow(*columns)
    # pre-training may have seen a validation image of this collection: that is not a leak into the test split
    known = _SIDE if pretraining is None else _SIDE | {"validation": "training"}
    if pretraining is not None:
        other = pretraining.to_arrow(*columns)
        rows = pa.concat_tables(
            [rows, other.filter(pc.not_equal(other["split"], "test"))], promote_options="permissive"
        )
    place = pc.index_in(rows["split"], pa.array(list(known)))
    return rows.append_column("side", pc.take(pa.array(list(known.values())), place))


def _contents(paths: list[str]) -> list[str]:
    """Name the content of each file: the same name for equal files; the own path for a file of a unique size."""
    names = {path: path for path in paths}
    first: dict[tuple[int, int], str] = {}  # of the paths that lead to one file
    sizes: dict[int, list[str]] = {}
    for path in names:
        try:
            found = os.stat(path)
        except OSError:
            continue  # whatever opens it reports it
        names[path] = first.setdefault((found.st_dev, found.st_ino), path)
        if names[path] == path:
            sizes.setdefault(found.st_size, []).append(path)
    equal: dict[str, str] = {}
    for same_size in sizes.values():
        for same_start in _groups(same_size, _start) if len(same_size) > 1 else ():
            for same in _groups(same_start, _digest):
                equal |= dict.fromkeys(same, min(same))
    return [equal.get(names[path], names[path]) for path in paths]


def _groups(paths: Iterable[str], key: Callable[[str], object]) -> list[list[str]]:
    """Group files with the same key, two or more; unreadable files are left out, as whatever opens them reports it."""
    found: dict[object, list[str]] = {}
    for path in paths:
        try:
            found.setdefault(key(path), []).append(path)
        except OSError:
            continue
    return [group for group in found.values() if len(group) > 1]


def _start(path: str) -> bytes:
    with open(path, "rb") as file:
        return hashlib.sha256(file.read(_PROBE)).digest()


def _digest(path: str) -> bytes:
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").digest()


def _in_two_splits(values: pa.ChunkedArray | pa.Array, sides: pa.ChunkedArray) -> dict[str, list[str]]:
    """Map each value that is on more than one side to these sides, in the order of their rows."""
    pairs = distinct_rows(pa.table({"value": values, "side": sides}).drop_null())
    counts = pairs["value"].value_counts()
    shared = pairs.filter(
        pc.is_in(pairs["value"], counts.field("values").filter(pc.greater(counts.field("counts"), 1)))
    )
    found: dict[str, list[str]] = {}
    for value, side in zip(shared["value"].to_pylist(), shared["side"].to_pylist(), strict=True):
        found.setdefault(value, []).append(side)
    return {value: sorted(of_value) for value, of_value in found.items()}


def distinct_rows(table: pa.Table) -> pa.Table:
    """Return each different row of a table once, in the order of their first places."""
    numbers = np.zeros(len(table), np.int64)
    for column in table.columns:
        words = column.combine_chunks().dictionary_encode(null_encoding="encode")
        numbers = numbers * len(words.dictionary) + words.indices.to_numpy()
    _, first = np.unique(numbers, return_index=True)
    return table.take(np.sort(first))


def _describe(what: str, offenders: dict[str, list[str]]) -> list[str]:
    if not offenders:
        return []
    shown = [f"{value} ({' and '.join(sides)})" for value, sides in list(offenders.items())[:_SHOWN]]
    more = [f"and {len(offenders) - _SHOWN} more"] if len(offenders) > _SHOWN else []
    return [f"{len(offenders)} of {what} in two splits: {', '.join(shown + more)}"]


def copies(collection: Collection) -> list[tuple[str, ...]]:
    """Return the image_ids of each group of images with the same file content."""
    groups: dict[str, list[str]] = {}
    for content, image in zip(_contents(collection.column("path")), collection.column("image_id"), strict=True):
        groups.setdefault(content, []).append(image)
    return [tuple(images) for images in groups.values() if len(images) > 1]


# Near duplicates: images that are the same film under another name, found by a perceptual hash of the prepared image.
#
# The hash is pHash: the signs of the lowest frequencies of the discrete cosine transform of a small copy, against their
# median (Zauner, "Implementation and benchmarking of perceptual image hash functions", 2010). Mammograms are alike, so
# more frequencies are taken than the usual 8 x 8.

_FREQUENCIES = 16  # per side: 256 bits
_SMALL = 64  # pixels per side of the copy
_BLOCK = 1024


def near_duplicates(prepared: PreparedImages, splits: Mapping[str, str]) -> Iterator[tuple[str, str, list[str]]]:
    """Find pairs of images that are in two splits and are almost equal.

    Args:
        prepared: Prepared images.
        splits: From each image_id to its split; other images are skipped. The split in the rows themselves is not
            used, as they may have been prepared before the split was made.

    Yields:
        The two image_ids and their splits.
    """
    groups: dict[str, tuple[list[str], list[np.ndarray]]] = {}
    for row in prepared:
        if row["image_id"] in splits:
            names, hashes = groups.setdefault(splits[row["image_id"]], ([], []))
            names.append(row["image_id"])
            hashes.append(perceptual_hash(pixels_of(row)))
    found = sorted(groups)
    for index, one in enumerate(found):
        for other in found[index + 1 :]:
            for first, second in close_pairs(np.stack(groups[one][1]), np.stack(groups[other][1])):
                yield groups[one][0][first], groups[other][0][second], [one, other]


def similar_images(collection: Collection, other: Collection | None = None) -> list[tuple[str, str]]:
    """Find pairs of images that are almost equal by the perceptual hash of their source files.

    Each file is read whole, which takes a second for a large compressed one; files that cannot be read are left out.

    Args:
        collection: Collection whose images are compared.
        other: Collection that they are compared with; ``None``: with each other.

    Returns:
        Pairs of image_ids, each pair once.
    """
    names, hashes = source_hashes(collection)
    if other is not None:
        other_names, other_hashes = source_hashes(other)
        return [(names[one], other_names[two]) for one, two in close_pairs(hashes, other_hashes)]
    return [(names[one], names[two]) for one, two in close_pairs(hashes, hashes) if one < two]


def source_hashes(collection: Collection) -> tuple[list[str], np.ndarray]:
    """Return the image_ids of a collection's images that can be read, and the perceptual hash of each source file.

    Returns:
        ``(n,)`` image_ids, and uint64 ``(n, 4)`` hashes as `perceptual_hash` gives them.
    """
    names, hashes = [], []
    for image, path in zip(collection.column("image_id"), collection.column("path"), strict=True):
        try:
            pixels = open_image(path).view(slice(None))
        except MammoError:
            continue
        names.append(image)
        hashes.append(perceptual_hash(pixels))
    return names, np.stack(hashes) if hashes else np.zeros((0, _FREQUENCIES**2 // 64), np.uint64)


def close_pairs(one: np.ndarray, other: np.ndarray) -> Iterator[tuple[int, int]]:
    """Yield the places of each two hashes, ``(n, 4)`` and ``(m, 4)``, that are almost equal."""
    for start in range(0, len(one), _BLOCK):
        distances = np.zeros((min(_BLOCK, len(one) - start), len(other)), np.uint16)
        for word in range(one.shape[1]):
            distances += np.bitwise_count(one[start : start + _BLOCK, word, None] ^ other[None, :, word])
        for first, second in np.argwhere(distances <= MAX_DISTANCE):
            yield start + int(first), int(second)


def perceptual_hash(image: np.ndarray) -> np.ndarray:
    """Return the perceptual hash of an image.

    Args:
        image: Image (height, width) of any range.

    Returns:
        Hash of 256 bits, uint64 (4,). It is equal under any linear change of the grey values with a positive factor.
    """
    small = _shrink(np.asarray(image, np.float32), _SMALL)
    low = dctn(small, norm="ortho")[:_FREQUENCIES, :_FREQUENCIES].ravel()
    bits = low > np.median(low[1:])  # the first is the mean brightness
    bits[0] = False
    return np.packbits(bits).view(np.uint64)


def _shrink(image: np.ndarray, side: int) -> np.ndarray:
    """Average over a grid of side x side cells that cover the image; a cell is at least one pixel."""
    for axis in (0, 1):
        edges = np.linspace(0, image.shape[axis], side + 1)
        starts = np.minimum(edges[:-1].astype(int), image.shape[axis] - 1)
        counts = np.maximum(np.diff(np.append(starts, image.shape[axis])), 1)
        sums = np.add.reduceat(image, starts, axis=axis)
        image = sums / np.expand_dims(counts, 1 - axis)
    return image
