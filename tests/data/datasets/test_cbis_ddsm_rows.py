from __future__ import annotations

import pytest
from cbis_miniature import Finding, write_images, write_tables

from mammo_hf.data.datasets.cbis_ddsm import (
    film_labels,
    film_rows,
    gather_files,
    parse_name,
    read_cases,
    sort_files,
)
from mammo_hf.data.datasets.contents import Contents
from mammo_hf.data.privacy import salted_hash


def labels(tmp_path, *rows):
    write_tables(tmp_path, rows)
    return film_labels(read_cases(tmp_path))


@pytest.mark.parametrize(
    ("pathologies", "label"),
    [
        (["BENIGN"], "benign"),
        (["BENIGN_WITHOUT_CALLBACK"], "benign"),
        (["BENIGN", "BENIGN_WITHOUT_CALLBACK"], "benign"),
        (["MALIGNANT"], "malignant"),
        (["BENIGN", "MALIGNANT", "BENIGN_WITHOUT_CALLBACK"], "malignant"),
    ],
)
def test_a_film_is_malignant_if_any_finding_is(tmp_path, pathologies, label):
    rows = [Finding(number=number, pathology=pathology) for number, pathology in enumerate(pathologies, start=1)]
    assert labels(tmp_path, *rows)["pathology"] == label


def test_abnormality_of_a_film_in_both_sets(tmp_path):
    assert labels(tmp_path, Finding())["abnormality"] == "mass"
    assert labels(tmp_path, Finding(kind="calcification"))["abnormality"] == "calcification"
    assert labels(tmp_path, Finding(), Finding(kind="calcification"))["abnormality"] == "both"


@pytest.mark.parametrize(("given", "label"), [("0", None), ("1", "a"), ("2", "b"), ("3", "c"), ("4", "d")])
def test_density(tmp_path, given, label):
    assert labels(tmp_path, Finding(density=given))["density"] == label


def test_density_needs_agreement_among_those_that_know(tmp_path):
    assert labels(tmp_path, Finding(density="0"), Finding(number=2, density="3"))["density"] == "c"
    assert labels(tmp_path, Finding(density="2"), Finding(number=2, density="3"))["density"] is None


def test_a_film_in_no_table_has_no_labels():
    assert film_labels([]) == {"pathology": None, "density": None, "abnormality": None, "birads": None}


def test_both_files_of_a_film_in_both_sets_carry_all_its_findings(tmp_path):
    rows = [Finding(pathology="BENIGN"), Finding(kind="calcification", pathology="MALIGNANT")]
    write_tables(tmp_path, rows)
    write_images(tmp_path, rows)
    contents = Contents()
    films, regions, _ = sort_files(gather_files(tmp_path, None, [])[0], contents)
    made, counts = film_rows(films, regions, read_cases(tmp_path), {"P_00001": "train"}, contents)
    assert [row["pathology"] for row in made] == ["malignant", "malignant"]
    assert [row["abnormality"] for row in made] == ["both", "both"]
    for row in made:
        assert [finding["kind"] for finding in row["findings"]] == ["mass", "calcification"]
        assert [finding["pathology"] for finding in row["findings"]] == ["benign", "malignant"]
        assert all("ROI mask images" in finding["mask_path"] for finding in row["findings"])
    assert len({row["image_id"] for row in made}) == 2
    assert (counts["findings"], counts["no mask"], counts["masks of another size"]) == (4, 0, 0)


@pytest.mark.parametrize("short", [True, False])
def test_an_image_has_the_same_name_in_every_release(tmp_path, short):
    rows = [Finding(), Finding(kind="calcification", split="test")]
    write_tables(tmp_path, rows)
    films = {parse_name(rows[0].film): "/a", parse_name("P_00001_LEFT_CC.dcm" if short else rows[1].film): "/b"}
    made, _ = film_rows(films, {}, read_cases(tmp_path), {"P_00001": "train"}, Contents())
    assert {row["path"]: row["image_id"] for row in made} == {
        "/a": salted_hash(rows[0].film, "cbis-ddsm"),
        "/b": salted_hash(rows[1].film, "cbis-ddsm"),
    }


def test_patients_without_a_split_have_no_row():
    films = {parse_name("P_00001_LEFT_CC"): "/a", parse_name("P_00002_LEFT_CC"): "/b"}
    made, _ = film_rows(films, {}, [], {"P_00002": "unlabelled"}, Contents())
    assert [(row["path"], row["split"]) for row in made] == [("/b", "unlabelled")]
