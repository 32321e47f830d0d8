"""Small mammograms of noise, written as DICOM."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from mammo_hf.dicom import mammogram_dataset


def write_dicom(path: Path, seed: int = 0, **attributes: Any) -> Path:
    """Writes one; each seed gives another, and ``attributes`` are those of ``mammogram_dataset``."""
    pixels = np.random.default_rng(seed).integers(0, 4096, (300, 150)).astype(np.uint16)
    dataset = mammogram_dataset(pixels, bits_stored=12, **attributes)
    path.parent.mkdir(parents=True, exist_ok=True)
    dataset.save_as(path, enforce_file_format=True)
    return path
