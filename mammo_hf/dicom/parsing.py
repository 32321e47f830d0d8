"""The attributes that the reader asks for, and where the pixels are: from a file, its bytes or a dataset.

Files come from unknown sources. So only named attributes of the header are read, everything else is skipped, the pixels
stay where they are, and what a header may cost is bounded: in bytes, in steps, and in what it decompresses to.
"""

from __future__ import annotations

import io
import logging
import math
import os
import re
import struct
import threading
import warnings
import zlib
from collections.abc import Callable, Iterable, Iterator, MutableSequence
from contextlib import ContextDecorator, contextmanager
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any, BinaryIO, cast

import numpy as np
from pydicom import uid
from pydicom.config import IGNORE
from pydicom.datadict import tag_for_keyword
from pydicom.dataelem import RawDataElement
from pydicom.dataset import Dataset
from pydicom.filereader import read_dataset
from pydicom.sequence import Sequence
from pydicom.tag import BaseTag
from pydicom.uid import UID
from pydicom.valuerep import EXPLICIT_VR_LENGTH_32

from ..files import START, sniff
from ..notes import Note
from .types import MammogramError

COPY_AGAIN = "copy or download the file again"
FIX_OR_SKIP = "fix the header or leave the file out"

# What a header may take: one of a tomosynthesis volume with its frames' functional groups takes some 20,000 steps
_MOST_BYTES = 1 << 25
_MOST_STEPS = 100_000
_MOST_ITEMS = 20_000  # of a sequence and all within it: those of a volume have a dozen for each frame
_PIECE = 1 << 16  # bytes of deflated data that are decompressed at a time
_MOST_DEFLATED = 1 << 31  # bytes: what all frames of a volume have, uncompressed
_MOST_PADDING = 1 << 16  # bytes after the pixels of a deflated data set

# Where a part of a value is: position from its first byte, and length
Place = tuple[int, int]

_DECIMAL_COMMA = re.compile(r"[+-]?(?:\d+,\d*|,\d+)(?:[eE][+-]?\d+)?")
_UNDEFINED_LENGTH = 0xFFFFFFFF
_PIXEL_DATA = 0x7FE00010
_PIXEL_TAGS = (0x7FE00008, 0x7FE00009, _PIXEL_DATA)  # FloatPixelData, DoubleFloatPixelData, PixelData
HOLOGIC_VOLUME = BaseTag(0x7E010010)  # private creator of the group that holds a volume in Hologic's container
_KEYWORDS = """
    SOPClassUID Modality PresentationIntentType ImageType Manufacturer ManufacturerModelName SeriesDescription PatientID
    ProtocolName AcquisitionDeviceProcessingDescription BodyPartExamined AnatomicRegionSequence
    PatientOrientation Laterality ImageLaterality ViewPosition ViewCodeSequence ViewModifierCodeSequence
    BreastImplantPresent KVP Exposure ExposureInuAs ExposureInmAs BodyPartThickness CompressionForce
    ImagerPixelSpacing PixelSpacing NominalScannedPixelSpacing EstimatedRadiographicMagnificationFactor
    SamplesPerPixel PhotometricInterpretation NumberOfFrames Rows Columns BitsAllocated BitsStored HighBit
    PixelRepresentation PixelPaddingValue
    PixelPaddingRangeLimit PixelIntensityRelationship PixelIntensityRelationshipSign PresentationLUTShape RescaleSlope
    RescaleIntercept ModalityLUTSequence VOILUTSequence VOILUTFunction WindowCenter WindowWidth
    WindowCenterWidthExplanation XRay3DAcquisitionSequence SharedFunctionalGroupsSequence
    PerFrameFunctionalGroupsSequence ExtendedOffsetTable ExtendedOffsetTableLengths StudyInstanceUID SOPInstanceUID
    AccessionNumber AcquisitionDateTime AcquisitionDate AcquisitionTime ContentDate ContentTime
"""
_MAMMOGRAM: tuple[str | BaseTag, ...] = (*_KEYWORDS.split(), HOLOGIC_VOLUME)
# None: implicit VR; UN and OB: what some archives turn attributes into that they do not know
_WORD_VRS = ("US", "SS", "OW", "OB", "UN", "US or SS", "US or OW", "US or SS or OW", None)


def parse(source: Any, attributes: Iterable[str | BaseTag] = _MAMMOGRAM) -> tuple[Dataset, UID, PixelBytes | None]:
    """Read the header of a source.

    Args:
        source: A path, bytes, a binary file object or a ``Dataset``.
        attributes: Attributes that are wanted, by keyword or tag; by default those that a mammogram's reader needs.

    Returns:
        The attributes, the transfer syntax, and where the pixels are; ``None`` if there
        are none.

    Raises:
        MammogramError: The source cannot be opened, or is not a DICOM file.
    """
    if isinstance(source, Dataset):
        return _from_dataset(source)
    found = (tag_for_keyword(one) if isinstance(one, str) else one for one in attributes)
    tags: list[BaseTag | int] = [tag for tag in found if tag is not None]
    if isinstance(source, (str, os.PathLike)):
        path = _checked(Path(source))
        with path.open("rb") as file:
            return _from_file(file, os.fspath(path), os.fstat(file.fileno()).st_size, tags)
    if not isinstance(source, (bytes, bytearray, memoryview)) and not hasattr(source, "read"):
        raise MammogramError(
            f"a {type(source).__name__} cannot be read", remedy="give a path, bytes, a binary file object or a Dataset"
        )
    # the caller may close or move a file object: it is read at once
    content = source.read() if hasattr(source, "read") else source
    content = content if isinstance(content, bytes) else bytes(content)
    return _from_file(io.BytesIO(content), content, len(content), tags)


def _checked(path: Path) -> Path:
    if path.is_dir():
        try:
            os.scandir(path).close()
        except OSError as error:
            problem = f"is a folder that cannot be listed ({error.strerror})"
            raise MammogramError(problem, remedy="change who may read it", code="missing") from None
        raise MammogramError("is a folder", remedy="give the path of one DICOM file", code="missing")
    if not path.exists():
        raise MammogramError("there is no such file", remedy="check the path", code="missing")
    if not path.is_file():
        raise MammogramError("is not a regular file", remedy="give the path of one DICOM file", code="missing")
    return path


def _from_dataset(dataset: Dataset) -> tuple[Dataset, UID, PixelBytes | None]:
    meta = getattr(dataset, "file_meta", None)
    syntax = _uid(meta) if meta is not None else UID("")
    if not syntax:  # made in memory, or from a file without file meta information
        syntax = uid.ExplicitVRBigEndian if dataset.original_encoding[1] is False else uid.ImplicitVRLittleEndian
    if "PixelData" not in dataset:
        if "FloatPixelData" in dataset or "DoubleFloatPixelData" in dataset:
            raise _floating_point()
        return dataset, syntax, None
    element = dataset["PixelData"]
    data = element.value.read() if hasattr(element.value, "read") else element.value
    if not isinstance(data, bytes):
        raise MammogramError("its pixel data are not bytes", remedy="set PixelData to bytes")
    known = syntax.is_transfer_syntax and not syntax.is_private
    encapsulated = (known and syntax.is_encapsulated) or element.is_undefined_length
    return dataset, syntax, PixelBytes(data, 0, len(data), encapsulated, element.VR, syntax != uid.ExplicitVRBigEndian)


def _floating_point() -> MammogramError:
    return MammogramError("its pixels are floating point numbers", remedy="leave the file out", code="unsupported")


def _from_file(
    file: BinaryIO, holder: bytes | str, size: int, tags: list[BaseTag | int]
) -> tuple[Dataset, UID, PixelBytes | None]:
    header = _BoundedFile(file, size)
    syntax = _transfer_syntax(header, size)
    if syntax == uid.DeflatedExplicitVRLittleEndian:
        return _from_deflated(file, tags)
    dataset, pixels = _parsed(header, syntax, holder, size, tags)
    return dataset, syntax, pixels


class _BoundedFile:
    """A file that counts its reads and clips them to its size, so that no length in it costs memory."""

    def __init__(self, file: BinaryIO, size: int) -> None:
        self._file, self._size = file, size
        self._bytes, self._steps = _MOST_BYTES, _MOST_STEPS
        self.seek, self.tell = file.seek, file.tell

    def read(self, size: int = -1) -> bytes:
        """Read as any file does.

        Raises:
            MammogramError: More has been read than a header may take.
        """
        if size < 0 or size > 4096:
            left = max(0, self._size - self._file.tell())
            size = left if size < 0 else min(size, left)
        self._bytes -= size
        self._steps -= 1
        if self._bytes < 0 or self._steps < 0:
            problem = "its header is longer than any mammogram's"
            raise MammogramError(problem, remedy="leave the file out", code="hostile")
        return self._file.read(size)


class _SilentParser(ContextDecorator):
    """Have pydicom's parser warn of nothing, on all threads.

    Of a character set that it does not know it quotes the bytes, which in a damaged file may be a person's. Text is not
    decoded by it here.
    """

    def __init__(self) -> None:
        self._changing, self._open = threading.Lock(), 0
        self._logger = logging.getLogger("pydicom")
        self._warnings = warnings.catch_warnings()

    def __enter__(self) -> None:
        with self._changing:
            if not self._open:
                self._warnings = warnings.catch_warnings()
                self._warnings.__enter__()
                warnings.filterwarnings("ignore", module=r"pydicom\.")
                self._logger.addFilter(_quotes_nothing)
            self._open += 1

    def __exit__(self, *exception: object) -> None:
        with self._changing:
            self._open -= 1
            if not self._open:
                self._logger.removeFilter(_quotes_nothing)
                self._warnings.__exit__(None, None, None)


def _quotes_nothing(record: logging.LogRecord) -> bool:
    return record.module != "misc"  # where pydicom's warnings are both raised and logged


_silent_parser = _SilentParser()


def _transfer_syntax(header: _BoundedFile, size: int) -> UID:
    """Read the file meta information, or guess for a file without one; the file is then at its data set."""
    if not size:
        raise MammogramError("is empty", remedy=COPY_AGAIN)
    beginning = header.read(START)
    if sniff(beginning) != "dicom":
        raise MammogramError("is not a DICOM file", remedy="give a DICOM file, or leave this one out")
    if not beginning[128:].startswith(b"DICM"):
        header.seek(0)
    meta = read_dataset(cast(BinaryIO, header), False, True, stop_when=lambda tag, vr, length: tag >> 16 != 2)
    return _uid(meta) or _guessed_syntax(header)


def _uid(meta: Dataset) -> UID:
    # pydicom's validation would warn and quote the value, which in a damaged file may be a person's
    return UID(text(meta, "TransferSyntaxUID"), validation_mode=IGNORE)


def _guessed_syntax(header: _BoundedFile) -> UID:
    start = header.read(6)
    header.seek(-len(start), os.SEEK_CUR)
    if len(start) < 6 or not start[4:6].isalpha() or not start[4:6].isupper():
        return uid.ImplicitVRLittleEndian
    # group 0008 read in the wrong order is 0800
    return uid.ExplicitVRLittleEndian if struct.unpack("<H", start[:2])[0] < 0x0400 else uid.ExplicitVRBigEndian


@_silent_parser
def _parsed(
    header: _BoundedFile,
    syntax: UID,
    holder: bytes | str,
    size: int,
    tags: list[BaseTag | int],
    unpack: Callable[[int], bytes] | None = None,
) -> tuple[Dataset, PixelBytes | None]:
    found: list[tuple[int, str | None, int]] = []

    def at_pixels(tag: BaseTag, vr: str | None, length: int) -> bool:
        if tag in _PIXEL_TAGS:
            found.append((tag, vr, length))
        return bool(found)

    little = syntax != uid.ExplicitVRBigEndian
    # any syntax but the implicit one, known or not, is explicit (PS3.5 A.4)
    implicit = syntax == uid.ImplicitVRLittleEndian
    dataset = read_dataset(cast(BinaryIO, header), implicit, little, stop_when=at_pixels, specific_tags=tags)
    if not found:
        return dataset, None
    tag, vr, length = found[-1]
    if tag != _PIXEL_DATA:
        raise _floating_point()
    # the parser has gone back to the element's beginning: tag, VR and length take 8 or 12 bytes
    start = header.tell() + (12 if vr in EXPLICIT_VR_LENGTH_32 else 8)
    if unpack is None:
        length, encapsulated = min(length, max(0, size - start)), length == _UNDEFINED_LENGTH
        return dataset, PixelBytes(holder, start, length, encapsulated, vr, little)
    return dataset, PixelBytes(holder, start, length, length == _UNDEFINED_LENGTH, vr, little, unpack)


def _from_deflated(file: BinaryIO, tags: list[BaseTag | int]) -> tuple[Dataset, UID, PixelBytes | None]:
    """Read a deflated data set (PS3.5 A.5), decompressed only as far as a header goes."""
    unpacking = zlib.decompressobj(-zlib.MAX_WBITS)
    packed, position = file.read(_MOST_BYTES), 0

    def unpack(size: int) -> bytes:
        # a piece at a time: what is left of it is copied with every call, and must not be the whole file
        nonlocal position
        parts: list[bytes] = []
        while size and not unpacking.eof:
            piece = unpacking.unconsumed_tail
            if not piece:
                piece = packed[position : position + _PIECE]
                position += len(piece)
            try:
                part = unpacking.decompress(piece, size)
            except zlib.error:
                raise MammogramError("its deflated data are damaged", remedy=COPY_AGAIN) from None
            if not piece and not part:
                break
            parts.append(part)
            size -= len(part)
        return b"".join(parts)

    content = unpack(_MOST_BYTES)
    header = _BoundedFile(cast(BinaryIO, io.BytesIO(content)), len(content))
    dataset, pixels = _parsed(header, uid.ExplicitVRLittleEndian, content, len(content), tags, unpack)
    if pixels is not None:
        # deflate at its worst stores bytes as they are, with a few around each block (RFC 1951 3.2.4)
        packed, position = packed[position:] + file.read(min(_MOST_DEFLATED, 2 * pixels.length + _MOST_BYTES)), 0
    return dataset, uid.DeflatedExplicitVRLittleEndian, pixels


@dataclass(frozen=True)
class PixelBytes:
    """The value of Pixel Data (7FE0,0010), not read yet.

    Attributes:
        holder: The bytes that hold it, or the path of the file that does.
        start: Position of its first byte in the holder.
        length: Bytes that are there; fewer than announced if the file is cut short.
        encapsulated: Whether it is a sequence of fragments (PS3.5 A.4): its length is not defined.
        vr: OB or OW, ``None`` in an implicit syntax.
        little_endian: Byte order of its words.
        unpack: Function that returns up to so many further bytes of a deflated data set; the holder has only its
            beginning then, and the length is the one that the header announces.
    """

    holder: bytes | bytearray | str
    start: int
    length: int
    encapsulated: bool
    vr: str | None
    little_endian: bool
    unpack: Callable[[int], bytes] | None = None

    def inflated(self, nbytes: int) -> PixelBytes:
        """Return the value without the compression of the whole data set, if it has one.

        Args:
            nbytes: Size of the image by its header; hardly more is decompressed, since a small file must not expand to
                something enormous.

        Raises:
            MammogramError: The compressed data are damaged.
        """
        if self.unpack is None:
            return self
        assert not isinstance(self.holder, str)
        holder = bytearray(self.holder)
        missing = min(self.length, nbytes + _MOST_PADDING) - max(0, len(holder) - self.start)
        while missing > 0 and (more := self.unpack(min(missing, _MOST_PADDING))):
            holder += more
            missing -= len(more)
        length = min(self.length, max(0, len(holder) - self.start))
        return PixelBytes(holder, self.start, length, self.encapsulated, self.vr, self.little_endian)

    @contextmanager
    def open(self) -> Iterator[BinaryIO]:
        """Open the holder as a file, at the first byte of the value."""
        file: BinaryIO = open(self.holder, "rb") if isinstance(self.holder, str) else io.BytesIO(self.holder)  # noqa: SIM115
        with file:
            file.seek(self.start)
            yield file

    def read(self, start: int, length: int) -> bytes | memoryview:
        """Read some bytes of the value, without a copy if they are in memory; fewer if it ends before."""
        if not isinstance(self.holder, str):
            return memoryview(self.holder)[self.start + start : self.start + start + length]
        with self.open() as file:
            file.seek(start, os.SEEK_CUR)
            return file.read(length)


# Values of a dataset as files from the field hold them, read without pydicom's validation.
#
# When pydicom converts a malformed value it warns or raises with the value in its text, which may be a person's; and
# the type that a file gives to a value (US or SS, OW or US) is often wrong. So text, numbers and words are read here
# from the bytes. An error names the attribute and never its value.


def _element(dataset: Dataset, keyword: str) -> Any:
    tag = tag_for_keyword(keyword)
    return None if tag is None else dataset.get_item(tag)


def texts(dataset: Dataset, keyword: str) -> tuple[str, ...]:
    """Return the values of a text attribute without surrounding blanks; empty if it is missing or empty."""
    element = _element(dataset, keyword)
    value: Any = None if element is None else element.value
    if value is None:
        return ()
    if isinstance(value, bytes):
        try:
            value = value.decode("utf-8")
        except UnicodeDecodeError:
            value = value.decode("latin-1")
    # a sequence is pydicom's MultiValue
    parts = [str(part) for part in value] if isinstance(value, MutableSequence) else str(value).split("\\")
    parts = [part.strip(" \0\t\r\n") for part in parts]
    return tuple(parts) if any(parts) else ()


def text(dataset: Dataset, keyword: str) -> str:
    """Return the first value of a text attribute, ``""`` if it is missing or empty."""
    return next(iter(texts(dataset, keyword)), "")


def numbers(dataset: Dataset, keyword: str, notes: list[Note]) -> tuple[float, ...]:
    """Return the values of a decimal attribute; empty if it is missing or empty.

    Empty values at the end are dropped, and a decimal comma, which a decimal string cannot have (PS3.5 6.2), is read as
    the point that it means.

    Args:
        dataset: The dataset that has the attribute.
        keyword: Name of the attribute.
        notes: List that gets a note on a decimal comma, and on each value that is not a finite number.

    Returns:
        One number per value, NaN if it is not a finite number.
    """
    parts = list(texts(dataset, keyword))
    while parts and not parts[-1]:
        parts.pop()
    commas = [_DECIMAL_COMMA.fullmatch(part) for part in parts]
    if any(commas):
        notes.append(Note("decimal_comma", attribute=keyword))
    values = tuple(
        _number(part.replace(",", ".") if comma else part) for part, comma in zip(parts, commas, strict=True)
    )
    if not all(np.isfinite(values)):
        notes.append(Note("attribute_malformed", problem=f"{keyword} is not a finite number"))
    return values


def _number(part: str) -> float:
    try:
        value = float(part)
    except ValueError:
        return math.nan
    return value if math.isfinite(value) else math.nan


def words(dataset: Dataset, keyword: str) -> np.ndarray:
    """Return the 16-bit words of a US, SS or OW attribute as uint16; empty if it is missing or empty.

    The sign is left to the caller, who knows what PixelRepresentation asks for.

    Raises:
        MammogramError: The attribute holds something else.
    """
    element = _element(dataset, keyword)
    if element is None or element.value is None or element.value == b"" or element.value == "":
        return np.empty(0, np.uint16)
    value = element.value
    if isinstance(value, bytes):
        if len(value) % 2 or element.VR not in _WORD_VRS:
            raise MammogramError(f"{keyword} does not hold 16-bit numbers", remedy="fix the attribute")
        raw = isinstance(element, RawDataElement)
        little = element.is_little_endian if raw else dataset.original_encoding[1] is not False
        return np.frombuffer(value, "<u2" if little else ">u2").astype(np.uint16)
    try:
        return (np.atleast_1d(np.asarray(value, dtype=np.int64)) & 0xFFFF).astype(np.uint16)
    except (TypeError, ValueError, OverflowError):
        raise MammogramError(f"{keyword} does not hold whole numbers", remedy="fix the attribute") from None


def word(dataset: Dataset, keyword: str) -> int | None:
    """Return the one 16-bit word of an attribute, unsigned; ``None`` if it is missing or empty.

    Raises:
        MammogramError: There are several values, or the attribute holds something else.
    """
    found = words(dataset, keyword)
    if len(found) > 1:
        raise MammogramError(f"{keyword} has {len(found)} values, not one", remedy="fix the attribute")
    return int(found[0]) if len(found) else None


def optional_word(dataset: Dataset, keyword: str, notes: list[Note]) -> int | None:
    """Return the one 16-bit word of an attribute as `word` does; ``None`` and a note if it holds something else."""
    try:
        return word(dataset, keyword)
    except MammogramError as error:
        notes.append(Note("attribute_malformed", problem=f"{error.problem}; it is not used"))
        return None


@_silent_parser
def items(dataset: Dataset, keyword: str) -> tuple[Dataset, ...]:
    """Return the items of a sequence; empty if it is missing or empty.

    Raises:
        MammogramError: It has more items than any mammogram's.
    """
    _check_items(_element(dataset, keyword))
    value = dataset.get(keyword)
    return tuple(value) if isinstance(value, Sequence) else ()


def _check_items(element: Any) -> None:
    """Bound the items of a sequence of defined length, which the parser takes in one step and takes apart later."""
    if isinstance(element, RawDataElement) and isinstance(element.value, bytes):
        tag = b"\xfe\xff\x00\xe0" if element.is_little_endian else b"\xff\xfe\xe0\x00"
        if element.value.count(tag) > _MOST_ITEMS:
            raise MammogramError(
                "a sequence has more items than any mammogram's", remedy="leave the file out", code="hostile"
            )


class _FrameGroups:
    """The frames' own functional groups, each parsed when it is asked for: all at once take a hundred times the file.

    Args:
        element: The sequence, not taken apart yet.
    """

    def __init__(self, element: RawDataElement) -> None:
        _check_items(element)
        self._element, self._places = element, list[Place]()
        value, position = cast(bytes, element.value), 0
        form = "<HHL" if element.is_little_endian else ">HHL"
        while position + 8 <= len(value):
            group, number, length = struct.unpack_from(form, value, position)
            if (group, number) != (0xFFFE, 0xE000) or position + 8 + length > len(value):
                raise MammogramError("its functional groups are damaged", remedy=COPY_AGAIN)
            self._places.append((position + 8, length))
            position += 8 + length

    def __len__(self) -> int:
        return len(self._places)

    @_silent_parser
    def __getitem__(self, index: int) -> Dataset:
        start, length = self._places[index]
        content = io.BytesIO(cast(bytes, self._element.value)[start : start + length])
        return read_dataset(content, self._element.is_implicit_VR, self._element.is_little_endian)


_places_of_groups = lru_cache(maxsize=1)(_FrameGroups)  # every frame asks for its own: found once, not once per frame


def _frame_groups(dataset: Dataset) -> _FrameGroups | tuple[Dataset, ...]:
    element = _element(dataset, "PerFrameFunctionalGroupsSequence")
    if isinstance(element, RawDataElement) and isinstance(element.value, bytes):
        first = element.value[4:8]
        if first != b"\xff\xff\xff\xff":  # items without a length are for the parser
            return _places_of_groups(element)
    return items(dataset, "PerFrameFunctionalGroupsSequence")


def group_items(dataset: Dataset, keyword: str) -> tuple[Dataset, ...]:
    """Return the items of a functional group macro (PS3.3 C.7.6.16): the shared one, else one per frame, else none."""
    for groups in (items(dataset, "SharedFunctionalGroupsSequence"), _frame_groups(dataset)):
        each = (groups[index] for index in range(len(groups)))
        found = [item for group in each for item in items(group, keyword)[:1]]
        if found:
            return tuple(found)
    return ()


def group_of_frame(dataset: Dataset, keyword: str, frame: int) -> tuple[Dataset, ...]:
    """Return one frame's item of a functional group macro, shared or its own, in a tuple; empty without any."""
    shared = [item for group in items(dataset, "SharedFunctionalGroupsSequence") for item in items(group, keyword)]
    if shared:
        return (shared[0],)
    groups = _frame_groups(dataset)
    return items(groups[min(frame, len(groups) - 1)], keyword)[:1] if groups else ()


def differs_by_frame(dataset: Dataset, *keywords: str) -> bool:
    """Return whether any of the functional group macros is in the frames' own groups."""
    groups = _frame_groups(dataset)
    each = (groups[index] for index in range(len(groups)))
    return any(keyword in group for group in each for keyword in keywords)
