from __future__ import annotations

import pickle

import pytest
from table_rows import TASKS, cohort, make_row, make_table, patients

from mammo_hf.data import MammoTable
from mammo_hf.data.table import Rejected
from mammo_hf.errors import DataError, UsageError


def test_rows_are_dicts_by_index_and_in_order():
    table = make_table([make_row("a"), make_row("b", view="MLO")])
    assert len(table) == 2
    assert table[1] == list(table)[1] == table[-1]
    assert table[1]["view"] == "MLO"
    with pytest.raises(IndexError):
        table[2]


def test_tasks_keep_their_order_and_cannot_be_changed_from_outside():
    table = cohort()
    assert table.tasks == TASKS
    table.tasks[0]["labels"].reverse()
    assert table.tasks == TASKS


def test_where_takes_values_collections_and_predicates():
    table = cohort()
    assert set(table.where(split="train", view=("CC",)).column("view")) == {"CC"}
    assert len(table.where(pathology={"benign", "malignant"})) == len(table) - len(table.where(pathology=None))
    assert list(table.where(lambda row: row["pathology"] == "malignant")) == list(table.where(pathology="malignant"))
    empty = table.where(split="validation")
    assert (len(empty), list(empty), empty.column("path")) == (0, [], [])


def test_where_of_where():
    table = cohort().where(split="train").where(view="MLO")
    assert set(table.column("split")) == {"train"}
    assert len(table) == 70


def test_unknown_columns_are_named():
    with pytest.raises(UsageError, match="no column 'breast'"):
        cohort().where(breast="L")
    with pytest.raises(UsageError, match="its columns: image_id"):
        cohort().column("breast")
    with pytest.raises(DataError, match="has no column findings"):
        MammoTable(cohort().dataset.remove_columns("findings"), tasks=TASKS, salt_name="made up")


def test_split_moves_whole_training_patients_and_changes_nothing_else():
    table = cohort()
    split = table.split(validation=0.2, seed=0)
    assert patients(split, split="validation").isdisjoint(patients(split, split="train"))
    assert len(patients(split, split="validation")) == 14
    assert patients(split, split="test") == patients(table, split="test")
    for before, after in zip(table, split, strict=True):
        assert before | {"split": None} == after | {"split": None}
    assert "validation" not in table.column("split")
    assert split.notes[-1] == "validation: 14 patients (28 images) taken from training, seed 0"
    assert not table.notes


def test_split_is_the_same_for_the_same_seed():
    assert cohort().split(seed=5).column("split") == cohort().split(seed=5).column("split")
    assert cohort().split(seed=5).column("split") != cohort().split(seed=6).column("split")


def test_split_works_on_chosen_rows():
    table = cohort().where(view="MLO").split(validation=0.5)
    assert len(table) == 70
    assert set(table.column("split")) == {"train", "validation"}


def test_split_refuses_a_second_split_and_a_leak():
    with pytest.raises(UsageError, match="has a validation split already"):
        cohort().split().split()
    with pytest.raises(DataError, match="leak"):
        make_table([make_row("a", "p"), make_row("b", "p", split="test"), make_row("c")]).split()


def test_notes_and_rejected_go_with_the_rows():
    table = MammoTable.from_rows(
        [make_row("a")], tasks=TASKS, salt_name="s", notes=["moved"], rejected=[Rejected("b.dcm", "is broken")]
    )
    chosen = table.where(split="train")
    assert (chosen.notes, chosen.rejected, chosen.salt_name) == (["moved"], [("b.dcm", "is broken")], "s")


def test_table_goes_to_worker_processes():
    table = cohort()
    assert list(pickle.loads(pickle.dumps(table))) == list(table)


def test_repr_counts_images_by_split():
    assert repr(cohort()) == "MammoTable(150 images: train 140, test 10)"
