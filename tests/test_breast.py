import numpy as np
import pytest
from PIL import Image

from mammo_hf.breast import find_breast


def film(side="left", noise=0.02, label=True):
    """A half disc of tissue at one side, with scanner noise and a bright film label in a far corner."""
    rows, columns = np.mgrid[:300, :200]
    tissue = ((rows - 150) / 120) ** 2 + (columns / 130) ** 2 < 1
    image = np.random.default_rng(0).random((300, 200)) * noise + 0.4 * tissue
    if label:
        image[10:25, 160:190] = 1.0
    return image if side == "left" else image[:, ::-1]


@pytest.mark.parametrize("side", ["left", "right"])
def test_finds_the_breast_and_its_chest_wall_and_not_the_label(side):
    breast = find_breast(film(side))
    top, left, bottom, right = breast.box
    assert breast.chest_wall == side
    assert 15 <= top <= 30
    assert 270 <= bottom <= 285
    if side == "left":
        assert left == 0
        assert 130 <= right <= 142
    else:
        assert right == 200
        assert 58 <= left <= 70


def test_a_stride_gives_the_box_in_full_pixels():
    image = film()
    full, strided = find_breast(image), find_breast(image[::3, ::3], stride=3, size=image.shape)
    assert np.abs(np.subtract(full.box, strided.box)).max() <= 12
    assert strided.box[2] <= 300
    assert strided.box[3] <= 200


@pytest.mark.parametrize("side", ["left", "right"])
def test_dark_fat_at_the_chest_wall_does_not_turn_the_breast_round(side):
    rows, columns = np.mgrid[:300, :150]
    distance = ((rows - 150) / 140) ** 2 + (columns / 148) ** 2
    # gland near the nipple, a rim of tissue below the skin, and in between fat as dark as the background
    image = 0.6 * ((distance < 1) & (columns > 60)) + 0.5 * ((distance < 1) & (distance > 0.7) & (columns <= 60))
    image = image + 0.01 * np.random.default_rng(0).random(image.shape)
    assert find_breast(image if side == "left" else image[:, ::-1]).chest_wall == side


def test_real_digital_images_are_seen_from_the_right_side(real_data):
    wrong = []
    paths = sorted((real_data / "cdd-cesm" / "images").glob("*.jpg"))
    for path in paths:
        with Image.open(path) as picture:
            intensity = np.asarray(picture.convert("L"))[::6, ::6] / 255
        if find_breast(intensity).chest_wall != {"L": "left", "R": "right"}[path.stem.split("_")[1]]:
            wrong.append(path.name)
    assert len(wrong) <= 2, wrong
    assert len(paths) > 30


@pytest.mark.parametrize("value", [0.0, 0.5, 1.0])
def test_an_image_of_one_value_is_not_cropped(value):
    assert find_breast(np.full((30, 20), value)).box == (0, 0, 30, 20)


def test_no_tissue_is_cut():
    image = film(noise=0.0, label=False)
    top, left, bottom, right = find_breast(image).box
    kept = np.zeros(image.shape, bool)
    kept[top:bottom, left:right] = True
    assert not image[~kept].any()
