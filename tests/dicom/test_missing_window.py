"""For Processing images and those without a window: what is shown, and what it is called."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mammo_hf.dicom import Mammogram, MammogramError, mammogram_dataset, read_mammogram
from mammo_hf.errors import UsageError

RAW = {"PresentationIntentType": "FOR PROCESSING"}
LINEAR = {**RAW, "PixelIntensityRelationship": "LIN", "PixelIntensityRelationshipSign": 1}


def attenuation() -> np.ndarray:
    """Of a left breast along the beam: 0 in air, 1.5 to 4 in tissue, (300, 200)."""
    rows, columns = np.mgrid[:300, :200]
    inside = ((rows - 150) / 120) ** 2 + (columns / 140) ** 2 < 1
    gland = np.exp(-(((rows - 150) / 50) ** 2 + ((columns - 60) / 40) ** 2))
    return inside * (1.5 + 2.5 * gland)


def exposed(scale: float, seed: int = 0) -> np.ndarray:
    beam = scale * np.exp(-attenuation())
    return np.random.default_rng(seed).normal(beam, np.sqrt(beam) / 4).clip(1, 16383).astype(np.uint16)


def shown(pixels: np.ndarray, bits: int = 14, **keywords: object) -> Mammogram:
    return read_mammogram(mammogram_dataset(pixels, bits_stored=bits, **keywords))


def correlation(first: np.ndarray, second: np.ndarray) -> float:
    return float(np.corrcoef(first.ravel(), second.ravel())[0, 1])


@pytest.mark.parametrize("photometric", ["MONOCHROME1", "MONOCHROME2"])
def test_what_the_writer_says_of_raw_values_is_what_the_reader_takes_them_for(photometric: str) -> None:
    # PS3.3 C.8.11.3.1.2: the sign that goes with the photometric interpretation, and values linear in the beam
    beam = exposed(9000) if photometric == "MONOCHROME1" else 16383 - exposed(9000)
    mammogram = shown(beam, photometric=photometric, **RAW)
    assert mammogram.header.contradictions == ()
    assert mammogram.intensity_source.startswith("log, percentiles")
    tissue = attenuation() > 0
    assert correlation(mammogram.intensity(0)[tissue], attenuation()[tissue]) > 0.8


@settings(max_examples=20)
@given(st.floats(2000, 16000), st.sampled_from(["MONOCHROME1", "MONOCHROME2"]))
def test_a_raw_image_is_linear_in_the_attenuation_whatever_the_exposure(scale: float, photometric: str) -> None:
    mammogram = shown(exposed(scale), photometric=photometric, **LINEAR)
    assert mammogram.intensity_source == "log, percentiles inside the breast (no window), For Processing"
    intensity = mammogram.intensity(0)
    tissue = attenuation() > 0
    assert correlation(intensity[tissue], attenuation()[tissue]) > 0.98
    # Beer-Lambert: air at 0, the brightest tissue at 1, and what lies between in proportion
    assert np.median(intensity[~tissue]) < 0.02
    np.testing.assert_allclose(intensity[tissue].mean(), attenuation()[tissue].mean() / 4, atol=0.05)
    assert (intensity == 1).mean() < 0.02


@pytest.mark.parametrize(
    ("keywords", "pixels"),
    [
        ({"photometric": "MONOCHROME1", "PixelIntensityRelationshipSign": None}, exposed(9000)),
        ({"photometric": "MONOCHROME2", "PixelIntensityRelationshipSign": None}, exposed(9000)),
        ({"photometric": "MONOCHROME2", "PixelIntensityRelationshipSign": -1}, 16383 - exposed(9000)),
    ],
)
def test_which_end_is_air_comes_from_the_sign_then_monochrome1_then_the_image(
    keywords: dict[str, object], pixels: np.ndarray
) -> None:
    mammogram = shown(pixels, **{**LINEAR, **keywords})
    tissue = attenuation() > 0
    assert mammogram.intensity(0)[tissue].mean() > 0.3
    assert mammogram.intensity(0)[~tissue].mean() < 0.05
    assert correlation(mammogram.intensity(0)[tissue], attenuation()[tissue]) > 0.8


def test_logarithmic_values_are_not_logged_again() -> None:
    values = (2000 + 2500 * attenuation()).astype(np.uint16)
    mammogram = shown(values, **RAW, PixelIntensityRelationship="LOG", PixelIntensityRelationshipSign=-1)
    assert mammogram.intensity_source == "percentiles inside the breast (no window), For Processing"
    np.testing.assert_allclose(mammogram.intensity(0), np.clip(attenuation() / 4, 0, 1), atol=0.02)


def test_a_collimator_a_marker_and_padding_do_not_set_the_ends() -> None:
    plain = shown(exposed(9000), photometric="MONOCHROME1", **LINEAR).intensity(0)
    pixels = exposed(9000)
    pixels[:12], pixels[:, -10:] = 2, 3  # behind the collimator
    pixels[30:50, 150:170] = 60  # a marker of lead
    pixels[-20:] = 0
    other = shown(pixels, photometric="MONOCHROME1", PixelPaddingValue=0, **LINEAR).intensity(0)
    np.testing.assert_allclose(other[60:240, :100], plain[60:240, :100], atol=0.03)
    assert not other[-20:].any()


def test_the_window_of_a_raw_image_is_used_only_if_asked_for() -> None:
    window = {"WindowCenter": 4000, "WindowWidth": 5000}
    dataset = mammogram_dataset(exposed(9000), bits_stored=14, **window, **LINEAR)
    mammogram = read_mammogram(dataset)
    assert mammogram.intensity_source.startswith("log, percentiles")
    assert any("not meant for" in note for note in mammogram.header.contradictions)
    assert read_mammogram(dataset, window="normal").intensity_source == mammogram.intensity_source
    assert read_mammogram(dataset, window=0).intensity_source == "window (LINEAR), For Processing"
    assert read_mammogram(dataset, on_missing_window="full_range").intensity_source.startswith("full range")


def test_twelve_bit_values_called_sixteen_bit_are_spread() -> None:
    values = (300 + 900 * attenuation()).astype(np.uint16)
    mammogram = shown(values, bits=16)
    assert mammogram.intensity_source == "percentiles inside the breast (no window)"
    np.testing.assert_allclose(mammogram.intensity(0), np.clip(attenuation() / 4, 0, 1), atol=0.02)
    inverted = shown((65535 - values).astype(np.uint16), bits=16, photometric="MONOCHROME1")
    np.testing.assert_allclose(inverted.intensity(0), mammogram.intensity(0), atol=1e-4)


def test_an_image_that_uses_its_range_is_shown_over_it() -> None:
    # as CBIS-DDSM's films: nothing then depends on what one film happens to show
    values = (15 * 1000 * attenuation()).astype(np.uint16)
    mammogram = shown(values, bits=16)
    assert mammogram.intensity_source == "full range (no window)"
    np.testing.assert_allclose(mammogram.intensity(0), values / 65535, atol=1e-6)


@pytest.mark.parametrize("keywords", [{}, LINEAR, {**RAW, "photometric": "MONOCHROME1"}])
@pytest.mark.parametrize("value", [0, 77, 4095])
def test_an_image_that_shows_nothing_is_read(value: int, keywords: dict[str, object]) -> None:
    mammogram = shown(np.full((20, 30), value, np.uint16), bits=12, **keywords)
    assert mammogram.intensity_source.startswith("full range (no window)")


@pytest.mark.parametrize(("keywords", "reason"), [({}, "has no window and no VOI LUT"), (LINEAR, "is For Processing")])
def test_it_can_be_refused(keywords: dict[str, object], reason: str) -> None:
    with pytest.raises(MammogramError, match=reason):
        read_mammogram(mammogram_dataset(exposed(9000), bits_stored=14, **keywords), on_missing_window="raise")


@pytest.mark.parametrize(
    "option",
    [
        {"on_missing_window": "guess"},
        {"prefer": "both"},
        {"window": -1},
        {"window": " "},
        {"window": True},
    ],
)
def test_an_unknown_rule_is_a_usage_error(option: dict[str, object]) -> None:
    with pytest.raises(UsageError, match=r"use (one of|an index)"):
        read_mammogram(mammogram_dataset(exposed(9000)), **option)  # type: ignore[arg-type]
