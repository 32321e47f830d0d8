"""A folder as stage 2 leaves it, made in a second: a tiny model, figures of made scores, curves, and what must stay."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from made_scores import made_scores
from PIL import Image

from mammo_hf.data.terms import PHANTOMS, write_terms
from mammo_hf.evaluation.classifier import evaluate_classifier
from mammo_hf.hub.model_card import write_card
from mammo_hf.processing.image_processing_mammo import MammoImageProcessor
from mammo_hf.testing import tiny_classifier

RUN = {
    **{"updates": 12, "epochs": 3.0, "images_an_update": 8, "optimizer": "adamw_torch", "learning_rate": 5e-4},
    **{"schedule": "cosine", "weight_decay": 0.05, "precision": "float32", "device": "cpu"},
    **{"chosen_by": "eval_pathology_auroc", "packages": {"mammo-hf": "0.1.0", "torch": "2.13.0+cpu"}},
}
LABELS = {"pathology": {"benign": 40, "malignant": 38}, "density": {"a": 10, "b": 50, "c": 4}}
COLLECTION = {
    "name": "cbis-ddsm",
    "splits": {
        "train": {"images": 80, "patients": 40, "labels": LABELS},
        "validation": {"images": 120, "patients": 60, "labels": LABELS},
        "test": {"images": 60, "patients": 30, "labels": LABELS},
    },
}
LEFT_BEHIND = ("training_args.bin", "optimizer.pt", "split.json", "label_subset.json", "plots/mim_reconstruction.png")


def made_figures(config: Any) -> dict[str, Any]:
    """What ``metrics.json`` holds of a classifier whose validation and test scores are made up."""
    test = evaluate_classifier(config, made_scores(30, 1), validation=made_scores(60, 0), resamples=100).figures
    return {
        **{"train_images": 80, "train_patients": 40, "unlabelled_images": 0, "seed": 7, "run": RUN},
        **{"class_weights": {"pathology": [0.98, 1.03]}, "collection": COLLECTION, "test": test},
    }


def made_checkpoint(folder: Path) -> Path:
    """Writes the folder and its card."""
    model = tiny_classifier()
    figures = made_figures(model.config)
    model.save_pretrained(folder)
    MammoImageProcessor(size=(112, 56)).save_pretrained(folder)
    (folder / "metrics.json").write_text(json.dumps({"classifier": figures}))
    for name in ("roc.png", "mim_reconstruction.png"):
        (folder / "plots").mkdir(exist_ok=True)
        Image.new("L", (8, 8), 200).save(folder / "plots" / name)
    for name in LEFT_BEHIND[:-1]:
        (folder / name).write_text("patient 0123456789abcdef")
    write_terms(folder, [PHANTOMS])
    write_card(folder, plots=folder / "plots")
    return folder
