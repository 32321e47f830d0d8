"""What a DICOM file is by its content: its size, whether it can be a mask, whose it is; without decoding its pixels.

Folder and series names of public releases are not to be trusted: in CBIS-DDSM's, crops lie in folders of ROI masks.
"""

from __future__ import annotations

import os
from typing import NamedTuple

import numpy as np
import pydicom

from ...dicom import Laterality, MammogramError, View, read_mammogram
from ...errors import DataError

_TAGS = (
    "Columns",
    "ImageLaterality",
    "Laterality",
    "Modality",
    "PatientID",
    "Rows",
    "SOPInstanceUID",
    "SeriesDescription",
    "StudyInstanceUID",
    "ViewCodeSequence",
    "ViewPosition",
)
# two values squeeze to almost nothing: run lengths take a byte for some sixty pixels, JPEG 2000 and JPEG-LS less
_MASK_BYTES_PER_PIXEL = 0.25
_PROBE = 1 << 16
_SMALL = 1 << 18  # below, the header is no small part of the file, and decoding is cheap


class Facts(NamedTuple):
    """What a header says, as far as a source needs it. `size` is (rows, columns); texts are empty where absent."""

    size: tuple[int, int]
    compressed: bool
    modality: str
    laterality: Laterality
    view: View
    series_description: str
    patient_id: str
    study_uid: str
    instance_uid: str


class Contents:
    """Reads headers, each once."""

    def __init__(self) -> None:
        self._facts: dict[str, Facts | None] = {}
        self.problems: dict[str, str] = {}

    def facts(self, path: str) -> Facts | None:
        """The header's facts; ``None`` where the file is no DICOM image, with the reason in `problems`."""
        if path not in self._facts:
            try:
                self._facts[path] = read_facts(path)
            except DataError as error:
                self._facts[path] = None
                self.problems[path] = error.problem
        return self._facts[path]

    def size(self, path: str) -> tuple[int, int] | None:
        """(rows, columns), or ``None`` where the file is no DICOM image."""
        facts = self.facts(path)
        return None if facts is None else facts.size

    def is_mask(self, path: str) -> bool:
        """Whether the image has at most two values. Pixels are decoded only where the bytes cannot tell."""
        facts = self.facts(path)
        if facts is None or _cannot_have_two_values(path, facts):
            return False
        try:
            return np.unique(read_mammogram(path).pixels).size <= 2
        except MammogramError as error:
            self.problems[path] = error.problem
            return False


def read_facts(path: str) -> Facts:
    """Reads a header, without the pixels.

    Raises:
        DataError: The file cannot be read or is no DICOM image.
    """
    try:
        header = pydicom.dcmread(path, stop_before_pixels=True, specific_tags=list(_TAGS))
        size = int(header.Rows), int(header.Columns)
        syntax = header.file_meta.get("TransferSyntaxUID")
        compressed = syntax is not None and (syntax.is_compressed or syntax.is_deflated)
        texts = {tag: str(header.get(tag) or "").strip() for tag in _TAGS}
    except OSError as error:
        raise DataError(f"cannot be read ({error.strerror})", source=path, remedy="check the path") from error
    except (AttributeError, TypeError):
        raise DataError("is a DICOM file without an image", source=path, remedy="remove it from the data") from None
    except Exception as error:  # whatever a damaged header makes pydicom raise
        raise DataError("is no readable DICOM file", source=path, remedy="fetch it again") from error
    return Facts(
        size=size,
        compressed=compressed,
        modality=texts["Modality"],
        laterality=Laterality.from_dicom(texts["ImageLaterality"] or texts["Laterality"]),
        view=_view(header),
        series_description=texts["SeriesDescription"],
        patient_id=texts["PatientID"],
        study_uid=texts["StudyInstanceUID"],
        instance_uid=texts["SOPInstanceUID"],
    )


def _view(header: pydicom.Dataset) -> View:
    codes = [item.get("CodeValue") for item in header.get("ViewCodeSequence") or ()]
    return View.from_code(codes[0]) if codes else View.from_dicom(header.get("ViewPosition"))


def _cannot_have_two_values(path: str, facts: Facts) -> bool:
    try:
        length = os.path.getsize(path)
        if length < _SMALL:
            return False
        if facts.compressed:
            return length > _MASK_BYTES_PER_PIXEL * facts.size[0] * facts.size[1]
        # two values of one or two bytes each show at most four different bytes, wherever one looks in the pixels,
        # and in a native file nearly every byte is a pixel's
        with open(path, "rb") as file:
            for share in (0.5, 0.25, 0.75):
                file.seek(int(share * length))
                if np.unique(np.frombuffer(file.read(_PROBE), np.uint8)).size > 4:
                    return True
    except OSError:
        return True
    return False
