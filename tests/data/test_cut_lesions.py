import numpy as np
import pytest

from mammo_hf import MammoImageProcessor
from mammo_hf.data.findings import cut_fraction, finding, lesion_masks
from mammo_hf.processing.image_source import open_image

SIZE = (300, 200)


@pytest.fixture
def film():
    rows, columns = np.mgrid[: SIZE[0], : SIZE[1]]
    image = np.where(np.hypot((rows - 150) / 120, columns / 130) < 1, 0.5, 0.05)
    image[:, 190:] = 0  # beyond the edge of the film
    return image


def cut(film, *boxes, **options):
    processor = MammoImageProcessor(**options)
    source = open_image(film)
    masks = lesion_masks([finding("mass", box=box) for box in boxes], SIZE)
    return cut_fraction(masks, source, processor.find_breast(source), processor)


def test_the_worst_lesion_counts(film):
    inside, outside = (140, 40, 160, 60), (10, 160, 30, 180)
    assert cut(film, inside) == 0
    assert cut(film, inside, outside) == 1
    assert cut(film, outside, crop_to_breast=False, blank_outside_breast=False) == 0
    assert cut(film, outside, crop_to_breast=False) == 1


def test_a_lesion_half_in_the_crop_is_half_cut(film):
    crop = MammoImageProcessor(blank_outside_breast=False).find_breast(open_image(film)).box
    box = (140, crop[3] - 10, 160, crop[3] + 10)
    assert cut(film, box, blank_outside_breast=False) == 0.5


def test_what_lies_beyond_the_film_does_not_count(film):
    film = film[:, ::-1]  # the breast's side now ends at the film's edge
    film = np.concatenate([film[:, 10:], np.zeros((300, 10))], axis=1)
    assert cut(film, (140, 180, 160, 200)) == 0
    assert cut(film, (140, 192, 160, 200)) is None


def test_findings_without_a_place_are_passed_over():
    assert lesion_masks([finding("mass"), finding("mass", circle=(900, 900, 5))], SIZE) == []
