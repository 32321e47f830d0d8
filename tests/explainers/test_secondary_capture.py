import dataclasses
import io

import numpy as np
import pydicom
import pytest
from pydicom.dataset import Dataset

from mammo_hf.dicom.writer import mammogram_dataset
from mammo_hf.errors import MammoError, UsageError
from mammo_hf.explainers import Explanation
from mammo_hf.processing.geometry import Geometry

# Attributes that PS3.3 A.8.1 requires by its mandatory modules: type 1 has a value, type 2 is there.
REQUIRED = {
    "Patient C.7.1.1": {"PatientName": 2, "PatientID": 2, "PatientBirthDate": 2, "PatientSex": 2},
    "General Study C.7.2.1": {
        "StudyInstanceUID": 1,
        "StudyDate": 2,
        "StudyTime": 2,
        "ReferringPhysicianName": 2,
        "StudyID": 2,
        "AccessionNumber": 2,
    },
    "General Series C.7.3.1": {"Modality": 1, "SeriesInstanceUID": 1, "SeriesNumber": 2},
    "SC Equipment C.8.6.1": {"ConversionType": 1},
    # 2C: the image has no Image Plane module
    "General Image C.7.6.1": {"InstanceNumber": 2, "PatientOrientation": 2},
    "Image Pixel C.7.6.3": {
        "SamplesPerPixel": 1,
        "PhotometricInterpretation": 1,
        "Rows": 1,
        "Columns": 1,
        "BitsAllocated": 1,
        "BitsStored": 1,
        "HighBit": 1,
        "PixelRepresentation": 1,
        "PlanarConfiguration": 1,  # 1C: more than one sample a pixel
        "PixelData": 1,
    },
    "General Reference C.12.4, SC Image C.8.6.2": {},
    "SOP Common C.12.1": {"SOPClassUID": 1, "SOPInstanceUID": 1},
}
CONVERSION_TYPES = ("DV", "DI", "DF", "WSD", "SD", "SI", "DRW", "SYN")
IDENTITY = {
    "PatientName": "Doe^Jane",
    "PatientID": "4711",
    "PatientBirthDate": "19600101",
    "PatientSex": "F",
    "StudyDate": "20200102",
    "StudyTime": "101112",
    "AccessionNumber": "A1",
    "StudyID": "S1",
    "ReferringPhysicianName": "House^Gregory",
    "InstitutionName": "Somewhere General",
    "OperatorsName": "Nurse^Joy",
    "PatientOrientation": ["P", "FL"],
}


def broken_rules(dataset: Dataset) -> list[str]:
    return [
        f"{module}: {keyword}"
        for module, attributes in REQUIRED.items()
        for keyword, kind in attributes.items()
        if keyword not in dataset or (kind == 1 and dataset[keyword].is_empty)
    ]


def written_and_read(dataset: Dataset) -> Dataset:
    file = io.BytesIO()
    dataset.save_as(file, enforce_file_format=True)
    file.seek(0)
    return pydicom.dcmread(file)


def original(size=(448, 224), **keywords):
    pixels = np.zeros(size, np.uint16)
    pixels[:, : size[1] // 3] = 600
    return mammogram_dataset(
        pixels, bits_stored=12, laterality="R", WindowCenter="1024", WindowWidth="2048", **keywords
    )


def explained(size=(448, 224), **changes):
    values = np.zeros((1, 112, 56), np.float32)
    values[0, 50:60, 10:20] = 1.0
    explanation = Explanation(
        map=values,
        target=("pathology:malignant",),
        explainer="grad_cam",
        flat=(False,),
        images=np.zeros((1, 112, 56), np.float32),
        geometry=(Geometry(size, (0, 0, *size), "flip_left_right", (112, 56), (0, 0), (112, 56), (0.1, 0.1)),),
        score=(0.83,),
    )
    return dataclasses.replace(explanation, **changes)


@pytest.mark.parametrize("style", ["heat", "contour"])
def test_has_what_the_standard_requires(style):
    found = written_and_read(explained().to_dicom(original(**IDENTITY), style=style))
    assert broken_rules(found) == []
    assert found.SOPClassUID == found.file_meta.MediaStorageSOPClassUID == "1.2.840.10008.5.1.4.1.1.7"
    assert found.ConversionType in CONVERSION_TYPES
    assert found.ImageType[:2] == ["DERIVED", "SECONDARY"]
    assert len(found.PixelData) % 2 == 0
    # C.7.3.1: of a paired part one of the two says the side
    assert found.get("ImageLaterality") or "Laterality" in found
    for element in found.iterall():
        assert element.VM <= 3 or element.tag == 0x7FE00010


def test_the_table_finds_what_is_missing():
    dataset = explained().to_dicom(original())
    del dataset.ConversionType
    dataset.Modality = ""
    del dataset.PatientName
    assert broken_rules(dataset) == [
        "Patient C.7.1.1: PatientName",
        "General Series C.7.3.1: Modality",
        "SC Equipment C.8.6.1: ConversionType",
    ]


def test_sits_in_the_originals_study_and_refers_to_it():
    source = original(**IDENTITY)
    found = written_and_read(explained().to_dicom(source))
    assert found.StudyInstanceUID == source.StudyInstanceUID
    assert found.SeriesInstanceUID != source.SeriesInstanceUID
    assert found.SOPInstanceUID != source.SOPInstanceUID
    (image,) = found.SourceImageSequence
    assert (image.ReferencedSOPClassUID, image.ReferencedSOPInstanceUID) == (source.SOPClassUID, source.SOPInstanceUID)
    (series,) = found.ReferencedSeriesSequence
    assert series.SeriesInstanceUID == source.SeriesInstanceUID
    assert series.ReferencedInstanceSequence[0].ReferencedSOPInstanceUID == source.SOPInstanceUID
    assert (found.ImageLaterality, list(found.PatientOrientation)) == ("R", ["P", "FL"])
    for keyword in ("PatientName", "PatientID", "PatientBirthDate", "PatientSex", "StudyDate", "AccessionNumber"):
        assert found[keyword].value == source[keyword].value


def test_holds_no_identifier_that_the_source_does_not_hold():
    found = explained().to_dicom(original(PatientName="", PatientID=None, StudyDate=None))
    for keyword in ("PatientName", "PatientID", "PatientBirthDate", "StudyDate", "StudyTime", "AccessionNumber"):
        assert found[keyword].is_empty, keyword
    # nor what the source has beyond patient and study
    found = explained().to_dicom(original(**IDENTITY))
    for keyword in ("InstitutionName", "OperatorsName", "ContentDate", "InstanceCreationDate", "DeviceSerialNumber"):
        assert keyword not in found, keyword


def test_names_beyond_ascii_come_through():
    source = original(SpecificCharacterSet="ISO_IR 192", PatientName="Müller^Änne")
    assert str(written_and_read(explained().to_dicom(source)).PatientName) == "Müller^Änne"


def test_the_picture_has_the_originals_frame_and_is_tinted_at_the_place_alone():
    found = written_and_read(explained().to_dicom(original()))
    assert (found.Rows, found.Columns) == (448, 224)
    assert [float(step) for step in found.PixelSpacing] == [0.1, 0.1]
    coloured = np.ptp(found.pixel_array.astype(int), axis=-1) > 8
    rows, columns = np.nonzero(coloured)
    # rows 50 to 60 and columns 10 to 20 of the mirrored canvas, four source pixels each
    assert (rows.min(), rows.max()) == pytest.approx((200, 239), abs=4)
    assert (columns.min(), columns.max()) == pytest.approx((144, 183), abs=4)


def test_research_use_is_burned_in_where_there_is_no_tissue():
    dataset = explained().to_dicom(original())
    picture = dataset.pixel_array
    white = (picture > 200).all(-1)
    assert white.sum() > 100
    assert not white[:, : 224 // 3].any()  # the left third is tissue
    assert "RESEARCH USE ONLY" in dataset.SeriesDescription
    assert "RESEARCH USE ONLY" in dataset.ImageComments


def test_a_large_image_is_smaller_by_a_whole_factor_with_the_spacing_that_belongs_to_it():
    size = (4100, 1000)
    dataset = explained(size).to_dicom(original(size, ImagerPixelSpacing=["0.07", "0.07"]))
    assert (dataset.Rows, dataset.Columns) == (1366, 333)
    assert dataset.Rows * dataset.PixelSpacing[0] == pytest.approx(4100 * 0.07)
    assert dataset.Columns * dataset.PixelSpacing[1] == pytest.approx(1000 * 0.07)


def test_magnification_is_told_and_unknown_spacing_left_out():
    magnified = explained().to_dicom(original(EstimatedRadiographicMagnificationFactor="2"))
    assert [float(step) for step in magnified.PixelSpacing] == [0.05, 0.05]
    assert magnified.PixelSpacingCalibrationType == "GEOMETRY"
    assert magnified.PixelSpacingCalibrationDescription
    assert "PixelSpacing" not in explained().to_dicom(original(ImagerPixelSpacing=None))


def test_the_same_explanation_gives_the_same_file_and_another_another():
    source = original()
    first, again = explained().to_dicom(source), explained().to_dicom(source)
    assert first == again
    other = explained(score=(0.2,)).to_dicom(source)
    assert other.SOPInstanceUID != first.SOPInstanceUID
    assert other.SeriesInstanceUID == first.SeriesInstanceUID


def test_takes_a_path_and_leaves_the_source_alone(tmp_path):
    source = original(**IDENTITY)
    source.save_as(tmp_path / "a.dcm", enforce_file_format=True)
    before = (tmp_path / "a.dcm").read_bytes()
    for path in (tmp_path / "a.dcm", str(tmp_path / "a.dcm")):
        assert explained().to_dicom(path).StudyInstanceUID == source.StudyInstanceUID
    assert (tmp_path / "a.dcm").read_bytes() == before


def test_what_does_not_fit_is_refused(tmp_path):
    with pytest.raises(UsageError, match="448 x 224 pixels, the explained image 300 x 200"):
        explained((300, 200)).to_dicom(original())
    with pytest.raises(UsageError, match="no geometry"):
        explained(geometry=None).to_dicom(original())
    with pytest.raises(UsageError, match="no study"):
        explained().to_dicom(original(StudyInstanceUID=None))
    with pytest.raises(UsageError, match="heat or contour"):
        explained().to_dicom(original(), style="side_by_side")
    with pytest.raises(UsageError, match="no image 1"):
        explained().to_dicom(original(), 1)
    (tmp_path / "a.dcm").write_bytes(b"no DICOM")
    for path in (tmp_path / "a.dcm", tmp_path / "nowhere.dcm"):
        with pytest.raises(MammoError, match=path.name):
            explained().to_dicom(path)
