from __future__ import annotations

import pytest

from mammo_hf.evaluation.report.words import training_in_words

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


def test_nothing_is_said_of_what_is_not_recorded():
    assert set(training_in_words({}).values()) == {None}
    # checkpoints of before these were recorded
    words = training_in_words({"run": RUN, "train_images": 4, "train_patients": 2})
    assert (words["start"], words["tuned"], words["weights"]) == (None, None, None)
    assert words["run"].endswith("float32 on cpu.")


def test_a_run_in_sentences():
    words = training_in_words({"run": RUN, "seed": 0, "start": "random", "settings": {"tune": "head"}})
    assert words["run"] == (
        "12 updates of 8 images (1.5 epochs), adamw_torch, learning rate 0.001, schedule cosine, weight decay 0.05, "
        "float32 on cpu, seed 0."
    )
    assert words["start"] == "All parameters began at random values."
    assert words["tuned"] == "The heads alone were trained."
    assert words["choice"] == "The last epoch is kept."
    chosen = training_in_words({"run": RUN | {"chosen_by": "eval_loss"}})["choice"]
    assert chosen == "The epoch was chosen by eval_loss on validation patients."


@pytest.mark.parametrize(
    ("method", "says"),
    [
        ("none", ", and 30 images without theirs."),
        ("mean_teacher", ", and 30 images without theirs, by agreement with an average of earlier weights"),
    ],
)
def test_images_without_labels_and_how_they_were_used(method, says):
    figures = {"train_images": 4, "train_patients": 2, "unlabelled_images": 30, "settings": {"semi_supervised": method}}
    words = training_in_words(figures)["labels"]
    assert words.startswith("Labels of 4 images of 2 training patients were used")
    assert says in words


def test_class_weights_by_task():
    words = training_in_words({"class_weights": {"pathology": [0.5, 2.0], "density": [1.0, 1.0, 1.0]}})["weights"]
    assert words.endswith("pathology 0.5, 2; density 1, 1, 1.")
