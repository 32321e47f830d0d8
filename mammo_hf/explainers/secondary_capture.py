"""An overlay as DICOM: a Secondary Capture (PS3.3 A.8.1) in the study of the image that was explained.

It has the original's frame, so that both can be shown side by side or over each other: the same rows and columns, or
fewer by a whole factor, with the spacing that belongs to them. Patient and study are copied from the original only;
what it does not hold stays empty. 'Research use only' is burned into the pixels.
"""

from __future__ import annotations

import hashlib
import os
from importlib.metadata import version
from pathlib import Path

import numpy as np
import pydicom
from PIL import Image, ImageDraw, ImageFont
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import ExplicitVRLittleEndian, SecondaryCaptureImageStorage, generate_uid

from ..dicom import Mammogram, read_mammogram
from ..errors import UsageError
from ..processing.geometry import Geometry, resize_area
from .overlay import Style, contour_overlay, heat_overlay

LONGEST_SIDE = 2048  # a larger image is drawn smaller by a whole factor: in colour it takes three bytes per pixel
BURNED_IN = ("RESEARCH USE ONLY", "NOT FOR DIAGNOSIS")
SERIES_NUMBER = 9000  # after the series of the study itself
# type 2 of the Patient and General Study modules (C.7.1.1, C.7.2.1): always present, empty if the source has none
_COPIED_OR_EMPTY = (
    *("PatientName", "PatientID", "PatientBirthDate", "PatientSex"),
    *("StudyDate", "StudyTime", "ReferringPhysicianName", "StudyID", "AccessionNumber"),
)
_COPIED = ("SpecificCharacterSet", "IssuerOfPatientID", "StudyInstanceUID", "BodyPartExamined", "BurnedInAnnotation")


def secondary_capture(
    source: str | os.PathLike[str] | Dataset,
    *,
    image: np.ndarray,
    values: np.ndarray,
    geometry: Geometry,
    explainer: str,
    caption: str,
    style: Style,
    strength: float = 1.0,
) -> Dataset:
    """Return the dataset; the same explanation of the same source gives the same one, UIDs included.

    Args:
        source: The DICOM file that was explained, or its dataset with pixels.
        image: The image as the model saw it, (height, width) in [0, 1].
        values: The map (height, width) in [0, 1].
        geometry: The way back to source pixels.
        explainer: Name of the method.
        caption: One line on what is shown.
        style: The style, "heat" or "contour".
        strength: Strength from 0 to 1 with which the map is drawn.

    Raises:
        UsageError: The source is another image than the one that was explained or belongs to no study, or the style is
            not drawn on a single image.
        MammogramError: The source cannot be read.
    """
    if style not in ("heat", "contour"):
        raise UsageError(f"{style!r} is not drawn on a single image", source="style", remedy="use heat or contour")
    mammogram, header = _read_source(source, geometry)
    rows, columns = geometry.source_size
    # Draw in the source's frame, smaller by a whole factor if it is very large
    factor = -(-max(rows, columns) // LONGEST_SIDE)
    size = (rows // factor, columns // factor)
    # which slices of a volume were shown, only the processor knows: then what the model saw is drawn
    grey = geometry.map_to_source(image) if mammogram.header.frames > 1 else mammogram.intensity(frame=0)
    values = geometry.map_to_source(values)
    if factor > 1:
        grey, values = resize_area(grey, size), resize_area(values, size)
    if style == "heat":
        tint = heat_overlay(grey, values, strength=strength)
    else:
        tint = contour_overlay(grey, values, max(1, size[0] // 700), strength)
    lines = (*BURNED_IN, f"{explainer}, mammo_hf {version('mammo-hf')}", caption)
    # Describe it
    dataset = _patient_and_study(header)
    _describe(dataset, explainer, caption, header, mammogram)
    _describe_spacing(dataset, mammogram, (rows / size[0], columns / size[1]))
    _refer(dataset, header)
    _set_pixels(dataset, _burn_in(tint, grey, lines))
    _identify(dataset, header, explainer)
    return dataset


def _read_source(source: str | os.PathLike[str] | Dataset, geometry: Geometry) -> tuple[Mammogram, Dataset]:
    """Read the original, after checks that it is the image that was explained and that it belongs to a study."""
    mammogram = read_mammogram(Path(source) if isinstance(source, str) else source)
    header = source if isinstance(source, Dataset) else pydicom.dcmread(source, force=True, stop_before_pixels=True)
    named = "source" if isinstance(source, Dataset) else source
    rows, columns = geometry.source_size
    if (mammogram.header.rows, mammogram.header.columns) != (rows, columns):
        has = f"has {mammogram.header.rows} x {mammogram.header.columns} pixels"
        problem = f"{has}, the explained image {rows} x {columns}"
        raise UsageError(problem, source=named, remedy="give the file that was explained")
    if not header.get("StudyInstanceUID") or not header.get("SOPInstanceUID"):
        problem = "has no study or no identifier of its own, so that nothing can be added to its study"
        raise UsageError(problem, source=named, remedy="give the original DICOM file")
    return mammogram, header


def _burn_in(pixels: np.ndarray, grey: np.ndarray, lines: tuple[str, ...]) -> np.ndarray:
    """Return the picture with text in the corner that shows the least tissue."""
    height, width = grey.shape
    longest = max(lines, key=len)
    size = max(10, height // 50)
    while size > 10 and ImageFont.load_default(size=size).getlength(longest) > 0.6 * width:
        size -= 1
    font = ImageFont.load_default(size=size)
    block = Image.new("RGB", (min(width, int(font.getlength(longest)) + 8), min(height, len(lines) * (size + 4) + 4)))
    draw = ImageDraw.Draw(block)
    for number, line in enumerate(lines):
        draw.text((4, 2 + number * (size + 4)), line, fill="white", font=font)
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


def _describe(dataset: Dataset, explainer: str, caption: str, source: Dataset, mammogram: Mammogram) -> None:
    """Fill General Series, SC Equipment and General Image (C.7.3.1, C.8.6.1, C.7.6.1)."""
    dataset.Modality = "OT"  # it is not from a mammography device; nothing should display or read it as a mammogram
    dataset.SeriesNumber = SERIES_NUMBER
    dataset.SeriesDescription = _ascii(f"RESEARCH USE ONLY: {explainer}", 64)
    dataset.setdefault("BodyPartExamined", "BREAST")
    dataset.Manufacturer = "mammo_hf"
    dataset.SoftwareVersions = version("mammo-hf")
    dataset.ConversionType = "WSD"
    dataset.InstanceNumber = source.get("InstanceNumber", "1")
    dataset.ImageType = ["DERIVED", "SECONDARY"]
    dataset.DerivationDescription = _ascii(f"Research use only: {explainer} of {caption}, drawn over the image", 1024)
    dataset.ImageComments = " - ".join(BURNED_IN)
    dataset.PatientOrientation = source.get("PatientOrientation") or ""
    laterality = mammogram.header.laterality.value
    if laterality:
        dataset.ImageLaterality = laterality
    else:
        dataset.Laterality = ""


def _describe_spacing(dataset: Dataset, mammogram: Mammogram, smaller: tuple[float, float]) -> None:
    """Fill the spacing of SC Image (C.8.6.2), of pixels that are larger than the source's by two factors."""
    spacing, origin = mammogram.header.spacing_mm, mammogram.header.spacing_source or ""
    if spacing is None:
        return
    dataset.PixelSpacing = scaled = [f"{step * factor:.8g}" for step, factor in zip(spacing, smaller, strict=True)]
    if origin == "NominalScannedPixelSpacing":
        dataset.NominalScannedPixelSpacing = scaled
    if "Magnification" in origin:
        dataset.PixelSpacingCalibrationType = "GEOMETRY"
        dataset.PixelSpacingCalibrationDescription = "at the detector, over the estimated magnification"


def _refer(dataset: Dataset, source: Dataset) -> None:
    """Fill General Reference and Common Instance Reference (C.12.4, C.12.2) with the original and its series."""
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
    """Fill Image Pixel (C.7.6.3)."""
    dataset.SamplesPerPixel, dataset.PhotometricInterpretation, dataset.PlanarConfiguration = 3, "RGB", 0
    dataset.Rows, dataset.Columns = pixels.shape[:2]
    dataset.BitsAllocated = dataset.BitsStored = 8
    dataset.HighBit, dataset.PixelRepresentation = 7, 0
    data = pixels.tobytes()
    dataset.add_new("PixelData", "OB", data + b"\0" * (len(data) % 2))


def _identify(dataset: Dataset, source: Dataset, explainer: str) -> None:
    """Fill SOP Common (C.12.1), and the series: one per explainer in a study."""
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
