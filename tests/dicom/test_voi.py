from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydicom.dataset import Dataset

from mammo_hf.dicom.display import Display
from mammo_hf.dicom.intensity import Transform, _linear, find_voi
from mammo_hf.dicom.types import MammogramError
from mammo_hf.notes import Note, codes

VALUES = np.arange(4096.0)


def window(center: object, width: object, function: str | None = None, explanation: object = None) -> Dataset:
    dataset = Dataset()
    dataset.WindowCenter, dataset.WindowWidth = center, width
    if function is not None:
        dataset.VOILUTFunction = function
    if explanation is not None:
        dataset.WindowCenterWidthExplanation = explanation
    return dataset


def found(dataset: Dataset, choice: int | str = "NORMAL", prefer: str = "lut") -> tuple[str, Transform]:
    voi = find_voi(dataset, VALUES, Display(choice, prefer), [])
    assert voi is not None
    return voi


def several(kind: str, explanations: list[str]) -> Dataset:
    """A dataset with a window, or VOI LUT, for each explanation; the windows' centres and the LUTs' ends differ."""
    dataset = Dataset()
    if kind == "window":
        dataset.WindowCenter = [1000 + 100 * index for index in range(len(explanations))]
        dataset.WindowWidth = [500] * len(explanations)
        dataset.WindowCenterWidthExplanation = explanations
        return dataset
    dataset.VOILUTSequence = []
    for index, explanation in enumerate(explanations):
        item = Dataset()
        item.LUTExplanation = explanation
        item.LUTDescriptor, item.LUTData = [2, 0, 12], [0, 4000 + index]
        dataset.VOILUTSequence.append(item)
    return dataset


@pytest.mark.parametrize(("kind", "name"), [("window", "window {} (LINEAR)"), ("lut", "VOI LUT {}")])
@pytest.mark.parametrize(
    ("choice", "explanation"),
    [(0, "HARDER"), (2, "SOFTER"), ("softer", "SOFTER"), (" Normal", "NORMAL"), ("NORMAL", "NORMAL")],
)
def test_one_of_several_is_chosen_by_index_or_explanation(
    kind: str, name: str, choice: int | str, explanation: str
) -> None:
    source, _ = found(several(kind, ["HARDER", "NORMAL", "SOFTER"]), choice)
    assert source == name.format(f"'{explanation}'")


@pytest.mark.parametrize("kind", ["window", "lut"])
@pytest.mark.parametrize("choice", [3, "BRIGHTER"])
def test_one_that_is_not_there_is_refused(kind: str, choice: int | str) -> None:
    with pytest.raises(MammogramError, match="has 3 windows or VOI LUTs, none"):
        found(several(kind, ["HARDER", "NORMAL", "SOFTER"]), choice)
    assert find_voi(Dataset(), VALUES, Display(choice), []) is None


def test_the_other_kind_is_asked_if_the_preferred_one_lacks_the_choice() -> None:
    dataset = several("lut", ["NORMAL"])
    dataset.update(several("window", ["NORMAL", "SOFTER"]))
    for prefer, choice, source in (
        ("lut", "SOFTER", "window 'SOFTER' (LINEAR)"),
        ("lut", 1, "window 'SOFTER' (LINEAR)"),
        ("lut", "NORMAL", "VOI LUT 'NORMAL'"),
        ("window", "NORMAL", "window 'NORMAL' (LINEAR)"),
    ):
        assert found(dataset, choice, prefer)[0] == source


def test_no_window_is_none() -> None:
    assert find_voi(Dataset(), VALUES, Display(), []) is None
    assert find_voi(window("", ""), VALUES, Display(), []) is None


def test_the_formulas_of_the_standard_at_their_corners() -> None:
    # PS3.3 C.11.2.1.2.1, note 2: centre 2048 and width 4096 map 0..4095 onto the whole output range
    linear = found(window(2048, 4096))[1](np.array([0.0, 2047.5, 4095.0]))
    np.testing.assert_allclose(linear, [0, 0.5, 1], atol=1e-12)
    exact = found(window(2048, 4096, "LINEAR_EXACT"))[1](np.array([0.0, 2048.0, 4096.0]))
    np.testing.assert_allclose(exact, [0, 0.5, 1], atol=1e-12)
    sigmoid = found(window(100, 40, "SIGMOID"))[1](np.array([80.0, 100.0, 120.0]))
    np.testing.assert_allclose(sigmoid, [1 / (1 + np.e**2), 0.5, 1 / (1 + np.e**-2)], atol=1e-12)


def test_a_width_of_one_is_a_threshold() -> None:
    # PS3.3 C.11.2.1.2.1, note 3
    np.testing.assert_array_equal(found(window(100, 1))[1](np.array([98.0, 99.0, 100.0, 101.0])), [0, 0, 1, 1])


@pytest.mark.parametrize(("function", "width"), [("SIGMOID", "1e-300"), ("LINEAR_EXACT", "1e-300")])
def test_extreme_widths_stay_finite(function: str, width: str) -> None:
    shares = found(window(100, width, function))[1](np.array([-1e6, 99.0, 101.0, 1e6]))
    np.testing.assert_array_equal(shares, [0, 0, 1, 1])


def test_the_normal_window_is_chosen_wherever_it_stands() -> None:
    source, transform = found(window([10, 20, 30], [5, 6, 7], explanation=["HARDER", "NORMAL", "SOFTER"]))
    assert source == "window 'NORMAL' (LINEAR)"
    values = np.linspace(0, 50, 101)
    np.testing.assert_array_equal(transform(values), found(window(20, 6))[1](values))


def test_else_the_first_window_is_chosen_and_free_text_is_not_repeated() -> None:
    source, transform = found(window([10, 20], [5, 6], "SIGMOID", ["Doe Jane", "other"]))
    assert source == "window 1 of 2 (SIGMOID)"
    values = np.linspace(0, 50, 101)
    np.testing.assert_array_equal(transform(values), found(window(10, 5, "SIGMOID"))[1](values))


def test_the_normal_table_is_chosen_among_filled_ones() -> None:
    items = []
    for explanation, entries in (("NORMAL", None), ("HARDER", [0, 0]), ("normal", [4095, 0])):
        item = Dataset()
        item.LUTExplanation = explanation
        if entries:
            item.LUTDescriptor, item.LUTData = [2, 0, 12], entries
        items.append(item)
    dataset = Dataset()
    dataset.VOILUTSequence = items
    source, transform = found(dataset)
    assert source == "VOI LUT 'NORMAL'"
    assert transform(np.array([0.0, 1.0])).tolist() == [1.0, 0.0]


@pytest.mark.parametrize(
    "dataset",
    [
        window(100, 0),
        window(100, "0.5"),
        window(100, -5),
        window(100, 0, "LINEAR_EXACT"),
        window(100, 0, "SIGMOID"),
        window("", "100"),
    ],
)
def test_a_window_without_meaning_is_passed_over_and_noted(dataset: Dataset) -> None:
    notes: list[Note] = []
    assert find_voi(dataset, VALUES, Display(), notes) is None
    assert find_voi(dataset, VALUES, Display(0), notes) is None
    assert codes(notes) == ([] if not dataset.WindowCenter else ["window_meaningless"])


def test_the_next_window_that_means_something_is_used() -> None:
    notes: list[Note] = []
    found = find_voi(window([5, 100, 7], [0, 40]), VALUES, Display(), notes)
    assert found is not None
    np.testing.assert_array_equal(found[1](VALUES), _linear(VALUES, 100, 40))
    assert codes(notes) == ["window_values_contradicted", "window_meaningless"]
    with pytest.raises(MammogramError, match="number 0"):  # asked for, and means nothing
        find_voi(window([5, 100], [0, 40]), VALUES, Display(0), notes)


def test_an_unknown_function_is_linear() -> None:
    notes: list[Note] = []
    found = find_voi(window(100, 10, "CUBIC"), VALUES, Display(), notes)
    assert found is not None
    assert found[0] == "window (LINEAR)"
    assert codes(notes) == ["voi_function_unknown"]


@given(st.floats(1e-6, 1e-2), st.floats(0.05, 0.999))
def test_a_width_below_1_is_a_distance_if_it_spans_several_values(slope: float, width: float) -> None:
    values = VALUES * slope
    notes: list[Note] = []
    found = find_voi(window(f"{width / 2:.9g}", f"{width:.9g}"), values, Display(), notes)
    assert found is not None
    assert found[0] == "window (LINEAR_EXACT)"
    np.testing.assert_allclose(found[1](values), np.clip(values / width, 0, 1), atol=1e-6)
    assert codes(notes) == ["window_width_below_1"]
