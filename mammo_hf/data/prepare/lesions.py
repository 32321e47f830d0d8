"""Where the findings of an image lie on the model's canvas."""

from __future__ import annotations

from typing import Any

import numpy as np

from ...geometry import Geometry
from ..findings import finding_mask, read_mask
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
        mask = finding_mask(finding, geometry.source_size, read=lambda path: read_mask(readable(path)))
        if mask is None:
            return None
        coverage = geometry.mask_to_model(mask)
        coverage = coverage[: cells.shape[0] * LESION_CELL, : cells.shape[1] * LESION_CELL]
        peak = coverage.reshape(cells.shape[0], LESION_CELL, cells.shape[1], LESION_CELL).max(axis=(1, 3))
        index = order.get(finding["pathology"], -1)
        cells[peak >= 0.5] = UNKNOWN_PATHOLOGY if index < 0 else index + 1
    return cells if findings else None
