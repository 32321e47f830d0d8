from __future__ import annotations

from collections import Counter

import pytest
from cbis_miniature import COLLECTION, TABLES, Finding, crop_pixels, mask_pixels, write_dicom, write_tables

from mammo_hf.data.datasets.cbis_ddsm import (
    ImageFile,
    addition_notes,
    collection_notes,
    listed_regions,
    parse_name,
    read_cases,
    without_film,
    without_split,
)
from mammo_hf.data.datasets.contents import Contents

FILM = Finding().film


@pytest.fixture
def cases(tmp_path):
    write_tables(tmp_path)
    return read_cases(tmp_path)


def films(*rows):
    return {parse_name(row.film): f"/{row.film}" for row in rows}


def test_a_complete_collection_has_nothing_to_say(cases):
    assert collection_notes(cases, [], films(*COLLECTION), 0, [], [], Counter()) == []
    assert without_film(cases, films(*COLLECTION)) == []


def test_table_rows_without_a_film_are_counted_and_named_by_table_and_row(cases, tmp_path):
    there = films(*(row for row in COLLECTION if row.patient != 4))
    (note,) = collection_notes(cases, [], there, 0, [], [], Counter())
    assert note == "2 of 10 table rows have no image and are left out (1 films)"
    name = tmp_path / TABLES["mass", "train"]
    assert [entry.source for entry in without_film(cases, there)] == [f"{name}, row 4", f"{name}, row 5"]
    assert all("P_0" not in entry.reason for entry in without_film(cases, there))


def test_missing_masks_and_masks_of_another_size_are_counted(cases):
    counts = Counter({"findings": 10, "no mask": 3, "masks of another size": 2})
    assert collection_notes(cases, [], films(*COLLECTION), 0, [], [], counts) == [
        "3 of 10 findings have no mask",
        "2 masks are left out: they do not have their film's size",
    ]


def test_films_without_a_split_are_rejected():
    (entry,) = without_split(films(Finding(1), Finding(2)), {"P_00002": "train"})
    assert entry.source == f"/{FILM}"


def test_listed_masks_and_crops_are_told_by_content(tmp_path):
    mask = write_dicom(tmp_path / "cropped images.dcm", mask_pixels(), "x")
    crop = write_dicom(tmp_path / "ROI mask.dcm", crop_pixels(FILM), "x")
    unlisted = write_dicom(tmp_path / "unlisted.dcm", mask_pixels(), "x")
    regions = [ImageFile(str(path), parse_name(f"{FILM}_1"), True) for path in (mask, crop, unlisted)]
    film = ImageFile("/film", parse_name(FILM), False)
    counts = listed_regions(
        {str(mask), str(crop), "/film"}, [*regions, film], {}, {parse_name(FILM).film: regions}, Contents()
    )
    assert counts == {"masks": 1, "crops": 1}


def test_regions_of_unknown_patients_are_counted_also_without_a_list():
    assert addition_notes(None, [], [], Counter()) == []
    assert addition_notes(None, [], [], Counter(crops=2)) == ["2 crops, 0 ROI masks of unknown patients are left out"]
