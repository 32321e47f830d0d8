"""Networks that are trained on pairs of breasts, for within_patient.py: recipes, and one training with its scores."""

from __future__ import annotations

import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

import mammo_hf
from mammo_hf.data.prepare.folder import for_training, open_prepared
from mammo_hf.data.torch_datasets import LabelledImages
from mammo_hf.models.checkpoint import load_processor
from mammo_hf.training.classification import ClassificationConfig, fit_classifier
from mammo_hf.training.scoring import predicted_logits

LAST = {"tune": "last_stage", "learning_rate": 1e-3, "head_first": 50}
WHOLE = {"tune": "full", "learning_rate": 5e-4, "head_first": 100, "layer_decay": 0.6}
RECIPES: dict[str, dict[str, Any]] = {
    "last stage": LAST,
    "last stage, pairs": {**LAST, "pair_loss": 1.0},
    "last stage, pairs, tone curves": {**LAST, "pair_loss": 1.0, "tone_curves": 0.5},
    "whole": WHOLE,
    "whole, pairs": {**WHOLE, "pair_loss": 1.0},
}
TASK = {"name": "malignant_breast", "labels": ["no", "yes"]}


def tuned(
    start: str,
    recipe: str,
    sides: Mapping[str, str],
    *,
    ddsm: Path,
    films: Path,
    out: Path,
    seed: int,
    updates: int,
    images: Sequence[str],
) -> tuple[dict[str, float], dict[str, Any]]:
    """Train a network, and return the log odds of each image of the pairs, and what the training did.

    Nobody validates: the last update is kept. Training images are scored without augmentation.

    Args:
        start: A checkpoint, or a size.
        recipe: One of ``RECIPES``.
        sides: "train" or "test" for each patient; others take no part.
        ddsm: Folder of the collection.
        films: Folder of its prepared images.
        out: Folder for the training, which is removed.
        seed: Random seed.
        updates: Updates of 16 images.
        images: Images of the pairs.
    """
    wanted = set(images)
    collection = mammo_hf.load("ddsm", ddsm).where(lambda row: row["patient"] in sides and row["image_id"] in wanted)
    prepared = for_training(open_prepared(films), collection.with_splits(dict(sides)), [TASK], lesions=False)
    options: dict[str, Any] = {
        **{"max_steps": updates, "per_device_train_batch_size": 16, "seed": seed, "num_workers": 0, "lesion_loss": 0},
        **{"eval_strategy": "no", "save_strategy": "no", "load_best_model_at_end": False, "use_cpu": True},
        **{"dataloader_pin_memory": False, "report_to": "none", "disable_tqdm": True, "logging_steps": updates // 10},
    }
    config = ClassificationConfig(str(out), **options, **RECIPES[recipe])
    trained = tuple(patient for patient, side in sides.items() if side == "train")
    processor = load_processor(films)
    fitted = fit_classifier(prepared, processor, config, model=start, tasks=[TASK], patients=trained)
    odds: dict[str, float] = {}
    for own in (fitted.images["test"], LabelledImages(fitted.images["train"].prepared, processor)):
        logits = predicted_logits(fitted.trainer, own)
        odds |= dict(zip(own.prepared["image_id"], (logits[:, 1] - logits[:, 0]).tolist(), strict=True))
    losses = [entry["loss"] for entry in fitted.trainer.state.log_history if "loss" in entry]
    shutil.rmtree(out, ignore_errors=True)
    return odds, {"updates": updates, "loss": [losses[0], losses[-1]]}


def figures_of_training(cells: Mapping[tuple[str, float], Sequence[Mapping[str, Any]]]) -> str:
    """Return, as Markdown, whether each trained network left chance on what it was trained on; "" without one."""
    lines = []
    for (arm, percentage), of_seeds in cells.items():
        if "own" in of_seeds[0]:
            first, last = np.mean([cell["loss"] for cell in of_seeds], axis=0)
            own = np.mean([cell["own"] for cell in of_seeds])
            line = f"| {arm} | {percentage:g} % | {of_seeds[0]['updates']} | {first:.3f} to {last:.3f} | {own:.3f} |"
            lines.append(line)
    head = "| trained | labels | updates of 16 | training loss | AUC within its own training pairs |"
    return "\n".join([head, "|---|---|---|---|---|", *lines, ""]) if lines else ""
