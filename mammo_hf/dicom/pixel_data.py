"""Pixel Data (7FE0,0010) as stored values: uncompressed as a view of the file's bytes, others through a decoder."""

from __future__ import annotations

import struct
from typing import Any

import numpy as np
from pydicom.dataset import Dataset
from pydicom.encaps import generate_frames
from pydicom.pixels import get_decoder
from pydicom.uid import UID, ExplicitVRBigEndian, ImplicitVRLittleEndian, RLELossless

from .codestream import FrameHeader, frame_header
from .errors import MammogramError
from .image_pixel import ImagePixel

# PS3.5 G.3.1: two bytes of a run stand for at most 128
_RLE_BEST_RATIO = 64

# gdcm is pydicom's first choice, but it ends the whole process on some damaged files. So it is left to the syntaxes
# that nothing else reads: JPEG lossless, and JPEG-LS without pyjpegls.
_PREFERRED_PLUGINS = ("pydicom", "pylibjpeg", "pyjpegls", "pillow")

_CODECS = "pip install 'mammo-hf[codecs]' if they are missing, or convert the file to Explicit VR Little Endian"
_TRUNCATED = "copy or download the file again"


def stored_values(dataset: Dataset, image: ImagePixel) -> tuple[np.ndarray, tuple[str, ...]]:
    """The stored values, and what in the file contradicts them.

    Args:
        dataset: The image.
        image: Its Image Pixel module.

    Returns:
        An integer array ``(frames, rows, columns)`` in native byte order, read-only, with the sign of
        PixelRepresentation and without the bits beyond BitsStored (PS3.5 8.1.1); and short texts.

    Raises:
        MammogramError: The pixels are cut short, too long, damaged, or compressed in a way that no installed decoder
            reads.
    """
    syntax = _transfer_syntax(dataset)
    data = _pixel_bytes(dataset, syntax, image)
    if syntax.is_private or not syntax.is_transfer_syntax:
        raise MammogramError("its transfer syntax is not known", remedy="export it again as Explicit VR Little Endian")
    notes: tuple[str, ...] = ()
    if syntax.is_compressed:
        words = _decompressed(dataset, data, syntax, image)
    else:
        words, notes = _native(data, syntax, image)
    values, bit_notes = _without_unused_bits(words, image)
    values.flags.writeable = False
    return values, notes + bit_notes


def _transfer_syntax(dataset: Dataset) -> UID:
    """The file's transfer syntax; a dataset without one (made in memory, or from a file without header) is native."""
    meta = getattr(dataset, "file_meta", None)
    syntax = meta.get("TransferSyntaxUID") if meta is not None else None
    if syntax:
        return UID(str(syntax))
    return ExplicitVRBigEndian if dataset.original_encoding[1] is False else ImplicitVRLittleEndian


def _pixel_bytes(dataset: Dataset, syntax: UID, image: ImagePixel) -> bytes:
    element = dataset["PixelData"]
    data = element.value
    if hasattr(data, "read"):
        data = data.read()
    if not isinstance(data, bytes):
        raise MammogramError("its pixel data are no bytes", remedy="set PixelData to bytes")
    if element.VR == "OW" and image.bits_allocated == 8 and not syntax.is_little_endian:
        # PS3.5 8.1.1: 8-bit pixels under OW lie two in a word, the first in its low byte
        return np.frombuffer(data[: len(data) // 2 * 2], ">u2").astype("<u2").tobytes()
    return data


def _native(data: bytes, syntax: UID, image: ImagePixel) -> tuple[np.ndarray, tuple[str, ...]]:
    expected, item = image.nbytes, image.dtype.itemsize
    if len(data) < expected:
        raise MammogramError(f"pixel data are cut short: {len(data)} of {expected} bytes", remedy=_TRUNCATED)
    notes: tuple[str, ...] = ()
    excess = len(data) - expected
    if excess > expected % 2:
        # archives that pad to blocks do so with zeros; anything else means that the size in the header is wrong
        if excess >= expected // image.frames or any(data[expected:]):
            raise MammogramError(
                f"pixel data are {excess} bytes longer than the image that the header describes",
                remedy="mend Rows, Columns, NumberOfFrames or BitsAllocated, or leave the file out",
            )
        notes = (f"pixel data are followed by {excess} bytes of padding",)
    words = np.frombuffer(data, image.dtype.newbyteorder("<" if syntax.is_little_endian else ">"), expected // item)
    return words.astype(image.dtype, copy=False).reshape(image.shape), notes


def _decompressed(dataset: Dataset, data: bytes, syntax: UID, image: ImagePixel) -> np.ndarray:
    try:
        decoder = get_decoder(syntax)
    except NotImplementedError:
        decoder = None
    if decoder is None or not decoder.is_available:
        raise MammogramError(f"no installed decoder reads {syntax.name}", remedy=_CODECS)
    _check_frames(data, syntax, image)
    try:
        # the unused bits are removed later, in one way for every syntax
        options: dict[str, Any] = {"allow_excess_frames": False, "correct_unused_bits": False}
        plugin = next((name for name in _PREFERRED_PLUGINS if name in decoder.available_plugins), "")
        values, _ = decoder.as_array(dataset, raw=True, decoding_plugin=plugin, **options)
    except Exception:  # every decoder has errors of its own, and they may quote the file
        raise MammogramError(
            f"its pixel data ({syntax.name}) cannot be decoded: damaged, or of a kind that no installed decoder reads",
            remedy=_CODECS,
        ) from None
    return values.astype(image.dtype, copy=False).reshape(image.shape)


def _check_frames(data: bytes, syntax: UID, image: ImagePixel) -> None:
    """Count the frames, and refuse those that are not what the header says, before any is unpacked."""
    held = 0
    if syntax == RLELossless and len(data) * _RLE_BEST_RATIO < image.nbytes:
        raise MammogramError("pixel data are too short for the image that the header describes", remedy=_TRUNCATED)
    try:
        for frame in generate_frames(data, number_of_frames=image.frames):
            held += 1
            if syntax != RLELossless:
                _check_frame(frame_header(frame), image)
    except (ValueError, IndexError, EOFError, struct.error):
        raise MammogramError("its compressed pixel data are damaged", remedy=_TRUNCATED) from None
    if held != image.frames:
        raise MammogramError(f"holds {held} frames, its header says {image.frames}", remedy=_TRUNCATED)


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


def _without_unused_bits(words: np.ndarray, image: ImagePixel) -> tuple[np.ndarray, tuple[str, ...]]:
    shift = image.high_bit + 1 - image.bits_stored
    unused = image.bits_allocated - image.bits_stored
    if not unused:
        return words, ()
    lowest, highest = int(words.min()), int(words.max())
    limit = 1 << (image.bits_stored - image.signed)
    if highest < limit and lowest >= (-limit if image.signed else 0):
        # a picture in the upper bits would leave none of them unset: a HighBit that says so is wrong
        return words, (f"HighBit is {image.high_bit}, the pixels lie in the lowest bits",) if shift else ()
    notes: tuple[str, ...] = ()
    if shift:
        notes = (f"HighBit is {image.high_bit} with {image.bits_stored} bits stored",)
    if not image.signed and highest >= 1 << (image.high_bit + 1):
        notes += (f"bits above the {image.bits_stored} stored ones were set and have been removed",)
    # to the top of the word, dropping what lies above, and down again, with the sign or with zeros
    values = np.left_shift(words, unused - shift)
    return np.right_shift(values, unused, out=values), notes
