from dataclasses import replace

import pytest

from mammo_hf import MammoImageProcessor
from mammo_hf.app.exam import (
    PREDICTED,
    Exam,
    facts_table,
    notes_list,
    phantom_exam,
    problem,
    read_exam,
    scores_table,
    targets_of,
)
from mammo_hf.testing import tiny_classifier


@pytest.fixture(scope="module")
def model():
    return tiny_classifier()


@pytest.fixture(scope="module")
def exam(model):
    *_, whole = read_exam(model, MammoImageProcessor(size=(112, 56)), phantom_exam())
    return whole


def test_every_label_can_be_explained(model):
    names = [model.config.id2label[index] for index in range(5)]
    assert targets_of(model.config) == [names[1], names[0], *names[2:], PREDICTED]


def test_scores_stand_for_exam_breasts_and_views(model, exam):
    model.own_figures = {"pathology": ("This model is not above chance on its test patients: x <y>.",)}
    table = scores_table(exam, model)
    assert "this model is not above chance" in table.split("</caption>")[0]
    assert "x &lt;y&gt;" in table
    for name in ("exam", "right breast", "left breast", "R MLO", "L CC"):
        assert f'<th scope="row">{name}</th>' in table
    shown = f"{100 * exam.units['exam']['pathology'][1]:.0f} %"
    assert shown in table
    assert "score, not calibrated" in table
    model.config.calibration = {"pathology": {"method": "temperature", "temperature": 2.0}}
    assert scores_table(exam, model).count("calibrated probability") == 1
    model.config.calibration = None


def test_what_comes_from_a_file_is_no_markup(exam):
    views = [replace(exam.views[0], facts={"contradicts": "<script>x</script>"})]
    assert "<script>" not in facts_table(Exam(views))
    assert "<b>" not in notes_list(("<b>",))
    assert "<b>" not in problem("<b>")
    assert notes_list(()) == ""
    assert "no DICOM header" in facts_table(Exam([replace(exam.views[0], facts={})]))
