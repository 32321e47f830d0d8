import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import ndimage

from mammo_hf.errors import UsageError
from mammo_hf.explainers.overlay import OUTLINE, contour_overlay, draw_outline, heat_overlay, percent, side_by_side

LUMA = np.array([0.2126, 0.7152, 0.0722])


@given(st.integers(0, 2**32 - 1))
def test_the_image_is_not_tinted_where_the_map_is_zero(seed):
    rng = np.random.default_rng(seed)
    image, values = rng.random((20, 10)), rng.random((20, 10)) * (rng.random((20, 10)) < 0.5)
    picture = heat_overlay(image, values)
    grey = np.rint(image * 255).astype(np.uint8)
    assert (picture[values == 0] == grey[values == 0][:, None]).all()


@pytest.mark.parametrize("grey", [0.0, 0.3, 0.6])
def test_colour_gets_lighter_and_stronger_with_the_map(grey):
    # legible without telling hues apart: on tissue of one grey the lightness alone gives the order from half the map up
    picture = heat_overlay(np.full((1, 64), grey), np.linspace(0, 1, 64)[None]).astype(float)[0]
    lightness, colour = picture @ LUMA, np.ptp(picture, axis=1)
    assert (np.diff(lightness)[32:] > 0).all()
    assert colour[-1] > 60
    assert lightness[-1] > lightness[0]


def test_tissue_shows_through_at_the_maps_peak():
    image = np.tile([0.2, 0.8], (8, 4))
    picture = heat_overlay(image, np.ones(image.shape)).astype(int)
    assert (picture[:, 1::2].sum(-1) - picture[:, ::2].sum(-1)).min() > 60


def test_the_outline_leaves_the_lesion_free():
    mask = np.zeros((30, 30))
    mask[10:20, 10:20] = 1
    picture = draw_outline(np.zeros((30, 30, 3), np.uint8), mask)
    drawn = (picture == OUTLINE).all(-1)
    assert not drawn[9:21, 10:20].any()
    assert drawn[8, 10:20].all()
    assert not draw_outline(np.zeros((30, 30, 3), np.uint8), np.zeros((30, 30)))[..., 1].any()


def test_side_by_side_has_a_panel_a_map_and_the_outline_in_each():
    image, mask = np.full((112, 56), 0.5), np.zeros((112, 56))
    mask[40:60, 20:40] = 1
    maps = {"attention": np.zeros((112, 56)), "grad_cam": mask}
    page = np.asarray(side_by_side(image, maps, mask, scale=2))
    drawn = (page == OUTLINE).all(-1)
    columns = drawn[:230].any(0)
    assert (np.diff(columns.astype(int)) == 1).sum() == 3  # the image alone and two maps
    assert drawn[230:].any()  # the legend
    assert not (np.asarray(side_by_side(image, maps, scale=2)) == OUTLINE).all(-1).any()
    assert page.shape[0] > 224
    alone = np.asarray(side_by_side(image, {"attention": maps["attention"]}, mask))
    assert alone.shape[1] < page.shape[1]


def test_a_map_is_as_strong_as_its_score():
    image, values = np.full((400, 200), 0.4), np.ones((400, 200))
    colours = [np.ptp(heat_overlay(image, values, strength=score).astype(int), axis=2).mean() for score in (0, 0.3, 1)]
    assert colours[0] == 0
    assert 0 < 2 * colours[1] < colours[2]
    assert (contour_overlay(image, values, strength=0.0) == 102).all()
    # without a map the image is drawn once, without a scale of colours
    assert (
        side_by_side(image, {"grad_cam": values}, strength=0.0).width < side_by_side(image, {"grad_cam": values}).width
    )


@pytest.mark.parametrize(
    ("probability", "text"), [(0, "0 %"), (0.001, "<1 %"), (0.03, "3 %"), (0.9999, ">99 %"), (1, "100 %")]
)
def test_a_small_probability_is_not_none(probability, text):
    assert percent(probability) == text


def test_captions_have_room_on_a_narrow_image():
    name = "attention-weighted Grad-CAM"
    page = side_by_side(np.zeros((56, 28)), {name: np.zeros((56, 28))}, scale=1)
    assert page.width > 2 * 100


def test_other_sizes_are_refused():
    image = np.zeros((20, 10))
    with pytest.raises(UsageError, match="values"):
        heat_overlay(image, np.zeros((10, 20)))
    with pytest.raises(UsageError, match="outline"):
        heat_overlay(image, image, np.zeros((5, 5)))
    with pytest.raises(UsageError, match="grad_cam"):
        side_by_side(image, {"grad_cam": np.zeros((5, 5))})


@given(st.integers(0, 2**32 - 1))
def test_contours_leave_the_image_alone_but_for_their_lines(seed):
    rng = np.random.default_rng(seed)
    image = rng.random((40, 20))
    rows, columns = np.mgrid[:40, :20]
    values = np.exp(-((rows - 20) ** 2 + (columns - 9) ** 2) / rng.uniform(10, 60))
    picture, grey = contour_overlay(image, values), np.rint(image * 255).astype(np.uint8)
    changed = (picture != grey[..., None]).any(-1)
    assert changed.any()
    # nothing is drawn far from where the map passes a level
    near = np.zeros(image.shape, bool)
    for level in (0.25, 0.5, 0.75):
        inside = values >= level
        near |= ndimage.binary_dilation(inside, iterations=2) & ~ndimage.binary_erosion(inside, iterations=2)
    assert not (changed & ~near).any()
    assert (contour_overlay(image, np.zeros_like(image)) == grey[..., None]).all()


def test_the_higher_contour_is_the_lighter_one():
    values = np.linspace(0, 1, 64)[None].repeat(8, axis=0)
    lightness = (contour_overlay(np.full(values.shape, 0.2), values).astype(float) @ LUMA)[4]
    lines = [lightness[np.argmax(values[0] >= level)] for level in (0.25, 0.5, 0.75)]
    assert lines[0] < lines[1] < lines[2]


def test_three_kinds_of_colour_blindness_leave_the_order_of_colours():
    # what is left of colours without long, medium or short cones (Machado et al. 2009, severity 1), in linear light
    protanopia = [[0.152286, 1.052583, -0.204868], [0.114503, 0.786281, 0.099216], [-0.003882, -0.048116, 1.051998]]
    deuteranopia = [[0.367322, 0.860646, -0.227968], [0.280085, 0.672501, 0.047413], [-0.01182, 0.04294, 0.968881]]
    tritanopia = [[1.255528, -0.076749, -0.178779], [-0.078411, 0.930809, 0.147602], [0.004733, 0.691367, 0.3039]]
    picture = heat_overlay(np.full((1, 64), 0.3), np.linspace(0, 1, 64)[None])[0] / 255
    for matrix in (protanopia, deuteranopia, tritanopia):
        lightness = (picture**2.2 @ np.array(matrix).T).clip(0, 1) @ LUMA
        assert (np.diff(lightness)[32:] > 0).all()
        assert lightness[-1] > 2 * lightness[0]
