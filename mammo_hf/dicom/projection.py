"""Which breast and which view: every attribute that may say so, in order of trust, and where they disagree."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TypeVar

from pydicom.dataset import Dataset

from .elements import group_items, items, text, texts
from .types import Laterality, View, ViewModifier


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
