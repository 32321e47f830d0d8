import pytest

from mammo_hf.evaluation.report.words import preprocessing_in_words
from mammo_hf.processing.image_processing_mammo import MammoImageProcessor


def words(**settings):
    return " ".join(preprocessing_in_words(MammoImageProcessor(size=(112, 56), **settings).to_dict()))


@pytest.mark.parametrize(
    ("setting", "sentence"),
    [
        ("crop_to_breast", "cut down to the breast"),
        ("blank_outside_breast", "lies outside the breast"),
        ("blank_pectoral_muscle", "The pectoral muscle becomes 0"),
        ("invert_negatives", "dark tissue on a bright background"),
        ("orient", "chest wall is at the left"),
    ],
)
def test_a_step_is_told_where_it_happens_and_only_there(setting, sentence):
    assert sentence in words(**{setting: True})
    assert sentence not in words(**{setting: False})


def test_numbers_and_choices_are_the_processors_own():
    text = words(crop_margin=0.05, window=1, prefer="window", on_missing_window="raise", num_channels=3)
    assert "a margin of 5 % of the longer side" in text
    assert "its window before its VOI LUT (number 1 of several)" in text
    assert "those For Processing, are refused." in text
    assert "the same in 3 channels" in text
    assert "112 x 56 pixels" in text


@pytest.mark.parametrize(
    ("policy", "told"),
    [
        ("middle", "the middle slice"),
        (3, "slice 3"),
        ({"slices": "all", "projection": "mean"}, "the mean of all slices"),
    ],
)
def test_which_slices_of_a_volume(policy, told):
    assert f"Of a tomosynthesis volume: {told}." in words(tomosynthesis=policy)


def test_what_is_not_said_is_not_told():
    assert preprocessing_in_words({}) == []
