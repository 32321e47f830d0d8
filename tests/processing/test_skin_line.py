import numpy as np
import pytest
from PIL import Image

from mammo_hf import MammoImageProcessor
from mammo_hf.processing.breast import breast_region, dilated, find_breast, smoothed, with_faint_skin

ROWS, COLUMNS = np.mgrid[:320, :256]
DISTANCE = np.hypot((ROWS - 160) / 130, COLUMNS / 150)
BREAST = DISTANCE < 1
NIPPLE = np.hypot(ROWS - 160, COLUMNS - 152) < 6


def film(background=0.05, noise=0.004, skin=0.12):
    """Bright inside, and a rim of skin and fat that is hardly brighter than the film."""
    inside = np.where(DISTANCE < 0.93, 0.7, skin)
    image = np.where(BREAST | NIPPLE, inside, background)
    return image + noise * np.random.default_rng(0).standard_normal(image.shape)


@pytest.mark.parametrize(("background", "step"), [(0.0, 0.07), (0.05, 0.07), (0.3, 0.05)])
def test_faint_skin_and_the_nipple_belong_to_the_breast(background, step):
    image = np.clip(film(background, skin=background + step), 0, 1)
    found = find_breast(image).mask
    assert (BREAST & ~found).sum() < 0.01 * BREAST.sum()
    assert (NIPPLE & ~found).mean() < 0.1 * NIPPLE.mean()
    assert (found & ~BREAST & ~NIPPLE).sum() < 0.02 * BREAST.sum()


def test_noise_a_scratch_and_a_glowing_background_add_nothing():
    plain = np.where(DISTANCE < 1, 0.7, 0.05)
    mask = breast_region(smoothed(plain))
    noisy = plain + 0.03 * np.random.default_rng(0).standard_normal(plain.shape)
    assert (with_faint_skin(smoothed(noisy), mask) & ~mask).sum() < 0.01 * mask.sum()
    scratched = plain.copy()
    scratched[:, 120] = 1.0
    assert (with_faint_skin(smoothed(scratched), mask) & ~mask).sum() < 0.01 * mask.sum()
    glowing = np.where(DISTANCE < 1, 0.7, 0.05 + 0.4 * np.clip(1.4 - DISTANCE, 0, None))
    assert (with_faint_skin(smoothed(glowing), mask) & ~mask).sum() < 0.01 * mask.sum()
    # a halo wider than any skin is none
    halo = np.where(dilated(mask, 20) & ~mask, 0.3, plain)
    np.testing.assert_array_equal(with_faint_skin(smoothed(halo), mask), mask)


def test_a_breast_without_background_stays_as_it_is():
    mask = np.ones((40, 30), bool)
    np.testing.assert_array_equal(with_faint_skin(np.full((40, 30), 0.5), mask), mask)


def test_real_films_keep_what_lies_under_their_skin(real_data):
    # places found by eye: the nipple of mdb126, the skin of the others
    for name, row, column in (("mdb126", 699, 808), ("mdb002", 646, 660), ("mdb110", 686, 676)):
        with Image.open(real_data / "mini-mias" / f"{name}.png") as picture:
            image = np.asarray(picture)
        breast = MammoImageProcessor().find_breast(image)
        assert breast.mask_at(np.array([row]), np.array([column])).all(), name
        assert find_breast(image[::4, ::4] / 255, stride=4, size=image.shape).box == breast.box
