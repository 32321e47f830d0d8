"""Identity: whether the rows of a table can mean what they say about patients, exams and images.

A mistake here puts a patient on both sides of the split, and nothing later would show it.
"""

from __future__ import annotations

import os
import re
import unicodedata
from collections.abc import Collection as AnyCollection
from collections.abc import Iterable, Mapping, Sequence

from ...errors import DataError
from ...notes import Note
from ..collection import Rejected
from .mapping import Field, Record
from .mapping import Mapping as TableMapping
from .synonyms import is_null, names_nobody, our_word

_ROUNDED = re.compile(r"\d[.,]?\d*E\+?\d+", re.IGNORECASE)
_DIGITS = 15  # of a number that Excel keeps; it writes zeros for the others
_GROUPED = re.compile(r"\d{1,3}(?:[.,' ]\d{3})+")  # a number as spreadsheets show it, "1.001"
_WHOLE = re.compile(r"(\d+)[.,]0+")
_SHOWN = 5
Images = list[list[Record]]


def check_identity(
    mapping: TableMapping, images: Images, rejected: list[Rejected], accept: AnyCollection[str]
) -> tuple[Images, list[Note]]:
    """Check what the rows say about patients, exams and images.

    Args:
        mapping: Mapping of the table.
        images: All records of each image.
        rejected: List that receives the images whose rows disagree in exam, side or view.
        accept: Checks that need not pass, of `mapping.ACCEPT`.

    Returns:
        The images that are kept, and notes.

    Raises:
        DataError: Rows of one image disagree in patient or split; a patient of an own table is in two splits; patients'
            numbers were changed by a spreadsheet; all images have one patient; an exam has two patients. Rows are
            listed, patients are not shown.
    """
    patient = mapping.columns["patient"]
    _refuse_disagreement(images, patient, "patient")
    if "split" in mapping.columns:
        _refuse_disagreement(images, mapping.columns["split"], "split")
    kept = [records for records in images if not _disagreement(mapping, records, rejected)]
    left_out = len(images) - len(kept)
    notes = [Note("images_contradicted", count=left_out)] if left_out else []
    rows: dict[str, list[Record]] = {}
    for records in kept:
        rows.setdefault(patient.text(records[0].contexts[0]), []).append(records[0])
    rows = {text: found for text, found in rows.items() if not names_nobody(text)}  # an empty one is reported elsewhere
    if "split" in mapping.columns and mapping.is_private:  # that of a public collection cannot be corrected
        _refuse_split_patients(mapping.columns["split"], rows)
    if "rounded_patients" not in accept:
        _refuse_rounded(rows, patient)
    if "patient_spellings" not in accept:
        _refuse_spellings(rows, patient)
    if "one_patient" not in accept and len(rows) == 1:
        _refuse_one_patient(mapping, kept, patient)
    if "exam" in mapping.columns and "exam_within_patient" not in accept:
        _refuse_shared_exams(mapping.columns["exam"], rows)
    return kept, notes


def _refuse_disagreement(images: Images, field: Field, what: str) -> None:
    wrong = [records for records in images if len({field.text(record.contexts[0]) for record in records}) > 1]
    if wrong:
        listed = "; ".join(_places(records) for records in wrong[:_SHOWN])
        more = f"; and {len(wrong) - _SHOWN} more images" if len(wrong) > _SHOWN else ""
        raise DataError(
            f"rows of the same image give it another {what}: {listed}{more}",
            source=_table(wrong[0][0]),
            remedy=f"correct column {_names(field)}",
        )


def _refuse_split_patients(field: Field, rows: Mapping[str, list[Record]]) -> None:
    wrong = []
    for found in rows.values():
        sides: dict[str, Record] = {}
        for record in found if len(found) > 1 else ():
            for word in field.words(record.contexts[0]):
                split = field.values.get(word) or our_word("split", word) or word
                sides.setdefault("train" if split == "unlabelled" else split, record)
        wrong += [list(sides.values())] if len(sides) > 1 else []
    problem = f"puts {len(wrong)} patients into two splits"
    remedy = "put all images of a patient into one, or rename the column: then splits are made by patient"
    _refuse_rows(wrong, field, problem, remedy)


def _disagreement(mapping: TableMapping, records: Sequence[Record], rejected: list[Rejected]) -> bool:
    """Return whether the rows of an image name two exams, sides or views, and list the image as rejected."""
    if len(records) == 1:
        return False
    fields = {name: mapping.columns[name] for name in ("exam", "laterality", "view") if name in mapping.columns}
    wrong = [
        name
        for name, field in fields.items()
        if len({text for record in records if not is_null(text := field.text(record.contexts[0]))}) > 1
    ]
    if wrong:
        rejected.append(
            Rejected(records[0].place, f"gives its image another {' and '.join(wrong)}: {_places(records)}", "damaged")
        )
    return bool(wrong)


def _refuse_rounded(rows: Mapping[str, list[Record]], field: Field) -> None:
    rounded = [text for text in rows if _ROUNDED.fullmatch(text)]
    long = [text for text in rows if text.isdecimal() and len(text) > _DIGITS]
    if len(long) > 2 and not any(text[_DIGITS:].strip("0") for text in long):
        rounded += long
    if rounded:
        wrong = [rows[text][0] for text in rounded]
        count = sum(len(rows[text]) for text in rounded)
        what = "numbers of over 15 digits that all end in 0" if rounded == long else "numbers such as 1.23457E+11"
        raise DataError(
            f"column {_names(field)} holds rounded {what} in {count} rows: patients are mixed up",
            source=wrong[0].place,
            remedy="format the column as text in the spreadsheet and export it again; if the numbers are whole, "
            '`accept="rounded_patients"`',
        )


def _refuse_spellings(rows: Mapping[str, list[Record]], field: Field) -> None:
    by_number: dict[str, list[list[Record]]] = {}
    for text, found in rows.items():
        by_number.setdefault(_spelling(text), []).append(found)
    wrong = [groups for groups in by_number.values() if len(groups) > 1]
    if wrong:
        listed = "; ".join(_places([found[0] for found in groups]) for groups in wrong[:_SHOWN])
        raise DataError(
            f"column {_names(field)} writes {len(wrong)} patient numbers in several ways, as 1, 1.0 and 0001 are, or "
            f"P-1 and p_01: {listed}{'; ...' if len(wrong) > _SHOWN else ''}",
            source=_table(wrong[0][0][0]),
            remedy='write them alike; if they are different patients, `accept="patient_spellings"`',
        )


def _spelling(text: str) -> str:
    """Return what all spellings of a patient's number have in common: case, zeros before it and separators are not."""
    text = text if text.isascii() else unicodedata.normalize("NFKC", text)
    if _GROUPED.fullmatch(text):
        text = re.sub(r"\D", "", text)
    matched = _WHOLE.fullmatch(text)
    without_zeros = re.sub(r"(?<!\d)0+(?=\d)", "", matched[1] if matched else text)
    return re.sub(r"[\W_]+", "-", without_zeros).strip("-").casefold()


def _refuse_one_patient(mapping: TableMapping, images: Images, field: Field) -> None:
    sides = [mapping.columns[name] for name in ("laterality", "view") if name in mapping.columns]
    projections = [tuple(one.text(records[0].contexts[0]) for one in sides) for records in images]
    is_exam = len(sides) == 2 and len(set(projections)) == len(images) and all(map(all, projections))
    if len(images) > 2 and not is_exam:  # two may be anything
        raise DataError(
            f"column {_names(field)} names one patient for all {len(images)} images: nothing can be split by patient",
            source=_table(images[0][0]),
            remedy='name the column that tells patients apart; if it is one patient, `accept="one_patient"`',
        )


def _refuse_shared_exams(field: Field, rows: Mapping[str, list[Record]]) -> None:
    owners: dict[str, dict[str, Record]] = {}
    for patient, found in rows.items():
        for record in found:
            exam = field.text(record.contexts[0])
            if not names_nobody(exam):
                owners.setdefault(exam, {}).setdefault(patient, record)
    wrong = [list(patients.values()) for patients in owners.values() if len(patients) > 1]
    remedy = 'correct it; if exams are numbered within each patient, `accept="exam_within_patient"`'
    _refuse_rows(wrong, field, f"gives {len(wrong)} exams two patients or more", remedy)


def _refuse_rows(wrong: Images, field: Field, problem: str, remedy: str) -> None:
    """Raise DataError with the rows of the first records that contradict each other in a column, if any do."""
    if wrong:
        listed = "; ".join(_places(records) for records in wrong[:_SHOWN]) + ("; ..." if len(wrong) > _SHOWN else "")
        raise DataError(f"column {_names(field)} {problem}: {listed}", source=_table(wrong[0][0]), remedy=remedy)


def _places(records: Iterable[Record]) -> str:
    """Return the rows of records, without the table's name."""
    places = list(dict.fromkeys(record.place.rpartition(", ")[2] for record in records))
    return " and ".join(places[:3]) + (f" and {len(places) - 3} more" if len(places) > 3 else "")


def _table(record: Record) -> str:
    return record.place.rpartition(", ")[0] or os.path.basename(record.place)


def _names(field: Field) -> str:
    return ", ".join(f"'{name}'" for name in field.columns()) or f"'{field.template}'"
