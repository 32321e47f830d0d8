import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mammo_hf.processing import geometry as resizing
from mammo_hf.processing.geometry import area_weights, interpolation_weights, resize_area, resize_strips


@given(st.integers(1, 12), st.integers(1, 12), st.integers(1, 12), st.integers(1, 12), st.integers(0, 2**32))
def test_resize_equals_a_naive_area_mean(rows, columns, new_rows, new_columns, seed):
    image = np.random.default_rng(seed).random((rows, columns))

    def weights(old, new):
        return np.array(
            [[max(0, min((t + 1) * old / new, s + 1) - max(t * old / new, s)) for s in range(old)] for t in range(new)]
        ) * (new / old)

    expected = weights(rows, new_rows) @ image @ weights(columns, new_columns).T
    np.testing.assert_allclose(resize_area(image, (new_rows, new_columns)), expected, atol=1e-5)


def test_strips_give_the_same_as_the_whole(monkeypatch):
    image = np.random.default_rng(0).integers(0, 4096, (157, 93)).astype(np.uint16)
    expected = resize_area(image, (40, 31))
    monkeypatch.setattr(resizing, "STRIP", 500)
    seen = []

    def read(rows):
        seen.append(rows.stop - rows.start)
        return image[rows], 0

    strips = resize_strips(read, area_weights(157, 40), area_weights(93, 31))
    np.testing.assert_allclose(strips, expected, rtol=1e-6)
    assert max(seen) * image.shape[1] < 1500


def test_leading_axes_are_kept():
    images = np.random.default_rng(0).random((2, 3, 20, 10))
    resized = resize_area(images, (7, 4))
    assert resized.shape == (2, 3, 7, 4)
    np.testing.assert_array_equal(resized[1, 2], resize_area(images[1, 2], (7, 4)))
    assert resize_area(np.zeros((0, 20, 10)), (7, 4)).shape == (0, 7, 4)


@pytest.mark.parametrize("length", [1, 2, 9])
def test_interpolation_is_exact_on_a_ramp_and_repeats_the_ends(length):
    positions = np.linspace(-2, length + 1, 40)
    values = interpolation_weights(positions, length) @ np.arange(length, dtype=np.float32)
    np.testing.assert_allclose(values, np.clip(positions, 0, length - 1), atol=1e-5)
