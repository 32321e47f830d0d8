"""The row of a native store: an image's values as they are stored, from which any canvas is drawn without its file.

``pixels`` is a lossless HTJ2K codestream of the breast's box, upright, with what is outside the breast and its margin
blanked; ``table`` has the intensity of each of its values. Masks of lesions and breast are kept in the source's pixels.
So a canvas of any size is drawn by the steps, and in the order, that draw it from the file, and codestreams are read at
1/2, 1/4, ... if that is enough and the processor decodes "fast".
"""

from __future__ import annotations

import importlib
import io
import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa

from ..dicom.display import is_smooth
from ..dicom.reduced import halvings, low_band
from ..errors import UsageError, install
from ..processing.breast import Breast
from ..processing.geometry import Geometry, oriented
from ..processing.image_source import LEAST_HALVED, level_for
from .prepared_row import UNKNOWN_PATHOLOGY, geometry_of, lesion_cells, packed_breast

if TYPE_CHECKING:
    from ..processing.image_processing_mammo import MammoImageProcessor
    from ..processing.image_source import ImageSource
    from .prepared_row import LesionMask

# the columns of a native store in addition to those of `mammo_hf.data.prepared_row.SCHEMA`
NATIVE = pa.schema(
    [
        ("table", pa.binary()),  # float32: intensity of each value of the codestream
        ("first_value", pa.int32()),  # value of the source that value 0 of the codestream is
    ]
)
_ARCHIVE = b"PK\x03\x04"  # start of what numpy packs arrays in
_MOST_HALVED = 2  # times: at 1/8 pictures of noisy images differ by more than rms .004
# cells of the breast's mask, which has at most 511 per side, that are kept around what is shown: so far reaches half a
# pixel of a canvas of 86 pixels per side
_REACH = 3
Row = dict[str, Any]


def require_codec(source: object) -> None:
    """Refuse a native store where its codec is not installed.

    Raises:
        UsageError: imagecodecs is not installed, or without HTJ2K.
    """
    if importlib.util.find_spec("imagecodecs") is None or not importlib.import_module("imagecodecs").HTJ2K.available:
        raise UsageError(
            "a native store is of HTJ2K, which imagecodecs reads and writes, and that is not installed",
            source=source,
            remedy=install("codecs"),
        )


def native_columns(processor: MammoImageProcessor, source: ImageSource) -> tuple[Row, Breast, Geometry]:
    """Return the columns of an image that its file and the processor decide, its breast and its geometry.

    Args:
        processor: Processor that finds the breast and says what is blanked.
        source: Opened image.

    Raises:
        MammoError: It cannot be read.
    """
    breast = processor.find_breast(source)
    geometry = processor.stored_geometry(source, breast)
    top, left, bottom, right = geometry.crop
    values, table, first = source.tabulated(slice(top, bottom), slice(left, right))
    values = values.astype(np.int32) - first
    # Blank what no canvas shows, with the darkest value that is shown
    shown = processor.shown(breast)
    if shown is not None:
        # bright edges around the field reach into the canvas' pixels, too
        wide = replace(shown, field=(slice(None), slice(None))).widened(_REACH)
        kept = wide.mask_at(np.arange(top, bottom), np.arange(left, right))
        there = np.flatnonzero(np.bincount(values[kept]))
        values[~kept] = there[np.argmax(table[there]) if breast.negative else np.argmin(table[there])]
    lowest, highest = int(values.min()), int(values.max())
    values = oriented(values - lowest, breast.orientation).astype(np.uint16)
    encode = importlib.import_module("imagecodecs").htj2k_encode
    columns: Row = {
        "pixels": encode(np.ascontiguousarray(values), reversible=True),
        "size": list(geometry.size),
        "breast": _packed(breast),
        "table": table[lowest : highest + 1].tobytes(),
        "first_value": first + lowest,
    }
    return columns, breast, geometry


class NativeImage:
    """An image of a native store, which a processor draws as it draws an opened one.

    Args:
        row: Row of a native store.
        decode: Way of reading it, "exact" or "fast".

    Attributes:
        geometry: Geometry from the source's pixels to those that are stored, upright.
        breast: Breast in the source's pixels.
        decoded: Way that the pixels were decoded that were drawn last: "exact", "1/2", "1/4", ...; "" before.
    """

    def __init__(self, row: Mapping[str, Any], decode: str = "exact") -> None:
        geometry = geometry_of(row)
        assert geometry is not None  # every row of a native store has one
        self.geometry = geometry
        self.breast = _breast_of(row["breast"], geometry)
        self.decoded = ""
        self._codestream: bytes = row["pixels"]
        self._table = np.frombuffer(row["table"], np.float32)
        halved = decode == "fast" and max(geometry.source_size) >= LEAST_HALVED and is_smooth(self._table)
        self.levels = min(_MOST_HALVED, halvings(self._codestream)[0]) if halved else 0

    def placed(self, geometry: Geometry, shown: Breast | None) -> np.ndarray:
        """Return the intensity on the canvas of a geometry, as `ImageSource.placed` does."""
        top, left, bottom, right = np.rint(self.geometry.boxes_to_model(geometry.crop)).astype(int).tolist()
        crop, sides = (top, left, bottom, right), self.geometry.size
        own = Geometry(sides, crop, "identity", geometry.resized, geometry.offset, geometry.size)
        level = level_for(max(own.scale), self.levels)
        self.decoded = f"1/{1 << level}" if level else "exact"
        values = self._values(level) if level else self._values(0)[top:bottom, left:right]
        # what the low band overshoots becomes the nearest value that the image has
        return own.place_strips(lambda rows: (np.take(self._table, values[rows], mode="clip"), 0), level)

    def _values(self, level: int) -> np.ndarray:
        if level:
            return low_band(self._codestream, "htj2k", level, len(self._table) - 1, True)
        values: np.ndarray = importlib.import_module("imagecodecs").htj2k_decode(self._codestream)
        return values


class OnCanvas:
    """Function that draws rows of a native store on a processor's canvas: a transform of `datasets`.

    A row is then what `prepare` makes of the image at this size, but for ``pixels``, which is its intensity, float32
    (height, width) and not rounded to 16 bits.

    Args:
        processor: Processor whose canvas is drawn on; how it reads files is that of the store's.
    """

    def __init__(self, processor: MammoImageProcessor) -> None:
        self.processor = processor

    def __call__(self, batch: Mapping[str, list[Any]]) -> dict[str, list[Any]]:
        """Return a batch of rows drawn; one without the column ``geometry`` stays as it is stored."""
        if "geometry" not in batch:
            return dict(batch)
        rows = [self.row(dict(zip(batch, values, strict=True))) for values in zip(*batch.values(), strict=True)]
        return {name: [row[name] for row in rows] for name in batch}

    def row(self, row: Row, generator: np.random.Generator | None = None) -> Row:
        """Return a row drawn, in those of its columns that it has.

        Args:
            row: Row of a native store.
            generator: Random generator that places a crop, if the processor is of crops: around a lesion in half of
                the draws if one's location is known, else anywhere in the breast. ``None``: around the first lesion,
                or at a place that the ``image_id`` decides.
        """
        stored = geometry_of(row)
        assert stored is not None  # every row of a native store has one
        if self.processor.native_crops:
            geometry = crop_geometry(row, self.processor.canvas, generator)
        else:
            geometry = self.processor.fitted_geometry(stored)
        made = row | {"geometry": json.dumps(geometry.to_dict())}
        if "size" in row:
            made["size"] = list(geometry.size)
        if row.get("lesions") is not None:
            made["lesions"] = lesion_cells(unpacked_lesions(row["lesions"]), geometry).tobytes()
        if "breast" in row:
            made["breast"] = packed_breast(_breast_of(row["breast"], stored), geometry)
        if "pixels" in row:
            image = NativeImage(row, self.processor.decode)
            made["pixels"] = self.processor.draw(image, image.breast, geometry)
        return made


def crop_geometry(row: Row, size: tuple[int, int], generator: np.random.Generator | None) -> Geometry:
    """Return the geometry of a crop at the image's own resolution; for the arguments see `OnCanvas.row`.

    Raises:
        UsageError: The image is smaller.
    """
    stored = geometry_of(row)
    assert stored is not None  # every row of a native store has one
    check_crop(stored, size, row["image_id"])
    chosen = generator or np.random.default_rng(int(row["image_id"], 16))
    lesions = unpacked_lesions(row["lesions"]) if row["lesions"] is not None else []
    lesions = [lesion for lesion in lesions if lesion[2].any()]
    if lesions and (generator is None or generator.random() < 0.5):
        _, corner, mask = lesions[int(chosen.integers(len(lesions))) if generator else 0]
        centre = stored.to_model(np.add(corner, np.divide(mask.shape, 2)))
        # the lesion's centre is in the middle half of the crop
        centre = centre + (chosen.uniform(-0.25, 0.25, 2) * size if generator else 0)
    else:
        breast = _breast_of(row["breast"], stored)
        cells = np.argwhere(breast.mask) if breast.mask.any() else np.argwhere(~breast.mask)
        centre = stored.to_model((cells[chosen.integers(len(cells))] + 0.5) * breast.stride)
    sides = np.minimum(size, stored.size)
    top, left = np.clip(np.rint(centre - sides / 2), 0, np.subtract(stored.size, sides)).astype(int).tolist()
    height, width = sides.tolist()
    box = np.rint(stored.boxes_to_source([top, left, top + height, left + width])).astype(int).tolist()
    crop = (box[0], box[1], box[2], box[3])
    return replace(stored, crop=crop, resized=(height, width), offset=(0, 0), size=size)


def check_crop(stored: Geometry, size: tuple[int, int], image_id: str) -> None:
    """Refuse crops that are larger than an image.

    Raises:
        UsageError: Names the image and both sizes.
    """
    sides = sorted(stored.source_size)
    if any(side > most for side, most in zip(sorted(size), sides, strict=True)):
        problem = "crops of {} x {} are larger than image {} of {} x {}".format(*size, image_id, *stored.source_size)
        raise UsageError(problem, source="crop", remedy="give a smaller size, or leave the image out")


# How breast and lesions are packed.


def _packed(breast: Breast) -> bytes:
    masks = {"mask": breast.mask} | ({} if breast.pectoral is None else {"pectoral": breast.pectoral})
    field = [part.indices(side)[:2] for part, side in zip(breast.field, breast.mask.shape, strict=True)]
    return _archive(**masks, field=np.array(field), stride=np.array(breast.stride), negative=np.array(breast.negative))


def _breast_of(packed: bytes, geometry: Geometry) -> Breast:
    found = np.load(io.BytesIO(packed), allow_pickle=False)
    rows, columns = (slice(*map(int, ends)) for ends in found["field"])
    facts: dict[str, Any] = {"stride": int(found["stride"]), "negative": bool(found["negative"])}
    pectoral = found.get("pectoral")
    field, orientation = (rows, columns), geometry.orientation
    return Breast(geometry.crop, found["mask"], **facts, pectoral=pectoral, field=field, orientation=orientation)


def packed_lesions(lesions: Iterable[LesionMask]) -> bytes:
    """Pack the masks of an image's lesions, each cut to its box."""
    found = list(lesions)
    labels, corners, masks = zip(*found, strict=True) if found else ((), (), ())
    shapes = [(*corner, *mask.shape) for corner, mask in zip(corners, masks, strict=True)]
    bits = np.packbits(np.concatenate([np.zeros(0, bool), *(mask.ravel() for mask in masks)]))
    return _archive(labels=np.array(labels, np.uint8), boxes=np.array(shapes, np.int32).reshape(-1, 4), bits=bits)


def unpacked_lesions(packed: bytes) -> list[LesionMask]:
    """Return the masks that `packed_lesions` packed."""
    archive = np.load(io.BytesIO(packed), allow_pickle=False)
    boxes, bits = archive["boxes"].tolist(), np.unpackbits(archive["bits"]).astype(bool)
    found, start = [], 0
    for label, (top, left, height, width) in zip(archive["labels"].tolist(), boxes, strict=True):
        mask = bits[start : start + height * width].reshape(height, width)
        found.append((label, (top, left), mask))
        start += mask.size
    return found


def source_masks(row: Mapping[str, Any]) -> Iterator[np.ndarray]:
    """Yield the mask of each lesion of a row, bool of the source's size."""
    geometry = geometry_of(row)
    assert geometry is not None  # every row of a native store has one
    for _, (top, left), mask in unpacked_lesions(row["lesions"]):
        whole = np.zeros(geometry.source_size, bool)
        whole[top : top + mask.shape[0], left : left + mask.shape[1]] = mask
        yield whole


def relabelled(lesions: bytes, label: int) -> bytes:
    """Give all lesions of a row one label, in a packed map or packed masks, by its index; -1: not known."""
    value = UNKNOWN_PATHOLOGY if label < 0 else label + 1
    if lesions.startswith(_ARCHIVE):
        return packed_lesions((value, corner, mask) for _, corner, mask in unpacked_lesions(lesions))
    return np.where(np.frombuffer(lesions, np.uint8) > 0, value, 0).astype(np.uint8).tobytes()


def _archive(**arrays: np.ndarray) -> bytes:
    content = io.BytesIO()
    np.savez_compressed(content, **arrays)  # type: ignore[arg-type]
    return content.getvalue()
