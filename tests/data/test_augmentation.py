"""An augmented mammogram is one still: background stays black, and a strong view is stronger than a weak one."""

import numpy as np
import torch

from mammo_hf.data.augmentation import STRONG_VIEW, WEAK_VIEW, Augmentation

STILL = {"rotation": 0.0, "scale": 0.0, "shift": 0.0, "gamma": 0.0, "flip": False}


def breast():
    image = torch.zeros(1, 64, 32)
    image[:, 10:50, :20] = torch.linspace(0.3, 0.7, 20)
    return image


def test_noise_leaves_the_background_alone():
    image, lesions = breast(), torch.zeros(1, 16, 8)
    noisy, _ = Augmentation(**STILL, noise=0.1)(image, lesions, view="CC", generator=np.random.default_rng(0))
    assert noisy[image == 0].max() < 1e-3
    change = (noisy - image)[image > 0]
    assert 0 < change.std() <= 0.1
    assert noisy.min() >= 0
    assert noisy.max() <= 1


def test_a_strong_view_is_further_from_the_image_than_a_weak_one():
    image, lesions = breast(), torch.zeros(1, 16, 8)
    apart = [
        np.mean(
            [
                float((view(image, lesions, view="MLO", generator=np.random.default_rng(seed))[0] - image).abs().mean())
                for seed in range(20)
            ]
        )
        for view in (WEAK_VIEW, STRONG_VIEW)
    ]
    assert 0 < apart[0] < apart[1] / 2


def test_a_random_curve_keeps_every_order_and_its_ends():
    image, lesions = torch.linspace(0, 1, 64 * 32).reshape(1, 64, 32), torch.zeros(1, 16, 8)
    drawn = [
        Augmentation(**STILL, curve=2.0)(image, lesions, view="MLO", generator=np.random.default_rng(seed))[0]
        for seed in range(5)
    ]
    for bent in drawn:
        assert (bent.flatten().diff() >= 0).all()
        assert bent.flatten()[[0, -1]].tolist() == [0, 1]
        assert (bent - image).abs().max() > 0.02
    assert not torch.equal(drawn[0], drawn[1])
