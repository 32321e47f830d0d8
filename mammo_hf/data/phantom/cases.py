"""Who the phantom's patients are: matched pairs, so that nothing but the lesion's shape tells the pathology."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from ...errors import UsageError
from .lesions import PATHOLOGIES, FindingDraft, draft_finding
from .parenchyma import DENSITIES

_DENSITY_SHARES = (0.15, 0.35, 0.32, 0.18)  # near CBIS-DDSM's own classes 1 to 4
# the first number of every stream's key; the patient's (or pair's) index comes second
PAIR, PATIENT, BREAST, FILM, LESION, PLACE, IDENTITY, SPLIT = range(8)


def stream(seed: int, *key: int) -> np.random.Generator:
    """The random numbers for one purpose, independent of every other and of the order of drawing."""
    return np.random.default_rng(np.random.SeedSequence(seed, spawn_key=key))


@dataclass(frozen=True)
class Case:
    """One patient's facts, known before anything is painted.

    Attributes:
        patient_index: From 0.
        density: "a" to "d", the same for both of a pair.
        laterality: The affected breast, "LEFT" or "RIGHT".
        pathology: "benign" or "malignant"; one of each in a pair.
        draft: The finding's kind, size and contrast, the same for both of a pair.
        subtlety: 1 (subtle) to 5 (obvious).
    """

    patient_index: int
    density: str
    laterality: str
    pathology: str
    draft: FindingDraft
    subtlety: int


def draw_case(
    patient_index: int,
    *,
    seed: int = 0,
    mass_share: float = 0.65,
    lesion_scale: float = 1.0,
    lesion_contrast: float = 1.0,
    lesion_halo: float = 0.0,
) -> Case:
    """Draw one patient's facts.

    Patients 2k and 2k + 1 are a pair with equal density, kind of finding, size and contrast; a coin decides which of
    the two is malignant.

    Args:
        patient_index: From 0.
        seed: The phantom's seed.
        mass_share: Share of masses among the findings, in [0, 1]; the others are calcifications.
        lesion_scale: Enlarges the findings.
        lesion_contrast: Strengthens the findings.
        lesion_halo: Darkens the fat around them, over their own contrast.

    Raises:
        UsageError: An argument is out of its range.
    """
    for name, value in {"patient_index": patient_index, "seed": seed}.items():
        if value < 0:
            raise UsageError(f"must be 0 or more, not {value}", source=name)
    if not 0.0 <= mass_share <= 1.0:
        raise UsageError(f"must lie between 0 and 1, not {mass_share}", source="mass_share")
    for name, factor in {"lesion_scale": lesion_scale, "lesion_contrast": lesion_contrast}.items():
        if not 0.0 < factor <= 10.0:
            raise UsageError(f"must lie above 0 and at most at 10, not {factor}", source=name)
    if not 0.0 <= lesion_halo <= 2.0:
        raise UsageError(f"must lie between 0 and 2, not {lesion_halo}", source="lesion_halo")
    number, member = divmod(patient_index, 2)
    pair = stream(seed, PAIR, number)
    density = str(pair.choice(DENSITIES, p=_DENSITY_SHARES))
    malignant = bool(pair.integers(2)) == bool(member)
    kind = "mass" if evenly(number + 1, mass_share)[-1] else "calcification"
    draft = draft_finding(pair, kind, scale=lesion_scale, contrast=lesion_contrast, halo=lesion_halo)
    return Case(
        patient_index=patient_index,
        density=density,
        laterality=str(stream(seed, PATIENT, patient_index).choice(["LEFT", "RIGHT"])),
        pathology=PATHOLOGIES[malignant],
        draft=draft,
        subtlety=int(np.clip(6 - DENSITIES.index(density) + pair.integers(-1, 2), 1, 5)),
    )


def evenly(count: int, share: float) -> np.ndarray:
    """Bool (count,): ``share`` of the places, spread as evenly as they can be."""
    places = np.floor(np.arange(count + 1) * share + 0.5)
    return np.diff(places) > 0


def official_test_patients(cases: list[Case], share: float, *, seed: int) -> set[int]:
    """Indices of the patients of the official test split: ``share`` of them, within every kind and pathology alike."""
    order = stream(seed, SPLIT).permutation(len(cases))
    ranked = sorted(zip(cases, order, strict=True), key=lambda one: (one[0].draft.kind, one[0].pathology, one[1]))
    return {case.patient_index for (case, _), chosen in zip(ranked, evenly(len(cases), share), strict=True) if chosen}
