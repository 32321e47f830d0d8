"""Prepared images with a lesion's place, as the cases that explainers are measured on."""

from __future__ import annotations

import json

import numpy as np

from ..data.prepare import LESION_CELL, unpacked_breast
from ..explainers.explanation import mm_a_pixel
from ..explainers.study import Case
from ..geometry import Geometry
from .datasets import LabelledImages
from .visualization import lesion_mask


def lesion_cases(images: LabelledImages, spacing_mm: float | None = None) -> list[Case]:
    """A case for each image that has a lesion with a known place.

    Args:
        images: Prepared images; ``label`` is that of the first task.
        spacing_mm: Side of a pixel of the source images in mm, for files that do not say it.
    """
    cases = []
    for index in range(len(images)):
        intensity, _, row = images.intensity_and_lesions(index)
        size = (row["size"][0], row["size"][1])
        lesion = lesion_mask(row, size)
        if lesion is None:
            continue
        geometry = Geometry.from_dict(json.loads(row["geometry"]))
        cases.append(
            Case(
                image=intensity[0].numpy(),
                pixel_values=images.normalized(intensity),
                lesion=lesion,
                breast=unpacked_breast(row["breast"], size).repeat(LESION_CELL, axis=0).repeat(LESION_CELL, axis=1),
                patient=row["patient"],
                label=row["labels"][0],
                mm_a_pixel=_mm_a_pixel(geometry, spacing_mm),
            )
        )
    return cases


def _mm_a_pixel(geometry: Geometry, spacing_mm: float | None) -> float | None:
    said = mm_a_pixel(geometry)
    return said if said is not None or spacing_mm is None else spacing_mm / float(np.mean(geometry.scale))
