"""A small feature store that is drawn rather than computed: exams of four views whose malignant breast differs."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import datasets
import numpy as np

from mammo_hf import Collection, MammoImageProcessor, load

CHANNELS = 4
RECORD = {"name": "made", "kind": "plugin", "revision": None, "weights": "0" * 64, "channels": CHANNELS, "tile": 32}
TASKS = [{"name": "pathology", "labels": ["benign", "malignant"]}, {"name": "density", "labels": ["a", "b", "c"]}]


def made_row(patient: int, side: str, view: str, *, tiles: int, signal: float, seed: int, size: int) -> dict[str, Any]:
    """Draw an image: a malignant breast has a shift in its whole view, and one tile that is far off."""
    generator = np.random.default_rng([seed, patient, side == "R", view == "CC"])
    malignant = patient % 2 == 1 and (side == "L") == (patient % 4 == 1)
    density = patient % 3
    vectors = generator.normal(size=(1 + tiles, size)).astype(np.float32)
    vectors[:, 1] += density
    lesions = np.zeros(1 + tiles, np.float16)
    if malignant:
        vectors[0, 0] += signal
        if tiles:
            vectors[1, 2] += 4 * signal
            lesions[:2] = 1
    key = f"{patient:016x}"
    return {
        **{"image_id": f"{patient * 4 + 2 * (side == 'R') + (view == 'CC'):016x}", "patient": key, "exam": key},
        **{"laterality": side, "view": view, "age_band": None, "vendor": None, "stratum": None, "source": "made"},
        "split": ("train", "train", "train", "validation", "test")[patient // 4 % 5],
        **{"pathology": "malignant" if malignant else "benign", "density": "abc"[density], "notes": ""},
        **{"features": vectors.astype(np.float16).tobytes(), "lesions": lesions.tobytes() if malignant else None},
        "scales": np.array([1] + [2] * tiles, np.uint8).tobytes(),
        "boxes": np.zeros((1 + tiles, 4), np.float32).tobytes(),
    }


def made_store(
    folder: Path, patients: int = 40, *, tiles: int = 3, signal: float = 2.0, seed: int = 0, size: int = 2 * CHANNELS
) -> Collection:
    """Write a store of exams of four views and return its collection; every fifth image has no tile."""
    rows = [
        made_row(
            patient, side, view, tiles=tiles * ((patient + (view == "CC")) % 5 > 0), signal=signal, seed=seed, size=size
        )
        for patient in range(patients)
        for side in "LR"
        for view in ("CC", "MLO")
    ]
    text = [
        name for name, value in rows[0].items() if isinstance(value, str) or name in ("age_band", "vendor", "stratum")
    ]
    kinds = {name: datasets.Value("string" if name in text else "binary") for name in rows[0]}
    datasets.Dataset.from_list(rows, features=datasets.Features(kinds)).save_to_disk(str(folder))
    MammoImageProcessor(size=(64, 32)).save_pretrained(folder)
    about = {"encoder": {**RECORD, "channels": size // 2}, "tasks": TASKS, "salt_name": "private", "images": len(rows)}
    layout = {"shards": 1, "format": "arrow"}
    settings = {"tiles": "both" if tiles else "whole", "spacing": 0.1, "overlap": 0.25, "image_size": [64, 32]}
    (folder / "layout.json").write_text(json.dumps(layout))
    (folder / "features.json").write_text(json.dumps(about | layout | settings))
    return load(folder)
