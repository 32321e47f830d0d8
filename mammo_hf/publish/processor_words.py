"""What a `preprocessor_config.json` does to an image, in sentences."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

_MISSING_WINDOW = {
    "robust": "are shown by what lies between air and the brightest tissue, both measured on the image",
    "full_range": "are shown by the full range of their values",
    "raise": "are refused",
}


def preprocessing_in_words(processor: Mapping[str, Any]) -> list[str]:
    """One sentence a step, in the order in which the steps happen.

    Args:
        processor: What ``preprocessor_config.json`` holds; keys that are not there are not spoken of.
    """
    steps = [_intensity(processor), *_breast(processor), _size(processor), _normalisation(processor)]
    return [step for step in steps if step]


def _intensity(processor: Mapping[str, Any]) -> str:
    if "window" not in processor:
        return ""
    window, prefer = processor["window"], processor.get("prefer", "lut")
    which = f"number {window}" if isinstance(window, int) else f'"{window}"'
    first = "its VOI LUT before its window" if prefer == "lut" else "its window before its VOI LUT"
    without = _MISSING_WINDOW.get(str(processor.get("on_missing_window")), "are shown as its settings say")
    volume = processor.get("tomosynthesis")
    slices = f" Of a tomosynthesis volume: {_slices(volume)}." if isinstance(volume, Mapping) else ""
    return (
        "Stored values become displayed intensities from 0 to 1 with full depth: the file's modality LUT, then "
        f"{first} ({which} of several), inverted for MONOCHROME1; files without either, and those For Processing, "
        f"{without}.{slices}"
    )


def _slices(volume: Mapping[str, Any]) -> str:
    which = volume.get("slices")
    if which == "middle" or isinstance(which, int):
        return "the middle slice" if which == "middle" else f"slice {which}"
    chosen = "all slices" if which == "all" else f"slices {which}"
    return f"the {volume.get('projection', 'maximum')} of {chosen}"


def _breast(processor: Mapping[str, Any]) -> list[str]:
    margin = f"{100 * processor.get('crop_margin', 0):g} % of the longer side"
    sentences = {
        "invert_negatives": "Images with dark tissue on a bright background are inverted.",
        "crop_to_breast": f"The image is cut down to the breast and a margin of {margin}.",
        "blank_outside_breast": f"What lies outside the breast and a margin of {margin} becomes 0.",
        "blank_pectoral_muscle": "The pectoral muscle becomes 0 in oblique and lateral views.",
        "orient": "Images are mirrored so that the chest wall is at the left edge.",
    }
    return [sentence for key, sentence in sentences.items() if processor.get(key)]


def _size(processor: Mapping[str, Any]) -> str:
    size = processor.get("size")
    if not isinstance(size, Mapping):
        return ""
    return (
        f"The rest is resized to fit {size['height']} x {size['width']} pixels (height x width) without changing its "
        "shape, and padded with 0 above, below and at the right."
    )


def _normalisation(processor: Mapping[str, Any]) -> str:
    if "image_mean" not in processor or "image_std" not in processor:
        return ""
    mean, deviation = processor["image_mean"][0], processor["image_std"][0]
    channels = processor.get("num_channels", 1)
    copies = "" if channels == 1 else f", the same in {channels} channels"
    return f"From each intensity {mean:g} is subtracted, and the result divided by {deviation:g}{copies}."
