from __future__ import annotations

import itertools
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st
from table_rows import cohort, make_row, make_table, patients

from mammo_hf.data.splits import label_subset, read_subset, save_subset
from mammo_hf.errors import DataError, UsageError


@given(st.lists(st.floats(0.1, 100), min_size=2, max_size=4), st.integers(0, 9))
def test_subsets_are_nested(percentages, seed):
    table = cohort()
    subsets = [set(label_subset(table, percentage=percentage, seed=seed)) for percentage in sorted(percentages)]
    for smaller, larger in itertools.pairwise(subsets):
        assert smaller <= larger


def test_subset_is_a_stratified_share_of_the_labelled_training_patients():
    table = cohort(benign=40, malignant=20, unknown=10, test=10)
    chosen = set(label_subset(table, percentage=25, seed=3))
    malignant = patients(table, split="train", pathology="malignant")
    benign = patients(table, split="train", pathology="benign") - malignant
    assert (len(chosen & benign), len(chosen & malignant), len(chosen)) == (10, 5, 15)


def test_all_labels_are_every_labelled_training_patient_and_no_other():
    table = cohort().split(validation_fraction=0.2, seed=0)
    labelled = patients(table, split="train", pathology=("benign", "malignant"))
    assert set(label_subset(table, percentage=100, seed=0)) == labelled
    assert labelled.isdisjoint(patients(table, split=("validation", "test")))


def test_the_smallest_subset_has_a_patient_of_each_class():
    table = cohort()
    chosen = label_subset(table, percentage=0.01, seed=0)
    assert len(chosen) == 2
    assert chosen[0] in patients(table, pathology="malignant") or chosen[1] in patients(table, pathology="malignant")


def test_same_seed_same_patients_another_seed_others():
    # a fault of published scripts: a subset that nobody could draw again
    table = cohort()
    first = label_subset(table, percentage=25, seed=0)
    assert label_subset(make_table(list(table)[::-1]), percentage=25, seed=0) == first
    assert label_subset(table, percentage=25, seed=1) != first


def test_subset_of_another_task_counts_its_labels():
    table = make_table([make_row("a", density="a"), make_row("b", pathology="benign"), make_row("c", density="d")])
    assert set(label_subset(table, percentage=100, seed=0, task="density")) == patients(table, density=("a", "d"))


@pytest.mark.parametrize("percentage", [0, -5, 100.5, float("nan")])
def test_percentage_out_of_range(percentage):
    with pytest.raises(UsageError, match="percentage: must be above 0 and at most 100"):
        label_subset(cohort(), percentage=percentage, seed=0)


def test_no_label_at_all():
    with pytest.raises(DataError, match="no training patient has a label"):
        label_subset(cohort(benign=0, malignant=0), percentage=50, seed=0)


def test_saved_subset_is_read_again(tmp_path):
    chosen = label_subset(cohort(), percentage=25, seed=0)
    save_subset(chosen, tmp_path / "labels.json", percentage=25, seed=0, salt_name="made up")
    assert read_subset(tmp_path / "labels.json") == chosen
    assert json.loads((tmp_path / "labels.json").read_text())["percentage"] == 25
    assert [path.name for path in tmp_path.iterdir()] == ["labels.json"]


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"patients": []}', '{"patients": ["P_00001"]}'])
def test_a_file_that_is_no_subset(tmp_path, text):
    (tmp_path / "labels.json").write_text(text)
    with pytest.raises(DataError, match=r"labels\.json: is not a label subset"):
        read_subset(tmp_path / "labels.json")


def test_files_that_cannot_be_read_or_written(tmp_path):
    with pytest.raises(DataError, match="cannot be read"):
        read_subset(tmp_path / "absent.json")
    with pytest.raises(UsageError, match="cannot be written"):
        save_subset(["0123456789abcdef"], tmp_path / "absent" / "labels.json")
