from __future__ import annotations

import csv

import pytest
from cbis_miniature import COLLECTION, Finding, crop_pixels, film_pixels, mask_pixels, write_collection, write_tables
from PIL import Image

from mammo_hf.data.datasets.cbis_ddsm import jpeg_files
from mammo_hf.data.findings import finding_mask
from mammo_hf.data.loading import load
from mammo_hf.errors import DataError

COLUMNS = ("file_path", "image_path", "Columns", "PatientID", "PatientName", "Rows", "SeriesDescription")


def write(root, findings=COLLECTION, described=True):
    """The release as it is unpacked: csv and jpeg side by side, names below the series' UID alone."""
    write_tables(root / "csv", findings)
    rows = []
    for number, row in enumerate(findings):
        crop, mask = crop_pixels(row.film), mask_pixels()
        for place, (name, description, pixels) in enumerate(
            [
                (row.film, "full mammogram images", (film_pixels(row.film) >> 8).astype("uint8")),
                (row.region, "ROI mask images", (crop >> 8).astype("uint8")),
                (row.region, "cropped images", mask),  # crop and mask in each other's place, as in the true release
            ]
        ):
            path = root / "jpeg" / f"1.3.6.{number}.{place}" / f"{place + 1}-{number:03d}.jpg"
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(pixels).save(path, quality=75)
            told = description if described else ""
            given = f"CBIS-DDSM/{path.relative_to(root)}"
            rows.append(["x.dcm", given, pixels.shape[1], name, name, pixels.shape[0], told])
    with open(root / "csv" / "dicom_info.csv", "w", newline="") as file:
        csv.writer(file).writerows([COLUMNS, *rows])
    return root


@pytest.mark.parametrize("described", [True, False])
def test_the_same_rows_as_from_dicom_with_masks_told_by_content(tmp_path, described):
    table = load(write(tmp_path / "kaggle", described=described))
    dicom = load(write_collection(tmp_path / "dicom"))
    facts = ("image_id", "patient", "split", "pathology", "density", "abnormality", "birads")
    assert [[row[name] for name in facts] for row in table] == [[row[name] for name in facts] for row in dicom]
    assert "9 films are JPEG: 8 of 16 bits are left, with loss" in table.notes
    for row in table:
        for entry in row["findings"]:
            mask = finding_mask(entry, (96, 64))
            assert (mask == (mask_pixels() > 0)).all()


def test_files_that_are_not_there_and_strangers_are_listed(tmp_path):
    root = write(tmp_path, [Finding(1)])
    next((root / "jpeg").rglob("3-*.jpg")).unlink()
    with open(root / "csv" / "dicom_info.csv", "a") as file:
        file.write("x.dcm,CBIS-DDSM/jpeg/1/1.jpg,1,Doe,Doe,1,\n")
    rejected = []
    assert len(jpeg_files(root, rejected)) == 2
    assert [reason for _, reason, _ in rejected] == ["there is no such file", "its PatientID is not of CBIS-DDSM"]


def test_a_table_without_the_needed_column(tmp_path):
    (tmp_path / "dicom_info.csv").write_text("image_path,PatientID\na,b\n")
    with pytest.raises(DataError, match="has no column 'SeriesDescription'"):
        jpeg_files(tmp_path, [])
    (tmp_path / "dicom_info.csv").unlink()
    assert jpeg_files(tmp_path, []) == []
