from __future__ import annotations

import inspect

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from sklearn import metrics as reference
from sklearn.calibration import calibration_curve

from mammo_hf.errors import DataError, UsageError
from mammo_hf.metrics.classification import brier, ece, pf1, reliability
from mammo_hf.metrics.inputs import UndefinedMetric


@st.composite
def labels_and_probabilities(draw: st.DrawFn) -> tuple[np.ndarray, np.ndarray]:
    n = draw(st.integers(2, 60))
    labels = np.array(draw(st.lists(st.integers(0, 1), min_size=n, max_size=n)))
    assume(0 < labels.sum() < n)
    return labels, np.array(draw(st.lists(st.integers(0, 20), min_size=n, max_size=n))) / 20


@given(labels_and_probabilities())
def test_brier_equals_scikit_learns(case: tuple[np.ndarray, np.ndarray]) -> None:
    labels, probabilities = case
    assert brier(labels, probabilities) == pytest.approx(reference.brier_score_loss(labels, probabilities), abs=1e-12)
    # over both classes every squared difference is there twice
    table = np.stack([1 - probabilities, probabilities], axis=1)
    assert brier(labels, table) == pytest.approx(2 * brier(labels, probabilities), abs=1e-12)


@pytest.mark.skipif(
    "labels" not in inspect.signature(reference.brier_score_loss).parameters,
    reason="scikit-learn below 1.7 has it for two classes alone",
)
def test_brier_of_several_classes_equals_scikit_learns() -> None:
    rng = np.random.default_rng(0)
    truth, table = np.arange(60) % 4, rng.dirichlet(np.ones(4), 60)
    expected = reference.brier_score_loss(truth, table, labels=range(4), scale_by_half=False)
    assert brier(truth, table) == pytest.approx(expected, abs=1e-12)


@given(st.integers(0, 500), st.sampled_from([2, 4, 5, 10]))
def test_the_bins_are_scikit_learns_where_they_can_be_of_equal_mass(seed: int, bins: int) -> None:
    rng = np.random.default_rng(seed)
    labels, probabilities = rng.integers(0, 2, 40), rng.permutation(40) / 40
    frequency, mean = calibration_curve(labels, probabilities, n_bins=bins, strategy="quantile")
    found = reliability(labels, probabilities, bins)
    np.testing.assert_allclose(found[0], mean)
    np.testing.assert_allclose(found[1], frequency)
    assert found[2].tolist() == [40 / bins] * bins
    assert ece(labels, probabilities, bins) == pytest.approx(np.mean(np.abs(frequency - mean)))


@given(labels_and_probabilities(), st.integers(0, 1000))
def test_the_order_of_images_does_not_matter_though_scores_tie(case: tuple[np.ndarray, np.ndarray], seed: int) -> None:
    labels, probabilities = case
    assume(labels.size >= 10)
    order = np.random.default_rng(seed).permutation(labels.size)
    found = ece(labels, probabilities)
    assert ece(labels[order], probabilities[order]) == pytest.approx(found, abs=1e-12)
    assert ece(np.tile(labels, 3), np.tile(probabilities, 3)) == pytest.approx(found, abs=1e-12)


def test_known_calibration_errors() -> None:
    # 80 % said everywhere, right in half of the cases
    assert ece(np.arange(20) % 2, np.full(20, 0.8)) == pytest.approx(0.3)
    labels = np.repeat([0, 0, 0, 1, 0, 1, 1, 1], 25)
    assert ece(labels, np.repeat([0.25, 0.75], 100), bins=2) == pytest.approx(0)


def test_of_several_classes_it_is_that_of_the_predicted_one() -> None:
    table = np.tile([0.2, 0.7, 0.1], (20, 1))
    truth = np.array([1] * 12 + [0] * 8)
    assert ece(truth, table) == pytest.approx(0.1)


def test_pf1_is_f1_where_probabilities_are_decisions() -> None:
    rng = np.random.default_rng(0)
    labels, called = rng.integers(0, 2, 50), rng.integers(0, 2, 50)
    assert pf1(labels, called) == pytest.approx(reference.f1_score(labels, called))
    # the challenge's own formula
    scores = rng.random(50)
    precision, recall = scores[labels == 1].sum() / scores.sum(), scores[labels == 1].mean()
    assert pf1(labels, scores) == pytest.approx(2 * precision * recall / (precision + recall))
    assert pf1([0, 1], [0.0, 0.0]) == 0


def test_what_cannot_be_had_says_why() -> None:
    with pytest.raises(UndefinedMetric, match="9 images do not fill 10 bins"):
        ece([0, 1, 1] * 3, np.full(9, 0.5))
    with pytest.raises(UndefinedMetric, match="1 of 2 images have NaN"):
        brier([0, 1], [0.1, np.nan])
    with pytest.raises(UndefinedMetric, match="no images"):
        brier([], [])
    with pytest.raises(UndefinedMetric, match="all 2 images are negative"):
        pf1([0, 0], [0.1, 0.2])
    # one class alone still says whether its probability is right
    assert brier([0, 0], [0.5, 0.5]) == 0.25
    for metric in (brier, pf1, reliability):
        with pytest.raises(DataError, match="give probabilities, not logits"):
            metric([0, 1], [-2.0, 3.0])
    with pytest.raises(UsageError, match="bins"):
        ece([0, 1], [0.5, 0.5], bins=0)
