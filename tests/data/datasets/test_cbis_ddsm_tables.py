from __future__ import annotations

from collections import Counter

import pytest
from cbis_miniature import COLLECTION, TABLES, Finding, write_tables

from mammo_hf.data.datasets.cbis_ddsm import read_cases, split_patients
from mammo_hf.data.datasets.contents import find_tables
from mammo_hf.errors import DataError

MASS_TRAIN = TABLES["mass", "train"]
CALC_TEST = TABLES["calcification", "test"]


def test_the_official_tables_are_parsed_completely(real_data):
    cases = read_cases(real_data / "tables" / "cbis-ddsm")
    assert Counter((case.kind, case.split) for case in cases) == {
        ("calcification", "train"): 1546,
        ("calcification", "test"): 326,
        ("mass", "train"): 1318,
        ("mass", "test"): 378,
    }
    splits, in_both = split_patients(cases, [], [])
    assert len(splits) == 1566
    assert len({(case.kind, case.split, case.film) for case in cases}) == 3103
    assert len(in_both) == 31
    assert {splits[patient] for patient in in_both} == {"train"}
    assert Counter(case.density for case in cases)[None] == 2
    assert Counter(case.pathology for case in cases) == {"malignant": 1457, "benign": 2111}


def test_both_kinds_of_table_give_all_columns(tmp_path):
    write_tables(tmp_path)
    cases = read_cases(tmp_path)
    read = Counter((c.film[0], c.film[2], c.kind, c.split, c.number, c.pathology, c.density) for c in cases)
    assert read == {
        (
            f"P_{row.patient:05d}",
            row.view,
            row.kind,
            row.split,
            row.number,
            "malignant" if row.pathology == "MALIGNANT" else "benign",
            {"0": None, "2": "b", "3": "c"}[row.density],
        ): 1
        for row in COLLECTION
    }


def test_findings_of_both_kinds_meet_on_their_film(tmp_path):
    write_tables(tmp_path, [Finding(), Finding(kind="calcification", split="test"), Finding(view="MLO")])
    cases = read_cases(tmp_path)
    assert [case.kind for case in cases if case.film == ("P_00001", "L", "CC")] == ["mass", "calcification"]
    assert sum(case.film == ("P_00001", "L", "MLO") for case in cases) == 1


@pytest.mark.parametrize("folder", [".", "csv", "CSV files", "CBIS-DDSM/csv"])
def test_tables_are_found_up_to_two_folders_below(tmp_path, folder):
    write_tables(tmp_path / folder)
    assert set(find_tables(tmp_path, TABLES.values())) == set(TABLES.values())


def test_tables_may_lie_apart_and_the_shallowest_counts(tmp_path):
    write_tables(tmp_path, tables=[MASS_TRAIN])
    write_tables(tmp_path / "csv")
    found = find_tables(tmp_path, TABLES.values())
    assert found[MASS_TRAIN] == tmp_path / MASS_TRAIN
    assert found[CALC_TEST] == tmp_path / "csv" / CALC_TEST


def test_tables_too_deep_are_not_found(tmp_path):
    write_tables(tmp_path / "a" / "b" / "c")
    assert not find_tables(tmp_path, TABLES.values())


def test_some_tables_are_enough(tmp_path):
    write_tables(tmp_path, tables=[MASS_TRAIN])
    cases = read_cases(tmp_path)
    assert {case.kind + case.split for case in cases} == {"masstrain"}


def test_no_table_names_all_four_and_the_place(tmp_path):
    with pytest.raises(DataError, match=str(tmp_path)) as caught:
        read_cases(tmp_path)
    assert all(name in str(caught.value) for name in TABLES.values())


@pytest.mark.parametrize("encoding", ["utf-8-sig", "latin-1"])
def test_other_encodings(tmp_path, encoding):
    write_tables(tmp_path, [Finding()])
    text = (tmp_path / MASS_TRAIN).read_text().replace("OBSCURED", "déjà vu")
    (tmp_path / MASS_TRAIN).write_bytes(text.encode(encoding))
    assert len(read_cases(tmp_path)) == 1


@pytest.mark.parametrize(
    ("wrong", "column"),
    [
        (Finding(side="BOTH"), "left or right breast"),
        (Finding(view="ML"), "image view"),
        (Finding(density="5"), "breast density"),
        (Finding(pathology="UNPROVEN"), "pathology"),
    ],
)
def test_a_wrong_value_names_table_row_and_column_but_no_patient(tmp_path, wrong, column):
    write_tables(tmp_path, [Finding(7), wrong])
    with pytest.raises(DataError, match=f"{MASS_TRAIN}, row 2: column '{column}' must be one of") as caught:
        read_cases(tmp_path)
    assert "P_0" not in str(caught.value)


@pytest.mark.parametrize(
    ("old", "new", "column"), [("P_00001,", "D_1,", "patient_id"), (",CC,1,", ",CC,x,", "abnormality id")]
)
def test_a_wrong_identifier(tmp_path, old, new, column):
    write_tables(tmp_path, [Finding()])
    text = (tmp_path / MASS_TRAIN).read_text()
    (tmp_path / MASS_TRAIN).write_text(text.replace(old, new))
    with pytest.raises(DataError, match=f"row 1: column '{column}'"):
        read_cases(tmp_path)


def test_a_missing_column_and_a_short_row(tmp_path):
    write_tables(tmp_path, [Finding()])
    text = (tmp_path / MASS_TRAIN).read_text()
    (tmp_path / MASS_TRAIN).write_text(text.replace("pathology", "diagnosis"))
    with pytest.raises(DataError, match=f"{MASS_TRAIN}: has no column 'pathology'"):
        read_cases(tmp_path)
    (tmp_path / MASS_TRAIN).write_text(text + "P_00002,3,LEFT\n")
    with pytest.raises(DataError, match=f"{MASS_TRAIN}, row 2: has 3 values for"):
        read_cases(tmp_path)


def test_rows_that_contradict_each_other(tmp_path):
    write_tables(tmp_path, [Finding(), Finding(), Finding(pathology="MALIGNANT")])
    with pytest.raises(DataError, match=r"row 3: gives the same abnormality another pathology than .*row 1"):
        read_cases(tmp_path)
    write_tables(tmp_path, [Finding(), Finding()])
    assert len(read_cases(tmp_path)) == 1
