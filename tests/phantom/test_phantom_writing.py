from __future__ import annotations

import csv
import json
from pathlib import Path

import numpy as np
import pydicom
import pytest

from mammo_hf.data.loading import load
from mammo_hf.errors import UsageError
from mammo_hf.phantom.exam import Case, draw_exam
from mammo_hf.phantom.writing import CROPPED, FULL, MARKER, MASKS, patient_name, table_name, write_phantom

Written = tuple[Path, dict[str, list[Case]]]
SIZE = (128, 64)
PATIENTS = 8
LATERALITY_AND_VIEW = ("Laterality", "ImageLaterality", "ViewPosition", "PatientOrientation", "ViewCodeSequence")


@pytest.fixture(scope="module")
def phantom(tmp_path_factory: pytest.TempPathFactory) -> Written:
    out = tmp_path_factory.mktemp("phantom") / "deep" / "down"
    return out, write_phantom(out, patients=PATIENTS, seed=5, size=SIZE, num_workers=1, progress=False)


def rows_of(out: Path) -> list[dict[str, str]]:
    rows = []
    for kind in ("mass", "calcification"):
        for split in ("train", "test"):
            with open(out / table_name(kind, split), newline="", encoding="utf-8") as file:
                rows += [{**row, "kind": kind, "split": split} for row in csv.DictReader(file)]
    return rows


def content(out: Path) -> dict[str, bytes]:
    return {str(path.relative_to(out)): path.read_bytes() for path in out.rglob("*") if path.is_file()}


def test_every_patient_has_its_files_and_rows(phantom: Written) -> None:
    out, patients = phantom
    cases = [case for of_split in patients.values() for case in of_split]
    assert sorted(case.patient_index for case in cases) == list(range(PATIENTS))
    assert [case.pathology for case in cases].count("malignant") == PATIENTS // 2
    assert len(list((out / FULL).rglob("*.dcm"))) == 4 * PATIENTS
    assert len(rows_of(out)) == 2 * PATIENTS
    for split, of_split in patients.items():
        named = {row["patient_id"] for row in rows_of(out) if row["split"] == split}
        assert named == {patient_name(case.patient_index) for case in of_split}
    assert len(patients["test"]) == 2
    assert len(list((out / CROPPED).rglob("*.dcm"))) == len(list((out / MASKS).rglob("*.dcm"))) == 2 * PATIENTS


def test_every_path_of_the_tables_names_a_folder_with_its_file(phantom: Written) -> None:
    out, _ = phantom
    for row in rows_of(out):
        for column, top, file in (
            ("image file path", FULL, "1-1.dcm"),
            ("cropped image file path", CROPPED, "1-1.dcm"),
            ("ROI mask file path", MASKS, "1-2.dcm"),
        ):
            path = out / top / row[column].strip()
            assert (path.parent / file).is_file()
            dataset = pydicom.dcmread(path.parent / file)
            prefix = "Mass" if row["kind"] == "mass" else "Calc"
            split = "Training" if row["split"] == "train" else "Test"
            name = f"{prefix}-{split}_{row['patient_id']}_{row['left or right breast']}_{row['image view']}"
            assert dataset.PatientID == (name if top == FULL else f"{name}_1") == path.parts[-4]
            assert dataset.SeriesDescription == top
            assert (dataset.StudyInstanceUID, dataset.SeriesInstanceUID) == path.parts[-3:-1]


def test_the_files_say_what_the_collections_films_say_and_no_more(phantom: Written) -> None:
    out, _ = phantom
    instances = set()
    for path in out.rglob("*.dcm"):
        dataset = pydicom.dcmread(path)
        instances.add(dataset.SOPInstanceUID)
        assert dataset.SOPInstanceUID.startswith("2.25.")
        assert dataset.SOPInstanceUID.is_valid
        assert dataset.SOPClassUID == dataset.file_meta.MediaStorageSOPClassUID == "1.2.840.10008.5.1.4.1.1.7"
        assert dataset.Modality == "MG"
        assert dataset.PhotometricInterpretation == "MONOCHROME2"
        assert dataset.PixelRepresentation == 0
        mask = dataset.SeriesDescription == MASKS
        assert dataset.BitsAllocated == dataset.BitsStored == (8 if mask else 16)
        for keyword in (*LATERALITY_AND_VIEW, "WindowCenter", "VOILUTSequence", "RescaleSlope", "ImagerPixelSpacing"):
            assert keyword not in dataset
    assert len(instances) == 8 * PATIENTS


def test_the_pixels_on_disk_are_those_in_memory(phantom: Written) -> None:
    out, _ = phantom
    exam = draw_exam(2, seed=5, size=SIZE)
    for (laterality, view), image in exam.images.items():
        (path,) = (out / FULL).glob(f"*_P_00003_{laterality}_{view}/*/*/1-1.dcm")
        np.testing.assert_array_equal(pydicom.dcmread(path).pixel_array, image)
    for (laterality, view), mask in exam.masks.items():
        (path,) = (out / MASKS).glob(f"*_P_00003_{laterality}_{view}_1/*/*/1-2.dcm")
        stored = pydicom.dcmread(path).pixel_array
        assert stored.shape == SIZE
        assert set(np.unique(stored)) == {0, 255}
        np.testing.assert_array_equal(stored == 255, mask)
        (path,) = (out / CROPPED).glob(f"*_P_00003_{laterality}_{view}_1/*/*/1-1.dcm")
        crop, image = pydicom.dcmread(path).pixel_array, exam.images[laterality, view]
        windows = np.lib.stride_tricks.sliding_window_view(image, crop.shape)
        places = np.argwhere((windows == crop).all(axis=(2, 3)))
        assert len(places) == 1
        top, left = places[0]
        assert mask[top : top + crop.shape[0], left : left + crop.shape[1]].sum() == mask.sum()


def test_the_other_breast_is_there_but_in_no_table(phantom: Written) -> None:
    out, _ = phantom
    labelled = {(row["patient_id"], row["left or right breast"]) for row in rows_of(out)}
    assert len(labelled) == PATIENTS
    for patient, side in labelled:
        other = "RIGHT" if side == "LEFT" else "LEFT"
        assert len(list((out / FULL).glob(f"*_{patient}_{other}_*"))) == 2
        assert not list((out / MASKS).glob(f"*_{patient}_{other}_*"))


def test_the_source_for_the_collection_reads_it_unchanged(phantom: Written) -> None:
    out, patients = phantom
    rows = list(load(out))
    labelled = [row for row in rows if row["pathology"] is not None]
    assert len(rows) == 4 * PATIENTS
    assert len(labelled) == 2 * PATIENTS
    assert len({row["patient"] for row in rows if row["split"] == "test"}) == len(patients["test"])
    for row in labelled:
        (finding,) = row["findings"]
        assert finding["pathology"] == row["pathology"]
        assert row["density"] in "abcd"
        assert MASKS in finding["mask_path"]


def test_any_number_of_processes_writes_the_same_bytes(phantom: Written, tmp_path: Path) -> None:
    write_phantom(tmp_path, patients=PATIENTS, seed=5, size=SIZE, num_workers=2, progress=False)
    assert content(tmp_path) == content(phantom[0])


def test_a_larger_phantom_begins_with_the_patients_of_a_smaller_one(phantom: Written, tmp_path: Path) -> None:
    write_phantom(tmp_path, patients=2, seed=5, size=SIZE, num_workers=1, progress=False, test_fraction=0.0)

    def pixels(out: Path) -> set[bytes]:
        return {pydicom.dcmread(path).PixelData for path in (out / FULL).rglob("*.dcm")}

    assert pixels(tmp_path) < pixels(phantom[0])


def test_an_earlier_phantom_is_replaced_whole(tmp_path: Path) -> None:
    write_phantom(tmp_path, patients=2, seed=1, size=SIZE, num_workers=1, progress=False)
    (tmp_path / "notes.txt").write_text("mine")
    write_phantom(tmp_path, patients=1, seed=1, size=SIZE, num_workers=1, progress=False, test_fraction=1.0)
    assert len(list((tmp_path / FULL).rglob("*.dcm"))) == 4
    assert len(rows_of(tmp_path)) == 2
    assert (tmp_path / "notes.txt").read_text() == "mine"
    assert json.loads((tmp_path / MARKER).read_text())["patients"] == 1


def test_a_folder_with_other_things_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "thesis.txt").write_text("mine")
    with pytest.raises(UsageError, match="holds no phantom"):
        write_phantom(tmp_path, patients=1, size=SIZE, progress=False)
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.txt"]


def test_a_place_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(UsageError, match="file") as error:
        write_phantom(tmp_path / "file", patients=1, size=SIZE, progress=False)
    assert error.value.exit_status == 2
    with pytest.raises(UsageError, match="cannot be written"):
        write_phantom(tmp_path / "file" / "below", patients=1, size=SIZE, progress=False)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        *(("patients", 0), ("num_workers", 0), ("test_fraction", 1.5), ("size", (10, 10))),
        *(("seed", -1), ("mass_fraction", 2.0), ("lesion_scale", 0.0)),
    ],
)
def test_bad_arguments_are_named_before_anything_is_written(tmp_path: Path, name: str, value: object) -> None:
    with pytest.raises(UsageError, match=name):
        write_phantom(tmp_path / "out", **{"patients": 1, "size": SIZE, "progress": False, name: value})
    assert not (tmp_path / "out").exists()
