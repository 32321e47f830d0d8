from __future__ import annotations

import dataclasses
import json
import logging
from types import SimpleNamespace

import numpy as np
import pytest
from made_scores import TASKS, made_scores

from mammo_hf.errors import DataError
from mammo_hf.evaluation.classifier import (
    UNKNOWN,
    Evaluation,
    by_size,
    evaluate_classifier,
    fit_on_validation,
    task_logits,
)
from mammo_hf.evaluation.scored import Scored
from mammo_hf.evaluation.task_figures import evaluate_task
from mammo_hf.metrics.calibration import calibrated
from mammo_hf.metrics.classification import auroc


def _config() -> SimpleNamespace:
    return SimpleNamespace(tasks=TASKS, calibration=None, operating_points=None)


@pytest.fixture(scope="module")
def evaluated() -> tuple[SimpleNamespace, Evaluation]:
    config = _config()
    return config, evaluate_classifier(config, made_scores(seed=1), validation=made_scores(seed=0), resamples=100)


def test_calibration_and_operating_points_are_of_validation_alone(
    evaluated: tuple[SimpleNamespace, Evaluation],
) -> None:
    config, _ = evaluated
    alone = fit_on_validation(TASKS, made_scores(seed=0))
    assert config.calibration == {name: fit["calibration"] for name, fit in alone.items()}
    assert config.operating_points == {"pathology": alone["pathology"]["operating_points"]}
    # whatever the test split is, it changes nothing of them
    other = _config()
    evaluate_classifier(other, made_scores(seed=7, shift=-4), validation=made_scores(seed=0), resamples=100)
    assert vars(other) == vars(config)
    assert config.calibration["pathology"]["method"] == "platt"
    assert config.calibration["density"]["method"] == "temperature"
    assert set(config.operating_points) == {"pathology"}


def test_figures_are_of_calibrated_scores_at_the_points_of_validation(
    evaluated: tuple[SimpleNamespace, Evaluation],
) -> None:
    config, evaluation = evaluated
    images, found = made_scores(seed=1), evaluation.figures["pathology"]
    table = calibrated(images.logits[:, :2], config.calibration["pathology"])
    expected = evaluate_task(
        TASKS[0],
        images.labels[:, 0],
        table,
        images.patients,
        groupings=images.groupings(),
        operating_points=config.operating_points["pathology"],
        resamples=100,
    )
    assert {key: found[key] for key in expected} == expected
    assert found["ece"] < found["uncalibrated"]["ece"]
    threshold = config.operating_points["pathology"]["image"]["sensitivity_90"]["threshold"]
    called = table[:, 1] >= threshold
    confusion = found["operating_points"]["sensitivity_90"]["confusion"]
    assert confusion[1][1] == (called & (images.labels[:, 0] == 1)).sum()
    assert found["would_choose"]["calibration"] != found["calibration"]


def test_without_validation_the_checkpoints_own_are_applied_and_stay(
    evaluated: tuple[SimpleNamespace, Evaluation],
) -> None:
    config, evaluation = evaluated
    before = json.dumps([config.calibration, config.operating_points])
    again = evaluate_classifier(config, made_scores(seed=1), resamples=100)
    assert again.figures == evaluation.figures
    assert json.dumps([config.calibration, config.operating_points]) == before
    bare = evaluate_classifier(_config(), made_scores(seed=1), resamples=100).figures["pathology"]
    assert (bare["calibration"], bare["calibration_reason"]) == (None, "the checkpoint holds none")
    assert bare["chosen_operating_points"] is None
    assert "operating_points" not in bare
    assert bare["auroc"] == auroc(made_scores(seed=1).labels[:, 0], np.diff(made_scores(seed=1).logits[:, :2])[:, 0])


def test_too_few_validation_images_are_said_and_nothing_is_made_up(caplog: pytest.LogCaptureFixture) -> None:
    config = _config()
    with caplog.at_level(logging.WARNING):
        found = evaluate_classifier(config, made_scores(), validation=made_scores(patients=6), resamples=100)
    assert config.calibration is None
    assert "too few images" in found.figures["pathology"]["calibration_reason"]
    assert "pathology has no calibration: too few images" in caplog.text
    assert len(caplog.records) == 2


def test_a_class_that_validation_lacks_leaves_its_points_out() -> None:
    validation = made_scores()
    validation.labels[:, 0] = 0
    config = _config()
    found = evaluate_classifier(config, made_scores(), validation=validation, resamples=100).figures["pathology"]
    assert "one class only" in found["calibration_reason"]
    assert "negative" in found["chosen_operating_points_reason"]


def test_subgroups_hide_small_cells_and_tell_what_they_lack(evaluated: tuple[SimpleNamespace, Evaluation]) -> None:
    groups = evaluated[1].figures["pathology"]["subgroups"]
    assert set(groups) == {"view", "laterality", "density", "vendor"}  # of one age band alone
    assert groups["vendor"]["not_shown"] == 1
    assert set(groups["vendor"]["cells"]) == {"ge"}
    cell = groups["view"]["cells"]["CC"]
    images = made_scores(seed=1)
    inside = np.array(images.facts["view"]) == "CC"
    scores = images.logits[inside, 1] - images.logits[inside, 0]
    assert cell["auroc"] == auroc(images.labels[inside, 0], scores)
    assert (cell["n_images"], cell["n_patients"]) == (60, 60)
    assert cell["sensitivity_interval"][0] <= cell["sensitivity"] <= cell["sensitivity_interval"][1]
    # density itself is no subgroup of density
    assert "density" not in evaluated[1].figures["density"]["subgroups"]


def test_bands_of_numbers_come_in_order() -> None:
    bands = ["100-150", UNKNOWN, "150+", "<50", "50-100"]
    assert sorted(bands, key=by_size) == ["<50", "50-100", "100-150", "150+", UNKNOWN]
    sizes = ["above 20 mm", "10 to 20 mm", "below 10 mm"]
    assert sorted(sizes, key=by_size) == sizes[::-1]
    assert sorted(["MLO", "CC"], key=by_size) == ["CC", "MLO"]


def test_the_figures_are_json_without_a_patient_and_warn_of_few(evaluated: tuple[SimpleNamespace, Evaluation]) -> None:
    text = json.dumps(evaluated[1].figures, allow_nan=False)
    assert "patient0" not in text
    assert "exam0" not in text
    assert [warning.split(":")[0] for warning in evaluated[1].warnings] == ["density"]  # 40 patients; pathology has 60
    one = evaluate_classifier(_config(), made_scores(patients=1), resamples=100)
    json.dumps(one.figures, allow_nan=False)
    assert one.figures["pathology"]["auroc"] is None


def test_no_label_nan_and_logits_of_other_tasks() -> None:
    empty = made_scores()
    empty.labels[:, 0] = -100
    figures = evaluate_classifier(_config(), empty, resamples=100).figures["pathology"]
    assert (figures["auroc"], figures["n_images"]) == (None, 0)
    assert "no images" in figures["auroc_reason"]
    broken = made_scores()
    broken.logits[0] = np.nan
    figures = evaluate_classifier(_config(), broken, resamples=100).figures["pathology"]
    assert figures["auroc_reason"] == "1 of 120 images have NaN probabilities"
    json.dumps(figures, allow_nan=False)
    with pytest.raises(DataError, match="5 logits for tasks of 2"):
        task_logits(TASKS[:1], made_scores().logits)
    with pytest.raises(DataError, match="view"):
        dataclasses.replace(made_scores(), facts={"view": ["CC"]})


def test_an_image_without_a_side_is_no_part_of_another_breast() -> None:
    images = Scored(np.zeros((4, 2)), np.zeros((4, 1)), ["p"] * 4, {"laterality": ["L", "L", None, None]})
    assert len(set(images.groupings()["breast"])) == 3
    assert set(images.groupings()["patient"]) == {"p"}
