"""Sentences on a training and on the preprocessing, as reports and cards give them."""

from __future__ import annotations

import pytest

from mammo_hf.evaluation.report.facts import sentences
from mammo_hf.processing.image_processing_mammo import MammoImageProcessor


def _words(figures):
    macros = ("start", "run", "tuned", "choice", "labels", "weights")
    return {macro: " ".join(sentences(macro, figures)) for macro in macros}


RUN = {
    "updates": 12,
    "images_an_update": 8,
    "epochs": 1.5,
    "optimizer": "adamw_torch",
    "learning_rate": 1e-3,
    "schedule": "cosine",
    "weight_decay": 0.05,
    "precision": "float32",
    "device": "cpu",
    "chosen_by": None,
}


def test_what_is_not_recorded_has_no_sentence():
    assert set(_words({}).values()) == {""}
    # checkpoints of before these were recorded
    words = _words({"run": RUN, "train_images": 4, "train_patients": 2})
    assert (words["start"], words["tuned"], words["weights"]) == ("", "", "")
    assert words["run"].endswith("float32 on cpu.")


def test_a_run_in_sentences():
    words = _words({"run": RUN, "seed": 0, "start": "random", "settings": {"tune": "head"}})
    assert words["run"] == (
        "12 updates of 8 images (1.5 epochs), adamw_torch, learning rate 0.001, schedule cosine, weight decay 0.05, "
        "float32 on cpu, seed 0."
    )
    assert words["start"] == "All parameters started from random values."
    assert words["tuned"] == "Only the heads were trained."
    assert words["choice"] == "The last epoch is kept."
    chosen = _words({"run": RUN | {"chosen_by": "eval_loss"}})["choice"]
    assert chosen == "The epoch was chosen by eval_loss on validation patients."


@pytest.mark.parametrize(
    ("method", "says"),
    [
        ("none", ", and 30 images without their labels."),
        ("mean_teacher", ", and 30 images without their labels, by agreement with an average of earlier weights"),
    ],
)
def test_images_without_labels_and_how_they_were_used(method, says):
    figures = {"train_images": 4, "train_patients": 2, "unlabelled_images": 30, "settings": {"semi_supervised": method}}
    words = _words(figures)["labels"]
    assert words.startswith("Labels of 4 images of 2 training patients were used")
    assert says in words


def test_class_weights_by_task():
    words = _words({"class_weights": {"pathology": [0.5, 2.0], "density": [1.0, 1.0, 1.0]}})["weights"]
    assert words.endswith("pathology 0.5, 2; density 1, 1, 1.")


def _preprocessing(**settings):
    return " ".join(sentences("preprocessing", MammoImageProcessor(size=(112, 56), **settings).to_dict()))


@pytest.mark.parametrize(
    ("setting", "sentence"),
    [
        ("crop_to_breast", "cropped to the breast"),
        ("blank_outside_breast", "outside the breast"),
        ("blank_pectoral_muscle", "The pectoral muscle becomes 0"),
        ("equalize_ranks", "becomes its rank within the image"),
        ("invert_negatives", "dark tissue on a bright background"),
        ("orient", "chest wall is at the left"),
    ],
)
def test_a_step_is_described_if_it_happens_and_only_then(setting, sentence):
    assert sentence in _preprocessing(**{setting: True})
    assert sentence not in _preprocessing(**{setting: False})


def test_numbers_and_choices_are_the_processors_own():
    text = _preprocessing(crop_margin=0.05, window=1, prefer="window", on_missing_window="raise", num_channels=3)
    assert "a margin of 5 % of the longer side" in text
    assert "its window before its VOI LUT (number 1 of several)" in text
    assert "files that are For Processing, are refused." in text
    assert "the same in 3 channels" in text
    assert "112 x 56 pixels" in text


@pytest.mark.parametrize(
    ("policy", "says"),
    [
        ("middle", "the middle slice"),
        (3, "slice 3"),
        ({"slices": "all", "projection": "mean"}, "the mean of all slices"),
    ],
)
def test_which_slices_of_a_volume(policy, says):
    assert f"Of a tomosynthesis volume: {says}." in _preprocessing(tomosynthesis=policy)


def test_absent_settings_have_no_sentence():
    assert sentences("preprocessing", {}) == []
