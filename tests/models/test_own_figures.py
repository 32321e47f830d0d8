import json

import pytest

from mammo_hf.models.own_figures import (
    AT_CHANCE,
    MAP_TESTS,
    is_at_chance,
    is_tested_for,
    map_tests,
    own_figures,
    write_map_tests,
)

CONFIG = {
    "model_type": "swin",
    "architectures": ["MammoSwinForImageClassification"],
    "tasks": [{"name": "pathology", "labels": ["benign", "malignant"]}],
    "calibration": {"pathology": {"method": "platt", "slope": 2.0, "intercept": 0.1, "n_patients": 40}},
    "lesion_task": "pathology",
}
TEST = {"auroc": 0.71, "auroc_interval": [0.6, 0.8], "n_patients": 88, "n_images": 300}


@pytest.fixture
def written(tmp_path):
    def write(test=TEST, counts=None, **config):
        counts = {"benign": 55, "malignant": 45} if counts is None else counts
        figures = {"collection": {"name": "CBIS-DDSM"}, "validation": {"pathology": {"class_counts": counts}}}
        figures |= {"test": {"pathology": test}} if test else {}
        (tmp_path / "config.json").write_text(json.dumps(CONFIG | config))
        (tmp_path / "metrics.json").write_text(json.dumps({"classifier": figures}))
        return own_figures(tmp_path)["pathology"]

    return write


def test_auc_patients_calibration_and_prevalence_are_stated(written):
    test, calibration, lesions = written()
    assert test == "Test AUC 0.71 (0.60 to 0.80), above chance, by image, on 88 patients of CBIS-DDSM."
    assert calibration.startswith("Calibrated on 40 validation patients, where 45 % were malignant of 100 images")
    assert "lesion annotations" in lesions
    assert not is_at_chance((test,))
    assert len(written(lesion_task=None)) == 2


def test_a_model_at_chance_says_so_first(written):
    found = written(TEST | {"auroc": 0.51, "auroc_interval": [0.42, 0.6]})
    assert is_at_chance(found)
    assert found[0].lower().startswith(AT_CHANCE)
    assert "0.51 (0.42 to 0.60), not distinguishable from chance" in found[0]


def test_what_is_not_recorded_is_not_known(written, tmp_path):
    assert "is not known" in written(test=None)[0]
    assert "not calibrated" in written(calibration=None)[1]
    # nine images might be of one patient: neither they nor their percentage is stated
    assert "is not stated" in written(counts={"benign": 91, "malignant": 9})[1]
    assert "cannot be read" in written(test={"auroc": "high"})[0]
    (tmp_path / "metrics.json").write_text("{")
    assert "is not known" in own_figures(tmp_path)[""][0]


def of(value, low, high):
    return {"value": value, "interval": [low, high], "images": 9}


def study_of(placement, sanity, faithfulness):
    row = {
        "baseline": False,
        "pointing_game_over": {"brightest tissue": placement},
        "deletion_over_random": faithfulness,
    }
    ranks = {"grad_cam": {"classifier": sanity}}
    about = {"target": "predicted", "images": 60, "patients": 50, "sanity": {"rank_correlation": ranks}}
    return about | {"explainers": {"grad_cam": row, "random": {"baseline": True}}}


def test_each_test_of_a_map_has_a_line_and_none_a_verdict(tmp_path):
    good = study_of(of(0.2, 0.1, 0.3), of(0.1, -0.1, 0.3), of(-0.1, -0.2, -0.05))
    write_map_tests(tmp_path, good, "CBIS-DDSM")
    (placement, sanity, faithfulness, target), passed = map_tests(tmp_path)["grad_cam"][:0:-1]
    assert placement == "placement: better than the brightest tissue, +0.20 (+0.10 to +0.30)."
    assert sanity == "sanity: another map with a random classifier, correlation 0.10 (-0.10 to 0.30)."
    assert faithfulness == "faithfulness: better than a random map, deletion -0.100 (-0.200 to -0.050)."
    assert target == "tested for the predicted label on 60 images of 50 patients of CBIS-DDSM."
    assert passed == {"placement": True, "sanity": True, "faithfulness": True}
    write_map_tests(tmp_path, good | {"target": "pathology:malignant"}, "CBIS-DDSM")
    assert map_tests(tmp_path)["grad_cam"].lines[-1].startswith("tested for pathology:malignant on 60 such images of")


def test_the_tests_of_maps_hold_for_their_label_alone():
    assert is_tested_for("pathology:malignant", "pathology:malignant", is_predicted=False)
    assert not is_tested_for("pathology:malignant", "pathology:benign", is_predicted=True)
    assert is_tested_for("predicted", "density:c", is_predicted=True)
    assert not is_tested_for("predicted", "pathology:malignant", is_predicted=False)


def test_a_map_that_fails_says_so_and_what_was_not_measured_too(tmp_path):
    missing = {"value": None, "interval": None, "images": 0}
    write_map_tests(tmp_path, study_of(of(0.1, -0.01, 0.3), of(0.4, 0.2, 0.6), missing), None)
    (placement, sanity, faithfulness, target), passed = map_tests(tmp_path)["grad_cam"][:0:-1]
    assert "no better than the brightest tissue" in placement
    assert "a private collection" in target
    assert "much the same map" in sanity
    assert faithfulness == "faithfulness: not measured."
    assert passed == {"placement": False, "sanity": False, "faithfulness": None}
    other = study_of(of(0.1, 0.01, 0.3), None, missing)
    other["explainers"]["legrad"] = other["explainers"].pop("grad_cam")
    write_map_tests(tmp_path, other, None)
    assert list(map_tests(tmp_path)) == ["grad_cam", "legrad"]
    (tmp_path / MAP_TESTS).write_text('{"explainers": {"grad_cam": 3}}')
    assert map_tests(tmp_path) == {}
