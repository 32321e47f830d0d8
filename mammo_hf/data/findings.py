"""Findings of an image: their form, their masks, and how much of a lesion a crop leaves out."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from datasets import Value
from PIL import Image, ImageDraw

from ..dicom import read_mammogram
from ..files import readable
from ..processing.image_source import is_picture, read_levels

if TYPE_CHECKING:
    from ..processing.breast import Breast
    from ..processing.image_processing_mammo import MammoImageProcessor
    from ..processing.image_source import ImageSource

FINDING_KINDS = ("mass", "calcification", "distortion", "asymmetry", "other")
PATHOLOGIES = ("benign", "malignant")
FEATURES = {
    "kind": Value("string"),
    "pathology": Value("string"),
    "mask_path": Value("string"),
    "box": [Value("float64")],
    "circle": [Value("float64")],
    "polygon": [[Value("float64")]],
}
Finding = dict[str, Any]


def finding(
    kind: str | None,
    pathology: str | None = None,
    *,
    mask_path: str | None = None,
    box: Sequence[float] | None = None,
    circle: Sequence[float] | None = None,
    polygon: Sequence[Sequence[float]] | None = None,
) -> Finding:
    """Return a finding of an image, with every key that the schema needs.

    Args:
        kind: Kind of the finding, one of ``FINDING_KINDS``; ``None``: not known.
        pathology: Pathology of the finding: "benign", "malignant" or ``None``.
        mask_path: Path of an image of the source's size that is above zero at the finding.
        box: Tuple (top, left, bottom, right) in pixels of the source image; bottom and right are the first outside.
        circle: Tuple (row, column, radius) in pixels of the source image.
        polygon: Corners, (row, column) each, in pixels of the source image; the last joins the first.
    """
    return {
        "kind": kind,
        "pathology": pathology,
        "mask_path": mask_path,
        "box": None if box is None else [float(value) for value in box],
        "circle": None if circle is None else [float(value) for value in circle],
        "polygon": None if polygon is None else [[float(value) for value in corner] for corner in polygon],
    }


def broken_rule(findings: object) -> str | None:
    """Return the first rule that the findings of a row break; ``None`` if they keep all rules."""
    if not isinstance(findings, list | tuple):
        return "must be a list"
    for entry in findings:
        if not isinstance(entry, dict) or entry.keys() != FEATURES.keys():
            return f"each must have exactly the keys {', '.join(FEATURES)}"
        if entry["kind"] not in (None, *FINDING_KINDS):
            return f"'kind' must be one of {', '.join(FINDING_KINDS)}, or null"
        if entry["pathology"] not in (None, *PATHOLOGIES):
            return f"'pathology' must be one of {', '.join(PATHOLOGIES)}, or null"
        if entry["mask_path"] is not None and not entry["mask_path"]:
            return "'mask_path' must be a path or null"
        box, circle, polygon = entry["box"], entry["circle"], entry["polygon"]
        if box is not None and not (len(box) == 4 and box[0] < box[2] and box[1] < box[3]):
            return "'box' must be (top, left, bottom, right) with top < bottom and left < right, or null"
        if circle is not None and not (len(circle) == 3 and circle[2] > 0):
            return "'circle' must be (row, column, radius) with a radius above 0, or null"
        if polygon is not None and not (len(polygon) >= 3 and all(len(corner) == 2 for corner in polygon)):
            return "'polygon' must be three (row, column) corners or more, or null"
    return None


def read_mask(source: str | bytes) -> np.ndarray:
    """Read a mask file, DICOM or picture, given by its path, its URL or its content, as bool (rows, columns).

    A JPEG has rings around the edges of a mask, so pictures are true above half of their range.

    Raises:
        MammoError: The file cannot be read.
    """
    source = readable(source) if isinstance(source, str) else source
    if is_picture(source):
        values = read_levels(source)
        return values > values.max() / 2
    return read_mammogram(source).pixels[0] > 0


def has_location(entry: Finding) -> bool:
    """Return whether a finding says where it is."""
    return any(entry.get(name) for name in ("mask_path", "polygon", "circle", "box"))


def finding_mask(entry: Finding, size: tuple[int, int]) -> np.ndarray | None:
    """Return the mask of a finding in its source image.

    A pixel belongs to a circle if its centre does; a polygon is filled as Pillow does it, its outline included. Parts
    outside the image are cut off. The mask file is preferred, then polygon, circle and box.

    Args:
        entry: Finding to draw.
        size: Size (rows, columns) of the source image.

    Returns:
        Mask, bool (rows, columns), or ``None`` if the location is not known or the mask file has another size.

    Raises:
        MammoError: The mask file cannot be read.
    """
    rows, columns = size
    if entry.get("mask_path"):
        mask = read_mask(entry["mask_path"])
        # some collections hold masks of another size than the image: without a common frame they say nothing
        return mask if mask.shape == (rows, columns) else None
    if entry.get("polygon"):
        canvas = Image.new("1", (columns, rows))
        # coordinates are of pixel edges (0 is the image's border), Pillow's are of pixel centres
        corners = [(column - 0.5, row - 0.5) for row, column in entry["polygon"]]
        ImageDraw.Draw(canvas).polygon(corners, fill=1)
        return np.array(canvas, bool)
    if entry.get("circle"):
        row, column, radius = entry["circle"]
        y, x = np.ogrid[:rows, :columns]
        return (y + 0.5 - row) ** 2 + (x + 0.5 - column) ** 2 <= radius**2
    if entry.get("box"):
        top, left, bottom, right = (round(value) for value in entry["box"])
        mask = np.zeros((rows, columns), bool)
        mask[max(top, 0) : max(bottom, 0), max(left, 0) : max(right, 0)] = True
        return mask
    return None


# Crops and lesions: leaving out a part of a lesion is the one error of a crop that no later step can repair.

MOST_CUT = 0.1  # fraction of a lesion; a crop that leaves out more is a bad one


def lesion_masks(findings: Iterable[Finding], size: tuple[int, int]) -> list[np.ndarray]:
    """Return the masks, bool (rows, columns), of all findings with a known location inside the image.

    Args:
        findings: Findings of one image, as in a row of a collection.
        size: Size (rows, columns) of the image.

    Raises:
        MammoError: A mask file cannot be read.
    """
    masks = (finding_mask(finding, size) for finding in findings)
    return [mask for mask in masks if mask is not None and mask.any()]


def cut_fraction(
    masks: Iterable[np.ndarray], source: ImageSource, breast: Breast, processor: MammoImageProcessor
) -> float | None:
    """Return the largest fraction of a lesion that is cropped away or blanked.

    Pixels of the image's lowest value do not count: annotated circles reach beyond the edge of the film.

    Args:
        masks: Masks of the lesions, bool (rows, columns) of the image.
        source: Image that is cropped.
        breast: Breast that the processor found in it.
        processor: Processor that crops and blanks.

    Returns:
        Fraction from 0 to 1; ``None`` if no lesion has a pixel that counts.
    """
    darkest = source.view(slice(None, None, breast.stride)).min()
    fractions = []
    for mask in masks:
        rows, columns = np.flatnonzero(mask.any(1)), np.flatnonzero(mask.any(0))
        box = slice(rows[0], rows[-1] + 1), slice(columns[0], columns[-1] + 1)
        counted = mask[box] & (source.view(*box) > darkest)
        if counted.any():
            kept = processor.kept_at(breast, np.arange(box[0].start, box[0].stop), np.arange(box[1].start, box[1].stop))
            fractions.append(float(np.mean(~kept[counted])))
    return max(fractions, default=None)
