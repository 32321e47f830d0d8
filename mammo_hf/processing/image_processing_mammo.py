"""The image processor: everything that happens to pixels between a file and the model's tensor.

Only flat sibling files are imported, so that the processor can be pushed as remote code. DICOM is read by the
installed package alone.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from transformers import BatchFeature
from transformers.image_processing_utils import BaseImageProcessor

from ..dicom.display import MAX_PIXELS, Display, Slab
from ..errors import DataError, UsageError, check_choice, check_json_object, did_you_mean, refusing
from ..notes import Note, codes
from .breast import DOUBTS, LONGEST_SIDE, MARGIN, Breast, sampled
from .geometry import ORIENTATIONS, Geometry, fitted
from .image_source import Drawable, ImageSource, open_image
from .masking import BlockwiseMasking
from .upright import POLICIES, find_upright_breast

# of preprocessor_config.json: raised if the same keys would give other pixels. Files of other versions are refused:
# their models were trained on other pixels. A key that is added changes nothing by default, and an earlier version
# refuses a file that has it, as it does not know the key
FORMAT_VERSION = 3
_FILE = "preprocessor_config.json"
# how images are read: what commands and functions take in place of a processor's own settings
SETTINGS = (
    *("window", "prefer", "on_missing_window", "on_missing_end", "on_useless_display", "orientation"),
    *("use_descriptions", "any_anatomy", "tomosynthesis", "invert_negatives", "blank_pectoral_muscle"),
    *("equalize_ranks", "decode"),
)
_ON_USELESS = ("note", "robust", "raise")
_USUAL_KINDS = ("2D", "film")  # of a model whose training images do not say their kind
_LEAST_SEEN = 0.0625  # fraction of the intensities, from the 5th to the 95th percentile of the breast
# what transformers itself writes into a preprocessor_config.json or passes on loading
_TRANSFORMERS_KEYS = {
    "image_processor_type",
    "processor_class",
    "feature_extractor_type",
    "auto_map",
    "_processor_class",
}


class MammoImageProcessor(BaseImageProcessor):
    r"""The steps from mammograms to model input: intensity, breast crop, orientation, fit, padding, normalisation.

    Args:
        size: Size of the model's input in pixels, {"height", "width"}; an int or (height, width) is accepted too.
        num_channels: Number of channels, 1, or 3 with the same values in each.
        image_mean: Number that is subtracted from the intensity in [0, 1], in a list.
        image_std: Number that the difference is divided by, in a list.
        crop_to_breast: Whether to cut the image down to the breast.
        crop_margin: Space that is kept around the breast, as a fraction of the image's longer side.
        blank_outside_breast: Whether everything outside the breast and ``crop_margin`` around it becomes 0: film
            labels, burned-in text, scanner edges.
        blank_pectoral_muscle: Whether the pectoral muscle becomes 0, in oblique and lateral views and if the view is
            not known.
        invert_negatives: Whether an image with dark tissue on a bright background is inverted.
        equalize_ranks: Whether each intensity above 0 becomes the fraction of those of the image that are not above it,
            so that scanners that show the same tissue in other tones give the same image.
        orient: Whether to mirror images so that the chest wall is at the left edge.
        orientation: Decision on an image that is stored upside down or on its side by its PatientOrientation:
            "agreeing" to turn it if the picture shows the same, "header" to turn it without looking, "ignore" to leave
            it.
        use_descriptions: Whether side and view may be taken from free text of a DICOM file.
        any_anatomy: Whether images are taken that are not of a breast by their header, and projections and single
            slices of a tomosynthesis.
        on_missing_window: Display of DICOM files that are For Processing or have no window: "robust", "full_range", or
            "raise" to refuse them. A ``Mammogram`` is taken as it was read.
        on_missing_end: Treatment of compressed frames without their end marker: "raise" refuses them as cut short,
            "note" reads what is there.
        window: Choice among several windows or VOI LUTs of a DICOM file: the index, or the explanation, as "SOFTER".
            "NORMAL" takes the first if none has that explanation. A file without the chosen one is refused.
        prefer: Choice if a DICOM file has both, "lut" or "window".
        on_useless_display: Decision if the rule that displays an image spreads its breast over less than a sixteenth of
            the intensities, so that it is white, black or gray all over: "note", "robust" to display it as if it had no
            window (a picture: from its darkest to its brightest values), or "raise" to refuse it.
        tomosynthesis: Slices of a volume that make the picture: {"slices": ..., "projection": ...}, or the former
            alone. slices: "middle", "all", an index, or [start, stop]; projection of several: "maximum" or "mean".
        decode: Way of reading JPEG 2000 and HTJ2K: "exact", or "fast" to leave out the finest levels of the wavelet
            transform that the model's input does not show. Images of other kinds, and those where that could be seen,
            are read exactly. ``ImageSource.decoded`` says what was done.
        native_crops: Whether ``size`` is that of crops at the image's own resolution, which training takes from a
            native store; images of files are refused then.
        mask_block_size: Side in pixels of the blocks that ``return_mask`` hides.
        mask_ratio: Fraction of the blocks that is hidden.
        patch_size: Side in pixels of the encoder's patches.
        image_kinds: Kinds of DICOM image that the model was trained on, such as "2D" or "film"; an image of another
            kind, or of a breast with an implant, is noted. Empty if they are not known, as of pictures without a
            header; ``None`` before training, without notes.
        format_version: Version of the ``preprocessor_config.json`` that is read; any other than the present one is
            refused.

    Raises:
        UsageError: A value makes no sense, a key is unknown, or the file is of another format.
    """

    model_input_names = ["pixel_values"]  # noqa: RUF012 (transformers declares it so)

    def __init__(
        self,
        size: dict[str, int] | Sequence[int] | int | None = None,
        num_channels: int = 1,
        image_mean: Sequence[float] = (0.25,),
        image_std: Sequence[float] = (0.25,),
        crop_to_breast: bool = True,
        crop_margin: float = MARGIN,
        blank_outside_breast: bool = True,
        blank_pectoral_muscle: bool = False,
        invert_negatives: bool = True,
        equalize_ranks: bool = False,
        orient: bool = True,
        orientation: str = "agreeing",
        use_descriptions: bool = True,
        any_anatomy: bool = False,
        on_missing_window: str = "robust",
        on_missing_end: str = "raise",
        window: int | str = "NORMAL",
        prefer: str = "lut",
        on_useless_display: str = "note",
        tomosynthesis: dict[str, Any] | str | int = "middle",
        decode: str = "exact",
        native_crops: bool = False,
        mask_block_size: int = 16,
        mask_ratio: float = 0.5,
        patch_size: int = 4,
        image_kinds: Sequence[str] | None = None,
        format_version: int = FORMAT_VERSION,
        **kwargs: Any,
    ) -> None:
        _check_keys(format_version, kwargs, _FILE)
        super().__init__(**kwargs)
        self.size = _size_dict({"height": 896, "width": 448} if size is None else size)
        if num_channels not in (1, 3):
            raise UsageError(f"num_channels is {num_channels}", remedy="use 1, or 3 for a model of colour images")
        if len(image_mean) != 1 or len(image_std) != 1 or image_std[0] <= 0:
            raise UsageError("image_mean and image_std are one number each in a list, image_std above 0")
        self.num_channels = num_channels
        self.image_mean = [float(image_mean[0])]
        self.image_std = [float(image_std[0])]
        if not 0 <= crop_margin <= 1:
            raise UsageError(
                f"crop_margin is {crop_margin}", remedy="give a fraction of the image's longer side, as 0.02"
            )
        self.crop_to_breast = crop_to_breast
        self.crop_margin = crop_margin
        self.blank_outside_breast = blank_outside_breast
        self.blank_pectoral_muscle = blank_pectoral_muscle
        self.invert_negatives = invert_negatives
        self.equalize_ranks = equalize_ranks
        self.orient = orient
        check_choice("orientation", orientation, POLICIES)
        self.orientation, self.use_descriptions, self.any_anatomy = orientation, use_descriptions, any_anatomy
        self.on_missing_window, self.on_missing_end = on_missing_window, on_missing_end
        self.window, self.prefer, self.decode = window, prefer, decode
        _ = self.display  # raises if one of these makes no sense
        check_choice("on_useless_display", on_useless_display, _ON_USELESS)
        self.on_useless_display = on_useless_display
        self.tomosynthesis = Slab.from_policy(tomosynthesis).to_policy()
        self.native_crops = native_crops
        self.mask_block_size = mask_block_size
        self.mask_ratio = mask_ratio
        self.patch_size = patch_size
        self.image_kinds = None if image_kinds is None else list(image_kinds)
        self.format_version = FORMAT_VERSION
        self.masking()  # raises if block, ratio and patch do not fit together

    @classmethod
    def get_image_processor_dict(cls, *args: Any, **kwargs: Any) -> tuple[dict[str, Any], dict[str, Any]]:
        """Read ``preprocessor_config.json`` as transformers does, but refuse a damaged one by its name.

        Raises:
            DataError: A file on this machine holds no settings.
            UsageError: The file is of another format.
        """
        path = Path(args[0] if args else "", kwargs.get("subfolder") or "")
        check_json_object(path / _FILE if path.is_dir() else path)
        found, rest = super().get_image_processor_dict(*args, **kwargs)
        if not found:
            raise DataError("holds no settings", source=path / _FILE, remedy="copy or download the file again")
        _check_keys(found.get("format_version", FORMAT_VERSION), {}, f"{args[0]}/{_FILE}" if args else _FILE)
        return found, rest

    @classmethod
    def from_dict(cls, *args: Any, **kwargs: Any) -> Any:
        """Make a processor as transformers does.

        Raises:
            DataError: A setting has a value that it cannot have, as in a damaged file.
        """
        with refusing(_FILE):
            return super().from_dict(*args, **kwargs)

    def with_settings(self, settings: Mapping[str, Any] | None) -> MammoImageProcessor:
        """Return the processor with other settings of how images are read.

        Args:
            settings: Values of some of `SETTINGS`, such as ``{"orientation": "header"}``; ``None``: none.

        Raises:
            UsageError: A setting is not one of these, or has a wrong value.
        """
        for name in settings or {}:
            if name not in SETTINGS:
                remedy = f"{did_you_mean(name, SETTINGS)}use {', '.join(SETTINGS)}"
                raise UsageError(f"{name!r} is not a setting of how images are read", remedy=remedy)
        return type(self).from_dict(self.to_dict() | dict(settings)) if settings else self

    @property
    def canvas(self) -> tuple[int, int]:
        """(height, width) of the model's input in pixels."""
        return self.size["height"], self.size["width"]

    def masking(self) -> BlockwiseMasking:
        """Return the masking that ``preprocessor_config.json`` describes."""
        return BlockwiseMasking(self.mask_block_size, self.mask_ratio, self.patch_size)

    @property
    def display(self) -> Display:
        """The display of the values of DICOM files."""
        return Display(self.window, self.prefer, self.on_missing_window, self.on_missing_end, self.decode)

    @property
    def of_headers(self) -> dict[str, bool]:
        """How headers are read: options of `mammo_hf.read_mammogram` and `mammo_hf.load`."""
        return {"use_descriptions": self.use_descriptions, "any_anatomy": self.any_anatomy}

    def preprocess(
        self,
        images: Any,
        return_tensors: str | None = None,
        return_geometry: bool = False,
        return_breast: bool = False,
        return_notes: bool = False,
        return_mask: bool = False,
        mask_seed: int | None = None,
    ) -> BatchFeature:
        """Process one image or a list of images.

        Args:
            images: Path, bytes, ``Mammogram``, pydicom ``Dataset``, array, tensor, PIL image or `ImageSource`, or a
                list of them.
            return_tensors: Kind of the arrays, "pt", "np" or ``None``.
            return_geometry: Whether to return ``geometry``, a list of ``Geometry``.
            return_breast: Whether to return ``breast``, a list of ``Breast`` (mask, box, chest wall, notes).
            return_notes: Whether to return ``notes``, a list of all notes on each image, those on its header first.
            return_mask: Whether to return ``bool_masked_pos`` (batch, patches).
            mask_seed: Seed that with an image's index in the list decides its mask; needed with ``return_mask``.

        Returns:
            ``pixel_values`` float32 (batch, channels, height, width).

        Raises:
            UsageError: A mask is asked for without a seed, or the kind of an image is not known.
            MammogramError: A file cannot be read.
        """
        if return_mask and mask_seed is None:
            raise UsageError("return_mask needs mask_seed", remedy="give a number: a fixed one in evaluation")
        fitted, notes = [], []
        for image in images if isinstance(images, (list, tuple)) else [images]:
            source = self.open(image)
            fitted.append(self.fit_breast(source))
            notes.append((*source.notes, *fitted[-1][2].notes))
        data: dict[str, Any] = {"pixel_values": [self.normalize_intensity(intensity) for intensity, _, _ in fitted]}
        if return_mask and mask_seed is not None:
            masking = self.masking()
            data["bool_masked_pos"] = [
                masking(self.canvas, seed=mask_seed, index=index) for index in range(len(fitted))
            ]
        features = BatchFeature(data={key: np.stack(value) for key, value in data.items()}, tensor_type=return_tensors)
        if return_geometry:
            features["geometry"] = [geometry for _, geometry, _ in fitted]
        if return_breast:
            features["breast"] = [breast for _, _, breast in fitted]
        if return_notes:
            features["notes"] = notes
        return features

    def fit(self, image: Any) -> tuple[np.ndarray, Geometry]:
        """Fit one image to the model's canvas, before normalisation.

        Returns:
            Intensity float32 (height, width) in [0, 1], 0 in the padding, and the geometry that led there.
        """
        intensity, geometry, _ = self.fit_breast(image)
        return intensity, geometry

    def fit_breast(self, image: Any) -> tuple[np.ndarray, Geometry, Breast]:
        """Fit one image as `fit` does, and return the breast too."""
        source = self.open(image)
        breast = self.find_breast(source)
        geometry = self.fitted_geometry(self.stored_geometry(source, breast))
        return self.draw(source, breast, geometry), geometry, breast

    def stored_geometry(self, source: ImageSource, breast: Breast) -> Geometry:
        """Return the geometry of what is kept of an image, upright and in the pixels that it is stored in."""
        top, left, bottom, right = breast.box if self.crop_to_breast else (0, 0, *source.size)
        sides = bottom - top, right - left
        sides = sides[::-1] if ORIENTATIONS[breast.orientation][2] else sides
        crop = (top, left, bottom, right)
        return Geometry(source.size, crop, breast.orientation, sides, (0, 0), sides, source.spacing_mm)

    def fitted_geometry(self, stored: Geometry) -> Geometry:
        """Return the geometry that fits what is kept of an image, from `stored_geometry`, to the model's canvas."""
        resized, offset = fitted(stored.size, self.canvas)
        return replace(stored, resized=resized, offset=offset, size=self.canvas)

    def draw(self, source: Drawable, breast: Breast, geometry: Geometry) -> np.ndarray:
        """Draw an image on the canvas of any geometry, as `fit` does on the model's.

        Args:
            source: Opened image, or one of a native store.
            breast: Breast in the image, from `find_breast`.
            geometry: Geometry with the crop and orientation of `stored_geometry`, of any size.

        Returns:
            Intensity float32 (height, width) in [0, 1]; 0 where it is blanked and in the padding.
        """
        shown = self.shown(breast)
        intensity = source.placed(geometry, shown)
        if breast.negative and self.invert_negatives:
            intensity = 1 - intensity
        intensity *= self._kept(geometry, breast, shown)
        np.clip(intensity, 0, 1, out=intensity)
        return as_ranks(intensity) if self.equalize_ranks else intensity

    def find_breast(self, image: Any) -> Breast:
        """Find the breast in an image, without resizing it.

        An `ImageSource` whose display shows nothing of the breast has another one afterwards if ``on_useless_display``
        is "robust".

        Raises:
            DataError: The display shows nothing, and ``on_useless_display`` is "raise".
        """
        source = self.open(image)
        breast, seen = self._find_breast(source)
        if source.levels and (seen < 2 * _LEAST_SEEN or DOUBTS.intersection(codes(breast.notes))):
            # without the noise of single pixels a background may look uneven
            source.read_whole()
            breast, seen = self._find_breast(source)
        if seen >= _LEAST_SEEN:
            return breast
        shown: dict[str, Any] = {"rule": source.rule, "percent": f"{100 * seen:.1f}"}
        note = Note("display_useless", **shown)
        if self.on_useless_display == "raise":
            raise DataError(
                note,
                source=source.name,
                remedy='choose another window, or allow on_useless_display="robust" or "note"',
                code="unsupported",
            )
        if self.on_useless_display == "robust":
            source.show_robustly()
            breast, _ = self._find_breast(source)
            note = Note("display_replaced", **shown)
        return replace(breast, notes=(*breast.notes, note))

    def _find_breast(self, source: ImageSource) -> tuple[Breast, float]:
        """Return the breast, and the fraction of the intensities that it is spread over."""
        view, stride = source.glance(LONGEST_SIDE)
        breast = find_upright_breast(
            view,
            source.size,
            source.upright,
            self.orientation,
            stride=stride,
            chest_wall_left=self.orient,
            shows_muscle=source.shows_muscle,
            margin=self.crop_margin,
            expected_chest_wall=source.expected_chest_wall,
            pectoral=self.blank_pectoral_muscle and source.may_show_pectoral,
        )
        values = view[breast.mask] if breast.mask.any() else view.ravel()
        low, high = np.percentile(values, (5, 95))
        return breast, float(high - low)

    def check_whole_images(self) -> None:
        """Refuse a processor of crops where whole images are wanted.

        Raises:
            UsageError: It is of crops.
        """
        if self.native_crops:
            raise UsageError(
                "the model was trained on crops at the images' own resolution, and sees no whole image",
                remedy="start from it: train it on whole images with `image_size`",
            )

    def open(self, image: Any) -> ImageSource:
        """Open an image with what its header says; every method that takes images takes the result, and reads no more.

        Raises:
            UsageError: The kind of the image is not known, or the processor is of crops.
            MammogramError: A file cannot be read.
        """
        self.check_whole_images()
        if isinstance(image, ImageSource):
            return image
        source = open_image(image, display=self.display, slab=Slab.from_policy(self.tomosynthesis), **self.of_headers)
        if self.image_kinds is not None and source.mammogram is not None:
            source.notes += self._beyond_training(source.mammogram.header)
        return source

    def _beyond_training(self, header: Any) -> tuple[Note, ...]:
        """Return notes on what a model has no figures for, by an image's header."""
        kind, notes = header.kind.value, []
        if kind and kind not in (self.image_kinds or _USUAL_KINDS):
            notes.append(Note("kind_not_trained_on", kind=kind))
        if header.implant.value == "YES":
            notes.append(Note("implant_present"))
        return tuple(notes)

    def shown(self, breast: Breast) -> Breast | None:
        """Return the breast with its margin, outside of which all is blanked; ``None`` if nothing is."""
        if not (self.blank_outside_breast and breast.mask.any()):
            return None
        return breast.widened(1 + round(self.crop_margin * max(breast.mask.shape)))

    def kept_at(self, breast: Breast, rows: np.ndarray, columns: np.ndarray) -> np.ndarray:
        """Return whether the model sees source pixels: they are neither cropped away nor blanked.

        Args:
            breast: Breast in the image, from `find_breast`.
            rows: Rows (height,) of the source.
            columns: Columns (width,) of the source.

        Returns:
            bool (height, width): one entry for each pair of a row and a column.
        """
        kept = self._unblanked(breast, self.shown(breast), rows, columns)
        if self.crop_to_breast:
            top, left, bottom, right = breast.box
            kept &= ((rows >= top) & (rows < bottom))[:, None] & ((columns >= left) & (columns < right))
        return kept

    def _unblanked(self, breast: Breast, shown: Breast | None, rows: np.ndarray, columns: np.ndarray) -> np.ndarray:
        kept = np.ones((len(rows), len(columns)), bool) if shown is None else shown.mask_at(rows, columns)
        if breast.pectoral is not None:
            kept &= ~sampled(breast.pectoral, rows, columns, breast.stride)
        return kept

    def _kept(self, geometry: Geometry, breast: Breast, shown: Breast | None) -> np.ndarray:
        """Return which canvas pixels show the source and are not blanked, bool (height, width)."""
        seen = replace(breast, mask=np.ones_like(breast.mask)) if shown is None else shown
        return seen.on_canvas(geometry)

    def normalize_intensity(self, intensity: np.ndarray) -> np.ndarray:
        """Normalise (..., height, width) in [0, 1] to float32 (..., channels, height, width)."""
        values = (np.asarray(intensity, np.float32) - np.float32(self.image_mean[0])) / np.float32(self.image_std[0])
        return np.repeat(values[..., None, :, :], self.num_channels, axis=-3)

    def denormalize(self, pixel_values: np.ndarray) -> np.ndarray:
        """Return the intensity (..., height, width) in [0, 1] of normalised (..., channels, height, width)."""
        values = np.asarray(pixel_values, np.float32).mean(axis=-3)
        return np.clip(values * self.image_std[0] + self.image_mean[0], 0, 1)


def _check_keys(version: Any, keys: Iterable[str], source: str) -> None:
    """Raise UsageError if a processor's file is of another format, or has keys that are not known."""
    unknown = sorted(set(keys) - _TRANSFORMERS_KEYS)
    if isinstance(version, int) and version < FORMAT_VERSION:
        raise UsageError(
            f"format_version {version} is of an earlier mammo_hf, to which the same files had other pixels",
            source=source,
            remedy="train again with this version",
        )
    if unknown or version != FORMAT_VERSION:
        what = f"unknown keys {', '.join(unknown)}" if unknown else f"format_version {version!r}"
        raise UsageError(what, source=source, remedy="was it saved by a newer mammo_hf? Then upgrade this one")


def as_ranks(intensity: np.ndarray) -> np.ndarray:
    """Return for each intensity above 0 the fraction of those that are not above it, float32; 0 stays."""
    seen = intensity > 0
    values = np.sort(intensity[seen])
    found = np.zeros_like(intensity)
    found[seen] = np.searchsorted(values, intensity[seen], side="right") / max(1, len(values))
    return found


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
    if min(height, width) < 1 or height * width > MAX_PIXELS:
        raise UsageError(f"size is {height} x {width}", remedy="give a height and width in pixels, as 896 448")
    return {"height": int(height), "width": int(width)}
