from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.ndimage import gaussian_filter, shift

from mammo_hf import MammoImageProcessor
from mammo_hf.data.leaks import MAX_DISTANCE, near_duplicates, perceptual_hash

SIDES = {"a": "training", "b": "training", "c": "test", "d": "test"}


def film(seed, size=(120, 60)):
    image = gaussian_filter(np.random.default_rng(seed).normal(size=size), 4)
    return (image - image.min()) / np.ptp(image)


def bits(one, other):
    return int(np.bitwise_count(perceptual_hash(one) ^ perceptual_hash(other)).sum())


@given(st.integers(0, 100), st.floats(0.1, 50), st.floats(-5, 5))
def test_a_linear_change_of_grey_values_changes_nothing(seed, factor, offset):
    assert bits(film(seed), film(seed) * factor + offset) <= 2


def test_altered_copies_are_near_and_other_films_are_far():
    noise = 0.02 * np.random.default_rng(1).normal(size=(120, 60))
    for altered in (film(0) + noise, film(0) ** 1.2, shift(film(0), (0.3, 0.3), mode="nearest")):
        assert bits(film(0), altered) <= MAX_DISTANCE
    assert min(bits(film(0), film(seed)) for seed in range(1, 50)) > 2 * MAX_DISTANCE


@pytest.mark.slow
def test_ddsm_at_two_qualities_is_found_case_by_case(real_data):
    from mammo_hf.data.leaks import similar_images
    from mammo_hf.data.loading import load

    small = load(real_data / "ddsm-299")
    large = load(real_data / "ddsm-films").where(patient=set(small.column("patient")))
    found = similar_images(small, large)
    of_small = dict(zip(small.column("image_id"), small.column("patient"), strict=True))
    of_large = dict(zip(large.column("image_id"), large.column("patient"), strict=True))
    same = {of_small[one] for one, other in found if of_small[one] == of_large[other]}
    assert len(same) == 320


@pytest.mark.parametrize("size", [(7, 5), (64, 64), (65, 63), (300, 1)])
def test_any_size_has_a_hash(size):
    assert perceptual_hash(np.arange(size[0] * size[1], dtype=float).reshape(size)).shape == (4,)


def prepared(name, image):
    pixels = np.rint(image * 65535).clip(0, 65535).astype(np.uint16)
    return {"image_id": name, "size": list(pixels.shape), "pixels": pixels.tobytes()}


def test_pairs_are_looked_for_across_sides_alone():
    rows = [
        prepared("a", film(0)),
        prepared("b", film(0)),
        prepared("c", film(1)),
        prepared("d", film(0) * 0.8),
        prepared("of another table", film(0)),
    ]
    assert list(near_duplicates(rows, SIDES)) == [("d", "a", ["test", "training"]), ("d", "b", ["test", "training"])]
    assert list(near_duplicates(rows[:3], SIDES)) == []


def test_a_real_film_that_stands_in_two_cases_is_found(real_data):
    # DDSM's benign cases 386 and 388 hold the same right MLO film
    processor = MammoImageProcessor(size=(448, 224))
    films = [
        processor.fit(real_data / "ddsm-299" / "benigns" / f"case{case}" / f"C_{case}_1.RIGHT_{view}.png")[0]
        for case, view in (("0386", "MLO"), ("0388", "MLO"), ("0386", "CC"), ("0388", "CC"))
    ]
    assert bits(films[0], films[1]) <= MAX_DISTANCE
    assert min(bits(films[0], other) for other in films[2:]) > MAX_DISTANCE
