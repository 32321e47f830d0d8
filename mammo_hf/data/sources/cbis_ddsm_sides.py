"""On which side each of CBIS-DDSM's patients stands, by its tables and by the names of its series."""

from __future__ import annotations

from collections.abc import Iterable

from .cbis_ddsm_cases import CaseDescriptions
from .cbis_ddsm_files import ImageFile


def sides_of_patients(cases: CaseDescriptions, named: Iterable[ImageFile]) -> tuple[dict[str, str], frozenset[str]]:
    """The split of each patient, and those patients who stand on both official sides.

    They go to training: what remains of the test split is then a part of the official one, so that figures on it can
    be compared, and no training case was made a test case by us. A patient of whom neither the tables nor a name says
    a side is no test patient if every table is there; if one is missing, nobody can know, and the patient has no split.
    """
    sides = cases.official_splits()
    names = [file.name for file in named if file.name is not None]
    for name in names:
        if name.split is not None:
            sides.setdefault(name.film.patient, set()).add(name.split)
    splits = {patient: "train" if "train" in found else "test" for patient, found in sides.items()}
    if not cases.missing:
        for name in names:
            splits.setdefault(name.film.patient, "unlabelled")
    return splits, frozenset(patient for patient, found in sides.items() if len(found) > 1)
