"""Which image of a view counts is one rule: predict and evaluate score the same images of a breast and an exam."""

from __future__ import annotations

import csv

import numpy as np
import pytest
from bag_heads import write_head
from pydicom import Dataset
from scipy.special import softmax
from small_archive import write_dicom

import mammo_hf
from mammo_hf.data.precedence import places_in_views
from mammo_hf.data.privacy import private_salt, salted_hash
from mammo_hf.encoders.store import read_features
from mammo_hf.encoders.units import Bags, features_of
from mammo_hf.errors import UsageError


def displaced():
    """Code of a craniocaudal view with the implant displaced."""
    view, modifier = Dataset(), Dataset()
    view.CodeValue, view.CodingSchemeDesignator, view.CodeMeaning = "399162004", "SCT", "cranio-caudal"
    modifier.CodeValue, modifier.CodingSchemeDesignator = "399209000", "SCT"
    modifier.CodeMeaning = "Implant displaced"
    view.ViewModifierCodeSequence = [modifier]
    return [view]


# by file: exam, side, view, further attributes; the second and third left CC of exam 0 do not count, nor does the later
# one of exam 1 with the implant displaced
FILES = {
    "0-early.dcm": (0, "L", "CC", {"AcquisitionTime": "10"}),
    "0-raw.dcm": (0, "L", "CC", {"AcquisitionTime": "12", "PresentationIntentType": "FOR PROCESSING"}),
    "0-late.dcm": (0, "L", "CC", {"AcquisitionTime": "11"}),
    "0-displaced.dcm": (0, "L", "XCCL", {"AcquisitionTime": "11"}),
    "0-right.dcm": (0, "R", "CC", {"AcquisitionTime": "10"}),
    "0-mlo.dcm": (0, "R", "MLO", {"AcquisitionTime": "10"}),
    "1-left.dcm": (1, "L", "CC", {"AcquisitionTime": "10"}),
    "1-right.dcm": (1, "R", "CC", {"AcquisitionTime": "10"}),
    "1-implant.dcm": (1, "L", "CC", {"AcquisitionTime": "12", "ViewCodeSequence": displaced()}),
}
OTHERS = {"0-early.dcm", "0-raw.dcm", "1-implant.dcm"}


@pytest.fixture(scope="module")
def archive(tmp_path_factory):
    """Two exams of two patients, and a table of their labels."""
    folder = tmp_path_factory.mktemp("twice") / "archive"
    rows = []
    for seed, (name, (exam, side, view, more)) in enumerate(FILES.items()):
        study = {"StudyInstanceUID": f"1.2.3.{exam}", "PatientID": f"p{exam}", "AcquisitionDate": "20200101"}
        study["AccessionNumber"] = f"A{exam}"
        write_dicom(folder / name, seed, laterality=side, view=view, **study, **more)
        rows.append([name, f"p{exam}", f"1.2.3.{exam}", side, view, ("benign", "malignant")[exam]])
    with (folder / "labels.csv").open("w", newline="") as file:
        csv.writer(file).writerows([["file", "patient_id", "exam_id", "laterality", "view", "pathology"], *rows])
    return folder


@pytest.fixture(scope="module")
def collection(archive):
    return mammo_hf.load(archive / "labels.csv")


def name_of(row):
    return row["path"].rpartition("/")[2]


def test_an_image_has_the_place_that_the_rule_gives_it(collection):
    names = {row["image_id"]: name_of(row) for row in collection}
    places = {names[image]: place for image, place in places_in_views(collection).items()}
    assert places == {"0-late.dcm": 0, "0-early.dcm": 1, "0-raw.dcm": 2, "1-left.dcm": 0, "1-implant.dcm": 1}


def test_a_collection_is_predicted_by_its_files_with_exams_by_their_own_names_if_asked(
    collection, checkpoint, tmp_path
):
    mammo_hf.predict(checkpoint, collection, tmp_path / "scores.csv", num_workers=0, device="cpu", plain_exams=True)
    rows = list(csv.DictReader((tmp_path / "scores.csv").open()))
    assert [row["file"] for row in rows] == collection.column("path")
    assert {(row["exam"], row["accession"]) for row in rows} == {("1.2.3.0", "A0"), ("1.2.3.1", "A1")}
    mammo_hf.prepare(collection, tmp_path / "prepared", image_size=(64, 32))
    with pytest.raises(UsageError, match="lists prepared images or features, not files"):
        mammo_hf.predict(checkpoint, mammo_hf.load(tmp_path / "prepared"), tmp_path / "no.csv")


@pytest.mark.slow
def test_predict_and_evaluate_give_an_exam_the_same_score(archive, collection, tmp_path):
    head = write_head(tmp_path / "head")
    files = [archive / name for name in FILES]
    mammo_hf.predict(head, files, tmp_path / "scores.csv", num_workers=0, device="cpu")
    rows = list(csv.DictReader((tmp_path / "scores.csv").open()))
    predicted = [np.array([float(row["pathology:malignant"])]) for row in rows if row["level"] == "exam"]
    options = {"split": "all", "device": "cpu", "resamples": 100, "num_workers": 0}
    mammo_hf.prepare(collection, tmp_path / "prepared", image_size=(64, 32))
    for number, images in enumerate([collection, mammo_hf.load(tmp_path / "prepared")]):
        found = mammo_hf.evaluate(head, images, tmp_path / f"report{number}", **options).images
        evaluated = softmax(found.of_units["exam"][:, :2], axis=-1)[:, 1]
        exams = {exam: evaluated[row] for row, exam in enumerate(found.facts["exam"])}
        assert found.counted().tolist().count(False) == 3
        if not number:  # of a prepared folder the prepared pixels are encoded
            np.testing.assert_allclose(sorted(exams.values()), np.sort(np.concatenate(predicted)), rtol=1e-4)
    hashed = [tuple(salted_hash(name, private_salt()) for name in (f"1.2.3.{exam}", f"A{exam}")) for exam in (0, 1)]
    assert {(row["exam"], row["accession"]) for row in rows} == set(hashed)
    noted = {row["file"].rpartition("/")[2] for row in rows if "another_image_counts" in row["notes"]}
    assert noted == OTHERS


def test_units_are_trained_on_the_images_that_count_and_the_rest_take_over(collection, tmp_path):
    head = write_head(tmp_path / "head")
    store = mammo_hf.embed(collection, tmp_path / "features", encoder=tmp_path / "vit", tiles="whole", shard_size=3)
    tasks = [{**task, "level": "exam"} for task in store.tasks]
    names = {row["image_id"]: name_of(row) for row in collection}

    def bags_of(images, level):
        rows = features_of(images, tasks)
        bags = Bags(rows, tasks, level=level)
        return [sorted(names[rows[row]["image_id"]] for row in unit) for unit in bags.units], bags

    exams, bags = bags_of(store, "exam")
    assert exams == [
        sorted(name for name in FILES if name[0] == "0" and name not in OTHERS),
        ["1-left.dcm", "1-right.dcm"],
    ]
    assert [len(unit) for unit in bags.members] == [6, 3]
    assert len(bags_of(store, "image")[0]) == 9
    without = store.where(lambda row: names[row["image_id"]] != "0-late.dcm")
    assert "0-early.dcm" in bags_of(without, "exam")[0][0]
    # a file that joins its view later changes its shard alone, and no feature is computed again
    some = collection.where(lambda row: name_of(row) != "0-late.dcm")
    mammo_hf.embed(some, tmp_path / "more", encoder=tmp_path / "vit", tiles="whole", shard_size=3)
    assert sorted(row["precedence"] or 0 for row in read_features(tmp_path / "more"))[-1] == 1
    again = mammo_hf.embed(collection, tmp_path / "more", encoder=tmp_path / "vit", tiles="whole", shard_size=3)
    assert again.run.read == 1
    assert head.is_dir()


@pytest.mark.slow
def test_a_swin_s_breasts_are_of_the_same_images(archive, collection, checkpoint, tmp_path):
    options = {"split": "all", "device": "cpu", "resamples": 100, "num_workers": 0}
    found = mammo_hf.evaluate(checkpoint, collection, tmp_path / "report", **options)
    names = {row["image_id"]: name_of(row) for row in collection}
    assert {
        names[image] for image, counts in zip(found.images.image_ids, found.images.counted(), strict=True) if not counts
    } == OTHERS
