"""The stored values of an image: what the header says of them, checked first, and the frames, read when asked for.

Plug-ins in pydicom's format decode compressed frames. What is checked here is what it does not check: sizes before
anything is allocated, that fragments are whole, that the transfer syntax is the one of the pixel data, and the frame's
own header before a decoder sees it.
"""

from __future__ import annotations

import importlib.util
import itertools
import re
import struct
import sys
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from functools import cache
from typing import Any

import numpy as np
from pydicom import uid
from pydicom.dataset import Dataset
from pydicom.pixels.decoders.base import DecodeFunction, DecodeRunner
from pydicom.pixels.utils import get_j2k_parameters
from pydicom.uid import UID

from ..errors import MammoError, install
from ..isolation import isolated
from ..notes import Note
from .codestream import codestream_header, codestream_syntax, ends_early, has_end, lacks_tile_parts, with_last_length
from .display import MAX_PIXELS
from .parsing import COPY_AGAIN, FIX_OR_SKIP, PixelBytes, Place, optional_word, text, word
from .reduced import halvings, low_band
from .types import MammogramError, Photometric

_MOST_FRAMES_OF_LARGEST = 16  # a volume has more frames, but smaller ones
_MOST_FRAMES = 99_999
_WHOLE_NUMBER = re.compile(r"\+?0*(\d+)(?:[.,]0*)?")


@dataclass(frozen=True)
class ImagePixel:
    """The Image Pixel module (PS3.3 C.7.6.3): size and type of the stored values.

    Attributes:
        photometric: Bright end of the values, MONOCHROME1 or MONOCHROME2.
        rows: Height in pixels.
        columns: Width in pixels.
        frames: Number of frames, 1 for a plain image.
        bits_allocated: Bits of a word, 8 or 16.
        bits_stored: Bits of a stored value, 1 to ``bits_allocated``.
        high_bit: The highest bit of a stored value within its word.
        signed: Whether stored values are two's complement.
    """

    photometric: Photometric
    rows: int
    columns: int
    frames: int
    bits_allocated: int
    bits_stored: int
    high_bit: int
    signed: bool

    @property
    def dtype(self) -> np.dtype:
        """Words of the pixels, in the machine's byte order."""
        return np.dtype(f"{'i' if self.signed else 'u'}{self.bits_allocated // 8}")

    @property
    def nbytes(self) -> int:
        """Bytes of all frames, uncompressed."""
        return self.frames * self.rows * self.columns * self.dtype.itemsize


def image_pixel(dataset: Dataset, notes: list[Note], max_pixels: int = MAX_PIXELS) -> ImagePixel:
    """Read and check the Image Pixel module.

    Args:
        dataset: The image.
        notes: List that gets a note on each attribute that means nothing and is passed over.
        max_pixels: Largest number of pixels of a frame.

    Raises:
        MammogramError: An attribute is missing or out of range, the image is in colour, a frame has more than
            ``max_pixels`` pixels, or all frames together more than sixteen times as many.
    """
    photometric = _photometric(dataset, notes)
    rows, columns, frames = _required(dataset, "Rows"), _required(dataset, "Columns"), _frames(dataset, notes)
    allocated, stored = _required(dataset, "BitsAllocated"), _required(dataset, "BitsStored")
    representation = _required(dataset, "PixelRepresentation")
    if not rows or not columns:
        raise MammogramError(f"the image is {rows} x {columns} pixels", remedy="leave the file out")
    if rows * columns > max_pixels or frames * rows * columns > _MOST_FRAMES_OF_LARGEST * max_pixels:
        raise MammogramError(
            f"{frames} frames of {rows} x {columns} are more than {max_pixels} pixels in a frame, or "
            f"{_MOST_FRAMES_OF_LARGEST} times that in all",
            remedy="raise max_pixels if the file is sound",
            code="hostile",
        )
    if allocated not in (8, 16) or not 1 <= stored <= allocated or representation not in (0, 1):
        raise MammogramError(
            f"{stored} bits stored in {allocated} with pixel representation {representation} is not a mammogram type",
            remedy="give an image of 8 or 16 bits allocated",
            code="unsupported",
        )
    high_bit = optional_word(dataset, "HighBit", notes)
    if high_bit is None or not stored - 1 <= high_bit < allocated:
        high_bit = stored - 1
    return ImagePixel(photometric, rows, columns, frames, allocated, stored, high_bit, bool(representation))


def _required(dataset: Dataset, keyword: str) -> int:
    value = word(dataset, keyword)
    if value is None:
        raise MammogramError(f"{keyword} is missing", remedy=FIX_OR_SKIP)
    return value


def _frames(dataset: Dataset, notes: list[Note]) -> int:
    found = text(dataset, "NumberOfFrames")
    number = _WHOLE_NUMBER.fullmatch(found)
    # bounded in length, too: an error repeats it, and a misplaced date or number of a person must not get there
    if number and (len(number[1]) > len(str(_MOST_FRAMES)) or int(number[1]) > _MOST_FRAMES):
        raise MammogramError(f"NumberOfFrames is above {_MOST_FRAMES}", remedy=FIX_OR_SKIP, code="hostile")
    frames = int(number[1]) if number else 0
    if found and (not frames or found != str(frames)):
        notes.append(Note("frames_malformed", frames=frames or 1))
    return frames or 1


_COLOURS = ("RGB", "PALETTE COLOR", "YBR_FULL", "YBR_FULL_422", "YBR_PARTIAL_420", "YBR_ICT", "YBR_RCT", "XYB")


def _photometric(dataset: Dataset, notes: list[Note]) -> Photometric:
    name = text(dataset, "PhotometricInterpretation").upper()
    photometric = Photometric.from_dicom(name)
    if not name:
        raise MammogramError("PhotometricInterpretation is missing", remedy=FIX_OR_SKIP)
    if name in _COLOURS or optional_word(dataset, "SamplesPerPixel", notes) not in (1, None):
        raise MammogramError(
            "is a colour image; mammograms are MONOCHROME1 or MONOCHROME2",
            remedy="leave it out, or convert it to grayscale if that is right",
            code="unsupported",
        )
    if photometric is Photometric.UNKNOWN:
        raise MammogramError("PhotometricInterpretation is neither MONOCHROME1 nor MONOCHROME2", remedy=FIX_OR_SKIP)
    return photometric


@dataclass(frozen=True, eq=False)
class StoredFrames:
    """The frames of an image. A tomosynthesis volume costs the memory of the frames that are looked at.

    Attributes:
        image: The Image Pixel module; its bits are those of the compressed frames if these need more than the header
            says.
        pixels: The pixel data.
        syntax: The transfer syntax that the pixel data are in, whatever the header says.
        places: The fragments of each frame; empty for uncompressed pixel data.
        lowest_bits: Whether the values are in the lowest bits, whatever HighBit says.
        notes: Contradictions between the pixel data and the header.
        on_missing_end: The rule for compressed frames without their end marker: "raise" or "note".
        levels: Number of times that a single frame may be halved while it is decoded; 0: it is read whole.
    """

    image: ImagePixel
    pixels: PixelBytes
    syntax: UID
    places: tuple[Sequence[Place], ...]
    lowest_bits: bool
    notes: tuple[Note, ...]
    on_missing_end: str = "raise"
    levels: int = 0
    _last: dict[tuple[int, int], np.ndarray] = field(default_factory=dict, repr=False)

    def __len__(self) -> int:
        return self.image.frames

    def __getitem__(self, index: int) -> np.ndarray:
        """Return one frame, ``(rows, columns)``, read-only, within the values that BitsStored allows.

        Bits above those of a native frame are removed (PS3.5 8.1.1); a decoded frame has none of them, and values that
        lossy compression has moved beyond the range become its ends (PS3.5 8.2). The frame that was read last is kept.

        Raises:
            MammogramError: The frame is damaged.
        """
        found = self._last.get((index, 0))
        if found is None:
            words, precision = self._words(index)
            found = _stored_values(words, precision, self.image, self.lowest_bits)
            self._keep(index, found)
        return found

    def at_level(self, level: int) -> np.ndarray:
        """Return the only frame at 1 / 2 ** level of its size, read-only: the low band of its wavelet transform.

        Raises:
            MammogramError: The frame is damaged.
        """
        if not 0 < level <= self.levels:
            return self[self.image.frames // 2]
        found = self._last.get((0, level))
        if found is None:
            found = _reduced(self._codestream(0), self.image, self.syntax, level)
            found = np.minimum(found, (1 << self.image.bits_stored) - 1, out=found)
            self._keep(0, found, level)
        return found

    def glance(self, longest: int) -> np.ndarray:
        """Return the middle frame, whole or halved as often as leaves so many pixels on its longest side."""
        middle = self.image.frames // 2
        return self[middle] if self.is_read else self.at_level(self.level_of(longest))

    def level_of(self, longest: int) -> int:
        """Return the highest level at which the longest side of the frame has so many pixels."""
        sides = max(self.image.rows, self.image.columns)
        return max((level for level in range(1, self.levels + 1) if -(-sides >> level) >= longest), default=0)

    @property
    def is_read(self) -> bool:
        """Whether a frame of full size has been read and is kept."""
        return any(level == 0 for _, level in self._last)

    def _keep(self, index: int, values: np.ndarray, level: int = 0) -> None:
        values.flags.writeable = False
        self._last.clear()
        self._last[index, level] = values

    def _may_overshoot(self, index: int) -> bool:
        """Return whether a frame is compressed with more bits than BitsStored."""
        if not self.places or self.syntax in (uid.RLELossless, _ENCAPSULATED_RAW):
            return False
        try:
            return codestream_header(_joined(self.pixels, self.places[index]))[2] > self.image.bits_stored
        except (ValueError, IndexError, struct.error):
            return False  # reading the frame says what is wrong with it

    def _halvings(self) -> int:
        """Return how often the frame can be halved while it is decoded; 0 if it has to be read whole.

        Frames of more bits than BitsStored are read whole unless they are lossless and a look at them shows no more.
        """
        image = self.image
        if not self.places or image.frames > 1 or image.signed or _CODECS.get(self.syntax) not in _WAVELETS:
            return 0
        frame = self._codestream(0)
        precision, (levels, reversible) = _check_codestream(frame, image, self.syntax), halvings(frame)
        if not levels or get_j2k_parameters(frame)["is_signed"]:
            return 0
        if precision > image.bits_stored:
            whole = replace(self, image=replace(image, bits_stored=precision), levels=levels, _last={})
            if not reversible or image.high_bit + 1 != image.bits_stored:
                return 0
            if int(whole.glance(_LOOKED_AT).max()) >= (5 << image.bits_stored) // 4:
                return 0
        return levels

    def _words(self, index: int) -> tuple[np.ndarray, int | None]:
        """Return the words of a frame, and the bits of a compressed frame's values; ``None``: as the header says."""
        if not self.places:
            return _native(self.pixels, self.image, index), None
        frame = self._codestream(index)
        if self.syntax == _ENCAPSULATED_RAW:
            size = self.image.nbytes // self.image.frames
            return _native(PixelBytes(frame, 0, size, False, None, True), self.image, 0), None
        return _decoded(frame, self.image, self.syntax)

    def _codestream(self, index: int) -> bytes:
        """Return the bytes of a compressed frame.

        Raises:
            MammogramError: They have no end marker.
        """
        frame = _joined(self.pixels, self.places[index])
        if self.on_missing_end == "raise" and self._lacks_end(frame):
            raise MammogramError(
                "its compressed pixel data are cut short: they have no end marker",
                remedy=f"{COPY_AGAIN}, or allow it with on_missing_end if its sender never writes one",
            )
        return frame

    def _lacks_end(self, frame: bytes) -> bool:
        return self.syntax in _CODECS and not has_end(frame)


def stored_frames(
    pixels: PixelBytes,
    syntax: UID,
    image: ImagePixel,
    extended: tuple[bytes, bytes] | None = None,
    on_missing_end: str = "raise",
    decode: str = "exact",
) -> StoredFrames:
    """Look for the frames of pixel data. A single one is read at once, those of a volume stay where they are.

    Args:
        pixels: The pixel data.
        syntax: The transfer syntax.
        image: The Image Pixel module.
        extended: The Extended Offset Table and its lengths (PS3.3 C.7.6.3.1.8).
        on_missing_end: The rule for compressed frames without their end marker: "raise" or "note".
        decode: Whether a single frame may be read at a fraction of its size, if it can, instead of at once: "exact" or
            "fast".

    Raises:
        MammogramError: The pixels are cut short, too long, damaged, or compressed in a way that no installed decoder
            reads.
    """
    # Find the frames, and what they are compressed with
    notes: list[Note] = []
    places: tuple[Sequence[Place], ...] = ()
    if _is_encapsulated(pixels, syntax, image):
        places = _frame_places(pixels, image, extended, notes)
        most = _MOST_OF_RAW * image.nbytes // image.frames + _MOST_EXTRA
        if max(sum(length for _, length in frame) for frame in places) > most:
            raise MammogramError(
                "a compressed frame is far longer than an uncompressed one", remedy="leave it out", code="hostile"
            )
        syntax = _actual_syntax(pixels, places[0], syntax, image, notes)
        if syntax not in (_ENCAPSULATED_RAW, uid.RLELossless):
            find_decoder(syntax)
    else:
        syntax = _native_syntax(pixels, syntax, image, notes)
        _check_length(pixels, image, notes)
    frames = StoredFrames(image, pixels, syntax, places, False, tuple(notes), on_missing_end)
    # Find where the bits are: the middle of a volume speaks for all of it
    middle = image.frames // 2
    if places and on_missing_end == "note" and frames._lacks_end(_joined(pixels, places[middle])):
        notes.append(Note("end_missing"))
        frames = replace(frames, notes=tuple(notes))
    if image.frames > 1 and image.high_bit + 1 == image.bits_stored and not frames._may_overshoot(middle):
        return frames
    if decode == "fast" and (levels := frames._halvings()):
        image, lowest = _locate_bits(np.empty((0, 0), image.dtype), 0, image, notes)  # few bits are in the lowest ones
        return replace(frames, image=image, lowest_bits=lowest, notes=tuple(notes), levels=levels)
    words, precision = frames._words(middle)
    image, lowest = _locate_bits(words, precision, image, notes)
    frames = replace(frames, image=image, lowest_bits=lowest, notes=tuple(notes))
    frames._keep(middle, words if lowest else _stored_values(words, precision, image, lowest))
    return frames


def _is_known(syntax: UID) -> bool:
    return not syntax.is_private and syntax.is_transfer_syntax


def _not_known() -> MammogramError:
    return MammogramError(
        "its transfer syntax is not known", remedy="export it again as Explicit VR Little Endian", code="unsupported"
    )


def _fits(pixels: PixelBytes, image: ImagePixel) -> bool:
    """Return whether the pixel data are as long as the uncompressed image, padded to an even length."""
    return 0 <= pixels.length - image.nbytes <= image.nbytes % 2


def _is_encapsulated(pixels: PixelBytes, syntax: UID, image: ImagePixel) -> bool:
    """Return whether pixel data are fragments or a codestream, by their first bytes and length."""
    start = bytes(pixels.read(0, min(pixels.length, _HEAD)))
    if start[:4] == _ITEM:
        return pixels.encapsulated or (_is_known(syntax) and syntax.is_encapsulated) or not _fits(pixels, image)
    return image.frames == 1 and not _fits(pixels, image) and codestream_syntax(start) is not None


def _native_syntax(pixels: PixelBytes, syntax: UID, image: ImagePixel, notes: list[Note]) -> UID:
    """Return the transfer syntax of pixel data that are not fragments."""
    if not _is_known(syntax):
        raise _not_known()
    if not syntax.is_encapsulated and not pixels.encapsulated:
        return syntax
    if not _fits(pixels, image):
        raise MammogramError(
            f"its pixel data are damaged: the header says {syntax.name}, and they are neither fragments nor as long "
            "as the image",
            remedy=COPY_AGAIN,
        )
    if syntax.is_encapsulated:
        notes.append(_contradicted(syntax, uid.ExplicitVRLittleEndian))
        return uid.ExplicitVRLittleEndian
    return syntax


def _contradicted(declared: UID, actual: UID) -> Note:
    name = declared.name if _is_known(declared) else "unknown"
    return Note("transfer_syntax_contradicted", declared=name, actual=actual.name)


def _check_length(pixels: PixelBytes, image: ImagePixel, notes: list[Note]) -> None:
    expected = image.nbytes
    if pixels.length < expected:
        raise MammogramError(f"pixel data are cut short: {pixels.length} of {expected} bytes", remedy=COPY_AGAIN)
    excess = pixels.length - expected
    if excess <= expected % 2:
        return
    # Bytes behind the last pixel are dropped (PS3.5 8.1.1); whole rows, columns or frames of them that are not zero, as
    # archives pad, mean that the size in the header is wrong
    lines = (image.columns * image.dtype.itemsize, image.rows * image.dtype.itemsize)
    whole = any(excess >= line and excess % line <= excess % 2 for line in lines)
    if excess >= expected // image.frames or (whole and any(pixels.read(expected, excess))):
        raise MammogramError(
            f"pixel data are {excess} bytes longer than the image that the header describes",
            remedy="fix Rows, Columns, NumberOfFrames or BitsAllocated, or leave the file out",
        )
    notes.append(Note("padding_bytes", count=excess))


def _native(pixels: PixelBytes, image: ImagePixel, index: int) -> np.ndarray:
    count = image.rows * image.columns
    start = index * count * image.dtype.itemsize
    if pixels.vr == "OW" and image.bits_allocated == 8 and not pixels.little_endian:
        # PS3.5 8.1.1: 8-bit pixels under OW are two in a word, the first in its low byte
        pairs = pixels.read(start // 2 * 2, count + 2)
        swapped = np.frombuffer(pairs[: len(pairs) // 2 * 2], ">u2").astype("<u2").view(image.dtype)
        return swapped[start % 2 : start % 2 + count].reshape(image.rows, image.columns)
    dtype = image.dtype.newbyteorder("<" if pixels.little_endian else ">")
    # raises ValueError if the file has become shorter
    words = np.frombuffer(pixels.read(start, count * dtype.itemsize), dtype, count)
    return words.astype(image.dtype, copy=False).reshape(image.rows, image.columns)


_MOST_OVERSHOOT = 0.05  # fraction of pixels beyond the range by a quarter of it, above which BitsStored is wrong


def _locate_bits(
    words: np.ndarray, precision: int | None, image: ImagePixel, notes: list[Note]
) -> tuple[ImagePixel, bool]:
    """Return the image, with the bits that its values have, and whether all values are in the lowest bits.

    Args:
        words: Words of a frame.
        precision: Bits of a compressed frame's values, ``None`` for a native frame.
        image: The Image Pixel module.
        notes: List that gets what contradicts the header.
    """
    shift = image.high_bit + 1 - image.bits_stored
    if image.bits_allocated == image.bits_stored:
        return image, True
    few = precision is not None and precision <= image.bits_stored and not image.signed
    highest = 0 if few else int(words.max())
    if few or _fit(words, highest, image):
        # an image in the upper bits would leave none of them unset: a HighBit that says so is wrong
        if shift:
            notes.append(Note("high_bit_contradicted", high_bit=image.high_bit))
        return image, True
    if shift:
        notes.append(Note("high_bit_unusual", high_bit=image.high_bit, bits_stored=image.bits_stored))
    if precision is None:
        if not image.signed and highest >= 1 << (image.high_bit + 1):
            notes.append(Note("unused_bits_removed", bits_stored=image.bits_stored))
        return image, False
    return _overshot(words, precision, image, notes) if not shift else (image, False)


def _overshot(words: np.ndarray, precision: int, image: ImagePixel, notes: list[Note]) -> tuple[ImagePixel, bool]:
    """Return the image and whether its values fit, for a frame that is compressed with more bits than BitsStored."""
    limit = (5 << (image.bits_stored - image.signed)) // 4
    beyond = np.count_nonzero(words >= limit) + (np.count_nonzero(words < -limit) if image.signed else 0)
    if beyond <= _MOST_OVERSHOOT * words.size:
        notes.append(Note("bits_saturated", bits_stored=image.bits_stored))
        return image, False
    notes.append(Note("bits_stored_contradicted", bits_stored=image.bits_stored, precision=precision))
    return replace(image, bits_stored=precision, high_bit=precision - 1), True


def _fit(words: np.ndarray, highest: int, image: ImagePixel) -> bool:
    limit = 1 << (image.bits_stored - image.signed)
    return highest < limit and (not image.signed or int(words.min()) >= -limit)


def _stored_values(words: np.ndarray, precision: int | None, image: ImagePixel, lowest_bits: bool) -> np.ndarray:
    """Return the stored values of a frame's words: bits above them removed, or what overshoots set to the range's end.

    Args:
        words: Words of the frame.
        precision: Bits of a compressed frame's values, ``None`` for a native frame.
        image: The Image Pixel module.
        lowest_bits: Whether the values are in the lowest bits, whatever HighBit says.
    """
    if precision is None:
        return _without_unused_bits(words, image, lowest_bits)
    shift = 0 if lowest_bits else image.high_bit + 1 - image.bits_stored
    values = np.right_shift(words, shift) if shift else words
    if (precision - shift <= image.bits_stored and not image.signed) or _fit(values, int(values.max()), image):
        return values
    limit = 1 << (image.bits_stored - image.signed)
    return np.clip(values, -limit if image.signed else 0, limit - 1)


def _without_unused_bits(words: np.ndarray, image: ImagePixel, lowest_bits: bool) -> np.ndarray:
    shift = 0 if lowest_bits else image.high_bit + 1 - image.bits_stored
    unused = image.bits_allocated - image.bits_stored
    if not unused or (not shift and _fit(words, int(words.max()), image)):
        return words
    # to the top of the word, dropping the bits above, and down again, with the sign or with zeros
    values = np.left_shift(words, unused - shift)
    return np.right_shift(values, unused, out=values)


# Compressed pixel data (PS3.5 A.4): fragments, the header of a frame, and the decoders.

_ITEM, _END = b"\xfe\xff\x00\xe0", b"\xfe\xff\xdd\xe0"
_MOST_FRAGMENTS = 1 << 18
_MOST_OF_RAW, _MOST_EXTRA = 2, 1 << 20  # times and bytes above which a compressed frame is longer than any
_HEAD = 4096  # bytes of a frame in which a codestream's first markers are
# Two bytes of a run stand for at most 128 (PS3.5 G.3.1)
_RLE_BEST_RATIO = 64

# libjpeg-turbo 3 reads 8 to 16 bits, DCT and lossless, and the retired processes 3 and 5, 10 and 12
_RETIRED = (UID("1.2.840.10008.1.2.4.52"), UID("1.2.840.10008.1.2.4.55"))
_CODECS: dict[str, str] = {
    **dict.fromkeys((*uid.JPEGTransferSyntaxes, *_RETIRED), "jpeg8"),
    **dict.fromkeys(uid.JPEGLSTransferSyntaxes, "jpegls"),
    **dict.fromkeys((uid.JPEG2000, uid.JPEG2000Lossless), "jpeg2k"),
    **dict.fromkeys((uid.HTJ2K, uid.HTJ2KLossless, uid.HTJ2KLosslessRPCL), "htj2k"),
}
# Encapsulated Uncompressed Explicit VR Little Endian (PS3.5 A.4.11)
_ENCAPSULATED_RAW = UID("1.2.840.10008.1.2.1.98")
# Transfer syntaxes that are read
READ = (
    *(uid.ExplicitVRLittleEndian, uid.ImplicitVRLittleEndian, uid.DeflatedExplicitVRLittleEndian),
    *(uid.ExplicitVRBigEndian, _ENCAPSULATED_RAW, uid.RLELossless, *_CODECS),
)
_LOOKED_AT = 256  # pixels of the longest side, at least, of what is looked at to know the values of a whole frame
_WAVELETS = ("jpeg2k", "htj2k")  # of these, which can be read at a fraction of their size
# Not gdcm, which ends the whole process on some damaged files
_PYDICOM_PLUGINS = ("pylibjpeg", "pyjpegls", "pillow")
_INSTALL = install("codecs")
_CONVERT = "convert the file to Explicit VR Little Endian"


def _frame_places(
    pixels: PixelBytes, image: ImagePixel, extended: tuple[bytes, bytes] | None, notes: list[Note]
) -> tuple[Sequence[Place], ...]:
    """Return the fragments of each frame: by an offset table if it fits the fragments, else by the ends of images.

    Raises:
        MammogramError: A fragment is damaged or cut short, or there are more or fewer frames than announced.
    """
    if bytes(pixels.read(0, 4)) != _ITEM:
        return ([(0, pixels.length)],)  # a codestream without fragments
    table, *fragments = _fragments(pixels)
    fragments = [place for place in fragments if place[1]]
    if image.frames == 1 and fragments:
        return (fragments,)
    basic = bytes(pixels.read(*table))
    first = table[0] + table[1] + 8  # offsets are counted from the first fragment's item
    tables: list[list[Place]] = []
    if extended is not None:
        starts, lengths = (np.frombuffer(part[: len(part) // 8 * 8], "<u8").tolist() for part in extended)
        tables.append([(first + start, length) for start, length in zip(starts, lengths, strict=False)])
    if basic:
        starts = np.frombuffer(basic[: len(basic) // 4 * 4], "<u4").tolist()
        tables.append([(first + start, 0) for start in starts])
    for offsets in tables:
        if found := _by_offsets(fragments, offsets, image.frames):
            return found
    frames = [[place] for place in fragments]
    if len(frames) > image.frames:
        frames = _by_ends(pixels, fragments)
    if len(frames) != image.frames:
        raise MammogramError(f"holds {len(frames)} frames, its header says {image.frames}", remedy=COPY_AGAIN)
    if tables:
        notes.append(Note("offset_table_contradicted"))
    return tuple(frames)


def _fragments(pixels: PixelBytes) -> list[Place]:
    """Return the items of encapsulated pixel data, the Basic Offset Table first (PS3.5 A.4)."""
    places: list[Place] = []
    with pixels.open() as file:
        while len(header := file.read(8)) == 8 and header[:4] != _END:
            length = struct.unpack("<L", header[4:])[0]
            position = file.tell() - pixels.start
            if header[:4] != _ITEM or position + length > pixels.length:
                raise _damaged()
            places.append((position, length))
            if len(places) > _MOST_FRAGMENTS:
                raise MammogramError("has more fragments than any mammogram", remedy="leave it out", code="hostile")
            file.seek(length, 1)
    if len(places) < 2:
        raise _damaged()
    return places


def _by_offsets(fragments: list[Place], offsets: list[Place], frames: int) -> tuple[Sequence[Place], ...] | None:
    """Return the fragments of each frame by an offset table; ``None`` if the table contradicts them.

    Args:
        fragments: All fragments.
        offsets: Position of each frame's first fragment, and its length, 0 if the table does not give it.
        frames: Number of frames.
    """
    numbers = {position: number for number, (position, _) in enumerate(fragments)}
    firsts = [numbers.get(position, -1) for position, _ in offsets]
    rising = all(before < after for before, after in itertools.pairwise(firsts))
    if len(firsts) != frames or not firsts or firsts[0] != 0 or not rising:
        return None
    found = [fragments[start:stop] for start, stop in zip(firsts, [*firsts[1:], len(fragments)], strict=True)]
    # a fragment is padded to an even length
    if any(
        length and not 0 <= sum(part for _, part in frame) - length <= 1
        for frame, (_, length) in zip(found, offsets, strict=True)
    ):
        return None
    return tuple(found)


def _by_ends(pixels: PixelBytes, fragments: list[Place]) -> list[list[Place]]:
    """Return the fragments of each frame, which begins with a codestream's first bytes behind another one's end."""
    begins, ends = [], [True]
    for position, length in fragments:
        begins.append(codestream_syntax(bytes(pixels.read(position, min(length, _HEAD)))) is not None)
        tail = bytes(pixels.read(position + max(0, length - 3), min(3, length)))
        ends.append(b"\xff\xd9" in tail)  # JPEG's and JPEG 2000's end of image, padded or not
    frames: list[list[Place]] = []
    for place, begun, ended in zip(fragments, begins, ends, strict=False):
        if not frames or (ended and begun):
            frames.append([])
        frames[-1].append(place)
    return frames


def _joined(pixels: PixelBytes, places: Sequence[Place]) -> bytes:
    return b"".join(pixels.read(*place) for place in places)


def _actual_syntax(
    pixels: PixelBytes, places: Sequence[Place], syntax: UID, image: ImagePixel, notes: list[Note]
) -> UID:
    """Return the transfer syntax of a frame, by its first bytes and length where the header's is another one.

    Raises:
        MammogramError: The header's is not known, and the frame is of no kind that is recognised.
    """
    start = _joined(pixels, places[:1])[:_HEAD] if places[0][1] <= _HEAD else bytes(pixels.read(places[0][0], _HEAD))
    actual = codestream_syntax(start) or _plain_syntax(start, sum(length for _, length in places), image)
    declared = syntax if _is_known(syntax) else None
    if actual is None and (declared is None or not declared.is_encapsulated):
        raise _not_known() if declared is None else _damaged()
    if actual is None or _CODECS.get(actual, actual) == _CODECS.get(syntax, syntax):
        return syntax
    notes.append(_contradicted(syntax, actual))
    return actual


def _plain_syntax(start: bytes, length: int, image: ImagePixel) -> UID | None:
    """Return the transfer syntax of run lengths (PS3.5 G.5) or of an uncompressed frame, ``None`` for anything else."""
    segments = image.bits_allocated // 8
    if len(start) >= 64:
        number, first, *others = struct.unpack("<16L", start[:64])
        if number == segments and first == 64 and not any(others[segments - 1 :]):
            return uid.RLELossless
    size = image.nbytes // image.frames
    return _ENCAPSULATED_RAW if 0 <= length - size <= size % 2 else None


def _damaged() -> MammogramError:
    return MammogramError("its compressed pixel data are damaged", remedy=COPY_AGAIN)


def _decoded(frame: bytes, image: ImagePixel, syntax: UID) -> tuple[np.ndarray, int | None]:
    """Return the words of a compressed frame, and the bits of its values; ``None`` for run lengths of native words."""
    if syntax == uid.RLELossless:
        return _decoded_runs(frame, image), None
    precision = _check_codestream(frame, image, syntax)
    jpeg_2000 = get_j2k_parameters(frame)
    options: dict[str, Any] = {
        **{"rows": image.rows, "columns": image.columns, "samples_per_pixel": 1, "number_of_frames": 1},
        **{"bits_allocated": image.bits_allocated, "bits_stored": image.bits_stored, "jls_precision": precision},
        **{"pixel_representation": int(image.signed), "photometric_interpretation": image.photometric.value},
        **{f"j2k_{name}": value for name, value in jpeg_2000.items()},
    }
    try:
        words = isolated(_decoded_words, frame, syntax, options)
        words = words.astype(image.dtype, copy=False).reshape(image.rows, image.columns)
    except Exception as error:  # every decoder has errors of its own, and they may quote the file
        if isinstance(error, MammoError) and error.code == "hostile":
            raise
        raise MammogramError(
            f"its pixel data ({syntax.name}) cannot be decoded: damaged, or of a kind that no installed decoder reads",
            remedy=_other_decoder(syntax),
        ) from None
    return _in_sign(words, max(precision, image.bits_stored), image, bool(jpeg_2000.get("is_signed"))), precision


def _reduced(frame: bytes, image: ImagePixel, syntax: UID, level: int) -> np.ndarray:
    """Return a frame's values at 1 / 2 ** level of its size, from 0 on and within the bits of the codestream."""
    precision = _check_codestream(frame, image, syntax)
    try:
        values = isolated(_whole_low_band, frame, _CODECS[syntax], level, (1 << precision) - 1, halvings(frame)[1])
        if values.shape != (-(-image.rows >> level), -(-image.columns >> level)):
            raise ValueError("another size")
    except Exception as error:  # as of `_decoded`
        if isinstance(error, MammoError) and error.code == "hostile":
            raise
        raise MammogramError(
            f"its pixel data ({syntax.name}) cannot be decoded at 1/{1 << level} of their size",
            remedy=f'read them with decode="exact", or {COPY_AGAIN}',
        ) from None
    return values.astype(image.dtype, copy=False)


def _whole_low_band(frame: bytes, codec: str, level: int, highest: int, reversible: bool) -> np.ndarray:
    """Return what `low_band` does of a frame that is all there; this is what runs in a reader process."""
    if lacks_tile_parts(frame):
        raise ValueError("tiles of the image are not there")
    with _no_hidden_error():
        ended = with_last_length(frame) if codec == "htj2k" else frame
        return low_band(ended, codec, level, highest, reversible)


def _decoded_runs(frame: bytes, image: ImagePixel) -> np.ndarray:
    """Return the words of run lengths (PS3.5 G.3 to G.5): a segment per byte of a word, the highest first."""
    number, size = image.bits_allocated // 8, image.rows * image.columns
    if len(frame) * _RLE_BEST_RATIO < number * size:
        raise MammogramError("pixel data are too short for the image that the header describes", remedy=COPY_AGAIN)
    header = struct.unpack("<16L", frame[:64]) if len(frame) >= 64 else (0,)
    if header[0] != number:
        raise _damaged()
    ends = [*header[2 : number + 1], len(frame)]
    planes = np.empty((size, number), np.uint8)
    for plane, start, end in zip(reversed(range(number)), header[1:], ends, strict=False):
        segment = _unpacked(frame[start:end], size)
        if len(segment) < size:
            raise _damaged()
        planes[:, plane] = np.frombuffer(segment, np.uint8, size)
    return planes.view(image.dtype.newbyteorder("<")).astype(image.dtype, copy=False).reshape(image.rows, image.columns)


def _unpacked(segment: bytes, size: int) -> bytearray:
    """Return the bytes of a segment of runs, up to the first run that reaches a size."""
    found, position = bytearray(), 0
    while position + 1 < len(segment) and len(found) < size:
        control = segment[position]
        if control < 128:
            found += segment[position + 1 : position + 2 + control]
            position += 2 + control
        elif control > 128:
            found += segment[position + 1 : position + 2] * (257 - control)
            position += 2
        else:
            position += 1
    return found


def _decoded_words(frame: bytes, syntax: str, options: dict[str, Any]) -> np.ndarray:
    """Return the words of a compressed frame as its decoder gives them; this is what runs in a reader process."""
    syntax = UID(syntax)
    runner = DecodeRunner(syntax)
    runner.set_options(**options)
    words = find_decoder(syntax)(bytes(frame), runner)
    # a plug-in may decode to other words than those that the header allocates, and says so
    return np.frombuffer(words, f"{'i' if runner.pixel_representation else 'u'}{runner.bits_allocated // 8}")


def _in_sign(words: np.ndarray, bits: int, image: ImagePixel, signed: bool) -> np.ndarray:
    """Return decoded words with the sign that the header says, for a codestream with another one.

    Args:
        words: Decoded words.
        bits: Bits of the values in their lowest bits.
        image: The Image Pixel module.
        signed: Whether the codestream's values are signed.
    """
    unused = image.bits_allocated - bits
    if signed == image.signed or unused <= 0:
        return words
    values = np.left_shift(words, unused)
    return np.right_shift(values, unused, out=values)


def _other_decoder(syntax: UID) -> str:
    missing = syntax in _CODECS and not is_available(syntax)
    return f"{_INSTALL}, or {_CONVERT}" if missing else f"{COPY_AGAIN}, or {_CONVERT}"


@cache
def find_decoder(syntax: UID) -> DecodeFunction:
    """Return the decoding plug-in for a transfer syntax, by the three names that pydicom's plug-ins have.

    It is called without a ``Decoder`` of pydicom, which would copy each frame twice more (12 % of the time that an
    HTJ2K frame takes) and log a traceback for each damaged one.

    Raises:
        MammogramError: No installed plug-in reads the transfer syntax.
    """
    for name in (__name__, *(f"pydicom.pixels.decoders.{plugin}" for plugin in _PYDICOM_PLUGINS)):
        plugin = importlib.import_module(name)
        if syntax in plugin.DECODER_DEPENDENCIES and plugin.is_available(syntax):
            decode: DecodeFunction = plugin._decode_frame
            return decode
    remedy = f"{_INSTALL}, or {_CONVERT}" if syntax in _CODECS else _CONVERT
    raise MammogramError(f"no installed decoder reads {syntax.name}", remedy=remedy, code="unsupported")


# The three names that make this module a decoding plug-in, by imagecodecs.
DECODER_DEPENDENCIES = dict.fromkeys(_CODECS, ("imagecodecs",))


def is_available(syntax: str) -> bool:
    """Return whether imagecodecs is installed and decodes a transfer syntax."""
    if syntax not in _CODECS or importlib.util.find_spec("imagecodecs") is None:
        return False
    return bool(getattr(importlib.import_module("imagecodecs"), _CODECS[syntax].upper()).available)


def _decode_frame(src: bytes, runner: DecodeRunner) -> memoryview:
    codec = _CODECS[runner.transfer_syntax]
    decode = getattr(importlib.import_module("imagecodecs"), f"{codec}_decode")
    if codec in ("jpeg2k", "htj2k") and lacks_tile_parts(src):
        raise ValueError("tiles of the image are not there")
    with _no_hidden_error():
        words = decode(with_last_length(src) if codec == "htj2k" else src)
    if codec == "jpeg8" and ends_early(src, words, decode):
        raise ValueError("the coded data end before the image")
    return np.ascontiguousarray(words, runner.pixel_dtype).data


# Errors that a decoder written in Cython reports to `sys.unraisablehook` alone, with an image that is filled up as its
# result, as that of HTJ2K does.

_hidden = threading.local()  # of a thread that decodes: what was reported, as `errors`
_hearing = threading.Lock()
_hearers, _usual_hook = 0, sys.unraisablehook


@contextmanager
def _no_hidden_error() -> Iterator[None]:
    """Raise what a decoder reports as an exception that is ignored.

    Raises:
        ValueError: The decoder has reported one.
    """
    global _hearers, _usual_hook
    errors: list[BaseException] = []
    _hidden.errors = errors
    with _hearing:
        if not _hearers:
            _usual_hook, sys.unraisablehook = sys.unraisablehook, _hear
        _hearers += 1
    try:
        yield
    finally:
        _hidden.errors = None
        with _hearing:
            _hearers -= 1
            if not _hearers:
                sys.unraisablehook = _usual_hook
    if errors:
        raise ValueError(errors[0])


def _hear(report: Any) -> None:
    errors: list[str] | None = getattr(_hidden, "errors", None)
    if errors is not None and "imagecodecs" in str(report.object):
        errors.append(str(report.exc_value))
    else:
        _usual_hook(report)


def _check_codestream(frame: bytes, image: ImagePixel, syntax: UID) -> int:
    """Compare the header of a compressed frame with the file's before a decoder sees it, and return its bits per pixel.

    A small file must not decompress to something enormous, and a decoder written in C must not be given a header that
    it does not check itself: some end the whole process.
    """
    try:
        rows, columns, precision, samples = codestream_header(frame)
    except (ValueError, IndexError, struct.error):
        raise _damaged() from None
    if (rows, columns) != (image.rows, image.columns):
        problem = f"is {rows} x {columns} pixels, its header says {image.rows} x {image.columns}"
    elif samples != 1:
        problem = f"has {samples} samples per pixel, not one"
    elif not 2 <= precision <= image.bits_allocated:
        problem = f"has {precision} bits per pixel, its header allocates {image.bits_allocated}"
    else:
        return precision
    raise MammogramError(f"its compressed image {problem}", remedy="leave the file out, or export it again")
