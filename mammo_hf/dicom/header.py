"""What the header says about an image, apart from how its values are shown."""

from __future__ import annotations

from dataclasses import dataclass

from pydicom.dataset import Dataset
from pydicom.uid import (
    DigitalMammographyXRayImageStorageForPresentation,
    DigitalMammographyXRayImageStorageForProcessing,
)

from .elements import items, text, words
from .image_pixel import ImagePixel
from .projection import find_projection
from .spacing import find_spacing
from .types import Laterality, Photometric, PresentationIntent, Vendor, View

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
        intent: For Presentation or For Processing.
        spacing_mm: (row, column) pixel size in mm in the plane that ``spacing_source`` says, or ``None``.
        spacing_source: The attribute that the spacing is from, or ``None``.
        vendor: The manufacturer's family.
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
    intent: PresentationIntent
    spacing_mm: tuple[float, float] | None
    spacing_source: str | None
    vendor: Vendor
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
    return MammogramHeader(
        laterality=projection.laterality,
        view=projection.view,
        intent=intent,
        spacing_mm=size.spacing_mm,
        spacing_source=size.source,
        vendor=Vendor.from_dicom(text(dataset, "Manufacturer")),
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
            *_grayscale_contradictions(dataset, image.photometric),
            *contradictions,
        ),
    )


def find_intent(dataset: Dataset) -> tuple[PresentationIntent, tuple[str, ...]]:
    """What the pixels were made for, by PresentationIntentType, else by SOP class; and where the two disagree."""
    said = PresentationIntent.from_dicom(text(dataset, "PresentationIntentType"))
    of_class = _INTENT_OF_CLASS.get(text(dataset, "SOPClassUID"), PresentationIntent.UNKNOWN)
    if said is PresentationIntent.UNKNOWN:
        return of_class, ()
    if of_class not in (said, PresentationIntent.UNKNOWN):
        return said, (f"PresentationIntentType says {said.value}, the SOP class {of_class.value}",)
    return said, ()


def _grayscale_contradictions(dataset: Dataset, photometric: Photometric) -> tuple[str, ...]:
    notes = []
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
    return tuple(notes)
