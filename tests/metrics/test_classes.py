from __future__ import annotations

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from sklearn import metrics as reference

from mammo_hf.metrics.classification import quadratic_kappa
from mammo_hf.metrics.inputs import UndefinedMetric


@given(st.lists(st.tuples(st.integers(0, 4), st.integers(0, 4)), min_size=2, max_size=40))
def test_quadratic_kappa_equals_scikit_learns(pairs: list[tuple[int, int]]) -> None:
    truth, predicted = np.array(pairs).T
    assume(len({*truth.tolist(), *predicted.tolist()}) > 1)
    expected = reference.cohen_kappa_score(truth, predicted, labels=range(5), weights="quadratic")
    assert quadratic_kappa(truth, predicted) == pytest.approx(expected, abs=1e-12)


def test_a_miss_by_three_classes_counts_nine_times_one_by_one() -> None:
    truth = np.arange(40) % 4
    near, far = truth.copy(), truth.copy()
    near[0], far[0] = 1, 3
    assert 1 - quadratic_kappa(truth, far) == pytest.approx(9 * (1 - quadratic_kappa(truth, near)), rel=0.05)


def test_one_class_only_has_no_kappa() -> None:
    with pytest.raises(UndefinedMetric, match="of one class"):
        quadratic_kappa([2, 2], [2, 2])
