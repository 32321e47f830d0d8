import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mammo_hf.app.exam import clicked_point, draw_view


@pytest.fixture
def ramp():
    return np.linspace(0, 1, 101, dtype=np.float32)[None].repeat(40, axis=0)


def test_window_and_level_are_black_and_white_where_they_say(ramp):
    shown = draw_view(ramp, level=0.5, window=0.2)[..., 0]
    assert (shown[:, :41] == 0).all()
    assert (shown[:, 60:] == 255).all()
    assert shown[0, 50] == pytest.approx(127.5, abs=1)
    plain = draw_view(ramp)
    assert plain[0, :, 0] == pytest.approx(np.rint(255 * ramp[0]), abs=1)
    assert (plain[..., 0] == plain[..., 1]).all()


def test_a_map_colours_where_it_is_and_as_much_as_it_may(ramp):
    values = np.zeros_like(ramp)
    values[:, 20:30] = 1
    half, full = (draw_view(ramp, values=values, opacity=opacity) for opacity in (0.5, 1.0))
    plain = draw_view(ramp)
    assert np.abs(half[:, 30:].astype(int) - plain[:, 30:]).max() <= 1  # as it was, but for rounding
    assert (half[:, 20:30] != plain[:, 20:30]).any(axis=2).all()
    assert (full[:, 20:30] == full[0, 20]).all()
    assert np.array_equal(draw_view(ramp, values=values, opacity=0), plain)


@given(
    zoom=st.floats(1, 8),
    centre=st.tuples(st.floats(0, 1), st.floats(0, 1)),
    click=st.tuples(st.integers(0, 59), st.integers(0, 29)),
)
def test_a_click_finds_the_pixel_that_was_under_it(zoom, centre, click):
    # each pixel tells its own place
    rows, columns = np.mgrid[:60, :30].astype(np.float32)
    place = clicked_point(click, zoom, centre, (60, 30))
    for axis, values in enumerate((rows / 60, columns / 60)):
        shown = draw_view(values, zoom=zoom, centre=centre)[click][0] / 255
        assert shown == pytest.approx((place[axis] * (60, 30)[axis] - 0.5) / 60, abs=1 / 255)


def test_an_enlarged_part_stays_inside(ramp):
    corner = draw_view(ramp, zoom=4, centre=(0, 1))
    assert corner.shape == (40, 101, 3)
    assert corner[0, 0, 0] > 180
