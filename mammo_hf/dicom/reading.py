"""From a file, its bytes or a dataset to a ``Mammogram``; whatever cannot be one is refused with the reason."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from io import BytesIO
from pathlib import Path
from typing import Any, BinaryIO

import pydicom
from pydicom.dataset import Dataset
from pydicom.errors import InvalidDicomError

from .elements import text
from .errors import MammogramError
from .header import find_intent, mammogram_header
from .image_pixel import MAX_PIXELS, image_pixel
from .intensity import intensity_table
from .mammogram import Mammogram
from .pixel_data import stored_values

# PS3.3 C.7.3.1.1.1. Everything else is let through: film scans and anonymised files say OT, RG, CR or nothing.
_OTHER_MODALITIES = {
    **{"CT": "a CT image", "MR": "an MR image", "PT": "a PET image", "NM": "a nuclear medicine image"},
    **{"US": "an ultrasound image", "IVUS": "an ultrasound image", "XA": "an angiogram", "RF": "a fluoroscopy image"},
    **{"SM": "a microscope slide", "OP": "an eye image", "OCT": "an optical tomography", "ES": "an endoscopy image"},
    **{"SR": "a report", "DOC": "a document", "PR": "a presentation state", "KO": "a selection of other images"},
    **{"SEG": "a segmentation", "REG": "a registration", "ECG": "a waveform", "RTIMAGE": "a radiotherapy image"},
    **{"RTDOSE": "a radiotherapy dose", "RTPLAN": "a radiotherapy plan", "RTSTRUCT": "a radiotherapy structure set"},
}
_NO_DICOM = "is no DICOM file"


def read_mammogram(
    source: str | os.PathLike[str] | bytes | BinaryIO | Dataset, *, max_pixels: int = MAX_PIXELS
) -> Mammogram:
    """Read one mammogram: a plain image, or a tomosynthesis volume.

    Args:
        source: Path of a DICOM file, its bytes, a binary file object at its beginning, or a pydicom ``Dataset``.
        max_pixels: How many pixels a file may say it has, all frames together, before it is refused unread.

    Returns:
        Stored values, the table of displayed intensity, and the header.

    Raises:
        MammogramError: The source cannot be opened, is no DICOM, holds no grayscale image, is another kind of image
            (CT, ultrasound, ...), is damaged, or needs a decoder that is not installed.
    """
    name = _name(source)
    with _refusing(name):
        dataset = _dataset(source)
        _check_kind(dataset)
        image = image_pixel(dataset, max_pixels)
        pixels, notes = stored_values(dataset, image)
        table = intensity_table(
            dataset,
            bits_stored=image.bits_stored,
            signed=image.signed,
            photometric=image.photometric,
            intent=find_intent(dataset)[0],
        )
        header = mammogram_header(dataset, image, notes)
    return Mammogram(pixels, table.values, table.first_stored_value, table.source, header, name)


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


def _dataset(source: Any) -> Dataset:
    if isinstance(source, Dataset):
        return source
    if isinstance(source, (bytes, bytearray, memoryview)):
        return _parsed(BytesIO(source))
    if isinstance(source, (str, os.PathLike)):
        path = Path(source)
        if path.is_dir():
            raise MammogramError("is a folder", remedy="give the path of one DICOM file")
        if not path.exists():
            raise MammogramError("there is no such file", remedy="check the path")
        if not path.is_file():
            raise MammogramError("is no regular file", remedy="give the path of one DICOM file")
        with path.open("rb") as file:
            return _parsed(file)
    if not hasattr(source, "read"):
        raise MammogramError(
            f"a {type(source).__name__} cannot be read", remedy="give a path, bytes, a binary file object or a Dataset"
        )
    return _parsed(source)


def _parsed(file: BinaryIO) -> Dataset:
    start = file.tell()
    beginning = file.read(132)
    file.seek(start)
    if not beginning:
        raise MammogramError("is empty", remedy="copy or download the file again")
    # files from before DICOM Part 10 begin with the first attributes, of group 0002 or 0008, and no preamble
    headerless = beginning[128:132] != b"DICM" and beginning[:2] in (b"\x02\0", b"\x08\0")
    try:
        dataset = pydicom.dcmread(file, force=headerless)
    except InvalidDicomError:
        raise MammogramError(_NO_DICOM, remedy="give a DICOM file, or leave this one out") from None
    if headerless and not len(dataset):
        raise MammogramError(_NO_DICOM, remedy="give a DICOM file, or leave this one out")
    return dataset


def _check_kind(dataset: Dataset) -> None:
    """Refuse what says of itself that it is something else; the words are ours, never the file's."""
    kind = _OTHER_MODALITIES.get(text(dataset, "Modality").upper())
    if kind is not None:
        raise MammogramError(f"is {kind}, not a mammogram", remedy="leave it out")
    if "PixelData" not in dataset:
        floats = "FloatPixelData" in dataset or "DoubleFloatPixelData" in dataset
        problem = "its pixels are floating point numbers" if floats else "holds no pixel data, or ends before them"
        raise MammogramError(problem, remedy="leave the file out, or copy or download it again")
