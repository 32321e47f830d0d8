"""From what a collection's tables say of an image to its row: facts, labels, findings, and where they contradict."""

from __future__ import annotations

import ast
import json
import math
import os
from collections.abc import Mapping as Mapped
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from PIL import Image

from ...dicom import Laterality, Vendor, View
from ...errors import DataError
from ..findings import FINDING_KINDS, PATHOLOGIES, Finding, finding
from ..grouping import gravest
from ..privacy import private_salt, salted_hash
from ..schema import SPLITS, Row, age_band
from ..table import Rejected
from .contents import read_shape
from .follow_up import TASK as FOLLOW_UP
from .follow_up import follow_up_labels
from .mapping import Field, Mapping
from .table_records import ImageRows, Record, wrong

_CORNERS = 64  # of the polygon that stands for an ellipse: its area is 0.2 % too small


def table_rows(
    mapping: Mapping,
    images: Sequence[ImageRows],
    root: Path,
    rejected: list[Rejected],
    events: Sequence[Record] = (),
) -> tuple[list[Row], list[str]]:
    """The rows of all images, and notes; `events` are the rows of the follow-up's own table.

    Raises:
        DataError: A value that the mapping does not know, or rows that contradict each other.
    """
    salt = private_salt() if mapping.is_private else mapping.name
    rows: list[Row] = []
    ages: dict[tuple[str, str | None], tuple[str, str]] = {}
    for image in images:
        first = image.records[0]
        row, exam, age = _facts(mapping, first, salt)
        key = (row["patient"], exam)
        if age and ages.setdefault(key, (age, first.place))[0] != age:
            raise DataError(
                f"gives the patient another age than {ages[key][1]}",
                source=first.place,
                remedy="correct the table, or name the examinations in columns.exam",
            )
        for name in mapping.labels:
            row[name] = _label(mapping, image, name, mapping.tasks[name])
        row["findings"] = _findings(mapping, image, root, rejected)
        rows.append(row)
    _spread_over_breasts(rows, mapping)
    if mapping.follow_up is not None:
        patients = [mapping.columns["patient"].text(image.records[0].contexts[0]) for image in images]
        for row, label in zip(rows, follow_up_labels(mapping.follow_up, images, patients, events), strict=True):
            row[FOLLOW_UP] = label
    notes = []
    unlabelled = sum(all(row[name] is None for name in mapping.tasks) for row in rows)
    if mapping.tasks and unlabelled:
        notes.append(f"{unlabelled} of {len(rows)} images have no label")
    return rows, notes


def _facts(mapping: Mapping, record: Record, salt: str) -> tuple[Row, str | None, str | None]:
    """The row without labels and findings, the exam's and the age's text."""
    context = record.contexts[0]
    columns = mapping.columns

    def text(name: str) -> str:
        return columns[name].text(context) if name in columns else ""

    patient = text("patient")
    if not patient:
        raise wrong(record, columns["patient"], "must name the patient")
    exam = text("exam") or None
    sides = _word(record, columns.get("laterality"), context, _side)
    if sides not in (None, "", "L", "R"):
        raise wrong(record, columns["laterality"], "must be left or right")
    split = _word(record, columns.get("split"), context, str.lower) or "train"
    if split not in SPLITS:
        raise wrong(record, columns["split"], f"must lead to one of {', '.join(SPLITS)}")
    vendor = _word(record, columns.get("vendor"), context, lambda word: Vendor.from_dicom(word).value or word.lower())
    age = text("age") or None
    row = {
        "image_id": salted_hash(text("image_id") or record.name, salt),
        "path": record.path,
        "patient": salted_hash(patient, salt),
        "exam": None if exam is None else salted_hash(f"{patient} {exam}", salt),
        "laterality": sides or None,
        "view": _word(record, columns.get("view"), context, lambda word: View.from_dicom(word).value or word.upper()),
        "age_band": age_band(age),
        "vendor": vendor,
        "source": mapping.name,
        "split": split,
    }
    return row, exam, age


def _side(word: str) -> str:
    """L or R; empty for both breasts on one image; any other word as it is, to be refused."""
    side = Laterality.from_dicom(word)
    return {Laterality.BOTH: "", Laterality.UNKNOWN: word}.get(side, side.value)


def _word(record: Record, field: Field | None, context: Mapped[str, str], usual: Any) -> str | None:
    """A single value in our words: translated where the field has a table of words, else by the usual rule."""
    words = [] if field is None else field.words(context)
    if field is None or not words:
        return None
    if not field.values:
        return usual(words[0]) or None
    if words[0] not in field.values:
        raise wrong(record, field, f"must be one of {', '.join(field.values)}")
    return field.values[words[0]]


def _label(mapping: Mapping, image: ImageRows, name: str, labels: Sequence[str]) -> str | None:
    """The gravest label within a row and what is joined to it; rows of one image must agree."""
    field = mapping.labels[name]
    said: list[tuple[str | None, Record]] = []
    for record in image.records:
        words = []
        for context in record.contexts:
            for word in field.words(context):
                label = field.values.get(word) if field.values else word.lower()
                if label not in labels:
                    raise wrong(record, field, f"must be one of {', '.join(field.values or labels)}")
                words.append(label)
        said.append((gravest(words, labels), record))
    known = [entry for entry in said if entry[0] is not None]
    for label, record in known[1:]:
        if label != known[0][0]:
            raise DataError(
                f"gives the same image another {name} than {known[0][1].place}",
                source=record.place,
                remedy="keep one row an image, or put what differs into a joined table",
            )
    return known[0][0] if known else None


def _findings(mapping: Mapping, image: ImageRows, root: Path, rejected: list[Rejected]) -> list[Finding]:
    found: list[Finding] = []
    if not mapping.findings:
        return found
    for record in image.records:
        for context in record.contexts:
            for entry in _findings_of(mapping, record, context, root, rejected):
                if entry not in found:
                    found.append(entry)
    return found


def _findings_of(
    mapping: Mapping, record: Record, context: Mapped[str, str], root: Path, rejected: list[Rejected]
) -> list[Finding]:
    fields = mapping.findings
    kind = _first_of(FINDING_KINDS, record, fields.get("kind"), context)
    pathology = _first_of(PATHOLOGIES[::-1], record, fields.get("pathology"), context)
    box = _numbers(record, fields.get("box"), context)
    circle = _numbers(record, fields.get("circle"), context)
    mask = fields["mask_path"].text(context) if "mask_path" in fields else ""
    shapes = fields["shapes"].text(context) if "shapes" in fields else ""
    boxes = _boxes(record, fields.get("boxes"), context)
    if boxes:
        return [finding(kind, pathology, box=place) for place in boxes]
    if shapes:
        return [finding(kind, pathology, **place) for place in _via_shapes(shapes, record, fields["shapes"])]
    path = _mask(mask, record, root, rejected) if mask else None
    if kind is None and box is None and circle is None and path is None:
        return []
    return [finding(kind, pathology, box=box, circle=circle, mask_path=path)]


def _first_of(order: Sequence[str], record: Record, field: Field | None, context: Mapped[str, str]) -> str | None:
    words = [] if field is None else field.words(context)
    translated = [field.values.get(word) if field and field.values else word.lower() for word in words]
    if field is not None and not set(translated) <= set(order):
        raise wrong(record, field, f"must lead to one of {', '.join(order)}")
    return next((word for word in order if word in translated), None)


def _numbers(record: Record, fields: tuple[Field, ...] | None, context: Mapped[str, str]) -> list[float] | None:
    if fields is None or not all(field.words(context) for field in fields):
        return None
    numbers = []
    for field in fields:
        try:
            numbers.append(float(field.text(context)))
        except ValueError:
            raise wrong(record, field, "must be a number of pixels") from None
        if not math.isfinite(numbers[-1]):
            raise wrong(record, field, "must be a number of pixels")
    return numbers


def _boxes(record: Record, field: Field | None, context: Mapped[str, str]) -> list[tuple[float, ...]]:
    """Boxes in one cell, as a list or tuple of (top, left, bottom, right), in text as Python writes it."""
    if field is None or not field.words(context):
        return []
    try:
        given = ast.literal_eval(field.text(context))
        places = [tuple(float(value) for value in place) for place in given]
    except (ValueError, TypeError, SyntaxError):
        places = [()]
    if not all(len(place) == 4 and all(map(math.isfinite, place)) for place in places):
        raise wrong(record, field, "must be a list of (top, left, bottom, right) in pixels")
    return places


def _via_shapes(text: str, record: Record, field: Field) -> list[dict[str, Any]]:
    """Shapes as the VGG Image Annotator writes them: one JSON object or a list of them, x to the right, y down."""
    try:
        given = json.loads(text)
        return [place for shape in (given if isinstance(given, list) else [given]) for place in _via_shape(shape)]
    except (ValueError, KeyError, TypeError):
        raise wrong(record, field, "must be shapes of the VGG Image Annotator in JSON") from None


def _via_shape(shape: dict[str, Any]) -> list[dict[str, Any]]:
    kind = shape.get("name")
    if kind in ("polygon", "polyline"):
        corners = list(zip(shape["all_points_y"], shape["all_points_x"], strict=True))
        return [{"polygon": corners}] if len(corners) >= 3 else []
    if kind == "circle":
        return [{"circle": (shape["cy"], shape["cx"], shape["r"])}] if shape["r"] > 0 else []
    if kind == "ellipse":
        return [{"polygon": _ellipse(shape)}]
    if kind == "rect":
        top, left = shape["y"], shape["x"]
        return [{"box": (top, left, top + shape["height"], left + shape["width"])}]
    return []  # a point or nothing: no place that can be drawn


def _ellipse(shape: dict[str, Any]) -> list[tuple[float, float]]:
    turn = float(shape.get("theta", 0))  # radians, clockwise as y points down
    corners = []
    for step in range(_CORNERS):
        x = shape["rx"] * math.cos(2 * math.pi * step / _CORNERS)
        y = shape["ry"] * math.sin(2 * math.pi * step / _CORNERS)
        column = shape["cx"] + x * math.cos(turn) - y * math.sin(turn)
        corners.append((shape["cy"] + x * math.sin(turn) + y * math.cos(turn), column))
    return corners


def _mask(wanted: str, record: Record, root: Path, rejected: list[Rejected]) -> str | None:
    path = os.path.normpath(root / wanted)
    if not os.path.isfile(path):
        rejected.append(Rejected(record.place, f"there is no mask {wanted}"))
    elif _size(path) != _size(record.path):
        rejected.append(Rejected(path, "is a mask of another size than its image"))
    else:
        return path
    return None


def _size(path: str) -> tuple[int, int] | None:
    try:
        with Image.open(path) as picture:
            return picture.height, picture.width
    except OSError:
        pass
    try:
        return read_shape(path).size
    except DataError:
        return None


def _spread_over_breasts(rows: list[Row], mapping: Mapping) -> None:
    """Gives every view of a breast the gravest label that any of them has, for the tasks where the mapping says so."""
    for name in mapping.by_breast:
        breasts: dict[tuple[str, ...], list[Row]] = {}
        for row in rows:
            breasts.setdefault((row["patient"], row["exam"], row["laterality"]), []).append(row)
        for breast in breasts.values():
            label = gravest([row[name] for row in breast], mapping.tasks[name])
            for row in breast:
                row[name] = label
