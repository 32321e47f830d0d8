from __future__ import annotations

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from mammo_hf.metrics.classification import sensitivity_at_specificity, specificity_at_sensitivity
from mammo_hf.metrics.inputs import UndefinedMetric
from mammo_hf.metrics.intervals import bootstrap_interval
from mammo_hf.metrics.operating_points import at_operating_point, choose_operating_points


@given(st.integers(0, 2000), st.integers(2, 60))
def test_the_points_are_the_best_that_keep_their_rule(seed: int, n: int) -> None:
    rng = np.random.default_rng(seed)
    labels, scores = np.append([0, 1], rng.integers(0, 2, n)), rng.integers(0, 12, n + 2) / 11
    assume(np.ptp(scores) > 0)
    points = choose_operating_points(labels, scores)
    assert points["specificity_90"]["sensitivity"] == sensitivity_at_specificity(labels, scores, 0.9)
    assert points["sensitivity_90"]["specificity"] == pytest.approx(specificity_at_sensitivity(labels, scores, 0.9))
    for rule, point in points.items():
        found = at_operating_point(labels, scores, point["threshold"], groups=np.arange(n + 2), resamples=5)
        held = rule.split("_")[0]
        assert found[held] >= 0.9 - 1e-9
        assert (found["sensitivity"], found["specificity"]) == (
            pytest.approx(point["sensitivity"]),
            pytest.approx(point["specificity"]),
        )


def test_the_threshold_lies_between_the_scores() -> None:
    points = choose_operating_points([0, 0, 1, 1], [0.1, 0.2, 0.6, 0.8])
    assert points["sensitivity_90"]["threshold"] == points["specificity_90"]["threshold"] == pytest.approx(0.4)


def test_intervals_are_by_patient_and_equal_the_share_on_each_resample() -> None:
    rng = np.random.default_rng(0)
    labels, groups = np.arange(80) % 2, np.arange(80) // 4
    scores = labels * 0.3 + rng.random(80) * 0.7
    found = at_operating_point(labels, scores, 0.5, groups=groups, resamples=200)

    def sensitivity(truth: np.ndarray, values: np.ndarray) -> float:
        return float(np.mean(values[truth == 1] >= 0.5))

    expected = bootstrap_interval(sensitivity, labels, scores, groups=groups, resamples=200)
    assert found["sensitivity_interval"] == pytest.approx(list(expected))


def test_no_error_at_all_is_no_certainty() -> None:
    labels, scores = np.repeat([0, 1], 20), np.repeat([0.1, 0.9], 20)
    found = at_operating_point(labels, scores, 0.5, groups=np.arange(40) // 2, resamples=100)
    assert found["specificity"] == 1
    # ten patients without an alarm: Wilson's 1 / (1 + z^2 / 10)
    assert found["specificity_interval"] == pytest.approx([0.7225, 1], abs=1e-3)
    by_image = at_operating_point(labels, scores, 0.5, groups=np.arange(40), resamples=100)
    assert by_image["specificity_interval"][0] > found["specificity_interval"][0]


def test_what_cannot_be_said_is_null_with_its_reason() -> None:
    found = at_operating_point([1, 1], [0.2, 0.9], 0.5, groups=["a", "b"], resamples=20)
    assert found["confusion"] == [[0, 0], [1, 1]]
    assert (found["specificity"], found["specificity_reason"]) == (None, "no negative image")
    assert found["specificity_interval"] is None
    alone = at_operating_point([0, 1], [0.2, 0.9], 0.5, groups=["a", "a"])
    assert (alone["sensitivity"], alone["sensitivity_interval"]) == (1, None)
    assert "one patient" in alone["interval_reason"]
    with pytest.raises(UndefinedMetric, match="all scores are equal"):
        choose_operating_points([0, 1], [0.5, 0.5])
    with pytest.raises(UndefinedMetric, match="all 2 images are positive"):
        choose_operating_points([1, 1], [0.5, 0.7])
    with pytest.raises(UndefinedMetric, match="NaN"):
        at_operating_point([0, 1], [0.5, np.nan], 0.5, groups=["a", "b"])
