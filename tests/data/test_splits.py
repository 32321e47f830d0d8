from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from table_rows import cohort, make_row, make_table, patients

from mammo_hf.data.splits import draw_splits, find_task, in_hash_order, nearest, strata
from mammo_hf.errors import DataError, UsageError


def choose(table, validation=0.2, seed=0):
    return set(draw_splits(table, {"validation": validation}, seed=seed, task=None, origin="train"))


def test_order_is_the_same_on_any_machine_and_differs_by_seed_and_purpose():
    names = ["a", "b", "c", "d", "e", "f"]
    # sorted by sha256sum of "labels|0|a" and so on
    assert in_hash_order(names, purpose="labels", seed=0) == ["b", "e", "c", "d", "f", "a"]
    assert in_hash_order(reversed(names), purpose="labels", seed=0) == ["b", "e", "c", "d", "f", "a"]
    assert in_hash_order(names, purpose="labels", seed=1) != ["b", "e", "c", "d", "f", "a"]
    assert in_hash_order(names, purpose="validation", seed=0) != ["b", "e", "c", "d", "f", "a"]


@given(st.integers(0, 500), st.floats(0, 1), st.floats(0, 1))
def test_share_grows_with_the_fraction_and_is_the_nearest(count, one, other):
    low, high = sorted((one, other))
    assert 0 <= nearest(count * low) <= nearest(count * high) <= count
    assert abs(nearest(count * one) - count * one) <= 0.5


def test_strata_are_of_training_patients_by_their_gravest_label():
    groups = strata(cohort(), "pathology")
    assert {label: len(group) for label, group in groups.items()} == {"benign": 40, "malignant": 20, None: 10}
    assert set(groups["malignant"]) == patients(cohort(), split="train", pathology="malignant")


def test_strata_of_an_ordered_task_take_the_last_label():
    table = make_table(
        [make_row("a", "p", density=None), make_row("b", "p", density="c"), make_row("c", "p", density="b")]
    )
    assert list(strata(table, "density")) == ["c"]


def test_unknown_task_lists_the_tasks():
    with pytest.raises(UsageError, match="pathology, density"):
        find_task(cohort(), "birads")


def test_each_stratum_gives_its_share():
    table = cohort()
    chosen = choose(table)
    groups = strata(table, None)
    assert {label: len(chosen & set(group)) for label, group in groups.items()} == {
        "benign": 8,
        "malignant": 4,
        None: 2,
    }


def test_choice_does_not_depend_on_the_order_of_rows_but_on_the_seed():
    table = cohort()
    backwards = make_table(list(table)[::-1])
    assert choose(table) == choose(backwards)
    assert choose(table) != choose(table, seed=1)


def test_a_new_patient_moves_only_those_at_the_cut():
    before = choose(cohort(benign=40))
    after = choose(cohort(benign=41))
    assert len(before ^ after) <= 1


@given(st.integers(0, 4), st.integers(0, 4), st.floats(0.01, 0.99))
def test_training_is_never_emptied_and_validation_never_empty(benign, malignant, validation):
    if benign + malignant < 2:
        return
    table = cohort(benign, malignant, unknown=0, test=0)
    chosen = choose(table, validation)
    assert chosen
    assert patients(table) - chosen
    for group in strata(table, None).values():
        if len(group) >= 2:
            assert 0 < len(chosen & set(group)) < len(group)


@pytest.mark.parametrize("validation", [0, 1, -0.1, 15, float("nan")])
def test_share_out_of_range(validation):
    with pytest.raises(UsageError, match="validation_fraction: must be above 0 and below 1"):
        choose(cohort(), validation)


def test_one_patient_cannot_be_split():
    with pytest.raises(DataError, match="1 training patient"):
        choose(cohort(benign=1, malignant=0, unknown=0))
