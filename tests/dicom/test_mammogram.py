from __future__ import annotations

from unittest import mock

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from mammo_hf.dicom import Mammogram, MammogramError, mammogram_dataset, read_mammogram
from mammo_hf.dicom import reader as mammogram


def made(pixels: np.ndarray, **keywords: object) -> Mammogram:
    return read_mammogram(mammogram_dataset(pixels, **keywords))


@given(st.data(), st.sampled_from([np.uint8, np.uint16, np.int16]), st.sampled_from([1, 3, 1 << 17]))
def test_the_intensity_of_any_part_is_the_table_at_its_pixels(data: st.DataObject, dtype: type, block: int) -> None:
    pixels = data.draw(arrays(dtype, st.tuples(*[st.integers(1, 6)] * 3)))
    image = made(pixels)
    rows, columns = data.draw(st.slices(pixels.shape[1])), data.draw(st.slices(pixels.shape[2]))
    frame = data.draw(st.one_of(st.none(), st.integers(-len(pixels), len(pixels) - 1)))
    part = pixels[:, rows, columns] if frame is None else pixels[frame, rows, columns]
    table = image.tables[0]
    expected = table.values[part.astype(int) - table.first_stored_value]
    with mock.patch.object(mammogram, "_BLOCK", block):
        intensity = image.intensity(frame, rows, columns)
    np.testing.assert_array_equal(intensity, expected)
    assert intensity.dtype == np.float32
    assert intensity.shape == part.shape


def test_signed_pixels_are_looked_up_by_their_sign() -> None:
    image = made(np.array([[-2048, 0, 2047]], np.int16), bits_stored=12)
    assert image.tables[0].first_stored_value == -2048
    assert image.tables[0].values.shape == (4096,)
    np.testing.assert_allclose(image.intensity(0), [[0, 2048 / 4095, 1]], atol=1e-7)


def test_the_intensity_is_the_callers_own() -> None:
    image = made(np.array([[0, 200]], np.uint8))
    image.intensity(0)[:] = 7
    assert image.intensity(0).max() < 1


def test_only_the_part_is_looked_up() -> None:
    image = made(np.zeros((50, 40), np.uint16))
    with mock.patch.object(mammogram.np, "take", wraps=np.take) as take:
        image.intensity(0, slice(10, 20), slice(5, 12))
    assert sum(call.args[1].size for call in take.call_args_list) == 70


@pytest.mark.parametrize("frame", [2, -3])
def test_a_frame_that_is_not_there_is_refused(frame: int) -> None:
    with pytest.raises(MammogramError, match=f"no frame {frame} among 2"):
        made(np.zeros((2, 3, 4), np.uint8)).intensity(frame)


def test_its_text_says_what_it_is_and_no_more() -> None:
    image = made(np.zeros((3, 4), np.uint16), bits_stored=12, PatientName="DOE^JANE", PatientID="4711")
    assert repr(image) == "<Mammogram LCC, 1 x 3 x 4, 12 bits, full range (no window)>"
