from __future__ import annotations

import builtins

import numpy as np
import pydicom
import pytest
from cbis_miniature import film_pixels, mask_pixels, write_dicom
from pydicom.uid import RLELossless

from mammo_hf.data.datasets import contents as contents_module
from mammo_hf.data.datasets.contents import Contents, read_facts, read_shape
from mammo_hf.dicom import Laterality, View, mammogram_dataset
from mammo_hf.errors import DataError


def two_values(low: int, high: int, dtype: type) -> np.ndarray:
    return np.where(mask_pixels() > 0, high, low).astype(dtype)


def compress(path):
    dataset = pydicom.dcmread(path)
    dataset.compress(RLELossless)
    dataset.save_as(path)
    return str(path)


def test_facts_of_a_header(tmp_path):
    dataset = mammogram_dataset(film_pixels("a"), laterality="R", view="MLO", PatientID="x", StudyInstanceUID="1.2")
    dataset.save_as(tmp_path / "a.dcm", enforce_file_format=True)
    facts = read_facts(str(tmp_path / "a.dcm"))
    assert (facts.laterality, facts.view, facts.modality) == (Laterality.RIGHT, View.MLO, "MG")
    assert (facts.patient_id, facts.study_uid, facts.instance_uid) == ("x", "1.2", str(dataset.SOPInstanceUID))


def test_shape_of_an_image(tmp_path):
    path = write_dicom(tmp_path / "a.dcm", film_pixels("a"), "x")
    assert read_shape(str(path)) == ((96, 64), False)
    assert read_shape(compress(path)) == ((96, 64), True)


def test_facts_of_a_bare_header_are_empty(tmp_path):
    path = write_dicom(tmp_path / "a.dcm", film_pixels("a"), "", Modality=None)
    facts = read_facts(str(path))
    assert (facts.laterality, facts.view, facts.modality, facts.patient_id) == (
        Laterality.UNKNOWN,
        View.UNKNOWN,
        "",
        "",
    )


def test_files_without_an_image(tmp_path):
    (tmp_path / "text.dcm").write_text("no DICOM at all")
    dataset = mammogram_dataset(film_pixels("a"), Rows=None)
    dataset.save_as(tmp_path / "report.dcm", enforce_file_format=True)
    for name, problem in (
        ("text.dcm", "is not a DICOM file"),
        ("report.dcm", "without an image"),
        ("absent.dcm", "there is no such file"),
    ):
        for read in (read_facts, read_shape):
            with pytest.raises(DataError, match=problem) as caught:
                read(str(tmp_path / name))
            assert name in str(caught.value)
        contents = Contents()
        assert contents.size(str(tmp_path / name)) is None
        assert not contents.is_mask(str(tmp_path / name))
        assert problem in contents.problems[str(tmp_path / name)].reason


@pytest.mark.parametrize(
    ("pixels", "is_mask"),
    [
        (two_values(0, 255, np.uint8), True),
        (two_values(0, 65535, np.uint16), True),
        (two_values(7, 40000, np.uint16), True),
        (np.zeros((96, 64), np.uint8), True),
        (film_pixels("a"), False),
        (np.linspace(0, 3, 96 * 64).astype(np.uint8).reshape(96, 64), False),  # three values that bytes alone allow
    ],
)
@pytest.mark.parametrize("scale", [(1, 1), (8, 8)])  # a file small enough to decode at once, and one that is not
def test_masks_are_told_by_their_values_compressed_or_not(tmp_path, pixels, is_mask, scale):
    path = write_dicom(tmp_path / "a.dcm", np.kron(pixels, np.ones(scale, pixels.dtype)), "x")
    assert Contents().is_mask(str(path)) is is_mask
    assert Contents().is_mask(compress(path)) is is_mask


def test_a_film_is_told_from_a_mask_without_decoding(tmp_path, monkeypatch):
    path = write_dicom(tmp_path / "a.dcm", np.tile(film_pixels("a"), (8, 4)), "x")
    monkeypatch.setattr(contents_module, "read_mammogram", lambda path: pytest.fail("decoded"))
    assert not Contents().is_mask(str(path))
    assert not Contents().is_mask(compress(path))


def test_each_header_is_read_once(tmp_path, monkeypatch):
    path = str(write_dicom(tmp_path / "a.dcm", film_pixels("a"), "x"))
    contents = Contents()
    size = contents.size(path)
    monkeypatch.setattr(builtins, "open", lambda *args, **keywords: pytest.fail("opened again"))
    monkeypatch.setattr(pydicom, "dcmread", lambda *args, **keywords: pytest.fail("read again"))
    assert contents.size(path) == size == (96, 64)


def test_a_mask_whose_pixels_are_cut_off_is_a_problem(tmp_path):
    path = write_dicom(tmp_path / "a.dcm", mask_pixels(), "x")
    path.write_bytes(path.read_bytes()[:-4000])
    contents = Contents()
    assert not contents.is_mask(str(path))
    assert list(contents.problems) == [str(path)]
