from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest
from made_scores import TASKS, made_scores

from mammo_hf.evaluation.classifier import Evaluation, evaluate_classifier
from mammo_hf.evaluation.report.plots import GRID, _precision_rows, _sensitivity_rows, task_plots
from mammo_hf.metrics.classification import auroc, roc_curve
from mammo_hf.metrics.inputs import Weighted


@pytest.fixture(scope="module")
def evaluation() -> Evaluation:
    config = SimpleNamespace(tasks=TASKS, calibration=None, operating_points=None)
    return evaluate_classifier(config, made_scores(patients=30, seed=1), validation=made_scores(), resamples=100)


def test_each_kind_of_task_has_its_plots_and_the_same_bytes_each_time(evaluation: Evaluation) -> None:
    plots = {name: task_plots(scores, evaluation.figures[name]) for name, scores in evaluation.scores.items()}
    assert list(plots["pathology"]) == [
        "ROC curve",
        "Precision and recall",
        "Calibration",
        "Errors if a person reads the rest",
        "Scores",
    ]
    assert list(plots["density"]) == ["ROC curve", "Calibration", "Errors if a person reads the rest", "Confusion"]
    assert all(svg.startswith("<?xml") and len(svg) < 200_000 for of_task in plots.values() for svg in of_task.values())
    assert task_plots(evaluation.scores["density"], evaluation.figures["density"]) == plots["density"]


def test_the_bands_rows_are_the_curves_themselves_where_nothing_is_resampled() -> None:
    images = made_scores()
    truth, scores = images.labels[:, 0], images.logits[:, 1] - images.logits[:, 0]
    whole = Weighted(truth, scores, np.ones((1, truth.size)))
    alarms, hits, _ = roc_curve(truth, scores)
    np.testing.assert_allclose(_sensitivity_rows(whole)[0], np.interp(GRID, alarms, hits))
    assert np.trapezoid(_sensitivity_rows(whole)[0], GRID) == pytest.approx(auroc(truth, scores), abs=0.01)
    precision = _precision_rows(whole)[0]
    assert precision[-1] <= precision[0]
    assert precision[-1] >= truth.mean()
