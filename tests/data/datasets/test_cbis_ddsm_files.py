from __future__ import annotations

import os

import pytest
from cbis_miniature import COLLECTION, LAYOUTS, Finding, film_path, mask_pixels, region_paths, write_dicom, write_images

from mammo_hf.data.datasets.cbis_ddsm import Name, gather_files, parse_name, parse_path
from mammo_hf.data.datasets.contents import read_list
from mammo_hf.errors import DataError, UsageError

LEFT_CC = ("P_00001", "L", "CC")


def named_files(root, rejected):
    return gather_files(root, None, rejected)[0]


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ("Mass-Training_P_00001_LEFT_CC", Name(LEFT_CC, "mass", "train", None)),
        ("Mass-Training_P_00001_LEFT_CC_1", Name(LEFT_CC, "mass", "train", 1)),
        ("Calc-Test_P_00038_RIGHT_MLO_12", Name(("P_00038", "R", "MLO"), "calcification", "test", 12)),
        # the two short forms of the Imaging Data Commons
        ("P_00001_LEFT_CC.dcm", Name(LEFT_CC, None, None, None)),
        ("P_00001_LEFT_CC_2.dcm", Name(LEFT_CC, None, None, 2)),
        ("mass-training_p_1_left_cc", Name(LEFT_CC, "mass", "train", None)),
        ("Mass-Training_P_00001_LEFT_CC=full", None),
        ("full mammogram images", None),
        ("1-1.dcm", None),
        ("", None),
    ],
)
def test_names(text, name):
    assert parse_name(text) == name


@pytest.mark.parametrize("row", COLLECTION)
def test_text_of_a_name_is_the_tables_own(row):
    assert parse_name(row.film).text() == row.film
    assert parse_name(row.region).text() == row.region


@pytest.mark.parametrize("layout", [layout for layout in LAYOUTS if layout != "uid"])
def test_paths_of_each_layout_tell_films_from_regions(layout):
    film = parse_path(f"/data/{film_path(layout, 'Calc-Test_P_00001_LEFT_CC')}")
    assert (film.name, film.is_region) == (Name(LEFT_CC, "calcification", "test", None), False)
    for path in region_paths(layout, "Calc-Test_P_00001_LEFT_CC_3"):
        region = parse_path(f"/data/{path}")
        assert (region.name, region.is_region) == (Name(LEFT_CC, "calcification", "test", 3), True)


def test_folder_words_tell_regions_without_a_number():
    for folder, is_region in (("ROI mask images", True), ("cropped images", True), ("full mammogram images", False)):
        assert parse_path(f"/{folder}/Mass-Test_P_00001_LEFT_CC/1-1.dcm").is_region is is_region


def test_only_what_lies_below_counts():
    path = "/ROI mask images/Mass-Test_P_00002_LEFT_CC/data/x.dcm"
    assert parse_path(path, below="/ROI mask images/Mass-Test_P_00002_LEFT_CC/data") == (path, None, False)


@pytest.mark.parametrize("layout", LAYOUTS)
def test_walk_says_of_each_file_what_its_path_says(tmp_path, layout):
    write_images(tmp_path, COLLECTION[:2], layout)
    rejected = []
    files = named_files(tmp_path, rejected)
    assert len(files) == 6
    assert files == [parse_path(file.path, str(tmp_path)) for file in files]
    assert not rejected


def test_walk_takes_dicom_files_by_suffix_or_else_by_content(tmp_path):
    film = write_dicom(tmp_path / "a.DCM", mask_pixels(), "x")
    for name in ("b", "1.3.6.1.42", "DICOMDIR", "c.txt"):
        (tmp_path / name).write_bytes(film.read_bytes())
    (tmp_path / "README").write_text("no DICOM")
    (tmp_path / "table.csv").write_text("a,b")
    names = {os.path.basename(file.path) for file in named_files(tmp_path, [])}
    assert names == {"a.DCM", "b", "1.3.6.1.42"}


def test_walk_survives_links_that_lead_back(tmp_path):
    write_images(tmp_path / "a", COLLECTION[:1])
    (tmp_path / "a" / "back").symlink_to(tmp_path, target_is_directory=True)
    (tmp_path / "b").symlink_to(tmp_path / "a", target_is_directory=True)
    assert len(named_files(tmp_path, [])) == 3


def test_walk_follows_a_link_to_another_disc(tmp_path):
    write_images(tmp_path / "elsewhere", COLLECTION[:1])
    (tmp_path / "root").mkdir()
    (tmp_path / "root" / "images").symlink_to(tmp_path / "elsewhere", target_is_directory=True)
    assert len(named_files(tmp_path / "root", [])) == 3


def test_list_takes_relative_and_absolute_paths_and_comments(tmp_path):
    row = Finding()
    for folder in ("beside", "root"):
        write_images(tmp_path / folder, [row])
    film, (crop, mask) = film_path("by_kind", row.film), region_paths("by_kind", row.region)
    lines = ["# films", "", f"  {film}", str(tmp_path / "root" / crop), mask, f"./{mask}", "absent.dcm"]
    (tmp_path / "beside" / "list.txt").write_text("\n".join(lines), encoding="utf-8-sig")
    rejected = []
    files = read_list(tmp_path / "beside" / "list.txt", tmp_path / "root", rejected)
    found = [os.path.relpath(file, tmp_path) for file in files]
    assert found == [f"beside/{film}", f"root/{crop}", f"beside/{mask}"]
    assert [parse_path(file).is_region for file in files] == [False, True, True]
    assert [(os.path.basename(source), reason) for source, reason, _ in rejected] == [
        ("absent.dcm", "line 7 of list.txt names it, but there is no such file")
    ]


def test_list_is_also_read_relative_to_the_collection(tmp_path):
    write_images(tmp_path / "root", [Finding()])
    (tmp_path / "list.txt").write_text(film_path("by_kind", Finding().film))
    assert len(read_list(tmp_path / "list.txt", tmp_path / "root", [])) == 1


def test_list_that_is_absent_or_names_nothing(tmp_path):
    with pytest.raises(UsageError, match=r"list\.txt: no such file"):
        read_list(tmp_path / "list.txt", tmp_path, [])
    for content in (b"", b"absent.dcm\n"):
        (tmp_path / "list.txt").write_bytes(content)
        with pytest.raises(DataError, match="names no file that exists"):
            read_list(tmp_path / "list.txt", tmp_path, [])
    (tmp_path / "list.txt").write_bytes(b"\xff\xfe\x00DICM")
    with pytest.raises(DataError, match="is not a text"):
        read_list(tmp_path / "list.txt", tmp_path, [])
