import numpy as np
import pytest

from mammo_hf.dicom import Laterality, View
from mammo_hf.errors import DataError, UsageError
from mammo_hf.inference.exams import check_header, into_exam, views_of


@pytest.mark.parametrize("key", ["LMLO", "L-MLO", "left_mlo", "Left MLO", " lmlo "])
def test_a_view_is_known_by_many_names(key):
    (view,) = views_of({key: "image"})
    assert (view.laterality, view.view, view.image) == (Laterality.LEFT, View.MLO, "image")


@pytest.mark.parametrize(
    ("exam", "problem"),
    [
        ({}, "holds no view"),
        ({"CC": 1}, "not a view of a breast"),
        ({"LXY": 1}, "not a view of a breast"),
        ({"LCC": 1, "left cc": 2}, "same view"),
        ({"RCC": [1, 2]}, "holds 2 images"),
        ({3: 1}, "not a view of a breast"),
    ],
)
def test_what_is_no_exam_is_refused(exam, problem):
    with pytest.raises(UsageError, match=problem):
        views_of(exam)


def test_a_header_that_says_otherwise_is_told_of():
    (view,) = views_of({"LCC": "image"})

    def image(laterality, projection):
        return type("M", (), {"header": type("H", (), {"laterality": laterality, "view": projection})})

    check_header(view, None)
    check_header(view, image(Laterality.LEFT, View.CC))
    check_header(view, image(Laterality.UNKNOWN, View.UNKNOWN))
    with pytest.raises(DataError, match="laterality R, the exam L"):
        check_header(view, image(Laterality.RIGHT, View.CC))
    with pytest.raises(DataError, match="view MLO, the exam CC"):
        check_header(view, image(Laterality.LEFT, View.MLO))


def test_breasts_and_exam_are_put_together_by_the_rule():
    views = [view.laterality for view in views_of({"LCC": 1, "RCC": 2, "LMLO": 3})]
    scores = {"pathology": np.array([[0.9, 0.1], [0.8, 0.2], [0.4, 0.6]])}
    mean = into_exam(views, scores, "mean")
    assert list(mean) == ["left", "right", "exam"]
    assert mean["left"]["pathology"] == pytest.approx([0.65, 0.35])
    assert mean["exam"]["pathology"] == pytest.approx([0.7, 0.3])
    assert into_exam(views, scores, "max")["exam"]["pathology"] == pytest.approx([0.4, 0.6])
    assert into_exam(views, scores, "noisy_or")["left"]["pathology"][1] == pytest.approx(1 - 0.9 * 0.4)
    with pytest.raises(UsageError, match="aggregate"):
        into_exam(views, scores, "median")
