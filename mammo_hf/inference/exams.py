"""An exam as a dict of views: which breast each is of, and what its views make of a breast and of the exam."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np

from ..dicom import Laterality, View
from ..errors import DataError, UsageError
from ..metrics.aggregation import RULES, aggregate

_NAME = re.compile(r"(left|right|l|r)[\s_-]*([a-z]+)", re.IGNORECASE)


class NamedView(NamedTuple):
    """One image of an exam, and what its key says of it."""

    key: str
    image: Any
    laterality: Laterality
    view: View


def views_of(exam: Mapping[Any, Any]) -> list[NamedView]:
    """The images of an exam.

    Args:
        exam: From names such as "LCC", "L-MLO" or "right_cc" to images.

    Raises:
        UsageError: A name that is no view of a breast, two of the same view, or several images under a name.
    """
    found: dict[tuple[Laterality, View], NamedView] = {}
    for key, image in exam.items():
        match = _NAME.fullmatch(str(key).strip())
        view = View.from_dicom(match[2]) if match else View.UNKNOWN
        if match is None or view is View.UNKNOWN:
            raise UsageError(
                f"{str(key)!r} is no view of a breast",
                source="exam",
                remedy="name views as LCC, LMLO, RCC, RMLO; fields of another meaning do not belong here",
            )
        if isinstance(image, (list, tuple)):
            raise UsageError(
                f"{key!r} holds {len(image)} images", source="exam", remedy="give the one image of this view"
            )
        laterality = Laterality.LEFT if match[1][0] in "lL" else Laterality.RIGHT
        other = found.setdefault((laterality, view), NamedView(str(key), image, laterality, view))
        if other.key != str(key):
            raise UsageError(
                f"{other.key!r} and {str(key)!r} are the same view", source="exam", remedy="give one image of each view"
            )
    if not found:
        raise UsageError("holds no view", source="exam", remedy="give at least one, as {'LCC': path}")
    return list(found.values())


def check_header(named: NamedView, mammogram: Any) -> None:
    """Refuses an image whose own header says that it is of another view than its key does.

    Raises:
        DataError: It does.
    """
    if mammogram is None:
        return
    header = mammogram.header
    said = {"laterality": (header.laterality, named.laterality), "view": (header.view, named.view)}
    for what, (of_header, of_key) in said.items():
        if of_header.value not in ("", Laterality.BOTH.value) and of_header is not of_key:
            raise DataError(
                f"its header says {what} {of_header.value}, the exam {of_key.value}",
                source=named.key,
                remedy="look which of the two is right",
            )


def into_exam(views: list[NamedView], scores: dict[str, np.ndarray], rule: str) -> dict[str, dict[str, np.ndarray]]:
    """The scores of breasts and of the whole exam.

    Args:
        views: The images.
        scores: For each task's name (views, labels) probabilities.
        rule: "mean", "max" or "noisy_or", as in `mammo_hf.evaluation.scored.into_units`.

    Returns:
        For "left", "right" (where there is an image of it) and "exam" for each task's name (labels,) probabilities.

    Raises:
        UsageError: An unknown rule.
    """
    if rule not in RULES:
        raise UsageError(f"is {rule!r}", source="aggregate", remedy=f"use one of {', '.join(RULES)}")
    sides = [view.laterality.name.lower() for view in views]
    units = {side: np.array([one == side for one in sides]) for side in sorted(set(sides))}
    units["exam"] = np.ones(len(views), bool)
    return {
        unit: {
            task: aggregate(rule, table[chosen], np.zeros(int(chosen.sum()), np.int64), 1)[0]
            for task, table in scores.items()
        }
        for unit, chosen in units.items()
    }
