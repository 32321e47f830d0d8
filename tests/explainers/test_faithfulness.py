import numpy as np
import pytest
import torch

from mammo_hf.explainers.measures import deletion_and_insertion, sensitivity_n

SQUARE = (slice(16, 32), slice(32, 48))


def image():
    pixels = 0.2 + 0.05 * torch.rand(1, 64, 64, generator=torch.Generator().manual_seed(0))
    pixels[(slice(None), *SQUARE)] = 1.0
    return pixels


def reads_the_square(images):
    """A probability that is the square's brightness: what is evidence is known."""
    return images[:, 0, SQUARE[0], SQUARE[1]].mean((1, 2)).clamp(0, 1)


def on_the_square(value=1.0):
    values = np.zeros((64, 64), np.float32)
    values[SQUARE] = value
    return values


def test_a_right_map_deletes_fast_and_inserts_fast():
    pixels = image()
    right, wrong = on_the_square(), 1 - on_the_square()
    deleted, inserted = deletion_and_insertion(reads_the_square, pixels, right)
    late, slow = deletion_and_insertion(reads_the_square, pixels, wrong)
    # the square is 4 of 64 cells: its fall is over after a sixteenth, and to what a blur leaves
    left = float(deletion_and_insertion(lambda images: reads_the_square(images), pixels, right)[0])
    assert deleted == left
    assert deleted < 0.45
    assert inserted > 0.9
    assert late > 0.9
    assert slow < 0.45


def test_a_flat_map_is_between_and_has_no_order_of_its_own():
    pixels, flat = image(), np.zeros((64, 64), np.float32)
    deleted, inserted = deletion_and_insertion(reads_the_square, pixels, flat)
    assert 0.45 < deleted < 0.9
    assert (deleted, inserted) == deletion_and_insertion(reads_the_square, pixels, flat)


def test_an_image_whose_sides_are_no_whole_number_of_cells():
    pixels = image()[:, :60, :50]
    deleted, inserted = deletion_and_insertion(reads_the_square, pixels, on_the_square()[:60, :50])
    assert deleted < inserted
    assert sensitivity_n(reads_the_square, pixels, on_the_square()[:60, :50]) > 0.9


def test_sensitivity_is_the_correlation_with_the_fall():
    pixels = image()
    assert sensitivity_n(reads_the_square, pixels, on_the_square()) == pytest.approx(1, abs=0.01)
    assert sensitivity_n(reads_the_square, pixels, on_the_square(-1.0)) == pytest.approx(-1, abs=0.01)
    assert sensitivity_n(reads_the_square, pixels, np.zeros((64, 64))) == 0
    assert sensitivity_n(lambda images: torch.full((len(images),), 0.5), pixels, on_the_square()) == 0
