import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from mammo_hf.data.prepared_row import breast_of, packed_breast
from mammo_hf.processing.breast import Breast
from mammo_hf.processing.geometry import Geometry


@given(rows=st.integers(1, 9), columns=st.integers(1, 9), seed=st.integers(0, 99))
def test_what_was_packed_comes_back(rows, columns, seed):
    mask = np.random.default_rng(seed).random((4 * rows, 4 * columns)) < 0.5
    size = (4 * rows, 4 * columns)
    geometry = Geometry(size, (0, 0, *size), False, size, (0, 0), size)
    packed = packed_breast(Breast((0, 0, *size), mask), geometry)
    assert len(packed) == -(-rows * columns // 8)
    assert np.array_equal(breast_of({"breast": packed, "size": size}), mask[2::4, 2::4])  # by the centre of each cell
