from __future__ import annotations

import pytest
from pydicom.dataset import Dataset

from mammo_hf.dicom.header import PixelSize, find_spacing


def size(measured: list[float] | None = None, **keywords: object) -> PixelSize:
    dataset = Dataset()
    for keyword, value in keywords.items():
        setattr(dataset, keyword, value)
    if measured is not None:
        measures, group = Dataset(), Dataset()
        measures.PixelSpacing = measured
        group.PixelMeasuresSequence = [measures]
        dataset.PerFrameFunctionalGroupsSequence = [group]
    return find_spacing(dataset)


def test_silence_is_none() -> None:
    assert size() == PixelSize(None, None, ())


def test_imager_spacing_is_brought_into_the_breast() -> None:
    plain = size(ImagerPixelSpacing=[0.07, 0.08])
    assert (plain.spacing_mm, plain.source) == ((0.07, 0.08), "ImagerPixelSpacing")
    magnified = size(ImagerPixelSpacing=[0.1, 0.2], EstimatedRadiographicMagnificationFactor=1.25)
    assert magnified.spacing_mm == pytest.approx((0.08, 0.16))
    assert magnified.source == "ImagerPixelSpacing / EstimatedRadiographicMagnificationFactor"


def test_the_other_attributes_in_order() -> None:
    assert size([0.3, 0.3], PixelSpacing=[0.1, 0.2]).source == "PixelSpacing"
    tomosynthesis = size([0.3, 0.4], NominalScannedPixelSpacing=[0.05, 0.05])
    assert (tomosynthesis.spacing_mm, tomosynthesis.source) == ((0.3, 0.4), "PixelMeasuresSequence")
    film = size(NominalScannedPixelSpacing=[0.042, 0.042])
    assert (film.spacing_mm, film.source) == ((0.042, 0.042), "NominalScannedPixelSpacing")


@pytest.mark.parametrize("pixel", [[0.1, 0.1], [0.08, 0.08]])
def test_pixel_spacing_may_be_either_plane(pixel: list[float]) -> None:
    agreed = size(ImagerPixelSpacing=[0.1, 0.1], PixelSpacing=pixel, EstimatedRadiographicMagnificationFactor=1.25)
    assert agreed.contradictions == ()


def test_contradictions_are_reported() -> None:
    odd = size(ImagerPixelSpacing=[0.1, 0.1], PixelSpacing=[0.5, 0.5])
    assert odd.spacing_mm == (0.1, 0.1)
    assert "PixelSpacing is neither" in odd.contradictions[0]


@pytest.mark.parametrize(
    ("value", "note"),
    [([0, 0.1], "not positive"), ([0.1], "has 1 values"), ([0.1, 0.1, 0.1], "has 3 values"), ([-1, 1], "not positive")],
)
def test_spacing_without_meaning_is_left_out_and_reported(value: list[float], note: str) -> None:
    wrong = size(ImagerPixelSpacing=value, PixelSpacing=[0.2, 0.2])
    assert (wrong.spacing_mm, wrong.source) == ((0.2, 0.2), "PixelSpacing")
    assert note in wrong.contradictions[0]


def test_a_magnification_of_zero_is_left_out_and_reported() -> None:
    wrong = size(ImagerPixelSpacing=[0.1, 0.1], EstimatedRadiographicMagnificationFactor=0)
    assert wrong.spacing_mm == (0.1, 0.1)
    assert wrong.contradictions == ("EstimatedRadiographicMagnificationFactor is not positive",)
