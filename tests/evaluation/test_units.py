from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mammo_hf.evaluation.scored import RULES, into_units


def _table(positive: list[float]) -> np.ndarray:
    return np.stack([1 - np.array(positive), positive], axis=1)


def test_mean_maximum_and_noisy_or() -> None:
    truth, keys = np.array([0, 1, 0]), np.array(["a", "a", "b"])
    units = into_units("breast", truth, _table([0.2, 0.5, 0.1]), keys, keys)
    assert units.references.tolist() == [1, 0]
    assert {rule: units.scores[rule][:, 1].tolist() for rule in RULES} == {
        "mean": [pytest.approx(0.35), 0.1],
        "max": [0.5, 0.1],
        "noisy_or": [pytest.approx(1 - 0.8 * 0.5), pytest.approx(0.1)],
    }


@given(st.integers(0, 1000), st.integers(2, 4))
def test_scores_are_probabilities_and_do_not_depend_on_the_order(seed: int, classes: int) -> None:
    rng = np.random.default_rng(seed)
    table, keys = rng.dirichlet(np.ones(classes), 20), rng.integers(0, 6, 20)
    truth = keys % classes
    order = rng.permutation(20)
    units = into_units("patient", truth, table, keys, keys)
    again = into_units("patient", truth[order], table[order], keys[order], keys[order])
    for rule in RULES:
        np.testing.assert_allclose(units.scores[rule].sum(axis=1), 1)
        assert units.scores[rule].min() >= 0
        np.testing.assert_allclose(units.scores[rule], again.scores[rule], atol=1e-12)


def test_one_image_a_unit_changes_nothing() -> None:
    table, keys = np.random.default_rng(0).dirichlet(np.ones(2), 8), np.arange(8)
    units = into_units("breast", keys % 2, table, keys, keys)
    for rule in RULES:
        np.testing.assert_allclose(units.scores[rule], table)


def test_a_nan_stays_one_in_every_rule() -> None:
    keys = np.array([0, 0, 1])
    units = into_units("breast", np.array([0, 0, 1]), _table([0.1, np.nan, 0.2]), keys, keys)
    for rule in RULES:
        assert np.isnan(units.scores[rule][:, 1]).tolist() == [True, False]
