from __future__ import annotations

import pytest
from cbis_miniature import crop_pixels, film_pixels, mask_pixels

from mammo_hf.data.datasets.contents import Contents
from mammo_hf.data.datasets.folder import unlabelled_rows
from mammo_hf.data.privacy import SALT_VARIABLE, salted_hash
from mammo_hf.dicom import mammogram_dataset


@pytest.fixture
def images_of(tmp_path):
    def write(name, pixels, **keywords):
        path = tmp_path / name
        mammogram_dataset(pixels, **keywords).save_as(path, enforce_file_format=True)
        return Contents().facts(str(path))

    return write


def rows_of(images, rejected=None, regions=()):
    rejected = [] if rejected is None else rejected
    return unlabelled_rows(images, Contents(), source="here", tasks=["pathology"], rejected=rejected, regions=regions)


def test_a_row_from_the_header_alone(images_of, monkeypatch):
    monkeypatch.setenv(SALT_VARIABLE, "mine")
    told = {"PatientID": "Doe", "StudyInstanceUID": "1.2.3", "PatientAge": "061Y", "Manufacturer": "HOLOGIC, Inc."}
    film = images_of("a.dcm", film_pixels("a"), laterality="R", view="MLO", **told)
    (row,), left_out = rows_of([film])
    assert row == {
        "image_id": salted_hash(film.instance_uid, "mine"),
        "path": film.path,
        "patient": salted_hash("Doe", "mine"),
        "exam": salted_hash("1.2.3", "mine"),
        "laterality": "R",
        "view": "MLO",
        "age_band": "60-69",
        "vendor": "hologic",
        "source": "here",
        "split": "unlabelled",
        "pathology": None,
        "findings": [],
    }
    assert not left_out


def test_what_the_header_does_not_say_is_not_known(images_of):
    film = images_of("a.dcm", film_pixels("a"), laterality=None, view=None, StudyInstanceUID=None)
    (row,), _ = rows_of([film])
    assert (row["laterality"], row["view"], row["exam"]) == (None, None, None)


def test_patients_are_told_apart_by_patient_id_or_else_by_the_file(images_of):
    named = [images_of(f"{name}.dcm", film_pixels(name), PatientID="Doe") for name in "ab"]
    nameless = [images_of(f"{name}.dcm", film_pixels(name)) for name in "cd"]
    rows, _ = rows_of([*named, *nameless])
    patients = [row["patient"] for row in rows]
    assert patients[0] == patients[1]
    assert len(set(patients)) == 3


def test_masks_by_content_and_crops_by_word_are_left_out(images_of):
    images = [
        images_of("mask.dcm", mask_pixels()),
        images_of("named mask.dcm", mask_pixels()),
        images_of("crop.dcm", crop_pixels("a")),
        images_of("film.dcm", film_pixels("a")),
    ]
    rows, left_out = rows_of(images, regions={images[1].path, images[2].path})
    assert [row["path"] for row in rows] == [images[3].path]
    assert left_out == {"masks": 2, "crops": 1}


@pytest.mark.parametrize(
    ("description", "expected"), [("cropped images", True), ("ROI mask images", True), ("full mammogram images", False)]
)
def test_series_descriptions(images_of, description, expected):
    assert images_of("a.dcm", film_pixels("a"), SeriesDescription=description).is_region is expected


def test_second_copies_and_other_modalities_are_rejected(images_of):
    film = images_of("a.dcm", film_pixels("a"), PatientID="Doe")
    copy = film._replace(path=film.path + " copy")
    slice_ = images_of("ct.dcm", film_pixels("b"), Modality="CT")
    rejected = []
    rows, _ = rows_of([film, copy, slice_], rejected)
    assert len(rows) == 1
    assert [(entry.source, entry.reason) for entry in rejected] == [
        (copy.path, "is a second copy of another file"),
        (slice_.path, "is not a mammogram (modality CT)"),
    ]
