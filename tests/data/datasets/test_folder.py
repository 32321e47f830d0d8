from __future__ import annotations

import pytest
from cbis_miniature import film_pixels, mask_pixels, write_dicom

from mammo_hf.data.loading import load
from mammo_hf.errors import DataError
from mammo_hf.testing.sources import check_source


def test_headers_make_unlabelled_rows(tmp_path):
    told = {"ImageLaterality": "R", "ViewPosition": "MLO", "PatientAge": "047Y", "Manufacturer": "GE MEDICAL SYSTEMS"}
    write_dicom(tmp_path / "a" / "1.dcm", film_pixels("a"), "Doe", StudyInstanceUID="1.2", **told)
    write_dicom(tmp_path / "b" / "1.dcm", film_pixels("b"), "Roe", StudyInstanceUID="1.3")
    write_dicom(tmp_path / "b" / "2.dcm", mask_pixels(), "Roe", StudyInstanceUID="1.3")
    write_dicom(tmp_path / "b" / "3.dcm", film_pixels("c"), "Roe", "cropped images", StudyInstanceUID="1.3")
    (tmp_path / "b" / "4.dcm").write_bytes(b"no DICOM")
    table = check_source("folder", tmp_path, recognised=False)
    assert table.column("split") == ["unlabelled", "unlabelled"]
    row = table[0]
    facts = [row[name] for name in ("laterality", "view", "age_band", "vendor")]
    assert facts == ["R", "MLO", "40-49", "ge"]
    assert table.notes == ["1 crops are left out", "1 masks are left out"]
    assert [path[-5:] for path, *_ in table.rejected] == ["4.dcm"]


def test_such_a_table_can_be_split_for_pre_training(tmp_path):
    for number in range(6):
        write_dicom(tmp_path / f"{number}.dcm", film_pixels(str(number)), str(number), StudyInstanceUID=f"1.{number}")
    table = load("folder", tmp_path).split(validation_fraction=0.34)
    assert table.column("split").count("validation") == 2


def test_a_folder_without_a_mammogram(tmp_path):
    with pytest.raises(DataError, match=r"holds no mammogram \(0 images found\)"):
        load("folder", tmp_path)
