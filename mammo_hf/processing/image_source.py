"""Opened images of any kind: their size, and the displayed intensity of any part of them.

DICOM is read by the installed package alone; arrays and pictures need nothing of it.
"""

from __future__ import annotations

import importlib
import io
import os
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, UnidentifiedImageError

from ..dicom.display import Display, Slab
from ..errors import DataError, UsageError, install
from ..notes import Note
from .upright import upright_by_header

# the first bytes of PNG, JPEG, PGM (text and binary) and TIFF files
_PICTURES = (b"\x89PNG\r\n\x1a\n", b"\xff\xd8\xff", b"P2\n", b"P2 ", b"P5\n", b"P5 ", b"II*\0", b"MM\0*")
_OBLIQUE = ("MLO", "LMO", "ML", "LM", "SIO", "ISO")  # views in which the pectoral muscle fills an upper corner


class ImageSource:
    """An opened image.

    Attributes:
        size: (height, width) in pixels.
        mammogram: Content of a DICOM file; ``None`` for a picture or an array.
        expected_chest_wall: Side of the image that the header implies, "left" or "right"; ``None`` if it does not.
        upright: Orientation that makes the picture upright by PatientOrientation, and the side of the chest wall then,
            as from `upright_by_header`; ``None`` if the header does not say.
        shows_muscle: Whether the view is the medio-lateral oblique one.
        spacing_mm: (row, column) size of a pixel in mm; ``None`` if the header does not give it.
        may_show_pectoral: Whether the view is oblique, lateral or not known.
        notes: Notes on the header; those on the picture are `Breast.notes`.
    """

    def __init__(self, intensity: np.ndarray | None = None, mammogram: Any = None, slab: Slab | None = None) -> None:
        if mammogram is not None and mammogram.header.frames > 1:
            intensity = mammogram.slab(slab or Slab())  # once, not for each part that is read
        self._intensity = intensity
        self.mammogram = mammogram
        self.size: tuple[int, int] = (
            (mammogram.header.rows, mammogram.header.columns) if intensity is None else intensity.shape
        )
        self.expected_chest_wall: str | None = None
        self.spacing_mm: tuple[float, float] | None = None
        self.upright: tuple[str, str] | None = None
        self.shows_muscle = False
        self.may_show_pectoral = True
        self.notes: tuple[Note, ...] = ()
        if mammogram is not None:
            header = mammogram.header
            # as displayed by convention: the left breast with its chest wall at the image's left edge
            self.expected_chest_wall = {"L": "left", "R": "right"}.get(header.laterality.value)
            self.upright = upright_by_header(header.orientation, header.laterality.value)
            self.shows_muscle = header.view.value == "MLO"
            self.spacing_mm = header.spacing_mm
            self.notes = header.contradictions
            self.may_show_pectoral = header.view.value in ("", *_OBLIQUE)

    def view(self, rows: slice, columns: slice | None = None) -> np.ndarray:
        """Return the intensity in [0, 1] of a part, float32 (rows, columns); one slice is for both."""
        columns = rows if columns is None else columns
        if self._intensity is not None:
            return self._intensity[rows, columns]
        return np.asarray(self.mammogram.intensity(frame=0, rows=rows, columns=columns))


def open_image(image: Any, *, display: Display | None = None, slab: Slab | None = None, **choices: bool) -> ImageSource:
    """Open an image.

    Args:
        image: Path, bytes, ``Mammogram``, pydicom ``Dataset``, array, tensor or PIL image.
        display: Display of the values of a DICOM file; a ``Mammogram`` is taken as it was read.
        slab: Slices of a volume that make the picture; ``None``: the middle one.
        choices: Further options of `mammo_hf.read_mammogram`: ``use_descriptions``, ``any_anatomy``.

    Raises:
        UsageError: The kind of image is not known, or its shape or values are impossible.
        MammoError: A file cannot be read.
    """
    picture = _open_picture(image)
    if picture is not None:
        return ImageSource(picture)
    if hasattr(image, "intensity_source"):
        return ImageSource(mammogram=image, slab=slab)
    if isinstance(image, (str, os.PathLike, bytes, bytearray)) or hasattr(image, "PixelData"):
        return ImageSource(mammogram=_read_dicom(image, display or Display(), choices), slab=slab)
    if hasattr(image, "detach"):  # a tensor, also one with a gradient or of a kind that numpy does not have
        image = image.detach().cpu()
        image = image.float() if image.is_floating_point() else image
    if hasattr(image, "__array__"):
        return ImageSource(_from_array(np.asarray(image)))
    raise UsageError(
        f"an image of type {type(image).__name__} cannot be read",
        remedy="give a path, bytes, a Mammogram, a pydicom Dataset, an array, a tensor or a PIL image",
    )


def _open_picture(image: Any) -> np.ndarray | None:
    """Return the intensity of a PIL image, or of a file or bytes that begin as a picture does; else ``None``."""
    if isinstance(image, Image.Image):
        return _from_picture(image)
    if isinstance(image, (bytes, bytearray)):
        start, content = bytes(image[:8]), io.BytesIO(bytes(image))
    elif isinstance(image, (str, os.PathLike)):
        try:
            with Path(image).open("rb") as file:
                start, content = file.read(8), None
        except OSError:
            return None  # the reader says what is wrong with it
    else:
        return None
    if not start.startswith(_PICTURES):
        return None
    source = "the picture" if content else image
    try:
        with Image.open(content or image) as picture:
            return _from_picture(picture)
    except (OSError, UnidentifiedImageError, SyntaxError) as error:
        raise DataError("the picture is damaged or cut off", source=source, remedy="copy the file again") from error


def _read_dicom(source: Any, display: Display, choices: dict[str, bool]) -> Any:
    try:
        dicom = importlib.import_module("mammo_hf.dicom")
    except ImportError as error:
        raise UsageError("DICOM is read by the package mammo_hf", remedy=install()) from error
    # a bytearray as bytes, a path as a Path: the reader takes those
    readable = bytes(source) if isinstance(source, bytearray) else Path(source) if isinstance(source, str) else source
    return dicom.read_mammogram(readable, **asdict(display), **choices)


def _from_picture(picture: Image.Image) -> np.ndarray:
    if picture.mode in ("I;16", "I;16B", "I;16L"):
        return _from_array(np.asarray(picture).astype(np.uint16))
    if picture.mode == "I":
        return _from_array(np.clip(np.asarray(picture), 0, 65535).astype(np.uint16))
    return _from_array(np.asarray(picture.convert("L")))


def _from_array(array: np.ndarray) -> np.ndarray:
    if array.ndim == 3 and array.shape[0] in (1, 3):
        array = array.mean(axis=0) if array.dtype.kind == "f" else array.mean(axis=0).astype(array.dtype)
    elif array.ndim == 3 and array.shape[-1] in (1, 3):
        array = array.mean(axis=-1) if array.dtype.kind == "f" else array.mean(axis=-1).astype(array.dtype)
    if array.ndim != 2 or 0 in array.shape:
        raise UsageError(
            f"an array of shape {array.shape} is not an image",
            remedy="give (rows, columns), or one with 1 or 3 channels first or last",
        )
    if array.dtype.kind in "ub":
        return array.astype(np.float32) / np.float32(1 if array.dtype.kind == "b" else np.iinfo(array.dtype).max)
    if array.dtype.kind != "f" or not np.isfinite(array).all() or array.min() < 0 or array.max() > 1:
        raise UsageError(
            f"an array of {array.dtype} must hold finite intensities in [0, 1]",
            remedy="give unsigned integers over their full range, or divide by your data's own maximum",
        )
    return array.astype(np.float32)
