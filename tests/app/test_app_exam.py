from base64 import b64decode
from io import BytesIO

import numpy as np
import pytest
from PIL import Image
from pydicom.uid import SecondaryCaptureImageStorage
from small_archive import write_dicom

from mammo_hf import MammoImageProcessor
from mammo_hf.app.exam import (
    MOST_FILES,
    PREDICTED,
    Exam,
    explained_label,
    explanation_of,
    maps_section,
    on_screen,
    phantom_exam,
    strip_section,
)
from mammo_hf.app.exam import read_exam as exams_as_read
from mammo_hf.dicom import mammogram_dataset
from mammo_hf.errors import DataError
from mammo_hf.explainers import explain
from mammo_hf.processing.geometry import oriented
from mammo_hf.testing import tiny_classifier


@pytest.fixture(scope="module")
def loaded():
    return tiny_classifier(), MammoImageProcessor(size=(112, 56))


def read_exam(*arguments, **options):
    """The whole exam: what is given last."""
    *_, exam = exams_as_read(*arguments, **options)
    return exam


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
    shown = on_screen(explanation_of(loaded[0], view, "grad_cam", 1), view)
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


def test_a_file_is_named_by_the_name_that_is_given(loaded, tmp_path):
    (tmp_path / "1.dcm").write_bytes(b"nothing")
    files = [breast("L", "CC", wall="left"), str(tmp_path / "1.dcm")]
    exam = read_exam(*loaded, files, ["LCC.dcm", "notes <1>.dcm"])
    assert exam.notes[0].startswith("notes <1>.dcm cannot be read")


def test_scores_are_given_as_soon_as_an_image_is_read(loaded):
    given = [breast("L", "CC", wall="left"), breast("R", "CC", wall="right")]
    first, last = exams_as_read(*loaded, given)
    assert [view.name for view in first.views] == ["L CC"]
    assert (first.units, first.notes) == ({}, ("1 of 2 files are read.",))
    assert set(last.units) == {"left", "right", "exam"}
    assert last.notes == ("Of the four standard views, the exam lacks L MLO, R MLO.",)
    with pytest.raises(DataError, match=f"more than the {MOST_FILES}"):
        read_exam(*loaded, given * 20)


def test_the_picture_for_the_script_keeps_sixteen_bits(loaded):
    (view,) = read_exam(*loaded, [breast("L", "CC", wall="left")]).views
    red, green, _ = np.asarray(Image.open(BytesIO(b64decode(view.url.split(",")[1])))).astype(int).transpose(2, 0, 1)
    assert (256 * red + green) / 65535 == pytest.approx(view.intensity.astype(float), abs=1e-5)
    assert view.mm == pytest.approx(0.1)  # as many pixels as the file has, of 0.1 mm


def test_maps_and_comparison_say_what_they_show(loaded):
    exam = read_exam(*loaded, [breast("L", "CC", wall="left")])
    view, label = exam.views[0], explained_label(exam, loaded[0].config, "pathology:malignant")
    found = explanation_of(loaded[0], view, "hires_cam", label)
    assert found.score == (pytest.approx(view.scores["pathology"][1]),)
    html = maps_section(exam, {0: found})
    assert "HiResCAM for pathology:malignant" in html
    assert f'data-text="{found.result()}"' in html
    assert f'data-strength="{found.strength():.3f}"' in html
    assert maps_section(exam, {}) == ""
    strip = strip_section(view, {"hires_cam": found, "lesion_head": "no map: it has <none>"})
    assert "HiResCAM on L CC" in strip
    assert "no map: it has &lt;none&gt;" in strip


def test_no_map_is_drawn_below_the_operating_point_unless_asked_for():
    model, processor = tiny_classifier(), MammoImageProcessor(size=(112, 56))
    points = {"pathology": {"image": {"specificity_95": {"threshold": 0.999}}}}
    model.config.operating_points = points
    exam = read_exam(model, processor, [breast("L", "CC", wall="left")])
    assert explanation_of(model, exam.views[0], "grad_cam", 1).strength() == 0
    assert explanation_of(model, exam.views[0], "grad_cam", 1, weak=True).strength() > 0


def test_all_views_are_explained_for_one_label(loaded):
    exam = read_exam(*loaded, phantom_exam())
    config = loaded[0].config
    assert explained_label(exam, config, PREDICTED) == 1  # of two labels the positive one
    assert explained_label(exam, config, "density:a") == 2
    assert explained_label(Exam(exam.views), config, PREDICTED) == 1


def test_what_the_model_has_no_figures_for_is_said(loaded):
    model, processor = loaded
    dataset = breast("L", "CC", wall="left")
    dataset.BreastImplantPresent = "YES"
    dataset.SOPClassUID = dataset.file_meta.MediaStorageSOPClassUID = SecondaryCaptureImageStorage
    trained = MammoImageProcessor.from_dict(processor.to_dict() | {"image_kinds": ["2D"]})
    notes = read_exam(model, trained, [dataset]).notes
    assert "L CC: the breast holds an implant; the model has no figures on breasts with implants." in notes
    assert any(note.startswith("L CC: is of a kind (film) that the model was not trained on") for note in notes)


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
    shown = on_screen(explanation_of(model, exam.views[0], "grad_cam", 1), exam.views[0])
    assert shown.shape == exam.views[0].intensity.shape
    assert shown.max() > 0
