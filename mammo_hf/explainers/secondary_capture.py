"""An overlay as DICOM: a Secondary Capture (PS3.3 A.8.1) in the study of the image that was explained.

It has the original's frame, so that both can be laid side by side or over each other: the same rows and columns, or
fewer by a whole factor, with the spacing that belongs to them. Patient and study are copied from the original and from
nowhere else; what it does not hold stays empty. The words 'research use' are burned into the pixels.
"""

from __future__ import annotations

import hashlib
import os
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pydicom
from PIL import Image, ImageDraw, ImageFont
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import ExplicitVRLittleEndian, SecondaryCaptureImageStorage, generate_uid

from ..dicom import Mammogram, read_mammogram
from ..errors import UsageError
from ..processing.geometry import resize_area
from .overlay import Style, contoured, tinted

if TYPE_CHECKING:
    from .explanation import Explanation

LONGEST_SIDE = 2048  # a larger image is drawn smaller by a whole factor: in colour it takes three bytes a pixel
BURNED_IN = ("RESEARCH USE ONLY", "NOT FOR DIAGNOSIS")
SERIES_NUMBER = 9000  # behind whatever a study holds
# type 2 of the Patient and General Study modules (C.7.1.1, C.7.2.1): always there, empty where the source has none
_COPIED_OR_EMPTY = (
    *("PatientName", "PatientID", "PatientBirthDate", "PatientSex"),
    *("StudyDate", "StudyTime", "ReferringPhysicianName", "StudyID", "AccessionNumber"),
)
_COPIED = ("SpecificCharacterSet", "IssuerOfPatientID", "StudyInstanceUID", "BodyPartExamined", "BurnedInAnnotation")


@dataclass(frozen=True)
class _Picture:
    """What is drawn: uint8 RGB (rows, columns, 3), and by how much smaller than the source (rows, columns)."""

    pixels: np.ndarray
    smaller: tuple[float, float]


def secondary_capture(
    explanation: Explanation, source: str | os.PathLike[str] | Dataset, index: int, style: Style
) -> Dataset:
    """The dataset; the same explanation of the same source gives the same one, UIDs included.

    Args:
        explanation: With its geometry.
        source: The DICOM file that was explained, or its dataset with pixels.
        index: Of the image in the batch.
        style: "heat" or "contour".

    Raises:
        UsageError: No geometry is known, the source is another image than the one that was explained or belongs to no
            study, or a style that is not drawn on one image.
        MammogramError: The source cannot be read.
    """
    if style not in ("heat", "contour"):
        raise UsageError(f"{style!r} is not drawn on one image", source="style", remedy="use heat or contour")
    geometry = explanation.geometry_of(index)
    if geometry is None:
        raise UsageError("no geometry is known", remedy="pass geometry= to explain (return_geometry=True gives it)")
    mammogram = read_mammogram(Path(source) if isinstance(source, str) else source)
    header = source if isinstance(source, Dataset) else pydicom.dcmread(source, force=True, stop_before_pixels=True)
    if (mammogram.header.rows, mammogram.header.columns) != tuple(geometry.source_size):
        raise UsageError(
            f"has {mammogram.header.rows} x {mammogram.header.columns} pixels, the explained image "
            f"{geometry.source_size[0]} x {geometry.source_size[1]}",
            source="source" if isinstance(source, Dataset) else source,
            remedy="give the file that was explained",
        )
    if not header.get("StudyInstanceUID") or not header.get("SOPInstanceUID"):
        raise UsageError(
            "has no study or no identifier of its own, so that nothing can be put beside it",
            source="source" if isinstance(source, Dataset) else source,
            remedy="give the original DICOM file",
        )
    picture = _picture(explanation, mammogram, index, style)
    dataset = _patient_and_study(header)
    _describe(dataset, explanation, header, mammogram, index, picture.smaller)
    _refer(dataset, header)
    _set_pixels(dataset, picture.pixels)
    _identify(dataset, header, explanation.explainer)
    return dataset


def _picture(explanation: Explanation, mammogram: Mammogram, index: int, style: Style) -> _Picture:
    geometry = explanation.geometry_of(index)
    assert geometry is not None
    rows, columns = geometry.source_size
    factor = -(-max(rows, columns) // LONGEST_SIDE)
    size = (rows // factor, columns // factor)
    # of a volume, which slices were shown is the processor's to know: what the model saw is drawn, and not a guess
    volume = mammogram.header.frames > 1
    grey = geometry.map_to_source(explanation.images[index]) if volume else mammogram.intensity(frame=0)
    values = explanation.in_source(index)
    if factor > 1:
        grey, values = resize_area(grey, size), resize_area(values, size)
    width = max(1, size[0] // 700)
    pixels = tinted(grey, values) if style == "heat" else contoured(grey, values, width)
    lines = (*BURNED_IN, f"{explanation.explainer}, mammo_hf {version('mammo-hf')}", explanation.about(index))
    return _Picture(_with_words(pixels, grey, lines), (rows / size[0], columns / size[1]))


def _with_words(pixels: np.ndarray, grey: np.ndarray, lines: tuple[str, ...]) -> np.ndarray:
    """The picture with words burned into whichever corner shows the least tissue."""
    height, width = grey.shape
    longest = max(lines, key=len)
    size = max(10, height // 50)
    while size > 10 and ImageFont.load_default(size=size).getlength(longest) > 0.6 * width:
        size -= 1
    font = ImageFont.load_default(size=size)
    block = Image.new("RGB", (min(width, int(font.getlength(longest)) + 8), min(height, len(lines) * (size + 4) + 4)))
    draw = ImageDraw.Draw(block)
    for place, line in enumerate(lines):
        draw.text((4, 2 + place * (size + 4)), line, fill="white", font=font)
    corners = [(top, left) for top in (0, height - block.height) for left in (0, width - block.width)]
    top, left = min(corners, key=lambda at: grey[at[0] : at[0] + block.height, at[1] : at[1] + block.width].sum())
    result = pixels.copy()
    result[top : top + block.height, left : left + block.width] = np.asarray(block)
    return result


def _patient_and_study(source: Dataset) -> Dataset:
    dataset = Dataset()
    for keyword in (*_COPIED_OR_EMPTY, *_COPIED):
        if keyword in source:
            dataset[keyword] = source[keyword]
        elif keyword in _COPIED_OR_EMPTY:
            setattr(dataset, keyword, "")
    return dataset


def _describe(
    dataset: Dataset,
    explanation: Explanation,
    source: Dataset,
    mammogram: Mammogram,
    index: int,
    smaller: tuple[float, float],
) -> None:
    """General Series, SC Equipment, General Image and SC Image (C.7.3.1, C.8.6.1, C.7.6.1, C.8.6.2)."""
    dataset.Modality = "OT"  # no mammography device made it, and nothing should hang or read it as a mammogram
    dataset.SeriesNumber = SERIES_NUMBER
    dataset.SeriesDescription = _ascii(f"RESEARCH USE ONLY: {explanation.explainer}", 64)
    dataset.setdefault("BodyPartExamined", "BREAST")
    dataset.Manufacturer = "mammo_hf"
    dataset.SoftwareVersions = version("mammo-hf")
    dataset.ConversionType = "WSD"
    dataset.InstanceNumber = source.get("InstanceNumber", "1")
    dataset.ImageType = ["DERIVED", "SECONDARY"]
    dataset.DerivationDescription = _ascii(
        f"Research use only: {explanation.explainer} of {explanation.about(index)}, drawn over the image", 1024
    )
    dataset.ImageComments = " - ".join(BURNED_IN)
    dataset.PatientOrientation = source.get("PatientOrientation") or ""
    laterality = mammogram.header.laterality.value
    if laterality:
        dataset.ImageLaterality = laterality
    else:
        dataset.Laterality = ""
    spacing = mammogram.header.spacing_mm
    if spacing is not None:
        scaled = [f"{step * factor:.8g}" for step, factor in zip(spacing, smaller, strict=True)]
        dataset.PixelSpacing = scaled
        said_by = mammogram.header.spacing_source or ""
        if said_by == "NominalScannedPixelSpacing":
            dataset.NominalScannedPixelSpacing = scaled
        if "Magnification" in said_by:
            dataset.PixelSpacingCalibrationType = "GEOMETRY"
            dataset.PixelSpacingCalibrationDescription = "at the detector, over the estimated magnification"


def _refer(dataset: Dataset, source: Dataset) -> None:
    """General Reference and Common Instance Reference (C.12.4, C.12.2): the original, and the series it lies in."""
    image = Dataset()
    image.ReferencedSOPClassUID = source.get("SOPClassUID", SecondaryCaptureImageStorage)
    image.ReferencedSOPInstanceUID = source.SOPInstanceUID
    instance = Dataset()
    instance.update(image)
    purpose = Dataset()
    purpose.CodeValue, purpose.CodingSchemeDesignator = "121322", "DCM"
    purpose.CodeMeaning = "Source image for image processing operation"
    image.PurposeOfReferenceCodeSequence = [purpose]
    dataset.SourceImageSequence = [image]
    if source.get("SeriesInstanceUID"):
        series = Dataset()
        series.SeriesInstanceUID = source.SeriesInstanceUID
        series.ReferencedInstanceSequence = [instance]
        dataset.ReferencedSeriesSequence = [series]


def _set_pixels(dataset: Dataset, pixels: np.ndarray) -> None:
    """Image Pixel (C.7.6.3)."""
    dataset.SamplesPerPixel, dataset.PhotometricInterpretation, dataset.PlanarConfiguration = 3, "RGB", 0
    dataset.Rows, dataset.Columns = pixels.shape[:2]
    dataset.BitsAllocated = dataset.BitsStored = 8
    dataset.HighBit, dataset.PixelRepresentation = 7, 0
    data = pixels.tobytes()
    dataset.add_new("PixelData", "OB", data + b"\0" * (len(data) % 2))


def _identify(dataset: Dataset, source: Dataset, explainer: str) -> None:
    """SOP Common (C.12.1), and the series: one for each explainer in a study."""
    dataset.SOPClassUID = SecondaryCaptureImageStorage
    dataset.SeriesInstanceUID = generate_uid(entropy_srcs=["mammo_hf explanation", source.StudyInstanceUID, explainer])
    content = hashlib.sha256(dataset.PixelData).hexdigest()
    dataset.SOPInstanceUID = generate_uid(entropy_srcs=[source.SOPInstanceUID, dataset.DerivationDescription, content])
    dataset.preamble = b"\0" * 128
    dataset.file_meta = FileMetaDataset()
    dataset.file_meta.MediaStorageSOPClassUID = dataset.SOPClassUID
    dataset.file_meta.MediaStorageSOPInstanceUID = dataset.SOPInstanceUID
    dataset.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian


def _ascii(text: str, longest: int) -> str:
    return text.encode("ascii", "replace").decode()[:longest]
