"""How much of a known lesion a crop leaves out: the one fault of a crop that no later step can mend."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

import numpy as np

from .findings import Finding, finding_mask

if TYPE_CHECKING:
    from ..breast import Breast
    from ..image_processing_mammo import MammoImageProcessor
    from ..image_source import ImageSource

MOST_CUT = 0.1  # of a lesion; a crop that leaves out more is a bad one


def lesion_masks(findings: Iterable[Finding], size: tuple[int, int]) -> list[np.ndarray]:
    """bool (rows, columns) of each finding whose place is known and lies in the image.

    Args:
        findings: Of one image, as in a table's row.
        size: (rows, columns) of the image.

    Raises:
        MammoError: A mask file cannot be read.
    """
    masks = (finding_mask(finding, size) for finding in findings)
    return [mask for mask in masks if mask is not None and mask.any()]


def cut_share(
    masks: Iterable[np.ndarray], source: ImageSource, breast: Breast, processor: MammoImageProcessor
) -> float | None:
    """The largest share of a lesion that is cropped away or blanked.

    Pixels of the image's lowest value do not count: annotated circles reach beyond the edge of the film.

    Args:
        masks: The lesions, bool (rows, columns) of the image.
        source: The image.
        breast: What the processor found in it.
        processor: Says what is cropped and blanked.

    Returns:
        From 0 to 1; ``None`` where no lesion has a pixel that counts.
    """
    darkest = source.view(slice(None, None, breast.stride)).min()
    shares = []
    for mask in masks:
        rows, columns = np.flatnonzero(mask.any(1)), np.flatnonzero(mask.any(0))
        box = slice(rows[0], rows[-1] + 1), slice(columns[0], columns[-1] + 1)
        counted = mask[box] & (source.view(*box) > darkest)
        if counted.any():
            kept = processor.kept_at(breast, np.arange(box[0].start, box[0].stop), np.arange(box[1].start, box[1].stop))
            shares.append(float(np.mean(~kept[counted])))
    return max(shares, default=None)
