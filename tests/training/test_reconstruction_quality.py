import numpy as np
import pytest

from mammo_hf.training.mim import psnr, quality, ssim_map


def pictures():
    generator = np.random.default_rng(0)
    one = generator.random((40, 30))
    return one, np.clip(one + 0.1 * generator.standard_normal(one.shape), 0, 1)


def test_psnr_by_its_definition():
    image, other = np.zeros((4, 4)), np.full((4, 4), 0.1)
    assert psnr(image, other, np.ones((4, 4), bool)) == pytest.approx(20.0)
    other[0] = 1.0
    assert psnr(image, other, np.arange(16).reshape(4, 4) >= 4) == pytest.approx(20.0)
    assert psnr(image, image, np.ones((4, 4), bool)) == float("inf")


def test_ssim_at_one_place_by_its_definition():
    one, other = pictures()
    offsets = np.arange(-5, 6)
    weights = np.exp(-(offsets**2) / (2 * 1.5**2))
    weights = np.outer(weights, weights) / weights.sum() ** 2
    a, b = one[15:26, 10:21], other[15:26, 10:21]
    mean_a, mean_b = (weights * a).sum(), (weights * b).sum()
    covariance = (weights * (a - mean_a) * (b - mean_b)).sum()
    variances = (weights * (a - mean_a) ** 2).sum() + (weights * (b - mean_b) ** 2).sum()
    expected = (2 * mean_a * mean_b + 1e-4) * (2 * covariance + 9e-4)
    expected /= (mean_a**2 + mean_b**2 + 1e-4) * (variances + 9e-4)
    assert ssim_map(one, other)[20, 15] == pytest.approx(expected, rel=1e-6)
    assert ssim_map(one, one) == pytest.approx(np.ones_like(one))


def test_only_counted_pixels_and_images_matter():
    one, other = pictures()
    counted = np.zeros((2, 40, 30), bool)
    counted[0, 10:30, 10:20] = True
    figures = quality(np.stack([one, one]), np.stack([other, other]), counted)
    assert figures["images"] == 1
    elsewhere = np.where(counted[0], other, 0.0)
    assert quality(one[None], elsewhere[None], counted[:1]) == figures
    assert quality(one[None], one[None], counted[:1])["ssim"] == pytest.approx(1.0)
