import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mammo_hf.data.native_row import relabelled
from mammo_hf.data.prepared_row import (
    BANDS,
    acquisition_columns,
    band,
    breast_of,
    enlarged,
    geometry_of,
    intensity_of,
    lesion_mask,
    lesions_of,
    packed_breast,
    packed_pixels,
    pixels_of,
)
from mammo_hf.dicom import mammogram_dataset, read_mammogram
from mammo_hf.processing.breast import Breast
from mammo_hf.processing.geometry import Geometry


def identity(size):
    return Geometry(size, (0, 0, *size), "identity", size, (0, 0), size)


@given(rows=st.integers(1, 9), columns=st.integers(1, 9), seed=st.integers(0, 99))
def test_a_packed_breast_comes_back(rows, columns, seed):
    mask = np.random.default_rng(seed).random((4 * rows, 4 * columns)) < 0.5
    size = (4 * rows, 4 * columns)
    packed = packed_breast(Breast((0, 0, *size), mask), identity(size))
    assert len(packed) == -(-rows * columns // 8)
    assert np.array_equal(breast_of({"breast": packed, "size": size}), mask[2::4, 2::4])  # by the centre of each cell


@given(value=st.floats(0.1, 500), name=st.sampled_from(list(BANDS)))
def test_a_band_holds_its_value_and_its_lower_border(value, name):
    text = band(value, BANDS[name])
    low, high = ("0", text[1:]) if text[0] == "<" else text.replace("+", "-inf").split("-")
    assert float(low) <= value < float(high)


def test_a_header_gives_machine_and_bands_and_a_picture_nothing():
    dataset = mammogram_dataset(
        np.zeros((4, 5), np.uint8),
        KVP="29",
        Exposure="98",
        BodyPartThickness="61.5",
        ManufacturerModelName="Lorad  Selenia",
    )
    assert acquisition_columns(read_mammogram(dataset).header) == {
        "kind": "2D",
        "device": "lorad selenia",
        "kvp_band": "29-31",
        "exposure_band": "50-100",
        "thickness_band": "60-80",
    }
    assert set(acquisition_columns(None).values()) == {None}


def test_every_stored_value_comes_back():
    values = np.arange(65536, dtype=np.uint16).reshape(256, 256)
    row = {"pixels": values.tobytes(), "size": [256, 256]}
    assert np.array_equal(pixels_of(row), values)
    intensity = intensity_of(row)
    assert (intensity.dtype, intensity.min(), intensity.max()) == (np.float32, 0, 1)
    assert packed_pixels(intensity) == row["pixels"]


def test_lesions_by_cell_and_by_pixel():
    cells = np.array([[0, 2], [255, 0], [0, 0]], np.uint8)
    row = {"lesions": cells.tobytes(), "size": [12, 8]}
    assert np.array_equal(lesions_of(row), cells)
    assert np.array_equal(lesion_mask(row), np.kron(cells > 0, np.ones((4, 4), bool)))
    assert np.array_equal(enlarged(cells)[::4, ::4], cells)


@pytest.mark.parametrize("lesions", [None, bytes(6)])
def test_an_image_without_a_known_lesion_has_no_mask(lesions):
    assert lesion_mask({"lesions": lesions, "size": [12, 8]}) is None


@pytest.mark.parametrize(("label", "stored"), [(0, 1), (1, 2), (-1, 255)])
def test_lesions_get_another_label(label, stored):
    assert relabelled(bytes([0, 1, 2, 255]), label) == bytes([0, stored, stored, stored])


def test_a_geometry_comes_back_and_none_may_be_stored():
    assert geometry_of({"geometry": json.dumps(identity((8, 8)).to_dict())}) == identity((8, 8))
    assert geometry_of({"geometry": "{}"}) is None
