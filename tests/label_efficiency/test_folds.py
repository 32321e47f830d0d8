"""Who is tested in a fold: everybody with a label once, by patient, whatever the arm."""

import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parents[1] / "data"))
from table_rows import cohort, patients

from mammo_hf.data import assert_no_leak
from mammo_hf.errors import DataError, UsageError
from mammo_hf.label_efficiency.folds import folds_of, sides_of


def test_each_labelled_patient_is_tested_in_one_fold():
    table = cohort()
    by_fold = folds_of(table, "pathology", 5, seed=3)
    labelled = patients(table.where(pathology=("benign", "malignant")))
    assert set(by_fold) == labelled
    sizes = [list(by_fold.values()).count(fold) for fold in range(5)]
    assert max(sizes) - min(sizes) <= 2
    assert folds_of(table, "pathology", 5, seed=4) != by_fold


def test_a_cell_leaks_nothing_and_its_subsets_are_nested():
    table, task = cohort(), cohort().tasks[0]
    for fold in (0, 1):
        chosen = [
            sides_of(table, task, percentage=share, seed=0, fold=fold, folds=4, validation=0.2)
            for share in (10, 50, 100)
        ]
        for sides in chosen:
            assert_no_leak(sides.table)
            assert not set(sides.patients) & patients(sides.table, split=("test", "validation"))
        assert set(chosen[0].patients) < set(chosen[1].patients) < set(chosen[2].patients)
        assert len({tuple(sides.table.column("split")) for sides in chosen}) == 1


def test_the_official_test_split_stays_without_folds():
    table = cohort()
    sides = sides_of(table, table.tasks[0], percentage=100, seed=0, fold=-1, folds=0, validation=0.2)
    assert patients(sides.table, split="test") == patients(table, split="test")


def test_what_cannot_be_tested_is_said():
    table = cohort(test=0)
    with pytest.raises(DataError, match="--folds"):
        sides_of(table, table.tasks[0], percentage=100, seed=0, fold=-1, folds=0, validation=0.2)
    with pytest.raises(DataError, match="30 folds"):
        folds_of(table, "pathology", 30, 0)
    with pytest.raises(UsageError, match="2 or more"):
        folds_of(table, "pathology", 1, 0)
