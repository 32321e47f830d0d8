"""Who is tested in a fold: everybody with a label once, by patient, whatever the arm."""

import pytest
from table_rows import cohort, patients

from mammo_hf.data.leaks import assert_no_leak
from mammo_hf.data.splits import save_split
from mammo_hf.errors import DataError, UsageError
from mammo_hf.studies.label_efficiency import check_unseen, folds_of, split_cell, with_saved_test


def test_each_labelled_patient_is_tested_in_one_fold():
    table = cohort()
    by_fold = folds_of(table, "pathology", 5, seed=3)
    labelled = patients(table.where(pathology=("benign", "malignant")))
    assert set(by_fold) == labelled
    sizes = [list(by_fold.values()).count(fold) for fold in range(5)]
    assert max(sizes) - min(sizes) <= 2
    assert folds_of(table, "pathology", 5, seed=4) != by_fold


def test_a_cell_leaks_nothing_and_its_subsets_are_nested():
    table, task = cohort(), "pathology"
    for fold in (0, 1):
        chosen = [
            split_cell(table, task, percentage=share, seed=0, fold=fold, folds=4, validation_fraction=0.2)
            for share in (10, 50, 100)
        ]
        for split, labelled in chosen:
            assert_no_leak(split)
            assert not set(labelled) & patients(split, split="test")
        assert set(chosen[0][1]) < set(chosen[1][1]) < set(chosen[2][1])
        assert len({frozenset(patients(split, split="test")) for split, _ in chosen}) == 1


def test_labels_that_choose_the_epoch_are_among_those_that_are_used():
    table, task = cohort(benign=60, malignant=60), "pathology"
    few, many = (
        split_cell(table, task, percentage=share, seed=0, fold=0, folds=4, validation_fraction=0.2)
        for share in (10, 100)
    )
    assert not patients(few[0], split="validation")  # two patients of each label would choose by chance
    held = patients(many[0], split="validation")
    assert held < set(many[1])
    assert len(held) == pytest.approx(0.2 * len(many[1]), abs=1)


def test_the_official_test_split_stays_without_folds():
    table = cohort()
    split, _ = split_cell(table, "pathology", percentage=100, seed=0, fold=-1, folds=0, validation_fraction=0.2)
    assert patients(split, split="test") == patients(table, split="test")


def test_a_saved_split_says_who_is_tested_and_each_seed_draws_its_own_validation(tmp_path):
    table = cohort(test=0)
    before = table.split(0.2, seed=0, test_fraction=0.3)
    save_split(before, tmp_path / "split.json")
    saved = with_saved_test(table, tmp_path / "split.json")
    assert patients(saved, split="test") == patients(before, split="test")
    drawn = [
        split_cell(saved, "pathology", percentage=100, seed=seed, fold=-1, folds=0, validation_fraction=0.5)
        for seed in (1, 2)
    ]
    assert patients(drawn[0][0], split="validation") != patients(drawn[1][0], split="validation")
    assert with_saved_test(table, None) is table


def test_validation_patients_of_the_collection_train_and_their_labels_count():
    table = cohort().split(0.2, seed=5)
    split, chosen = split_cell(table, "pathology", percentage=100, seed=0, fold=-1, folds=0, validation_fraction=0)
    assert not patients(split, split="validation")
    assert patients(table, split="validation") & patients(table.where(pathology="malignant")) <= set(chosen)


def test_no_patient_is_tested_whom_the_encoder_was_trained_on():
    table = cohort()
    split, _ = split_cell(table, "pathology", percentage=100, seed=0, fold=-1, folds=0, validation_fraction=0.2)
    check_unseen(split, frozenset(patients(table, split="train")), "mim")
    with pytest.raises(DataError, match="mim: was pre-trained on 1 of the test patients"):
        check_unseen(split, frozenset(sorted(patients(table, split="test"))[:1]), "mim")


def test_what_cannot_be_tested_is_said():
    table = cohort(test=0)
    with pytest.raises(DataError, match="`folds"):
        split_cell(table, "pathology", percentage=100, seed=0, fold=-1, folds=0, validation_fraction=0.2)
    with pytest.raises(DataError, match="30 folds"):
        folds_of(table, "pathology", 30, 0)
    with pytest.raises(UsageError, match="2 or more"):
        folds_of(table, "pathology", 1, 0)
