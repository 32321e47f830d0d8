"""Opened images of any kind: their size, and the displayed intensity of any part of them.

DICOM is read by the installed package alone; arrays and pictures need nothing of it.
"""

from __future__ import annotations

import importlib
import io
import math
import os
import re
import stat
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
from PIL import Image, UnidentifiedImageError

from ..dicom.display import MAX_PIXELS, Display, Slab
from ..errors import DataError, UsageError, install, refusing
from ..files import START, sniff
from ..isolation import isolated
from ..notes import Note
from .upright import upright_by_header

if TYPE_CHECKING:
    from .breast import Breast
    from .geometry import Geometry

_STEPS = 65535  # intensities of a picture that are distinguished
_GLANCE = 512  # pixels of the longest side of the view that is measured for a display
# pixels of the longest side: a smaller image is decoded in little time, and on films of this size the breast that is
# found depends on the noise, which a halved image has less of
LEAST_HALVED = 2048
# pixels of the longest side in which the breast is looked for: at a smaller level the skin line is blurred, which the
# notes on doubtful breasts take for tissue outside of the mask
_LOOKED_AT = 1024
# pixels that are decoded per canvas pixel, at least, on each axis: at 1/2, and at 1/4 and less. The noise of real
# images allows no less, if the picture is to be within rms .0015 at 1/2 and .004 at 1/4
_FINER = (1.7, 1.3)
_FORMATS = ("PNG", "JPEG", "PPM", "TIFF")
_SPACE = rb"(?:\s|#[^\n]*\n)+"
_PGM = re.compile(
    rb"(?P<kind>P[25])" + _SPACE + rb"(?P<columns>\d{1,6})" + _SPACE + rb"(?P<rows>\d{1,6})" + _SPACE
    + rb"(?P<largest>\d{1,6})(?=\s)"
)  # fmt: skip
_ROUNDING = 2.5 / 255  # how far the channels of a gray picture are apart after a conversion of colour spaces
_OBLIQUE = ("MLO", "LMO", "ML", "LM", "SIO", "ISO")  # views in which the pectoral muscle fills an upper corner


class ImageSource:
    """An opened image.

    Attributes:
        size: (height, width) in pixels.
        name: Name of what the image was read from, for messages; ``None`` for an array or a PIL image.
        mammogram: Content of a DICOM file; ``None`` for a picture or an array.
        laterality: Side of the breast, "L", "R" or "B"; "" if it is not known.
        projection: View, such as "MLO"; "" if it is not known.
        spacing_mm: (row, column) size of a pixel in mm; ``None`` if the header does not give it.
        notes: Notes on the header; those on the picture are `Breast.notes`.
        decoded: Way that the pixels were decoded that were drawn last: "exact", "1/2", "1/4", ...; "" before.
    """

    def __init__(
        self,
        intensity: np.ndarray | None = None,
        mammogram: Any = None,
        slab: Slab | None = None,
        name: str | None = None,
    ) -> None:
        self._slab = slab or Slab()
        self.decoded = ""
        if mammogram is not None and mammogram.header.frames > 1:
            intensity = mammogram.slab(self._slab)  # once, not for each part that is read
        self._intensity = intensity
        self.mammogram = mammogram
        self.name = name if mammogram is None else mammogram.source
        self.size: tuple[int, int] = (
            (mammogram.header.rows, mammogram.header.columns) if intensity is None else intensity.shape
        )
        header = None if mammogram is None else mammogram.header
        self.laterality = "" if header is None else str(header.laterality.value)
        self.projection = "" if header is None else str(header.view.value)
        self.spacing_mm: tuple[float, float] | None = None if header is None else header.spacing_mm
        self.notes: tuple[Note, ...] = () if header is None else header.contradictions

    def override(self, laterality: str = "", projection: str = "") -> None:
        """Take side and view from the user in place of the header's, where they are given; a note says so."""
        given = {"laterality": laterality, "view": projection}
        facts = ", ".join(f"{name} {value}" for name, value in given.items() if value)
        if facts:
            self.laterality, self.projection = laterality or self.laterality, projection or self.projection
            self.notes = (*self.notes, Note("overridden", facts=facts))

    @property
    def expected_chest_wall(self) -> str | None:
        """Side of the image, as displayed by convention: the left breast's chest wall is at the left edge."""
        return {"L": "left", "R": "right"}.get(self.laterality)

    @property
    def upright(self) -> tuple[str, str] | None:
        """Orientation and chest wall by PatientOrientation, see `upright_by_header`; ``None`` if it does not say."""
        return None if self.mammogram is None else upright_by_header(self.mammogram.header.orientation, self.laterality)

    @property
    def shows_muscle(self) -> bool:
        """Whether the view is the medio-lateral oblique one."""
        return self.projection == "MLO"

    @property
    def may_show_pectoral(self) -> bool:
        """Whether the view is oblique, lateral or not known."""
        return self.projection in ("", *_OBLIQUE)

    @property
    def levels(self) -> int:
        """Number of times that the image may be halved while it is decoded; 0: it is read whole."""
        small = max(self.size) < LEAST_HALVED
        return 0 if self._intensity is not None or small else getattr(self.mammogram, "levels", 0)

    def view(self, rows: slice, columns: slice | None = None, level: int = 0) -> np.ndarray:
        """Return the intensity in [0, 1] of a part.

        Args:
            rows: Rows of the image at the level.
            columns: Columns; ``None``: the same slice as for the rows.
            level: Number of times that the image is halved, at most `levels`.

        Returns:
            float32 (rows, columns).
        """
        columns = rows if columns is None else columns
        if self._intensity is not None:
            return self._intensity[rows, columns]
        return np.asarray(self.mammogram.intensity(frame=0, rows=rows, columns=columns, level=level))

    def placed(self, geometry: Geometry, shown: Breast | None) -> np.ndarray:
        """Return the intensity on the canvas of a geometry, float32 (height, width), and set `decoded`.

        Args:
            geometry: Geometry from the image to the canvas.
            shown: Breast outside of which nothing is seen; ``None``: all is.
        """
        level = level_for(max(geometry.scale), self._glanced)
        self.decoded = f"1/{1 << level}" if level else "exact"
        return geometry.place_strips(lambda rows: _strip(self, geometry, shown, rows, level), level)

    def tabulated(self, rows: slice, columns: slice) -> tuple[np.ndarray, np.ndarray, int]:
        """Return a part of the image as integers, and the intensity of each of them.

        Of a single frame of a DICOM file they are its stored values. Of a picture or slab they are its intensities in
        order, in 65,536 steps at most.

        Returns:
            Integers (rows, columns); intensities float32, those of ``first``, ``first + 1``, ...; ``first``.
        """
        if self._intensity is None:
            table = self.mammogram.tables[0]
            return self.mammogram.frame(0)[rows, columns], table.values, table.first_stored_value
        intensity = self._intensity[rows, columns]
        steps = np.rint(intensity * _STEPS).astype(np.uint16)
        table = np.zeros(_STEPS + 1, np.float32)
        table[steps] = intensity
        there = np.bincount(steps.ravel(), minlength=_STEPS + 1) > 0
        return (np.cumsum(there) - 1).astype(np.uint16)[steps], table[there], 0

    def glance(self, longest: int) -> tuple[np.ndarray, int]:
        """Return every n-th pixel so that the longest side has ``longest`` or up to twice as many, and n.

        Of an image that is halved while it is decoded they are the samples nearest to these pixels.
        """
        stride, level = max(1, max(self.size) // longest), self._glanced
        every = slice(None, None, stride)
        if not level:
            return self.view(every), stride
        low = self.view(slice(None), level=level)
        rows, columns = (
            np.minimum(np.rint(np.arange(0, side, stride) / (1 << level)).astype(np.intp), most - 1)
            for side, most in zip(self.size, low.shape, strict=True)
        )
        return low[rows[:, None], columns], stride

    def read_whole(self) -> None:
        """Read the image exactly from now on."""
        self.mammogram = replace(self.mammogram, levels=0)

    @property
    def _glanced(self) -> int:
        """The level that the breast is looked for at; none that is smaller is drawn, as this one is decoded already."""
        return self.mammogram.stored.level_of(_LOOKED_AT) if self.levels else 0

    @property
    def rule(self) -> str:
        """Description of the rule that displays the values."""
        return "the picture" if self.mammogram is None else self.mammogram.intensity_source

    def show_robustly(self) -> None:
        """Display a DICOM image as if it had no window, and a picture from its darkest to its brightest values."""
        if self.mammogram is not None:
            self.mammogram = self.mammogram.displayed(Display(window=None))
            if self._intensity is not None:
                self._intensity = self.mammogram.slab(self._slab)
            return
        assert self._intensity is not None
        step = max(1, max(self.size) // _GLANCE)
        low, high = np.percentile(self._intensity[::step, ::step], (0.5, 99.5))
        if high > low:
            self._intensity = np.clip((self._intensity - low) / (high - low), 0, 1).astype(np.float32)


class Drawable(Protocol):
    """A source of intensities that a processor draws: an `ImageSource`, or an image of a native store."""

    def placed(self, geometry: Geometry, shown: Breast | None) -> np.ndarray:
        """Return the intensity on the canvas of a geometry, as of `ImageSource`."""
        ...


def level_for(scale: float, levels: int) -> int:
    """Return the highest level of an image that is halved while it is decoded that is fine enough for a canvas.

    Args:
        scale: Canvas pixels per pixel of the image.
        levels: Number of times that the image may be halved.
    """
    fine = [level for level in range(1, levels + 1) if scale * _FINER[level > 1] * (1 << level) <= 1]
    return max(fine, default=0)


def _strip(
    source: ImageSource, geometry: Geometry, shown: Breast | None, rows: slice, level: int
) -> tuple[np.ndarray, int]:
    """Return some rows of the crop, or of a source that was halved, without columns that are blanked.

    Returns:
        The pixels, and the index of the first column.
    """
    step = 1 << level
    top, left, _, right = geometry.crop if not level else (0, 0, 0, -(-source.size[1] >> level))
    rows = slice(top + rows.start, top + rows.stop)
    if shown is None:
        return source.view(rows, slice(left, right), level), 0
    # a canvas pixel is kept by its centre; the source under it reaches half its size further
    reach_down, reach_across = (math.ceil(1 / scale) + step - 1 for scale in geometry.scale)
    columns = shown.columns_of(slice(max(0, rows.start * step - reach_down), rows.stop * step + reach_down))
    first = min(max(left, (columns.start - reach_across) // step), right)
    last = max(first, min(right, -(-(columns.stop + reach_across) // step)))
    return source.view(rows, slice(first, last), level), first - left


def open_image(image: Any, *, display: Display | None = None, slab: Slab | None = None, **choices: bool) -> ImageSource:
    """Open an image.

    Args:
        image: Path, bytes, ``Mammogram``, pydicom ``Dataset``, array, tensor, PIL image, or a dict of ``path`` and
            ``bytes``, as `datasets` gives a file that it does not decode.
        display: Display of the values of a DICOM file; a ``Mammogram`` is taken as it was read.
        slab: Slices of a volume that make the picture; ``None``: the middle one.
        choices: Further options of `mammo_hf.read_mammogram`: ``use_descriptions``, ``any_anatomy``.

    Raises:
        UsageError: The kind of image is not known, or its shape or values are impossible.
        MammoError: A file cannot be read.
    """
    if is_undecoded(image):
        image = image["path"] if image.get("bytes") is None else image["bytes"]
    picture = _open_picture(image)
    if picture is not None:
        return picture
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


def is_undecoded(image: Any) -> bool:
    """Return whether an image is a file that `datasets` has not decoded: a dict of ``path`` and ``bytes``."""
    return isinstance(image, dict) and set(image) <= {"path", "bytes"} and any(map(image.get, image))


def _open_picture(image: Any) -> ImageSource | None:
    """Open a PIL image, or a file or bytes that begin as a picture does; ``None`` for anything else."""
    if isinstance(image, Image.Image):
        with refusing("the picture"):
            return ImageSource(_from_picture(image))
    if not isinstance(image, (str, os.PathLike, bytes, bytearray)) or not is_picture(image):
        return None
    content = bytes(image) if isinstance(image, (bytes, bytearray)) else os.fspath(image)
    name = "<bytes>" if isinstance(content, bytes) else content
    with refusing(name):
        return ImageSource(isolated(_read_intensity, content), name=name)


def is_picture(source: str | os.PathLike[str] | bytes | bytearray) -> bool:
    """Return whether a file, or its content, begins as a PNG, JPEG, PGM or TIFF does."""
    if isinstance(source, (bytes, bytearray)):
        return sniff(bytes(source[:START])) == "picture"
    try:
        # a FIFO would be waited for
        if not stat.S_ISREG(os.stat(source).st_mode):
            return False
        with open(source, "rb") as file:
            return sniff(file.read(START)) == "picture"
    except (OSError, ValueError):
        return False  # the reader says what is wrong with it


def read_levels(source: str | bytes) -> np.ndarray:
    """Read a PNG, JPEG, PGM or TIFF as 256 grey levels, which is enough of a mask.

    Args:
        source: Path of the file, or its content.

    Returns:
        uint8 (rows, columns).

    Raises:
        DataError: The picture is damaged, cut off or too large.
    """
    with refusing("<bytes>" if isinstance(source, bytes) else source):
        return isolated(_read_levels, source)


def picture_size(path: str) -> tuple[int, int]:
    """Read the size (rows, columns) of a PNG, JPEG, PGM or TIFF, from its header alone.

    Raises:
        DataError: It is not a picture, or is damaged.
    """
    with refusing(path), _opened(path) as picture:
        return picture.height, picture.width


# These two are what runs in a reader process.


def _read_intensity(source: str | bytes) -> np.ndarray:
    content = source if isinstance(source, bytes) else b""
    if not content:
        with open(source, "rb") as file:
            start = file.read(2)
            content = start + file.read() if start in (b"P2", b"P5") else b""
    if content[:2] in (b"P2", b"P5"):
        with _damage():
            return _from_pgm(content)
    with _opened(source) as picture:
        return _from_picture(picture)


def _read_levels(source: str | bytes) -> np.ndarray:
    with _opened(source) as picture:
        return np.asarray(picture.convert("L"))


@contextmanager
def _opened(source: str | bytes) -> Iterator[Image.Image]:
    """Open a picture that has no more than `MAX_PIXELS`; what Pillow raises on it becomes a DataError."""
    if not isinstance(source, bytes) and not stat.S_ISREG(os.stat(source).st_mode):
        raise DataError("is not a regular file", remedy="give the path of one picture", code="missing")
    with _damage(), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # on sizes, which are checked, and damaged tags, which are quoted
        with Image.open(io.BytesIO(source) if isinstance(source, bytes) else source, formats=_FORMATS) as picture:
            if picture.width * picture.height > MAX_PIXELS:
                raise Image.DecompressionBombError
            yield picture


@contextmanager
def _damage() -> Iterator[None]:
    try:
        yield
    except (DataError, UsageError, MemoryError):
        raise
    except Image.DecompressionBombError:
        problem, code = "the picture has more pixels than any mammogram", "hostile"
        raise DataError(problem, remedy="leave it out", code=code) from None
    except UnidentifiedImageError:
        problem, remedy = "the picture is damaged, or of a kind that Pillow does not read", "save it as 16-bit PNG"
        raise DataError(problem, remedy=remedy, code="unsupported") from None
    except Exception:
        raise DataError("the picture is damaged or cut off", remedy="copy the file again") from None


def _read_dicom(source: Any, display: Display, choices: dict[str, bool]) -> Any:
    try:
        dicom = importlib.import_module("mammo_hf.dicom")
    except ImportError as error:
        raise UsageError("DICOM is read by the package mammo_hf", remedy=install()) from error
    # a bytearray as bytes, a path as a Path: the reader takes those
    readable = bytes(source) if isinstance(source, bytearray) else Path(source) if isinstance(source, str) else source
    return dicom.read_mammogram(readable, **asdict(display), **choices)


# Pictures: exact, or refused with what to do.

_SIXTEEN_BITS = ("I;16", "I;16B", "I;16L", "I;16N")
_MIN_IS_WHITE, _BITS, _INTERPRETATION = 0, 258, 262  # PhotometricInterpretation and BitsPerSample of TIFF 6.0


def _from_picture(picture: Image.Image) -> np.ndarray:
    """Return the intensity of a PIL image: each value divided by the largest one that its bits can hold."""
    tags = getattr(picture, "tag_v2", {})
    modes = {str(tile[3][0] if isinstance(tile[3], tuple) else tile[3]) for tile in getattr(picture, "tile", ())}
    if getattr(picture, "n_frames", 1) > 1:
        raise _unsupported("holds several pictures", "save each of them as a file of its own")
    if picture.mode in _SIXTEEN_BITS:
        values = np.asarray(picture).astype(np.uint16)
        bits = int(np.max(tags.get(_BITS, 16)))  # a TIFF of 12 bits has this mode, too
        intensity = values.astype(np.float32) / np.float32((1 << bits) - 1)
        return 1 - intensity if tags.get(_INTERPRETATION) == _MIN_IS_WHITE else intensity
    if picture.mode == "I" and picture.format in ("PNG", "PPM"):  # 16 bits, as some versions of Pillow open them
        return _from_array(np.asarray(picture).astype(np.uint16))
    if picture.mode == "I":
        raise _unsupported("holds integers of 32 bits or with a sign, whose full range is not known", _SAVE_16)
    if picture.mode == "F":
        return _from_floats(np.asarray(picture))
    if any("16" in mode for mode in modes):
        raise _unsupported("has several channels of 16 bits, of which Pillow reads 8", _SAVE_16)
    if picture.mode in ("1", "L"):
        return _from_array(np.asarray(picture))
    alpha = picture.mode in ("LA", "La", "PA", "RGBA", "RGBa") or "transparency" in picture.info
    if alpha and np.asarray(picture.convert("RGBA"))[..., 3].min() < 255:
        raise _unsupported("is transparent in parts", "save it in grayscale without an alpha channel")
    try:
        channels = np.asarray(picture.convert("RGB"))
    except ValueError:
        raise _in_colour() from None
    return _from_array(_gray(channels, -1))


def _from_floats(values: np.ndarray) -> np.ndarray:
    if not np.isfinite(values).all() or values.min() < 0 or values.max() > 1:
        raise _unsupported("holds floating-point values outside [0, 1]", _SAVE_16)
    return values.astype(np.float32)


_SAVE_16 = "save it as 16-bit grayscale, its values divided by the largest that your data can hold and times 65535"


def _unsupported(problem: str, remedy: str) -> DataError:
    return DataError(f"the picture {problem}", remedy=remedy, code="unsupported")


def _from_pgm(content: bytes) -> np.ndarray:
    """Return the intensity of a PGM file, text or binary: each value divided by the file's own largest one.

    Pillow rounds values to 255 or 65535 steps; the format is https://netpbm.sourceforge.net/doc/pgm.html.

    Raises:
        ValueError: The file is damaged or cut off.
    """
    header = _PGM.match(content)
    if header is None:
        raise ValueError("no PGM header")
    columns, rows, largest = (int(header[name]) for name in ("columns", "rows", "largest"))
    if not 1 <= largest <= 65535 or not 1 <= rows * columns <= MAX_PIXELS:
        raise ValueError("impossible size")
    if header["kind"] == b"P5":
        dtype = np.dtype(">u2" if largest > 255 else "u1")
        values = np.frombuffer(content, dtype, rows * columns, header.end() + 1)
    else:
        text = re.sub(rb"#[^\n]*", b"", content[header.end() :])
        if not re.fullmatch(rb"\s*\d[\s\d]*", text):
            raise ValueError("not numbers")
        values = np.fromstring(text, np.int64, sep=" ")[: rows * columns]
    if values.size != rows * columns or values.min() < 0 or values.max() > largest:
        raise ValueError("cut off, or a value above the largest one")
    return (values.reshape(rows, columns) / np.float64(largest)).astype(np.float32)


def _in_colour() -> DataError:
    return _unsupported("is in colour", "leave it out, or convert it to grayscale if that is right")


def _gray(array: np.ndarray, axis: int) -> np.ndarray:
    """Return the one channel of an array whose channels are equal up to the rounding of a colour conversion.

    Args:
        array: Picture with 1 or 3 channels.
        axis: Axis of the channels.

    Raises:
        DataError: The channels differ: false colour does not give the intensity.
    """
    first, *others = np.moveaxis(array, axis, 0)
    scale = 1.0 if array.dtype.kind in "fb" else float(np.iinfo(array.dtype).max)
    for channel in others:
        if float(np.max(np.maximum(first, channel) - np.minimum(first, channel), initial=0)) / scale > _ROUNDING:
            raise _in_colour()
    return others[0] if others else first


def _from_array(array: np.ndarray) -> np.ndarray:
    if array.ndim == 3 and (array.shape[0] in (1, 3) or array.shape[-1] in (1, 3)):
        # a picture may be 1 or 3 pixels wide or high, too: three channels are more likely than one
        array = _gray(array, 0 if array.shape[0] == 3 or (array.shape[0] == 1 and array.shape[-1] != 3) else -1)
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
