"""An example of masked image modelling: the breast that was found goes wherever augmentation takes the image."""

import json

import numpy as np
import pytest
import torch

from mammo_hf import BlockwiseMasking, MammoImageProcessor
from mammo_hf.data.augmentation import Augmentation
from mammo_hf.data.prepared_row import FULL_SCALE, packed_breast
from mammo_hf.data.torch_datasets import masked_example
from mammo_hf.errors import DataError
from mammo_hf.models.losses import counted_pixels, spread_over_pixels

SIZE = (128, 64)
PROCESSOR = MammoImageProcessor(size=SIZE, blank_outside_breast=False, crop_to_breast=False)


def film(breast=True):
    """Half a disc at the left edge, and a film label at the right."""
    rows, columns = np.mgrid[:256, :128]
    inside = ((rows - 128) ** 2 + columns**2 < 90**2) & breast
    image = np.where(inside, 0.5, 0.0)
    image[8:24, 104:120] = 1.0 if breast else 0.0
    return (image * 65535).astype(np.uint16), inside


def row(breast=True):
    pixels, _ = film(breast)
    intensity, geometry, found = PROCESSOR.fit_breast(pixels)
    return {
        **{"image_id": "f" * 16, "view": "CC", "size": list(SIZE), "geometry": json.dumps(geometry.to_dict())},
        "pixels": np.rint(intensity * FULL_SCALE).astype(np.uint16).tobytes(),
        "breast": packed_breast(found, geometry),
    }


def example(given, *, within="image", augmentation=None, index=0, **changes):
    masking = BlockwiseMasking(8, 0.5, within=within)
    return masked_example(
        given, processor=PROCESSOR, masking=masking, augmentation=augmentation, seed=0, epoch=0, index=index, **changes
    )


def test_the_found_breast_and_neither_label_nor_background():
    _, inside = film()
    found = example(row())["breast_mask"].numpy()
    truth = inside.reshape(128, 2, 64, 2).mean((1, 3)) > 0.5
    assert (found & truth).sum() / (found | truth).sum() > 0.9
    assert not found[:16, 48:].any()


def test_the_breast_moves_with_the_image():
    still = example(row())
    moved = 0
    for index in range(10):
        made = example(row(), augmentation=Augmentation(gamma=0), index=index)
        bright = PROCESSOR.denormalize(made["pixel_values"].numpy()) > 0.25
        breast = made["breast_mask"].numpy()
        assert (breast & bright).sum() / breast.sum() > 0.93
        assert (breast & bright).sum() / bright.sum() > 0.85  # the film label is bright, too
        moved += not torch.equal(made["breast_mask"], still["breast_mask"])
    assert moved == 10


def test_within_the_breast_no_block_is_spent_elsewhere_and_the_loss_counts_it_alone():
    for index in range(5):
        made = example(row(), within="breast", augmentation=Augmentation(), index=index)
        grid = (SIZE[0] // 4, SIZE[1] // 4)
        hidden = spread_over_pixels(made["bool_masked_pos"][None], SIZE, grid)[0]
        blocks = hidden.reshape(16, 8, 8, 8).any(3).any(1)
        held = made["breast_mask"].reshape(16, 8, 8, 8).any(3).any(1)
        assert not (blocks & ~held).any()
        assert blocks.sum() == round(0.5 * held.sum().item())
        counted = counted_pixels(
            made["bool_masked_pos"][None],
            SIZE,
            grid,
            region="masked_breast",
            content_mask=made["content_mask"][None],
            breast_mask=made["breast_mask"][None],
        )[0]
        assert torch.equal(counted, hidden & made["breast_mask"] & made["content_mask"])


@pytest.mark.parametrize("wish", [{"within": "breast"}, {"needs_breast": True}])
def test_an_image_without_a_breast_is_named(wish):
    with pytest.raises(DataError, match="image ffff"):
        example(row(breast=False), **wish)
    assert not example(row(breast=False))["breast_mask"].any()


def test_pixels_that_are_no_numbers_are_named(monkeypatch):
    broken = np.full((1, *SIZE), np.nan, np.float32)
    monkeypatch.setattr(PROCESSOR, "normalize_intensity", lambda intensity: broken)
    with pytest.raises(DataError, match="not finite") as caught:
        example(row())
    assert "image ffff" in str(caught.value)
