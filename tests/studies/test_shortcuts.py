"""What features tell of where an image is from, against features that are made to tell it or not."""

import numpy as np

from mammo_hf.studies.shortcuts import _probed

PATIENTS = np.repeat([f"p{number:02d}" for number in range(40)], 2)
VALUES = np.repeat(["A", "B"], 40)
DRAW = {"resamples": 200, "seed": 0}


def _noise() -> np.ndarray:
    return np.random.default_rng(0).standard_normal((80, 4))


def test_features_that_hold_the_scanner_tell_it_and_others_do_not():
    shifted = _noise() + np.where(VALUES == "B", 2.0, 0.0)[:, None]
    told, not_told = (_probed(features, VALUES, PATIENTS, **DRAW) for features in (shifted, _noise()))
    assert told["auroc"] > 0.95
    assert told["values"] == ["A", "B"]
    assert not_told["auroc_interval"][0] < 0.5


def test_a_value_of_few_patients_is_left_out_and_one_value_has_a_reason():
    values = VALUES.copy()
    values[:4] = "C"
    assert _probed(_noise(), values, PATIENTS, **DRAW)["n_patients"] == 38
    values[4:] = "A"
    alone = _probed(_noise(), values, PATIENTS, **DRAW)
    assert alone["auroc"] is None
    assert "fewer than two values" in alone["auroc_reason"]
    assert alone["n_patients"] == 38


def test_more_than_two_values_have_the_macro_average():
    values = np.repeat(["A", "B", "C", "D"], 20)
    shifted = _noise() + 3 * np.eye(4)[np.unique(values, return_inverse=True)[1]]
    assert _probed(shifted, values, PATIENTS, **DRAW)["auroc"] > 0.9
