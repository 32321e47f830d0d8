from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from mammo_hf.data.findings import broken_rule, finding, finding_mask, read_mask
from mammo_hf.data.prepare.row import lesion_map
from mammo_hf.errors import DataError
from mammo_hf.processing.geometry import Geometry

SIZE = (40, 30)
inside = st.tuples(st.integers(0, 39), st.integers(0, 29))


@given(inside, inside)
def test_a_rectangle_is_the_same_as_box_and_as_polygon(one, other):
    (top, bottom), (left, right) = (sorted(pair) for pair in zip(one, other, strict=True))
    box = (top, left, bottom + 1, right + 1)
    corners = [(top, left), (top, right + 1), (bottom + 1, right + 1), (bottom + 1, left)]
    as_box = finding_mask(finding("mass", box=box), SIZE)
    as_polygon = finding_mask(finding("mass", polygon=corners), SIZE)
    assert as_box.sum() == (bottom + 1 - top) * (right + 1 - left)
    # Pillow draws the outline: at most one pixel more on each side, none less
    assert not (as_box & ~as_polygon).any()
    grown = finding_mask(finding("mass", box=(top - 1, left - 1, bottom + 2, right + 2)), SIZE)
    assert not (as_polygon & ~grown).any()


@given(st.floats(-10, 50), st.floats(-10, 40), st.floats(0.6, 20))
def test_a_circle_holds_the_pixels_whose_centres_it_holds(row, column, radius):
    mask = finding_mask(finding("mass", circle=(row, column, radius)), SIZE)
    for y, x in ((0, 0), (20, 15), (39, 29)):
        assert mask[y, x] == ((y + 0.5 - row) ** 2 + (x + 0.5 - column) ** 2 <= radius**2)


def test_what_leaves_the_image_is_cut_off():
    assert finding_mask(finding("mass", box=(-5, -5, 2, 3)), SIZE).sum() == 6
    assert not finding_mask(finding("mass", box=(-9, -9, -2, -3)), SIZE).any()
    beyond = finding_mask(finding("mass", polygon=[(-5, -5), (-5, 60), (60, 60), (60, -5)]), SIZE)
    assert beyond.all()


def test_an_unknown_place_has_no_mask():
    assert finding_mask(finding("mass"), SIZE) is None


def test_masks_are_pictures_too_and_a_jpeg_rings_do_not_count(tmp_path):
    mask = np.zeros(SIZE, np.uint8)
    mask[10:20, 8:16] = 255
    for suffix in ("png", "pgm"):
        Image.fromarray(mask).save(tmp_path / f"mask.{suffix}")
        assert np.array_equal(read_mask(str(tmp_path / f"mask.{suffix}")), mask > 0)
        assert np.array_equal(read_mask((tmp_path / f"mask.{suffix}").read_bytes()), mask > 0)
    Image.fromarray(mask).save(tmp_path / "mask.jpg", quality=60)
    assert np.array_equal(read_mask(str(tmp_path / "mask.jpg")), mask > 0)


def test_a_mask_of_another_size_says_nothing_and_a_broken_one_is_an_error(tmp_path):
    Image.fromarray(np.ones((8, 8), np.uint8)).save(tmp_path / "small.png")
    assert finding_mask(finding("mass", mask_path=str(tmp_path / "small.png")), SIZE) is None
    (tmp_path / "broken.png").write_bytes(b"\x89PNG\r\n\x1a\nthen nothing")
    with pytest.raises(DataError, match=r"broken\.png: the picture is damaged"):
        finding_mask(finding("mass", mask_path=str(tmp_path / "broken.png")), SIZE)


def test_rules():
    assert broken_rule([finding("mass", "benign", circle=(1, 2, 3)), finding(None)]) is None
    assert "three" in broken_rule([finding("mass", polygon=[(1, 2), (3, 4)])])


def test_the_lesion_map_draws_polygons():
    geometry = Geometry((64, 32), (0, 0, 64, 32), "identity", (64, 32), (0, 0), (64, 32))
    triangle = finding("mass", "malignant", polygon=[(8, 4), (40, 4), (40, 28)])
    cells = lesion_map([triangle], geometry, ["benign", "malignant"])
    assert cells[9, 1] == 2
    assert cells[2, 6] == 0
    assert cells[12:].max() == 0
