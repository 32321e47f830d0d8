"""What the header says about an image, apart from how its values are shown."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TypeVar

from pydicom.dataset import Dataset
from pydicom.uid import (
    BreastProjectionXRayImageStorageForPresentation,
    BreastProjectionXRayImageStorageForProcessing,
    BreastTomosynthesisImageStorage,
    DigitalMammographyXRayImageStorageForPresentation,
    DigitalMammographyXRayImageStorageForProcessing,
    SecondaryCaptureImageStorage,
)

from .errors import MammogramError
from .parsing import group_items, items, numbers, text, texts, word, words
from .pixels import ImagePixel
from .types import ImageKind, Implant, Laterality, Photometric, PresentationIntent, Vendor, View, ViewModifier

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


# How an image was acquired: which kind of picture it is, compression, tube voltage, implants.


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


# The size of a pixel: which attribute says so, and what it means for a projection.


Spacing = tuple[float, float]
# magnification views and calibration differ by more; rounding differs by less
_TOLERANCE = 0.01


@dataclass(frozen=True)
class PixelSize:
    """Distance between pixel centres.

    Attributes:
        spacing_mm: (row, column) distance in mm, or ``None``.
        source: The attribute it is from, or ``None``.
        contradictions: What is malformed or says otherwise, in words.
    """

    spacing_mm: Spacing | None
    source: str | None
    contradictions: tuple[str, ...]


def find_spacing(dataset: Dataset) -> PixelSize:
    """The pixel size of a dataset.

    ImagerPixelSpacing is measured at the detector; divided by EstimatedRadiographicMagnificationFactor it holds in the
    breast (PS3.3 C.8.7.1.1.3 and 10.7.1.3). Then PixelSpacing, then the Pixel Measures functional group, then
    NominalScannedPixelSpacing of a film.
    """
    notes: list[str] = []
    imager = _pair(dataset, "ImagerPixelSpacing", notes)
    pixel = _pair(dataset, "PixelSpacing", notes)
    if imager is not None:
        factor = _magnification(dataset, notes)
        spacing = (imager[0] / factor, imager[1] / factor)
        if pixel is not None and not _close(pixel, imager) and not _close(pixel, spacing):
            notes.append("PixelSpacing is neither ImagerPixelSpacing nor that divided by the magnification")
        name = "ImagerPixelSpacing" + ("" if factor == 1 else " / EstimatedRadiographicMagnificationFactor")
        return PixelSize(spacing, name, tuple(notes))
    sources: list[tuple[str, Callable[[], Spacing | None]]] = [
        ("PixelSpacing", lambda: pixel),
        ("PixelMeasuresSequence", lambda: _measured(dataset, notes)),
        ("NominalScannedPixelSpacing", lambda: _pair(dataset, "NominalScannedPixelSpacing", notes)),
    ]
    for name, find in sources:
        found = find()
        if found is not None:
            return PixelSize(found, name, tuple(notes))
    return PixelSize(None, None, tuple(notes))


def _measured(dataset: Dataset, notes: list[str]) -> Spacing | None:
    return next((_pair(item, "PixelSpacing", notes) for item in group_items(dataset, "PixelMeasuresSequence")), None)


def _pair(dataset: Dataset, keyword: str, notes: list[str]) -> Spacing | None:
    values = _positive_number(dataset, keyword, notes)
    if values and len(values) != 2:
        notes.append(f"{keyword} has {len(values)} values, not two")
    return (values[0], values[1]) if len(values) == 2 else None


def _magnification(dataset: Dataset, notes: list[str]) -> float:
    return next(iter(_positive_number(dataset, "EstimatedRadiographicMagnificationFactor", notes)), 1.0)


def _positive_number(dataset: Dataset, keyword: str, notes: list[str]) -> tuple[float, ...]:
    try:
        values = numbers(dataset, keyword)
    except MammogramError as error:
        notes.append(error.problem)
        return ()
    if any(value <= 0 for value in values):
        notes.append(f"{keyword} is not positive")
        return ()
    return values


def _close(first: Spacing, second: Spacing) -> bool:
    return all(abs(a - b) <= _TOLERANCE * max(a, b) for a, b in zip(first, second, strict=True))


# Which breast and which view: every attribute that may say so, in order of trust, and where they disagree.


@dataclass(frozen=True)
class Projection:
    """Laterality and view of an image.

    Attributes:
        laterality: Which breast.
        view: Which projection.
        modifiers: How the view departs from the standard one, in the file's order.
        orientation: PatientOrientation, the directions of rows and of columns (PS3.3 C.7.6.1.1.1), ``()`` if not said.
        contradictions: Attributes that say something else, in words.
    """

    laterality: Laterality
    view: View
    modifiers: tuple[ViewModifier, ...]
    orientation: tuple[str, ...]
    contradictions: tuple[str, ...]


_Fact = TypeVar("_Fact", Laterality, View)
_VIEW_NAMES = "|".join(sorted((view.value for view in View if view.value), key=len, reverse=True))
# longer than "M" and "S" first; these two are ACR's magnification, before the view, and spot compression, after it
_SUFFIXES = "ID|RL|RM|RI|RS|TAN|SPOT|MAG|CV|AT|NP|AC|IMF|AX|S|M"
_POSITION = re.compile(rf"(?:(LEFT|RIGHT|L|R)[\s_-]*)?(M[\s_-]*)?({_VIEW_NAMES})((?:[\s_-]*(?:{_SUFFIXES}))*)")
_SUFFIX = re.compile(_SUFFIXES)
_DIRECTIONS = re.compile(r"[APLRHF]{1,3}")
# CBIS-DDSM: 'Mass-Training_P_00001_LEFT_CC', its crops and masks '..._LEFT_CC_1', and the short 'P_00038_LEFT_CC.dcm'
_CBIS_PATIENT = re.compile(r"(?:^|_)P_\d+_(LEFT|RIGHT)_(CC|MLO)(?:_\d+)?(?:\.DCM)?$")
# a standard view as displayed, axilla or lateral side up: rows run away from the chest wall of a left breast
# (PS3.3 C.7.6.1.1.1 for the letters); towards the foot as well where the view is oblique
_ORIENTATIONS: dict[tuple[str, ...], tuple[Laterality, View]] = {
    ("A", "R"): (Laterality.LEFT, View.CC),
    ("P", "L"): (Laterality.RIGHT, View.CC),
    ("A", "FR"): (Laterality.LEFT, View.MLO),
    ("P", "FL"): (Laterality.RIGHT, View.MLO),
    ("A", "RF"): (Laterality.LEFT, View.MLO),
    ("P", "LF"): (Laterality.RIGHT, View.MLO),
}


def find_projection(dataset: Dataset) -> Projection:
    """Laterality and view of a dataset; ``UNKNOWN`` where nothing says so.

    Laterality is taken from ImageLaterality, Laterality, FrameLaterality, ViewPosition ("L MLO"), CBIS-DDSM's PatientID
    text, PatientOrientation; the view from ViewCodeSequence, ViewPosition, PatientID, PatientOrientation. The first
    that says anything is believed. PatientOrientation, which tells it only under the usual hanging, is asked last and
    contradicts nothing.
    """
    position = _POSITION.fullmatch(text(dataset, "ViewPosition").upper())
    patient = _CBIS_PATIENT.search(text(dataset, "PatientID").upper())
    frames = group_items(dataset, "FrameAnatomySequence")
    lateralities = [
        ("ImageLaterality", Laterality.from_dicom(text(dataset, "ImageLaterality"))),
        ("Laterality", Laterality.from_dicom(text(dataset, "Laterality"))),
        *(("FrameLaterality", Laterality.from_dicom(text(frame, "FrameLaterality"))) for frame in frames),
        ("ViewPosition", Laterality.from_dicom(position[1] if position else "")),
        ("the PatientID text", Laterality.from_dicom(patient[1] if patient else "")),
    ]
    views = [
        *(("ViewCodeSequence", _coded_view(item)) for item in items(dataset, "ViewCodeSequence")[:1]),
        ("ViewPosition", View.from_dicom(position[3] if position else "")),
        ("the PatientID text", View.from_dicom(patient[2] if patient else "")),
    ]
    laterality, laterality_notes = _believe(lateralities, Laterality.UNKNOWN)
    view, view_notes = _believe(views, View.UNKNOWN)
    orientation = tuple(direction.upper() for direction in texts(dataset, "PatientOrientation"))
    hanging = _ORIENTATIONS.get(orientation, (Laterality.UNKNOWN, View.UNKNOWN))
    if laterality is Laterality.UNKNOWN:
        laterality = hanging[0]
    if view is View.UNKNOWN:
        view = hanging[1]
    return Projection(
        laterality,
        view,
        _modifiers(dataset, text(dataset, "ViewPosition").upper(), position),
        orientation if all(_DIRECTIONS.fullmatch(direction) for direction in orientation) else (),
        laterality_notes + view_notes,
    )


def _modifiers(dataset: Dataset, text_of_position: str, position: re.Match[str] | None) -> tuple[ViewModifier, ...]:
    """ViewModifierCodeSequence within ViewCodeSequence, or beside it in old files; and what ViewPosition adds."""
    holders = (*items(dataset, "ViewCodeSequence"), dataset)
    coded = [item for holder in holders for item in items(holder, "ViewModifierCodeSequence")]
    found = [_modifier(item) for item in coded]
    if position is not None:
        words = [*(["M"] if position[2] else []), *_SUFFIX.findall(position[4])]
        found += [ViewModifier.from_dicom(word) for word in words]
    else:
        found.append(ViewModifier.from_dicom(text_of_position))  # "AT" or "CV" alone, as RSNA's files have it
    return tuple(dict.fromkeys(one for one in found if one is not ViewModifier.UNKNOWN))


def _coded_view(item: Dataset) -> View:
    by_code = View.from_code(text(item, "CodeValue"))
    return by_code if by_code is not View.UNKNOWN else View.from_meaning(text(item, "CodeMeaning"))


def _modifier(item: Dataset) -> ViewModifier:
    by_code = ViewModifier.from_code(text(item, "CodeValue"))
    return by_code if by_code is not ViewModifier.UNKNOWN else ViewModifier.from_dicom(text(item, "CodeMeaning"))


def _believe(said: list[tuple[str, _Fact]], unknown: _Fact) -> tuple[_Fact, tuple[str, ...]]:
    """The first known value, and one text for each attribute that says another one."""
    known = [(name, value) for name, value in said if value is not unknown]
    if not known:
        return unknown, ()
    first_name, first = known[0]
    notes = [
        f"{first_name} says {first.value}, {name} says {value.value}"
        for name, value in known[1:]
        if not _agree(first, value)
    ]
    return first, tuple(dict.fromkeys(notes))


def _agree(first: Laterality | View, other: Laterality | View) -> bool:
    # an exaggerated view whose side only one attribute tells; a series of both breasts that holds an image of one
    exaggerated = (View.XCC, View.XCCL, View.XCCM)
    return (
        first is other or other is Laterality.BOTH or (View.XCC in (first, other) and {first, other} <= {*exaggerated})
    )
