from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mammo_hf.phantom.anatomy import pixel_centres, smoothstep, upsample
from mammo_hf.phantom.parenchyma import around_nipple, power_law_noise


@pytest.mark.parametrize("beta", [2.0, 3.0])
def test_noise_has_the_power_law_that_was_asked_for(beta: float) -> None:
    spectrum = np.zeros((256, 256))
    for seed in range(8):
        noise = power_law_noise(np.random.default_rng(seed), (256, 256), beta=beta, longest=10.0)
        assert noise.dtype == np.float32
        assert abs(noise.mean()) < 1e-4
        assert noise.std() == pytest.approx(1.0, abs=1e-4)
        spectrum += np.abs(np.fft.fft2(noise)) ** 2
    frequency = np.hypot(*np.meshgrid(np.fft.fftfreq(256), np.fft.fftfreq(256)))
    band = (frequency > 0.02) & (frequency < 0.4)
    slope = np.polyfit(np.log(frequency[band]), np.log(spectrum[band]), 1)[0]
    assert slope == pytest.approx(-beta, abs=0.15)


def test_short_wavelengths_fade_where_asked() -> None:
    rough = power_law_noise(np.random.default_rng(0), (128, 128), beta=2.0)
    smooth = power_law_noise(np.random.default_rng(0), (128, 128), beta=2.0, shortest=0.05)
    assert np.abs(np.diff(smooth, axis=0)).mean() < 0.5 * np.abs(np.diff(rough, axis=0)).mean()


@given(
    have=st.tuples(st.integers(2, 20), st.integers(2, 20)),
    factor=st.tuples(st.integers(1, 5), st.integers(1, 5)),
    slope=st.floats(-2, 2),
)
def test_upsampling_keeps_a_plane_and_its_bounds(have: tuple[int, int], factor: tuple[int, int], slope: float) -> None:
    size = (have[0] * factor[0], have[1] * factor[1])
    rows, columns = np.arange(have[0])[:, None] + 0.5, np.arange(have[1])[None, :] + 0.5
    plane = (slope * rows / have[0] + columns / have[1]).astype(np.float32)
    fine = upsample(plane, size)
    assert fine.shape == size
    assert fine.min() >= plane.min() - 1e-5
    assert fine.max() <= plane.max() + 1e-5
    rows, columns = np.arange(size[0])[:, None] + 0.5, np.arange(size[1])[None, :] + 0.5
    exact = slope * rows / size[0] + columns / size[1]
    inside = np.s_[factor[0] : size[0] - factor[0], factor[1] : size[1] - factor[1]]
    np.testing.assert_allclose(fine[inside], exact[inside], atol=1e-4)


def test_smoothstep_goes_from_nought_to_one_without_corners() -> None:
    values = smoothstep(np.linspace(-1, 2, 301), 0.0, 1.0)
    assert values[0] == 0.0
    assert values[-1] == 1.0
    assert np.all(np.diff(values) >= 0)
    assert np.abs(np.diff(values, n=2)).max() < 1e-3


def test_pixel_centres_are_in_image_heights() -> None:
    rows, columns = pixel_centres((4, 2))
    np.testing.assert_allclose(rows[:, 0], [0.125, 0.375, 0.625, 0.875])
    np.testing.assert_allclose(columns[0], [0.125, 0.375])


def test_structures_run_towards_the_nipple() -> None:
    nipple, size = (0.5, 0.4), (256, 128)
    along, across = 0.0, 0.0
    for seed in range(4):
        texture = power_law_noise(np.random.default_rng(seed), (256, 256), beta=3.0, longest=0.2)
        field = around_nipple(texture, nipple, size, 0.5, stretch=3.0)
        # on the nipple's own row the ducts run horizontally
        strip = field[118:138, 10:90]
        along += np.abs(np.diff(strip, axis=1)).mean()
        across += np.abs(np.diff(strip, axis=0)).mean()
    assert across > 1.5 * along
