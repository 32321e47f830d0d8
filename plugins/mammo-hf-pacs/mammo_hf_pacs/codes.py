"""Coded terms of the objects: DCM and SNOMED CT where there is one, a private scheme where there is none.

The private scheme is ``99MAMMOHF``. Its code values are ``T_TASK`` for a task, ``L_TASK_LABEL`` for a label of a task
and ``P_TASK_LABEL`` for the probability of that label, in capitals; one of more than 16 characters, which is the most
that DICOM allows, is its first two characters and 14 hexadecimal digits of the SHA-256 of the whole.
"""

from __future__ import annotations

import hashlib
import re

from pydicom.sr.codedict import codes
from pydicom.sr.coding import Code

SCHEME = "99MAMMOHF"
SCT, DCM = codes.SCT, codes.DCM

BREAST = SCT.Breast
SIDES = {"R": SCT.Right, "L": SCT.Left}
REPORT = DCM.ImagingMeasurementReport
PROCEDURE = Code("71651007", "SCT", "Mammography")
FAMILY = DCM.ArtificialIntelligence
SOURCE = DCM.SourceImageForImageProcessingOperation
NO_UNIT = Code("1", "UCUM", "no units")
STRUCTURE = Code("91723000", "SCT", "Anatomical structure")
SPATIAL = Code("309825002", "SCT", "Spatial and relational concept")
SALIENCY = DCM.Saliency
MAP_VALUE = Code("MAP_VALUE", SCHEME, "Value of the map at its peak, of its maximum 1")
EXAM = Code("EXAM", SCHEME, "All images of the exam together")
REPLACED = Code("REPLACED", SCHEME, "Series that this one replaces")

# tasks and labels as `mammo_hf.data.schema.TASKS` names them
TASKS = {"density": DCM.BreastComposition, "birads": DCM.AssessmentCategory}
_ASSESSMENTS = {
    "0": "NeedAdditionalImagingEvaluation",
    "1": "Negative",
    "2": "BenignFinding",
    "3": "ProbablyBenignFindingShortIntervalFollowUp",
    "4": "SuspiciousAbnormalityBiopsyShouldBeConsidered",
    "5": "HighlySuggestiveOfMalignancy",
}
LABELS = {
    ("pathology", "benign"): SCT.Benign,
    ("pathology", "malignant"): SCT.Malignant,
    ("density", "a"): codes.cid6000.AlmostEntirelyFat,
    ("density", "b"): codes.cid6000.ScatteredFibroglandularDensities,
    ("density", "c"): codes.cid6000.HeterogeneouslyDense,
    ("density", "d"): codes.cid6000.ExtremelyDense,
    ("abnormality", "normal"): SCT.BreastNormal,
    ("abnormality", "asymmetry"): SCT.AsymmetricBreastTissue,
    ("abnormality", "distortion"): SCT.ArchitecturalDistortionOfBreast,
    ("abnormality", "mass"): SCT.MammographicBreastMass,
    ("abnormality", "calcification"): SCT.CalcificationOfBreast,
    **{
        ("birads", label): getattr(SCT, f"MammographyAssessmentCategory{label}{name}")
        for label, name in _ASSESSMENTS.items()
    },
}
PROBABILITIES = {("pathology", "malignant"): DCM.ProbabilityOfCancer, ("cancer", "yes"): DCM.ProbabilityOfCancer}


def task(name: str) -> Code:
    """Return the code of a task."""
    return TASKS.get(name) or _private("T", name, meaning=f"Task {name}")


def label(of_task: str, name: str) -> Code:
    """Return the code of a label of a task."""
    return LABELS.get((of_task, name)) or _private("L", of_task, name, meaning=f"{of_task}: {name}")


def probability(of_task: str, name: str) -> Code:
    """Return the code of the probability of a label."""
    meaning = f"Probability of {of_task}: {name}"
    return PROBABILITIES.get((of_task, name)) or _private("P", of_task, name, meaning=meaning)


def _private(*parts: str, meaning: str) -> Code:
    whole = "_".join(re.sub(r"[^A-Z0-9]+", "_", part.upper()) for part in parts)
    value = whole if len(whole) <= 16 else whole[:2] + hashlib.sha256(whole.encode()).hexdigest()[:14]
    return Code(value, SCHEME, meaning.encode("ascii", "replace").decode()[:64])
