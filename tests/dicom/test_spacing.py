from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydicom.dataset import Dataset

from mammo_hf.dicom.header import Spacing, find_spacing


def size(measured: list[float] | None = None, **keywords: object) -> tuple[Spacing | None, str | None, list[str]]:
    dataset = Dataset()
    for keyword, value in keywords.items():
        setattr(dataset, keyword, value)
    if measured is not None:
        measures, group = Dataset(), Dataset()
        measures.PixelSpacing = measured
        group.PixelMeasuresSequence = [measures]
        dataset.PerFrameFunctionalGroupsSequence = [group]
    notes: list[str] = []
    return *find_spacing(dataset, notes), notes


def test_silence_is_none() -> None:
    assert size() == (None, None, [])


def test_imager_spacing_is_brought_into_the_breast() -> None:
    assert size(ImagerPixelSpacing=[0.07, 0.08]) == ((0.07, 0.08), "ImagerPixelSpacing", [])
    spacing, source, _ = size(ImagerPixelSpacing=[0.1, 0.2], EstimatedRadiographicMagnificationFactor=1.25)
    assert spacing == pytest.approx((0.08, 0.16))
    assert source == "ImagerPixelSpacing / EstimatedRadiographicMagnificationFactor"


def test_a_magnification_below_1_is_noted_and_not_used() -> None:
    spacing, source, notes = size(ImagerPixelSpacing=[0.07, 0.08], EstimatedRadiographicMagnificationFactor=0.9)
    assert (spacing, source) == ((0.07, 0.08), "ImagerPixelSpacing")
    assert notes == ["EstimatedRadiographicMagnificationFactor is below 1 and is not used"]


positive = st.floats(0.01, 3).map(lambda value: round(value, 4))


@given(positive, positive, st.floats(-2, 3).map(lambda value: round(value, 4)))
def test_spacing_is_divided_by_a_magnification_of_1_or_more_alone(rows: float, columns: float, factor: float) -> None:
    found, source, notes = size(ImagerPixelSpacing=[rows, columns], EstimatedRadiographicMagnificationFactor=factor)
    used = factor if factor >= 1 else 1.0
    assert found == pytest.approx((rows / used, columns / used))
    assert (source == "ImagerPixelSpacing") == (factor <= 1)
    assert bool(notes) == (factor < 1)


def test_the_other_attributes_in_order() -> None:
    assert size([0.3, 0.3], PixelSpacing=[0.1, 0.2])[1] == "PixelSpacing"
    tomosynthesis = size([0.3, 0.4], NominalScannedPixelSpacing=[0.05, 0.05])
    assert tomosynthesis == ((0.3, 0.4), "PixelMeasuresSequence", [])
    film = size(NominalScannedPixelSpacing=[0.042, 0.042])
    assert film == ((0.042, 0.042), "NominalScannedPixelSpacing", [])


@pytest.mark.parametrize("pixel", [[0.1, 0.1], [0.08, 0.08]])
def test_pixel_spacing_may_be_either_plane(pixel: list[float]) -> None:
    *_, notes = size(ImagerPixelSpacing=[0.1, 0.1], PixelSpacing=pixel, EstimatedRadiographicMagnificationFactor=1.25)
    assert notes == []


def test_contradictions_are_reported() -> None:
    spacing, _, notes = size(ImagerPixelSpacing=[0.1, 0.1], PixelSpacing=[0.5, 0.5])
    assert spacing == (0.1, 0.1)
    assert "PixelSpacing is neither" in notes[0]


@pytest.mark.parametrize(
    ("value", "note"),
    [([0, 0.1], "not positive"), ([0.1], "has 1 values"), ([0.1, 0.1, 0.1], "has 3 values"), ([-1, 1], "not positive")],
)
def test_spacing_without_meaning_is_left_out_and_reported(value: list[float], note: str) -> None:
    spacing, source, notes = size(ImagerPixelSpacing=value, PixelSpacing=[0.2, 0.2])
    assert (spacing, source) == ((0.2, 0.2), "PixelSpacing")
    assert note in notes[0]


def test_a_magnification_of_zero_is_left_out_and_reported() -> None:
    spacing, _, notes = size(ImagerPixelSpacing=[0.1, 0.1], EstimatedRadiographicMagnificationFactor=0)
    assert spacing == (0.1, 0.1)
    assert notes == ["EstimatedRadiographicMagnificationFactor is not positive"]
