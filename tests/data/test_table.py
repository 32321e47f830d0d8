from __future__ import annotations

import pickle
from collections import Counter

import pytest
from table_rows import TASKS, cohort, make_row, make_table, patients

from mammo_hf.data.collection import Collection, Rejected
from mammo_hf.data.splits import save_split
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


@pytest.mark.parametrize(
    ("equals", "problem"),
    [
        ({"split": "trian"}, r"split: no image can have 'trian' there; did you mean train\? use train, validation"),
        ({"split": ("train", "Test")}, r"no image can have 'Test' there; did you mean test\?"),
        ({"laterality": "left"}, "laterality: no image can have 'left' there; use L, R"),
        ({"pathology": "malignat"}, r"pathology: .* did you mean malignant\? use benign, malignant"),
        ({"source": "made upp"}, r"source: .* did you mean made up\?"),
    ],
)
def test_a_value_that_no_row_can_have_is_an_error_and_not_an_empty_collection(equals, problem):
    with pytest.raises(UsageError, match=problem):
        cohort().where(**equals)


def test_rows_as_a_frame():
    frame = cohort().to_pandas()
    assert list(frame["patient"]) == cohort().column("patient")
    assert frame.groupby("split").size().to_dict() == {"test": 10, "train": 140}


def test_strata_are_balanced_in_the_splits_and_any_column_can_be_one():
    rows = [
        make_row(f"{label} {number}", pathology=label, vendor=f"v{number % 3}", stratum="abc"[number % 10 // 4])
        for label in ("benign", "malignant")
        for number in range(100)
    ]
    split = make_table(rows).split(0.2, test_fraction=0.2, seed=3)
    by_split = {name: Counter(split.where(split=name).column("stratum")) for name in ("test", "validation")}
    assert by_split == {"test": Counter(a=16, b=16, c=8), "validation": Counter(a=16, b=16, c=8)}
    assert split.with_stratum("vendor").column("stratum") == split.column("vendor")
    with pytest.raises(UsageError, match="no column 'scaner'"):
        split.with_stratum("scaner")


def test_distinct_values_are_in_the_order_of_their_first_rows():
    table = make_table([make_row("b"), make_row("a", patient="p", view="MLO"), make_row("c", view="MLO")])
    assert table.distinct("view") == list(dict.fromkeys((view,) for view in table.column("view")))
    assert table.distinct("view", "stratum") == [("CC", None), ("MLO", None)]
    everything = cohort()
    pairs = zip(everything.column("patient"), everything.column("pathology"), strict=True)
    assert everything.distinct("patient", "pathology") == list(dict.fromkeys(pairs))
    with pytest.raises(UsageError, match="no column 'viev'"):
        table.distinct("viev")


def test_split_asks_no_file_for_its_size(monkeypatch):
    monkeypatch.setattr("os.stat", lambda *_, **__: pytest.fail("a file was looked at"))
    cohort().split(seed=1)


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
        Collection(cohort().dataset.remove_columns("findings"), tasks=TASKS, salt_name="made up")


def test_split_moves_whole_training_patients_and_changes_nothing_else():
    table = cohort()
    split = table.split(validation_fraction=0.2, seed=0)
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
    table = cohort().where(view="MLO").split(validation_fraction=0.5)
    assert len(table) == 70
    assert set(table.column("split")) == {"train", "validation"}


def test_split_refuses_a_second_split_and_a_leak():
    with pytest.raises(UsageError, match="has a validation split already"):
        cohort().split().split()
    with pytest.raises(DataError, match="leak"):
        make_table([make_row("a", "p"), make_row("b", "p", split="test"), make_row("c")]).split()


def test_notes_and_rejected_go_with_the_rows():
    table = Collection.from_rows(
        [make_row("a")], tasks=TASKS, salt_name="s", notes=["moved"], rejected=[Rejected("b.dcm", "is broken")]
    )
    chosen = table.where(split="train")
    assert (chosen.notes, chosen.rejected, chosen.salt_name) == (["moved"], [("b.dcm", "is broken", "left_out")], "s")


def test_table_goes_to_worker_processes():
    table = cohort()
    assert list(pickle.loads(pickle.dumps(table))) == list(table)


def test_repr_counts_images_by_split():
    assert repr(cohort()) == "Collection(150 images: train 140, test 10)"


def test_a_test_split_can_be_taken_where_there_is_none():
    table = cohort(test=0).split(validation_fraction=0.2, test_fraction=0.25, seed=3)
    sides = {side: patients(table, split=side) for side in ("train", "validation", "test")}
    assert [len(sides[side]) for side in sides] == [38, 14, 18]
    assert not set.intersection(*sides.values())
    for side in sides:
        labels = {row["pathology"] for row in table if row["split"] == side}
        assert labels == {"benign", "malignant", None}
    with pytest.raises(UsageError, match="has a test split already"):
        cohort().split(test_fraction=0.2)
    with pytest.raises(UsageError, match="leave nothing to train on"):
        cohort(test=0).split(validation_fraction=0.5, test_fraction=0.5)


def test_unlabelled_images_alone_are_divided_for_pre_training():
    table = make_table([make_row(name, split="unlabelled") for name in "abcdefghij"]).split(validation_fraction=0.2)
    assert table.column("split").count("validation") == 2
    assert table.notes == ["validation: 2 patients (2 images) taken from unlabelled images, seed 0"]


def test_a_saved_split_pins_its_patients_and_the_rule_is_for_those_who_are_new(tmp_path):
    before = cohort(test=0).split(validation_fraction=0.2, test_fraction=0.2, seed=0)
    save_split(before, tmp_path / "split.json", seed=0)
    rows = [row | {"split": "train"} for row in before]
    rows += [make_row(f"new {number}", pathology="malignant") for number in range(40)]
    grown = make_table(rows).split(validation_fraction=0.2, test_fraction=0.2, seed=0, saved=tmp_path / "split.json")
    old = set(before.column("patient"))
    assert {(row["patient"], row["split"]) for row in before} == {
        (row["patient"], row["split"]) for row in grown if row["patient"] in old
    }
    assert {row["split"] for row in grown if row["patient"] not in old} == {"train", "validation", "test"}
    note = next(note for note in grown.notes if note.startswith("saved split"))
    # without the file, patients at the cut change sides, and the note says how many
    free = make_table(rows).split(validation_fraction=0.2, test_fraction=0.2, seed=0)
    side = dict(zip(free.column("patient"), free.column("split"), strict=True))
    moved = {row["patient"] for row in before if side[row["patient"]] != row["split"]}
    assert moved
    assert f"70 patients as saved, {len(moved)} of them in another split" in note
    assert "40 new patients by the rule" in note


def test_a_saved_split_of_other_patients_or_against_the_official_one_is_refused(tmp_path):
    save_split(make_table([make_row("x"), make_row("y", split="test")]), tmp_path / "split.json")
    with pytest.raises(DataError, match="holds no patient of the collection"):
        cohort().split(saved=tmp_path / "split.json")
    torn = make_table([make_row("x", split="test"), make_row("a"), make_row("b")])
    with pytest.raises(DataError, match="moves 1 test patients into another split"):
        torn.split(saved=tmp_path / "split.json")
    with pytest.raises(DataError, match="has patients in two splits"):
        save_split(make_table([make_row("a", "p"), make_row("b", "p", split="test")]), tmp_path / "no.json")
    (tmp_path / "split.json").write_text('{"splits": {"P_00001": "train"}}')
    with pytest.raises(DataError, match="is not a saved split"):
        cohort().split(saved=tmp_path / "split.json")
