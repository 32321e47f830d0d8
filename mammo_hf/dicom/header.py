"""What the header says about an image, apart from how its values are shown."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from pydicom.dataset import Dataset
from pydicom.uid import (
    DigitalMammographyXRayImageStorageForPresentation,
    DigitalMammographyXRayImageStorageForProcessing,
)

from .acquisition import find_acquisition
from .elements import items, text, word, words
from .image_pixel import ImagePixel
from .projection import find_projection
from .spacing import find_spacing
from .types import (
    ImageKind,
    Implant,
    Laterality,
    Photometric,
    PresentationIntent,
    Vendor,
    View,
    ViewModifier,
)

_INTENT_OF_CLASS = {
    str(DigitalMammographyXRayImageStorageForPresentation): PresentationIntent.FOR_PRESENTATION,
    str(DigitalMammographyXRayImageStorageForProcessing): PresentationIntent.FOR_PROCESSING,
}


@dataclass(frozen=True)
class MammogramHeader:
    """The facts of a mammogram's header; nothing in it names a person.

    Attributes:
        laterality: Which breast.
        view: Which projection.
        modifiers: How the view departs from the standard one: spot compression, magnification, implant displaced, ...
        orientation: PatientOrientation, such as ("P", "FL"); ``()`` if it is not said.
        kind: Digital image, film, tomosynthesis volume, one of its projections, or a synthetic 2D image made from it.
        intent: For Presentation or For Processing.
        spacing_mm: (row, column) pixel size in mm in the plane that ``spacing_source`` says, or ``None``.
        spacing_source: The attribute that the spacing is from, or ``None``.
        vendor: The manufacturer's family.
        implant: Whether the breast holds an implant.
        kvp: Peak tube voltage in kV, or ``None``.
        compression_force_n: Compression force in newtons, or ``None``.
        thickness_mm: Thickness of the compressed breast in mm, or ``None``.
        photometric: Which end of the values is bright.
        rows: Height in pixels.
        columns: Width in pixels.
        frames: Number of frames, 1 for a plain image.
        bits_stored: Bits of a stored value.
        signed: Whether stored values are two's complement.
        series_description: Free text of the file, for telling the parts of a collection apart: not for logs or results.
        contradictions: Attributes that are malformed or that disagree, as short texts without identifying values.
    """

    laterality: Laterality
    view: View
    modifiers: tuple[ViewModifier, ...]
    orientation: tuple[str, ...]
    kind: ImageKind
    intent: PresentationIntent
    spacing_mm: tuple[float, float] | None
    spacing_source: str | None
    vendor: Vendor
    implant: Implant
    kvp: float | None
    compression_force_n: float | None
    thickness_mm: float | None
    photometric: Photometric
    rows: int
    columns: int
    frames: int
    bits_stored: int
    signed: bool
    series_description: str
    contradictions: tuple[str, ...]


def mammogram_header(dataset: Dataset, image: ImagePixel, contradictions: tuple[str, ...] = ()) -> MammogramHeader:
    """The header of a dataset.

    Args:
        dataset: The image.
        image: Its Image Pixel module.
        contradictions: What reading the pixels has found already.
    """
    projection, size = find_projection(dataset), find_spacing(dataset)
    intent, intent_notes = find_intent(dataset)
    acquisition = find_acquisition(dataset, image.frames, projection.modifiers)
    return MammogramHeader(
        laterality=projection.laterality,
        view=projection.view,
        modifiers=projection.modifiers,
        orientation=projection.orientation,
        kind=acquisition.kind,
        intent=intent,
        spacing_mm=size.spacing_mm,
        spacing_source=size.source,
        vendor=_vendor(dataset),
        implant=acquisition.implant,
        kvp=acquisition.kvp,
        compression_force_n=acquisition.compression_force_n,
        thickness_mm=acquisition.thickness_mm,
        photometric=image.photometric,
        rows=image.rows,
        columns=image.columns,
        frames=image.frames,
        bits_stored=image.bits_stored,
        signed=image.signed,
        series_description=text(dataset, "SeriesDescription"),
        contradictions=(
            *projection.contradictions,
            *intent_notes,
            *size.contradictions,
            *acquisition.contradictions,
            *_grayscale_contradictions(dataset, image, intent),
            *contradictions,
        ),
    )


def _vendor(dataset: Dataset) -> Vendor:
    said = Vendor.from_dicom(text(dataset, "Manufacturer"))
    return said if said is not Vendor.UNKNOWN else Vendor.from_model(text(dataset, "ManufacturerModelName"))


def find_intent(dataset: Dataset) -> tuple[PresentationIntent, tuple[str, ...]]:
    """What the pixels were made for, by PresentationIntentType, else by SOP class; and where the two disagree."""
    said = PresentationIntent.from_dicom(text(dataset, "PresentationIntentType"))
    of_class = _INTENT_OF_CLASS.get(text(dataset, "SOPClassUID"), PresentationIntent.UNKNOWN)
    if said is PresentationIntent.UNKNOWN:
        return of_class, ()
    if of_class not in (said, PresentationIntent.UNKNOWN):
        return said, (f"PresentationIntentType says {said.value}, the SOP class {of_class.value}",)
    return said, ()


def _grayscale_contradictions(dataset: Dataset, image: ImagePixel, intent: PresentationIntent) -> tuple[str, ...]:
    notes: list[str] = []
    photometric = image.photometric
    shape = text(dataset, "PresentationLUTShape").upper()
    # PS3.3 C.8.11.3.1.2 pairs them: IDENTITY with MONOCHROME2, INVERSE with MONOCHROME1
    if (shape, photometric) in (("IDENTITY", Photometric.MONOCHROME1), ("INVERSE", Photometric.MONOCHROME2)):
        notes.append(f"PresentationLUTShape is {shape} with {photometric.value}; the picture is inverted")
    if bool(text(dataset, "RescaleSlope")) != bool(text(dataset, "RescaleIntercept")):
        notes.append("RescaleSlope and RescaleIntercept do not come together; neither is used")
    if bool(text(dataset, "WindowCenter")) != bool(text(dataset, "WindowWidth")):
        notes.append("WindowCenter and WindowWidth do not come together; neither is used")
    for keyword in ("ModalityLUTSequence", "VOILUTSequence"):
        if any(not len(words(item, "LUTData")) for item in items(dataset, keyword)):
            notes.append(f"{keyword} has an empty item")
    if items(dataset, "ModalityLUTSequence") and text(dataset, "RescaleSlope"):
        notes.append("ModalityLUTSequence and RescaleSlope are both there; the former is used")
    if intent is PresentationIntent.FOR_PROCESSING:
        notes += _raw_contradictions(dataset, photometric)
    return tuple(notes)


def _raw_contradictions(dataset: Dataset, photometric: Photometric) -> Iterator[str]:
    """What is odd in how a For Processing image says its values follow the X-ray beam (PS3.3 C.8.11.3.1.2)."""
    if text(dataset, "WindowCenter") or items(dataset, "VOILUTSequence"):
        yield "has a window or VOI LUT, which For Processing values are not meant for; used only if asked for"
    relationship = text(dataset, "PixelIntensityRelationship").upper()
    if relationship not in ("LIN", "LOG"):
        taken = "LOG" if relationship == "DISP" else "LIN"
        yield f"PixelIntensityRelationship is neither LIN nor LOG; taken as {taken}"
    sign = word(dataset, "PixelIntensityRelationshipSign")
    if sign not in (1, 0xFFFF):
        by = "MONOCHROME1" if photometric is Photometric.MONOCHROME1 else "the image"
        yield f"PixelIntensityRelationshipSign is neither 1 nor -1; decided by {by}"
    # with more X-rays giving higher values (1), dense tissue is low and white is MONOCHROME1
    elif (sign == 1) != (photometric is Photometric.MONOCHROME1):
        yield f"PixelIntensityRelationshipSign is {1 if sign == 1 else -1} with {photometric.value}; the sign is used"
