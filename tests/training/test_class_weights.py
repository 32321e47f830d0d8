"""Weights of classes: N / (K N_c) over known labels."""

import numpy as np
import pytest

from mammo_hf import MammoSwinConfig
from mammo_hf.errors import DataError
from mammo_hf.training.scoring import class_weights, weights_as_text

TASKS = [{"name": "pathology", "labels": ["benign", "malignant"]}, {"name": "density", "labels": ["a", "b", "c"]}]


def test_known_labels_alone_are_counted():
    labels = np.array([[0, 0], [0, -100], [0, 0], [1, 1], [-100, -100]])
    weights = class_weights(labels, TASKS)
    assert weights["pathology"] == pytest.approx([4 / 6, 2.0])
    assert weights["density"] == pytest.approx([3 / 6, 1.0, 1.0])
    # a configuration takes them, also that of a class that never occurs
    assert MammoSwinConfig(tasks=TASKS, class_weights=weights).class_weights == weights
    # they are written into a configuration and a log
    assert all(type(weight) is float for own in weights.values() for weight in own)
    assert weights_as_text(weights, TASKS) == "pathology: benign 0.67, malignant 2.00; density: a 0.50, b 1.00, c 1.00"


@pytest.mark.parametrize(("labels", "says"), [([[-100], [-100]], "no labels at all"), ([[1], [1]], "'malignant' only")])
def test_nothing_and_one_class_teach_nothing(labels, says):
    with pytest.raises(DataError, match=says):
        class_weights(np.array(labels), TASKS[:1])
