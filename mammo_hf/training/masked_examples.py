"""From a prepared row to an example of masked image modelling, and from examples to a batch."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from ..data.prepare import FULL_SCALE, LESION_CELL, unpacked_breast
from ..errors import DataError
from ..geometry import Geometry
from ..visible_tokens import packed_for
from .augmentation import Augmentation

if TYPE_CHECKING:
    from ..configuration_mammo_swin import MammoSwinConfig
    from ..image_processing_mammo import MammoImageProcessor
    from ..masking import BlockwiseMasking

Example = dict[str, torch.Tensor]


def masked_example(
    row: dict[str, Any],
    *,
    processor: MammoImageProcessor,
    masking: BlockwiseMasking,
    augmentation: Augmentation | None,
    seed: int,
    epoch: int,
    index: int,
    needs_breast: bool = False,
) -> Example:
    """One image and which of its patches are hidden; depends on (seed, epoch, index) alone.

    Args:
        row: Of a prepared dataset.
        processor: Normalises.
        masking: Decides what is hidden.
        augmentation: ``None``: the image as it is.
        seed: Of augmentation and mask.
        epoch: Counts up in training, and stays 0 in evaluation.
        index: The image's place in its dataset.
        needs_breast: Whether an image in which no breast was found is of no use, though the masking could do without.

    Returns:
        ``pixel_values`` (channels, height, width), ``bool_masked_pos`` (patches,), ``content_mask`` (height, width),
        false in the padding, and ``breast_mask`` (height, width), true in the breast that was found when the image was
        prepared.

    Raises:
        DataError: An image without a breast where that is needed, or pixels that are not finite; it names the image.
    """
    intensity, content, breast = _canvas(row)
    if augmentation is not None:
        generator = np.random.default_rng([seed, epoch, index])
        intensity, content, breast = augmentation(intensity, content, breast, view=row["view"], generator=generator)
    inside = breast[0] > 0.5
    if (needs_breast or masking.within == "breast") and not inside.any():
        raise DataError(
            "no breast stands out from the background",
            source=f"image {row['image_id']}",
            remedy="take it out of the collection, or mask and judge the whole image",
        )
    inside = inside.repeat_interleave(LESION_CELL, 0).repeat_interleave(LESION_CELL, 1)
    pixels = torch.from_numpy(processor.normalize_intensity(intensity[0].numpy()))
    if not torch.isfinite(pixels).all():
        raise DataError("pixel values that are not finite", source=f"image {row['image_id']}", remedy="prepare it anew")
    size = (intensity.shape[-2], intensity.shape[-1])
    patches = _patches_with(inside, masking.patch_size) if masking.within == "breast" else None
    try:
        mask = masking(size, seed=seed, epoch=epoch, index=index, breast=patches)
    except DataError as error:
        raise DataError(error.problem, source=f"image {row['image_id']}", remedy=error.remedy) from error
    # pixel values first: Trainer reads the batch size off the first entry
    return {
        "pixel_values": pixels,
        "bool_masked_pos": torch.from_numpy(mask),
        "content_mask": content[0] > 0.5,
        "breast_mask": inside,
    }


def _canvas(row: dict[str, Any]) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Intensity in [0, 1], 1 where the canvas shows the image and not padding, and 1 where cells lie in the breast.

    The first two are (1, height, width), the breast (1, height / 4, width / 4).
    """
    height, width = row["size"]
    pixels = np.frombuffer(row["pixels"], np.uint16).reshape(1, height, width)
    intensity = torch.from_numpy(np.divide(pixels, FULL_SCALE, dtype=np.float32))
    content = torch.ones(1, height, width)
    placement = json.loads(row["geometry"])
    if placement:
        geometry = Geometry.from_dict(placement)
        content.zero_()
        (top, left), (rows, columns) = geometry.offset, geometry.resized
        content[0, top : top + rows, left : left + columns] = 1.0
    cells = unpacked_breast(row["breast"], (height, width))
    return intensity, content, torch.from_numpy(cells.astype(np.float32))[None]


def _patches_with(inside: torch.Tensor, patch: int) -> np.ndarray:
    """Which patches hold a part of the breast, bool (patches,), row by row."""
    height, width = inside.shape
    parts: np.ndarray = inside.numpy().reshape(height // patch, patch, width // patch, patch).any(axis=(1, 3))
    return parts.ravel()


@dataclass(frozen=True)
class MaskedCollator:
    """Stacks examples, and packs the visible tokens for the encoder, off the training thread where there are workers.

    Args:
        config: Of the model.
        pack: Whether to pack; not where one process feeds several GPUs, which would divide the batch once more.
    """

    config: MammoSwinConfig
    pack: bool = True

    def __call__(self, examples: list[Example]) -> dict[str, Any]:
        """The batch of some examples."""
        batch: dict[str, Any] = {key: torch.stack([example[key] for example in examples]) for key in examples[0]}
        if self.pack and self.config.sparse_encoder:
            size = (batch["pixel_values"].shape[-2], batch["pixel_values"].shape[-1])
            visible = packed_for(self.config, batch["bool_masked_pos"], size)
            if visible is not None:
                batch["visible"] = visible
        return batch
