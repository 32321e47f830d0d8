"""The Image Pixel module (PS3.3 C.7.6.3): what the pixels are, checked before any of them is read."""

from __future__ import annotations

import importlib
import struct
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cache
from typing import Any, BinaryIO

import numpy as np
from pydicom.dataset import Dataset
from pydicom.encaps import encapsulate, parse_basic_offsets
from pydicom.pixels import get_decoder
from pydicom.uid import (
    HTJ2K,
    JPEG2000,
    UID,
    HTJ2KLossless,
    HTJ2KLosslessRPCL,
    JPEG2000Lossless,
    JPEGBaseline8Bit,
    JPEGExtended12Bit,
    JPEGLossless,
    JPEGLosslessSV1,
    JPEGLSLossless,
    JPEGLSNearLossless,
    RLELossless,
)

from .errors import MammogramError
from .parsing import PixelBytes, text, word
from .types import Photometric

MAX_PIXELS = 1 << 26


"""How many pixels a frame may say it has before the file is refused: more than twice those of the largest film scan."""


_MOST_FRAMES_OF_LARGEST = 16  # a volume has more frames, but smaller ones
_MOST_FRAME_DIGITS = 5


@dataclass(frozen=True)
class ImagePixel:
    """Size and type of the stored values.

    Attributes:
        frames: Number of frames, 1 for a plain image.
        rows: Height in pixels.
        columns: Width in pixels.
        bits_allocated: 8 or 16.
        bits_stored: 1 to ``bits_allocated``.
        high_bit: The highest bit of a stored value within its word.
        signed: Two's complement.
        photometric: MONOCHROME1 or MONOCHROME2.
    """

    frames: int
    rows: int
    columns: int
    bits_allocated: int
    bits_stored: int
    high_bit: int
    signed: bool
    photometric: Photometric

    @property
    def dtype(self) -> np.dtype:
        """The words of the pixels, in the machine's byte order."""
        return np.dtype(f"{'i' if self.signed else 'u'}{self.bits_allocated // 8}")

    @property
    def shape(self) -> tuple[int, int, int]:
        """``(frames, rows, columns)``."""
        return self.frames, self.rows, self.columns

    @property
    def nbytes(self) -> int:
        """Bytes of all frames, uncompressed."""
        return self.frames * self.rows * self.columns * self.dtype.itemsize


def image_pixel(dataset: Dataset, max_pixels: int = MAX_PIXELS) -> ImagePixel:
    """Read and check the module.

    Raises:
        MammogramError: An attribute is missing or out of range, the image is in colour, a frame has more than
            ``max_pixels`` pixels, or all frames together more than sixteen times as many.
    """
    photometric = _photometric(dataset)
    rows, columns, frames = _required(dataset, "Rows"), _required(dataset, "Columns"), _frames(dataset)
    allocated, stored = _required(dataset, "BitsAllocated"), _required(dataset, "BitsStored")
    representation = _required(dataset, "PixelRepresentation")
    if not rows or not columns:
        raise MammogramError(f"the image is {rows} x {columns} pixels", remedy="leave the file out")
    if rows * columns > max_pixels or frames * rows * columns > _MOST_FRAMES_OF_LARGEST * max_pixels:
        raise MammogramError(
            f"{frames} frames of {rows} x {columns} are more than {max_pixels} pixels in a frame, or "
            f"{_MOST_FRAMES_OF_LARGEST} times that in all",
            remedy="raise max_pixels if the file is sound",
        )
    if allocated not in (8, 16) or not 1 <= stored <= allocated or representation not in (0, 1):
        raise MammogramError(
            f"{stored} bits stored in {allocated}, pixel representation {representation}: no type that mammograms have",
            remedy="give an image of 8 or 16 bits allocated",
        )
    high_bit = word(dataset, "HighBit")
    if high_bit is None or not stored - 1 <= high_bit < allocated:
        high_bit = stored - 1
    return ImagePixel(frames, rows, columns, allocated, stored, high_bit, bool(representation), photometric)


def _required(dataset: Dataset, keyword: str) -> int:
    value = word(dataset, keyword)
    if value is None:
        raise MammogramError(f"{keyword} is missing", remedy="mend the header or leave the file out")
    return value


def _frames(dataset: Dataset) -> int:
    number = text(dataset, "NumberOfFrames")
    if not number:
        return 1
    # bounded in length, too: an error repeats it, and a misplaced date or number of a person must not get there
    if not (number.isascii() and number.isdigit() and len(number) <= _MOST_FRAME_DIGITS and int(number)):
        raise MammogramError(
            f"NumberOfFrames is no number from 1 to {'9' * _MOST_FRAME_DIGITS}",
            remedy="mend the header or leave the file out",
        )
    return int(number)


def _photometric(dataset: Dataset) -> Photometric:
    name = text(dataset, "PhotometricInterpretation").upper()
    photometric = Photometric.from_dicom(name)
    samples = word(dataset, "SamplesPerPixel")
    if not name:
        raise MammogramError("PhotometricInterpretation is missing", remedy="mend the header or leave the file out")
    if photometric is Photometric.UNKNOWN or samples not in (1, None):
        raise MammogramError(
            "is a colour image; mammograms are MONOCHROME1 or MONOCHROME2",
            remedy="leave it out, or convert it to grayscale where that is right",
        )
    return photometric


# Where each frame of encapsulated pixel data lies (PS3.5 A.4), found without reading any of them.


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


# The header of a compressed frame: what it says of its size, before any decoder sees it.
#
# A small file must not unpack to something enormous, and a decoder written in C must not be given a header that it does
# not check itself: some end the whole process.


_FRAME_MARKERS = frozenset({*range(0xC0, 0xD0), 0xF7}) - {0xC4, 0xC8, 0xCC}  # SOF0 to SOF15; JPEG-LS SOF55
_SEGMENT_MARKERS = frozenset({0xC4, 0xCC, 0xDB, 0xDC, 0xDD, 0xDE, *range(0xE0, 0xF0), 0xF8, 0xFE})
_SCAN = 0xDA
_JPEG_START = b"\xff\xd8"
_J2K_START = b"\xff\x4f\xff\x51"


@dataclass(frozen=True)
class FrameHeader:
    """Size and type of a compressed frame.

    Attributes:
        rows: Height in pixels.
        columns: Width in pixels.
        precision: Bits of a sample.
        samples: 1 for grayscale.
    """

    rows: int
    columns: int
    precision: int
    samples: int


def frame_header(frame: bytes) -> FrameHeader:
    """Read the header of a JPEG, JPEG-LS, JPEG 2000 or HTJ2K frame.

    ITU-T T.81 B.2, T.87 C.2 (marker segments up to the scan) and T.800 A.5.1 (SIZ marker).

    Raises:
        ValueError: It is none, or is damaged before the first scan.
    """
    start = frame.find(_J2K_START, 0, 4096)  # after the boxes of a JP2 file, if there are any
    if start >= 0:
        return _jpeg_2000(frame[start + 4 : start + 43])
    if frame[:2] == _JPEG_START:
        return _jpeg(frame)
    raise ValueError("no codestream")


def _jpeg_2000(segment: bytes) -> FrameHeader:
    if len(segment) < 39:
        raise ValueError("no SIZ marker")
    # Lsiz, Rsiz, then the image's and the tiles' extent and offset, the number of samples, and the first one's depth
    right, bottom, left, top = struct.unpack(">IIII", segment[4:20])
    samples, depth = struct.unpack(">HB", segment[36:39])
    return FrameHeader(bottom - top, right - left, (depth & 0x7F) + 1, samples)


def _jpeg(frame: bytes) -> FrameHeader:
    found: FrameHeader | None = None
    position = 2
    while position + 4 <= len(frame):
        fill, marker, length = struct.unpack(">BBH", frame[position : position + 4])
        if fill == 0xFF and marker == 0xFF:  # T.81 B.1.1.2: any number of fill bytes may stand before a marker
            position += 1
            continue
        if fill == 0xFF and marker == _SCAN and found is not None:
            return found
        if fill != 0xFF or length < 2 or position + 2 + length > len(frame):
            break
        if marker in _FRAME_MARKERS and found is None and length >= 8:
            precision, rows, columns, samples = struct.unpack(">BHHB", frame[position + 4 : position + 10])
            found = FrameHeader(rows, columns, precision, samples)
        elif marker not in _SEGMENT_MARKERS or _is_unknown_jfif(frame[position + 1 : position + 10]):
            break
        position += 2 + length
    raise ValueError("marker segments are damaged")


def _is_unknown_jfif(segment: bytes) -> bool:
    """Whether an APP0 segment announces a JFIF version other than 1.x: there is none, and gdcm aborts on it."""
    return segment[:1] == b"\xe0" and segment[3:8] == b"JFIF\0" and segment[8:9] != b"\1"


# One compressed frame becomes an array: by imagecodecs, the extra ``codecs``, or by what pydicom finds installed.


# retired processes 3 and 5, 10 and 12, which libjpeg-turbo reads with the others
_EXTENDED_3_5, _PROGRESSIVE = UID("1.2.840.10008.1.2.4.52"), UID("1.2.840.10008.1.2.4.55")
_JPEG = (JPEGBaseline8Bit, JPEGExtended12Bit, JPEGLossless, JPEGLosslessSV1, _EXTENDED_3_5, _PROGRESSIVE)
_IMAGECODECS: dict[UID, str] = {
    **dict.fromkeys(_JPEG, "jpeg8_decode"),  # libjpeg-turbo 3: 8 to 16 bits, DCT and lossless
    **dict.fromkeys((JPEGLSLossless, JPEGLSNearLossless), "jpegls_decode"),
    **dict.fromkeys((JPEG2000, JPEG2000Lossless), "jpeg2k_decode"),
    **dict.fromkeys((HTJ2K, HTJ2KLossless, HTJ2KLosslessRPCL), "htj2k_decode"),
}
# not gdcm, which ends the whole process on some damaged files
_PYDICOM_PLUGINS = ("pydicom", "pylibjpeg", "pyjpegls", "pillow")
CODECS = "pip install 'mammo-hf[codecs]' if it is missing, or convert the file to Explicit VR Little Endian"
Decode = Callable[[bytes, ImagePixel], np.ndarray]


def find_decoder(syntax: UID) -> Decode:
    """What decodes a frame of a transfer syntax to ``(rows, columns)``; it raises anything on damaged data.

    Raises:
        MammogramError: Nothing that is installed does.
    """
    library = _imagecodecs()
    name = _IMAGECODECS.get(syntax, "")
    if library is not None and name and getattr(library, name.removesuffix("_decode").upper()).available:
        decode = getattr(library, name)
        return lambda frame, image: decode(frame)
    plugin = _pydicom_plugin(syntax)
    if plugin is None:
        raise MammogramError(f"no installed decoder reads {syntax.name}", remedy=CODECS)
    return lambda frame, image: _by_pydicom(frame, image, syntax, plugin)


@cache
def _imagecodecs() -> Any:
    try:
        return importlib.import_module("imagecodecs")
    except ImportError:
        return None


def _pydicom_plugin(syntax: UID) -> str | None:
    try:
        available = get_decoder(syntax).available_plugins
    except NotImplementedError:
        return None
    return next((name for name in _PYDICOM_PLUGINS if name in available), None)


def _by_pydicom(frame: bytes, image: ImagePixel, syntax: UID, plugin: str) -> np.ndarray:
    # the unused bits are removed later, in one way for every syntax
    options: dict[str, Any] = {
        **{"allow_excess_frames": False, "correct_unused_bits": False, "pixel_keyword": "PixelData"},
        **{"number_of_frames": 1, "rows": image.rows, "columns": image.columns, "samples_per_pixel": 1},
        **{"bits_allocated": image.bits_allocated, "bits_stored": image.bits_stored},
        **{"pixel_representation": int(image.signed), "photometric_interpretation": image.photometric.value},
    }
    data = encapsulate([frame], has_bot=False)
    values, _ = get_decoder(syntax).as_array(data, raw=True, decoding_plugin=plugin, **options)
    return values


# The stored values of each frame, read when it is asked for and not before.
#
# Uncompressed frames are a part of the file; compressed ones are decoded one by one. So a tomosynthesis volume costs
# the memory of the frames that are looked at.


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
