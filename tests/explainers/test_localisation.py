import numpy as np
import pytest

from mammo_hf.errors import UsageError
from mammo_hf.explainers.localisation import brightest, peak, pointing_game, pointing_hit


def square(top, left, side, size=20):
    values = np.zeros((size, size))
    values[top : top + side, left : left + side] = 1
    return values


def test_the_peak_of_a_plateau_is_its_middle():
    assert peak(square(4, 4, 5)) == (6, 6)
    assert pointing_hit(square(4, 4, 5), square(6, 6, 1))
    assert not pointing_hit(square(4, 4, 5), square(4, 4, 1))


def test_the_middle_of_a_ring_is_still_on_the_ring():
    ring = square(4, 4, 7) - square(5, 5, 5)
    assert ring[peak(ring)] == 1


def test_a_flat_map_points_nowhere():
    assert not pointing_hit(np.zeros((20, 20)), np.ones((20, 20)))
    assert not pointing_hit(np.full((20, 20), 0.5), np.ones((20, 20)))


def test_the_game_is_the_share_of_hits():
    maps = [square(4, 4, 3), square(10, 10, 3), square(0, 0, 3), square(15, 2, 3)]
    lesions = [square(3, 3, 5), square(3, 3, 5), square(0, 0, 5), square(14, 1, 5)]
    assert pointing_game(maps, lesions) == 0.75


def test_what_does_not_belong_together_is_refused():
    with pytest.raises(UsageError, match="lesion"):
        pointing_hit(np.ones((20, 20)), np.ones((10, 10)))
    with pytest.raises(UsageError, match="each map"):
        pointing_game([square(4, 4, 3)], [])
    with pytest.raises(UsageError, match="no map"):
        pointing_game([], [])


def test_the_brightest_tissue_is_no_noise_and_no_film_label():
    image = np.zeros((40, 40))
    image[10:16, 10:16] = 0.8
    image[30, 30] = 1.0  # one pixel of dust
    assert pointing_hit(brightest(image), square(10, 10, 6, 40))
    image[0:8, 32:40] = 1.0  # a label
    breast = np.zeros((40, 40))
    breast[:, :25] = 1
    assert not pointing_hit(brightest(image), square(10, 10, 6, 40))
    assert pointing_hit(brightest(image, breast), square(10, 10, 6, 40))
