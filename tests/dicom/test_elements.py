from __future__ import annotations

from io import BytesIO

import numpy as np
import pydicom
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydicom.dataset import Dataset
from pydicom.uid import ExplicitVRBigEndian, ExplicitVRLittleEndian, ImplicitVRLittleEndian

from mammo_hf.dicom import MammogramError, mammogram_dataset
from mammo_hf.dicom.parsing import group_items, items, numbers, text, texts, word, words
from mammo_hf.notes import Note, codes


@pytest.fixture(params=[None, ExplicitVRLittleEndian, ImplicitVRLittleEndian, ExplicitVRBigEndian], ids=str)
def dataset(request: pytest.FixtureRequest) -> Dataset:
    """The same values in memory and as read, raw, from each byte order and VR method."""
    table = Dataset()
    table.LUTDescriptor = [3, -10, 16]
    table.add_new("LUTData", "US", [1, 256, 65535])
    made = mammogram_dataset(
        np.zeros((2, 2), np.int16),
        WindowCenter=["100.5", "-3e2"],
        SeriesDescription=" full mammogram images ",
        ImageComments="",
        PixelPaddingValue=-2000,
        VOILUTSequence=[table],
        TransferSyntaxUID=request.param or ExplicitVRLittleEndian,
    )
    if request.param is None:
        return made
    file = BytesIO()
    made.save_as(file, enforce_file_format=True)
    return pydicom.dcmread(BytesIO(file.getvalue()))


def test_text(dataset: Dataset) -> None:
    assert text(dataset, "SeriesDescription") == "full mammogram images"
    assert texts(dataset, "ImageType") == ("DERIVED", "PRIMARY")
    assert text(dataset, "ImageComments") == text(dataset, "StationName") == ""


def test_numbers(dataset: Dataset) -> None:
    notes: list[Note] = []
    assert numbers(dataset, "WindowCenter", notes) == (100.5, -300.0)
    assert numbers(dataset, "WindowWidth", notes) == ()
    assert notes == []


def test_words_are_unsigned_whatever_their_type(dataset: Dataset) -> None:
    assert word(dataset, "Rows") == 2
    assert word(dataset, "PixelPaddingValue") == 65536 - 2000
    assert word(dataset, "SmallestImagePixelValue") is None
    (table,) = items(dataset, "VOILUTSequence")
    assert words(table, "LUTDescriptor").tolist() == [3, 65526, 16]
    assert words(table, "LUTData").tolist() == [1, 256, 65535]
    # pydicom's conversion of the element must not change what is read
    assert table.LUTDescriptor is not None
    assert words(table, "LUTData").tolist() == [1, 256, 65535]


@given(
    st.lists(
        st.one_of(
            st.sampled_from(["", "nan", "inf", "-inf", "1e999", "abc", "1.2.3", "1,2,3", "1.000,5", ",", "0x", " 12 "]),
            st.floats(allow_nan=False, allow_infinity=False, width=32).map(lambda value: f"{value:.9g}"),
            st.floats(allow_nan=False, allow_infinity=False, width=32).map(
                lambda value: f"{value:.9g}".replace(".", ",")
            ),
        ),
        max_size=4,
    )
)
def test_each_number_is_read_or_noted_without_repeating_it(parts: list[str]) -> None:
    dataset, written = Dataset(), "\\".join(parts)
    raw = pydicom.dataelem.RawDataElement(
        pydicom.tag.Tag("WindowCenter"), "DS", len(written), written.encode(), 0, False, True
    )
    dataset[raw.tag] = raw
    notes: list[Note] = []
    values = numbers(dataset, "WindowCenter", notes)
    while parts and not parts[-1].strip():
        parts.pop()
    expected = [_expected(part) for part in parts]
    np.testing.assert_array_equal(values, expected)
    assert ("attribute_malformed" in codes(notes)) == bool(np.isnan(expected).any())
    assert ("decimal_comma" in codes(notes)) == any(_has_comma(part) for part in parts)
    assert all(len(part) < 4 or part not in note for part in parts for note in notes)


def _has_comma(part: str) -> bool:
    return part.count(",") == 1 and "." not in part and np.isfinite(_expected(part))


def _expected(part: str) -> float:
    try:
        value = float(part.replace(",", ".") if "." not in part else part)
    except ValueError:
        return np.nan
    return value if np.isfinite(value) else np.nan


def test_several_words_or_none_at_all_are_refused() -> None:
    dataset = Dataset()
    dataset.Rows = [3, 4]
    with pytest.raises(MammogramError, match="Rows has 2 values"):
        word(dataset, "Rows")
    tag = pydicom.tag.Tag("Columns")
    dataset[tag] = pydicom.dataelem.RawDataElement(tag, "US", 3, b"abc", 0, False, True)
    with pytest.raises(MammogramError, match="Columns"):
        word(dataset, "Columns")


def test_text_of_any_encoding_is_read() -> None:
    dataset = Dataset()
    tag = pydicom.tag.Tag("SeriesDescription")
    for encoding in ("utf-8", "latin-1"):
        value = "Schädel".encode(encoding)
        dataset[tag] = pydicom.dataelem.RawDataElement(tag, "LO", len(value), value, 0, False, True)
        assert text(dataset, "SeriesDescription") == "Schädel"


def test_the_shared_group_is_preferred_to_those_of_the_frames() -> None:
    shared, first, second = Dataset(), Dataset(), Dataset()
    for group, center in ((shared, 1), (first, 2), (second, 3)):
        inner = Dataset()
        inner.WindowCenter = center
        group.FrameVOILUTSequence = [inner]
    dataset = Dataset()
    assert group_items(dataset, "FrameVOILUTSequence") == ()
    dataset.PerFrameFunctionalGroupsSequence = [first, second]
    assert [item.WindowCenter for item in group_items(dataset, "FrameVOILUTSequence")] == [2, 3]
    dataset.SharedFunctionalGroupsSequence = [shared]
    assert [item.WindowCenter for item in group_items(dataset, "FrameVOILUTSequence")] == [1]
