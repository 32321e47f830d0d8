"""The stored values of an image: what the header says of them, checked first, and the frames, read when asked for.

pydicom finds the frames of compressed pixel data, and plug-ins in its format decode them. What is checked here is what
it does not check: sizes before anything is allocated, that fragments are whole, and the frame's own header before a
decoder sees it.
"""

from __future__ import annotations

import importlib.util
import itertools
import struct
from dataclasses import dataclass, field
from functools import cache
from typing import Any, BinaryIO

import numpy as np
from pydicom import encaps, uid
from pydicom.dataset import Dataset
from pydicom.pixels.decoders.base import DecodeFunction, DecodeRunner
from pydicom.pixels.utils import get_j2k_parameters
from pydicom.uid import UID

from ..notes import Note
from .parsing import COPY_AGAIN, FIX_OR_SKIP, PixelBytes, text, word
from .types import MammogramError, Photometric

# How many pixels a frame may have before the file is refused: more than twice those of the largest film scan
MAX_PIXELS = 1 << 26
# The offsets and lengths of frames, as pydicom takes them
Offsets = tuple[list[int], list[int]] | None

_MOST_FRAMES_OF_LARGEST = 16  # a volume has more frames, but smaller ones
_MOST_FRAME_DIGITS = 5


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


def image_pixel(dataset: Dataset, max_pixels: int = MAX_PIXELS) -> ImagePixel:
    """Read and check the Image Pixel module.

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
            code="hostile",
        )
    if allocated not in (8, 16) or not 1 <= stored <= allocated or representation not in (0, 1):
        raise MammogramError(
            f"{stored} bits stored in {allocated} with pixel representation {representation} is not a mammogram type",
            remedy="give an image of 8 or 16 bits allocated",
            code="unsupported",
        )
    high_bit = word(dataset, "HighBit")
    if high_bit is None or not stored - 1 <= high_bit < allocated:
        high_bit = stored - 1
    return ImagePixel(photometric, rows, columns, frames, allocated, stored, high_bit, bool(representation))


def _required(dataset: Dataset, keyword: str) -> int:
    value = word(dataset, keyword)
    if value is None:
        raise MammogramError(f"{keyword} is missing", remedy=FIX_OR_SKIP)
    return value


def _frames(dataset: Dataset) -> int:
    number = text(dataset, "NumberOfFrames")
    if not number:
        return 1
    # bounded in length, too: an error repeats it, and a misplaced date or number of a person must not get there
    if not (number.isascii() and number.isdigit() and len(number) <= _MOST_FRAME_DIGITS and int(number)):
        raise MammogramError(f"NumberOfFrames is not a number from 1 to {'9' * _MOST_FRAME_DIGITS}", remedy=FIX_OR_SKIP)
    return int(number)


def _photometric(dataset: Dataset) -> Photometric:
    name = text(dataset, "PhotometricInterpretation").upper()
    photometric = Photometric.from_dicom(name)
    if not name:
        raise MammogramError("PhotometricInterpretation is missing", remedy=FIX_OR_SKIP)
    if photometric is Photometric.UNKNOWN or word(dataset, "SamplesPerPixel") not in (1, None):
        raise MammogramError(
            "is a colour image; mammograms are MONOCHROME1 or MONOCHROME2",
            remedy="leave it out, or convert it to grayscale if that is right",
            code="unsupported",
        )
    return photometric


@dataclass(frozen=True, eq=False)
class StoredFrames:
    """The frames of an image. A tomosynthesis volume costs the memory of the frames that are looked at.

    Attributes:
        image: The Image Pixel module.
        pixels: The pixel data.
        syntax: The transfer syntax.
        offsets: Begin and length of each frame of a compressed volume, as in an Extended Offset Table
            (PS3.3 C.7.6.3.1.8); ``None`` if pydicom looks for each when it is read.
        lowest_bits: Whether the values are in the lowest bits, whatever HighBit says.
        notes: Contradictions between the pixel data and the header.
    """

    image: ImagePixel
    pixels: PixelBytes
    syntax: UID
    offsets: Offsets
    lowest_bits: bool
    notes: tuple[Note, ...]
    _last: dict[int, np.ndarray] = field(default_factory=dict, repr=False)

    def __len__(self) -> int:
        return self.image.frames

    def __getitem__(self, index: int) -> np.ndarray:
        """Return one frame, ``(rows, columns)``, read-only, without the bits beyond BitsStored (PS3.5 8.1.1).

        The frame that was read last is kept.

        Raises:
            MammogramError: The frame is damaged.
        """
        found = self._last.get(index)
        if found is None:
            found = _without_unused_bits(self._words(index), self.image, self.lowest_bits)
            found.flags.writeable = False
            self._last.clear()
            self._last[index] = found
        return found

    def _words(self, index: int) -> np.ndarray:
        if not self.syntax.is_encapsulated:
            return _native(self.pixels, self.image, index)
        return _decoded(_encoded(self.pixels, self.image.frames, index, self.offsets), self.image, self.syntax)


def stored_frames(
    pixels: PixelBytes, syntax: UID, image: ImagePixel, extended: tuple[bytes, bytes] | None = None
) -> StoredFrames:
    """Look for the frames of pixel data. A single one is read at once, those of a volume stay where they are.

    Args:
        pixels: The pixel data.
        syntax: The transfer syntax.
        image: The Image Pixel module.
        extended: The Extended Offset Table and its lengths (PS3.3 C.7.6.3.1.8).

    Raises:
        MammogramError: The pixels are cut short, too long, damaged, or compressed in a way that no installed decoder
            reads.
    """
    if syntax.is_private or not syntax.is_transfer_syntax:
        raise MammogramError(
            "its transfer syntax is not known",
            remedy="export it again as Explicit VR Little Endian",
            code="unsupported",
        )
    offsets: Offsets = None
    notes: tuple[Note, ...] = ()
    if syntax.is_encapsulated:
        find_decoder(syntax)
        offsets = _checked_offsets(pixels, image, extended)
    else:
        notes = _check_length(pixels, image)
    frames = StoredFrames(image, pixels, syntax, offsets, False, notes)
    if image.frames > 1 and image.high_bit + 1 == image.bits_stored:
        return frames
    # the middle of a volume speaks for all of it
    middle = image.frames // 2
    words = frames._words(middle)
    lowest, bit_notes = _locate_bits(words, image)
    frames = StoredFrames(image, pixels, syntax, offsets, lowest, notes + bit_notes)
    frames._last[middle] = words if lowest else _without_unused_bits(words, image, lowest)
    frames._last[middle].flags.writeable = False
    return frames


def _check_length(pixels: PixelBytes, image: ImagePixel) -> tuple[Note, ...]:
    if pixels.encapsulated:
        raise MammogramError("its pixel data have no length", remedy=COPY_AGAIN)
    expected = image.nbytes
    if pixels.length < expected:
        raise MammogramError(f"pixel data are cut short: {pixels.length} of {expected} bytes", remedy=COPY_AGAIN)
    excess = pixels.length - expected
    if excess <= expected % 2:
        return ()
    # archives that pad to blocks do so with zeros; anything else means that the size in the header is wrong
    if excess >= expected // image.frames or any(pixels.read(expected, excess)):
        raise MammogramError(
            f"pixel data are {excess} bytes longer than the image that the header describes",
            remedy="fix Rows, Columns, NumberOfFrames or BitsAllocated, or leave the file out",
        )
    return (Note("padding_bytes", count=excess),)


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


def _locate_bits(words: np.ndarray, image: ImagePixel) -> tuple[bool, tuple[Note, ...]]:
    """Return whether all values are in the lowest bits, and what contradicts the header."""
    shift = image.high_bit + 1 - image.bits_stored
    if image.bits_allocated == image.bits_stored:
        return True, ()
    highest = int(words.max())
    if _fit(words, highest, image):
        # an image in the upper bits would leave none of them unset: a HighBit that says so is wrong
        return True, (Note("high_bit_contradicted", high_bit=image.high_bit),) if shift else ()
    notes: tuple[Note, ...] = ()
    if shift:
        notes = (Note("high_bit_unusual", high_bit=image.high_bit, bits_stored=image.bits_stored),)
    if not image.signed and highest >= 1 << (image.high_bit + 1):
        notes += (Note("unused_bits_removed", bits_stored=image.bits_stored),)
    return False, notes


def _fit(words: np.ndarray, highest: int, image: ImagePixel) -> bool:
    limit = 1 << (image.bits_stored - image.signed)
    return highest < limit and (not image.signed or int(words.min()) >= -limit)


def _without_unused_bits(words: np.ndarray, image: ImagePixel, lowest_bits: bool) -> np.ndarray:
    shift = 0 if lowest_bits else image.high_bit + 1 - image.bits_stored
    unused = image.bits_allocated - image.bits_stored
    if not unused or (not shift and _fit(words, int(words.max()), image)):
        return words
    # to the top of the word, dropping the bits above, and down again, with the sign or with zeros
    values = np.left_shift(words, unused - shift)
    return np.right_shift(values, unused, out=values)


# Compressed pixel data (PS3.5 A.4): fragments, the header of a frame, and the decoders.

# Two bytes of a run stand for at most 128 (PS3.5 G.3.1)
_RLE_BEST_RATIO = 64
_FRAME_MARKERS = frozenset({*range(0xC0, 0xD0), 0xF7}) - {0xC4, 0xC8, 0xCC}  # SOF0 to SOF15; JPEG-LS SOF55
_SEGMENT_MARKERS = frozenset({0xC4, 0xCC, 0xDB, 0xDC, 0xDD, 0xDE, *range(0xE0, 0xF0), 0xF8, 0xFE})
_SCAN = 0xDA

# libjpeg-turbo 3 reads 8 to 16 bits, DCT and lossless, and the retired processes 3 and 5, 10 and 12
_RETIRED = (UID("1.2.840.10008.1.2.4.52"), UID("1.2.840.10008.1.2.4.55"))
_CODECS: dict[str, str] = {
    **dict.fromkeys((*uid.JPEGTransferSyntaxes, *_RETIRED), "jpeg8"),
    **dict.fromkeys(uid.JPEGLSTransferSyntaxes, "jpegls"),
    **dict.fromkeys((uid.JPEG2000, uid.JPEG2000Lossless), "jpeg2k"),
    **dict.fromkeys((uid.HTJ2K, uid.HTJ2KLossless, uid.HTJ2KLosslessRPCL), "htj2k"),
}
# Not gdcm, which ends the whole process on some damaged files
_PYDICOM_PLUGINS = ("rle", "pylibjpeg", "pyjpegls", "pillow")
_INSTALL = "pip install 'mammo-hf[codecs]' if it is missing, or convert the file to Explicit VR Little Endian"


def _checked_offsets(pixels: PixelBytes, image: ImagePixel, extended: tuple[bytes, bytes] | None) -> Offsets:
    """Return the offsets and lengths of the frames; ``None`` if pydicom is to look for each when it is read.

    Raises:
        MammogramError: A fragment is damaged or cut short, or there are more or fewer frames than announced.
    """
    offsets: Offsets
    try:
        with pixels.open() as file:
            basic = encaps.parse_basic_offsets(file)
            size = pixels.start + pixels.length - file.tell()
            count = len(extended[0]) // 8 if extended else 0
            if extended and image.frames > 1:
                starts, lengths = (list(struct.unpack(f"<{count}Q", table)) for table in extended)
            else:
                starts, lengths = _fragments(file)
                count = len(starts)
            if any(start + 8 + length > size for start, length in zip(starts, lengths, strict=True)):
                raise ValueError("a fragment is cut short")
            offsets = starts, lengths
            if image.frames == 1:
                count = min(count, 1)
            elif count != image.frames and basic:
                offsets, count = None, len(basic)
            elif count > image.frames:
                file.seek(pixels.start)
                fragmented = encaps.generate_fragmented_frames(file, number_of_frames=image.frames)
                offsets, count = None, sum(1 for _ in fragmented)
    except (ValueError, struct.error):
        raise _damaged() from None
    if count != image.frames:
        raise MammogramError(f"holds {count} frames, its header says {image.frames}", remedy=COPY_AGAIN)
    return offsets


def _fragments(file: BinaryIO) -> tuple[list[int], list[int]]:
    """Return the offsets of all fragments from the file's position, and their lengths.

    pydicom steps over the end of the data, so that the last fragment may end after it.
    """
    first = file.tell()
    _, places = encaps.parse_fragments(file)
    if not places:
        return [], []
    file.seek(places[-1] + 4)
    places.append(places[-1] + 8 + struct.unpack("<L", file.read(4))[0])
    starts = [place - first for place in places[:-1]]
    return starts, [after - place - 8 for place, after in itertools.pairwise(places)]


def _encoded(pixels: PixelBytes, frames: int, index: int, offsets: Offsets) -> bytes:
    try:
        with pixels.open() as file:
            if frames > 1:
                return encaps.get_frame(file, index, number_of_frames=frames, extended_offsets=offsets)
            encaps.parse_basic_offsets(file)
            return b"".join(encaps.generate_fragments(file))
    except (ValueError, struct.error):
        raise _damaged() from None


def _damaged() -> MammogramError:
    return MammogramError("its compressed pixel data are damaged", remedy=COPY_AGAIN)


def _decoded(frame: bytes, image: ImagePixel, syntax: UID) -> np.ndarray:
    decode = find_decoder(syntax)
    precision = _check_codestream(frame, image, syntax)
    options: dict[str, Any] = {
        **{"rows": image.rows, "columns": image.columns, "samples_per_pixel": 1, "number_of_frames": 1},
        **{"bits_allocated": image.bits_allocated, "bits_stored": image.bits_stored, "jls_precision": precision},
        **{"pixel_representation": int(image.signed), "photometric_interpretation": image.photometric.value},
        **{f"j2k_{name}": value for name, value in get_j2k_parameters(frame).items()},
    }
    runner = DecodeRunner(syntax)
    runner.set_options(**options)
    try:
        # a plug-in may decode to other words than those that the header allocates, and says so
        words = np.frombuffer(decode(frame, runner), f"{image.dtype.kind}{runner.bits_allocated // 8}")
        return words.astype(image.dtype, copy=False).reshape(image.rows, image.columns)
    except Exception:  # every decoder has errors of its own, and they may quote the file
        raise MammogramError(
            f"its pixel data ({syntax.name}) cannot be decoded: damaged, or of a kind that no installed decoder reads",
            remedy=_INSTALL,
        ) from None


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
    raise MammogramError(f"no installed decoder reads {syntax.name}", remedy=_INSTALL, code="unsupported")


# The three names that make this module a decoding plug-in, by imagecodecs.
DECODER_DEPENDENCIES = dict.fromkeys(_CODECS, ("imagecodecs",))


def is_available(syntax: str) -> bool:
    """Return whether imagecodecs is installed and decodes a transfer syntax."""
    if syntax not in _CODECS or importlib.util.find_spec("imagecodecs") is None:
        return False
    return bool(getattr(importlib.import_module("imagecodecs"), _CODECS[syntax].upper()).available)


def _decode_frame(src: bytes, runner: DecodeRunner) -> memoryview:
    decode = getattr(importlib.import_module("imagecodecs"), f"{_CODECS[runner.transfer_syntax]}_decode")
    return np.ascontiguousarray(decode(src), runner.pixel_dtype).data


def _check_codestream(frame: bytes, image: ImagePixel, syntax: UID) -> int:
    """Compare the header of a compressed frame with the file's before a decoder sees it, and return its bits per pixel.

    A small file must not decompress to something enormous, and a decoder written in C must not be given a header that
    it does not check itself: some end the whole process.
    """
    if syntax == uid.RLELossless:
        if len(frame) * _RLE_BEST_RATIO < image.nbytes // image.frames:
            raise MammogramError("pixel data are too short for the image that the header describes", remedy=COPY_AGAIN)
        return image.bits_allocated
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


def codestream_header(frame: bytes) -> tuple[int, int, int, int]:
    """Read the header of a JPEG, JPEG-LS, JPEG 2000 or HTJ2K frame.

    Returns:
        Rows, columns, bits of a sample, and samples per pixel: ITU-T T.81 B.2, T.87 C.2 (marker segments up to the
        scan) and T.800 A.5.1 (SIZ marker).

    Raises:
        ValueError: The frame has no such header, or is damaged before the first scan.
    """
    start = frame.find(b"\xff\x4f\xff\x51", 0, 4096)  # after the boxes of a JP2 file, if there are any
    if start >= 0:
        return _jpeg_2000_header(frame[start + 4 : start + 43])
    if frame[:2] == b"\xff\xd8":
        return _jpeg_header(frame)
    raise ValueError("no codestream")


def _jpeg_2000_header(segment: bytes) -> tuple[int, int, int, int]:
    if len(segment) < 39:
        raise ValueError("no SIZ marker")
    # Lsiz, Rsiz, then the image's and the tiles' extent and offset, the number of samples, and the first one's depth
    right, bottom, left, top = struct.unpack(">IIII", segment[4:20])
    samples, depth = struct.unpack(">HB", segment[36:39])
    return bottom - top, right - left, (depth & 0x7F) + 1, samples


def _jpeg_header(frame: bytes) -> tuple[int, int, int, int]:
    found: tuple[int, int, int, int] | None = None
    position = 2
    while position + 4 <= len(frame):
        fill, marker, length = struct.unpack(">BBH", frame[position : position + 4])
        if fill == 0xFF and marker == 0xFF:  # T.81 B.1.1.2: any number of fill bytes may precede a marker
            position += 1
            continue
        if fill == 0xFF and marker == _SCAN and found is not None:
            return found
        if fill != 0xFF or length < 2 or position + 2 + length > len(frame):
            break
        if marker in _FRAME_MARKERS and found is None and length >= 8:
            precision, rows, columns, samples = struct.unpack(">BHHB", frame[position + 4 : position + 10])
            found = rows, columns, precision, samples
        elif marker not in _SEGMENT_MARKERS:
            break
        position += 2 + length
    raise ValueError("marker segments are damaged")
