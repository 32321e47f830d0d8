"""Exams: the views of a dict, which of several images of one view counts, and the scores of breasts and exam."""

from __future__ import annotations

import re
from collections.abc import Hashable, Iterable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from ..dicom import Laterality, View
from ..dicom.parsing import text
from ..dicom.types import ImageKind, PresentationIntent
from ..errors import DataError, UsageError
from ..metrics.aggregation import RULES, aggregate
from ..notes import Note

_NAME = re.compile(r"(left|right|l|r)[\s_-]*([a-z]+)", re.IGNORECASE)


class ExamView(NamedTuple):
    """One image of an exam.

    Attributes:
        key: The name under which it was given, such as "LCC".
        image: The image, in any form that the processor takes.
        laterality: The breast that the key names.
        view: The projection that the key names.
        note: The note of an image that does not count, because another one of its view does; ``None`` if it counts.
    """

    key: str
    image: Any
    laterality: Laterality
    view: View
    note: Note | None = None


def views_of(exam: Mapping[Any, Any]) -> list[ExamView]:
    """Return the images of an exam.

    Args:
        exam: Images by names such as "LCC", "L-MLO" or "right_cc"; several images of one view as a list.

    Raises:
        UsageError: A name that is not a view of a breast, two names of the same view, or a name without an image.
    """
    found: dict[tuple[Laterality, View], list[ExamView]] = {}
    for key, image in exam.items():
        match = _NAME.fullmatch(str(key).strip())
        view = View.from_dicom(match[2]) if match else View.UNKNOWN
        if match is None or view is View.UNKNOWN:
            raise UsageError(
                f"{str(key)!r} is not a view of a breast",
                source="exam",
                remedy="name views as LCC, LMLO, RCC, RMLO, and leave other fields out",
            )
        images = image if isinstance(image, (list, tuple)) else [image]
        if not images:
            raise UsageError(f"{key!r} holds no image", source="exam", remedy="leave it out")
        laterality = Laterality.LEFT if match[1][0] in "lL" else Laterality.RIGHT
        same = found.setdefault((laterality, view), [ExamView(str(key), one, laterality, view) for one in images])
        if same[0].key != str(key):
            raise UsageError(
                f"{same[0].key!r} and {str(key)!r} are the same view", source="exam", remedy="put them into one list"
            )
    if not found:
        raise UsageError("holds no view", source="exam", remedy="give at least one, as {'LCC': path}")
    return [one for views in found.values() for one in views]


# Which of several images of one view counts: For Processing next to For Presentation, a repeated exposure, a spot view,
# a synthetic image next to the one that it imitates.

# modifiers of the view, kind, intent, minus the time of acquisition, SOP Instance UID: the smallest counts
Precedence = tuple[int, int, int, int, str]
NO_HEADER: Precedence = (0, 0, 1, 0, "")
_REASONS = (
    *("it is the standard view", "it is not made from a tomosynthesis", "it is For Presentation"),
    *("it was acquired later", "its SOP Instance UID or place in the list is the first"),
)
_KINDS = (ImageKind.SYNTHETIC, ImageKind.TOMOSYNTHESIS, ImageKind.TOMOSYNTHESIS_PROJECTION)
_INTENTS = (PresentationIntent.FOR_PRESENTATION, PresentationIntent.UNKNOWN, PresentationIntent.FOR_PROCESSING)
_TIMES = (("AcquisitionDateTime",), ("AcquisitionDate", "AcquisitionTime"), ("ContentDate", "ContentTime"))


def precedence(mammogram: Any) -> Precedence:
    """Return the rank of an image among those of its view; the smallest counts for breast and exam.

    A view without modifiers, such as spot compression, comes first; then a film or digital image before a synthetic one
    and a volume; then For Presentation before For Processing; then the later acquisition; then the smaller SOP Instance
    UID.

    Args:
        mammogram: The image as it was read; ``None`` for a picture without a header.
    """
    if mammogram is None:
        return NO_HEADER
    header, dataset = mammogram.header, mammogram.dataset
    kind = _KINDS.index(header.kind) + 1 if header.kind in _KINDS else 0
    uid = text(dataset, "SOPInstanceUID")
    return int(bool(header.modifiers)), kind, _INTENTS.index(header.intent), -_acquired(dataset), uid


def _acquired(dataset: Any) -> int:
    """Return the date and time of acquisition as one number, microseconds last; 0 if it is not known."""
    for names in _TIMES:
        found = re.match(r"(\d{8})(\d{2,6})?(?:\.(\d{1,6}))?", "".join(text(dataset, name) for name in names))
        if found is not None:
            return int(found[1] + (found[2] or "").ljust(6, "0") + (found[3] or "").ljust(6, "0"))
    return 0


def not_counting(images: Iterable[tuple[int, Hashable, Precedence]]) -> dict[int, Note]:
    """Return the images that do not count for breast and exam, with the note that says why another one does.

    Args:
        images: The index of each image, its exam, side and view, and its rank from `precedence`; of equal ranks the
            first counts.
    """
    first: dict[Hashable, tuple[Precedence, int]] = {}
    others: dict[int, tuple[Hashable, Precedence]] = {}
    for index, key, rank in images:
        best = first.setdefault(key, (rank, index))
        if rank < best[0]:
            others[best[1]] = key, best[0]
            first[key] = rank, index
        elif best[1] != index:
            others[index] = key, rank
    differing = {
        index: next((at for at, (a, b) in enumerate(zip(rank, first[key][0], strict=True)) if a != b), -1)
        for index, (key, rank) in others.items()
    }
    return {index: Note("another_image_counts", reason=_REASONS[at]) for index, at in sorted(differing.items())}


def check_header(named: ExamView, mammogram: Any) -> None:
    """Refuse an image if its header names another view than its key.

    Args:
        named: The view.
        mammogram: The image as it was read; ``None`` for a picture without a header.

    Raises:
        DataError: Header and key contradict each other.
    """
    if mammogram is None:
        return
    header = mammogram.header
    named_by = {"laterality": (header.laterality, named.laterality), "view": (header.view, named.view)}
    for what, (of_header, of_key) in named_by.items():
        if of_header.value not in ("", Laterality.BOTH.value) and of_header is not of_key:
            raise DataError(
                f"its header says {what} {of_header.value}, the exam {of_key.value}",
                source=named.key,
                remedy="check which of the two is right",
            )


def into_exam(
    lateralities: Sequence[Laterality], scores: Mapping[str, np.ndarray], rule: str
) -> dict[str, dict[str, np.ndarray]]:
    """Return the scores of breasts and of the whole exam from those of its views.

    Args:
        lateralities: The breast of each view.
        scores: Probabilities (views, labels) by the task's name.
        rule: One of "mean", "max" and "noisy_or", as in `mammo_hf.metrics.aggregation.aggregate`.

    Returns:
        For "left", "right" (if there is an image of it) and "exam", probabilities (labels,) by the task's name.

    Raises:
        UsageError: An unknown rule.
    """
    if rule not in RULES:
        raise UsageError(f"is {rule!r}", source="aggregate", remedy=f"use one of {', '.join(RULES)}")
    sides = np.array([one.name.lower() for one in lateralities])
    units = {side: sides == side for side in sorted(set(sides.tolist()))} | {"exam": np.ones(len(sides), bool)}
    return {
        unit: {
            task: aggregate(rule, table[chosen], np.zeros(int(chosen.sum()), np.int64), 1)[0]
            for task, table in scores.items()
        }
        for unit, chosen in units.items()
    }
