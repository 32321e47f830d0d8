"""Where the findings of an image lie on the model's canvas."""

from __future__ import annotations

from typing import Any

import numpy as np

from ...dicom import read_mammogram
from ...geometry import Geometry
from .files import readable

LESION_CELL = 4  # pixels a side of a cell of the lesion map: the patch of every Swin size
UNKNOWN_PATHOLOGY = 255  # in a lesion map: a finding is here, its label is not known


def lesion_map(findings: list[dict[str, Any]], geometry: Geometry, labels: list[str]) -> np.ndarray | None:
    """Where the findings lie on the model's canvas, in cells of 4 x 4 pixels.

    Args:
        findings: Findings of one image, as in a table's row.
        geometry: From source pixels to the canvas.
        labels: The lesion task's labels; a cell that two findings share gets the later one in this order.

    Returns:
        uint8 (height / 4, width / 4): 0 none, 1 + label, 255 where a finding's label is not known; ``None`` where there
        is no finding or one whose place is not known.
    """
    order = {label: index for index, label in enumerate(labels)}
    height, width = geometry.size
    cells = np.zeros((height // LESION_CELL, width // LESION_CELL), np.uint8)
    for finding in sorted(findings, key=lambda finding: order.get(finding["pathology"], -1)):
        mask = _mask_of(finding, geometry)
        if mask is None:
            return None
        coverage = geometry.mask_to_model(mask)
        coverage = coverage[: cells.shape[0] * LESION_CELL, : cells.shape[1] * LESION_CELL]
        peak = coverage.reshape(cells.shape[0], LESION_CELL, cells.shape[1], LESION_CELL).max(axis=(1, 3))
        index = order.get(finding["pathology"], -1)
        cells[peak >= 0.5] = UNKNOWN_PATHOLOGY if index < 0 else index + 1
    return cells if findings else None


def _mask_of(finding: dict[str, Any], geometry: Geometry) -> np.ndarray | None:
    rows, columns = geometry.source_size
    if finding.get("mask_path"):
        mask = read_mammogram(readable(finding["mask_path"])).pixels[0] > 0
        # some collections hold masks of another size than the image: without a common frame they say nothing
        return mask if mask.shape == (rows, columns) else None
    if finding.get("circle"):
        row, column, radius = finding["circle"]
        y, x = np.ogrid[:rows, :columns]
        return (y + 0.5 - row) ** 2 + (x + 0.5 - column) ** 2 <= radius**2
    if finding.get("box"):
        top, left, bottom, right = (round(value) for value in finding["box"])
        mask = np.zeros((rows, columns), bool)
        mask[max(top, 0) : bottom, max(left, 0) : right] = True
        return mask
    return None
