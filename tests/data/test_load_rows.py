"""What a notebook holds: lists of files, DataFrames and datasets."""

from __future__ import annotations

import datasets
import numpy as np
import pandas as pd
import pytest
from cbis_miniature import film_pixels, write_dicom
from PIL import Image
from table_rows import cohort

from mammo_hf.data.loading import load
from mammo_hf.data.privacy import SALT_VARIABLE, salted_hash
from mammo_hf.errors import DataError, UsageError


@pytest.fixture
def films(tmp_path, monkeypatch):
    monkeypatch.setenv(SALT_VARIABLE, "mine")
    for number in range(3):
        Image.fromarray(np.arange(200, dtype=np.uint8).reshape(20, 10) + number).save(tmp_path / f"{number}.png")
    return tmp_path


@pytest.fixture
def frame(films):
    return pd.DataFrame(
        {
            "path": [str(films / f"{number}.png") for number in range(3)],
            "patient": [7, 7, 8],
            "laterality": ["left", "R", None],
            "view": ["cc", "MLO", "CC"],
            "age": [61.0, 61.0, np.nan],
            "pathology": ["benign", None, "malignant"],
            "remark": "ignored",
        }
    )


def test_a_frame_with_the_columns_of_the_schema(frame):
    collection = load(frame)
    assert collection.column("patient") == [salted_hash(name, "mine") for name in ("7", "7", "8")]
    assert collection.column("laterality") == ["L", "R", None]
    assert collection.column("view") == ["CC", "MLO", "CC"]
    assert collection.column("age_band") == ["60-69", "60-69", None]
    assert collection.column("pathology") == ["benign", None, "malignant"]
    assert collection.column("split") == ["train"] * 3
    assert [task["name"] for task in collection.tasks] == ["pathology"]
    assert collection.salt_name == "private"
    assert list(load(datasets.Dataset.from_pandas(frame))) == list(collection)


def test_other_columns_are_mapped_and_paths_are_relative_to_the_root(frame, films):
    renamed = frame.assign(file=["0.png", "1.png", "2.png"], kind=["B", "B", "M"], case=frame["patient"])
    renamed = renamed.drop(columns=["path", "patient", "pathology"])
    pathology = {"from": "{kind}", "values": {"B": "benign", "M": "malignant"}}
    grade = {"from": "{kind}", "labels": ["b", "m"]}
    mapping = {"path": "file", "patient": "case", "pathology": pathology, "grade": grade}
    collection = load(renamed, films, mapping=mapping)
    assert collection.column("path") == [str(films / f"{number}.png") for number in range(3)]
    assert collection.column("pathology") == ["benign", "benign", "malignant"]
    assert collection.column("grade") == ["b", "b", "m"]


def test_patients_without_labels_are_unlabelled(frame):
    assert load(frame[["path", "patient"]]).column("split") == ["unlabelled"] * 3


def test_rows_in_the_full_schema_are_taken_as_they_are():
    collection = cohort()
    assert list(load(collection.dataset)) == list(collection)
    assert load(collection.dataset).tasks == collection.tasks


def test_a_list_of_files_is_unlabelled_and_headers_say_the_rest(films):
    dicom = write_dicom(films / "a.dcm", film_pixels("a"), "Doe", ImageLaterality="R", StudyInstanceUID="1.2")
    collection = load([dicom, films / "0.png", str(films / "absent.png")])
    assert collection.column("split") == ["unlabelled"] * 2
    assert collection.column("laterality") == ["R", None]
    assert collection.notes == ["1 images name no patient: each counts as a patient of its own"]
    assert [source for source, *_ in collection.rejected] == [str(films / "absent.png")]
    assert list(load(["0.png"], films)) == list(load([films / "0.png"]))
    assert list(load(pd.DataFrame({"path": ["0.png"]}), films)) == list(load([films / "0.png"]))


def test_images_of_a_dataset_are_known_by_their_files(films):
    table = datasets.Dataset.from_dict({"image": [str(films / "0.png")], "patient": ["p"], "density": ["B"]})
    collection = load(table.cast_column("image", datasets.Image()))
    assert collection.column("path") == [str(films / "0.png")]
    assert collection.column("density") == ["b"]
    content = [{"path": None, "bytes": (films / "0.png").read_bytes()}]
    inside = datasets.Dataset.from_dict({"image": content}, features=datasets.Features(image=datasets.Image()))
    with pytest.raises(DataError, match="holds images without their files; save the images as files"):
        load(inside)


def test_what_is_wrong_is_named_with_the_nearest_name(frame, films):
    with pytest.raises(DataError, match="table: no column names the patient: splits are by patient; say it"):
        load(frame.drop(columns="patient"))
    with pytest.raises(DataError, match="table: no column names the images' files"):
        load(frame.drop(columns="path"))
    with pytest.raises(UsageError, match=r"patient: the table has no column 'patiend'; did you mean patient\?"):
        load(frame, mapping={"patient": "patiend"})
    with pytest.raises(UsageError, match=r"lateralty: is not a column of the schema .*did you mean laterality\?"):
        load(frame, mapping={"lateralty": "remark"})
    with pytest.raises(UsageError, match=r"maping: is not an option of a table of images; did you mean mapping\?"):
        load(frame, maping={})
    with pytest.raises(DataError, match=r"table: column 'pathology' has words that are not known: odd \(3\)"):
        load(frame.assign(pathology="odd"))
    with pytest.raises(DataError, match="no mammogram"):
        load([films / "absent.png"])
    with pytest.raises(UsageError, match="is a int; give a folder"):
        load(7)
    with pytest.raises(DataError, match="has no rows"):
        load(frame[:0])
