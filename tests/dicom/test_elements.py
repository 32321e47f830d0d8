from __future__ import annotations

from io import BytesIO

import numpy as np
import pydicom
import pytest
from pydicom.dataset import Dataset
from pydicom.uid import ExplicitVRBigEndian, ExplicitVRLittleEndian, ImplicitVRLittleEndian

from mammo_hf.dicom import MammogramError, mammogram_dataset
from mammo_hf.dicom.parsing import group_items, items, numbers, text, texts, word, words


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
    assert numbers(dataset, "WindowCenter") == (100.5, -300.0)
    assert numbers(dataset, "WindowWidth") == ()


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


@pytest.mark.parametrize("value", ["abc", "1\\nan", "1,5", "inf"])
def test_numbers_that_are_none_are_refused_without_repeating_them(value: str) -> None:
    dataset = Dataset()
    raw = pydicom.dataelem.RawDataElement(
        pydicom.tag.Tag("WindowCenter"), "DS", len(value), value.encode(), 0, False, True
    )
    dataset[raw.tag] = raw
    with pytest.raises(MammogramError) as caught:
        numbers(dataset, "WindowCenter")
    assert "WindowCenter" in str(caught.value)
    assert value not in str(caught.value)


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
