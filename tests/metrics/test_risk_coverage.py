from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mammo_hf.errors import UsageError
from mammo_hf.metrics.classification import accuracy, error_at_coverage, error_at_coverage_rows
from mammo_hf.metrics.inputs import Weighted


def sample(images: int, seed: int, classes: int = 3) -> tuple[np.ndarray, np.ndarray]:
    generator = np.random.default_rng(seed)
    return generator.integers(0, classes, images), generator.dirichlet(np.ones(classes), images)


@given(images=st.integers(1, 40), seed=st.integers(0, 99))
def test_with_every_image_it_is_one_minus_the_accuracy(images: int, seed: int) -> None:
    truth, table = sample(images, seed)
    assert error_at_coverage(truth, table, 1.0) == pytest.approx(1 - accuracy(truth, table.argmax(axis=1)))


@given(images=st.integers(1, 40), kept=st.integers(1, 40), seed=st.integers(0, 99))
def test_of_a_part_it_is_the_error_of_the_surest(images: int, kept: int, seed: int) -> None:
    kept = min(kept, images)
    truth, table = sample(images, seed)
    surest = np.argsort(-table.max(axis=1), kind="stable")[:kept]
    expected = np.mean(truth[surest] != table[surest].argmax(axis=1))
    assert error_at_coverage(truth, table, kept / images) == pytest.approx(expected)


@given(seed=st.integers(0, 99), coverage=st.floats(0.05, 1))
def test_a_weight_of_two_is_an_image_twice(seed: int, coverage: float) -> None:
    truth, table = sample(12, seed)
    weights = np.random.default_rng(seed).integers(0, 3, 12)
    weights[0] = 1
    rows = error_at_coverage_rows(Weighted(truth, table, weights[None].astype(float)), coverage=coverage)
    repeated = np.repeat(np.arange(12), weights)
    assert rows[0] == pytest.approx(error_at_coverage(truth[repeated], table[repeated], coverage))


@pytest.mark.parametrize("coverage", [0, -0.1, 1.01, float("nan")])
def test_a_coverage_out_of_range_is_refused(coverage: float) -> None:
    with pytest.raises(UsageError, match="above 0 and at most 1"):
        error_at_coverage([0, 1], [[0.5, 0.5], [0.5, 0.5]], coverage)
