"""One patient's exam: two breasts in two views each, with a finding in one breast, seen in both of its views."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from ..errors import UsageError
from .anatomy import Habitus, Outline, draw_habitus, draw_outline, other_side
from .film import digitise, expose
from .lesions import PATHOLOGIES, FindingDraft, draft_finding, draw_finding
from .parenchyma import DENSITIES, Pattern, draw_pattern, draw_tissue

# Who the phantom's patients are: matched pairs, so that nothing but the lesion's shape tells the pathology.


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


LATERALITIES = ("LEFT", "RIGHT")
VIEWS = ("CC", "MLO")
SMALLEST = (96, 48)
_TRIES, _CHOICES = 600, 4
_MASKING = 0.55  # solid glandular tissue takes this share of a finding's contrast: the finding is in its place


@dataclass(frozen=True)
class PhantomFinding:
    """One finding, visible in both views of its breast.

    Attributes:
        kind: "mass" or "calcification".
        pathology: "benign" or "malignant".
        laterality: "LEFT" or "RIGHT".
        diameter: In pixels: of the disc with the mass's area, or of the cluster.
        contrast: Brightest added value as a share of the full range, before dense tissue takes its part.
        distance: Pixels from the nipple, the same in both views up to rounding.
        centers: (row, column) in each view, continuous pixel coordinates.
    """

    kind: str
    pathology: str
    laterality: str
    diameter: float
    contrast: float
    distance: float
    centers: dict[str, tuple[float, float]]


@dataclass(frozen=True)
class PhantomExam:
    """Four views of one patient; keys are (laterality, view), such as ("LEFT", "MLO").

    Attributes:
        patient_index: From 0.
        density: "a" to "d".
        images: uint16 (height, width), MONOCHROME2, as hung: the chest wall of a left breast is column 0.
        masks: bool (height, width), the finding's outline, for the affected breast's views only.
        nipples: (row, column) of every image's nipple, continuous pixel coordinates.
        findings: What is to be found, one a patient.
        subtlety: 1 (subtle) to 5 (obvious).
    """

    patient_index: int
    density: str
    images: dict[tuple[str, str], np.ndarray]
    masks: dict[tuple[str, str], np.ndarray]
    nipples: dict[tuple[str, str], tuple[float, float]]
    findings: tuple[PhantomFinding, ...]
    subtlety: int


def draw_exam(
    patient_index: int,
    *,
    seed: int = 0,
    size: tuple[int, int] = (1024, 512),
    mass_share: float = 0.65,
    lesion_scale: float = 1.0,
    lesion_contrast: float = 1.0,
    lesion_halo: float = 0.0,
    pathology: str | None = None,
) -> PhantomExam:
    """Draw one patient, the same for the same arguments whatever else is drawn.

    Args:
        patient_index: From 0; patients 2k and 2k + 1 are a matched pair, one benign and one malignant.
        seed: The phantom's seed, 0 or more.
        size: (height, width) of every image, at least 96 x 48.
        mass_share: Share of masses among the findings; the others are calcifications.
        lesion_scale: Enlarges the findings; at 1 a mass is 4 to 6 % of the image's height across.
        lesion_contrast: Strengthens the findings.
        lesion_halo: Darkens the fat around the findings, over their own contrast: sets them off without brightening.
        pathology: "benign" or "malignant" draws this patient with the other shape in the very same place of the very
            same pictures: the counterfactual. ``None`` is the patient's own.

    Raises:
        UsageError: An argument is out of its range.
    """
    check_size(size)
    if pathology not in (None, *PATHOLOGIES):
        raise UsageError(f"must be one of {', '.join(PATHOLOGIES)}, not {pathology!r}", source="pathology")
    case = draw_case(
        patient_index,
        seed=seed,
        mass_share=mass_share,
        lesion_scale=lesion_scale,
        lesion_contrast=lesion_contrast,
        lesion_halo=lesion_halo,
    )
    return paint_exam(case, seed=seed, size=size, pathology=pathology or case.pathology)


def check_size(size: tuple[int, int]) -> None:
    """Raise ``UsageError`` for a picture too small to hold a breast."""
    if len(size) != 2 or size[0] < SMALLEST[0] or size[1] < SMALLEST[1]:
        raise UsageError(
            f"{' x '.join(map(str, size))} is too small",
            source="size",
            remedy=f"give a (height, width) of at least {SMALLEST[0]} x {SMALLEST[1]}",
        )


def paint_exam(case: Case, *, seed: int, size: tuple[int, int], pathology: str) -> PhantomExam:
    """Paint a patient whose facts are known; arguments as for ``draw_exam``."""
    index, width = case.patient_index, size[1] / size[0]
    rng = stream(seed, PATIENT, index, 1)
    habitus, pattern = draw_habitus(rng, width), draw_pattern(rng, case.density)
    images, masks, nipples, centers = {}, {}, {}, {}
    for side, laterality in enumerate(LATERALITIES):
        breast = habitus if side == 0 else other_side(habitus, stream(seed, BREAST, index))
        rngs = [stream(seed, FILM, index, side, number) for number in range(len(VIEWS))]
        films = [_expose_view(breast, pattern, view, rng, size) for view, rng in zip(VIEWS, rngs, strict=True)]
        if laterality == case.laterality:
            places = _places(case.draft, films, stream(seed, PLACE, index))
            for number, (view, film, place) in enumerate(zip(VIEWS, films, places, strict=True)):
                shape = draw_finding(case.draft, pathology, stream(seed, LESION, index, number), size[0])
                mask, center = _add_finding(film, shape, place, case.draft.diameter)
                masks[laterality, view] = np.ascontiguousarray(mask[:, ::-1]) if laterality == "RIGHT" else mask
                centers[view] = _as_hung(center, laterality, size)
        for view, film, rng in zip(VIEWS, films, rngs, strict=True):
            nipples[laterality, view] = _as_hung(np.array(film.outline.nipple) * size[0], laterality, size)
            images[laterality, view] = digitise(film.image, laterality, view, rng)
    away = np.subtract(centers[VIEWS[0]], nipples[case.laterality, VIEWS[0]])
    finding = PhantomFinding(
        kind=case.draft.kind,
        pathology=pathology,
        laterality=case.laterality,
        diameter=case.draft.diameter * size[0],
        contrast=case.draft.contrast,
        distance=float(np.hypot(*away)),
        centers=centers,
    )
    return PhantomExam(index, case.density, images, masks, nipples, (finding,), case.subtlety)


@dataclass(frozen=True)
class _Film:
    """A view before noise: the density, the share of glandular tissue on a coarse grid, and the outline."""

    image: np.ndarray
    gland: np.ndarray
    outline: Outline

    def gland_near(self, point: np.ndarray, radius: float) -> float:
        """Mean share of glandular tissue in a square around a point, all in image heights."""
        height, width = self.gland.shape
        row, column = point
        top, bottom = (int(np.clip(row + side * radius, 0, 1) * height) for side in (-1, 1))
        left, right = (int(np.clip((column + side * radius) * height, 0, width - 1)) for side in (-1, 1))
        return float(self.gland[min(top, height - 1) : bottom + 1, left : right + 1].mean())


def _expose_view(
    breast: Habitus, pattern: Pattern, view: str, rng: np.random.Generator, size: tuple[int, int]
) -> _Film:
    outline = draw_outline(breast, view, size[1] / size[0], rng)
    tissue, gland = draw_tissue(outline, pattern, rng, size)
    return _Film(expose(outline, breast, tissue, rng), gland, outline)


def _as_hung(point: np.ndarray, laterality: str, size: tuple[int, int]) -> tuple[float, float]:
    row, column = float(point[0]), float(point[1])
    return (row, size[1] - column) if laterality == "RIGHT" else (row, column)


def _places(draft: FindingDraft, films: list[_Film], rng: np.random.Generator) -> list[np.ndarray]:
    """A place for the finding in each view, equally far from the nipple, clear of skin, muscle and the film's edge.

    Of a few clear places the one with the least glandular tissue is taken: what lies wholly behind dense tissue is not
    reported. Where no place is clear (a large finding in a small breast), it is the one that is nearest to clear.
    """
    distance = rng.uniform(0.25, 0.95, _TRIES) * min(film.outline.nipple[1] for film in films)
    clear, points = np.full(_TRIES, np.inf), []
    for film in films:
        angle = rng.uniform(-1.15, 1.15, _TRIES)
        nipple = film.outline.nipple
        points.append(np.stack([nipple[0] + distance * np.sin(angle), nipple[1] - distance * np.cos(angle)], axis=-1))
        clear = np.minimum(clear, film.outline.clearance(points[-1][:, 0], points[-1][:, 1]))
    enough = np.flatnonzero(clear > draft.reach + 0.008)[:_CHOICES]
    if not enough.size:
        enough = np.array([clear.argmax()])

    def hidden(one: int) -> float:
        return sum(film.gland_near(way[one], 0.5 * draft.diameter) for film, way in zip(films, points, strict=True))

    chosen = min(enough.tolist(), key=hidden)
    return [places[chosen] for places in points]


def _add_finding(
    film: _Film, shape: tuple[np.ndarray, np.ndarray], place: np.ndarray, diameter: float
) -> tuple[np.ndarray, np.ndarray]:
    """Add a finding to the film in place; returns its mask (height, width) and its centre in pixels."""
    height, width = film.image.shape
    added, outline = shape
    half = added.shape[0] // 2
    row = int(np.clip(place[0] * height, 0, height - 1))
    column = int(np.clip(place[1] * height, 0, width - 1))
    top, left = max(0, row - half), max(0, column - half)
    bottom, right = min(height, row + half + 1), min(width, column + half + 1)
    inside = np.s_[top - row + half : bottom - row + half, left - column + half : right - column + half]
    dense = film.gland_near(place, 0.5 * diameter)
    film.image[top:bottom, left:right] += added[inside] * np.float32(1.0 - _MASKING * dense)
    mask = np.zeros(film.image.shape, bool)
    mask[top:bottom, left:right] = outline[inside]
    return mask, np.array([row + 0.5, column + 0.5])
