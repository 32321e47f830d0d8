"""Scored images of two tasks, made without a model."""

from __future__ import annotations

import numpy as np

from mammo_hf.evaluation.scored import Scored

TASKS = [{"name": "pathology", "labels": ["benign", "malignant"]}, {"name": "density", "labels": ["a", "b", "c"]}]


def made_scores(patients: int = 60, seed: int = 0, shift: float = 1.5) -> Scored:
    """Two views of one breast of each patient; pathology told with errors and overconfident, density with errors.

    Args:
        patients: How many; every third density label is not known.
        seed: Of everything.
        shift: Of the malignant logit, which calibration must take back.
    """
    rng = np.random.default_rng(seed)
    keys = np.repeat(np.arange(patients), 2)
    truth = rng.permutation(np.arange(patients) % 2)[keys]
    density = rng.integers(0, 3, patients)[keys]
    logits = rng.normal(size=(keys.size, 5))
    logits[:, 1] += 3 * truth - 1.5 + shift
    logits[np.arange(keys.size), 2 + density] += 1.5
    return Scored(
        logits=logits,
        labels=np.stack([truth, np.where(keys % 3 == 0, -100, density)], axis=1),
        patients=[f"patient{key:03d}" for key in keys],
        facts={
            "view": ["CC", "MLO"] * patients,
            "laterality": ["L" if key % 4 else "R" for key in keys],
            "exam": [f"exam{key:03d}" for key in keys],
            "density": ["abc"[label] for label in density],
            "vendor": ["ge" if key % 20 else None for key in keys],
            "age_band": ["50-59"] * keys.size,
        },
        image_ids=[f"image{place:03d}" for place in range(keys.size)],
    )
