"""The DICOM objects of the plug-in for PACS: what they say, of whom, and that a rerun gives the same bytes."""

import dataclasses
import io
import json
import shutil
import subprocess

import numpy as np
import pydicom
import pytest

hd = pytest.importorskip("highdicom", reason="highdicom is not installed (plugins/mammo-hf-pacs)")

from mammo_hf_pacs import capture, codes, objects, seg, sr

from mammo_hf import MammoImageProcessor
from mammo_hf.dicom.writer import mammogram_dataset
from mammo_hf.errors import DataError
from mammo_hf.explainers import Explanation
from mammo_hf.inference.outputs import ScoredExam, ScoredImage, facts_of_model
from mammo_hf.models.checkpoint import MAP_TESTS
from mammo_hf.processing.geometry import Geometry
from mammo_hf.testing import check_output, scored_exam, tiny_classifier

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
    "PatientSize": "1.7",
    "PatientOrientation": ["P", "FL"],
}


def original(size=(448, 224), **keywords):
    pixels = np.zeros(size, np.uint16)
    pixels[:, : size[1] // 3] = 600
    return mammogram_dataset(
        pixels, bits_stored=12, laterality="R", WindowCenter="1024", WindowWidth="2048", **keywords
    )


@pytest.fixture
def explained(tmp_path):
    """An exam of one image with a map whose spot is at rows 200 to 239 and columns 144 to 183."""

    def make(source=None, **changes):
        source = original(**IDENTITY) if source is None else source
        size = (source.Rows, source.Columns)
        path = tmp_path / f"{source.SOPInstanceUID}.dcm"
        source.save_as(path, enforce_file_format=True)
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
        scores = {"pathology": {"benign": 0.17, "malignant": 0.83}, "density": {"a": 0.2, "b": 0.5, "c": 0.3}}
        image = ScoredImage(str(path), "R", "CC", scores, (), (explanation,))
        points = {"pathology": {"image": {"specificity_95": {"threshold": 0.9}}}}
        model = {"name": "m", "sha256": "ab" * 32, "version": "0.1.0", "calibration": {}, "operating_points": points}
        exam = ScoredExam((image,), {}, model, {"tta": False}, MammoImageProcessor(size=(112, 56)))
        return dataclasses.replace(exam, **changes)

    return make


def read(content):
    return pydicom.dcmread(io.BytesIO(content))


@pytest.mark.slow
@pytest.mark.parametrize("output", [sr, seg, capture])
def test_keeps_the_contract_and_is_valid(output, tmp_path):
    files = check_output(output)
    if shutil.which("dciodvfy") is None:
        pytest.skip("dciodvfy is not installed (Debian's dicom3tools)")
    for name, content in files:
        (tmp_path / name).write_bytes(content)
        found = subprocess.run(["dciodvfy", tmp_path / name], capture_output=True, text=True).stderr.splitlines()
        # the private scheme is declared in the object; the exam of the kit has no Study ID, as many films have none
        left = [line for line in found if "<99MAMMOHF>" not in line and "Study ID" not in line]
        assert left == [{"sr": "ComprehensiveSR", "seg": "Segmentation", "capture": "SCImage"}[output.__name__[14:]]]


@pytest.mark.parametrize("output", [sr, seg, capture])
def test_patient_study_and_dates_are_the_sources_and_nothing_else_of_the_person(output, explained):
    for dataset in output.datasets_of(explained()):
        found = read(objects.written(dataset)[1])
        source = original(**IDENTITY)
        for keyword in [*IDENTITY, "StudyInstanceUID"]:
            if keyword in objects.PATIENT + objects.STUDY:
                assert found[keyword].value == source[keyword].value, keyword
        assert found.PatientSize == source.PatientSize  # as highdicom copies it
        assert "Somewhere General" not in str(found)
        assert "Nurse" not in str(found)
        assert (found.ContentDate, found.ContentTime) == ("20200102", "101112")
        assert found.SeriesInstanceUID != source.SeriesInstanceUID
        assert found.SeriesDescription.startswith("RESEARCH USE ONLY")
        assert found.ContentQualification == "RESEARCH"
        assert source.SOPInstanceUID in str(found)


def test_names_beyond_ascii_come_through(explained):
    source = original(SpecificCharacterSet="ISO_IR 192", PatientName="Müller^Änne")
    for output in (sr, seg, capture):
        for _, content in output.files_of(explained(source)):
            assert str(read(content).PatientName) == "Müller^Änne"


def test_what_a_source_does_not_hold_stays_empty(explained):
    exam = explained(original(PatientName="", PatientID=None, StudyDate=None))
    for output in (sr, seg, capture):
        for _, content in output.files_of(exam):
            found = read(content)
            for keyword in ("PatientName", "PatientID", "StudyDate", "AccessionNumber"):
                assert found[keyword].is_empty, keyword
            assert found.ContentDate == objects.NO_DATE[0]


def test_values_that_are_not_valid_come_through_as_they_are_and_are_not_quoted(explained, recwarn):
    import warnings

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        exam = explained(original(PatientBirthDate="00000000", PatientName="PLANTED-ONE", StudyDate="00000000"))
    for output in (sr, seg, capture):
        for _, content in output.files_of(exam):
            found = read(content)
            assert (found.PatientBirthDate, str(found.PatientName)) == ("00000000", "PLANTED-ONE")
            assert found.ContentDate == objects.NO_DATE[0]
    assert not [one for one in recwarn if "PLANTED" in str(one.message)]


def test_another_model_gives_other_series_that_name_those_they_replace(explained):
    exam = explained()
    other = dataclasses.replace(exam, model=exam.model | {"sha256": "cd" * 32})
    for output in (sr, seg, capture):
        first = output.datasets_of(exam)[0]
        one = {"study": first.StudyInstanceUID, "series": first.SeriesInstanceUID}
        one |= {"class": first.SOPClassUID, "instance": first.SOPInstanceUID}
        second = output.datasets_of(other, [one])[0]
        assert second.SeriesInstanceUID != first.SeriesInstanceUID
        assert second.SOPInstanceUID != first.SOPInstanceUID
        (related,) = second.RelatedSeriesSequence
        assert related.SeriesInstanceUID == first.SeriesInstanceUID
        assert "RelatedSeriesSequence" not in output.datasets_of(exam, [one])[0]
    predecessor = sr.datasets_of(other, [{**one, "instance": "1.2.3"}])[0].PredecessorDocumentsSequence[0]
    assert predecessor.ReferencedSeriesSequence[0].ReferencedSOPSequence[0].ReferencedSOPInstanceUID == "1.2.3"


def test_the_report_holds_the_scores_and_what_made_them(explained):
    (dataset,) = sr.datasets_of(explained())
    found = hd.sr.srread(io.BytesIO(objects.written(dataset)[1]))
    assert (found.VerificationFlag, found.CompletionFlag) == ("UNVERIFIED", "COMPLETE")
    groups = found.content.get_image_measurement_groups()
    assert len(groups) == 2
    values = {one.name.meaning: one.value for group in groups for one in group.get_measurements()}
    assert values["Probability of cancer"] == pytest.approx(0.83)
    assert values["Probability of density: b"] == pytest.approx(0.5)
    # 0.83 is below the operating point
    evaluations = [one.value.value for group in groups for one in group.get_qualitative_evaluations()]
    decided = [value for value in evaluations if value != codes.FAMILY.value]  # highdicom counts the algorithm's, too
    assert decided == [codes.SCT.Benign.value, codes.LABELS["density", "b"].value]
    content = objects.written(dataset)[1]
    for part in (objects.RESEARCH, "ab" * 32, "threshold 0.9"):
        assert part.encode() in content
    assert not found.content.get_planar_roi_measurement_groups()


def test_the_peak_is_a_point_only_where_the_map_has_its_warrant(explained, tmp_path):
    exam, model, seen = explained(), tmp_path / "model", set()
    tiny_classifier().save_pretrained(model)
    good, bad = {"value": -0.2, "interval": [-0.3, -0.1]}, {"value": 0.7, "interval": [0.6, 0.8]}
    row = {"placement": bad, "sanity": good, "faithfulness": good, "target": "pathology:malignant", "collection": "x"}
    row |= {"images": 9, "patients": 9}
    untested = None, row | {"faithfulness": None}, row | {"sanity": bad}, row | {"target": "predicted"}
    for tests, expected in (*((one, 0) for one in untested), (row, 1)):  # as evaluate-explanations keeps them
        if tests is not None:
            (model / MAP_TESTS).write_text(json.dumps({"explainers": {"grad_cam": tests}}))
        warrant = facts_of_model(model, None)["warrant"]
        (dataset,) = sr.datasets_of(dataclasses.replace(exam, model=exam.model | {"warrant": warrant}))
        found = hd.sr.srread(io.BytesIO(objects.written(dataset)[1]))
        seen.add(dataset.SOPInstanceUID)
        groups = found.content.get_planar_roi_measurement_groups()
        assert len(groups) == expected
        for group in groups:
            (column, row) = group.roi.value[0]
            assert 200 <= row < 240
            assert 144 <= column < 184
    assert len(seen) == 3  # other content has another identifier


def test_the_segmentations_are_in_the_pixels_of_the_source(explained):
    exam = explained()
    found = {int(one.SeriesNumber): one for one in (read(content) for _, content in seg.files_of(exam))}
    values = hd.seg.Segmentation.from_dataset(found[9002]).pixel_array / 255
    assert np.abs(values - exam.images[0].explanations[0].in_source()).max() <= 0.5 / 255 + 1e-6
    breast = hd.seg.Segmentation.from_dataset(found[9003]).pixel_array.astype(bool)
    assert (breast == seg.breast_of(exam, exam.images[0])).all()
    assert breast[:, :70].mean() > 0.9
    assert breast[:, 110:].mean() < 0.1


def item(**keywords):
    made = pydicom.Dataset()
    for keyword, value in keywords.items():
        setattr(made, keyword, value)
    return made


def volume():
    """A volume of six slices of 1 mm, from z = 0."""
    pixels = np.zeros((6, 448, 224), np.uint16)
    pixels[:, :, :70] = 600
    shared = item(
        PlaneOrientationSequence=[item(ImageOrientationPatient=[1.0, 0, 0, 0, 1, 0])],
        PixelMeasuresSequence=[item(PixelSpacing=[0.1, 0.1], SliceThickness=1.0)],
    )
    frames = [item(PlanePositionSequence=[item(ImagePositionPatient=[0.0, 0, float(z)])]) for z in range(6)]
    window = {"bits_stored": 12, "laterality": "R", "WindowCenter": "1024", "WindowWidth": "2048"}
    groups = {"SharedFunctionalGroupsSequence": [shared], "PerFrameFunctionalGroupsSequence": frames}
    return mammogram_dataset(pixels, FrameOfReferenceUID="1.2.3", **window, **groups, **IDENTITY)


def test_what_is_made_of_a_volume_is_at_the_slice_that_was_shown(explained):
    exam = explained(volume())
    found = [read(content) for _, content in seg.files_of(exam)]
    by_class = {one.SOPClassUID.name: one for one in found}
    assert by_class.keys() == {"Segmentation Storage", "Parametric Map Storage"}
    assert len(found) == 3
    for one in found:
        (group,) = one.PerFrameFunctionalGroupsSequence
        assert group.PlanePositionSequence[0].ImagePositionPatient == [0, 0, 3]  # the middle one
        assert group.DerivationImageSequence[0].SourceImageSequence[0].ReferencedFrameNumber == 4
        assert one.FrameOfReferenceUID == "1.2.3"
    values = hd.pm.ParametricMap.from_dataset(by_class["Parametric Map Storage"]).pixel_array
    assert np.abs(values - exam.images[0].explanations[0].in_source()).max() <= 0.5 / 255 + 1e-6
    (report,) = sr.datasets_of(exam)
    groups = hd.sr.srread(io.BytesIO(objects.written(report)[1])).content.get_image_measurement_groups()
    assert {number for group in groups for one in group.source_images for number in one.referenced_frame_numbers} == {4}
    # without the places of its slices only what needs none is written
    nowhere = volume()
    del nowhere.FrameOfReferenceUID
    exam = explained(nowhere)
    assert seg.files_of(exam) == []
    assert len(sr.files_of(exam)) == len(capture.files_of(exam)) == 1


def test_a_late_image_changes_the_report_and_no_object_of_another_image(explained):
    first = explained(original(**IDENTITY, StudyInstanceUID="1.2"))
    late = explained(original(**IDENTITY, StudyInstanceUID="1.2", SOPInstanceUID="1.2.3")).images[0]
    whole = dataclasses.replace(first, images=(dataclasses.replace(late, view="MLO"), *first.images))
    for output in (seg, capture):
        assert set(output.files_of(first)) < set(output.files_of(whole))
    assert sr.files_of(first)[0][0] != sr.files_of(whole)[0][0]


def test_the_capture_has_the_originals_frame_and_says_what_it_is_for(explained):
    (found,) = (read(content) for _, content in capture.files_of(explained()))
    picture = found.pixel_array
    assert picture.shape == (448, 224, 3)
    assert [float(step) for step in found.PixelSpacing] == [0.1, 0.1]
    assert (found.Laterality, list(found.PatientOrientation)) == ("R", ["P", "FL"])
    rows, columns = np.nonzero(np.ptp(picture.astype(int), axis=-1) > 8)
    assert (rows.min(), rows.max()) == pytest.approx((200, 239), abs=4)
    assert (columns.min(), columns.max()) == pytest.approx((144, 183), abs=4)
    white = (picture > 200).all(-1)
    assert white.sum() > 100
    assert not white[:, : 224 // 3].any()  # the left third is tissue


def test_a_large_image_is_smaller_by_a_whole_factor_with_the_spacing_that_belongs_to_it(explained):
    source = original((4100, 1000), ImagerPixelSpacing=["0.07", "0.07"])
    (dataset,) = capture.datasets_of(explained(source))
    assert (dataset.Rows, dataset.Columns) == (1366, 333)
    assert dataset.Rows * dataset.PixelSpacing[0] == pytest.approx(4100 * 0.07)
    assert dataset.Columns * dataset.PixelSpacing[1] == pytest.approx(1000 * 0.07)


def test_magnification_is_stated_and_unknown_spacing_left_out(explained):
    (magnified,) = capture.datasets_of(explained(original(EstimatedRadiographicMagnificationFactor="2")))
    assert [float(step) for step in magnified.PixelSpacing] == [0.05, 0.05]
    assert magnified.PixelSpacingCalibrationType == "GEOMETRY"
    assert "PixelSpacing" not in capture.datasets_of(explained(original(ImagerPixelSpacing=None)))[0]


def test_images_without_a_study_and_mixed_ones_are_refused(explained, tmp_path):
    with pytest.raises(DataError, match="no study"):
        sr.files_of(explained(original(StudyInstanceUID="")))
    exam = scored_exam(tmp_path)
    other = explained(original(**IDENTITY))
    with pytest.raises(DataError, match="of several studies"):
        sr.files_of(dataclasses.replace(exam, images=exam.images + other.images))


def test_codes_are_within_dicoms_limits():
    for task, label in (("pathology", "benign_without_callback"), ("Ünïcode task", "a label of any length" * 5)):
        for code in (codes.task(task), codes.label(task, label), codes.probability(task, label)):
            assert len(code.value) <= 16
            assert len(code.meaning) <= 64
            assert code.meaning.isascii()
    assert codes.label("density", "a").scheme_designator == "SCT"
    assert codes.label("tissue", "fatty").value == "L_TISSUE_FATTY"
