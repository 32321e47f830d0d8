"""Facts of an image in its header, apart from the display of its values.

Functions with ``notes`` append to it what is malformed or contradicts.
"""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from typing import TypeVar

from pydicom import uid
from pydicom.dataset import Dataset

from ..notes import Note
from .parsing import HOLOGIC_VOLUME, group_items, items, numbers, optional_word, text, texts, words
from .pixels import ImagePixel
from .types import (
    ImageKind,
    Implant,
    Laterality,
    MammogramError,
    Photometric,
    PresentationIntent,
    Vendor,
    View,
    ViewModifier,
)

Spacing = tuple[float, float]
_Fact = TypeVar("_Fact", Laterality, View)
_Coded = TypeVar("_Coded", View, ViewModifier)


@dataclass(frozen=True)
class MammogramHeader(ImagePixel):
    """The facts of a mammogram's header, with those of its Image Pixel module; nothing in it names a person.

    Attributes:
        laterality: Side of the breast.
        laterality_source: The attribute that the side is from, or ``None``.
        view: The projection.
        view_source: The attribute that the view is from, or ``None``.
        modifiers: Departures of the view from the standard one: spot compression, magnification, implant displaced, ...
        orientation: PatientOrientation, such as ("P", "FL"); ``()`` if it is not given.
        kind: Digital image, film, tomosynthesis volume, one of its projections, or a synthetic 2D image made from it.
        intent: For Presentation or For Processing.
        spacing_mm: (row, column) pixel size in mm in the plane that ``spacing_source`` names, or ``None``.
        spacing_source: The attribute that the spacing is from, or ``None``.
        vendor: The manufacturer's family.
        implant: Whether the breast holds an implant.
        model_name: ManufacturerModelName, such as "Senographe Pristina"; "" if it is not given.
        kvp: Peak tube voltage in kV, or ``None``.
        exposure_mas: Exposure in mAs, or ``None``.
        compression_force_n: Compression force in newtons, or ``None``.
        thickness_mm: Thickness of the compressed breast in mm, or ``None``.
        series_description: Free text of the file that identifies parts of a collection; not for logs or results.
        contradictions: Notes on attributes that are malformed or that disagree, and on facts that were found in an
            unusual place; none holds an identifying value.
    """

    laterality: Laterality
    laterality_source: str | None
    view: View
    view_source: str | None
    modifiers: tuple[ViewModifier, ...]
    orientation: tuple[str, ...]
    kind: ImageKind
    intent: PresentationIntent
    spacing_mm: Spacing | None
    spacing_source: str | None
    vendor: Vendor
    implant: Implant
    model_name: str
    kvp: float | None
    exposure_mas: float | None
    compression_force_n: float | None
    thickness_mm: float | None
    series_description: str
    contradictions: tuple[Note, ...]


def mammogram_header(
    dataset: Dataset, image: ImagePixel, contradictions: tuple[Note, ...] = (), *, use_descriptions: bool = True
) -> MammogramHeader:
    """Return the header of a dataset.

    Args:
        dataset: The image.
        image: The Image Pixel module of the image.
        contradictions: Contradictions that reading the pixels has found already.
        use_descriptions: Whether free text may give side and view.
    """
    notes: list[Note] = []
    laterality, view = find_projection(dataset, notes, use_descriptions=use_descriptions)
    modifiers = find_modifiers(dataset)
    intent = find_intent(dataset, notes)
    spacing, spacing_source = find_spacing(dataset, notes)
    implant = find_implant(dataset, modifiers, notes)
    kind = find_kind(dataset, image.frames, notes)
    kvp, exposure, force, thickness = find_exposure(dataset, notes)
    _check_grayscale(dataset, image.photometric, intent, notes)
    vendor, model = Vendor.from_dicom(text(dataset, "Manufacturer")), text(dataset, "ManufacturerModelName")
    return MammogramHeader(
        **vars(image),
        laterality=laterality[0],
        laterality_source=laterality[1],
        view=view[0],
        view_source=view[1],
        modifiers=modifiers,
        orientation=find_orientation(dataset),
        kind=kind,
        intent=intent,
        spacing_mm=spacing,
        spacing_source=spacing_source,
        vendor=Vendor.from_model(model) if vendor is Vendor.UNKNOWN else vendor,
        implant=implant,
        model_name=model,
        kvp=kvp,
        exposure_mas=exposure,
        compression_force_n=force,
        thickness_mm=thickness,
        series_description=text(dataset, "SeriesDescription"),
        contradictions=tuple(dict.fromkeys((*notes, *contradictions))),
    )


# Which breast and which view: every attribute that may say so, in order of trust, and where they disagree.

_VIEW_NAMES = "|".join(sorted((view.value for view in View if view.value), key=len, reverse=True))
# longer ones before "M" and "S": ACR's magnification, before the view, and spot compression, after it
_SUFFIXES = "ID|RL|RM|RI|RS|TAN|SPOT|MAG|CV|AT|NP|AC|IMF|AX|S|M"
_POSITION = re.compile(rf"(?:(LEFT|RIGHT|L|R)[\s_-]*)?(M[\s_-]*)?({_VIEW_NAMES})((?:[\s_-]*(?:{_SUFFIXES}))*)")
_SUFFIX = re.compile(_SUFFIXES)
_DIRECTIONS = re.compile(r"[APLRHF]{1,3}")
# CBIS-DDSM: 'Mass-Training_P_00001_LEFT_CC', its crops and masks '..._LEFT_CC_1', and the short 'P_00038_LEFT_CC.dcm'
_CBIS_PATIENT = re.compile(r"(?:^|_)P_\d+_(LEFT|RIGHT)_(CC|MLO)(?:_\d+)?(?:\.DCM)?$")
# a standard view as displayed, axilla or lateral side up: rows run away from the chest wall of a left breast
# (PS3.3 C.7.6.1.1.1 for the letters); towards the foot as well if the view is oblique
_ORIENTATIONS: dict[tuple[str, ...], tuple[Laterality, View]] = {
    ("A", "R"): (Laterality.LEFT, View.CC),
    ("P", "L"): (Laterality.RIGHT, View.CC),
    ("A", "FR"): (Laterality.LEFT, View.MLO),
    ("P", "FL"): (Laterality.RIGHT, View.MLO),
    ("A", "RF"): (Laterality.LEFT, View.MLO),
    ("P", "LF"): (Laterality.RIGHT, View.MLO),
}


def find_projection(
    dataset: Dataset, notes: list[Note], *, use_descriptions: bool = True
) -> tuple[tuple[Laterality, str | None], tuple[View, str | None]]:
    """Return laterality and view of a dataset, each with the attribute that gives it; ``UNKNOWN`` if none does.

    Laterality is taken from ImageLaterality, Laterality, FrameLaterality, ViewPosition ("L MLO"), CBIS-DDSM's PatientID
    text; the view from ViewCodeSequence, ViewPosition, PatientID. Then both from free text, which is where Fujifilm and
    others put them: AcquisitionDeviceProcessingDescription, ProtocolName, SeriesDescription; and at last from
    PatientOrientation, which gives them only under the usual hanging and contradicts nothing. The first one that has a
    value is believed.

    Args:
        dataset: The image.
        notes: List that receives contradictions, and what is taken from free text.
        use_descriptions: Whether free text is used.
    """
    position = _from_position(text(dataset, "ViewPosition"))
    patient = _CBIS_PATIENT.search(text(dataset, "PatientID").upper())
    frames = group_items(dataset, "FrameAnatomySequence")
    described = {name: _from_text(text(dataset, name)) for name in _DESCRIPTIONS} if use_descriptions else {}
    sides = [
        ("ImageLaterality", Laterality.from_dicom(text(dataset, "ImageLaterality"))),
        ("Laterality", Laterality.from_dicom(text(dataset, "Laterality"))),
        *(("FrameLaterality", Laterality.from_dicom(text(frame, "FrameLaterality"))) for frame in frames),
        ("ViewPosition", position[0]),
        ("the PatientID text", Laterality.from_dicom(patient[1] if patient else "")),
        *((name, found[0]) for name, found in described.items()),
    ]
    views = [
        *(("ViewCodeSequence", _coded(View, item)) for item in items(dataset, "ViewCodeSequence")),
        ("ViewPosition", position[1]),
        ("the PatientID text", View.from_dicom(patient[2] if patient else "")),
        *((name, found[1]) for name, found in described.items()),
    ]
    hanging = _ORIENTATIONS.get(find_orientation(dataset), (Laterality.UNKNOWN, View.UNKNOWN))
    return _first_known(sides, hanging[0], notes), _first_known(views, hanging[1], notes)


# free-text attributes, and the notes that a side or a view is from them
_DESCRIPTIONS = {
    "AcquisitionDeviceProcessingDescription": ("laterality_from_device_description", "view_from_device_description"),
    "ProtocolName": ("laterality_from_protocol_name", "view_from_protocol_name"),
    "SeriesDescription": ("laterality_from_series_description", "view_from_series_description"),
}
_SIDE_WORDS = {
    **dict.fromkeys(("RIGHT", "DEX", "DEXT", "DEXTRA", "RECHTS", "DROIT", "DROITE", "DERECHA", "DIREITA"), "R"),
    **dict.fromkeys(("LEFT", "SIN", "SINISTRA", "LINKS", "GAUCHE", "IZQUIERDA", "ESQUERDA"), "L"),
}
_SIDE_LETTERS = {"R": "R", "RT": "R", "L": "L", "LT": "L"}  # a side only next to a view: alone they abbreviate others
# not FB, ISO and SIO: in free text these are rarely views
_VIEW_WORDS = {
    **{name: name for name in ("CC", "MLO", "ML", "LM", "LMO", "XCC", "XCCL", "XCCM")},
    **{"CRANIOCAUDAL": "CC", "VIISTO": "MLO"},
}


def _from_position(position: str) -> tuple[Laterality, View]:
    found = _POSITION.fullmatch(position.upper())
    if found is None:
        return _from_text(position)
    return Laterality.from_dicom(found[1]), View.from_dicom(found[3])


def _from_text(description: str) -> tuple[Laterality, View]:
    """Return side and view that a free text names; ``UNKNOWN`` for one that it does not name, or names several of."""
    # joined, so that "medio-lateral oblique" and "cranio caudal" are one word each
    joined = re.sub(r"CRANIO[\s_-]*CAUDAL", "CRANIOCAUDAL", description.upper())
    joined = re.sub(r"MEDIO[\s_-]*LATERAL[\s_-]*OBLIQUE", "MLO", joined)
    words = re.findall(r"[^\W\d_]+", joined)
    # "RCC" is R and CC; "LM" and "LMO" are views of their own
    words = [part for word in words for part in ((word[0], word[1:]) if _is_joined(word) else (word,))]
    views = {_VIEW_WORDS[word] for word in words if word in _VIEW_WORDS}
    letters = _SIDE_LETTERS if views else {}
    sides = {value for word in words if (value := _SIDE_WORDS.get(word) or letters.get(word))}
    return (
        Laterality.from_dicom(sides.pop() if len(sides) == 1 else ""),
        View.from_dicom(views.pop() if len(views) == 1 else ""),
    )


def _is_joined(word: str) -> bool:
    return word not in _VIEW_WORDS and word[0] in "RL" and word[1:] in _VIEW_WORDS


def _first_known(found: list[tuple[str, _Fact]], default: _Fact, notes: list[Note]) -> tuple[_Fact, str | None]:
    """Return the first known value with its attribute; note each attribute that says another one, and free text."""
    known = [(name, value) for name, value in found if value.value]
    if not known:
        return default, "PatientOrientation" if default.value else None
    name, first = known[0]
    is_side = isinstance(first, Laterality)
    if name in _DESCRIPTIONS:
        notes.append(Note(_DESCRIPTIONS[name][0 if is_side else 1]))
    code = "laterality_contradicted" if is_side else "view_contradicted"
    others = [
        Note(code, attribute=name, value=first.value, other=other, other_value=value.value)
        for other, value in known
        if not _agree(first, value)
    ]
    notes += dict.fromkeys(others)
    return first, name


def _agree(first: Laterality | View, other: Laterality | View) -> bool:
    # a series of both breasts may hold an image of one; only one attribute may name the side of an exaggerated view
    exaggerated = {View.XCC, View.XCCL, View.XCCM}
    return first is other or other is Laterality.BOTH or (View.XCC in (first, other) and {first, other} <= exaggerated)


def _coded(kind: type[_Coded], item: Dataset) -> _Coded:
    return kind.from_code(text(item, "CodeValue"), text(item, "CodeMeaning"))


def find_modifiers(dataset: Dataset) -> tuple[ViewModifier, ...]:
    """Return how the view departs from the standard one, in the file's order.

    ViewModifierCodeSequence is within ViewCodeSequence, or next to it in old files; ViewPosition may add others.
    """
    holders = (*items(dataset, "ViewCodeSequence"), dataset)
    found = [_coded(ViewModifier, item) for holder in holders for item in items(holder, "ViewModifierCodeSequence")]
    written = text(dataset, "ViewPosition").upper()
    position = _POSITION.fullmatch(written)
    # without a view: "AT" or "CV" alone, as in RSNA's files
    names = [*(["M"] if position[2] else []), *_SUFFIX.findall(position[4])] if position else [written]
    found += [ViewModifier.from_dicom(name) for name in names]
    return tuple(dict.fromkeys(modifier for modifier in found if modifier is not ViewModifier.UNKNOWN))


def find_orientation(dataset: Dataset) -> tuple[str, ...]:
    """Return PatientOrientation, the directions of rows and columns (PS3.3 C.7.6.1.1.1); ``()`` for anything else."""
    orientation = tuple(direction.upper() for direction in texts(dataset, "PatientOrientation"))
    return orientation if all(_DIRECTIONS.fullmatch(direction) for direction in orientation) else ()


# How an image was acquired: what it was made for, which kind of image it is, implants, and the exposure.

_INTENT_OF_CLASS = {
    str(uid.DigitalMammographyXRayImageStorageForPresentation): PresentationIntent.FOR_PRESENTATION,
    str(uid.DigitalMammographyXRayImageStorageForProcessing): PresentationIntent.FOR_PROCESSING,
}
_PROJECTIONS = (uid.BreastProjectionXRayImageStorageForPresentation, uid.BreastProjectionXRayImageStorageForProcessing)
# what makers wrote before the standard had GENERATED_2D: Hologic, Fujifilm, Siemens, GE
_SYNTHETIC_NAMES = ("C-VIEW", "CVIEW", "S-VIEW", "INSIGHT 2D", "V-PREVIEW", "INTELLIGENT 2D", "SYNTHETIC 2D")


def find_intent(dataset: Dataset, notes: list[Note]) -> PresentationIntent:
    """Return what the pixels were made for, by PresentationIntentType, else by SOP class."""
    intent = PresentationIntent.from_dicom(text(dataset, "PresentationIntentType"))
    of_class = _INTENT_OF_CLASS.get(text(dataset, "SOPClassUID"), PresentationIntent.UNKNOWN)
    if intent is PresentationIntent.UNKNOWN:
        return of_class
    if of_class not in (intent, PresentationIntent.UNKNOWN):
        notes.append(Note("intent_contradicted", intent=intent.value, of_class=of_class.value))
    return intent


def find_kind(dataset: Dataset, frames: int, notes: list[Note]) -> ImageKind:
    """Return the kind of image, by SOP class and ImageType (PS3.3 C.8.11.7.1.4), or by the maker's name for it.

    A synthetic 2D image has the SOP class of a digital mammogram, or is a Secondary Capture: only value 4 of ImageType
    distinguishes it.
    """
    kind = _kind(dataset, frames)
    if frames > 1 and kind is not ImageKind.TOMOSYNTHESIS:
        notes.append(Note("frames_contradicted", frames=frames))
    return kind


def _kind(dataset: Dataset, frames: int) -> ImageKind:
    image_type = {value.upper() for value in texts(dataset, "ImageType")}
    sop_class = text(dataset, "SOPClassUID")
    description = text(dataset, "SeriesDescription").upper()
    if (sop_class == uid.BreastTomosynthesisImageStorage and frames > 1) or sop_class in _SLICES:
        return ImageKind.TOMOSYNTHESIS
    if "GENERATED_2D" in image_type or any(name in description for name in _SYNTHETIC_NAMES):
        return ImageKind.SYNTHETIC
    if sop_class == uid.BreastTomosynthesisImageStorage:
        return ImageKind.TOMOSYNTHESIS
    if sop_class in _PROJECTIONS or "TOMO_PROJ" in image_type:
        return ImageKind.TOMOSYNTHESIS_PROJECTION
    if sop_class in _INTENT_OF_CLASS:
        return ImageKind.FFDM
    if sop_class == uid.SecondaryCaptureImageStorage and not image_type & {"TOMO", "TOMOSYNTHESIS"}:
        return ImageKind.FILM  # a scan of a film: what else is captured from a screen is in colour
    return ImageKind.UNKNOWN


# Whether the image is of a breast, by modality, SOP class and body part.

_BREAST_CODES = (
    "76752008",
    "T-04000",
    "73056007",
    "80248007",
    "63762007",
)  # SNOMED CT and SRT: breast, right, left, both
# parts of BodyPartExamined, in the languages of the field
_BREAST_WORDS = ("BREAST", "MAMM", "MAMO", "MAMA", "SENO", "SEIN", "BRUST", "AXILLA")
_RADIOGRAPHS = ("CR", "DX", "RG", "OT")  # modalities that films and plates of any part of the body have
_SLICES = (uid.CTImageStorage, uid.EnhancedCTImageStorage)


def check_anatomy(dataset: Dataset, notes: list[Note]) -> None:
    """Refuse an image that is not of a breast, or is only a part of a tomosynthesis; note what is not certain.

    Raises:
        MammogramError: The header says so; the code is "not_a_breast".
    """
    modality, sop_class = text(dataset, "Modality").upper(), text(dataset, "SOPClassUID")
    part = _part_of_tomosynthesis(dataset, sop_class)
    if part is not None:
        raise MammogramError(f"is {part}, not a mammogram", remedy="leave it out, or allow any_anatomy", code=_OTHER)
    breast = _is_breast(dataset)
    if breast is False and modality in _RADIOGRAPHS:
        problem = f"is a radiograph ({modality}) of another part of the body, by its header"
        raise MammogramError(problem, remedy="leave it out, or allow any_anatomy if the header is wrong", code=_OTHER)
    if breast is False:
        notes.append(Note("body_part_contradicted"))
    elif breast is None and modality in ("CR", "DX", "RG") and find_projection(dataset, [])[1][0] is View.UNKNOWN:
        notes.append(Note("body_part_unknown", modality=modality))


_OTHER = "not_a_breast"


def _is_breast(dataset: Dataset) -> bool | None:
    """Return whether the body part is the breast; ``None`` if the header does not say."""
    regions = items(dataset, "AnatomicRegionSequence")
    words = [text(dataset, "BodyPartExamined").upper(), *(text(region, "CodeMeaning").upper() for region in regions)]
    if any(text(region, "CodeValue") in _BREAST_CODES for region in regions):
        return True
    if not any(words):
        return None
    return any(name in word for word in words for name in _BREAST_WORDS)


def _part_of_tomosynthesis(dataset: Dataset, sop_class: str) -> str | None:
    """Return what an image is that shows a part of a tomosynthesis or hides one; ``None`` for any other."""
    image_type = {value.upper() for value in texts(dataset, "ImageType")}
    creator = getattr(dataset.get_item(HOLOGIC_VOLUME), "value", "")
    if sop_class in _SLICES:
        return "one slice of a volume, stored as a CT image"
    if sop_class in _PROJECTIONS or "TOMO_PROJ" in image_type:
        return "one projection of a tomosynthesis"
    if sop_class == uid.SecondaryCaptureImageStorage and "HOLOGIC" in str(creator).upper():
        return "the container of a volume in private attributes (Hologic)"
    return None


def find_implant(dataset: Dataset, modifiers: tuple[ViewModifier, ...], notes: list[Note]) -> Implant:
    """Return whether the breast holds an implant, by BreastImplantPresent."""
    implant = Implant.from_dicom(text(dataset, "BreastImplantPresent"))
    if implant is Implant.ABSENT and ViewModifier.IMPLANT_DISPLACED in modifiers:
        notes.append(Note("implant_contradicted"))
    return implant


def find_exposure(dataset: Dataset, notes: list[Note]) -> tuple[float | None, float | None, float | None, float | None]:
    """Return tube voltage in kV, exposure in mAs, compression force in N, and thickness of the compressed breast in mm.

    A volume may hold them in its X-Ray 3D Acquisition Sequence (PS3.3 C.8.21.3). The exposure is in whole or
    decimal mAs, or in µAs (PS3.3 C.8.7.2).
    """
    micro = _positive(dataset, "ExposureInuAs", notes)
    exposure = _positive(dataset, "ExposureInmAs", notes) or (micro / 1000 if micro else None)
    return (
        _positive(dataset, "KVP", notes),
        exposure or _positive(dataset, "Exposure", notes),
        _positive(dataset, "CompressionForce", notes),
        _positive(dataset, "BodyPartThickness", notes),
    )


def _positive(dataset: Dataset, keyword: str, notes: list[Note]) -> float | None:
    for holder in (dataset, *items(dataset, "XRay3DAcquisitionSequence")[:1]):
        found = numbers(holder, keyword, notes)
        if found and found[0] > 0:
            return found[0]
        if found and found[0] < 0:
            notes.append(Note("attribute_not_positive", attribute=keyword))
    return None


# The size of a pixel: which attribute gives it, and what it means for a projection.

# magnification views and calibration differ by more; rounding differs by less
_TOLERANCE = 0.01


def find_spacing(dataset: Dataset, notes: list[Note]) -> tuple[Spacing | None, str | None]:
    """Return the (row, column) distance of pixel centres in mm, and the attribute that it is from.

    ImagerPixelSpacing is measured at the detector; divided by EstimatedRadiographicMagnificationFactor it holds in the
    breast (PS3.3 C.8.7.1.1.3 and 10.7.1.3). Then PixelSpacing, then the Pixel Measures functional group, then
    NominalScannedPixelSpacing of a film.
    """
    imager = _pair(dataset, "ImagerPixelSpacing", notes)
    pixel = _pair(dataset, "PixelSpacing", notes)
    if imager is not None:
        factor = next(iter(_all_positive(dataset, "EstimatedRadiographicMagnificationFactor", notes)), 1.0)
        if factor < 1:  # the breast is in front of the detector
            notes.append(Note("magnification_below_1"))
            factor = 1.0
        spacing = (imager[0] / factor, imager[1] / factor)
        if pixel is not None and not _close(pixel, imager) and not _close(pixel, spacing):
            notes.append(Note("spacing_contradicted"))
        return spacing, "ImagerPixelSpacing" + ("" if factor == 1 else " / EstimatedRadiographicMagnificationFactor")
    if pixel is not None:
        return pixel, "PixelSpacing"
    for item in group_items(dataset, "PixelMeasuresSequence")[:1]:
        if (measured := _pair(item, "PixelSpacing", notes)) is not None:
            return measured, "PixelMeasuresSequence"
    nominal = _pair(dataset, "NominalScannedPixelSpacing", notes)
    return nominal, None if nominal is None else "NominalScannedPixelSpacing"


def _pair(dataset: Dataset, keyword: str, notes: list[Note]) -> Spacing | None:
    values = _all_positive(dataset, keyword, notes)
    if values and len(values) != 2:
        notes.append(Note("attribute_malformed", problem=f"{keyword} has {len(values)} values, not two"))
    return (values[0], values[1]) if len(values) == 2 else None


def _all_positive(dataset: Dataset, keyword: str, notes: list[Note]) -> tuple[float, ...]:
    values = numbers(dataset, keyword, notes)
    if not all(map(math.isfinite, values)):
        return ()
    if any(value <= 0 for value in values):
        notes.append(Note("attribute_not_positive", attribute=keyword))
        return ()
    return values


def _close(first: Spacing, second: Spacing) -> bool:
    return all(abs(a - b) <= _TOLERANCE * max(a, b) for a, b in zip(first, second, strict=True))


# What contradicts in how the file wants its values displayed.


def _check_grayscale(dataset: Dataset, photometric: Photometric, intent: PresentationIntent, notes: list[Note]) -> None:
    shape = text(dataset, "PresentationLUTShape").upper()
    # PS3.3 C.8.11.3.1.2 pairs them: IDENTITY with MONOCHROME2, INVERSE with MONOCHROME1
    if (shape, photometric) in (("IDENTITY", Photometric.MONOCHROME1), ("INVERSE", Photometric.MONOCHROME2)):
        notes.append(Note("presentation_lut_contradicted", shape=shape, photometric=photometric.value))
    for first, second in (("RescaleSlope", "RescaleIntercept"), ("WindowCenter", "WindowWidth")):
        if bool(text(dataset, first)) != bool(text(dataset, second)):
            notes.append(Note("attribute_alone", attribute=first, other=second))
    for keyword in ("ModalityLUTSequence", "VOILUTSequence"):
        if any(_is_empty(item) for item in items(dataset, keyword)):
            notes.append(Note("lut_empty", attribute=keyword))
    if items(dataset, "ModalityLUTSequence") and text(dataset, "RescaleSlope"):
        notes.append(Note("modality_lut_and_rescale"))
    if intent is PresentationIntent.FOR_PROCESSING:
        _check_raw(dataset, photometric, notes)


def _is_empty(item: Dataset) -> bool:
    try:
        return not len(words(item, "LUTData"))
    except MammogramError:
        return False  # malformed, which building the table notes


def _check_raw(dataset: Dataset, photometric: Photometric, notes: list[Note]) -> None:
    """Note what is odd in how the values of a For Processing image follow the X-ray beam (PS3.3 C.8.11.3.1.2)."""
    if text(dataset, "WindowCenter") or items(dataset, "VOILUTSequence"):
        notes.append(Note("raw_with_window"))
    relationship = text(dataset, "PixelIntensityRelationship").upper()
    if relationship not in ("LIN", "LOG"):
        used = "LOG" if relationship == "DISP" else "LIN"
        notes.append(Note("raw_relationship_unknown", used=used))
    sign = optional_word(dataset, "PixelIntensityRelationshipSign", notes)
    if sign not in (1, 0xFFFF):
        by = "MONOCHROME1" if photometric is Photometric.MONOCHROME1 else "the image"
        notes.append(Note("raw_sign_unknown", used=by))
    # with more X-rays giving higher values (1), dense tissue is low and white is MONOCHROME1
    elif (sign == 1) != (photometric is Photometric.MONOCHROME1):
        value = 1 if sign == 1 else -1
        notes.append(Note("raw_sign_contradicted", sign=value, photometric=photometric.value))
