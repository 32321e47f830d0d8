from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from pydicom.dataelem import RawDataElement
from pydicom.dataset import Dataset
from pydicom.pixels import apply_modality_lut, apply_voi_lut
from pydicom.tag import Tag

from mammo_hf.dicom import Display, PresentationIntent, mammogram_dataset
from mammo_hf.dicom.intensity import IntensityTable, intensity_table
from mammo_hf.dicom.pixels import image_pixel
from mammo_hf.notes import codes


def made(
    dataset: Dataset, intent: PresentationIntent = PresentationIntent.UNKNOWN, **choices: object
) -> IntensityTable:
    """The table of a dataset, by its full range if there is no window."""
    display = Display(on_missing_window="full_range", **choices)
    return intensity_table(dataset, image_pixel(dataset, []), intent, display, lambda: np.zeros((1, 1), np.uint16))


@dataclass(frozen=True)
class Kind:
    """What is free in a grayscale image: the type of its stored values and which end is bright."""

    bits: int
    signed: bool
    photometric: str

    @property
    def stored(self) -> np.ndarray:
        first = -(1 << self.bits - 1) if self.signed else 0
        return np.arange(first, first + (1 << self.bits), dtype=np.int32)

    def dataset(self, **keywords: object) -> Dataset:
        pixels = np.zeros((2, 2), np.int16 if self.signed else np.uint16)
        return mammogram_dataset(pixels, bits_stored=self.bits, photometric=self.photometric, **keywords)

    def table(self, dataset: Dataset, prefer: str = "lut") -> IntensityTable:
        return made(dataset, prefer=prefer)

    def by_pydicom(self, dataset: Dataset, low: float, high: float) -> np.ndarray:
        """pydicom's chain for every stored value, scaled to the ends of its output range, inverted for MONOCHROME1."""
        with np.errstate(over="ignore"):
            shown = apply_voi_lut(apply_modality_lut(self.stored, dataset), dataset).astype(np.float64)
        share = (shown - low) / (high - low)
        return 1 - share if self.photometric == "MONOCHROME1" else share


kinds = st.builds(Kind, st.integers(8, 16), st.booleans(), st.sampled_from(["MONOCHROME1", "MONOCHROME2"]))
eighths = st.integers(-40_000, 40_000).map(lambda n: n / 8)
positive_eighths = st.integers(1, 400).map(lambda n: n / 8)
functions = st.sampled_from(["LINEAR", "LINEAR_EXACT", "SIGMOID", None])
depths = st.sampled_from([8, *range(10, 17)])


def table_item(first: int, depth: int, count: int, seed: int, *, as_bytes: bool = False) -> Dataset:
    entries = np.random.default_rng(seed).integers(0, 1 << depth, count)
    entries[count // 2] = (1 << depth) - 1  # the largest entry needs the bits that the descriptor announces
    item = Dataset()
    item.add_new("LUTDescriptor", "SS" if first < 0 else "US", [count % (1 << 16), first, depth])
    if as_bytes:
        item.add_new("LUTData", "OW", entries.astype("<u2").tobytes())
    else:
        item.add_new("LUTData", "US", [int(entry) for entry in entries])
    return item


@given(kinds, positive_eighths, eighths, functions, eighths, st.integers(8, 80_000).map(lambda n: n / 8))
def test_a_window_equals_pydicom_for_every_stored_value(
    kind: Kind, slope: float, intercept: float, function: str | None, center: float, width: float
) -> None:
    dataset = kind.dataset(
        RescaleSlope=slope,
        RescaleIntercept=intercept,
        WindowCenter=center,
        WindowWidth=width,
        VOILUTFunction=function,
    )
    low, high = kind.stored[0] * slope + intercept, kind.stored[-1] * slope + intercept
    table = kind.table(dataset)
    np.testing.assert_allclose(table.values, kind.by_pydicom(dataset, low, high), rtol=0, atol=1e-6)
    assert table.first_stored_value == kind.stored[0]
    assert table.source == f"window ({function or 'LINEAR'})"


@given(kinds, positive_eighths, eighths)
def test_without_a_window_the_full_range_equals_pydicom(kind: Kind, slope: float, intercept: float) -> None:
    dataset = kind.dataset(RescaleSlope=slope, RescaleIntercept=intercept)
    low, high = kind.stored[0] * slope + intercept, kind.stored[-1] * slope + intercept
    table = kind.table(dataset)
    np.testing.assert_allclose(table.values, kind.by_pydicom(dataset, low, high), rtol=0, atol=1e-6)
    assert table.source == "full range (no window)"
    assert {table.values[0], table.values[-1]} == {0.0, 1.0}


@given(kinds, depths, st.integers(2, 5000), st.integers(-32768, 65535), st.integers(0, 99), st.booleans())
def test_a_voi_lut_equals_pydicom_for_every_stored_value(
    kind: Kind, depth: int, count: int, first: int, seed: int, as_bytes: bool
) -> None:
    first = first if kind.signed == (first < 0) else abs(first) % (1 << kind.bits)
    if depth == 8 and (kind.bits > 8 or first < 0):
        depth = 10  # pydicom's index wraps around in 8 bits
    dataset = kind.dataset(VOILUTSequence=[table_item(first, depth, count, seed, as_bytes=as_bytes)])
    del dataset.RescaleSlope, dataset.RescaleIntercept
    expected = kind.by_pydicom(dataset, 0, (1 << depth) - 1)
    np.testing.assert_allclose(kind.table(dataset).values, expected, rtol=0, atol=1e-6)
    assert kind.table(dataset).source == "VOI LUT"


@given(kinds, st.sampled_from([8, 16]), st.integers(2, 5000), st.integers(0, 255), st.integers(0, 99), st.booleans())
def test_a_modality_lut_equals_pydicom_alone_and_under_a_window(
    kind: Kind, depth: int, count: int, first: int, seed: int, windowed: bool
) -> None:
    window = {"WindowCenter": 100, "WindowWidth": 77} if windowed else {}
    dataset = kind.dataset(ModalityLUTSequence=[table_item(first, depth, count, seed)], **window)
    del dataset.RescaleSlope, dataset.RescaleIntercept
    # under a window pydicom's output has the range of the descriptor; without one it is that of the entries in reach,
    # since a table of 12-bit entries is often called one of 16
    reached = apply_modality_lut(kind.stored, dataset)
    assume(reached.min() < reached.max())  # a table that gives one value to all is passed over
    low, high = (0, (1 << depth) - 1) if windowed else (int(reached.min()), int(reached.max()))
    expected = kind.by_pydicom(dataset, low, high)
    np.testing.assert_allclose(kind.table(dataset).values, expected, rtol=0, atol=1e-6)


def test_a_modality_lut_that_gives_one_value_to_all_is_passed_over() -> None:
    kind, window = Kind(8, True, "MONOCHROME2"), {"WindowCenter": 100, "WindowWidth": 77}
    table = kind.table(kind.dataset(ModalityLUTSequence=[table_item(127, 8, 2, 0)], **window))
    np.testing.assert_array_equal(table.values, kind.table(kind.dataset(**window)).values)
    assert codes(table.notes) == ["modality_meaningless"]


@pytest.mark.filterwarnings("ignore:Applying a VOI LUT on a float input")
@given(kinds, positive_eighths, eighths, st.integers(2, 3000), st.integers(0, 99))
def test_a_rescale_then_a_voi_lut_equals_pydicom(
    kind: Kind, slope: float, intercept: float, count: int, seed: int
) -> None:
    low, high = kind.stored[0] * slope + intercept, kind.stored[-1] * slope + intercept
    first = int(np.clip(low, -32768, 65535))
    assume(0 <= first <= high or low <= first < 0)
    item = table_item(first, 12, count, seed)
    dataset = kind.dataset(RescaleSlope=slope, RescaleIntercept=intercept, VOILUTSequence=[item])
    mine, expected = kind.table(dataset).values, kind.by_pydicom(dataset, 0, 4095)
    # beyond 65,535 entries after the first pydicom's index wraps around
    within = kind.stored * slope + intercept - first < 65536
    np.testing.assert_allclose(mine[within], expected[within], rtol=0, atol=1e-6)


@given(kinds, st.integers(-40, 40), st.integers(-40, 40), st.booleans())
def test_padding_is_background_and_changes_nothing_else(kind: Kind, value: int, limit: int, ranged: bool) -> None:
    if not kind.signed:
        value, limit = abs(value), abs(limit)
    plain = kind.table(kind.dataset()).values
    dataset = kind.dataset(PixelPaddingValue=value, PixelPaddingRangeLimit=limit if ranged else None)
    low, high = (min(value, limit), max(value, limit)) if ranged else (value, value)
    padding = (kind.stored >= low) & (kind.stored <= high)
    table = kind.table(dataset).values
    assert not table[padding].any()
    np.testing.assert_array_equal(table[~padding], plain[~padding])


@pytest.mark.parametrize(
    ("bits", "value", "expected"), [(12, 2048, 2048 / 4095), (16, 2048, 2048 / 65535), (8, 51, 0.2)]
)
def test_the_full_range_is_that_of_the_bits_stored(bits: int, value: int, expected: float) -> None:
    # a 12-bit image divided by 65535 would be nearly black
    table = Kind(bits, False, "MONOCHROME2").table(Kind(bits, False, "MONOCHROME2").dataset())
    assert table.values.shape == (1 << bits,)
    assert table.values.dtype == np.float32
    assert table.values[value] == pytest.approx(expected, abs=1e-7)
    assert table.values[-1] == 1.0


def test_a_negative_slope_keeps_the_window_rising_where_pydicom_inverts_it() -> None:
    kind = Kind(12, False, "MONOCHROME2")
    dataset = kind.dataset(RescaleSlope=-1, RescaleIntercept=4095, WindowCenter=1000, WindowWidth=500)
    values = kind.table(dataset).values
    # PS3.3 C.11.2.1.2.1: modality values below the window are black, those above it white
    assert values[4095 - 700] == 0.0
    assert values[4095 - 1300] == 1.0
    np.testing.assert_allclose(1 - values, kind.by_pydicom(dataset, 0, 4095), rtol=0, atol=1e-6)


def test_monochrome1_and_its_presentation_lut_shape_invert_once() -> None:
    dark, bright = Kind(10, False, "MONOCHROME2"), Kind(10, False, "MONOCHROME1")
    expected = 1 - dark.table(dark.dataset()).values
    np.testing.assert_allclose(bright.table(bright.dataset(PresentationLUTShape="INVERSE")).values, expected, atol=1e-7)
    np.testing.assert_allclose(bright.table(bright.dataset(PresentationLUTShape=None)).values, expected, atol=1e-7)
    np.testing.assert_allclose(dark.table(dark.dataset(PresentationLUTShape="INVERSE")).values, expected, atol=1e-7)


def test_the_lut_is_preferred_and_the_window_can_be_asked_for() -> None:
    kind = Kind(12, False, "MONOCHROME2")
    window = {"WindowCenter": 2000, "WindowWidth": 1000}
    dataset = kind.dataset(VOILUTSequence=[table_item(0, 12, 4096, 1)], **window)
    assert kind.table(dataset).source == "VOI LUT"
    by_window = kind.table(dataset, prefer="window")
    assert by_window.source == "window (LINEAR)"
    np.testing.assert_array_equal(by_window.values, kind.table(kind.dataset(**window)).values)


def test_an_empty_lut_item_is_passed_over() -> None:
    kind = Kind(12, False, "MONOCHROME2")
    dataset = kind.dataset(VOILUTSequence=[Dataset()], ModalityLUTSequence=[Dataset()])
    np.testing.assert_array_equal(kind.table(dataset).values, kind.table(kind.dataset()).values)


def test_a_lut_after_a_modality_lut_is_indexed_by_the_latter_alone() -> None:
    # PS3.3 C.11.1: a Modality LUT stands in place of the rescale, which must not touch the range either
    kind = Kind(8, False, "MONOCHROME2")
    item = table_item(0, 16, 256, 3)
    keywords = {"ModalityLUTSequence": [item], "WindowCenter": 30000, "WindowWidth": 9000}
    with_rescale = kind.dataset(RescaleSlope=3, RescaleIntercept=-17, **keywords)
    without = kind.dataset(RescaleSlope=None, RescaleIntercept=None, **keywords)
    np.testing.assert_array_equal(kind.table(with_rescale).values, kind.table(without).values)


@pytest.mark.parametrize("group", ["SharedFunctionalGroupsSequence", "PerFrameFunctionalGroupsSequence"])
def test_functional_groups_hold_the_rescale_and_the_window(group: str) -> None:
    kind = Kind(10, False, "MONOCHROME2")
    rescale, window, macro = Dataset(), Dataset(), Dataset()
    rescale.RescaleSlope, rescale.RescaleIntercept = 2, -100
    window.WindowCenter, window.WindowWidth = 700, 300
    macro.PixelValueTransformationSequence, macro.FrameVOILUTSequence = [rescale], [window]
    volume = kind.dataset(RescaleSlope=None, RescaleIntercept=None, **{group: [macro]})
    flat = kind.dataset(RescaleSlope=2, RescaleIntercept=-100, WindowCenter=700, WindowWidth=300)
    np.testing.assert_array_equal(kind.table(volume).values, kind.table(flat).values)


def test_for_processing_is_said() -> None:
    table = made(Kind(12, False, "MONOCHROME1").dataset(), PresentationIntent.FOR_PROCESSING)
    assert table.source == "full range (no window), For Processing"


@pytest.mark.parametrize(("slope", "intercept"), [(0, 5), ("1e308", 0), ("1e-20", 1)])
def test_a_rescale_that_leaves_no_range_is_passed_over(slope: object, intercept: object) -> None:
    kind = Kind(12, False, "MONOCHROME2")
    table = kind.table(kind.dataset(RescaleSlope=slope, RescaleIntercept=intercept))
    np.testing.assert_array_equal(table.values, kind.table(kind.dataset()).values)
    assert codes(table.notes) == ["modality_meaningless"]


@given(
    kinds,
    st.sampled_from(["0", "-5", "nan", "1e999", "", "abc"]),
    st.sampled_from([{}, {"RescaleSlope": 0, "RescaleIntercept": 3}, {"PixelPaddingValue": [1, 2]}]),
    st.sampled_from([None, [4096, 0, 12]]),
    st.sampled_from(["robust", "full_range"]),
)
def test_attributes_without_meaning_leave_the_picture_of_a_file_without_them(
    kind: Kind, width: str, others: dict[str, object], descriptor: list[int] | None, rule: str
) -> None:
    dataset = kind.dataset(**others)
    for keyword, value in (("WindowCenter", "100"), ("WindowWidth", width)):
        raw = RawDataElement(Tag(keyword), "DS", len(value), value.encode(), 0, False, True)
        dataset[raw.tag] = raw
    if descriptor:
        item = Dataset()
        item.LUTDescriptor, item.LUTData = descriptor, bytes(100)
        dataset.VOILUTSequence = [item]
    display = Display(on_missing_window=rule)

    def table(dataset: Dataset) -> IntensityTable:
        sample = (np.arange(600).reshape(20, 30) % (1 << kind.bits - 1)).astype(np.int16 if kind.signed else np.uint16)
        return intensity_table(dataset, image_pixel(dataset, []), PresentationIntent.UNKNOWN, display, lambda: sample)

    found, expected = table(dataset), table(kind.dataset())
    np.testing.assert_array_equal(found.values, expected.values)
    assert found.source == expected.source
    assert len(found.notes) > len(expected.notes) or (width == "" and not others and not descriptor)


def test_the_table_cannot_be_changed_by_accident() -> None:
    kind = Kind(8, False, "MONOCHROME2")
    with pytest.raises(ValueError, match="read-only"):
        kind.table(kind.dataset()).values[0] = 1
