"""MammoImageProcessor: everything that happens to pixels between a file and the model's tensor.

Only flat sibling files are imported, so that the processor can be pushed as remote code. DICOM is read by the
installed package alone.
"""

from __future__ import annotations

import importlib
import io
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, UnidentifiedImageError
from transformers import BatchFeature
from transformers.image_processing_utils import BaseImageProcessor

from .breast import LONGEST_SIDE, find_breast
from .errors import DataError, UsageError
from .geometry import Geometry
from .masking import BlockwiseMasking

FORMAT_VERSION = 1
_PICTURES = (b"\x89PNG\r\n\x1a\n", b"\xff\xd8\xff", b"P5\n", b"P5 ")  # PNG, JPEG, PGM
# what transformers itself writes into a preprocessor_config.json or passes on loading
_TRANSFORMERS_KEYS = {
    "image_processor_type",
    "processor_class",
    "feature_extractor_type",
    "auto_map",
    "_processor_class",
}


class MammoImageProcessor(BaseImageProcessor):
    r"""Turns mammograms into model input: intensity, breast crop, orientation, fit, padding, normalisation.

    Args:
        size: {"height", "width"} of the model's input in pixels; an int or (height, width) is taken too.
        num_channels: 1, or 3 with the same values in each.
        image_mean: Subtracted from the intensity in [0, 1]; one number in a list.
        image_std: What the difference is divided by; one number in a list.
        crop_to_breast: Whether to cut the image down to the breast.
        orient: Whether to mirror images so that the chest wall is at the left edge.
        mask_block_size: Side in pixels of the blocks that ``return_mask`` hides.
        mask_ratio: Share of the blocks that is hidden.
        patch_size: Side in pixels of the encoder's patches.
        format_version: Of ``preprocessor_config.json``.

    Raises:
        UsageError: A value that makes no sense, an unknown key, or a file of a newer format.
    """

    model_input_names = ["pixel_values"]  # noqa: RUF012 (transformers declares it so)

    def __init__(
        self,
        size: dict[str, int] | Sequence[int] | int | None = None,
        num_channels: int = 1,
        image_mean: Sequence[float] = (0.25,),
        image_std: Sequence[float] = (0.25,),
        crop_to_breast: bool = True,
        orient: bool = True,
        mask_block_size: int = 16,
        mask_ratio: float = 0.5,
        patch_size: int = 4,
        format_version: int = FORMAT_VERSION,
        **kwargs: Any,
    ) -> None:
        unknown = sorted(set(kwargs) - _TRANSFORMERS_KEYS)
        if unknown or format_version > FORMAT_VERSION:
            what = f"unknown keys {', '.join(unknown)}" if unknown else f"format_version {format_version}"
            raise UsageError(
                what,
                source="preprocessor_config.json",
                remedy="was it saved by a newer mammo_hf? Then upgrade this one",
            )
        super().__init__(**kwargs)
        self.size = _size_dict({"height": 896, "width": 448} if size is None else size)
        if num_channels not in (1, 3):
            raise UsageError(f"num_channels is {num_channels}", remedy="use 1, or 3 for a model of colour images")
        if len(image_mean) != 1 or len(image_std) != 1 or image_std[0] <= 0:
            raise UsageError("image_mean and image_std are one number each in a list, image_std above 0")
        self.num_channels = num_channels
        self.image_mean = [float(image_mean[0])]
        self.image_std = [float(image_std[0])]
        self.crop_to_breast = crop_to_breast
        self.orient = orient
        self.mask_block_size = mask_block_size
        self.mask_ratio = mask_ratio
        self.patch_size = patch_size
        self.format_version = format_version
        self.masking()  # raises where block, ratio and patch do not go together

    def masking(self) -> BlockwiseMasking:
        """The masking that ``preprocessor_config.json`` describes."""
        return BlockwiseMasking(self.mask_block_size, self.mask_ratio, self.patch_size)

    def preprocess(
        self,
        images: Any,
        return_tensors: str | None = None,
        return_geometry: bool = False,
        return_mask: bool = False,
        mask_seed: int | None = None,
    ) -> BatchFeature:
        """Processes one image or a list of images.

        Args:
            images: A path, bytes, ``Mammogram``, pydicom ``Dataset``, array, tensor or PIL image, or a list of them.
            return_tensors: "pt", "np" or ``None``.
            return_geometry: Whether ``geometry``, a list of ``Geometry``, is wanted.
            return_mask: Whether ``bool_masked_pos`` (batch, patches) is wanted.
            mask_seed: Decides the masks, with each image's place in the list; needed with ``return_mask``.

        Returns:
            ``pixel_values`` float32 (batch, channels, height, width).

        Raises:
            UsageError: A mask without a seed, or an image of a kind that is not known.
            MammogramError: A file that cannot be read.
        """
        if return_mask and mask_seed is None:
            raise UsageError("return_mask needs mask_seed", remedy="give a number: a fixed one in evaluation")
        fitted = [self.fit(image) for image in (images if isinstance(images, (list, tuple)) else [images])]
        data: dict[str, Any] = {"pixel_values": [self.normalize_intensity(intensity) for intensity, _ in fitted]}
        if return_mask and mask_seed is not None:
            masking, canvas = self.masking(), (self.size["height"], self.size["width"])
            data["bool_masked_pos"] = [masking(canvas, seed=mask_seed, index=index) for index in range(len(fitted))]
        features = BatchFeature(data={key: np.stack(value) for key, value in data.items()}, tensor_type=return_tensors)
        if return_geometry:
            features["geometry"] = [geometry for _, geometry in fitted]
        return features

    def fit(self, image: Any) -> tuple[np.ndarray, Geometry]:
        """One image on the model's canvas, before normalisation.

        Returns:
            Intensity float32 (height, width) in [0, 1], 0 in the padding, and the geometry that led there.
        """
        source = _open(image)
        rows, columns = source.size
        crop, flip = (0, 0, rows, columns), False
        if self.crop_to_breast or self.orient:
            stride = max(1, max(rows, columns) // LONGEST_SIDE)
            breast = find_breast(source.view(slice(None, None, stride)), stride=stride, size=(rows, columns))
            crop = breast.box if self.crop_to_breast else crop
            flip = self.orient and (breast.chest_wall or source.expected_chest_wall) == "right"
        geometry = self._fit_geometry((rows, columns), crop, flip)
        top, left, bottom, right = crop
        return np.clip(geometry.place(source.view(slice(top, bottom), slice(left, right))), 0, 1), geometry

    def _fit_geometry(self, source: tuple[int, int], crop: tuple[int, int, int, int], flip: bool) -> Geometry:
        height, width = self.size["height"], self.size["width"]
        scale = min(height / (crop[2] - crop[0]), width / (crop[3] - crop[1]))
        resized = (
            min(max(round((crop[2] - crop[0]) * scale), 1), height),
            min(max(round((crop[3] - crop[1]) * scale), 1), width),
        )
        return Geometry(source, crop, flip, resized, ((height - resized[0]) // 2, 0), (height, width))

    def normalize_intensity(self, intensity: np.ndarray) -> np.ndarray:
        """(..., height, width) in [0, 1] to float32 (..., channels, height, width), mean and deviation applied."""
        values = (np.asarray(intensity, np.float32) - np.float32(self.image_mean[0])) / np.float32(self.image_std[0])
        return np.repeat(values[..., None, :, :], self.num_channels, axis=-3)

    def denormalize(self, pixel_values: np.ndarray) -> np.ndarray:
        """(..., channels, height, width) as the model sees it to intensity (..., height, width) in [0, 1]."""
        values = np.asarray(pixel_values, np.float32).mean(axis=-3)
        return np.clip(values * self.image_std[0] + self.image_mean[0], 0, 1)


class _Source:
    """An image of any kind: its size, and the displayed intensity of a part of it."""

    def __init__(self, intensity: np.ndarray | None = None, mammogram: Any = None) -> None:
        self._intensity = intensity
        self._mammogram = mammogram
        self.size: tuple[int, int] = mammogram.pixels.shape[1:] if intensity is None else intensity.shape
        self.expected_chest_wall = None
        if mammogram is not None:
            # as displayed by convention: the left breast with its chest wall at the image's left edge
            self.expected_chest_wall = {"L": "left", "R": "right"}.get(mammogram.header.laterality.value)

    def view(self, rows: slice, columns: slice | None = None) -> np.ndarray:
        columns = rows if columns is None else columns
        if self._intensity is not None:
            return self._intensity[rows, columns]
        return self._mammogram.intensity(frame=0, rows=rows, columns=columns)


def _open(image: Any) -> _Source:
    if isinstance(image, (str, os.PathLike)):
        return _open_file(Path(image))
    if isinstance(image, (bytes, bytearray)):
        return _open_bytes(bytes(image))
    if isinstance(image, Image.Image):
        return _Source(_from_picture(image))
    if hasattr(image, "intensity_table"):
        return _Source(mammogram=image)
    if hasattr(image, "file_meta") or hasattr(image, "PixelData"):
        return _Source(mammogram=_read_dicom(image))
    if hasattr(image, "__array__"):
        return _Source(_from_array(np.asarray(image)))
    raise UsageError(
        f"an image of type {type(image).__name__} cannot be read",
        remedy="give a path, bytes, a Mammogram, a pydicom Dataset, an array, a tensor or a PIL image",
    )


def _open_file(path: Path) -> _Source:
    try:
        with path.open("rb") as file:
            start = file.read(8)
    except OSError:
        start = b""  # the reader says what is wrong with it
    if start.startswith(_PICTURES):
        try:
            with Image.open(path) as picture:
                return _Source(_from_picture(picture))
        except (OSError, UnidentifiedImageError, SyntaxError) as error:
            raise DataError("the picture is damaged or cut off", source=path, remedy="copy the file again") from error
    return _Source(mammogram=_read_dicom(path))


def _open_bytes(content: bytes) -> _Source:
    if content.startswith(_PICTURES):
        with Image.open(io.BytesIO(content)) as picture:
            return _Source(_from_picture(picture))
    return _Source(mammogram=_read_dicom(content))


def _read_dicom(source: Any) -> Any:
    try:
        dicom = importlib.import_module("mammo_hf.dicom")
    except ImportError as error:
        raise UsageError("DICOM is read by the package mammo_hf", remedy="pip install mammo-hf") from error
    return dicom.read_mammogram(source)


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
            f"an array of shape {array.shape} is no image",
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


def _size_dict(size: dict[str, int] | Sequence[int] | int) -> dict[str, int]:
    if isinstance(size, int):
        height, width = size, size
    elif isinstance(size, dict):
        values = size
        if set(values) != {"height", "width"}:
            raise UsageError(f"size has the keys {sorted(values)}", remedy="give height and width")
        height, width = values["height"], values["width"]
    else:
        height, width = size
    if min(height, width) < 1:
        raise UsageError(f"size is {height} x {width}")
    return {"height": int(height), "width": int(width)}
