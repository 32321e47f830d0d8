import numpy as np
import pytest

from mammo_hf.errors import UsageError
from mammo_hf.explainers.explanation import find_peaks, peak
from mammo_hf.explainers.measures import (
    best_iou,
    brightest,
    centre,
    distance_to_lesion,
    energy_over_chance,
    pixel_auroc,
    pointing_hit,
    random_map,
)
from mammo_hf.metrics.inputs import UndefinedMetric


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


def test_what_does_not_belong_together_is_refused():
    with pytest.raises(UsageError, match="lesion"):
        pointing_hit(np.ones((20, 20)), np.ones((10, 10)))


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


BREAST = np.ones((20, 20))


def test_energy_is_counted_over_what_an_even_map_has():
    lesion = square(4, 4, 4)  # 16 of 400 pixels
    assert energy_over_chance(BREAST, lesion, BREAST) == pytest.approx(1)
    assert energy_over_chance(lesion, lesion, BREAST) == pytest.approx(400 / 16)
    half = square(4, 4, 4) + square(12, 12, 4)
    assert energy_over_chance(half, lesion, BREAST) == pytest.approx(400 / 32)
    assert energy_over_chance(np.zeros((20, 20)), lesion, BREAST) == 0
    # a smaller breast makes the lesion easier to find
    breast = square(0, 0, 10)
    assert energy_over_chance(lesion, lesion, breast) == pytest.approx(100 / 16)


def test_pixels_are_ranked_within_the_breast():
    lesion, breast = square(4, 4, 4), square(0, 0, 10)
    assert pixel_auroc(lesion, lesion, breast) == 1
    assert pixel_auroc(1 - lesion, lesion, breast) == 0
    assert pixel_auroc(BREAST, lesion, breast) == 0.5
    outside = np.where(breast > 0, 0.5, 1.0)  # what shines outside the breast is not counted
    assert pixel_auroc(outside, lesion, breast) == 0.5
    with pytest.raises(UndefinedMetric):
        pixel_auroc(BREAST, breast, breast)


def test_the_best_threshold_is_found():
    lesion = square(4, 4, 4)
    assert best_iou(lesion, lesion) == 1
    assert best_iou(0.5 * square(3, 3, 6) + 0.5 * lesion, lesion) == 1
    assert best_iou(square(4, 4, 8), lesion) == pytest.approx(16 / 64)
    assert best_iou(square(12, 12, 4), lesion) == 0
    assert best_iou(np.zeros((20, 20)), lesion) == 0
    rng = np.random.default_rng(0)
    values = rng.integers(0, 5, (20, 20)) / 4
    tried = [np.sum((values >= t) & (lesion > 0)) / np.sum((values >= t) | (lesion > 0)) for t in (0.25, 0.5, 0.75, 1)]
    assert best_iou(values, lesion) == pytest.approx(max(tried))


def test_the_distance_is_to_the_nearest_part_of_the_lesion():
    lesion = square(4, 4, 4)
    assert distance_to_lesion(square(5, 5, 1), lesion) == 0
    assert distance_to_lesion(square(5, 11, 1), lesion) == 4
    assert distance_to_lesion(np.zeros((20, 20)), lesion) == float("inf")


def test_baselines_stay_in_the_breast_and_are_the_same_each_time():
    breast = square(2, 2, 12, 40)
    for values in (centre(breast), random_map(breast, 3, token=4)):
        assert values.shape == breast.shape
        assert not values[breast == 0].any()
        assert 0 <= values.min() < values.max() <= 1
    assert peak(centre(breast)) in ((7, 7), (7, 8), (8, 7), (8, 8))
    np.testing.assert_array_equal(random_map(breast, 3), random_map(breast, 3))
    assert (random_map(breast, 3) != random_map(breast, 4)).any()
    assert not centre(np.zeros((20, 20))).any()


def test_peaks_are_apart_and_in_order():
    values = 0.5 * square(2, 2, 1, 56) + 0.9 * square(30, 30, 1, 56) + 0.8 * square(31, 32, 1, 56)
    found = find_peaks(values, 3)
    assert [(place.value, place.model) for place in found] == [(0.9, (30.5, 30.5)), (0.5, (2.5, 2.5))]
    assert find_peaks(np.zeros((20, 20)), 3) == []
