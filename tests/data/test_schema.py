from __future__ import annotations

import pytest
from table_rows import TASKS, make_row, make_table

from mammo_hf.data.findings import finding
from mammo_hf.data.schema import age_band, features, validate
from mammo_hf.errors import DataError

FINDING = finding(
    "mass", "benign", mask_path="m.dcm", box=[1, 2, 3, 4], circle=[5, 6, 7], polygon=[[0, 0], [0, 4], [4, 4]]
)


def test_valid_rows_come_back_as_they_went_in():
    rows = [
        make_row(
            "a",
            pathology="malignant",
            density="d",
            findings=[FINDING, {**FINDING, "box": None, "circle": None, "polygon": None}],
        ),
        make_row("b", exam=None, laterality=None, view=None, split="unlabelled"),
    ]
    assert list(make_table(rows)) == rows


def test_tasks_are_columns_between_the_facts_and_the_findings():
    assert list(features(TASKS))[-3:] == ["pathology", "density", "findings"]


@pytest.mark.parametrize(
    ("column", "value", "rule"),
    [
        ("patient", "P_00001", "salted hash"),
        ("image_id", "1.2.3", "salted hash"),
        ("exam", "2001-01-01", "salted hash"),
        ("path", "", "not empty"),
        ("source", None, "not empty"),
        ("laterality", "LEFT", "'L', 'R'"),
        ("view", "", "'CC' or 'MLO'"),
        ("split", "training", "train, validation, test, unlabelled"),
        ("pathology", "MALIGNANT", "benign, malignant"),
        ("density", 2, "a, b, c, d"),
        ("findings", None, "must be a list"),
        ("findings", [{"kind": "mass"}], "exactly the keys"),
        ("findings", [{**FINDING, "kind": "cyst"}], "'kind'"),
        ("findings", [{**FINDING, "pathology": "BENIGN"}], "'pathology'"),
        ("findings", [{**FINDING, "mask_path": ""}], "'mask_path'"),
        ("findings", [{**FINDING, "box": [3, 2, 1, 4]}], "'box'"),
        ("findings", [{**FINDING, "circle": [1, 2, 0]}], "'circle'"),
        ("findings", [{**FINDING, "polygon": [[1, 2], [3, 4]]}], "'polygon'"),
        ("age_band", "47", "40-49"),
        ("vendor", "HOLOGIC", "lower case"),
    ],
)
def test_a_wrong_value_names_row_column_and_rule_but_not_the_value(column, value, rule):
    with pytest.raises(DataError, match="row 2") as caught:
        validate([make_row("a"), make_row("b") | {column: value}], TASKS)
    assert f"column '{column}'" in str(caught.value)
    assert rule in str(caught.value)
    if column in ("patient", "image_id", "exam"):
        assert value not in str(caught.value)


def test_columns_that_miss_or_are_too_many():
    row = make_row("a")
    with pytest.raises(DataError, match="column 'birads': is not a column"):
        validate([row | {"birads": "4"}], TASKS)
    del row["density"]
    with pytest.raises(DataError, match="column 'density': is missing"):
        validate([row], TASKS)


def test_an_image_has_one_row():
    with pytest.raises(DataError, match=r"row 3, column 'image_id': is the same as in row 1"):
        validate([make_row("a"), make_row("b"), make_row("a", pathology="benign")], TASKS)


@pytest.mark.parametrize(
    ("age", "band"),
    [("061Y", "60-69"), ("61.0", "60-69"), (39, "<40"), ("80", "80+"), ("117", "80+"), ("006M", "<40"), ("", None)],
)
def test_ages_become_bands(age, band):
    assert age_band(age) == band


def test_schema_of_a_table_tells_units_and_nulls():
    described = make_table([make_row("a")]).schema
    assert list(described) == list(features(TASKS))
    assert "a, b, c, d; null: not known" in described["density"]
    assert described["patient"].endswith("never null.")
    assert "rows before columns" in described["findings"]


def test_age_band_and_vendor_may_be_left_out():
    row = make_row("a")
    del row["age_band"], row["vendor"]
    assert list(make_table([row])) == [make_row("a")]
