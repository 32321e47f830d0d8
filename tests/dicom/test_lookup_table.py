from __future__ import annotations

import numpy as np
import pytest
from pydicom.dataset import Dataset

from mammo_hf.dicom.errors import MammogramError
from mammo_hf.dicom.intensity import LookupTable, lookup_table


def item(descriptor: list[int], data: bytes | list[int]) -> Dataset:
    dataset = Dataset()
    dataset.add_new("LUTDescriptor", "US", descriptor)
    dataset.add_new("LUTData", "OW" if isinstance(data, bytes) else "US", data)
    return dataset


def test_inputs_outside_take_the_first_and_the_last_entry() -> None:
    table = LookupTable(10, np.array([1.0, 2.0, 3.0]), 8)
    np.testing.assert_array_equal(
        table(np.array([-70000.0, 9, 10, 11.9, 12, 13, 300, 70000])), [1, 1, 1, 2, 3, 3, 3, 3]
    )


def test_eight_bit_entries_do_not_wrap_around() -> None:
    table = lookup_table(item([256, 0, 8], [*range(256)]), "VOI LUT", 0, 4095)
    assert table is not None
    assert table(np.array([255.0, 256.0, 300.0, 4095.0])).tolist() == [255, 255, 255, 255]


def test_packed_eight_bit_entries_lie_low_byte_first() -> None:
    for count in (5, 6):
        table = lookup_table(item([count, 0, 8], bytes(range(count)) + b"\0" * (count % 2)), "VOI LUT", 0, 255)
        assert table is not None
        assert table.entries.tolist() == [*range(count)]


def test_no_number_of_entries_means_65536() -> None:
    table = lookup_table(item([0, 0, 16], np.arange(65536, dtype="<u2").tobytes()), "VOI LUT", 0, 65535)
    assert table is not None
    assert (len(table.entries), table.entries[-1]) == (65536, 65535)


@pytest.mark.parametrize(
    ("word", "low", "high", "expected"),
    [
        (0xF800, -2048, 2047, -2048),  # written as US although the input is signed
        (0xF800, 0, 65535, 0xF800),
        (0xF800, 0, 4095, -2048),  # beyond every input unless it is signed
        (0xFC00, -1024, 64511, -1024),
        (40000, -1024, 64511, 40000),
        (100, -2048, 2047, 100),
    ],
)
def test_the_first_mapped_value_has_the_sign_that_the_input_needs(
    word: int, low: float, high: float, expected: int
) -> None:
    table = lookup_table(item([2, word, 16], [1, 2]), "VOI LUT", low, high)
    assert table is not None
    assert table.first == expected


def test_entries_wider_than_announced_widen_the_range() -> None:
    table = lookup_table(item([2, 0, 10], [0, 4095]), "VOI LUT", 0, 1)
    assert table is not None
    assert table.bits == 12


def test_an_empty_item_is_no_table() -> None:
    assert lookup_table(Dataset(), "VOI LUT", 0, 1) is None


@pytest.mark.parametrize(
    ("descriptor", "data"),
    [
        ([4, 0, 16], [1, 2, 3]),
        ([4, 0, 17], [1, 2, 3, 4]),
        ([4, 0, 0], [1, 2, 3, 4]),
        ([4, 0], [1, 2, 3, 4]),
        ([2, 0, 8], []),
    ],
)
def test_a_descriptor_that_does_not_fit_is_refused(descriptor: list[int], data: list[int]) -> None:
    with pytest.raises(MammogramError, match="VOI LUT's descriptor"):
        lookup_table(item(descriptor, data), "VOI LUT", 0, 255)
