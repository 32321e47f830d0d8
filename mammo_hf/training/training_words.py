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
