import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydicom.dataset import Dataset
from pydicom.uid import BreastTomosynthesisImageStorage

from mammo_hf.data.precedence import NO_HEADER, not_counting, precedence
from mammo_hf.dicom import Laterality, View, mammogram_dataset, read_mammogram
from mammo_hf.errors import DataError, UsageError
from mammo_hf.inference.exams import check_header, into_exam, views_of


def rank(**attributes):
    """The rank of an image with these attributes."""
    dataset = mammogram_dataset(np.arange(48, dtype=np.uint16).reshape(8, 6), laterality="L", view="CC")
    dataset.SOPInstanceUID = "1.2.3"
    for name, value in attributes.items():
        setattr(dataset, name, value)
    return precedence(read_mammogram(dataset))


def spot():
    view, modifier = Dataset(), Dataset()
    view.CodeValue, view.CodingSchemeDesignator, view.CodeMeaning = "399162004", "SCT", "cranio-caudal"
    modifier.CodeMeaning, modifier.CodeValue = "Spot compression", "399055006"
    view.ViewModifierCodeSequence = [modifier]
    return [view]


TIME = {"AcquisitionDate": "20260102", "AcquisitionTime": "101112.5"}
RAW = {"PresentationIntentType": "FOR PROCESSING"}


@pytest.mark.parametrize(
    ("counts", "does_not", "reason"),
    [
        ({}, {"ViewCodeSequence": spot(), **TIME}, "standard view"),
        ({}, {"ImageType": ["DERIVED", "PRIMARY", "TOMOSYNTHESIS", "GENERATED_2D"], **TIME}, "tomosynthesis"),
        ({}, {"SOPClassUID": BreastTomosynthesisImageStorage, **TIME}, "tomosynthesis"),
        ({}, {**RAW, **TIME}, "For Presentation"),
        ({**TIME, "AcquisitionTime": "101112.6"}, TIME, "later"),
        ({"AcquisitionDateTime": "20260102101113+0100"}, TIME, "later"),
        ({"ContentDate": "20260103", "ContentTime": "07"}, TIME, "later"),
        (TIME, {}, "later"),
        (TIME, {"AcquisitionDate": "2 Jan", "AcquisitionTime": "noon"}, "later"),
        ({"SOPInstanceUID": "1.2.2"}, {}, "UID or place"),
        ({}, {}, "UID or place"),
    ],
)
def test_the_rule_says_which_image_of_a_view_counts(counts, does_not, reason):
    images = [(0, "L CC", rank(**counts)), (1, "L CC", rank(**does_not)), (2, "R CC", rank())]
    for order in (images, [images[0], images[2], images[1]], [images[1], images[0]])[: 2 if counts == does_not else 3]:
        (index, note), *others = not_counting(order).items()
        assert (index, others, note.code) == (1, [], "another_image_counts")
        assert reason in note


ranks = st.tuples(st.integers(0, 1), st.integers(0, 3), st.integers(0, 2), st.integers(-3, 0), st.sampled_from("ab"))


@given(st.lists(st.tuples(st.sampled_from(["L CC", "L MLO", "R CC"]), ranks), max_size=12), st.randoms())
def test_one_image_of_each_view_counts_whatever_their_order(images, random):
    numbered = [(index, key, one) for index, (key, one) in enumerate(images)]
    others = not_counting(numbered)
    counted = [(key, one) for index, key, one in numbered if index not in others]
    assert sorted(key for key, _ in counted) == sorted({key for key, _ in images})
    assert all(one == min(other for same, other in images if same == key) for key, one in counted)
    random.shuffle(numbered)
    again = not_counting(numbered)
    assert sorted((key, one) for index, key, one in numbered if index not in again) == sorted(counted)


def test_a_picture_has_the_rank_of_an_image_whose_header_says_nothing():
    assert precedence(None) == NO_HEADER
    assert rank() < NO_HEADER < rank(**RAW)


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
        ({"RCC": []}, "holds no image"),
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
