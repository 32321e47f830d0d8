"""Exams: the views of a dict, and the scores of breasts and exam."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from ..dicom import Laterality, View
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


STANDARD = tuple((side, view) for side in ("L", "R") for view in ("CC", "MLO"))


def missing_views(views: Iterable[tuple[str, str]]) -> list[Note]:
    """Return a note on the standard views that an exam lacks; none if it has all four, or a side is not known.

    Args:
        views: Side and view of each image, such as ("L", "CC").
    """
    there = set(views)
    lacking = ", ".join(" ".join(one) for one in STANDARD if one not in there)
    return [Note("views_missing", views=lacking)] if lacking and all(side in ("L", "R") for side, _ in there) else []


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
