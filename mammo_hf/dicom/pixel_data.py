"""The stored values of each frame, read when it is asked for and not before.

Uncompressed frames are a part of the file; compressed ones are decoded one by one. So a tomosynthesis volume costs the
memory of the frames that are looked at.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass, field

import numpy as np
from pydicom.uid import UID, RLELossless

from .codecs import CODECS, Decode, find_decoder
from .codestream import FrameHeader, frame_header
from .encapsulation import Span, frame_spans
from .errors import MammogramError
from .image_pixel import ImagePixel
from .pixel_bytes import PixelBytes

# PS3.5 G.3.1: two bytes of a run stand for at most 128
_RLE_BEST_RATIO = 64
_TRUNCATED = "copy or download the file again"


@dataclass(frozen=True, eq=False)
class StoredFrames:
    """The frames of an image.

    Attributes:
        image: The Image Pixel module.
        place: The pixel data.
        syntax: The transfer syntax.
        spans: The fragments of each frame; empty where the pixels are not compressed.
        lowest_bits: Whether the values lie in the lowest bits, whatever HighBit says.
        notes: What in the pixel data contradicts the header, in words.
    """

    image: ImagePixel
    place: PixelBytes
    syntax: UID
    spans: list[list[Span]]
    lowest_bits: bool
    notes: tuple[str, ...]
    _last: dict[int, np.ndarray] = field(default_factory=dict, repr=False)

    def __len__(self) -> int:
        return self.image.frames

    def __getitem__(self, index: int) -> np.ndarray:
        """One frame, ``(rows, columns)``, native byte order, read-only; bits beyond BitsStored removed (PS3.5 8.1.1).

        The one read last is kept.

        Raises:
            MammogramError: It is damaged.
        """
        found = self._last.get(index)
        if found is None:
            found = _without_unused_bits(_words(self, index), self.image, self.lowest_bits)
            found.flags.writeable = False
            self._last.clear()
            self._last[index] = found
        return found


def stored_frames(
    place: PixelBytes, syntax: UID, image: ImagePixel, extended: tuple[bytes, bytes] | None = None
) -> StoredFrames:
    """The frames of pixel data. A single one is read at once, others are looked for and left where they are.

    Args:
        place: The pixel data.
        syntax: The transfer syntax.
        image: The Image Pixel module.
        extended: The Extended Offset Table and its lengths.

    Raises:
        MammogramError: The pixels are cut short, too long, damaged, or compressed in a way that no installed decoder
            reads.
    """
    if syntax.is_private or not syntax.is_transfer_syntax:
        raise MammogramError("its transfer syntax is not known", remedy="export it again as Explicit VR Little Endian")
    spans: list[list[Span]] = []
    notes: tuple[str, ...] = ()
    if syntax.is_encapsulated:
        find_decoder(syntax)
        spans = _checked_spans(place, syntax, image, extended)
    else:
        notes = _check_length(place, image)
    frames = StoredFrames(image, place, syntax, spans, False, notes)
    shift = image.high_bit + 1 - image.bits_stored
    if image.frames > 1 and not shift:
        return frames
    # a volume's middle speaks for all of it
    middle = image.frames // 2
    words = _words(frames, middle)
    lowest, bit_notes = _where_bits_lie(words, image)
    frames = StoredFrames(image, place, syntax, spans, lowest, notes + bit_notes)
    frames._last[middle] = words if lowest else _without_unused_bits(words, image, lowest)
    frames._last[middle].flags.writeable = False
    return frames


def _words(frames: StoredFrames, index: int) -> np.ndarray:
    if frames.spans:
        return _decoded(frames, index)
    return _native(frames.place, frames.image, index)


def _check_length(place: PixelBytes, image: ImagePixel) -> tuple[str, ...]:
    if place.encapsulated:
        raise MammogramError("its pixel data have no length", remedy=_TRUNCATED)
    expected = image.nbytes
    if place.length < expected:
        raise MammogramError(f"pixel data are cut short: {place.length} of {expected} bytes", remedy=_TRUNCATED)
    excess = place.length - expected
    if excess <= expected % 2:
        return ()
    # archives that pad to blocks do so with zeros; anything else means that the size in the header is wrong
    if excess >= expected // image.frames or any(place.read(expected, excess)):
        raise MammogramError(
            f"pixel data are {excess} bytes longer than the image that the header describes",
            remedy="mend Rows, Columns, NumberOfFrames or BitsAllocated, or leave the file out",
        )
    return (f"pixel data are followed by {excess} bytes of padding",)


def _native(place: PixelBytes, image: ImagePixel, index: int) -> np.ndarray:
    count = image.rows * image.columns
    start = index * count * image.dtype.itemsize
    if place.vr == "OW" and image.bits_allocated == 8 and not place.little_endian:
        # PS3.5 8.1.1: 8-bit pixels under OW lie two in a word, the first in its low byte
        pairs = place.read(start // 2 * 2, count + 2)
        swapped = np.frombuffer(pairs[: len(pairs) // 2 * 2], ">u2").astype("<u2").view(image.dtype)
        return swapped[start % 2 : start % 2 + count].reshape(image.rows, image.columns)
    words = place.words(start, image.dtype.newbyteorder("<" if place.little_endian else ">"), count)
    return words.astype(image.dtype, copy=False).reshape(image.rows, image.columns)


def _checked_spans(
    place: PixelBytes, syntax: UID, image: ImagePixel, extended: tuple[bytes, bytes] | None
) -> list[list[Span]]:
    """The frames' fragments, counted, before any is read."""
    try:
        spans = frame_spans(place, image.frames, extended)
    except (ValueError, struct.error):
        raise MammogramError("its compressed pixel data are damaged", remedy=_TRUNCATED) from None
    if len(spans) != image.frames:
        raise MammogramError(f"holds {len(spans)} frames, its header says {image.frames}", remedy=_TRUNCATED)
    return spans


def _decoded(frames: StoredFrames, index: int) -> np.ndarray:
    image, syntax = frames.image, frames.syntax
    frame = b"".join(frames.place.read(start, length) for start, length in frames.spans[index])
    decode = find_decoder(syntax)
    if syntax == RLELossless:
        if len(frame) * _RLE_BEST_RATIO < image.nbytes // image.frames:
            raise MammogramError("pixel data are too short for the image that the header describes", remedy=_TRUNCATED)
    else:
        try:
            _check_frame(frame_header(frame), image)
        except (ValueError, IndexError, struct.error):
            raise MammogramError("its compressed pixel data are damaged", remedy=_TRUNCATED) from None
    return _run(decode, frame, image, syntax)


def _run(decode: Decode, frame: bytes, image: ImagePixel, syntax: UID) -> np.ndarray:
    try:
        return decode(frame, image).astype(image.dtype, copy=False).reshape(image.rows, image.columns)
    except Exception:  # every decoder has errors of its own, and they may quote the file
        raise MammogramError(
            f"its pixel data ({syntax.name}) cannot be decoded: damaged, or of a kind that no installed decoder reads",
            remedy=CODECS,
        ) from None


def _check_frame(frame: FrameHeader, image: ImagePixel) -> None:
    if (frame.rows, frame.columns) != (image.rows, image.columns):
        problem = f"is {frame.rows} x {frame.columns} pixels, its header says {image.rows} x {image.columns}"
    elif frame.samples != 1:
        problem = f"has {frame.samples} samples in a pixel, not one"
    elif not 2 <= frame.precision <= image.bits_allocated:
        problem = f"has {frame.precision} bits in a pixel, its header allocates {image.bits_allocated}"
    else:
        return
    raise MammogramError(f"its compressed image {problem}", remedy="leave the file out, or export it again")


def _where_bits_lie(words: np.ndarray, image: ImagePixel) -> tuple[bool, tuple[str, ...]]:
    """Whether all values lie in the lowest bits, and what contradicts the header."""
    shift = image.high_bit + 1 - image.bits_stored
    if image.bits_allocated == image.bits_stored:
        return True, ()
    highest = int(words.max())
    if _fit(words, highest, image):
        # a picture in the upper bits would leave none of them unset: a HighBit that says so is wrong
        return True, (f"HighBit is {image.high_bit}, the pixels lie in the lowest bits",) if shift else ()
    notes: tuple[str, ...] = ()
    if shift:
        notes = (f"HighBit is {image.high_bit} with {image.bits_stored} bits stored",)
    if not image.signed and highest >= 1 << (image.high_bit + 1):
        notes += (f"bits above the {image.bits_stored} stored ones were set and have been removed",)
    return False, notes


def _fit(words: np.ndarray, highest: int, image: ImagePixel) -> bool:
    limit = 1 << (image.bits_stored - image.signed)
    return highest < limit and (not image.signed or int(words.min()) >= -limit)


def _without_unused_bits(words: np.ndarray, image: ImagePixel, lowest_bits: bool) -> np.ndarray:
    shift = 0 if lowest_bits else image.high_bit + 1 - image.bits_stored
    unused = image.bits_allocated - image.bits_stored
    if not unused or (not shift and _fit(words, int(words.max()), image)):
        return words
    # to the top of the word, dropping what lies above, and down again, with the sign or with zeros
    values = np.left_shift(words, unused - shift)
    return np.right_shift(values, unused, out=values)
