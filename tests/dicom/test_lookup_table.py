from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydicom.dataset import Dataset

from mammo_hf.dicom.intensity import Transform, lookup_table
from mammo_hf.dicom.types import MammogramError
from mammo_hf.notes import Note, codes


def item(descriptor: list[int], data: bytes | list[int]) -> Dataset:
    dataset = Dataset()
    dataset.add_new("LUTDescriptor", "US", descriptor)
    dataset.add_new("LUTData", "OW" if isinstance(data, bytes) else "US", data)
    return dataset


def table_of(descriptor: list[int], data: bytes | list[int], low: float, high: float) -> tuple[Transform, int]:
    table = lookup_table(item(descriptor, data), "VOI LUT", low, high, [])
    assert table is not None
    return table


def test_inputs_outside_take_the_first_and_the_last_entry() -> None:
    table, _ = table_of([3, 10, 16], [1, 2, 3], 0, 4095)
    np.testing.assert_array_equal(
        table(np.array([-70000.0, 9, 10, 11.9, 12, 13, 300, 70000])), [1, 1, 1, 2, 3, 3, 3, 3]
    )


def test_eight_bit_entries_do_not_wrap_around() -> None:
    table, _ = table_of([256, 0, 8], [*range(256)], 0, 4095)
    assert table(np.array([255.0, 256.0, 300.0, 4095.0])).tolist() == [255, 255, 255, 255]


def test_packed_eight_bit_entries_lie_low_byte_first() -> None:
    for count in (5, 6):
        table, _ = table_of([count, 0, 8], bytes(range(count)) + b"\0" * (count % 2), 0, 255)
        assert table(np.arange(count + 1.0)).tolist() == [*range(count), count - 1]


def test_no_number_of_entries_means_65536() -> None:
    table, _ = table_of([0, 0, 16], np.arange(65536, dtype="<u2").tobytes(), 0, 65535)
    np.testing.assert_array_equal(table(np.arange(65536.0)), np.arange(65536))


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
    table, _ = table_of([2, word, 16], [1, 2], low, high)
    assert table(np.array([expected - 1.0, expected, expected + 1])).tolist() == [1, 1, 2]


@given(st.integers(0, 20), st.lists(st.integers(0, 65535), min_size=1, max_size=9))
def test_the_largest_entry_gives_the_range_whatever_is_announced(announced: int, entries: list[int]) -> None:
    notes: list[Note] = []
    found = lookup_table(item([len(entries), 0, announced], entries), "VOI LUT", 0, 4095, notes)
    assert found is not None
    table, bits = found
    assert table(np.arange(len(entries))).tolist() == entries
    assert 2 ** (bits - 1) <= max(*entries, 1) < 2**bits
    assert codes(notes) == ([] if bits == announced else ["lut_bits_contradicted"])


def test_an_empty_item_is_not_a_table() -> None:
    assert lookup_table(Dataset(), "VOI LUT", 0, 1, []) is None


@pytest.mark.parametrize(
    ("descriptor", "data"),
    [
        ([4, 0, 16], [1, 2, 3]),
        ([], [1, 2, 3]),
        ([2, 0, 8], []),
    ],
)
def test_a_descriptor_that_does_not_fit_is_refused(descriptor: list[int], data: list[int]) -> None:
    with pytest.raises(MammogramError, match="VOI LUT's descriptor"):
        lookup_table(item(descriptor, data), "VOI LUT", 0, 255, [])
