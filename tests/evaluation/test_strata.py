"""AUC within strata: a shortcut is seen, and pairs within a patient are of one view."""

from __future__ import annotations

import dataclasses

import numpy as np
from made_scores import TASKS, made_scores

from mammo_hf.evaluation.classifier import TaskScores, auc_text, compared
from mammo_hf.evaluation.strata import within_strata


def _scores(truth: np.ndarray, values: np.ndarray, patients: np.ndarray) -> TaskScores:
    table = np.stack([1 - values, values], axis=1)
    return TaskScores(("no", "yes"), truth, table, table, patients, np.arange(len(truth)))


def _of_scanners(patients: int = 200) -> tuple[TaskScores, dict[str, list[str | None]]]:
    """One image per patient; the score is little more than the scanner, which goes with the label."""
    rng = np.random.default_rng(0)
    scanner = rng.integers(0, 2, patients)
    truth = (rng.random(patients) < np.where(scanner, 0.8, 0.2)).astype(int)
    values = 1 / (1 + np.exp(-(3 * scanner + rng.normal(size=patients))))
    facts: dict[str, list[str | None]] = {"stratum": ["new" if one else "old" for one in scanner]}
    return _scores(truth, values, np.arange(patients)), facts


def test_a_scanner_alone_is_seen() -> None:
    scores, facts = _of_scanners()
    found = within_strata(scores, facts, resamples=200, seed=0)
    of_scanner = found["stratum"]
    low, high = of_scanner["auroc_interval"]
    assert low < 0.5 < high
    assert of_scanner["pooled_minus_within_interval"][0] > 0.1
    assert list(of_scanner["by_stratum"]) == sorted(
        of_scanner["by_stratum"], key=lambda name: of_scanner["by_stratum"][name]["auroc"]
    )
    assert of_scanner["n_pairs"] == sum(cell["n_pairs"] for cell in of_scanner["by_stratum"].values())
    assert found["patient"]["auroc"] is None  # one image per patient has no pair
    assert "both" in found["patient"]["auroc_reason"]


def test_strata_with_few_pairs_are_listed() -> None:
    scores, facts = _of_scanners()
    facts["stratum"][:3] = ["a", "b", None]
    found = within_strata(scores, facts, resamples=100, seed=0)["stratum"]
    assert found["few_pairs"] == {"not known": 0, "a": 0, "b": 0}
    assert set(found["by_stratum"]) == {"old", "new"}


def test_pairs_within_a_patient_are_of_one_view() -> None:
    """The diseased breast scores higher in each view, although one view scores lower throughout."""
    patients = np.repeat(np.arange(30), 4)
    truth = np.tile([1, 1, 0, 0], 30)
    views = ["CC", "MLO"] * 60
    values = np.tile([0.4, 0.9, 0.3, 0.8], 30)
    scores = _scores(truth, values, patients)
    assert within_strata(scores, {"view": list(views)}, resamples=100, seed=0)["patient"]["auroc"] == 1.0
    assert within_strata(scores, {}, resamples=100, seed=0)["patient"]["auroc"] == 0.75


def test_few_patients_with_both_breasts_have_no_interval() -> None:
    """Twenty patients, four of whom have a diseased and another breast: too few to state how sure their pairs are."""
    truth = np.array([1, 0] * 4 + [1, 1] * 8 + [0, 0] * 8)
    scores = _scores(truth, np.linspace(0.1, 0.9, 40), np.repeat(np.arange(20), 2))
    found = within_strata(scores, {}, resamples=100, seed=0)["patient"]
    assert (found["n_pairs"], found["auroc"], found["auroc_interval"]) == (4, 0.0, None)
    assert found["auroc_interval_reason"] == "fewer than 5 patients in strata with both classes"
    assert found["pooled_minus_within_interval"] is None


def test_the_text_of_a_comparison() -> None:
    from types import SimpleNamespace

    from mammo_hf.evaluation.classifier import evaluate_classifier

    config = SimpleNamespace(tasks=TASKS, calibration=None, operating_points=None)
    evaluation = evaluate_classifier(config, made_scores(), resamples=100)
    within = dataclasses.replace(evaluation, comparison="within_vendor")
    assert auc_text(evaluation.figures["pathology"]) in str(evaluation)
    assert auc_text(evaluation.figures["pathology"]["within"]["vendor"]) in str(within)
    assert "more than two labels" in auc_text(compared(evaluation.figures["density"], "within_patient"))


def test_no_difference_states_what_would_have_been_shown() -> None:
    text = auc_text({"auroc": 0.52, "auroc_interval": [0.42, 0.62]})
    # 2.80 standard errors of 0.051
    assert text.endswith("not distinguishable from chance (a test of this size shows 0.64 or more)")
