import datasets
import numpy as np
import pytest

from mammo_hf.data.prepared_row import UNKNOWN_PATHOLOGY
from mammo_hf.studies.explanations import permuted_labels


@pytest.fixture
def prepared():
    generator = np.random.default_rng(0)
    labels = [[int(generator.integers(2)), int(generator.integers(-1, 4))] for _ in range(60)]
    labels = [[one, -100 if other < 0 else other] for one, other in labels]
    lesions = [bytes([0, one + 1, 0, one + 1]) if row % 3 else None for row, (one, _) in enumerate(labels)]
    return datasets.Dataset.from_dict({"labels": labels, "lesions": lesions, "pixels": [bytes([n]) for n in range(60)]})


def test_labels_are_dealt_out_among_the_chosen_rows_alone(prepared):
    rows = list(range(0, 60, 2))
    changed = permuted_labels(prepared, rows, seed=0)
    before, after = np.array(prepared["labels"]), np.array(changed["labels"])
    rest = np.setdiff1d(np.arange(60), rows)
    assert np.array_equal(after[rest], before[rest])
    assert (after[rows, 0] != before[rows, 0]).sum() > 5
    for task in range(2):
        assert sorted(after[rows, task]) == sorted(before[rows, task])
        assert np.array_equal(after[:, task] < 0, before[:, task] < 0)
    assert changed["pixels"][:] == prepared["pixels"][:]
    assert changed.features["labels"] == prepared.features["labels"]


def test_lesions_stay_and_take_the_new_label(prepared):
    changed = permuted_labels(prepared, range(60), seed=1)
    for before, after, labels in zip(prepared["lesions"], changed["lesions"], changed["labels"], strict=True):
        assert (before is None) == (after is None)
        if after is not None:
            assert after == bytes([0, labels[0] + 1, 0, labels[0] + 1])


def test_a_seed_gives_the_same_and_another_gives_others(prepared):
    one, same, other = (permuted_labels(prepared, range(60), seed)["labels"][:] for seed in (3, 3, 4))
    assert one == same
    assert one != other


def test_a_finding_of_an_image_without_a_label_stays_unknown():
    data = datasets.Dataset.from_dict(
        {"labels": [[-100], [1]], "lesions": [bytes([255]), bytes([2])], "view": ["", ""]}
    )
    assert permuted_labels(data, [0, 1], 0)["lesions"][0] == bytes([UNKNOWN_PATHOLOGY])
