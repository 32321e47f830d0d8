from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mammo_hf.errors import DataError, UsageError
from mammo_hf.metrics.classification import accuracy, auroc
from mammo_hf.metrics.comparisons import delong, paired_delong, paired_permutation
from mammo_hf.metrics.inputs import UndefinedMetric
from mammo_hf.metrics.intervals import paired_interval

# DeLong, DeLong and Clarke-Pearson's own example (Biometrics 1988): albumin, total protein and K-G score of 49 patients
# with ovarian cancer, and whether surgery helped; the 43 without a missing value, as in SAS/STAT's User's Guide, PROC
# LOGISTIC, "Comparing Receiver Operating Characteristic Curves"
OVARIAN = """
3.0 5.8 10 0 3.2 6.3 5 1 3.9 6.8 3 1 2.8 4.8 6 0 3.2 5.8 3 1 0.9 4.0 5 0 2.5 5.7 8 0 1.6 5.6 5 1 3.8 5.7 5 1
3.7 6.7 6 1 3.2 5.4 4 1 3.8 6.6 6 1 4.1 6.6 5 1 3.6 5.7 5 1 4.3 7.0 4 1 3.6 6.7 4 0 2.3 4.4 6 1 4.2 7.6 4 0
4.0 6.6 6 0 3.5 5.8 6 1 3.8 6.8 7 1 3.0 4.7 8 0 4.5 7.4 5 1 3.7 7.4 5 1 3.1 6.6 6 1 4.1 8.2 6 1 4.3 7.0 5 1
4.3 6.5 4 1 3.2 5.1 5 1 2.6 4.7 6 1 3.3 6.8 6 0 1.7 4.0 7 0 3.7 6.1 5 1 3.3 6.3 7 1 4.2 7.7 6 1 3.5 6.2 5 1
2.9 5.7 9 0 2.1 4.8 7 1 2.8 6.2 8 0 4.0 7.0 7 1 3.3 5.7 6 1 3.7 6.9 5 1 3.6 6.6 5 1
"""
ALBUMIN, PROTEIN, SCORE, BENEFIT = np.array(OVARIAN.split(), dtype=float).reshape(-1, 4).T
TESTS = {"albumin": ALBUMIN, "K-G score": 10 - SCORE, "total protein": PROTEIN}


@pytest.mark.parametrize(
    ("name", "area", "error"),
    [("albumin", 0.7366, 0.0927), ("K-G score", 0.7258, 0.1028), ("total protein", 0.6478, 0.1000)],
)
def test_the_published_areas_and_standard_errors(name: str, area: float, error: float) -> None:
    found = delong(BENEFIT, TESTS[name])
    assert (round(found.value, 4), round(found.standard_error, 4)) == (area, error)
    assert found.interval == pytest.approx((area - 1.96 * error, area + 1.96 * error), abs=2e-4)


@pytest.mark.parametrize(
    ("name", "difference", "error", "chi_square", "p"),
    [("albumin", 0.0108, 0.0953, 0.0127, 0.9102), ("total protein", -0.0780, 0.1046, 0.5554, 0.4561)],
)
def test_the_published_contrasts(name: str, difference: float, error: float, chi_square: float, p: float) -> None:
    found = paired_delong(BENEFIT, TESTS["K-G score"], TESTS[name])
    assert found.z is not None
    rounded = (round(found.value, 4), round(found.standard_error, 4), round(found.z**2, 4), round(found.p or 0, 4))
    assert rounded == (difference, error, chi_square, p)


@given(st.integers(0, 300))
def test_components_are_those_of_the_definition(seed: int) -> None:
    rng = np.random.default_rng(seed)
    labels, scores = np.append([0, 0, 1, 1], rng.integers(0, 2, 20)), rng.integers(0, 8, 24)
    found = delong(labels, scores)
    higher = np.sign(scores[labels == 1][:, None] - scores[labels == 0]) / 2 + 0.5
    variance = higher.mean(axis=1).var(ddof=1) / len(higher) + higher.mean(axis=0).var(ddof=1) / higher.shape[1]
    assert found.value == pytest.approx(auroc(labels, scores))
    assert found.standard_error == pytest.approx(np.sqrt(variance), abs=1e-12)


def test_images_of_one_patient_are_not_taken_for_independent() -> None:
    rng = np.random.default_rng(0)
    labels = np.arange(60) % 2
    scores = labels + rng.normal(size=60)
    once = delong(labels, scores, groups=np.arange(60))
    assert once.standard_error == pytest.approx(delong(labels, scores).standard_error)
    copies = [np.tile(part, 4) for part in (labels, scores, np.arange(60))]
    assert delong(copies[0], copies[1], groups=copies[2]).standard_error == pytest.approx(once.standard_error)
    assert delong(copies[0], copies[1]).standard_error == pytest.approx(once.standard_error / 2, rel=0.05)


def test_models_that_rank_alike_have_no_z_and_perfect_ones_no_width() -> None:
    labels, scores = np.arange(20) % 2, np.random.default_rng(0).random(20)
    same = paired_delong(labels, scores, 3 * scores + 1)
    assert (same.value, same.standard_error, same.z, same.p) == (0, 0, None, None)
    assert delong(labels, labels).interval == (1, 1)


def _pair(patients: int, gain: float, seed: int) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    groups = np.repeat(np.arange(patients), 2)
    labels = (np.arange(patients) % 2)[groups]
    shared = rng.normal(size=patients)[groups]
    first = 0.5 * labels + shared + rng.normal(0, 0.5, groups.size)
    second = (0.5 + gain) * labels + shared + rng.normal(0, 0.5, groups.size)
    return labels, first, second, groups


def test_the_paired_methods_agree_on_a_better_model() -> None:
    labels, first, second, groups = _pair(100, gain=1.5, seed=0)
    found = paired_delong(labels, first, second, groups=groups)
    low, high = paired_interval(auroc, labels, first, second, groups=groups, resamples=1000)
    assert 0 < low < found.value < high
    assert (low, high) == pytest.approx(found.interval, abs=0.03)
    assert found.p is not None
    assert found.p < 0.01
    assert paired_permutation(auroc, labels, first, second, groups=groups, permutations=500) < 0.01


def test_a_permutation_p_value_is_uniform_where_the_models_are_alike() -> None:
    values = [
        paired_permutation(auroc, *_pair(30, 0.0, seed)[:3], groups=_pair(30, 0.0, seed)[3], permutations=99, seed=seed)
        for seed in range(120)
    ]
    assert 0.01 <= np.mean(np.array(values) <= 0.1) <= 0.2
    assert 0.4 <= np.mean(values) <= 0.6


def test_the_fast_permutation_equals_the_exchange_written_out() -> None:
    labels, first, second, groups = _pair(12, 0.5, 3)
    fast = paired_permutation(auroc, labels, first, second, groups=groups, permutations=80)
    slow = paired_permutation(lambda y, s: auroc(y, s), labels, first, second, groups=groups, permutations=80)
    assert fast == slow
    calls = (first > 0).astype(int), (second > 0).astype(int)
    assert 0 < paired_permutation(accuracy, labels, *calls, groups=groups, permutations=80) <= 1


def test_what_cannot_be_compared_says_why() -> None:
    with pytest.raises(UndefinedMetric, match="fewer than 5 patients"):
        delong([0, 0, 1, 1], [1, 2, 3, 4], groups=["a", "b", "c", "c"])
    with pytest.raises(UndefinedMetric, match="NaN"):
        paired_delong([0, 1], [0.1, 0.2], [0.1, np.nan])
    with pytest.raises(DataError):
        paired_permutation(auroc, [0, 1], [0.1, 0.2], [0.1, 0.2], groups=["a"])
    with pytest.raises(UsageError, match="permutations"):
        paired_permutation(auroc, [0, 1], [0.1, 0.2], [0.1, 0.2], groups=["a", "b"], permutations=0)
    with pytest.raises(UsageError, match="level"):
        delong([0] * 5 + [1] * 5, range(10), level=95)
