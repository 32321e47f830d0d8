from __future__ import annotations

import inspect
import time
from collections.abc import Callable
from functools import partial

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from mammo_hf.errors import DataError, UsageError
from mammo_hf.metrics.classification import (
    accuracy,
    auprc,
    auroc,
    balanced_accuracy,
    brier,
    ece,
    macro_auroc,
    partial_auc,
    pf1,
    quadratic_kappa,
    sensitivity_at_specificity,
    specificity_at_sensitivity,
)
from mammo_hf.metrics.inputs import UndefinedMetric
from mammo_hf.metrics.intervals import (
    bootstrap_interval,
    bootstrap_intervals,
    group_codes,
    mean_score,
    paired_interval,
    resampled,
    rows_of,
)


def _cohort(patients: int, images: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Labels by patient, scores that agree within a patient, and patient keys."""
    rng = np.random.default_rng(seed)
    groups = np.repeat(np.arange(patients), images)
    labels = (rng.random(patients) < 0.5).astype(int)
    centre = labels + rng.normal(size=patients)
    return labels[groups], centre[groups] + rng.normal(0, 0.1, groups.size), groups


@given(st.integers(0, 1000))
def test_the_fast_path_equals_the_metric_on_each_resample(seed: int) -> None:
    rng = np.random.default_rng(seed)
    labels = np.append([0, 1] * 5, rng.integers(0, 2, 20))
    scores = rng.integers(0, 6, 30) / 5
    groups = np.append(np.repeat(np.arange(5), 2), rng.integers(0, 12, 20))
    fast = bootstrap_interval(auroc, labels, scores, groups=groups, resamples=60, seed=seed)
    slow = bootstrap_interval(lambda y, s: auroc(y, s), labels, scores, groups=groups, resamples=60, seed=seed)
    assert fast == pytest.approx(slow, abs=1e-12)


OF_SCORES = (auprc, brier, ece, partial_auc, pf1, sensitivity_at_specificity, specificity_at_sensitivity)


@given(st.integers(0, 1000), st.sampled_from(OF_SCORES))
def test_every_metric_of_scores_has_a_fast_path_that_equals_it(seed: int, metric: Callable[..., float]) -> None:
    rng = np.random.default_rng(seed)
    labels, scores = np.append([0, 1] * 5, rng.integers(0, 2, 20)), rng.integers(0, 11, 30) / 10
    groups = np.append(np.repeat(np.arange(5), 2), rng.integers(0, 12, 20))
    # a resample of few images may be too small for the bins, which the weights do not know
    options = {"bins": 2} if metric is ece else {}
    fast = bootstrap_interval(partial(metric, **options), labels, scores, groups=groups, resamples=40, seed=seed)
    slow = bootstrap_interval(
        lambda y, s: metric(y, s, **options), labels, scores, groups=groups, resamples=40, seed=seed
    )
    assert fast == pytest.approx(slow, abs=1e-12)


@given(st.integers(0, 1000), st.sampled_from([accuracy, balanced_accuracy, quadratic_kappa]))
def test_every_metric_of_predictions_has_a_fast_path_that_equals_it(seed: int, metric: Callable[..., float]) -> None:
    rng = np.random.default_rng(seed)
    labels, predicted, groups = rng.integers(0, 4, 30), rng.integers(0, 4, 30), rng.integers(0, 12, 30)
    fast = bootstrap_interval(metric, labels, predicted, groups=groups, resamples=40, seed=seed)
    slow = bootstrap_interval(lambda y, s: metric(y, s), labels, predicted, groups=groups, resamples=40, seed=seed)
    assert fast == pytest.approx(slow, abs=1e-12)


def test_several_metrics_share_their_resamples_and_each_has_its_own_reason() -> None:
    labels, scores, groups = _cohort(40, 2)
    both = bootstrap_intervals({"a": auroc, "b": auprc}, labels, scores, groups=groups, resamples=100)
    assert both["a"] == bootstrap_interval(auroc, labels, scores, groups=groups, resamples=100)
    assert both["b"] == bootstrap_interval(auprc, labels, scores, groups=groups, resamples=100)
    rare = bootstrap_intervals({"a": auroc, "b": brier}, [1] + [0] * 9, np.full(10, 0.5), groups=np.arange(10) // 5)
    assert isinstance(rare["b"], tuple)


def test_the_difference_of_a_model_from_itself_is_nothing() -> None:
    labels, scores, groups = _cohort(40, 2)
    assert paired_interval(auroc, labels, scores, 2 * scores, groups=groups, resamples=100) == (0, 0)


def test_the_fast_path_of_the_macro_auroc_equals_the_metric_on_each_resample() -> None:
    rng = np.random.default_rng(0)
    labels, scores, groups = np.arange(60) % 3, rng.dirichlet(np.ones(3), 60), np.arange(60) // 2
    fast = bootstrap_interval(macro_auroc, labels, scores, groups=groups, resamples=100)
    slow = bootstrap_interval(lambda y, s: macro_auroc(y, s), labels, scores, groups=groups, resamples=100)
    assert fast == pytest.approx(slow, abs=1e-12)


def test_the_fast_path_of_the_mean_equals_the_metric_on_each_resample() -> None:
    rng = np.random.default_rng(0)
    scores, groups = rng.random(40), rng.integers(0, 9, 40)
    fast = bootstrap_interval(mean_score, scores, scores, groups=groups, resamples=100)
    slow = bootstrap_interval(lambda y, s: float(s.mean()), scores, scores, groups=groups, resamples=100)
    assert fast == pytest.approx(slow, abs=1e-12)


def test_blocks_of_resamples_do_not_change_the_result(monkeypatch: pytest.MonkeyPatch) -> None:
    labels, scores, groups = _cohort(30, 2)
    whole = bootstrap_interval(auroc, labels, scores, groups=groups, resamples=200)
    monkeypatch.setattr("mammo_hf.metrics.intervals._BLOCK", 7 * labels.size)
    assert bootstrap_interval(auroc, labels, scores, groups=groups, resamples=200) == whole


def test_patients_are_drawn_and_not_images() -> None:
    labels, scores, groups = _cohort(100, 8)
    by_patient = bootstrap_interval(auroc, labels, scores, groups=groups, resamples=500)
    by_image = bootstrap_interval(auroc, labels, scores, groups=np.arange(labels.size), resamples=500)
    # eight nearly equal images say hardly more than one, so the honest interval is about sqrt(8) wider
    assert np.diff(by_patient) > 2 * np.diff(by_image)
    assert by_patient[0] < auroc(labels, scores) < by_patient[1]


def test_copying_every_image_does_not_narrow_the_interval() -> None:
    labels, scores, groups = _cohort(60, 1)
    once = bootstrap_interval(auroc, labels, scores, groups=groups)
    twice = bootstrap_interval(auroc, np.tile(labels, 2), np.tile(scores, 2), groups=np.tile(groups, 2))
    assert once == pytest.approx(twice, abs=1e-12)


def test_the_interval_covers_the_true_value_at_about_its_level() -> None:
    truth = 0.760250  # of two normals one standard deviation apart: Phi(1 / sqrt(2))
    inside = 0
    for trial in range(200):
        rng = np.random.default_rng(trial)
        labels = np.repeat([0, 1], 60)
        scores = rng.normal(size=120) + labels
        low, high = bootstrap_interval(auroc, labels, scores, groups=np.arange(120), resamples=300, seed=trial)
        inside += low <= truth <= high
    assert 0.90 <= inside / 200 <= 0.99


def test_seed_order_of_rows_and_kind_of_key() -> None:
    labels, scores, groups = _cohort(40, 2)
    first = bootstrap_interval(auroc, labels, scores, groups=groups, resamples=300, seed=1)
    assert bootstrap_interval(auroc, labels, scores, groups=groups, resamples=300, seed=1) == first
    assert bootstrap_interval(auroc, labels, scores, groups=groups, resamples=300, seed=2) != first
    order = np.random.default_rng(0).permutation(labels.size)
    shuffled = bootstrap_interval(auroc, labels[order], scores[order], groups=groups[order], resamples=300, seed=1)
    assert shuffled == pytest.approx(first, abs=1e-12)
    named = [f"patient {group:04d}" for group in groups]
    assert bootstrap_interval(auroc, labels, scores, groups=named, resamples=300, seed=1) == first


def test_a_lower_level_is_narrower() -> None:
    labels, scores, groups = _cohort(60, 1)
    wide = bootstrap_interval(auroc, labels, scores, groups=groups, resamples=500, level=0.95)
    narrow = bootstrap_interval(auroc, labels, scores, groups=groups, resamples=500, level=0.5)
    assert wide[0] < narrow[0] < narrow[1] < wide[1]


def test_every_patient_is_drawn_alike() -> None:
    # of two patients a resample holds none, one or both draws of the second with chances 1/4, 1/2, 1/4
    def share_of_second(_: np.ndarray, second: np.ndarray) -> float:
        return float(second.mean())

    second = np.array([0, 0, 0, 1, 1, 1])
    half = bootstrap_interval(share_of_second, second, second, groups=second, resamples=4000, level=0.4)
    most = bootstrap_interval(share_of_second, second, second, groups=second, resamples=4000, level=0.6)
    assert (half, most) == ((0.5, 0.5), (0.0, 1.0))


def test_any_metric_may_be_given() -> None:
    labels, scores, groups = _cohort(60, 2)
    low, high = bootstrap_interval(accuracy, labels, (scores > 0.5).astype(int), groups=groups, resamples=200)
    assert 0.5 < low < accuracy(labels, (scores > 0.5).astype(int)) < high < 1


def test_resamples_without_a_value_are_left_out() -> None:
    # the two positives are absent from one resample in seven, where the AUROC does not exist
    labels, scores = np.array([1, 1] + [0] * 8), np.arange(10) / 10
    own = lambda references, values: auroc(references, values)  # noqa: E731 (a metric that is not the package's)
    low, high = bootstrap_interval(own, labels, scores, groups=np.arange(10), resamples=400)
    assert 0 <= low <= high < 0.5


@pytest.mark.parametrize("rarer", [0, 1])
def test_a_class_of_few_patients_has_no_interval_however_many_its_images_are(rarer: int) -> None:
    scores, patients = np.arange(60) / 60, np.arange(60) // 3
    for count in (4, 5):
        labels = np.where(patients < count, rarer, 1 - rarer)
        found = bootstrap_intervals({"a": auroc, "b": brier}, labels, scores, groups=patients, resamples=50)
        assert isinstance(found["b"], tuple)
        assert isinstance(found["a"], tuple) == (count == 5)
        if count == 4:
            with pytest.raises(UndefinedMetric, match="fewer than 5 patients with images of either class"):
                paired_interval(auroc, labels, scores, scores**2, groups=patients, resamples=50)


def test_undefined_on_most_resamples_is_an_error() -> None:
    # both of two patients in ten must be drawn, which happens in less than half of the resamples
    labels, scores = np.array([0, 1] + [2] * 8), np.full((10, 3), 1 / 3)
    with pytest.raises(UndefinedMetric, match="of 400 resamples of 10 patients"):
        bootstrap_interval(macro_auroc, labels, scores, groups=np.arange(10), resamples=400)


def test_one_patient_has_no_interval() -> None:
    with pytest.raises(UndefinedMetric, match="one patient"):
        bootstrap_interval(auroc, [0, 1, 1], [0.1, 0.2, 0.3], groups=["p", "p", "p"])


def test_what_the_metric_refuses_is_refused() -> None:
    with pytest.raises(UndefinedMetric, match="NaN"):
        bootstrap_interval(auroc, [0, 1], [0.1, np.nan], groups=["p", "q"])


def test_bad_arguments() -> None:
    with pytest.raises(DataError, match="groups"):
        bootstrap_interval(auroc, [0, 1], [0.1, 0.2], groups=["p"])
    with pytest.raises(DataError, match="without a patient"):
        bootstrap_interval(auroc, [0, 1], [0.1, 0.2], groups=["p", None])
    with pytest.raises(UsageError, match="resamples"):
        bootstrap_interval(auroc, [0, 1], [0.1, 0.2], groups=["p", "q"], resamples=0)
    with pytest.raises(UsageError, match="level"):
        bootstrap_interval(auroc, [0, 1], [0.1, 0.2], groups=["p", "q"], level=95)


def test_ten_thousand_images_take_seconds() -> None:
    labels, scores, groups = _cohort(2500, 4)
    start = time.process_time()
    bootstrap_interval(auroc, labels, scores, groups=groups, resamples=2000)
    assert time.process_time() - start < 20  # about a second; a loop over resamples in Python takes minutes


def test_the_interval_is_scipys_bca_where_every_image_is_a_patient() -> None:
    rng = np.random.default_rng(0)
    labels = np.arange(60) % 2
    scores = 1.5 * labels + rng.normal(size=60)
    ours = bootstrap_interval(auroc, labels, scores, groups=np.arange(60), resamples=4000)
    # scipy below 1.15 has it under its older name
    seeded = "rng" if "rng" in inspect.signature(stats.bootstrap).parameters else "random_state"
    found = stats.bootstrap(
        (labels, scores),
        lambda y, s: auroc(y, s),
        paired=True,
        vectorized=False,
        method="BCa",
        n_resamples=2000,
        **{seeded: np.random.default_rng(1)},
    ).confidence_interval
    assert ours == pytest.approx((found.low, found.high), abs=0.015)
    # and not the percentile interval, which lies higher
    draws = resampled({"": rows_of(auroc)}, labels, scores, groups=np.arange(60), resamples=4000)[""]
    assert ours[0] < np.quantile(draws, 0.025) - 0.01


def test_leaving_out_parts_of_many_groups_accelerates_as_leaving_out_each(monkeypatch: pytest.MonkeyPatch) -> None:
    labels, scores, groups = _cohort(600, 1)
    whole = bootstrap_interval(auroc, labels, scores, groups=groups, resamples=500)
    monkeypatch.setattr("mammo_hf.metrics.intervals._PARTS", 100)
    assert bootstrap_interval(auroc, labels, scores, groups=groups, resamples=500) == pytest.approx(whole, abs=2e-3)


def test_groups_may_be_tuples_or_of_several_types() -> None:
    truth, scores, _ = _cohort(20, 3)
    numbers = np.arange(len(truth)) // 2
    kinds = {
        "numbers": numbers,
        "tuples": [("site", int(number)) for number in numbers],
        "texts": [f"{number:03d}" for number in numbers],
    }
    found = {kind: bootstrap_interval(auroc, truth, scores, groups=groups) for kind, groups in kinds.items()}
    assert len(set(found.values())) == 1
    codes, count = group_codes([1, "1", ("a", 1), 1, ("a", 1), ("a", "1")], 6)
    assert count == 4
    assert codes[0] == codes[3] != codes[1]
