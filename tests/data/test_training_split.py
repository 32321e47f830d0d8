"""The split that a training uses, and whom a checkpoint has learnt from."""

from __future__ import annotations

import json

import pytest
from table_rows import cohort, make_row, make_table, patients

from mammo_hf.data.leaks import assert_no_leak
from mammo_hf.data.splits import SPLIT_FILE, complete_split, read_seen, save_split, save_training_split
from mammo_hf.errors import DataError, UsageError


def test_an_official_split_stays_and_is_said_to_be_one():
    table = complete_split(cohort())
    assert patients(table, split="test") == patients(cohort(), split="test")
    assert "test: 10 patients (10 images), the collection's own split" in table.notes
    assert len(patients(table, split="validation")) == 11  # 15 % of 40, 20 and 10
    both = complete_split(table)
    assert both.column("split") == table.column("split")


def test_a_collection_without_a_test_split_gets_one_and_it_is_said():
    table = complete_split(cohort(test=0), test_fraction=0.2, seed=3)
    sides = {side: patients(table, split=side) for side in ("train", "validation", "test")}
    assert [len(found) for found in sides.values()] == [45, 11, 14]
    assert not set.intersection(*sides.values())
    assert table.notes[0] == "test: the collection has no split of its own, so 20% of the patients are taken"
    assert "test: 14 patients (28 images) taken from training, seed 3" in table.notes
    again = complete_split(cohort(test=0), test_fraction=0.2, seed=3)
    assert again.column("split") == table.column("split")


def test_no_test_split_where_none_is_wanted_or_nothing_has_a_label():
    table = complete_split(cohort(test=0), test_fraction=0)
    assert set(table.column("split")) == {"train", "validation"}
    assert table.notes[0] == "test: none; the collection has no split of its own, and the test fraction is 0"
    unlabelled = make_table([make_row(str(number), split="unlabelled") for number in range(10)])
    table = complete_split(unlabelled)
    assert set(table.column("split")) == {"unlabelled", "validation"}
    assert "test: none, as no image has a label" in table.notes


def test_a_saved_split_decides(tmp_path):
    table = complete_split(cohort(test=0), seed=3)
    save_split(table, tmp_path / "split.json")
    again = complete_split(cohort(test=0), seed=4, saved=tmp_path / "split.json")
    assert again.column("split") == table.column("split")
    grown = complete_split(cohort(benign=50, test=0), seed=4, saved=tmp_path / "split.json")
    for side in ("train", "validation", "test"):
        assert patients(table, split=side) <= patients(grown, split=side)
    pinned = cohort(test=0).split(validation_fraction=0, saved=tmp_path / "split.json")
    assert pinned.column("split") == table.column("split")


def test_shares_that_leave_nothing():
    with pytest.raises(UsageError, match="leave nothing to train on"):
        complete_split(cohort(test=0), validation_fraction=0.5, test_fraction=0.5)
    with pytest.raises(UsageError, match="test_fraction: must be above 0 and below 1"):
        complete_split(cohort(test=0), test_fraction=1.5)
    with pytest.raises(UsageError, match="nothing to split"):
        cohort().split(validation_fraction=0)


def test_whom_a_checkpoint_has_learnt_from_must_not_be_tested_on(tmp_path):
    assert read_seen(tmp_path) is None
    first = complete_split(cohort(test=0), seed=0)
    save_training_split(first, tmp_path, seed=0)
    seen = read_seen(tmp_path)
    assert seen == patients(first, split=("train", "validation"))
    assert_no_leak(first, seen=seen)
    with pytest.raises(DataError, match=r"of patient in two splits: .*\(an earlier stage and test\).*; .*saved split"):
        assert_no_leak(complete_split(cohort(test=0), seed=1), seen=seen)
    # the remedy
    assert_no_leak(complete_split(cohort(test=0), seed=1, saved=tmp_path / SPLIT_FILE), seen=seen)


def test_what_was_seen_goes_along_from_stage_to_stage(tmp_path):
    elsewhere = frozenset(make_row("elsewhere")[key] for key in ("patient",))
    table = complete_split(cohort())
    save_training_split(table, tmp_path, before=elsewhere | patients(table, split="train"))
    assert read_seen(tmp_path) == elsewhere | patients(table, split=("train", "validation"))
    assert json.loads((tmp_path / SPLIT_FILE).read_text())["seen_before"] == list(elsewhere)
