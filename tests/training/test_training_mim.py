"""Stage 1 learns from training and unlabelled images, and is judged on validation images as they are."""

from __future__ import annotations

import datasets
import numpy as np
import pytest
import torch

from mammo_hf import MammoImageProcessor
from mammo_hf.errors import DataError
from mammo_hf.training.mim import MimConfig, _masked_images

SIDE = 112


def prepared():
    values = np.random.default_rng(0).integers(0, 65536, (SIDE, SIDE), dtype=np.uint16).tobytes()
    splits = ["train", "validation", "test", "unlabelled"]
    breast = {name: np.packbits(np.full((28, 28), name != "unlabelled")).tobytes() for name in splits}
    rows = [
        {
            **{"split": split, "view": "CC", "size": [SIDE, SIDE], "pixels": values, "geometry": "null"},
            **{"image_id": split, "breast": breast[split]},
        }
        for split in splits
    ]
    return datasets.Dataset.from_list(rows)


def config(**options):
    return MimConfig("unused", use_cpu=True, seed=0, num_workers=0, **options)


def test_which_images_are_learnt_from_and_which_are_left_as_they_are():
    training, validation = _masked_images(prepared(), MammoImageProcessor(size=SIDE), config(), None)
    assert training.prepared["split"][:] == ["train", "unlabelled"]
    assert validation.prepared["split"][:] == ["validation"]
    before = training[0], validation[0]
    training.epoch = validation.epoch = 1
    assert not torch.equal(before[0]["pixel_values"], training[0]["pixel_values"])
    assert not torch.equal(before[0]["bool_masked_pos"], training[0]["bool_masked_pos"])
    assert torch.equal(before[1]["pixel_values"], validation[0]["pixel_values"])
    assert torch.equal(before[1]["bool_masked_pos"], validation[0]["bool_masked_pos"])
    stored = np.frombuffer(validation.prepared[0]["pixels"], np.uint16).reshape(SIDE, SIDE) / 65535
    shown = validation.processor.denormalize(before[1]["pixel_values"].numpy())
    np.testing.assert_allclose(shown, stored, atol=1e-5)


@pytest.mark.parametrize("options", [{"mask_within": "breast"}, {"loss_region": "masked_breast"}])
def test_an_image_without_a_breast_is_named_before_the_first_step(options):
    with pytest.raises(DataError, match="image unlabelled"):
        _masked_images(prepared(), MammoImageProcessor(size=SIDE), config(**options), None)
