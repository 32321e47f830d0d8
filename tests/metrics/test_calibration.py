from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.linear_model import LogisticRegression

from mammo_hf.errors import DataError, UsageError
from mammo_hf.metrics.calibration import calibrated, fit_calibration
from mammo_hf.metrics.classification import auroc, ece


def _sample(n: int, classes: int = 2, seed: int = 0, scale: float = 1.0) -> tuple[np.ndarray, np.ndarray]:
    """Labels drawn from the softmax of some logits, and those logits times a scale."""
    rng = np.random.default_rng(seed)
    logits = rng.normal(0, 1.5, (n, classes))
    probabilities = calibrated(logits, None)
    labels = (rng.random(n)[:, None] > probabilities.cumsum(axis=1)).sum(axis=1)
    return labels, scale * logits


@pytest.mark.parametrize("classes", [2, 4])
def test_a_temperature_undoes_overconfidence(classes: int) -> None:
    labels, logits = _sample(6000, classes, scale=3.0)
    fitted = fit_calibration(labels, logits, np.arange(6000), "temperature")
    assert fitted["temperature"] == pytest.approx(3.0, rel=0.08)
    assert (fitted["n_images"], fitted["n_patients"]) == (6000, 6000)
    others, other_logits = _sample(4000, classes, seed=1, scale=3.0)
    assert ece(others, calibrated(other_logits, fitted)) < 0.03 < ece(others, calibrated(other_logits, None))
    np.testing.assert_array_equal(calibrated(logits, fitted).argmax(axis=1), logits.argmax(axis=1))


def test_platt_undoes_a_shift_that_no_temperature_can() -> None:
    labels, logits = _sample(6000)
    logits[:, 1] += 2
    platt, temperature = (fit_calibration(labels, logits, np.arange(6000), m) for m in ("platt", "temperature"))
    assert (platt["slope"], platt["intercept"]) == (pytest.approx(1, rel=0.1), pytest.approx(-2, rel=0.1))
    scores = {name: calibrated(logits, fitted)[:, 1] for name, fitted in (("p", platt), ("t", temperature))}
    assert ece(labels, scores["p"]) < 0.03 < 0.1 < ece(labels, scores["t"])
    assert auroc(labels, scores["p"]) == auroc(labels, logits[:, 1] - logits[:, 0])


def test_platt_is_logistic_regression_on_many_images() -> None:
    labels, logits = _sample(4000, scale=2.0)
    log_odds = logits[:, 1] - logits[:, 0]
    expected = LogisticRegression(C=1e9).fit(log_odds[:, None], labels)
    found = fit_calibration(labels, logits, np.arange(4000))
    # Platt's targets pull by one image in each class
    assert found["slope"] == pytest.approx(expected.coef_[0, 0], rel=0.01)
    assert found["intercept"] == pytest.approx(expected.intercept_[0], abs=0.01)


def test_classes_that_are_apart_have_a_finite_slope() -> None:
    labels = np.arange(60) % 2
    logits = np.stack([np.zeros(60), 8.0 * labels - 4], axis=1)
    found = fit_calibration(labels, logits, np.arange(60))
    # each class gets its target (30 + 1) / (30 + 2)
    assert calibrated(logits, found)[:, 1] == pytest.approx(np.where(labels == 1, 31 / 32, 1 / 32), abs=1e-6)
    with pytest.raises(DataError, match="without an error"):
        fit_calibration(labels, logits, np.arange(60), "temperature")


@given(st.integers(0, 200), st.floats(0.1, 10), st.floats(-3, 3))
def test_probabilities_are_finite_and_sum_to_one(seed: int, slope: float, intercept: float) -> None:
    logits = np.random.default_rng(seed).normal(0, 300, (20, 2))
    for fitted in (
        None,
        {"method": "temperature", "temperature": slope},
        {"method": "platt", "slope": slope, "intercept": intercept},
    ):
        found = calibrated(logits, fitted)
        assert np.isfinite(found).all()
        np.testing.assert_allclose(found.sum(axis=1), 1)


@pytest.mark.parametrize(
    ("labels", "logits", "patients", "reason"),
    [
        (np.arange(19) % 2, None, np.arange(19), "19 patients, 9 of the rarest class"),
        (np.arange(60) % 2, None, np.arange(60) // 6, "10 patients"),
        (np.array([1] * 9 + [0] * 51), None, np.arange(60), "60 patients, 9 of the rarest"),
        (np.zeros(60, int), None, np.arange(60), "one class only"),
        (np.arange(60) % 2, np.zeros((60, 2)), np.arange(60), "all scores are equal"),
        (np.arange(60) % 2, np.full((60, 2), np.nan), np.arange(60), "not finite"),
    ],
)
def test_what_cannot_be_calibrated_says_why(
    labels: np.ndarray, logits: np.ndarray | None, patients: np.ndarray, reason: str
) -> None:
    given_logits = np.random.default_rng(0).normal(size=(len(labels), 2)) if logits is None else logits
    with pytest.raises(DataError, match=reason):
        fit_calibration(labels, given_logits, patients)


def test_scores_that_fall_with_the_label_are_not_turned_round() -> None:
    labels, logits = _sample(500)
    with pytest.raises(DataError, match="higher scores do not mean more positives"):
        fit_calibration(1 - labels, logits, np.arange(500))
    with pytest.raises(DataError, match="do not separate the classes"):
        fit_calibration(1 - labels, logits, np.arange(500), "temperature")


def test_unknown_methods() -> None:
    labels, logits = _sample(60, classes=3)
    with pytest.raises(UsageError, match="temperature"):
        fit_calibration(labels, logits, np.arange(60), "platt")
    with pytest.raises(UsageError, match="isotonic"):
        fit_calibration(labels, logits, np.arange(60), "isotonic")
    with pytest.raises(UsageError, match="isotonic"):
        calibrated(logits, {"method": "isotonic"})
