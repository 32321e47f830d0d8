"""The writer of valid mammograms from arrays, for the phantoms and for tests."""

from __future__ import annotations

import hashlib
import json
from typing import Any

import numpy as np
from pydicom import uid
from pydicom.dataset import Dataset, FileMetaDataset

from .types import Laterality, MammogramError, Photometric, View

# type 2 attributes (PS3.5 7.4.3): they must be present and may be empty
_EMPTY_KEYWORDS = (
    *("PatientName", "PatientID", "PatientBirthDate", "PatientSex"),
    *("StudyDate", "StudyTime", "AccessionNumber", "ReferringPhysicianName", "StudyID", "SeriesNumber"),
)


def mammogram_dataset(
    pixels: np.ndarray,
    *,
    laterality: Laterality | str | None = Laterality.LEFT,
    view: View | str | None = View.CC,
    bits_stored: int | None = None,
    photometric: Photometric | str = Photometric.MONOCHROME2,
    **dicom_keywords: Any,
) -> Dataset:
    """Make an uncompressed Digital Mammography X-Ray Image (PS3.3 A.26), ready for ``dataset.save_as(path)``.

    The same arguments give the same dataset, UIDs included. A volume gets the SOP class of Breast Tomosynthesis, and no
    functional groups but those given as keywords.

    Args:
        pixels: Stored values, ``(rows, columns)``, or ``(frames, rows, columns)`` for a tomosynthesis volume; uint8,
            uint16, int8 or int16.
        laterality: Side of the breast; ``None`` leaves the attribute out.
        view: The projection, written as ViewPosition and ViewCodeSequence; ``None`` leaves both out.
        bits_stored: Number of bits that the values use; all bits of the array's type by default.
        photometric: MONOCHROME2, or MONOCHROME1 if the lowest value is white.
        **dicom_keywords: Any attribute by its DICOM keyword, replacing the usual value; ``None`` removes the attribute.
            ``TransferSyntaxUID`` may name another uncompressed syntax.

    Raises:
        MammogramError: The array is not an image of such values, or a value needs more bits than ``bits_stored``.
    """
    # Describe the image
    pixels = np.asarray(pixels)
    bits = bits_stored if bits_stored is not None else 8 * pixels.dtype.itemsize
    _check(pixels, bits)
    dataset = _identity(
        dicom_keywords.get("PresentationIntentType", "FOR PRESENTATION"), tomosynthesis=pixels.ndim == 3
    )
    _describe_projection(dataset, Laterality.from_dicom(laterality), View.from_dicom(view))
    _describe_pixels(dataset, pixels, bits, Photometric.from_dicom(photometric))
    # Let the given attributes replace what was described, and add the pixels
    syntax = dicom_keywords.pop("TransferSyntaxUID", uid.ExplicitVRLittleEndian)
    _set_keywords(dataset, dicom_keywords)
    if "PixelData" not in dicom_keywords:
        little = syntax is None or syntax.is_little_endian
        data = pixels.astype(pixels.dtype.newbyteorder("<" if little else ">")).tobytes()
        dataset.add_new("PixelData", "OW" if pixels.dtype.itemsize == 2 else "OB", data + b"\0" * (len(data) % 2))
    _set_uids(dataset, dicom_keywords)
    # Add what a file begins with
    dataset.preamble = b"\0" * 128
    dataset.file_meta = FileMetaDataset()
    dataset.file_meta.MediaStorageSOPClassUID = dataset.get("SOPClassUID")
    dataset.file_meta.MediaStorageSOPInstanceUID = dataset.get("SOPInstanceUID")
    if syntax is not None:
        dataset.file_meta.TransferSyntaxUID = syntax
    return dataset


def _check(pixels: np.ndarray, bits: int) -> None:
    if pixels.ndim not in (2, 3) or pixels.dtype.kind not in "ui" or pixels.dtype.itemsize > 2 or not pixels.size:
        raise MammogramError(
            f"an array of shape {pixels.shape} and type {pixels.dtype} is not a mammogram",
            source="pixels",
            remedy="give (rows, columns) or (frames, rows, columns) of 8 or 16 bit integers",
        )
    signed = pixels.dtype.kind == "i"
    low, high = (-(1 << bits - 1), (1 << bits - 1) - 1) if signed else (0, (1 << bits) - 1)
    if not 1 <= bits <= 8 * pixels.dtype.itemsize or pixels.min() < low or pixels.max() > high:
        raise MammogramError(
            f"values from {pixels.min()} to {pixels.max()} do not fit into {bits} bits",
            source="bits_stored",
            remedy="store more bits or scale the values",
        )


def _identity(intent: object, *, tomosynthesis: bool) -> Dataset:
    dataset = Dataset()
    for keyword in _EMPTY_KEYWORDS:
        setattr(dataset, keyword, "" if keyword != "SeriesNumber" else None)
    digital = uid.DigitalMammographyXRayImageStorageForPresentation
    if intent == "FOR PROCESSING":
        digital = uid.DigitalMammographyXRayImageStorageForProcessing
    dataset.SOPClassUID = uid.BreastTomosynthesisImageStorage if tomosynthesis else digital
    dataset.Modality, dataset.BodyPartExamined, dataset.PositionerType = "MG", "BREAST", "MAMMOGRAPHIC"
    dataset.PresentationIntentType, dataset.ImageType = intent, ["DERIVED", "PRIMARY"]
    dataset.InstanceNumber, dataset.Manufacturer, dataset.BurnedInAnnotation = "1", "", "NO"
    dataset.AcquisitionContextSequence = []
    return dataset


def _code(value: str, scheme: str, meaning: str) -> Dataset:
    item = Dataset()
    item.CodeValue, item.CodingSchemeDesignator, item.CodeMeaning = value, scheme, meaning
    return item


def _describe_projection(dataset: Dataset, laterality: Laterality, view: View) -> None:
    dataset.AnatomicRegionSequence = [_code("76752008", "SCT", "Breast")]
    if laterality is not Laterality.UNKNOWN:
        dataset.ImageLaterality = laterality.value
    if view is not View.UNKNOWN:
        dataset.ViewPosition = view.value
    if view.codes:
        code = _code(view.codes[0], "SCT", view.names[0])
        code.ViewModifierCodeSequence = []
        dataset.ViewCodeSequence = [code]


def _describe_pixels(dataset: Dataset, pixels: np.ndarray, bits: int, photometric: Photometric) -> None:
    dataset.SamplesPerPixel = 1
    dataset.PhotometricInterpretation = photometric.value
    # PS3.3 C.8.11.3.1.2: the pair that each photometric interpretation asks for
    dataset.PresentationLUTShape = "INVERSE" if photometric is Photometric.MONOCHROME1 else "IDENTITY"
    # a detector's signal is proportional to the X-rays that reach it; an image made for display is not
    raw = dataset.PresentationIntentType == "FOR PROCESSING"
    dataset.PixelIntensityRelationship = "LIN" if raw else "LOG"
    # and whether more X-rays, where the tissue is thin and dark, give higher values
    dataset.PixelIntensityRelationshipSign = 1 if photometric is Photometric.MONOCHROME1 else -1
    dataset.RescaleIntercept, dataset.RescaleSlope, dataset.RescaleType = "0", "1", "US"
    dataset.LossyImageCompression = "00"
    if pixels.ndim == 3:
        dataset.NumberOfFrames = str(len(pixels))
    dataset.Rows, dataset.Columns = pixels.shape[-2:]
    dataset.ImagerPixelSpacing = ["0.1", "0.1"]
    dataset.BitsAllocated = 8 * pixels.dtype.itemsize
    dataset.BitsStored, dataset.HighBit = bits, bits - 1
    dataset.PixelRepresentation = int(pixels.dtype.kind == "i")


def _set_keywords(dataset: Dataset, keywords: dict[str, Any]) -> None:
    for keyword, value in keywords.items():
        if value is not None:
            setattr(dataset, keyword, value)
        elif keyword in dataset:
            delattr(dataset, keyword)


def _set_uids(dataset: Dataset, given: dict[str, Any]) -> None:
    """Set UIDs made from what the dataset holds: two runs write the same bytes, and two images never share one."""
    content = hashlib.sha256(dataset.get("PixelData", b""))
    content.update(json.dumps({key: str(given[key]) for key in sorted(given) if key != "PixelData"}).encode())
    for keyword in ("Laterality", "ImageLaterality", "ViewPosition"):
        content.update(str(dataset.get(keyword, "")).encode())
    for keyword in ("StudyInstanceUID", "SeriesInstanceUID", "SOPInstanceUID"):
        if keyword not in given:
            setattr(dataset, keyword, uid.generate_uid(entropy_srcs=[keyword, content.hexdigest()]))
