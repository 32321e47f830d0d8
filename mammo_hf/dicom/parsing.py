"""From a file, its bytes or a dataset to the attributes that the reader asks for, and the place of the pixels.

Files come from strangers. So the header is read by the names of its attributes, everything else is skipped, the pixels
are left where they are, and what a header may cost is bounded: in bytes, in steps, and in what it unpacks to.
"""

from __future__ import annotations

import io
import os
import zlib
from collections.abc import Callable
from pathlib import Path
from struct import unpack
from typing import Any, BinaryIO, cast

from pydicom.config import IGNORE
from pydicom.datadict import tag_for_keyword
from pydicom.dataset import Dataset
from pydicom.filereader import read_dataset
from pydicom.tag import BaseTag
from pydicom.uid import (
    UID,
    DeflatedExplicitVRLittleEndian,
    ExplicitVRBigEndian,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
)
from pydicom.valuerep import EXPLICIT_VR_LENGTH_32

from .elements import text
from .errors import MammogramError
from .pixel_bytes import UNDEFINED_LENGTH, DeflatedPixelBytes, PixelBytes

# what a header may take: one of a tomosynthesis volume with its frames' functional groups takes some 20,000 steps
_MOST_BYTES = 1 << 25
_MOST_STEPS = 100_000

_PIXEL_TAGS = (0x7FE00008, 0x7FE00009, 0x7FE00010)  # FloatPixelData, DoubleFloatPixelData, PixelData
_KEYWORDS = (
    *("SOPClassUID", "Modality", "PresentationIntentType", "ImageType", "Manufacturer", "ManufacturerModelName"),
    *(
        "SeriesDescription",
        "PatientID",
        "PatientOrientation",
        "Laterality",
        "ImageLaterality",
        "ViewPosition",
        "ViewCodeSequence",
    ),
    *("ViewModifierCodeSequence", "BreastImplantPresent", "KVP", "BodyPartThickness", "CompressionForce"),
    *("ImagerPixelSpacing", "PixelSpacing", "NominalScannedPixelSpacing", "EstimatedRadiographicMagnificationFactor"),
    *("SamplesPerPixel", "PhotometricInterpretation", "NumberOfFrames", "Rows", "Columns", "BitsAllocated"),
    *("BitsStored", "HighBit", "PixelRepresentation", "PixelPaddingValue", "PixelPaddingRangeLimit"),
    *("PixelIntensityRelationship", "PixelIntensityRelationshipSign", "PresentationLUTShape"),
    *("RescaleSlope", "RescaleIntercept", "ModalityLUTSequence", "VOILUTSequence", "VOILUTFunction"),
    *("WindowCenter", "WindowWidth", "WindowCenterWidthExplanation"),
    *("XRay3DAcquisitionSequence", "SharedFunctionalGroupsSequence", "PerFrameFunctionalGroupsSequence"),
    *("ExtendedOffsetTable", "ExtendedOffsetTableLengths"),
)
_TAGS: list[BaseTag | int] = [tag for keyword in _KEYWORDS if (tag := tag_for_keyword(keyword)) is not None]

_NO_DICOM, _ANOTHER = "is no DICOM file", "give a DICOM file, or leave this one out"
_FLOATS = "its pixels are floating point numbers"
_COPY_AGAIN = "copy or download the file again"


class _Header:
    """A file whose reads are counted, and clipped to what the file holds, so that no length in it costs memory."""

    def __init__(self, file: BinaryIO, size: int) -> None:
        self._file, self._size = file, size
        self._bytes, self._steps = _MOST_BYTES, _MOST_STEPS
        self.seek, self.tell = file.seek, file.tell

    def read(self, size: int = -1) -> bytes:
        """As of any file.

        Raises:
            MammogramError: The header has taken more than a header may.
        """
        if size < 0 or size > 4096:
            left = max(0, self._size - self._file.tell())
            size = left if size < 0 else min(size, left)
        self._bytes -= size
        self._steps -= 1
        if self._bytes < 0 or self._steps < 0:
            raise MammogramError("its header is longer than any mammogram's", remedy="leave the file out")
        return self._file.read(size)


def parse(source: Any) -> tuple[Dataset, UID, PixelBytes | None]:
    """The header of a source.

    Args:
        source: A path, bytes, a binary file object or a ``Dataset``.

    Returns:
        The attributes that a mammogram's reader needs, the transfer syntax, and where the pixels lie; ``None`` if there
        are none.

    Raises:
        MammogramError: It cannot be opened, or is no DICOM file.
    """
    if isinstance(source, Dataset):
        return _from_dataset(source)
    if isinstance(source, (str, os.PathLike)):
        path = _checked(Path(source))
        with path.open("rb") as file:
            return _from_file(file, os.fspath(path), os.fstat(file.fileno()).st_size)
    if not isinstance(source, (bytes, bytearray, memoryview)) and not hasattr(source, "read"):
        raise MammogramError(
            f"a {type(source).__name__} cannot be read", remedy="give a path, bytes, a binary file object or a Dataset"
        )
    # the file object is its caller's, who may close or move it
    content = source.read() if hasattr(source, "read") else source
    content = content if isinstance(content, bytes) else bytes(content)
    return _from_file(io.BytesIO(content), content, len(content))


def _checked(path: Path) -> Path:
    if path.is_dir():
        raise MammogramError("is a folder", remedy="give the path of one DICOM file")
    if not path.exists():
        raise MammogramError("there is no such file", remedy="check the path")
    if not path.is_file():
        raise MammogramError("is no regular file", remedy="give the path of one DICOM file")
    return path


def _from_dataset(dataset: Dataset) -> tuple[Dataset, UID, PixelBytes | None]:
    meta = getattr(dataset, "file_meta", None)
    syntax = _uid(meta) if meta is not None else UID("")
    if not syntax:  # made in memory, or from a file without header
        syntax = ExplicitVRBigEndian if dataset.original_encoding[1] is False else ImplicitVRLittleEndian
    if "PixelData" not in dataset:
        if "FloatPixelData" in dataset or "DoubleFloatPixelData" in dataset:
            raise MammogramError(_FLOATS, remedy="leave the file out")
        return dataset, syntax, None
    element = dataset["PixelData"]
    data = element.value.read() if hasattr(element.value, "read") else element.value
    if not isinstance(data, bytes):
        raise MammogramError("its pixel data are no bytes", remedy="set PixelData to bytes")
    known = syntax.is_transfer_syntax and not syntax.is_private
    place = PixelBytes(data, 0, len(data), known and syntax.is_encapsulated, element.VR, syntax != ExplicitVRBigEndian)
    return dataset, syntax, place


def _from_file(file: BinaryIO, holder: bytes | str, size: int) -> tuple[Dataset, UID, PixelBytes | None]:
    header = _Header(file, size)
    syntax = _transfer_syntax(header, size)
    if syntax == DeflatedExplicitVRLittleEndian:
        return _from_deflated(file)
    dataset, place = _parsed(header, syntax, holder, size)
    return dataset, syntax, place


def _transfer_syntax(header: _Header, size: int) -> UID:
    """Read the file meta information, or guess for a file without one; the file is then at its data set."""
    if not size:
        raise MammogramError("is empty", remedy=_COPY_AGAIN)
    beginning = header.read(132)
    if beginning[128:132] != b"DICM":
        # files from before DICOM Part 10 begin with the first attributes, of group 0002 or 0008, and no preamble
        if beginning[:2] not in (b"\x02\0", b"\x08\0"):
            raise MammogramError(_NO_DICOM, remedy=_ANOTHER)
        header.seek(0)
    meta = read_dataset(cast(BinaryIO, header), False, True, stop_when=lambda tag, vr, length: tag >> 16 != 2)
    syntax = _uid(meta)
    if not syntax:
        return _guessed_syntax(header)
    return syntax


def _uid(meta: Dataset) -> UID:
    # pydicom's validation would warn and quote what stands there, which in a damaged file may be a person's
    return UID(text(meta, "TransferSyntaxUID"), validation_mode=IGNORE)


def _guessed_syntax(header: _Header) -> UID:
    start = header.read(6)
    header.seek(-len(start), os.SEEK_CUR)
    if len(start) < 6 or not start[4:6].isalpha() or not start[4:6].isupper():
        return ImplicitVRLittleEndian
    # group 0008 read in the wrong order is 0800
    return ExplicitVRLittleEndian if unpack("<H", start[:2])[0] < 0x0400 else ExplicitVRBigEndian


def _parsed(
    header: _Header, syntax: UID, holder: bytes | str, size: int, unpack: Callable[[int], bytes] | None = None
) -> tuple[Dataset, PixelBytes | None]:
    found: list[tuple[int, str | None, int]] = []

    def at_pixels(tag: BaseTag, vr: str | None, length: int) -> bool:
        if tag not in _PIXEL_TAGS:
            return False
        found.append((tag, vr, length))
        return True

    little = syntax != ExplicitVRBigEndian
    dataset = read_dataset(
        cast(BinaryIO, header),
        syntax == ImplicitVRLittleEndian,  # any other, known or not, is explicit (PS3.5 A.4)
        little,
        stop_when=at_pixels,
        specific_tags=_TAGS,
    )
    if not found:
        return dataset, None
    tag, vr, length = found[-1]
    if tag != 0x7FE00010:
        raise MammogramError(_FLOATS, remedy="leave the file out")
    # the parser has gone back to the element's beginning: tag, VR and length take 8 or 12 bytes
    start = header.tell() + (12 if vr in EXPLICIT_VR_LENGTH_32 else 8)
    there = max(0, size - start)
    common = (length == UNDEFINED_LENGTH, vr, little)
    if unpack is not None:
        return dataset, DeflatedPixelBytes(holder, start, min(length, there), *common, length, unpack)
    return dataset, PixelBytes(holder, start, min(length, there), *common)


def _from_deflated(file: BinaryIO) -> tuple[Dataset, UID, PixelBytes | None]:
    """A deflated data set (PS3.5 A.5), unpacked as far as a header goes."""
    unpacking = zlib.decompressobj(-zlib.MAX_WBITS)
    packed = file.read()

    def unpack(size: int) -> bytes:
        nonlocal packed
        try:
            part = unpacking.decompress(packed, size)
        except zlib.error:
            raise MammogramError("its deflated data are damaged", remedy=_COPY_AGAIN) from None
        packed = unpacking.unconsumed_tail
        return part

    content = unpack(_MOST_BYTES)
    header = _Header(cast(BinaryIO, io.BytesIO(content)), len(content))
    dataset, place = _parsed(header, ExplicitVRLittleEndian, content, len(content), unpack)
    return dataset, DeflatedExplicitVRLittleEndian, place
