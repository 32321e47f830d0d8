"""Phantom exams: matched pairs of patients, each with one lesion that both views of its breast show."""

from __future__ import annotations

from dataclasses import dataclass, field, replace

import numpy as np

from ..errors import UsageError
from .anatomy import Outline, draw_habitus, draw_outline, other_side
from .film import digitise, expose
from .lesions import PATHOLOGIES, Lesion, draw_lesion, project_lesion
from .parenchyma import DENSITIES, draw_pattern, draw_tissue

LATERALITIES = ("LEFT", "RIGHT")
VIEWS = ("CC", "MLO")
SMALLEST = (96, 48)
_DENSITY_FRACTIONS = (0.15, 0.35, 0.32, 0.18)  # near CBIS-DDSM's own classes 1 to 4
# the first number of every stream's key; the patient's (or pair's) index is the second
PAIR, PATIENT, BREAST, FILM, LESION, POSITION, IDENTITY, SPLIT = range(8)
_TRIES, _CHOICES = 600, 4
_MASKING = 0.55  # solid glandular tissue hides this fraction of a lesion's contrast: the lesion replaces the tissue

# a view before noise: its density, the fraction of glandular tissue on a coarse grid, and the outline
_Film = tuple[np.ndarray, np.ndarray, Outline]


@dataclass(frozen=True)
class Case:
    """Facts of one patient, known before anything is painted.

    Attributes:
        patient_index: Number of the patient, from 0.
        density: Density class, "a" to "d", the same for both patients of a pair.
        laterality: Side of the affected breast, "LEFT" or "RIGHT".
        pathology: Either "benign" or "malignant"; one of each in a pair.
        lesion: Kind, size and contrast of the lesion, the same for both patients of a pair.
        subtlety: Rating from 1 (subtle) to 5 (obvious).
    """

    patient_index: int
    density: str
    laterality: str
    pathology: str
    lesion: Lesion
    subtlety: int


@dataclass(frozen=True)
class PhantomExam:
    """Four views of one patient; keys are (laterality, view), such as ("LEFT", "MLO").

    Attributes:
        case: Facts of the patient.
        images: Pixels, uint16 (height, width), MONOCHROME2, as hung: the chest wall of a left breast is column 0.
        masks: Outline of the lesion, bool (height, width), for the affected breast's views only.
        nipples: Position of every image's nipple, (row, column) in continuous pixel coordinates.
        centers: Position of the lesion's centre, likewise, for the affected breast's views only.
    """

    case: Case
    images: dict[tuple[str, str], np.ndarray] = field(default_factory=dict)
    masks: dict[tuple[str, str], np.ndarray] = field(default_factory=dict)
    nipples: dict[tuple[str, str], tuple[float, float]] = field(default_factory=dict)
    centers: dict[tuple[str, str], tuple[float, float]] = field(default_factory=dict)


def draw_exam(
    patient_index: int,
    *,
    seed: int = 0,
    size: tuple[int, int] = (1024, 512),
    pathology: str | None = None,
    **lesions: float,
) -> PhantomExam:
    """Draw one patient, the same for the same arguments whatever else is drawn.

    Args:
        patient_index: Number of the patient, from 0; patients 2k and 2k + 1 are a matched pair, one benign and one
            malignant.
        seed: Seed of the phantom, 0 or more.
        size: Size of every image, (height, width), at least 96 x 48.
        pathology: Shape to draw in the same position of the same pictures, "benign" or "malignant": the counterfactual.
            By default the patient's own.
        lesions: Keywords of `draw_case` on the lesions: ``mass_fraction``, ``lesion_scale``, ``lesion_contrast`` and
            ``lesion_halo``.

    Raises:
        UsageError: An argument is out of its range.
    """
    check_size(size)
    if pathology not in (None, *PATHOLOGIES):
        raise UsageError(f"must be one of {', '.join(PATHOLOGIES)}, not {pathology!r}", source="pathology")
    case = draw_case(patient_index, seed=seed, **lesions)
    return paint_exam(replace(case, pathology=pathology or case.pathology), seed=seed, size=size)


def check_size(size: tuple[int, int]) -> None:
    """Raise ``UsageError`` for a picture that is too small to hold a breast."""
    if len(size) != 2 or size[0] < SMALLEST[0] or size[1] < SMALLEST[1]:
        raise UsageError(
            f"{' x '.join(map(str, size))} is too small",
            source="size",
            remedy=f"give a (height, width) of at least {SMALLEST[0]} x {SMALLEST[1]}",
        )


# The patients: matched pairs, so that the lesion's shape alone shows the pathology.


def stream(seed: int, *key: int) -> np.random.Generator:
    """Return the random numbers for one purpose, independent of every other and of the order of drawing."""
    return np.random.default_rng(np.random.SeedSequence(seed, spawn_key=key))


def draw_case(
    patient_index: int,
    *,
    seed: int = 0,
    mass_fraction: float = 0.65,
    lesion_scale: float = 1.0,
    lesion_contrast: float = 1.0,
    lesion_halo: float = 0.0,
) -> Case:
    """Draw one patient's facts.

    Patients 2k and 2k + 1 are a pair with equal density, kind of lesion, size and contrast; a coin decides which of
    the two is malignant.

    Args:
        patient_index: Number of the patient, from 0.
        seed: Seed of the phantom.
        mass_fraction: Fraction of masses among the lesions, in [0, 1]; the others are calcifications.
        lesion_scale: Factor of the lesions' size; at 1 a mass is 4 to 6 % of the image's height across.
        lesion_contrast: Factor of the lesions' contrast.
        lesion_halo: Darkness of the fat around the lesions, over their contrast: sets them off without brightening.

    Raises:
        UsageError: An argument is out of its range.
    """
    for name, value in {"patient_index": patient_index, "seed": seed}.items():
        if value < 0:
            raise UsageError(f"must be 0 or more, not {value}", source=name)
    for name, fraction, most in (("mass_fraction", mass_fraction, 1), ("lesion_halo", lesion_halo, 2)):
        if not 0.0 <= fraction <= most:
            raise UsageError(f"must be between 0 and {most}, not {fraction}", source=name)
    for name, factor in {"lesion_scale": lesion_scale, "lesion_contrast": lesion_contrast}.items():
        if not 0.0 < factor <= 10.0:
            raise UsageError(f"must be above 0 and at most 10, not {factor}", source=name)
    number, member = divmod(patient_index, 2)
    pair = stream(seed, PAIR, number)
    density = str(pair.choice(DENSITIES, p=_DENSITY_FRACTIONS))
    malignant = bool(pair.integers(2)) == bool(member)
    kind = "mass" if evenly(number + 1, mass_fraction)[-1] else "calcification"
    return Case(
        patient_index=patient_index,
        density=density,
        laterality=str(stream(seed, PATIENT, patient_index).choice(["LEFT", "RIGHT"])),
        pathology=PATHOLOGIES[malignant],
        lesion=draw_lesion(pair, kind, scale=lesion_scale, contrast=lesion_contrast, halo=lesion_halo),
        subtlety=int(np.clip(6 - DENSITIES.index(density) + pair.integers(-1, 2), 1, 5)),
    )


def evenly(count: int, fraction: float) -> np.ndarray:
    """Choose ``fraction`` of ``count`` positions, spread as evenly as possible: bool (count,)."""
    positions = np.floor(np.arange(count + 1) * fraction + 0.5)
    return np.diff(positions) > 0


def official_test_patients(cases: list[Case], fraction: float, *, seed: int) -> set[int]:
    """Choose the patients of the official test split: ``fraction`` of them, equally within every kind and pathology."""
    order = stream(seed, SPLIT).permutation(len(cases))
    ranked = sorted(zip(cases, order, strict=True), key=lambda one: (one[0].lesion.kind, one[0].pathology, one[1]))
    chosen = evenly(len(cases), fraction)
    return {case.patient_index for (case, _), is_chosen in zip(ranked, chosen, strict=True) if is_chosen}


# The pictures of a patient.


def paint_exam(case: Case, *, seed: int, size: tuple[int, int]) -> PhantomExam:
    """Paint a patient.

    Args:
        case: Facts of the patient.
        seed: Seed of the phantom.
        size: Size of every image, (height, width).
    """
    exam, index, width = PhantomExam(case), case.patient_index, size[1] / size[0]
    rng = stream(seed, PATIENT, index, 1)
    left, pattern = draw_habitus(rng, width), draw_pattern(rng, case.density)
    for side, laterality in enumerate(LATERALITIES):
        habitus = left if side == 0 else other_side(left, stream(seed, BREAST, index))
        rngs = [stream(seed, FILM, index, side, number) for number in range(len(VIEWS))]
        films = []
        for view, rng in zip(VIEWS, rngs, strict=True):
            outline = draw_outline(habitus, view, width, rng)
            tissue, gland = draw_tissue(outline, pattern, rng, size)
            films.append((expose(outline, habitus, tissue, rng), gland, outline))
        if laterality == case.laterality:
            _add_lesion(exam, films, seed)
        for view, (image, _, outline), rng in zip(VIEWS, films, rngs, strict=True):
            exam.nipples[laterality, view] = _as_hung(np.array(outline.nipple) * size[0], laterality, size)
            exam.images[laterality, view] = digitise(image, laterality, view, rng)
    return exam


def _as_hung(point: np.ndarray, laterality: str, size: tuple[int, int]) -> tuple[float, float]:
    row, column = float(point[0]), float(point[1])
    return (row, size[1] - column) if laterality == "RIGHT" else (row, column)


def _add_lesion(exam: PhantomExam, films: list[_Film], seed: int) -> None:
    """Add the lesion to the films of the affected breast, in place, and its masks and centres to the exam."""
    case = exam.case
    positions = _positions(case.lesion, films, stream(seed, POSITION, case.patient_index))
    for number, (view, film, position) in enumerate(zip(VIEWS, films, positions, strict=True)):
        size = film[0].shape
        rng = stream(seed, LESION, case.patient_index, number)
        shape = project_lesion(case.lesion, case.pathology, rng, size[0])
        mask, center = _add_shape(film, shape, position, case.lesion.diameter)
        exam.masks[case.laterality, view] = np.ascontiguousarray(mask[:, ::-1]) if case.laterality == "RIGHT" else mask
        exam.centers[case.laterality, view] = _as_hung(center, case.laterality, (size[0], size[1]))


def _positions(lesion: Lesion, films: list[_Film], rng: np.random.Generator) -> list[np.ndarray]:
    """Choose a position in each view, equally far from the nipple, clear of skin, muscle and the film's edge.

    Of a few clear positions the one with the least glandular tissue is taken: a lesion wholly behind dense tissue would
    not be reported. If no position is clear (a large lesion in a small breast), it is the one that is nearest to clear.
    """
    distance = rng.uniform(0.25, 0.95, _TRIES) * min(outline.nipple[1] for _, _, outline in films)
    clear, points = np.full(_TRIES, np.inf), []
    for _, _, outline in films:
        angle, nipple = rng.uniform(-1.15, 1.15, _TRIES), outline.nipple
        points.append(np.stack([nipple[0] + distance * np.sin(angle), nipple[1] - distance * np.cos(angle)], axis=-1))
        clear = np.minimum(clear, outline.clearance(points[-1][:, 0], points[-1][:, 1]))
    enough = np.flatnonzero(clear > lesion.reach + 0.008)[:_CHOICES]
    if not enough.size:
        enough = np.array([clear.argmax()])

    def hidden(one: int) -> float:
        return sum(
            _gland_near(gland, tried[one], 0.5 * lesion.diameter)
            for (_, gland, _), tried in zip(films, points, strict=True)
        )

    chosen = min(enough.tolist(), key=hidden)
    return [tried[chosen] for tried in points]


def _gland_near(gland: np.ndarray, point: np.ndarray, radius: float) -> float:
    """Return the mean fraction of glandular tissue in a square around a point."""
    height, width = gland.shape
    row, column = point
    top, bottom = (int(np.clip(row + side * radius, 0, 1) * height) for side in (-1, 1))
    left, right = (int(np.clip((column + side * radius) * height, 0, width - 1)) for side in (-1, 1))
    return float(gland[min(top, height - 1) : bottom + 1, left : right + 1].mean())


def _add_shape(
    film: _Film, shape: tuple[np.ndarray, np.ndarray], position: np.ndarray, diameter: float
) -> tuple[np.ndarray, np.ndarray]:
    """Add a lesion's shape to the film in place; return its mask (height, width) and its centre in pixels."""
    (image, gland, _), (added, outline) = film, shape
    height, width = image.shape
    half = added.shape[0] // 2
    row = int(np.clip(position[0] * height, 0, height - 1))
    column = int(np.clip(position[1] * height, 0, width - 1))
    top, left = max(0, row - half), max(0, column - half)
    bottom, right = min(height, row + half + 1), min(width, column + half + 1)
    inside = np.s_[top - row + half : bottom - row + half, left - column + half : right - column + half]
    dense = _gland_near(gland, position, 0.5 * diameter)
    image[top:bottom, left:right] += added[inside] * np.float32(1.0 - _MASKING * dense)
    mask = np.zeros(image.shape, bool)
    mask[top:bottom, left:right] = outline[inside]
    return mask, np.array([row + 0.5, column + 0.5])
