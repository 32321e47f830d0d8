from __future__ import annotations

import csv
from pathlib import Path

import pytest

from mammo_hf.phantom.exam import draw_case
from mammo_hf.phantom.writing import patient_name, table_name, table_row, write_tables

KINDS, SPLITS = ("mass", "calcification"), ("train", "test")


@pytest.fixture
def written(tmp_path: Path) -> Path:
    rows = []
    for index in range(40):
        case = draw_case(index, seed=3)
        split = SPLITS[index % 5 == 0]
        paths = ["image", "crop", "mask"]
        rows += [(case.lesion.kind, split, table_row(case, view, paths, seed=3)) for view in ("CC", "MLO")]
    write_tables(tmp_path, rows)
    return tmp_path


def rows_of(path: Path) -> list[dict[str, str]]:
    with open(path, newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def test_every_row_stands_in_the_table_of_its_kind_and_split(written: Path) -> None:
    total = 0
    for kind in KINDS:
        for split in SPLITS:
            rows = rows_of(written / table_name(kind, split))
            total += len(rows)
            assert {row["abnormality type"] for row in rows} <= {kind}
            assert {(int(row["patient_id"][2:]) - 1) % 5 == 0 for row in rows} <= {split == "test"}
    assert total == 80


def test_patients_are_named_as_in_the_collection() -> None:
    assert patient_name(0) == "P_00001"
    assert patient_name(12345) == "P_12346"


def test_benign_and_malignant_are_described_as_they_are_drawn(written: Path) -> None:
    seen = set()
    for kind in KINDS:
        for row in rows_of(written / table_name(kind, "train")):
            malignant = row["pathology"] == "MALIGNANT"
            seen.add(row["pathology"])
            feature = row["mass margins" if kind == "mass" else "calc type"]
            assert (feature in {"SPICULATED", "PLEOMORPHIC"}) == malignant
            assert row["breast_density" if kind == "mass" else "breast density"] in {"1", "2", "3", "4"}
            assert (row["assessment"] in {"4", "5"}) or not malignant
            assert (row["assessment"] == "2") == (row["pathology"] == "BENIGN_WITHOUT_CALLBACK")
    assert seen == {"MALIGNANT", "BENIGN", "BENIGN_WITHOUT_CALLBACK"}


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("split", SPLITS)
def test_the_form_is_that_of_the_true_tables(written: Path, real_data: Path, kind: str, split: str) -> None:
    name = table_name(kind, split)
    true, ours = real_data / "tables" / "cbis-ddsm" / name, written / name
    assert ours.read_bytes().split(b"\r\n")[0] == true.read_bytes().split(b"\r\n")[0]
    true_rows, our_rows = rows_of(true), rows_of(ours)
    for column in true_rows[0]:
        if column.endswith("path"):
            broken = {row[column].endswith("\n") for row in true_rows}
            assert {row[column].endswith("\n") for row in our_rows} == broken
        elif column not in {"patient_id", "subtlety"}:
            assert {row[column] for row in our_rows} <= {row[column] for row in true_rows}
