import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mammo_hf.geometry import Geometry, resize_area


@st.composite
def geometries(draw):
    rows, columns = draw(st.integers(2, 300)), draw(st.integers(2, 300))
    top, left = draw(st.integers(0, rows - 1)), draw(st.integers(0, columns - 1))
    bottom, right = draw(st.integers(top + 1, rows)), draw(st.integers(left + 1, columns))
    size = draw(st.integers(8, 200)), draw(st.integers(8, 200))
    resized = draw(st.integers(1, size[0])), draw(st.integers(1, size[1]))
    offset = draw(st.integers(0, size[0] - resized[0])), draw(st.integers(0, size[1] - resized[1]))
    return Geometry((rows, columns), (top, left, bottom, right), draw(st.booleans()), resized, offset, size)


@given(geometries(), st.integers(0, 2**32))
def test_points_there_and_back(geometry, seed):
    points = np.random.default_rng(seed).uniform(-10, 310, (20, 2))
    np.testing.assert_allclose(geometry.to_source(geometry.to_model(points)), points, atol=1e-6)


@given(geometries())
def test_crop_corners_are_the_resized_corners(geometry):
    top, left, bottom, right = geometry.crop
    box = geometry.boxes_to_model([[top, left, bottom, right]])[0]
    expected = [*geometry.offset, geometry.offset[0] + geometry.resized[0], geometry.offset[1] + geometry.resized[1]]
    np.testing.assert_allclose(box, expected, atol=1e-6)
    np.testing.assert_allclose(geometry.boxes_to_source([box])[0], geometry.crop, atol=1e-6)


def test_flip_moves_a_point_to_the_other_side():
    geometry = Geometry((100, 50), (0, 10, 100, 50), True, (100, 40), (0, 0), (100, 60))
    np.testing.assert_allclose(geometry.to_model([[5, 10]]), [[5, 40]])
    plain = Geometry((100, 50), (0, 10, 100, 50), False, (100, 40), (0, 0), (100, 60))
    np.testing.assert_allclose(plain.to_model([[5, 10]]), [[5, 0]])


@given(geometries())
def test_full_mask_covers_the_resized_part_alone(geometry):
    mask = geometry.mask_to_model(np.ones(geometry.source_size, bool))
    top, left = geometry.offset
    inside = np.zeros(geometry.size, bool)
    inside[top : top + geometry.resized[0], left : left + geometry.resized[1]] = True
    np.testing.assert_allclose(mask[inside], 1, atol=1e-5)
    assert not mask[~inside].any()


@given(geometries(), st.integers(0, 2**32))
def test_mask_area_is_preserved(geometry, seed):
    mask = np.random.default_rng(seed).random(geometry.source_size) < 0.5
    top, left, bottom, right = geometry.crop
    area = geometry.mask_to_model(mask).sum(dtype=float) / np.prod(geometry.scale)
    assert area == pytest.approx(mask[top:bottom, left:right].sum(), rel=1e-3, abs=1e-2)


def test_a_mask_of_another_size_is_refused():
    geometry = Geometry((10, 10), (0, 0, 10, 10), False, (5, 5), (0, 0), (5, 5))
    with pytest.raises(ValueError, match="does not belong"):
        geometry.mask_to_model(np.ones((9, 10)))


@given(geometries())
def test_map_to_source_has_the_sources_shape_and_fill(geometry):
    lifted = geometry.map_to_source(np.ones(geometry.size), fill=-1)
    assert lifted.shape == geometry.source_size
    top, left, bottom, right = geometry.crop
    np.testing.assert_allclose(lifted[top:bottom, left:right], 1, atol=1e-5)
    assert (lifted == -1).sum() == lifted.size - (bottom - top) * (right - left)


def test_map_to_source_follows_the_points():
    geometry = Geometry((80, 60), (8, 4, 72, 52), True, (32, 24), (4, 0), (40, 24))
    values = np.zeros((40, 24))
    values[20, 10] = 1
    row, column = np.unravel_index(geometry.map_to_source(values).argmax(), (80, 60))
    expected = geometry.to_source([[20.5, 10.5]])[0]
    assert abs(row + 0.5 - expected[0]) <= 0.5
    assert abs(column + 0.5 - expected[1]) <= 0.5


@given(geometries())
def test_json_there_and_back(geometry):
    assert Geometry.from_dict(json.loads(json.dumps(geometry.to_dict()))) == geometry


@given(st.integers(1, 12), st.integers(1, 12), st.integers(1, 12), st.integers(1, 12), st.integers(0, 2**32))
def test_resize_equals_a_naive_area_mean(rows, columns, new_rows, new_columns, seed):
    image = np.random.default_rng(seed).random((rows, columns))

    def weights(old, new):
        return np.array(
            [[max(0, min((t + 1) * old / new, s + 1) - max(t * old / new, s)) for s in range(old)] for t in range(new)]
        ) * (new / old)

    expected = weights(rows, new_rows) @ image @ weights(columns, new_columns).T
    np.testing.assert_allclose(resize_area(image, (new_rows, new_columns)), expected, atol=1e-5)
