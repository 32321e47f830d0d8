"""``cancer_within_years``: in which year after the examination cancer was found, from a table's years or its dates.

An image without cancer is ``none`` only where the patient is known to be without it for five years. Where the tables
end earlier the image is censored: its label is not known. So is one that was taken after a cancer had been found.
"""

from __future__ import annotations

import datetime
import math
from collections.abc import Mapping as Mapped
from collections.abc import Sequence
from typing import NamedTuple

from ..schema import TASKS
from .mapping import Field, FollowUp
from .table_records import ImageRows, Record, wrong

TASK = "cancer_within_years"
_HORIZON = len(TASKS[TASK]) - 1  # years
_LONGEST = 50  # years; what is longer stands for something else


class _Dates(NamedTuple):
    """What is known of a patient: the days on which cancer was found, and the last on which anything was."""

    cancers: list[datetime.date]
    seen: list[datetime.date]


def label_of(years_to_cancer: float | None, years_followed: float | None) -> str | None:
    """The label.

    Args:
        years_to_cancer: From the examination to the first cancer, below 0 where that came first; ``None``: no cancer.
        years_followed: From the examination to the last day of which the tables know.

    Returns:
        "1" to "5": found in that year (in the first: after less than one year); "none": none within five years;
        ``None``: not known.
    """
    if years_to_cancer is not None and years_to_cancer < _HORIZON:
        return str(math.floor(years_to_cancer) + 1) if years_to_cancer >= 0 else None
    # a cancer that is found later says that there was none before
    known = years_followed if years_to_cancer is None else years_to_cancer
    return "none" if known is not None and known >= _HORIZON else None


def follow_up_labels(
    follow_up: FollowUp, images: Sequence[ImageRows], patients: Sequence[str], events: Sequence[Record] = ()
) -> list[str | None]:
    """The label of each image.

    Args:
        follow_up: Where the tables say it.
        images: All rows about each image.
        patients: Each image's patient, as the tables name them.
        events: All rows of the table of events, where the follow-up has one; without it the dates of all of a patient's
            images count together.

    Raises:
        DataError: A value is no number of years, or no date; names row and column.
    """
    if follow_up.exam_date is None:
        return [_by_years(follow_up, image) for image in images]
    known: dict[str, _Dates] = {patient: _Dates([], []) for patient in patients}
    if follow_up.patient is None:
        told = [(patient, record) for image, patient in zip(images, patients, strict=True) for record in image.records]
    else:
        told = [(follow_up.patient.text(record.contexts[0]), record) for record in events]
    for patient, record in told:
        if patient in known:
            known[patient].cancers.extend(_dates(follow_up, follow_up.cancer_date, record))
            known[patient].seen.extend(_dates(follow_up, follow_up.seen_date, record))
    return [_by_dates(follow_up, image, known[patient]) for image, patient in zip(images, patients, strict=True)]


def _by_years(follow_up: FollowUp, image: ImageRows) -> str | None:
    cancers, followed = (
        [years for record in image.records for context in record.contexts for years in _years(field, record, context)]
        for field in (follow_up.years_to_cancer, follow_up.years_followed)
    )
    return label_of(min(cancers, default=None), max(followed, default=None))


def _by_dates(follow_up: FollowUp, image: ImageRows, known: _Dates) -> str | None:
    exam = min(
        (day for record in image.records for day in _dates(follow_up, follow_up.exam_date, record)), default=None
    )
    if exam is None:
        return None
    cancers = [_whole_years(exam, day) for day in known.cancers]
    followed = [_whole_years(exam, day) for day in known.seen]
    return label_of(min(cancers, default=None), max(followed, default=None))


def _whole_years(start: datetime.date, end: datetime.date) -> int:
    """Years to the last anniversary: five yearly examinations later are five years, whatever leap days lay between."""
    return end.year - start.year - ((end.month, end.day) < (start.month, start.day))


def _years(field: Field | None, record: Record, context: Mapped[str, str]) -> list[float]:
    if field is None or not field.words(context):
        return []
    try:
        years = float(field.text(context))
    except ValueError:
        raise wrong(record, field, "must be a number of years") from None
    if not abs(years) <= _LONGEST:
        raise wrong(record, field, f'says more than {_LONGEST} years (what stands for none belongs into "unknown")')
    return [years]


def _dates(follow_up: FollowUp, field: Field | None, record: Record) -> list[datetime.date]:
    if field is None:
        return []
    texts = {field.text(context) for context in record.contexts if field.words(context)}
    try:
        if follow_up.date_format is not None:
            return [datetime.datetime.strptime(text, follow_up.date_format).date() for text in texts]
        return [datetime.date.fromisoformat(text[:10]) for text in texts]  # a time of day may follow
    except ValueError:
        form = follow_up.date_format or "YYYY-MM-DD, or date_format must say how it is written"
        raise wrong(record, field, f"must be a date as {form}") from None
