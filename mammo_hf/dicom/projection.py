"""Which breast and which view: every attribute that may say so, in order of trust, and where they disagree."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TypeVar

from pydicom.dataset import Dataset

from .elements import group_items, items, text, texts
from .types import Laterality, View


@dataclass(frozen=True)
class Projection:
    """Laterality and view of an image.

    Attributes:
        laterality: Which breast.
        view: Which projection.
        contradictions: Attributes that say something else, in words.
    """

    laterality: Laterality
    view: View
    contradictions: tuple[str, ...]


_Fact = TypeVar("_Fact", Laterality, View)

_VIEW_NAMES = "|".join(sorted((view.value for view in View if view.value), key=len, reverse=True))
_POSITION = re.compile(rf"(?:(LEFT|RIGHT|L|R)[\s_-]*)?({_VIEW_NAMES})")
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
    codes = [text(item, "CodeValue") for item in items(dataset, "ViewCodeSequence")[:1]]
    views = [
        *(("ViewCodeSequence", View.from_code(code)) for code in codes),
        ("ViewPosition", View.from_dicom(position[2] if position else "")),
        ("the PatientID text", View.from_dicom(patient[2] if patient else "")),
    ]
    laterality, laterality_notes = _believe(lateralities, Laterality.UNKNOWN)
    view, view_notes = _believe(views, View.UNKNOWN)
    hanging = _ORIENTATIONS.get(texts(dataset, "PatientOrientation"), (Laterality.UNKNOWN, View.UNKNOWN))
    if laterality is Laterality.UNKNOWN:
        laterality = hanging[0]
    if view is View.UNKNOWN:
        view = hanging[1]
    return Projection(laterality, view, laterality_notes + view_notes)


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
