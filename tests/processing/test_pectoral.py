import numpy as np
import pytest

from mammo_hf.processing.breast import pectoral_mask


def oblique(muscle=0.3):
    rows, columns = np.mgrid[:256, :160]
    breast = ((rows - 128) / 128) ** 2 + (columns / 140) ** 2 < 1
    triangle = columns / 70 + rows / 150 < 1
    image = 0.4 * breast + muscle * (triangle & breast) + np.random.default_rng(0).random((256, 160)) * 0.02
    return image, breast, triangle & breast


@pytest.mark.parametrize("side", ["left", "right"])
def test_the_muscle_is_found_on_either_side(side):
    image, breast, muscle = oblique()
    if side == "right":
        image, breast, muscle = image[:, ::-1], breast[:, ::-1], muscle[:, ::-1]
    found = pectoral_mask(image, breast, side)
    assert found is not None
    assert (found & muscle).sum() / (found | muscle).sum() > 0.85
    assert not (found & ~breast).any()


def test_without_an_edge_there_is_none():
    image, breast, _ = oblique(muscle=0.0)
    assert pectoral_mask(image, breast, "left") is None


def test_a_mask_too_small_is_left_alone():
    image, breast, _ = oblique()
    assert pectoral_mask(image[:10, :10], breast[:10, :10], "left") is None
