"""Where each frame of encapsulated pixel data lies (PS3.5 A.4), found without reading any of them."""

from __future__ import annotations

import struct
from typing import BinaryIO

from pydicom.encaps import parse_basic_offsets

from .pixel_bytes import PixelBytes

Span = tuple[int, int]
"""First byte of a fragment, counted from the beginning of the pixel data, and its length."""

_ITEM, _END = 0xFFFEE000, 0xFFFEE0DD
_END_OF_IMAGE = b"\xff\xd9"  # of JPEG, JPEG-LS and JPEG 2000 alike


def frame_spans(place: PixelBytes, frames: int, extended: tuple[bytes, bytes] | None = None) -> list[list[Span]]:
    """The fragments of each frame.

    Args:
        place: The pixel data.
        frames: How many frames the header announces.
        extended: The values of ExtendedOffsetTable and ExtendedOffsetTableLengths (PS3.3 C.7.6.3.1.8).

    Returns:
        A list for each frame that is found: not always as many as announced.

    Raises:
        ValueError: The items are damaged, or which of them make a frame cannot be told.
    """
    with place.open() as file:
        basic = parse_basic_offsets(file)
        first = file.tell()
        if extended is not None:
            return _by_extended_offsets(extended, first - place.start)
        fragments = _fragments(file, first, place)
        if len(fragments) == frames:
            return [[fragment] for fragment in fragments]
        if frames == 1:
            return [fragments]
        if basic:
            return _by_offsets(fragments, basic, first - place.start)
        if len(fragments) < frames:
            return [[fragment] for fragment in fragments]
        return _by_ends(fragments, place)


def _fragments(file: BinaryIO, first: int, place: PixelBytes) -> list[Span]:
    file.seek(first)
    found: list[Span] = []
    end = place.start + place.length
    position = first
    while position + 8 <= end:
        group, element, length = struct.unpack("<HHL", file.read(8))
        tag = group << 16 | element
        if tag == _END:
            return found
        if tag != _ITEM or position + 8 + length > end:
            raise ValueError("a fragment is damaged or cut short")
        found.append((position + 8 - place.start, length))
        position += 8 + length
        file.seek(position)
    # a file that ends after its last whole fragment has lost the delimiter alone
    return found


def _by_extended_offsets(extended: tuple[bytes, bytes], first: int) -> list[list[Span]]:
    count = len(extended[0]) // 8
    offsets, lengths = (struct.unpack(f"<{count}Q", table[: 8 * count]) for table in extended)
    return [[(first + offset + 8, length)] for offset, length in zip(offsets, lengths, strict=True)]


def _by_offsets(fragments: list[Span], offsets: list[int], first: int) -> list[list[Span]]:
    # an offset leads to an item's tag, eight bytes before what the item holds
    starts = {first + offset + 8 for offset in offsets}
    frames: list[list[Span]] = []
    for fragment in fragments:
        if fragment[0] in starts or not frames:
            frames.append([])
        frames[-1].append(fragment)
    return frames


def _by_ends(fragments: list[Span], place: PixelBytes) -> list[list[Span]]:
    frames: list[list[Span]] = [[]]
    for start, length in fragments:
        frames[-1].append((start, length))
        tail = place.read(start + max(0, length - 10), min(10, length))
        if _END_OF_IMAGE in tail:
            frames.append([])
    return frames if frames[-1] else frames[:-1]
