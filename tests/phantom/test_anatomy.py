from __future__ import annotations

import numpy as np
import pytest
from scipy import ndimage

from mammo_hf.phantom.anatomy import Habitus, Outline, draw_habitus, draw_outline, other_side

WIDTH = 0.5


@pytest.fixture(params=range(4))
def habitus(request: pytest.FixtureRequest) -> Habitus:
    return draw_habitus(np.random.default_rng(request.param), WIDTH)


@pytest.fixture(params=["CC", "MLO"])
def outline(request: pytest.FixtureRequest, habitus: Habitus) -> Outline:
    return draw_outline(habitus, request.param, WIDTH, np.random.default_rng(7))


def test_the_breast_is_one_piece_on_the_chest_wall_with_air_in_front(outline: Outline) -> None:
    breast = outline.depth > 0
    _, pieces = ndimage.label(breast)
    assert pieces == 1
    assert breast[:, 0].mean() > 0.6
    assert not breast[:, -2:].any()
    assert 0.25 < breast.mean() < 0.85


def test_the_nipple_is_on_the_skin_and_the_farthest_point_forward(outline: Outline) -> None:
    row, column = outline.nipple
    height = outline.depth.shape[0]
    at = outline.depth[int(row * height), min(int(column * height), outline.depth.shape[1] - 1)]
    assert abs(at) < 2.5 / height
    front = np.flatnonzero((outline.depth > 0).any(axis=0)).max() / height
    assert abs(front - column) < 0.02


def test_depth_is_the_distance_to_the_skin(outline: Outline) -> None:
    depth = outline.depth
    edge = (depth > 0) & ~ndimage.binary_erosion(depth > 0, border_value=1)
    pixel = 1.0 / depth.shape[0]
    exact = ndimage.distance_transform_edt(~edge) * pixel
    # the cleft between breast and abdomen may be narrower than a pixel
    assert np.quantile(np.abs(np.abs(depth) - exact), 0.998) < 2.5 * pixel


def test_the_muscle_fills_the_upper_corner_at_the_chest_wall_in_mlo_alone(habitus: Habitus) -> None:
    rng = np.random.default_rng(3)
    assert draw_outline(habitus, "CC", WIDTH, rng).muscle.max() < 0
    mlo = draw_outline(habitus, "MLO", WIDTH, rng)
    assert mlo.muscle[0, 0] > 0.03
    assert mlo.muscle[-1].max() < 0
    assert mlo.muscle[:, -1].max() < 0
    assert 0.03 < (mlo.muscle > 0).mean() < 0.35
    # the muscle never covers the nipple
    row, column = mlo.nipple
    assert mlo.clearance(np.array([row]), np.array([column - 0.05]))[0] > 0


def test_clearance_is_negative_in_air_and_in_muscle(habitus: Habitus) -> None:
    mlo = draw_outline(habitus, "MLO", WIDTH, np.random.default_rng(3))
    points = np.array([[0.02, 0.01], [0.95, 0.48], [mlo.nipple[0], mlo.nipple[1] * 0.6]])
    muscle, air, breast = mlo.clearance(points[:, 0], points[:, 1])
    assert muscle < 0
    assert air < 0
    assert breast > 0.03


def test_the_other_breast_is_alike_and_not_equal(habitus: Habitus) -> None:
    other = other_side(habitus, np.random.default_rng(5))
    assert other.depth != habitus.depth
    assert other.depth == pytest.approx(habitus.depth, rel=0.051)
    assert other.half_height == pytest.approx(habitus.half_height, rel=0.031)


@pytest.mark.parametrize("width", [0.3, 0.5, 1.0])
def test_the_breast_fits_any_picture(width: float) -> None:
    for seed in range(5):
        habitus = draw_habitus(np.random.default_rng(seed), width)
        for view in ("CC", "MLO"):
            assert draw_outline(habitus, view, width, np.random.default_rng(seed)).nipple[1] < width
