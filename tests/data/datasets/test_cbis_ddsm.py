from __future__ import annotations

import os
from pathlib import Path

import pytest
from cbis_miniature import (
    COLLECTION,
    CROP_SIZE,
    LAYOUTS,
    TABLES,
    Finding,
    crop_pixels,
    film_path,
    film_pixels,
    mask_pixels,
    region_paths,
    write_collection,
    write_dicom,
    write_images,
    write_tables,
)

from mammo_hf.data.datasets import contents as contents_module
from mammo_hf.data.datasets.cbis_ddsm import TASKS, load, recognises
from mammo_hf.data.leaks import assert_no_leak
from mammo_hf.data.privacy import salted_hash
from mammo_hf.data.schema import task_list
from mammo_hf.errors import DataError, UsageError


def patient(number):
    return salted_hash(f"P_{number:05d}", "cbis-ddsm")


def by_name(table):
    names = {salted_hash(row.film, "cbis-ddsm"): row.film for row in COLLECTION}
    return {names.get(row["image_id"]): row for row in table}


def without_paths(table):
    return [{**row, "path": None, "findings": [f | {"mask_path": None} for f in row["findings"]]} for row in table]


@pytest.fixture(scope="module")
def collection(tmp_path_factory):
    root = write_collection(tmp_path_factory.mktemp("cbis"))
    return root, load(root)


def test_one_row_a_film(collection):
    _, table = collection
    rows = by_name(table)
    assert set(rows) == {row.film for row in COLLECTION}
    assert len(table) == 9
    assert table.tasks == task_list(TASKS)
    assert table.salt_name == "cbis-ddsm"


def test_a_row_in_full(collection):
    root, table = collection
    name = "Mass-Training_P_00004_LEFT_CC"
    finding = {"kind": "mass", "box": None, "circle": None, "polygon": None}
    assert by_name(table)[name] == {
        "image_id": salted_hash(name, "cbis-ddsm"),
        "path": str(root / "full mammogram images" / name / "1-1.dcm"),
        "patient": patient(4),
        "exam": salted_hash("P_00004 exam", "cbis-ddsm"),
        "laterality": "L",
        "view": "CC",
        "age_band": None,
        "vendor": None,
        "stratum": None,
        "source": "cbis-ddsm",
        "split": "train",
        "pathology": "malignant",
        "density": "b",
        "abnormality": "mass",
        "birads": "4",
        "findings": [
            finding | {"pathology": "benign", "mask_path": str(root / "ROI mask images" / f"{name}_1" / "1-1.dcm")},
            finding | {"pathology": "malignant", "mask_path": str(root / "ROI mask images" / f"{name}_2" / "1-1.dcm")},
        ],
    }


def test_official_test_rows_are_found_under_the_test_folders(collection):
    # a fault of published scripts: test images looked for under the training folders, not found, the rows dropped
    _, table = collection
    test = {name for name, row in by_name(table).items() if row["split"] == "test"}
    assert test == {"Mass-Test_P_00005_LEFT_CC", "Mass-Test_P_00005_LEFT_MLO", "Calc-Test_P_00006_LEFT_CC"}
    assert not table.rejected


def test_a_patient_on_both_official_sides_goes_to_training_and_is_reported(collection):
    _, table = collection
    rows = [row for row in table if row["patient"] == patient(3)]
    assert [row["split"] for row in rows] == ["train", "train"]
    assert (
        "1 patients are in both official splits and were moved to training (1 of them with 2 images here)"
        in table.notes
    )
    assert_no_leak(table)


@pytest.mark.parametrize("layout", LAYOUTS)
def test_every_layout_gives_the_same_rows(collection, tmp_path, layout):
    table = load(write_collection(tmp_path, layout=layout))
    assert without_paths(table) == without_paths(collection[1])
    for row in table:
        assert {finding["mask_path"] is None for finding in row["findings"]} == {False}
    assert table.notes == collection[1].notes


@pytest.mark.parametrize("layout", LAYOUTS)
def test_masks_and_crops_in_each_others_place_are_told_by_content(tmp_path, layout):
    write_tables(tmp_path, [Finding()])
    write_images(tmp_path, [Finding()], layout, swapped=True)
    (row,) = load(tmp_path)
    assert row["findings"][0]["mask_path"] == str(tmp_path / region_paths(layout, Finding().region)[0])


def test_loading_decodes_no_pixels(tmp_path, monkeypatch):
    write_collection(tmp_path, layout="tcia")
    monkeypatch.setattr(contents_module, "read_mammogram", lambda path: pytest.fail("decoded"))
    assert len(load(tmp_path)) == 9


def test_short_names_take_type_and_split_from_the_tables(tmp_path):
    row = Finding(6, kind="calcification", split="test")
    write_tables(tmp_path, COLLECTION)
    write_dicom(tmp_path / "P_00006_LEFT_CC.dcm" / "1-1.dcm", film_pixels("a"), "x")
    write_dicom(tmp_path / "P_00006_LEFT_CC_1.dcm" / "1-1.dcm", crop_pixels("a"), "x")
    write_dicom(tmp_path / "P_00006_LEFT_CC_1.dcm" / "1-2.dcm", mask_pixels(), "x")
    (found,) = load(tmp_path)
    assert (found["split"], found["abnormality"]) == ("test", "calcification")
    assert found["image_id"] == salted_hash(row.film, "cbis-ddsm")
    assert found["findings"][0]["mask_path"].endswith("1-2.dcm")


def test_images_in_no_table_are_unlabelled_in_their_patients_split(tmp_path):
    write_tables(tmp_path)
    extra = [
        Finding(1, side="RIGHT"),
        Finding(5, side="RIGHT", split="test"),
        Finding(3, view="MLO", split="test", kind="calcification"),
        Finding(8, split="test"),
        Finding(9),
    ]
    write_images(tmp_path, extra)
    write_dicom(tmp_path / "P_00010_LEFT_CC" / "1-1.dcm", film_pixels("a"), "x")
    table = load(tmp_path)
    assert {row["patient"]: row["split"] for row in table} == {
        patient(1): "train",
        patient(5): "test",
        patient(3): "train",
        patient(8): "test",
        patient(9): "train",
        patient(10): "unlabelled",
    }
    assert all(row[task] is None for row in table for task in TASKS)
    assert "6 images are in no table: without labels, in their patient's split" in table.notes


def test_an_image_that_might_be_a_test_patients_is_not_used(tmp_path):
    # its name gives no split, and the table that might say it is a test patient's is not there
    write_tables(tmp_path, tables=[TABLES["mass", "train"]])
    write_images(tmp_path, [Finding(1)])
    write_dicom(tmp_path / "P_00010_LEFT_CC" / "1-1.dcm", film_pixels("a"), "x")
    table = load(tmp_path)
    assert [row["patient"] for row in table] == [patient(1)]
    reasons = {os.path.relpath(source, tmp_path): reason for source, reason, _ in table.rejected}
    assert "its official split" in reasons["P_00010_LEFT_CC/1-1.dcm"]
    missing = set(TABLES.values()) - {TABLES["mass", "train"]}
    assert all(name in table.notes[0] for name in missing)


def test_sides_are_also_read_from_the_folders_of_a_set_without_tables(tmp_path):
    write_tables(tmp_path, tables=[TABLES["mass", "test"]])
    write_images(tmp_path, [Finding(5, split="test"), Finding(5, kind="calcification")])
    table = load(tmp_path)
    assert table.column("split") == ["train", "train"]
    assert any("1 patients are in both official splits" in note for note in table.notes)


def test_table_rows_without_a_file_are_counted_and_listed(tmp_path):
    write_tables(tmp_path)
    write_images(tmp_path, COLLECTION[:2])
    table = load(tmp_path)
    assert len(table) == 2
    assert "8 of 10 table rows have no image and are left out (7 films)" in table.notes
    assert [Path(source).name for source, *_ in table.rejected][-1] == f"{TABLES['calcification', 'test']}, row 2"
    assert len(table.rejected) == 8


def test_findings_keep_their_place_without_a_mask(tmp_path):
    write_tables(tmp_path, COLLECTION[:2])
    write_images(tmp_path, COLLECTION[:2])
    os.unlink(tmp_path / region_paths("by_kind", COLLECTION[0].region)[1])
    mask = region_paths("by_kind", COLLECTION[1].region)[1]
    write_dicom(tmp_path / mask, mask_pixels((CROP_SIZE[0], 30)), "x")
    table = load(tmp_path)
    assert [[finding["mask_path"] for finding in row["findings"]] for row in table] == [[None], [None]]
    assert table.notes[-2:] == [
        "1 of 2 findings have no mask",
        "1 masks are left out: they do not have their film's size",
    ]


def test_a_folder_without_images_says_what_it_looked_for(tmp_path):
    write_tables(tmp_path)
    (tmp_path / "film.png").write_bytes(b"")
    with pytest.raises(DataError, match=r"no image for the 10 rows of its tables \(0 DICOM files found\)") as caught:
        load(tmp_path)
    assert f"{tmp_path}/Mass-Training_P_00001_LEFT_CC/.../1-1.dcm" in str(caught.value)


def test_broken_files_are_rejected_and_the_rest_is_read(tmp_path):
    write_tables(tmp_path, COLLECTION[:2])
    write_images(tmp_path, COLLECTION[:2])
    broken = [tmp_path / film_path("by_kind", COLLECTION[0].film), tmp_path / "no name.dcm"]
    for path in broken:
        path.write_text("this is no DICOM file")
    table = load(tmp_path)
    assert [row["view"] for row in table] == ["MLO"]
    assert {entry.source: entry.reason for entry in table.rejected} == {
        str(path): "is not a DICOM file" for path in broken
    }


def test_recognised_by_any_of_its_tables(tmp_path):
    assert not recognises(tmp_path)
    write_tables(tmp_path, tables=[TABLES["calcification", "test"]])
    assert recognises(tmp_path)


class TestDicomPath:
    @staticmethod
    def write_list(tmp_path, *lines):
        (tmp_path / "list.txt").write_text("\n".join(map(str, lines)))
        return tmp_path / "list.txt"

    def test_a_listed_film_is_used_for_its_row(self, tmp_path):
        root = write_collection(tmp_path / "root", COLLECTION[:2])
        film = write_dicom(tmp_path / "new" / COLLECTION[0].film / "x.dcm", film_pixels("a"), "x")
        table = load(root, dicom_path=self.write_list(tmp_path, film.relative_to(tmp_path)))
        row = by_name(table)[COLLECTION[0].film]
        assert row["path"] == str(film)
        assert row["pathology"] == "malignant"
        assert row["findings"][0]["mask_path"].startswith(str(root))
        assert len(table) == 2

    def test_a_listed_film_is_known_by_its_header(self, tmp_path):
        write_tables(tmp_path, COLLECTION[:1])
        film = write_dicom(tmp_path / "elsewhere" / "x.dcm", film_pixels("a"), COLLECTION[0].film)
        (row,) = load(tmp_path, dicom_path=self.write_list(tmp_path, film))
        assert (row["path"], row["pathology"]) == (str(film), "malignant")

    def test_a_list_of_everything_leaves_out_regions_and_test_patients(self, tmp_path):
        root = write_collection(tmp_path / "root", layout="tcia")
        more = write_dicom(tmp_path / "archive" / "a.dcm", film_pixels("a"), "Doe")
        mask = write_dicom(tmp_path / "archive" / "m.dcm", mask_pixels(), "Doe")
        table = load(root, dicom_path=self.write_list(tmp_path, *root.rglob("*.dcm"), more, mask, "absent.dcm"))
        assert table.notes[-1] == (
            "list of DICOM paths: 9 images of the tables, 1 without labels; left out of "
            "pre-training: 10 crops, 11 ROI masks, 3 images of test patients"
        )
        stage_1 = table.where(split=("train", "unlabelled"))
        assert len(stage_1) == 7
        assert {Path(path).name for path in stage_1.column("path")} == {"1-1.dcm", "a.dcm"}
        assert not any("ROI" in path or "cropped" in path for path in table.column("path"))
        assert [Path(entry.source).name for entry in table.rejected] == ["absent.dcm"]
        assert_no_leak(table)

    def test_listing_the_collection_changes_no_row(self, collection, tmp_path):
        root, table = collection
        listed = load(root, dicom_path=self.write_list(tmp_path, *root.rglob("*.dcm")))
        assert list(listed) == list(table)

    def test_unknown_images_are_hashed_under_the_private_salt(self, tmp_path):
        root = write_collection(tmp_path / "root", COLLECTION[:1])
        film = write_dicom(tmp_path / "a.dcm", film_pixels("a"), "P-1234")
        (row,) = load(root, dicom_path=self.write_list(tmp_path, film)).where(split="unlabelled")
        assert row["patient"] == salted_hash("P-1234", os.environ["MAMMO_HF_SALT"])
        assert row["path"] == str(film)

    def test_an_absent_list(self, tmp_path):
        write_collection(tmp_path, COLLECTION[:1])
        with pytest.raises(UsageError, match=r"absent\.txt: no such file"):
            load(tmp_path, dicom_path=tmp_path / "absent.txt")


def test_the_real_crops_in_a_folder_of_masks_are_no_masks(real_data, tmp_path):
    # two of the sample's three crops lie in folders that are called 'ROI mask images'
    for path in (real_data / "tables" / "cbis-ddsm").iterdir():
        (tmp_path / path.name).symlink_to(path)
    (tmp_path / "images").symlink_to(real_data / "cbis-ddsm-sample" / "tcia")
    film = "Mass-Test_P_00116_RIGHT_MLO"
    write_dicom(tmp_path / "films" / film / "1-1.dcm", film_pixels(film), film)
    table = load(tmp_path)
    (row,) = table
    assert (row["split"], row["pathology"], row["abnormality"]) == ("test", "malignant", "mass")
    assert [finding["mask_path"] for finding in row["findings"]] == [None] * len(row["findings"])
    assert any(note.startswith("31 patients are in both official splits") for note in table.notes)
    assert f"{3568 - len(row['findings'])} of 3568 table rows have no image" in "".join(table.notes)


def test_a_download_without_any_table_serves_pre_training(tmp_path):
    # the Imaging Data Commons has no tables; names give side and lesion type, but for the short form
    write_images(tmp_path, [Finding(1), Finding(5, split="test", kind="calcification")], layout="idc")
    write_dicom(tmp_path / "cbis_ddsm" / "P_00010_LEFT_CC.dcm" / "1-1.dcm", film_pixels("a"), "x")
    assert recognises(tmp_path)
    table = load(tmp_path)
    assert table.column("split") == ["test", "train"]
    assert table.column("abnormality") == ["calcification", "mass"]
    assert set(table.column("pathology")) == {None}
    assert all(name in table.notes[0] for name in TABLES.values())
    assert "put them into the folder csv" in table.notes[0]
    (entry,) = table.rejected
    assert entry.reason.startswith("split unknown")


def test_who_was_moved_is_listed_by_hash(collection):
    _, table = collection
    (moved,) = table.moved
    assert (moved.patient, moved.before, moved.after) == (patient(3), "test", "train")
    assert table.where(split="train").moved == table.moved


def test_missing_films_can_be_limited(tmp_path):
    write_tables(tmp_path)
    write_images(tmp_path, COLLECTION[:6])
    assert len(load(tmp_path, max_missing=0.4)) == 6
    with pytest.raises(DataError, match="has no film for 3 of 10 table rows; complete the download"):
        load(tmp_path, max_missing=0.2)
