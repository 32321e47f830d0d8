"""From a file, its bytes or a dataset to a ``Mammogram``; whatever cannot be one is refused with the reason."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import BinaryIO, Literal

from pydicom.dataset import Dataset

from ..display import Display
from .elements import text
from .errors import MammogramError
from .header import find_intent, mammogram_header
from .image_pixel import MAX_PIXELS, image_pixel
from .intensity import IntensityTable, frame_tables, intensity_table
from .mammogram import Mammogram
from .missing_window import MissingWindow
from .parsing import parse
from .pixel_data import stored_frames
from .voi import NORMAL

# PS3.3 C.7.3.1.1.1. Everything else is let through: film scans and anonymised files say OT, RG, CR or nothing.
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
    window: int | str = NORMAL,
    on_missing_window: MissingWindow = "robust",
) -> Mammogram:
    """Read one mammogram: a plain image, or a tomosynthesis volume.

    Args:
        source: Path of a DICOM file, its bytes, a binary file object at its beginning, or a pydicom ``Dataset``. The
            frames of a volume are read from a path when they are asked for; anything else is in memory already.
        max_pixels: How many pixels a frame may say it has before the file is refused unread; all frames together may
            have sixteen times as many.
        prefer: What is used where a file has both: its VOI LUT, as the IHE Mammography Image profile asks of displays,
            or its window.
        window: Which of several windows or VOI LUTs: its index, or its explanation such as "SOFTER". "NORMAL" takes the
            first where none is explained so, and leaves those of a For Processing image alone.
        on_missing_window: What to do with For Processing images and those that have neither window nor VOI LUT:
            "robust" shows what lies between air and the brightest tissue (see ``missing_window``), "full_range" all
            that the bits can hold, "raise" refuses. ``Mammogram.intensity_source`` says what was done.

    Returns:
        Stored values, the table of displayed intensity, and the header.

    Raises:
        UsageError: An argument is none of those above.
        MammogramError: The source cannot be opened, is no DICOM, holds no grayscale image, is another kind of image
            (CT, ultrasound, ...), is damaged, needs a decoder that is not installed, or has not the asked window.
    """
    Display(window, prefer, on_missing_window)  # raises where one is none of those above
    name = _name(source)
    with _refusing(name):
        dataset, syntax, place = parse(source)
        _check_kind(dataset)
        if place is None:
            raise MammogramError(
                "holds no pixel data, or ends before them", remedy="leave the file out, or copy or download it again"
            )
        image = image_pixel(dataset, max_pixels)
        frames = stored_frames(place.unpacked(image.nbytes), syntax, image, _extended_offsets(dataset))
        intent, _ = find_intent(dataset)

        def table(frame: int) -> IntensityTable:
            return intensity_table(
                dataset,
                bits_stored=image.bits_stored,
                signed=image.signed,
                photometric=image.photometric,
                intent=intent,
                prefer=prefer,
                window=window,
                on_missing_window=on_missing_window,
                sample=lambda: frames[image.frames // 2],
                frame=frame,
            )

        tables = frame_tables(dataset, image.frames, table)
        header = mammogram_header(dataset, image, frames.notes)
        return Mammogram(frames, tables, header, name)


def _extended_offsets(dataset: Dataset) -> tuple[bytes, bytes] | None:
    tables = [dataset.get_item(keyword) for keyword in ("ExtendedOffsetTable", "ExtendedOffsetTableLengths")]
    values = [element.value for element in tables if element is not None and isinstance(element.value, bytes)]
    return (values[0], values[1]) if len(values) == 2 else None


def _name(source: object) -> str:
    if isinstance(source, (str, os.PathLike)):
        return os.fspath(source)
    if isinstance(source, (bytes, bytearray, memoryview)):
        return "<bytes>"
    if isinstance(source, Dataset):
        filename = getattr(source, "filename", None)
        return str(filename) if isinstance(filename, (str, os.PathLike)) else "<dataset>"
    filename = getattr(source, "name", None)
    return filename if isinstance(filename, str) else "<file>"


@contextmanager
def _refusing(name: str) -> Iterator[None]:
    """Turn whatever goes wrong into a ``MammogramError`` that names the source.

    pydicom and the decoders raise almost anything on a damaged file, and quote the file's values in the text: only the
    kind of the exception is repeated, and the original is cut off from the traceback.
    """
    try:
        yield
    except MammogramError as error:
        raise MammogramError(error.problem, source=name, remedy=error.remedy) from None
    except OSError as error:
        problem = f"cannot be read ({error.strerror})" if error.strerror else "is damaged, or cut short"
        raise MammogramError(problem, source=name, remedy="check the path, or copy the file again") from None
    except MemoryError:
        raise MammogramError("is too large for the memory", source=name, remedy="lower max_pixels") from None
    except Exception as error:
        problem = f"is damaged: parsing stopped with a {type(error).__name__}"
        raise MammogramError(problem, source=name, remedy="copy or download the file again") from None


def _check_kind(dataset: Dataset) -> None:
    """Refuse what says of itself that it is something else; the words are ours, never the file's."""
    kind = _OTHER_MODALITIES.get(text(dataset, "Modality").upper())
    if kind is not None:
        raise MammogramError(f"is {kind}, not a mammogram", remedy="leave it out")
