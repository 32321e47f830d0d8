"""The views of an image that an encoder sees: the whole breast, and tiles of it.

A tile is a square of the breast at a fixed number of millimetres per pixel, so that a finding has one size in it
whatever the detector. Nothing here needs torch: images are read and drawn in processes of their own.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import asdict, dataclass, replace
from typing import Any, NamedTuple

import numpy as np

from ..data.native_row import NativeImage
from ..data.prepared_row import geometry_of, intensity_of
from ..errors import check_choice, check_number, refusing
from ..files import readable
from ..notes import Note, codes
from ..processing.geometry import ORIENTATIONS, Geometry, fitted, resize_area
from ..processing.image_processing_mammo import MammoImageProcessor

TILES = ("both", "whole", "native")
LEAST_BREAST = 0.05  # fraction of a tile that must show breast: its neighbours overlap what is left out


@dataclass(frozen=True)
class Views:
    """The choice of the views of an image.

    Attributes:
        tiles: "whole" for the whole breast, "native" for tiles of it, "both".
        spacing: Millimetres per pixel of the tiles; a picture that is stored in coarser pixels, or whose pixels have no
            known size, is cut as it is stored.
        overlap: Fraction of a tile's side that it shares at least with the next one.
        image_size: (height, width) in pixels of the whole view.

    Raises:
        UsageError: A value is out of its range.
    """

    tiles: str
    spacing: float
    overlap: float
    image_size: tuple[int, int]

    def __post_init__(self) -> None:
        check_choice("tiles", self.tiles, TILES)
        check_number("spacing", self.spacing, 0 < self.spacing <= 10, "above 0 and at most 10 millimetres")
        check_number("overlap", self.overlap, 0 <= self.overlap <= 0.9, "from 0 to 0.9")

    def to_dict(self) -> dict[str, Any]:
        """Return the values for JSON."""
        return asdict(self) | {"image_size": list(self.image_size)}

    @classmethod
    def of(cls, values: Mapping[str, Any]) -> Views:
        """Return the views that ``to_dict`` was called on; other entries are passed over."""
        known = {name: values[name] for name in ("tiles", "spacing", "overlap", "image_size")}
        return cls(**known | {"image_size": tuple(known["image_size"])})


class Picture:
    """An upright image without its background, ready to be drawn at any size.

    Args:
        stored: Geometry of what is kept, in the pixels that are there.
        draw: Function that draws it on the canvas of a geometry, float32 (height, width) in [0, 1], 0 outside the
            breast.
        notes: Codes of the notes on the image.
    """

    def __init__(self, stored: Geometry, draw: Callable[[Geometry], np.ndarray], notes: Iterable[str]) -> None:
        self.stored, self.draw, self.notes = stored, draw, tuple(notes)

    @classmethod
    def of_image(cls, image: Any, processor: MammoImageProcessor, **given: str) -> Picture:
        """Return the picture of any image that a processor opens; it is decoded once.

        Args:
            image: Image to open.
            processor: Processor that opens it, finds the breast and blanks the rest.
            **given: Facts that the user gives in place of the header's, as `ImageSource.override` takes them.

        Raises:
            MammoError: It cannot be read.
        """
        source = processor.open(image)
        if given:
            source.override(**given)
        breast = processor.find_breast(source)
        stored = processor.stored_geometry(source, breast)
        notes = codes((*source.notes, *breast.notes))
        return cls(stored, lambda geometry: processor.draw(source, breast, geometry), notes)

    @classmethod
    def of_prepared(cls, row: Mapping[str, Any], processor: MammoImageProcessor) -> Picture:
        """Return the picture of a prepared row, which has no other pixels than its own, or of one of a native store."""
        notes = filter(None, (row["notes"] or "").split(";"))
        if "table" in row:
            native = NativeImage(row, processor.decode)
            return cls(native.geometry, lambda geometry: processor.draw(native, native.breast, geometry), notes)
        geometry = geometry_of(row)
        assert geometry is not None  # every row that is prepared has one
        (top, left), (height, width) = geometry.offset, geometry.resized
        kept = intensity_of(row)[top : top + height, left : left + width]

        def draw(target: Geometry) -> np.ndarray:
            canvas = np.zeros(target.size, np.float32)
            (top, left), (height, width) = target.offset, target.resized
            canvas[top : top + height, left : left + width] = resize_area(kept, target.resized)
            return canvas

        stored = replace(geometry, offset=(0, 0), size=geometry.resized)
        return cls(stored, draw, notes)

    def whole(self, size: tuple[int, int]) -> Geometry:
        """Return the geometry that fits the picture on a canvas of (height, width)."""
        resized, offset = fitted(self.stored.resized, size)
        return replace(self.stored, resized=resized, offset=offset, size=size)

    def at_spacing(self, spacing: float, least: int) -> tuple[Geometry, tuple[Note, ...]]:
        """Return the geometry of the picture at some millimetres per pixel, and notes on what could not be had.

        A picture is never enlarged: that would cost time and add nothing.

        Args:
            spacing: Millimetres per pixel.
            least: Side in pixels that the canvas has at least.
        """
        shrink = (1.0, 1.0)
        notes: tuple[Note, ...] = (Note("spacing_unknown"),)
        if self.stored.spacing_mm is not None:
            down, across = (mm / scale for mm, scale in zip(self.stored.spacing_mm, self.stored.scale, strict=True))
            sides = (across, down) if ORIENTATIONS[self.stored.orientation][2] else (down, across)
            shrink = (min(1.0, sides[0] / spacing), min(1.0, sides[1] / spacing))
            notes = (Note("tiles_coarser"),) if max(sides) > 1.01 * spacing else ()
        height, width = (max(1, round(side * by)) for side, by in zip(self.stored.resized, shrink, strict=True))
        size = max(height, least), max(width, least)
        offset = (size[0] - height) // 2, 0
        return replace(self.stored, resized=(height, width), offset=offset, size=size), notes


class Drawn(NamedTuple):
    """The views of one image before they are encoded.

    Attributes:
        whole: Intensity of the whole view, float32 (height, width) in [0, 1]; ``None`` if it is not wanted.
        geometry: Geometry from the source to the canvas of the whole view.
        native: Intensity of the breast at the spacing of the tiles, or ``None``.
        native_geometry: Geometry from the source to that.
        notes: Codes of the notes on the image and its tiles.
    """

    whole: np.ndarray | None
    geometry: Geometry
    native: np.ndarray | None
    native_geometry: Geometry
    notes: tuple[str, ...]

    @property
    def finest(self) -> tuple[np.ndarray, Geometry]:
        """The picture at the spacing of the tiles, or the whole view if there are none, and its geometry."""
        if self.native is not None:
            return self.native, self.native_geometry
        assert self.whole is not None
        return self.whole, self.geometry


def drawn(picture: Picture, views: Views, tile: int) -> Drawn:
    """Draw the views of a picture, tiles of ``tile`` pixels a side not yet cut."""
    geometry, (native, further) = picture.whole(views.image_size), picture.at_spacing(views.spacing, tile)
    wanted = views.tiles != "whole"
    notes = (*picture.notes, *(codes(further) if wanted else ()))
    return Drawn(
        picture.draw(geometry) if views.tiles != "native" else None,
        geometry,
        picture.draw(native) if wanted else None,
        native,
        tuple(dict.fromkeys(notes)),
    )


def read_views(processor: MammoImageProcessor, path: str, given: Mapping[str, str], views: Views, tile: int) -> Drawn:
    """Read one file and draw its views; in a reader process, if it is called by `read_apart`.

    Args:
        processor: Processor that opens it.
        path: Path or URL.
        given: Facts that the user gives in place of the header's.
        views: Choice of the views.
        tile: Side of a tile in pixels.

    Raises:
        DataError: It cannot be read.
    """
    with refusing(path):
        return drawn(Picture.of_image(readable(path), processor, **given), views, tile)


def tile_corners(canvas: np.ndarray, side: int, overlap: float) -> np.ndarray:
    """Return where the tiles of a picture are.

    Tiles cover the picture with equal steps, and are kept if they show enough breast; if none does, the fullest is.

    Args:
        canvas: Intensity (height, width), 0 outside the breast; no side is shorter than a tile's.
        side: Side of a tile in pixels.
        overlap: Fraction of the side that neighbours share at least.

    Returns:
        int (tiles, 2): row and column of the top left pixel, row by row.
    """
    rows, columns = (_starts(length, side, overlap) for length in canvas.shape)
    corners = np.array([(row, column) for row in rows for column in columns])
    shown = np.array([np.count_nonzero(canvas[r : r + side, c : c + side]) for r, c in corners]) / side**2
    kept = shown >= LEAST_BREAST
    return corners[kept] if kept.any() else corners[[int(shown.argmax())]]


def _starts(length: int, side: int, overlap: float) -> list[int]:
    step = max(1, int(side * (1 - overlap)))
    further = -(-(length - side) // step)  # tiles in addition to the first
    return [round(index * (length - side) / further) for index in range(further + 1)] if further else [0]


def boxes_of(corners: np.ndarray, side: int, geometry: Geometry) -> np.ndarray:
    """Return the boxes of tiles in source pixels, float32 (tiles, 4): top, left, bottom, right."""
    return geometry.boxes_to_source(np.concatenate([corners, corners + side], 1)).astype(np.float32)


def covered(masks: Iterable[np.ndarray], boxes: np.ndarray) -> np.ndarray | None:
    """Return the largest fraction of a lesion that is in each box.

    Args:
        masks: Mask of each lesion, bool (rows, columns).
        boxes: Boxes (boxes, 4) in pixels of the masks: top, left, bottom, right.

    Returns:
        float16 (boxes,) from 0 to 1; ``None`` if there is no lesion.
    """
    found = None
    corners = np.rint(boxes).astype(int)
    for mask in masks:
        rows, columns = np.flatnonzero(mask.any(1)), np.flatnonzero(mask.any(0))
        if not len(rows):
            continue
        top, left = rows[0], columns[0]
        lesion = mask[top : rows[-1] + 1, left : columns[-1] + 1]
        inside = np.clip(corners - [top, left, top, left], 0, None)
        counts = np.array([np.count_nonzero(lesion[t:b, l:r]) for t, l, b, r in inside])  # noqa: E741
        fractions = counts / np.count_nonzero(lesion)
        found = fractions if found is None else np.maximum(found, fractions)
    return None if found is None else found.astype(np.float16)


def findings_covered(findings: list[dict[str, Any]], size: tuple[int, int], boxes: np.ndarray) -> np.ndarray | None:
    """Return the largest fraction of a finding in each box, of the findings of one image that have a location.

    Args:
        findings: Findings as in a collection's row.
        size: (height, width) of the image in pixels.
        boxes: Boxes (boxes, 4) in its pixels.

    Raises:
        MammoError: A mask file cannot be read.
    """
    from ..data.findings import lesion_masks  # brings `datasets`, which scoring does not need

    return covered(lesion_masks(findings, size), boxes)
