"""Other ways from a DICOM file to a tensor of the same size, for comparison."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pydicom
import torch
from PIL import Image
from pydicom.pixels import apply_modality_lut, apply_voi_lut

SIZE = (896, 448)


def bare(path: Path) -> np.ndarray:
    """Read the stored values and no more."""
    return pydicom.dcmread(path).pixel_array


def naive(path: Path) -> torch.Tensor:
    """Do what most training scripts do: pydicom's own chain, then PIL."""
    dataset = pydicom.dcmread(path)
    values = apply_voi_lut(apply_modality_lut(dataset.pixel_array, dataset), dataset).astype(np.float32)
    values = (values - values.min()) / max(float(np.ptp(values)), 1e-6)
    if dataset.PhotometricInterpretation == "MONOCHROME1":
        values = 1 - values
    resized = Image.fromarray(values).resize(SIZE[::-1], Image.Resampling.BILINEAR)
    return torch.from_numpy(np.asarray(resized).copy())[None, None]


def torch_style(path: Path) -> torch.Tensor:
    """As torchvision's transforms do it: to a float tensor, then resize with antialiasing; no intensity rules."""
    tensor = torch.from_numpy(bare(path).astype(np.float32) / 4095)[None, None]
    return torch.nn.functional.interpolate(tensor, SIZE, mode="bilinear", antialias=True, align_corners=False)


def monai_style(path: Path) -> torch.Tensor:
    """MONAI's reader for DICOM, scaled to [0, 1] and resized by area; no intensity rules."""
    from monai.data import PydicomReader
    from monai.transforms import Compose, EnsureChannelFirst, LoadImage, Resize, ScaleIntensity

    chain = Compose(
        [
            LoadImage(reader=PydicomReader(), image_only=True),
            EnsureChannelFirst(),
            ScaleIntensity(),
            Resize(SIZE, mode="area"),
        ]
    )
    return chain(path)[None]


class Reader(NamedTuple):
    """A way to read, and the package that it needs."""

    read: Callable[[Path], torch.Tensor]
    needs: str

    def __call__(self, path: Path) -> torch.Tensor:
        return self.read(path)


READERS = {"torch-style": Reader(torch_style, "torch"), "MONAI": Reader(monai_style, "monai")}
