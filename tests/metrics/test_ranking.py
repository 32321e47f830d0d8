from __future__ import annotations

import pickle

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from sklearn import metrics as reference

from mammo_hf.errors import DataError, UsageError
from mammo_hf.metrics.classification import (
    accuracy,
    auprc,
    auroc,
    balanced_accuracy,
    confusion,
    macro_auroc,
    partial_auc,
    pr_curve,
    roc_curve,
    sensitivity_at_specificity,
    specificity_at_sensitivity,
)
from mammo_hf.metrics.inputs import UndefinedMetric


@st.composite
def labels_and_scores(draw: st.DrawFn) -> tuple[np.ndarray, np.ndarray]:
    n = draw(st.integers(2, 60))
    labels = np.array(draw(st.lists(st.integers(0, 1), min_size=n, max_size=n)))
    assume(0 < labels.sum() < n)
    # few levels, so that ties across the classes are the rule
    levels = draw(st.lists(st.integers(-3, 3), min_size=n, max_size=n))
    return labels, np.array(levels) * draw(st.sampled_from([1.0, 1e-12, 1e12]))


@st.composite
def class_pairs(draw: st.DrawFn) -> tuple[np.ndarray, np.ndarray, int]:
    classes = draw(st.integers(2, 5))
    n = draw(st.integers(1, 50))
    numbers = st.lists(st.integers(0, classes - 1), min_size=n, max_size=n)
    return np.array(draw(numbers)), np.array(draw(numbers)), classes


@given(labels_and_scores())
def test_auroc_equals_scikit_learns_with_ties(case: tuple[np.ndarray, np.ndarray]) -> None:
    labels, scores = case
    assert auroc(labels, scores) == pytest.approx(reference.roc_auc_score(labels, scores), abs=1e-12)
    assert auroc(labels, -scores) == pytest.approx(1 - auroc(labels, scores), abs=1e-12)


@given(labels_and_scores())
def test_roc_curve_equals_scikit_learns_and_its_area_is_the_auroc(case: tuple[np.ndarray, np.ndarray]) -> None:
    labels, scores = case
    expected = reference.roc_curve(labels, scores, drop_intermediate=False)
    for ours, theirs in zip(roc_curve(labels, scores), expected, strict=True):
        np.testing.assert_allclose(ours, theirs, atol=1e-12)
    false_positive_rate, true_positive_rate, _ = roc_curve(labels, scores)
    assert np.trapezoid(true_positive_rate, false_positive_rate) == pytest.approx(auroc(labels, scores), abs=1e-12)


@given(labels_and_scores())
def test_average_precision_and_its_curve_equal_scikit_learns(case: tuple[np.ndarray, np.ndarray]) -> None:
    labels, scores = case
    assert auprc(labels, scores) == pytest.approx(reference.average_precision_score(labels, scores), abs=1e-12)
    precision, recall, thresholds = pr_curve(labels, scores)
    expected = [part[::-1] for part in reference.precision_recall_curve(labels, scores)]
    np.testing.assert_allclose(thresholds, expected[2])
    np.testing.assert_allclose(precision, expected[0][1:], atol=1e-12)
    np.testing.assert_allclose(recall, expected[1][1:], atol=1e-12)


@given(labels_and_scores(), st.sampled_from([0.05, 0.1, 0.37, 0.5, 1.0]))
def test_partial_auc_equals_scikit_learns(case: tuple[np.ndarray, np.ndarray], max_fpr: float) -> None:
    labels, scores = case
    expected = reference.roc_auc_score(labels, scores, max_fpr=max_fpr)
    assert partial_auc(labels, scores, max_fpr) == pytest.approx(expected, abs=1e-12)


@given(labels_and_scores(), st.sampled_from([0.0, 0.5, 0.8, 0.9, 0.95, 1.0]))
def test_sensitivity_and_specificity_are_points_of_the_roc_curve(
    case: tuple[np.ndarray, np.ndarray], share: float
) -> None:
    labels, scores = case
    alarms, hits, _ = reference.roc_curve(labels, scores, drop_intermediate=False)
    assert sensitivity_at_specificity(labels, scores, share) == max(hits[1 - alarms >= share - 1e-12])
    expected = max(1 - alarms[hits >= share - 1e-12])
    assert specificity_at_sensitivity(labels, scores, share) == pytest.approx(expected)
    # read the other way round it is the same question
    mirrored = specificity_at_sensitivity(1 - labels, -scores, share)
    assert sensitivity_at_specificity(labels, scores, share) == pytest.approx(mirrored)


def test_nine_in_ten_is_not_lost_to_rounding() -> None:
    # 1 - 0.9 is a hair less than 0.1: one alarm in ten negatives is still allowed
    labels, scores = np.array([1, 1] + [0] * 10), np.array([9, 3] + [5] + [1] * 9)
    assert sensitivity_at_specificity(labels, scores, 0.9) == 1


@pytest.mark.parametrize(
    "call",
    [
        lambda: sensitivity_at_specificity([0, 1], [0, 1], 1.1),
        lambda: specificity_at_sensitivity([0, 1], [0, 1], -0.1),
        lambda: partial_auc([0, 1], [0, 1], 0),
    ],
)
def test_an_operating_point_out_of_range_is_told(call: object) -> None:
    with pytest.raises(UsageError, match="it must be"):
        call()  # type: ignore[operator]


@given(class_pairs())
def test_accuracies_and_confusion_equal_scikit_learns(case: tuple[np.ndarray, np.ndarray, int]) -> None:
    truth, predicted, classes = case
    assert accuracy(truth, predicted) == pytest.approx(reference.accuracy_score(truth, predicted))
    expected = reference.confusion_matrix(truth, predicted, labels=range(classes))
    np.testing.assert_array_equal(confusion(truth, predicted, classes), expected)
    assume(len(set(truth.tolist())) > 1)
    recalls = reference.recall_score(
        truth, predicted, labels=sorted(set(truth.tolist())), average=None, zero_division=0
    )
    assert balanced_accuracy(truth, predicted) == pytest.approx(np.mean(recalls))


@pytest.mark.parametrize("classes", [3, 4])
def test_macro_auroc_equals_scikit_learns(classes: int) -> None:
    rng = np.random.default_rng(classes)
    truth = np.arange(90) % classes
    probabilities = rng.dirichlet(np.ones(classes), 90).round(1) + 0.01
    probabilities /= probabilities.sum(axis=1, keepdims=True)
    expected = reference.roc_auc_score(truth, probabilities, multi_class="ovr", average="macro")
    assert macro_auroc(truth, probabilities) == pytest.approx(expected, abs=1e-12)


def test_auroc_of_scores_that_differ_only_beyond_32_bits() -> None:
    assert auroc([0, 1], [0.5, 0.5 + 1e-12]) == 1.0


def test_infinite_scores_have_a_rank() -> None:
    assert auroc([0, 0, 1], [-np.inf, 0.0, np.inf]) == 1.0


@pytest.mark.parametrize(
    ("references", "scores", "reason"),
    [
        ([], [], "no images"),
        ([0, 0], [0.1, 0.2], "all 2 images are negative"),
        ([1, 1, 1], [0.1, 0.2, 0.3], "all 3 images are positive"),
        ([0, 1, 1], [0.1, np.nan, 0.3], "1 of 3 scores are NaN"),
    ],
)
def test_undefined_auroc_says_why(references: list[int], scores: list[float], reason: str) -> None:
    for metric in (auroc, roc_curve):
        with pytest.raises(UndefinedMetric) as caught:
            metric(references, scores)
        assert reason in caught.value.reason


def test_other_undefined_metrics_say_why() -> None:
    with pytest.raises(UndefinedMetric, match="no images"):
        accuracy([], [])
    with pytest.raises(UndefinedMetric, match="one class"):
        balanced_accuracy([2, 2], [0, 2])
    with pytest.raises(UndefinedMetric, match="negative"):
        macro_auroc([0, 1, 0], np.full((3, 3), 1 / 3))
    with pytest.raises(UndefinedMetric, match="NaN"):
        macro_auroc([0, 1, 2], np.full((3, 3), np.nan))


def test_an_undefined_metric_survives_a_worker_process() -> None:
    back = pickle.loads(pickle.dumps(UndefinedMetric("all 2 images are negative")))
    assert isinstance(back, UndefinedMetric)
    assert isinstance(back, DataError)
    assert back.reason == "all 2 images are negative"


@pytest.mark.parametrize(
    "call",
    [
        lambda: auroc([0, 1, 2], [0.1, 0.2, 0.3]),
        lambda: auroc([0, 1, -100], [0.1, 0.2, 0.3]),
        lambda: auroc([0, 1], [0.1, 0.2, 0.3]),
        lambda: auroc([[0], [1]], [[0.1], [0.2]]),
        lambda: macro_auroc([0, 1, 3], np.ones((3, 3))),
        lambda: macro_auroc([0, 1], [0.2, 0.3]),
        lambda: accuracy([0, -100], [0, 0]),
        lambda: accuracy([0, 0.5], [0, 0]),
        lambda: accuracy([0, np.nan], [0, 0]),
        lambda: accuracy(["a", "b"], ["a", "b"]),
        lambda: accuracy([0, 1], [0]),
        lambda: confusion([0, 2], [0, 0], classes=2),
    ],
)
def test_wrong_input_is_a_data_error_and_not_an_undefined_metric(call: object) -> None:
    with pytest.raises(DataError) as caught:
        call()  # type: ignore[operator]
    assert not isinstance(caught.value, UndefinedMetric)
