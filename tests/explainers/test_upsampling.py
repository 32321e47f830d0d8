import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy import ndimage

from mammo_hf.explainers.explain import upsampled


@given(st.integers(1, 9), st.integers(1, 9), st.integers(1, 5), st.integers(1, 5), st.integers(0, 99))
def test_equals_scipys_spline_and_stays_in_range(rows, columns, down, across, seed):
    values = torch.rand(2, rows, columns, generator=torch.Generator().manual_seed(seed))
    found = upsampled(values, (rows * down, columns * across)).numpy()
    if down > 1 or across > 1:
        expected = [
            ndimage.zoom(one, (down, across), order=3, prefilter=False, mode="nearest", grid_mode=True)
            for one in values.numpy()
        ]
        np.testing.assert_allclose(found, expected, atol=1e-5)
    assert found.min() >= float(values.min()) - 1e-6
    assert found.max() <= float(values.max()) + 1e-6


def test_a_peak_that_two_tokens_share_lies_between_them():
    values = torch.zeros(1, 14, 7)
    values[0, 5, 3] = values[0, 6, 3] = 1.0
    found = upsampled(values, (224, 112))[0]
    row, column = divmod(int(found.argmax()), 112)
    assert (row, column // 16) in ((95, 3), (96, 3))  # the border of rows 5 and 6 of 16 pixels each
    values[0, 6, 3] = 0.0
    row = int(upsampled(values, (224, 112))[0].argmax()) // 112
    assert row // 16 == 5  # one token alone keeps its peak


@pytest.mark.parametrize("size", [(14, 7), (7, 7)])
def test_what_is_fine_enough_is_not_smoothed(size):
    values = torch.rand(1, 14, 7)
    found = upsampled(values, size)
    assert found.shape == (1, *size)
    assert float(found.mean()) == pytest.approx(float(values.mean()), rel=1e-5)
