"""One mammogram: its stored values, the intensity of each of them, and its header."""

from __future__ import annotations

import base64
import html
import io
import os
from dataclasses import dataclass, field, replace
from typing import BinaryIO, Literal

import numpy as np
from pydicom.dataset import Dataset

from ..errors import DataError, refusing
from ..notes import Note
from .display import NORMAL, Decode, Display, MissingEnd, MissingWindow, Slab, is_smooth
from .header import MammogramHeader, check_anatomy, find_intent, mammogram_header
from .intensity import IntensityTable, intensity_tables
from .parsing import parse, text
from .pixels import MAX_PIXELS, StoredFrames, image_pixel, stored_frames
from .types import MammogramError

# values looked up at a time: the index that numpy needs of them then stays in the processor's cache
_BLOCK = 1 << 16
_ALL = slice(None)
# PS3.3 C.7.3.1.1.1. Everything else is accepted: film scans and anonymised files have OT, RG, CR or nothing.
_OTHER_MODALITIES = {
    **{"CT": "a CT image", "MR": "an MR image", "PT": "a PET image", "NM": "a nuclear medicine image"},
    **{"US": "an ultrasound image", "IVUS": "an ultrasound image", "XA": "an angiogram", "RF": "a fluoroscopy image"},
    **{"SM": "a microscope slide", "OP": "an eye image", "OCT": "an optical tomography", "ES": "an endoscopy image"},
    **{"SR": "a report", "DOC": "a document", "PR": "a presentation state", "KO": "a selection of other images"},
    **{"SEG": "a segmentation", "REG": "a registration", "ECG": "a waveform", "RTIMAGE": "a radiotherapy image"},
    **{"RTDOSE": "a radiotherapy dose", "RTPLAN": "a radiotherapy plan", "RTSTRUCT": "a radiotherapy structure set"},
}


def read_mammogram(
    source: str | os.PathLike[str] | bytes | BinaryIO | Dataset,
    *,
    max_pixels: int = MAX_PIXELS,
    prefer: Literal["lut", "window"] = "lut",
    window: int | str | None = NORMAL,
    on_missing_window: MissingWindow = "robust",
    on_missing_end: MissingEnd = "raise",
    decode: Decode = "exact",
    use_descriptions: bool = True,
    any_anatomy: bool = False,
) -> Mammogram:
    """Read one mammogram: a plain image, or a tomosynthesis volume.

    Args:
        source: Path of a DICOM file, its bytes, a binary file object at its beginning, or a pydicom ``Dataset``. The
            frames of a volume are read from a path when they are asked for; anything else is in memory already.
        max_pixels: Largest number of pixels of a frame, by the header, before the file is refused unread; all frames
            together may have sixteen times as many.
        prefer: The one that is used if a file has both: its VOI LUT, as the IHE Mammography Image profile asks of
            displays, or its window.
        window: The one of several windows or VOI LUTs that is used: its index, or its explanation such as "SOFTER".
            "NORMAL" takes the first if none has that explanation, and ignores those of a For Processing image; ``None``
            ignores all, as if the file had none.
        on_missing_window: The rule for For Processing images and those that have neither window nor VOI LUT:
            "robust" displays what is between air and the brightest tissue, "full_range" all that the bits can hold,
            "raise" refuses. ``Mammogram.intensity_source`` says what was done.
        on_missing_end: The rule for compressed frames without their end marker: "raise" refuses them as cut short,
            "note" reads what is there, for senders that never write the marker, and adds a note.
        decode: Whether a JPEG 2000 or HTJ2K frame is decoded at once ("exact"), or ("fast") at the fraction of its size
            that is asked for, if ``Mammogram.levels`` allows one; damage to what is left out is not seen then.
        use_descriptions: Whether side and view may be taken from free text, such as SeriesDescription "R MLO", if no
            attribute of their own gives them.
        any_anatomy: Whether images are read that are not of a breast by their header, and projections and single slices
            of a tomosynthesis.

    Returns:
        Stored values, the table of displayed intensity, and the header.

    Raises:
        UsageError: An argument is none of those above.
        MammogramError: The source cannot be opened, is not DICOM, holds no grayscale image, is another kind of image
            (CT, ultrasound, a chest, ...), is damaged, needs a decoder that is not installed, or does not have the
            window that is asked for.
    """
    display = Display(window, prefer, on_missing_window, on_missing_end, decode)
    name = _name(source)
    with refusing(name, MammogramError):
        # Parse the header, and check what it says before any pixel is read
        dataset, syntax, pixels = parse(source)
        kind = _OTHER_MODALITIES.get(text(dataset, "Modality").upper())
        if kind is not None:
            raise MammogramError(f"is {kind}, not a mammogram", remedy="leave it out", code="not_a_breast")
        if pixels is None:
            raise MammogramError(
                "holds no pixel data, or ends before them", remedy="leave the file out, or copy or download it again"
            )
        notes: list[Note] = []
        if not any_anatomy:
            check_anatomy(dataset, notes)
        image = image_pixel(dataset, notes, max_pixels)
        # Find the frames, then how their values are displayed
        content, offsets = pixels.inflated(image.nbytes), _extended_offsets(dataset)
        frames = stored_frames(content, syntax, image, offsets, on_missing_end, decode)
        tables = intensity_tables(dataset, frames.image, find_intent(dataset, notes), display, frames)
        notes += frames.notes + tuple(note for table in tables for note in table.notes)
        header = mammogram_header(dataset, frames.image, tuple(notes), use_descriptions=use_descriptions)
        # a frame that the display was measured on is there already
        smooth = not frames.is_read and all(is_smooth(table.values) for table in tables)
        return Mammogram(frames, tables, header, name, dataset, frames.levels if smooth else 0)


def read_header(
    source: str | os.PathLike[str] | bytes | BinaryIO | Dataset, *, use_descriptions: bool = True
) -> MammogramHeader:
    """Read the facts of a mammogram's header alone: no decoder is needed, and damage to the pixels does not matter.

    Args:
        source: Source as for `read_mammogram`.
        use_descriptions: Whether side and view may be taken from free text.

    Raises:
        MammogramError: The source cannot be opened, is not DICOM, or its Image Pixel module is not a mammogram's.
    """
    notes: list[Note] = []
    with refusing(_name(source), MammogramError):
        dataset = parse(source)[0]
        image = image_pixel(dataset, notes)
        return mammogram_header(dataset, image, tuple(notes), use_descriptions=use_descriptions)


def _extended_offsets(dataset: Dataset) -> tuple[bytes, bytes] | None:
    tables = [dataset.get_item(keyword) for keyword in ("ExtendedOffsetTable", "ExtendedOffsetTableLengths")]
    values = [element.value for element in tables if element is not None and isinstance(element.value, bytes)]
    return (values[0], values[1]) if len(values) == 2 else None


def _name(source: object) -> str:
    if isinstance(source, (bytes, bytearray, memoryview)):
        return "<bytes>"
    name, default = getattr(source, "name", None), "<file>"
    if isinstance(source, (str, os.PathLike)):
        name = source
    elif isinstance(source, Dataset):
        name, default = getattr(source, "filename", None), "<dataset>"
    return os.fspath(name) if isinstance(name, (str, os.PathLike)) else default


@dataclass(frozen=True, eq=False)
class Mammogram:
    """A mammogram as read by ``read_mammogram``.

    The frames of a tomosynthesis volume are read when they are asked for, and only the last one is kept: a slice, a
    range of slices or a slab costs the memory of one frame and of the result.

    Attributes:
        stored: The frames, a sequence of read-only integer arrays ``(rows, columns)``.
        tables: The displayed intensity of each stored value: one table for all frames, or one per frame.
        header: The facts of the header.
        source: Name of what the mammogram was read from, for messages.
        dataset: The attributes that it was read by; they identify a person.
        levels: Number of times that the image may be halved while it is decoded; 0: it is read whole.
    """

    stored: StoredFrames
    tables: tuple[IntensityTable, ...]
    header: MammogramHeader
    source: str
    dataset: Dataset = field(repr=False)
    levels: int = 0

    def __repr__(self) -> str:
        header = self.header
        name = f"{header.laterality.value}{header.view.value}" or "unknown view"
        size = f"{header.frames} x {header.rows} x {header.columns}"
        return f"<Mammogram {name}, {size}, {header.bits_stored} bits, {self.intensity_source}>"

    def _repr_html_(self) -> str:
        """Return the description and a small picture of the middle frame, for notebooks."""
        from PIL import Image  # only notebooks draw

        intensity = self.intensity(len(self.stored) // 2)
        step = max(1, max(intensity.shape) // 256)
        content = io.BytesIO()
        Image.fromarray((255 * intensity[::step, ::step]).astype(np.uint8)).save(content, format="PNG")
        picture = base64.b64encode(content.getvalue()).decode()
        return f'<p>{html.escape(repr(self))}</p><img alt="mammogram" src="data:image/png;base64,{picture}">'

    def displayed(self, display: Display) -> Mammogram:
        """Return the same mammogram with its values displayed by other choices.

        Raises:
            MammogramError: The window that is asked for does not exist, or there is none and the display refuses that.
        """
        with refusing(self.source, MammogramError):
            tables = intensity_tables(self.dataset, self.stored.image, self.header.intent, display, self.stored)
        return replace(self, tables=tables, levels=0)

    @property
    def pixels(self) -> np.ndarray:
        """All stored integers, ``(frames, rows, columns)``, native byte order, read-only.

        The sign is that of PixelRepresentation, bits beyond BitsStored are removed. Every frame of a volume is read
        again, all at once.

        Raises:
            MammogramError: A frame is damaged.
        """
        if len(self.stored) == 1:
            return self.frame(0)[np.newaxis]
        volume = np.empty((len(self.stored), self.header.rows, self.header.columns), self.stored.image.dtype)
        for index, frame in enumerate(volume):
            frame[:] = self.frame(index)
        volume.flags.writeable = False
        return volume

    @property
    def intensity_source(self) -> str:
        """Rule that the table follows: "window 'NORMAL' (SIGMOID)", "VOI LUT", "full range (no window)", ..."""
        return self.tables[0].source

    def frame(self, index: int, level: int = 0) -> np.ndarray:
        """Read and decode the stored integers of one frame, ``(rows, columns)``, read-only.

        Args:
            index: Index of the frame.
            level: Number of times that it is halved, at most `levels`: value u is centred on pixel u * 2 ** level.

        Raises:
            MammogramError: There is no such frame, or it is damaged.
        """
        frames = len(self.stored)
        if not -frames <= index < frames:
            raise MammogramError(f"there is no frame {index} among {frames}", source=self.source)
        try:
            return self.stored.at_level(level) if level else self.stored[index % frames]
        except DataError as error:
            raise MammogramError(error.problem, source=self.source, remedy=error.remedy, code=error.code) from None
        except (OSError, ValueError):
            raise MammogramError(
                f"frame {index} cannot be read any more", source=self.source, remedy="was the file moved or changed?"
            ) from None

    def intensity(
        self, frame: int | slice | range | None = None, rows: slice = _ALL, columns: slice = _ALL, level: int = 0
    ) -> np.ndarray:
        """Return the displayed intensity, looked up only for the part that is asked for.

        Args:
            frame: One frame, counted from 0 (or from the end if negative), or several; all of them by default.
            rows: Rows that are returned.
            columns: Columns that are returned.
            level: Number of times that one frame is halved, as of `frame`; rows and columns are those of the result.

        Returns:
            A new float32 array in [0, 1]: ``(frames, rows, columns)``, or ``(rows, columns)`` for one frame.

        Raises:
            MammogramError: There is no such frame, or it is damaged.
        """
        if isinstance(frame, int):
            return self._look_up(frame, rows, columns, level=level)
        indices = frame if isinstance(frame, range) else range(len(self.stored))[_ALL if frame is None else frame]
        height = len(range(self.header.rows)[rows])
        width = len(range(self.header.columns)[columns])
        result = np.empty((len(indices), height, width), np.float32)
        for out, index in zip(result, indices, strict=True):
            self._look_up(index, rows, columns, out)
        return result

    def slab(self, slab: Slab, rows: slice = _ALL, columns: slice = _ALL) -> np.ndarray:
        """Return one picture of a volume: the intensity of a slice, or the maximum or mean of several slices.

        Args:
            slab: Slices of the volume, and how they are combined.
            rows: Rows that are returned.
            columns: Columns that are returned.

        Returns:
            A new float32 array in [0, 1], ``(rows, columns)``. One slice is in memory at a time.

        Raises:
            MammogramError: There are no such slices, or one is damaged.
        """
        try:
            first, *others = slab.indices(len(self.stored))
        except DataError as error:
            raise MammogramError(error.problem, source=self.source, remedy=error.remedy, code=error.code) from None
        result = self._look_up(first, rows, columns)
        one = np.empty_like(result) if others else result
        for index in others:
            self._look_up(index, rows, columns, one)
            if slab.projection == "maximum":
                np.maximum(result, one, out=result)
            else:
                result += one
        if others and slab.projection == "mean":
            result /= 1 + len(others)
            np.minimum(result, 1, out=result)  # rounding of a sum
        return result

    def _look_up(
        self, frame: int, rows: slice, columns: slice, result: np.ndarray | None = None, level: int = 0
    ) -> np.ndarray:
        """Return the intensity of a part of a frame, in ``result`` if it is given."""
        stored = self.frame(frame, level)[rows, columns]
        result = np.empty(stored.shape, np.float32) if result is None else result
        table = self.tables[frame if len(self.tables) > 1 else 0]
        step = max(1, _BLOCK // max(1, stored.shape[1]))
        indices = np.empty((min(step, len(stored)), stored.shape[1]), np.intp)
        for top in range(0, len(stored), step):
            index = indices[: len(stored) - top]
            index[:] = stored[top : top + step]
            if table.first_stored_value:
                index -= table.first_stored_value
            # every value has an entry, so no index ever wraps around: it only spares numpy a copy of the result
            np.take(table.values, index, out=result[top : top + step], mode="wrap")
        return result
