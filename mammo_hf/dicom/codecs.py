"""One compressed frame becomes an array: by imagecodecs, the extra ``codecs``, or by what pydicom finds installed."""

from __future__ import annotations

import importlib
from collections.abc import Callable
from functools import cache
from typing import Any

import numpy as np
from pydicom.encaps import encapsulate
from pydicom.pixels import get_decoder
from pydicom.uid import (
    HTJ2K,
    JPEG2000,
    UID,
    HTJ2KLossless,
    HTJ2KLosslessRPCL,
    JPEG2000Lossless,
    JPEGBaseline8Bit,
    JPEGExtended12Bit,
    JPEGLossless,
    JPEGLosslessSV1,
    JPEGLSLossless,
    JPEGLSNearLossless,
)

from .errors import MammogramError
from .image_pixel import ImagePixel

# retired processes 3 and 5, 10 and 12, which libjpeg-turbo reads with the others
_EXTENDED_3_5, _PROGRESSIVE = UID("1.2.840.10008.1.2.4.52"), UID("1.2.840.10008.1.2.4.55")
_JPEG = (JPEGBaseline8Bit, JPEGExtended12Bit, JPEGLossless, JPEGLosslessSV1, _EXTENDED_3_5, _PROGRESSIVE)
_IMAGECODECS: dict[UID, str] = {
    **dict.fromkeys(_JPEG, "jpeg8_decode"),  # libjpeg-turbo 3: 8 to 16 bits, DCT and lossless
    **dict.fromkeys((JPEGLSLossless, JPEGLSNearLossless), "jpegls_decode"),
    **dict.fromkeys((JPEG2000, JPEG2000Lossless), "jpeg2k_decode"),
    **dict.fromkeys((HTJ2K, HTJ2KLossless, HTJ2KLosslessRPCL), "htj2k_decode"),
}
# not gdcm, which ends the whole process on some damaged files
_PYDICOM_PLUGINS = ("pydicom", "pylibjpeg", "pyjpegls", "pillow")

CODECS = "pip install 'mammo-hf[codecs]' if it is missing, or convert the file to Explicit VR Little Endian"

Decode = Callable[[bytes, ImagePixel], np.ndarray]


def find_decoder(syntax: UID) -> Decode:
    """What decodes a frame of a transfer syntax to ``(rows, columns)``; it raises anything on damaged data.

    Raises:
        MammogramError: Nothing that is installed does.
    """
    library = _imagecodecs()
    name = _IMAGECODECS.get(syntax, "")
    if library is not None and name and getattr(library, name.removesuffix("_decode").upper()).available:
        decode = getattr(library, name)
        return lambda frame, image: decode(frame)
    plugin = _pydicom_plugin(syntax)
    if plugin is None:
        raise MammogramError(f"no installed decoder reads {syntax.name}", remedy=CODECS)
    return lambda frame, image: _by_pydicom(frame, image, syntax, plugin)


@cache
def _imagecodecs() -> Any:
    try:
        return importlib.import_module("imagecodecs")
    except ImportError:
        return None


def _pydicom_plugin(syntax: UID) -> str | None:
    try:
        available = get_decoder(syntax).available_plugins
    except NotImplementedError:
        return None
    return next((name for name in _PYDICOM_PLUGINS if name in available), None)


def _by_pydicom(frame: bytes, image: ImagePixel, syntax: UID, plugin: str) -> np.ndarray:
    # the unused bits are removed later, in one way for every syntax
    options: dict[str, Any] = {
        **{"allow_excess_frames": False, "correct_unused_bits": False, "pixel_keyword": "PixelData"},
        **{"number_of_frames": 1, "rows": image.rows, "columns": image.columns, "samples_per_pixel": 1},
        **{"bits_allocated": image.bits_allocated, "bits_stored": image.bits_stored},
        **{"pixel_representation": int(image.signed), "photometric_interpretation": image.photometric.value},
    }
    data = encapsulate([frame], has_bot=False)
    values, _ = get_decoder(syntax).as_array(data, raw=True, decoding_plugin=plugin, **options)
    return values
