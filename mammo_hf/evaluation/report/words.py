"""How a model was trained, in sentences: what ``metrics.json`` says of it, for its card and for reports."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

STARTS = {
    "random": "All parameters began at random values.",
    "masked_image_modeling": "The encoder began as masked image modelling had left it, the heads at random values.",
    "classifier": "The encoder, and heads of the same tasks, began as an earlier classifier had left them.",
    "checkpoint": "The encoder began as another Swin's checkpoint has it, the heads at random values.",
}
TUNED = {
    "full": "The whole network was trained.",
    "last_stage": "The last stage and the heads were trained.",
    "head": "The heads alone were trained.",
}
METHODS = {
    "pseudo_label": "by pseudo-labels of which the model was sure (FixMatch)",
    "mean_teacher": "by agreement with an average of earlier weights (mean teacher)",
}


def training_in_words(figures: Mapping[str, Any]) -> dict[str, str | None]:
    """Sentences on a training; ``None`` where it is not recorded, or was not done.

    Args:
        figures: A stage's part of ``metrics.json``.

    Returns:
        ``start``: what the parameters were before; ``run``: updates, batch, optimiser, precision; ``tuned``: which part
        was trained; ``choice``: which epoch is kept; ``labels``: how many were learnt from, and what images without
        were used for; ``weights``: those against class imbalance.
    """
    settings = figures.get("settings") or {}
    return {
        "start": STARTS.get(str(figures.get("start"))),
        "run": _run(figures),
        "tuned": TUNED.get(str(settings.get("tune"))),
        "choice": _choice(figures.get("run")),
        "labels": _labels(figures, METHODS.get(str(settings.get("semi_supervised")))),
        "weights": _weights(figures.get("class_weights")),
    }


def _run(figures: Mapping[str, Any]) -> str | None:
    run = figures.get("run")
    if not run:
        return None
    seed = f", seed {figures['seed']}" if figures.get("seed") is not None else ""
    return (
        f"{run['updates']} updates of {run['images_an_update']} images ({run['epochs']} epochs), {run['optimizer']}, "
        f"learning rate {run['learning_rate']:g}, schedule {run['schedule']}, weight decay {run['weight_decay']:g}, "
        f"{run['precision']} on {run['device']}{seed}."
    )


def _choice(run: Mapping[str, Any] | None) -> str | None:
    if not run:
        return None
    if run["chosen_by"]:
        return f"The epoch was chosen by {run['chosen_by']} on validation patients."
    return "The last epoch is kept."


def _labels(figures: Mapping[str, Any], method: str | None) -> str | None:
    if figures.get("train_patients") is None:
        return None
    images, patients, unlabelled = figures["train_images"], figures["train_patients"], figures.get("unlabelled_images")
    without = f", and {unlabelled} images without theirs" if unlabelled else ""
    if without and method:
        without += f", {method}"
    return f"Labels of {images} images of {patients} training patients were used{without}."


def _weights(weights: Mapping[str, Any] | None) -> str | None:
    if not weights:
        return None
    of_tasks = "; ".join(f"{task} {', '.join(f'{one:.3g}' for one in values)}" for task, values in weights.items())
    return f"Class weights in the loss, N / (K N_c) of the labelled training images: {of_tasks}."


# What a `preprocessor_config.json` does to an image, in sentences.


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
