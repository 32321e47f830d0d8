import json
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from mammo_hf.processing.geometry import ORIENTATIONS, Geometry, in_source, mirrored, oriented


@st.composite
def geometries(draw):
    rows, columns = draw(st.integers(2, 300)), draw(st.integers(2, 300))
    top, left = draw(st.integers(0, rows - 1)), draw(st.integers(0, columns - 1))
    bottom, right = draw(st.integers(top + 1, rows)), draw(st.integers(left + 1, columns))
    size = draw(st.integers(8, 200)), draw(st.integers(8, 200))
    resized = draw(st.integers(1, size[0])), draw(st.integers(1, size[1]))
    offset = draw(st.integers(0, size[0] - resized[0])), draw(st.integers(0, size[1] - resized[1]))
    spacing = draw(st.none() | st.tuples(st.floats(0.01, 1), st.floats(0.01, 1)))
    orientation = draw(st.sampled_from(sorted(ORIENTATIONS)))
    return Geometry((rows, columns), (top, left, bottom, right), orientation, resized, offset, size, spacing)


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
    geometry = Geometry((100, 50), (0, 10, 100, 50), "flip_left_right", (100, 40), (0, 0), (100, 60))
    np.testing.assert_allclose(geometry.to_model([[5, 10]]), [[5, 40]])
    plain = Geometry((100, 50), (0, 10, 100, 50), "identity", (100, 40), (0, 0), (100, 60))
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
    geometry = Geometry((10, 10), (0, 0, 10, 10), "identity", (5, 5), (0, 0), (5, 5))
    with pytest.raises(ValueError, match="does not belong"):
        geometry.mask_to_model(np.ones((9, 10)))


@given(geometries())
def test_map_to_source_has_the_sources_shape_and_fill(geometry):
    lifted = geometry.map_to_source(np.ones(geometry.size), fill=-1)
    assert lifted.shape == geometry.source_size
    top, left, bottom, right = geometry.crop
    np.testing.assert_allclose(lifted[top:bottom, left:right], 1, atol=1e-5)
    assert (lifted == -1).sum() == lifted.size - (bottom - top) * (right - left)


@pytest.mark.parametrize("orientation", ORIENTATIONS)
def test_map_to_source_follows_the_points(orientation):
    sizes = ((24, 32), (0, 4), (24, 40)) if ORIENTATIONS[orientation][2] else ((32, 24), (4, 0), (40, 24))
    geometry = Geometry((80, 60), (8, 4, 72, 52), orientation, *sizes)
    values = np.zeros(geometry.size)
    values[20, 10] = 1
    row, column = np.unravel_index(geometry.map_to_source(values).argmax(), (80, 60))
    expected = geometry.to_source([[20.5, 10.5]])[0]
    assert abs(row + 0.5 - expected[0]) <= 0.5
    assert abs(column + 0.5 - expected[1]) <= 0.5


@given(geometries())
def test_json_there_and_back(geometry):
    assert Geometry.from_dict(json.loads(json.dumps(geometry.to_dict()))) == geometry


@given(geometries(), st.integers(0, 2**32))
def test_millimetres_are_pixels_times_the_spacing(geometry, seed):
    points = np.random.default_rng(seed).uniform(-10, 310, (2, 20, 2))
    if geometry.spacing_mm is None:
        for move in (geometry.to_model, geometry.to_source):
            with pytest.raises(ValueError, match="not known"):
                move(points, unit="mm")
        return
    in_mm = points * geometry.spacing_mm
    np.testing.assert_allclose(geometry.to_model(in_mm, unit="mm"), geometry.to_model(points), atol=1e-6)
    np.testing.assert_allclose(geometry.to_source(geometry.to_model(points), unit="mm"), in_mm, atol=1e-6)


def test_an_unknown_unit_is_refused():
    with pytest.raises(ValueError, match="inch"):
        Geometry((10, 10), (0, 0, 10, 10), "identity", (5, 5), (0, 0), (5, 5)).to_model([1, 1], unit="inch")


@given(geometries(), st.integers(0, 2**32))
def test_polygons_and_boxes_follow_their_corners(geometry, seed):
    corners = np.random.default_rng(seed).uniform(0, 300, (2, 5, 2))
    moved = geometry.polygons_to_model(corners)
    for polygon, there, back in zip(corners, moved, geometry.polygons_to_source(moved), strict=True):
        np.testing.assert_allclose(back, polygon, atol=1e-6)
        # same corners, and the same sense of rotation, in another scale
        assert _signed_area(there) == pytest.approx(_signed_area(polygon) * np.prod(geometry.scale), rel=1e-6, abs=1e-3)
    boxes = np.concatenate([corners.min(1), corners.max(1)], axis=1)
    np.testing.assert_allclose(
        geometry.boxes_to_model(boxes), np.concatenate([[p.min(0) for p in moved], [p.max(0) for p in moved]], axis=1)
    )
    np.testing.assert_allclose(geometry.boxes_to_source(geometry.boxes_to_model(boxes[None]))[0], boxes, atol=1e-6)


def _signed_area(polygon):
    rows, columns = polygon.T
    return (rows * np.roll(columns, -1) - columns * np.roll(rows, -1)).sum() / 2


@given(geometries(), st.data())
def test_edges_of_a_mask_come_back_within_half_a_source_pixel(geometry, data):
    # a mask that begins at some row and column of the crop: what it covers on the canvas tells where
    top, left, bottom, right = geometry.crop
    row, column = data.draw(st.integers(top, bottom - 1)), data.draw(st.integers(left, right - 1))
    mask = np.zeros((2, *geometry.source_size), bool)
    mask[0, row:], mask[1, :, column:] = True, True
    down, across = in_source(geometry.mask_to_model(mask), geometry.orientation)
    covered = down.max(1).sum(dtype=float) / geometry.scale[0], across.max(0).sum(dtype=float) / geometry.scale[1]
    assert abs(bottom - covered[0] - row) < 0.5
    assert abs(right - covered[1] - column) < 0.5


@given(geometries(), st.data())
def test_a_pixel_is_where_its_point_is(geometry, data):
    top, left, bottom, right = geometry.crop
    row, column = data.draw(st.integers(top, bottom - 1)), data.draw(st.integers(left, right - 1))
    mask = np.zeros(geometry.source_size)
    mask[row, column] = 1
    weights = geometry.map_to_model(mask).astype(np.float64)
    centre = [(weights.sum(1 - axis) * (np.arange(geometry.size[axis]) + 0.5)).sum() / weights.sum() for axis in (0, 1)]
    scale = geometry.scale[::-1] if ORIENTATIONS[geometry.orientation][2] else geometry.scale
    # the area's mean is within half a canvas pixel of the point, or within half a source pixel where that is more
    apart = np.abs(centre - geometry.to_model([row + 0.5, column + 0.5]))
    assert (apart <= 0.5 * np.maximum(1, scale) + 1e-5).all()


@given(geometries(), st.integers(0, 2**32))
def test_strips_give_the_same_picture_in_every_orientation(geometry, seed):
    source = np.random.default_rng(seed).random(geometry.source_size, np.float32)
    top, left, bottom, right = geometry.crop
    cropped = source[top:bottom, left:right]
    strips = geometry.place_strips(lambda rows: (cropped[rows], 0))
    np.testing.assert_allclose(strips, geometry.map_to_model(source), atol=1e-6)
    upright = replace(geometry, orientation="identity", resized=geometry.resized, crop=(0, 0, *cropped.shape))
    if not ORIENTATIONS[geometry.orientation][2]:
        there = replace(upright, source_size=cropped.shape).map_to_model(oriented(cropped, geometry.orientation))
        np.testing.assert_allclose(strips, there, atol=1e-5)


@pytest.mark.parametrize("orientation", ORIENTATIONS)
def test_orientations_are_undone_and_mirrored(orientation):
    picture = np.arange(24).reshape(2, 3, 4)
    there = oriented(picture, orientation)
    np.testing.assert_array_equal(in_source(there, orientation), picture)
    np.testing.assert_array_equal(oriented(picture, mirrored(orientation)), there[..., ::-1])
    method = getattr(Image.Transpose, orientation.upper(), None)
    if method is not None:  # the names are PIL's
        flat = picture[0].astype(np.uint8)
        np.testing.assert_array_equal(np.asarray(Image.fromarray(flat).transpose(method)), oriented(flat, orientation))


@given(geometries(), st.integers(0, 2**32))
def test_a_batch_of_maps_is_each_map(geometry, seed):
    rng = np.random.default_rng(seed)
    lifted = geometry.map_to_source(maps := rng.random((2, 3, *geometry.size)))
    np.testing.assert_array_equal(lifted[1, 2], geometry.map_to_source(maps[1, 2]))
    placed = geometry.map_to_model(sources := rng.random((2, *geometry.source_size)))
    np.testing.assert_array_equal(placed[1], geometry.map_to_model(sources[1]))


def test_a_mask_there_and_back_is_the_mask():
    geometry = Geometry((200, 100), (0, 0, 200, 100), "flip_left_right", (100, 50), (0, 0), (100, 50))
    mask = np.zeros((200, 100), bool)
    mask[40:80, 10:30] = True
    back = geometry.mask_to_source(geometry.mask_to_model(mask))
    assert np.count_nonzero(back != mask) <= 4  # the corners, rounded by the interpolation
