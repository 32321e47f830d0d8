"""The image that counts for its breast and its exam among several of one view: one rule in training and inference.

For Processing next to For Presentation, a repeated exposure, a spot view, a synthetic image next to the one that it
imitates: an exam has one image of each view.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Hashable, Iterable
from typing import TYPE_CHECKING, Any

from ..dicom.header import MammogramHeader, mammogram_header
from ..dicom.parsing import parse, text
from ..dicom.pixels import image_pixel
from ..dicom.types import ImageKind, PresentationIntent
from ..errors import MammoError, refusing
from ..files import readable
from ..notes import Note

if TYPE_CHECKING:
    from pydicom import Dataset

    from .collection import Collection

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
    return NO_HEADER if mammogram is None else _of_header(mammogram.header, mammogram.dataset)


def _of_header(header: MammogramHeader, dataset: Dataset) -> Precedence:
    kind = _KINDS.index(header.kind) + 1 if header.kind in _KINDS else 0
    uid = text(dataset, "SOPInstanceUID")
    return int(bool(header.modifiers)), kind, _INTENTS.index(header.intent), -_acquired(dataset), uid


def _acquired(dataset: Dataset) -> int:
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


def places_in_views(collection: Collection) -> dict[str, int]:
    """Return the place of each image among those of its exam, side and view: 0 counts, or the next that can be read.

    Only headers are read, and only those of images that share their view. A date or an identifier that decides is not
    kept.

    Args:
        collection: Collection of images.

    Returns:
        Places by image_id, from 0. An image that is the only one of its view, or of which exam, side or view is not
        known, has none.
    """
    views: dict[Hashable, list[tuple[str, str]]] = defaultdict(list)
    names = ("patient", "exam", "laterality", "view", "image_id", "path")
    for *key, image_id, path in zip(*map(collection.column, names), strict=True):
        if all(key):
            views[tuple(key)].append((image_id, path))
    found: dict[str, int] = {}
    for images in views.values():
        if len(images) > 1:
            # the sort is stable: of equal ranks the first in the collection is the first
            ordered = sorted(images, key=lambda image: _of_file(image[1]))
            found |= {image_id: place for place, (image_id, _) in enumerate(ordered)}
    return found


def _of_file(path: str) -> Precedence:
    try:
        with refusing(path):
            dataset = parse(readable(path))[0]
            return _of_header(mammogram_header(dataset, image_pixel(dataset, [])), dataset)
    except (MammoError, OSError):  # a picture, or a file that is rejected when its pixels are read
        return NO_HEADER
