"""How an image was acquired: which kind of picture it is, compression, tube voltage, implants."""

from __future__ import annotations

from dataclasses import dataclass

from pydicom.dataset import Dataset
from pydicom.uid import (
    BreastProjectionXRayImageStorageForPresentation,
    BreastProjectionXRayImageStorageForProcessing,
    BreastTomosynthesisImageStorage,
    DigitalMammographyXRayImageStorageForPresentation,
    DigitalMammographyXRayImageStorageForProcessing,
    SecondaryCaptureImageStorage,
)

from .elements import items, numbers, text, texts
from .errors import MammogramError
from .types import ImageKind, Implant, ViewModifier

_DIGITAL = {DigitalMammographyXRayImageStorageForPresentation, DigitalMammographyXRayImageStorageForProcessing}
_PROJECTIONS = {BreastProjectionXRayImageStorageForPresentation, BreastProjectionXRayImageStorageForProcessing}
# what makers wrote before the standard had GENERATED_2D: Hologic, Fujifilm, Siemens, GE
_SYNTHETIC_NAMES = ("C-VIEW", "CVIEW", "S-VIEW", "INSIGHT 2D", "V-PREVIEW", "INTELLIGENT 2D", "SYNTHETIC 2D")


@dataclass(frozen=True)
class Acquisition:
    """The facts of an acquisition.

    Attributes:
        kind: Digital image, film, tomosynthesis volume, one of its projections, or a 2D image made from it.
        implant: Whether the breast holds an implant.
        kvp: Peak tube voltage in kV, or ``None``.
        compression_force_n: Compression force in newtons, or ``None``.
        thickness_mm: Thickness of the compressed breast in mm, or ``None``.
        contradictions: What is malformed or says otherwise, in words.
    """

    kind: ImageKind
    implant: Implant
    kvp: float | None
    compression_force_n: float | None
    thickness_mm: float | None
    contradictions: tuple[str, ...]


def find_acquisition(dataset: Dataset, frames: int, modifiers: tuple[ViewModifier, ...]) -> Acquisition:
    """The acquisition of a dataset; a volume may hold it in X-Ray 3D Acquisition Sequence (PS3.3 C.8.21.3).

    Args:
        dataset: The image.
        frames: How many frames it has.
        modifiers: Of its view, which may tell of an implant.
    """
    notes: list[str] = []
    implant = Implant.from_dicom(text(dataset, "BreastImplantPresent"))
    if implant is Implant.ABSENT and ViewModifier.IMPLANT_DISPLACED in modifiers:
        notes.append("BreastImplantPresent says NO, the view's modifier says implant displaced")
    kind = find_kind(dataset, frames)
    if frames > 1 and kind is not ImageKind.TOMOSYNTHESIS:
        notes.append(f"has {frames} frames and is no tomosynthesis by its SOP class")
    return Acquisition(
        kind=kind,
        implant=implant,
        kvp=_positive(dataset, "KVP", notes),
        compression_force_n=_positive(dataset, "CompressionForce", notes),
        thickness_mm=_positive(dataset, "BodyPartThickness", notes),
        contradictions=tuple(notes),
    )


def find_kind(dataset: Dataset, frames: int) -> ImageKind:
    """The kind of picture, by SOP class and ImageType (PS3.3 C.8.11.7.1.4), by the maker's name for it where it is old.

    A synthetic 2D image has the SOP class of a digital mammogram, or is a Secondary Capture: only value 4 of ImageType
    tells.
    """
    image_type = {value.upper() for value in texts(dataset, "ImageType")}
    sop_class = text(dataset, "SOPClassUID")
    description = text(dataset, "SeriesDescription").upper()
    if sop_class == BreastTomosynthesisImageStorage and frames > 1:
        return ImageKind.TOMOSYNTHESIS
    if "GENERATED_2D" in image_type or any(name in description for name in _SYNTHETIC_NAMES):
        return ImageKind.SYNTHETIC
    if sop_class == BreastTomosynthesisImageStorage:
        return ImageKind.TOMOSYNTHESIS
    if sop_class in _PROJECTIONS or "TOMO_PROJ" in image_type:
        return ImageKind.TOMOSYNTHESIS_PROJECTION
    if sop_class in _DIGITAL:
        return ImageKind.FFDM
    if sop_class == SecondaryCaptureImageStorage and not image_type & {"TOMO", "TOMOSYNTHESIS"}:
        return ImageKind.FILM  # a scan of a film: what else is captured from a screen is in colour
    return ImageKind.UNKNOWN


def _positive(dataset: Dataset, keyword: str, notes: list[str]) -> float | None:
    for holder in (dataset, *items(dataset, "XRay3DAcquisitionSequence")[:1]):
        try:
            found = numbers(holder, keyword)
        except MammogramError as error:
            notes.append(error.problem)
            return None
        if found and found[0] > 0:
            return found[0]
        if found and found[0] < 0:
            notes.append(f"{keyword} is negative")
    return None
