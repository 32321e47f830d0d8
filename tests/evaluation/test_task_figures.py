from __future__ import annotations

import json

import numpy as np
import pytest

from mammo_hf.errors import DataError
from mammo_hf.evaluation.task_figures import evaluate_task
from mammo_hf.metrics.classification import auroc, macro_auroc, quadratic_kappa
from mammo_hf.metrics.intervals import bootstrap_interval

PATHOLOGY = {"name": "pathology", "labels": ["benign", "malignant"]}
DENSITY = {"name": "density", "labels": ["a", "b", "c", "d"]}


def _binary(n: int = 40) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    rng = np.random.default_rng(0)
    labels = np.arange(n) % 2
    score = 1 / (1 + np.exp(-(labels + rng.normal(size=n))))
    return labels, np.stack([1 - score, score], axis=1), np.array([f"p{i:02d}" for i in range(n)])


def test_the_last_label_is_the_positive() -> None:
    labels, probabilities, patients = _binary()
    result = evaluate_task(PATHOLOGY, labels, probabilities, patients, resamples=100)
    assert result["positive"] == "malignant"
    assert result["auroc"] == auroc(labels, probabilities[:, 1]) > 0.5
    interval = bootstrap_interval(auroc, labels, probabilities[:, 1], groups=patients, resamples=100)
    assert result["auroc_interval"] == list(interval)
    assert result["class_counts"] == {"benign": 20, "malignant": 20}
    right = np.array(result["confusion"]).trace()
    assert result["accuracy"] == result["balanced_accuracy"] == right / 40
    assert (result["n_images"], result["n_patients"], result["n_unknown"]) == (40, 40, 0)
    assert not [key for key in result if key.endswith("_reason")]


def test_images_with_an_unknown_label_count_for_nothing() -> None:
    labels, probabilities, patients = _binary()
    expected = evaluate_task(PATHOLOGY, labels, probabilities, patients, resamples=50)
    more = evaluate_task(
        PATHOLOGY,
        np.append(labels, [-100, -100]),
        np.vstack([probabilities, [[np.nan, np.nan], [0.0, 1.0]]]),
        np.append(patients, ["p98", "p99"]),
        resamples=50,
    )
    assert more.pop("n_unknown") == 2
    expected.pop("n_unknown")
    assert more == expected


def test_several_classes_take_the_macro_average() -> None:
    rng = np.random.default_rng(1)
    labels, probabilities = np.arange(80) % 4, rng.dirichlet(np.ones(4), 80)
    result = evaluate_task(DENSITY, labels, probabilities, np.arange(80), resamples=50)
    assert result["auroc"] == macro_auroc(labels, probabilities)
    assert "positive" not in result
    assert np.shape(result["confusion"]) == (4, 4)


def test_one_class_only_is_null_with_its_reason() -> None:
    _, probabilities, patients = _binary(6)
    result = evaluate_task(PATHOLOGY, np.zeros(6, int), probabilities, patients, resamples=50)
    for name in ("auroc", "auroc_interval"):
        assert result[name] is None
        assert result[f"{name}_reason"] == "no image is labelled malignant"
    assert result["balanced_accuracy"] is None
    assert "one class" in result["balanced_accuracy_reason"]
    assert result["accuracy"] is not None


def test_nothing_known_nan_scores_and_one_patient_are_null_with_their_reasons() -> None:
    labels, probabilities, patients = _binary(8)
    figures = ("auroc", "auroc_interval", "accuracy", "balanced_accuracy", "confusion")
    empty = evaluate_task(PATHOLOGY, np.full(8, -100), probabilities, patients)
    assert all(empty[name] is None and "no images" in empty[f"{name}_reason"] for name in figures)
    broken = evaluate_task(PATHOLOGY, labels, np.full((8, 2), np.nan), patients)
    assert all(broken[name] is None and "NaN" in broken[f"{name}_reason"] for name in figures)
    alone = evaluate_task(PATHOLOGY, labels, probabilities, ["p"] * 8)
    assert alone["auroc"] is not None
    assert alone["auroc_interval"] is None
    assert "one patient" in alone["auroc_interval_reason"]


def test_a_class_of_several_that_is_missing_is_named() -> None:
    probabilities = np.random.default_rng(0).dirichlet(np.ones(4), 9)
    result = evaluate_task(DENSITY, np.arange(9) % 3, probabilities, np.arange(9))
    assert result["auroc"] is None
    assert result["auroc_reason"] == "no image is labelled d"
    assert result["balanced_accuracy"] is not None


def test_units_take_the_mean_of_their_images() -> None:
    # by image the AUROC is 3/4; the mean of a breast's two views puts both malignant breasts on top
    labels = np.array([0, 0, 1, 1, 0, 0, 1, 1])
    positive = np.array([0.4, 0.2, 0.9, 0.1, 0.3, 0.1, 0.6, 0.6])
    breasts = ["p1L", "p1L", "p1R", "p1R", "p2L", "p2L", "p2R", "p2R"]
    patients = ["p1"] * 4 + ["p2"] * 4
    result = evaluate_task(
        PATHOLOGY,
        labels,
        np.stack([1 - positive, positive], axis=1),
        patients,
        groupings={"breast": breasts, "patient": patients},
        resamples=50,
    )
    breast, patient = result["units"]["breast"], result["units"]["patient"]
    assert result["auroc"] < 1
    assert breast["mean"]["auroc"] == 1
    assert breast["mean"]["confusion"] == [[2, 0], [1, 1]]
    # by the highest image p1's malignant breast leads, by the lowest it would not
    assert breast["max"]["auroc"] == 1
    assert breast["max"]["confusion"] == [[2, 0], [0, 2]]
    assert (breast["n_units"], breast["n_patients"], breast["n_conflicting"]) == (4, 2, 0)
    # a patient with one malignant breast is malignant, so here both are
    assert patient["class_counts"] == {"benign": 0, "malignant": 2}
    assert patient["mean"]["auroc"] is None
    assert patient["mean"]["auroc_reason"] == "no image is labelled benign"


def test_a_unit_of_many_images_has_no_larger_score() -> None:
    # three benign views of 0.3 against one malignant of 0.6: a sum would put the benign patient above
    labels, positive = np.array([0, 0, 0, 1]), np.array([0.3, 0.3, 0.3, 0.6])
    patients = ["p1", "p1", "p1", "p2"]
    table = np.stack([1 - positive, positive], axis=1)
    unit = evaluate_task(PATHOLOGY, labels, table, patients, groupings={"patient": patients})["units"]["patient"]
    assert unit["mean"]["auroc"] == 1
    assert unit["max"]["auroc"] == 1


def test_units_use_labelled_images_only() -> None:
    labels = np.array([0, -100, 1, 1])
    positive = np.array([0.2, 1.0, 0.4, 0.4])
    patients = ["p1", "p1", "p2", "p2"]
    table = np.stack([1 - positive, positive], axis=1)
    result = evaluate_task(PATHOLOGY, labels, table, patients, groupings={"patient": patients}, resamples=50)
    assert result["units"]["patient"]["mean"]["auroc"] == 1


def test_units_whose_images_disagree_in_a_task_of_several_classes_are_counted_and_left_out() -> None:
    labels, patients = np.array([0, 1, 2, 2, 3, 3]), ["p1", "p1", "p2", "p2", "p3", "p3"]
    table = np.random.default_rng(0).dirichlet(np.ones(4), 6)
    unordered = {"name": "abnormality", "labels": ["normal", "asymmetry", "mass", "both"]}
    unit = evaluate_task(unordered, labels, table, patients, groupings={"patient": patients})["units"]["patient"]
    assert (unit["n_units"], unit["n_conflicting"]) == (2, 1)
    assert unit["class_counts"] == {"normal": 0, "asymmetry": 0, "mass": 1, "both": 1}


def test_units_whose_images_disagree_in_an_ordered_task_have_the_most_severe_label() -> None:
    labels, patients = np.array([0, 1, 2, 2, 3, 3]), ["p1", "p1", "p2", "p2", "p3", "p3"]
    table = np.random.default_rng(0).dirichlet(np.ones(4), 6)
    unit = evaluate_task(DENSITY, labels, table, patients, groupings={"patient": patients})["units"]["patient"]
    assert (unit["n_units"], unit["n_conflicting"]) == (3, 0)
    assert unit["class_counts"] == {"a": 0, "b": 1, "c": 1, "d": 1}


def test_a_breast_of_two_patients_is_refused() -> None:
    labels, probabilities, patients = _binary(4)
    with pytest.raises(DataError, match="breast"):
        evaluate_task(PATHOLOGY, labels, probabilities, patients, groupings={"breast": ["L", "R", "L", "R"]})


def test_the_error_by_coverage_begins_with_that_of_all_images() -> None:
    generator = np.random.default_rng(0)
    truth = generator.integers(0, 2, 80)
    positive = np.clip(0.5 + 0.3 * (truth - 0.5) + generator.normal(0, 0.25, 80), 0, 1)
    table = np.stack([1 - positive, positive], axis=1)
    task = {"name": "pathology", "labels": ["benign", "malignant"]}
    found = evaluate_task(task, truth, table, [f"p{number // 2}" for number in range(80)], resamples=200)
    points = found["risk_coverage"]
    assert [point["coverage"] for point in points] == sorted((point["coverage"] for point in points), reverse=True)
    assert points[0]["error"] == pytest.approx(1 - found["accuracy"])
    assert points[-1]["error"] < points[0]["error"]  # the surest are right more often
    low, high = points[0]["interval"]
    assert low <= points[0]["error"] <= high


def test_the_result_is_json_without_nan_and_without_patient_keys() -> None:
    labels, probabilities, patients = _binary(12)
    groupings = {"patient": patients}
    for truth in (labels, np.full(12, -100), np.zeros(12, np.int8)):
        result = evaluate_task(PATHOLOGY, truth, probabilities, patients, groupings=groupings, resamples=50)
        text = json.dumps(result, allow_nan=False)
        assert not any(key in text for key in patients)


@pytest.mark.parametrize(
    ("labels", "shape", "patients"),
    [
        ([0, 1, 2], (3, 2), 3),
        ([0, 1, -1], (3, 2), 3),
        ([0, 1, 1], (3, 3), 3),
        ([0, 1, 1], (2, 2), 3),
        ([0, 1], (2, 2), 3),
    ],
)
def test_what_does_not_fit_the_task_is_an_error(labels: list[int], shape: tuple[int, int], patients: int) -> None:
    with pytest.raises(DataError):
        evaluate_task(PATHOLOGY, labels, np.full(shape, 0.5), [f"p{i}" for i in range(patients)])


def test_operating_points_are_held_against_image_and_unit_and_change_nothing_else() -> None:
    labels, probabilities, patients = _binary(40)
    points = {"image": {"sensitivity_90": {"threshold": 0.0}}, "patient": {"sensitivity_90": {"threshold": 0.9}}}
    plain = evaluate_task(PATHOLOGY, labels, probabilities, patients, groupings={"patient": patients}, resamples=50)
    result = evaluate_task(
        PATHOLOGY,
        labels,
        probabilities,
        patients,
        groupings={"patient": patients},
        operating_points=points,
        resamples=50,
    )
    at = result.pop("operating_points")["sensitivity_90"]
    assert at["confusion"] == [[0, 20], [0, 20]]
    assert (at["sensitivity"], at["specificity"]) == (1, 0)
    assert (at["negative_predictive_value"], at["negative_predictive_value_reason"]) == (
        None,
        "no image is called negative",
    )
    of_patient = result["units"]["patient"]["mean"].pop("operating_points")["sensitivity_90"]
    called = probabilities[:, 1] >= 0.9
    assert np.array(of_patient["confusion"])[1, 1] == (called & (labels == 1)).sum()
    assert result == plain


def test_kappa_is_for_classes_in_an_order() -> None:
    rng = np.random.default_rng(1)
    labels, probabilities = np.arange(80) % 4, rng.dirichlet(np.ones(4), 80)
    of_density = evaluate_task(DENSITY, labels, probabilities, np.arange(80), resamples=50)
    assert of_density["quadratic_kappa"] == quadratic_kappa(labels, probabilities.argmax(axis=1))
    shape = {"name": "shape", "labels": DENSITY["labels"]}
    assert "quadratic_kappa" not in evaluate_task(shape, labels, probabilities, np.arange(80), resamples=50)


def test_scores_that_are_all_equal_are_figures_and_no_warnings(recwarn: pytest.WarningsRecorder) -> None:
    labels, _, patients = _binary(40)
    result = evaluate_task(PATHOLOGY, labels, np.full((40, 2), 0.5), patients, resamples=100)
    assert (result["auroc"], result["auroc_interval"]) == (0.5, None)
    assert result["auroc_interval_reason"] == "every resample gives the same value"
    assert result["auprc"] == 0.5
    assert result["sensitivity_at_90_specificity"] == 0
    assert not recwarn.list
