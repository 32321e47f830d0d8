"""The Image Pixel module (PS3.3 C.7.6.3): what the pixels are, checked before any of them is read."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from pydicom.dataset import Dataset

from .elements import text, word
from .errors import MammogramError
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
