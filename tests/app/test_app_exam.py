import numpy as np
import pytest
from PIL import Image
from small_archive import write_dicom

from mammo_hf import MammoImageProcessor
from mammo_hf.app.exam import explanation_map, phantom_exam, read_exam
from mammo_hf.dicom import mammogram_dataset
from mammo_hf.errors import DataError
from mammo_hf.explainers import explain
from mammo_hf.processing.geometry import oriented
from mammo_hf.testing import tiny_classifier


@pytest.fixture(scope="module")
def loaded():
    return tiny_classifier(), MammoImageProcessor(size=(112, 56))


def breast(laterality, view, *, wall):
    """A bright half disc at one edge."""
    rows, columns = np.mgrid[:300, :150]
    inside = ((rows - 150) / 130) ** 2 + (columns / 120) ** 2 < 1
    pixels = (inside * (2000 + 5 * rows)).astype(np.uint16)
    pixels = np.ascontiguousarray(pixels[:, ::-1] if wall == "right" else pixels)
    return mammogram_dataset(pixels, laterality=laterality, view=view, bits_stored=12)


def test_views_hang_oblique_above_cranio_caudal_and_right_before_left(loaded):
    given = [("L", "CC"), ("L", "ML"), ("R", "CC"), ("L", "MLO"), ("R", "MLO")]
    walls = {"L": "left", "R": "right"}
    exam = read_exam(*loaded, [breast(side, view, wall=walls[side]) for side, view in given])
    assert [view.name for view in exam.views] == ["R MLO", "L MLO", "R CC", "L CC", "L ML"]
    assert exam.notes == ()
    assert set(exam.units) == {"left", "right", "exam"}


@pytest.mark.parametrize(("side", "wall"), [("L", "left"), ("L", "right"), ("R", "left"), ("R", "right")])
def test_chest_walls_meet_whatever_way_the_file_lies(loaded, side, wall):
    (view,) = read_exam(*loaded, [breast(side, "CC", wall=wall)]).views
    left, right = view.intensity[:, :20].mean(), view.intensity[:, -20:].mean()
    assert (left > right) == (side == "L")
    assert (view.orientation == "flip_left_right") == ({"L": "left", "R": "right"}[side] != wall)
    shown = explanation_map(loaded[0], view, "grad_cam", "pathology:malignant", view.intensity.shape)
    own = explain(loaded[0], view.pixel_values, "pathology:malignant", "grad_cam", geometry=[view.geometry]).in_source()
    assert shown == pytest.approx(oriented(own, view.orientation), abs=1e-5)


def test_scores_are_the_pipeline_s_and_their_mean(loaded, tmp_path):
    from transformers import pipeline

    read = pipeline("mammogram-classification", model=loaded[0], image_processor=loaded[1])
    files = {view: write_dicom(tmp_path / f"{view}.dcm", seed, view=view) for seed, view in enumerate(("CC", "MLO"))}
    exam = read_exam(*loaded, [str(file) for file in files.values()])
    expected = read({f"L{view}": file for view, file in files.items()})
    malignant = {r["label"]: r["score"] for r in expected["breasts"]["left"]}["malignant"]
    assert exam.units["left"]["pathology"][1] == pytest.approx(malignant)
    assert exam.units["exam"]["pathology"].sum() == pytest.approx(1)


def test_what_cannot_be_told_apart_gets_no_score_of_the_whole(loaded, tmp_path):
    left = breast("L", "CC", wall="left")
    twice = read_exam(*loaded, [left, left])
    assert [view.name for view in twice.views] == ["L CC", "L CC, image 2"]
    assert "L CC, image 2 is not counted: another image of this view counts" in twice.notes[0]
    assert twice.units["exam"]["pathology"] == pytest.approx(twice.views[0].scores["pathology"])
    Image.fromarray(np.full((300, 150), 200, np.uint8)).save(tmp_path / "a.png")
    picture = read_exam(*loaded, [left, str(tmp_path / "a.png")])
    assert picture.units == {}
    assert "which breast" in picture.notes[0]
    assert picture.views[1].name == "image 2"
    assert picture.views[1].facts == {}


def test_a_broken_file_is_a_note_beside_others_and_an_error_alone(loaded, tmp_path):
    (tmp_path / "Doe^Jane.dcm").write_bytes(b"nothing")
    broken = str(tmp_path / "Doe^Jane.dcm")
    exam = read_exam(*loaded, [breast("L", "CC", wall="left"), broken])
    assert len(exam.views) == 1
    assert exam.notes[0].startswith("File 2 cannot be read")
    for images in ([broken], []):
        with pytest.raises(DataError) as caught:
            read_exam(*loaded, images)
        assert "Doe" not in str(caught.value)
    assert "Doe" not in exam.notes[0]


def test_header_facts_name_nobody(loaded):
    dataset = breast("L", "CC", wall="left")
    planted = {"PatientName": "Doe^Jane", "PatientID": "4711", "StudyDate": "20190503", "InstitutionName": "St. Mary"}
    for keyword, value in planted.items():
        setattr(dataset, keyword, value)
    (view,) = read_exam(*loaded, [dataset]).views
    told = " ".join([view.name, *view.facts, *view.facts.values()])
    assert "300 x 150" in told
    for value in (*planted.values(), str(dataset.SOPInstanceUID)):
        assert value not in told


def test_the_phantom_is_a_whole_exam(loaded):
    exam = read_exam(*loaded, phantom_exam())
    assert [view.name for view in exam.views] == ["R MLO", "L MLO", "R CC", "L CC"]
    assert exam.notes == ()


def test_a_head_over_features_scores_breasts_and_exam_itself(tmp_path):
    from bag_heads import write_exams, write_head
    from transformers import pipeline

    from mammo_hf.inference.scoring import load_classifier

    head, exams = write_head(tmp_path / "head"), write_exams(tmp_path / "exams")
    model, processor = load_classifier(head)
    files = {name: exams / f"{number}-1.dcm" for number, name in enumerate(["LCC", "RCC", "LMLO", "RMLO"])}
    exam = read_exam(model, processor, list(map(str, files.values())))
    assert [view.name for view in exam.views] == ["R MLO", "L MLO", "R CC", "L CC"]
    expected = pipeline("mammogram-classification", str(head))(files)
    for unit, results in (expected["breasts"] | {"exam": expected["exam"]}).items():
        malignant = next(one["score"] for one in results if one["label"] == "malignant")
        assert exam.units[unit]["pathology"][1] == pytest.approx(malignant, rel=1e-4)
    shown = explanation_map(model, exam.views[0], "grad_cam", "pathology:malignant", exam.views[0].intensity.shape)
    assert shown.shape == exam.views[0].intensity.shape
    assert shown.max() > 0
