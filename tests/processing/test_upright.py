"""Pictures that are stored upside down or on their side: turned upright if the picture shows what the header says."""

from __future__ import annotations

from itertools import product

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mammo_hf import MammoImageProcessor
from mammo_hf.dicom import mammogram_dataset, read_mammogram
from mammo_hf.errors import UsageError
from mammo_hf.notes import codes
from mammo_hf.processing.geometry import ORIENTATIONS, in_source
from mammo_hf.processing.upright import upright_by_header

SIZE = (224, 112)
_OPPOSITE = {"A": "P", "P": "A", "H": "F", "F": "H", "L": "R", "R": "L"}


def film(view: str = "MLO", rows: int = 300, columns: int = 220, left: float = 0.55) -> np.ndarray:
    """Draw a left breast, upright: 12 bits, the chest wall at the left, with a muscle above in an oblique view."""
    y, x = np.mgrid[0:rows, 0:columns].astype(float)
    distance = np.hypot((y - (0.56 if view == "MLO" else 0.5) * rows) / (0.35 * rows), x / (left * columns))
    values = np.where(distance < 1, 1200 + 1400 * np.clip(1 - distance, 0, 1), 40)
    # a spot that tells above from below and the chest wall from the nipple
    values[np.hypot(y - 0.42 * rows, x - 0.3 * columns) < 0.05 * rows] = 3600
    if view == "MLO":
        values[x / (0.4 * columns) + y / (0.5 * rows) < 1] = 3200
    return values.astype(np.uint16)


def stored_as(picture: np.ndarray, orientation: str, upright: tuple[str, str]) -> tuple[np.ndarray, list[str]]:
    """Return a picture as a file holds it that `orientation` makes upright, and its PatientOrientation."""
    rows, columns, exchanged = ORIENTATIONS[orientation]
    along_rows, along_columns = upright[::-1] if exchanged else upright
    along_rows = _OPPOSITE[along_rows] if columns else along_rows
    along_columns = _OPPOSITE[along_columns] if rows else along_columns
    return np.ascontiguousarray(in_source(picture, orientation)), [along_rows, along_columns]


def mammogram(picture: np.ndarray, directions: list[str] | None, view: str = "MLO", laterality: str = "L"):
    dataset = mammogram_dataset(picture, laterality=laterality, view=view, bits_stored=12)
    dataset.WindowCenter, dataset.WindowWidth = 2048, 4096
    if directions is not None:
        dataset.PatientOrientation = directions
    return read_mammogram(dataset)


@pytest.mark.parametrize(("view", "upright"), [("MLO", ("A", "F")), ("CC", ("A", "R"))])
@given(
    orientation=st.sampled_from(sorted(ORIENTATIONS)),
    rows=st.integers(280, 700),
    columns=st.integers(200, 520),
    width=st.floats(0.45, 0.7),
)
@settings(max_examples=10, deadline=None)
def test_every_orientation_is_turned_upright(view, upright, orientation, rows, columns, width) -> None:
    processor = MammoImageProcessor(size=SIZE)
    picture = film(view, rows, columns, width)
    usual, straight, found = processor.fit_breast(mammogram(picture, list(upright), view))
    assert found.orientation == "identity"
    stored, directions = stored_as(picture, orientation, upright)
    intensity, geometry, breast = processor.fit_breast(mammogram(stored, directions, view))
    assert geometry.orientation == breast.orientation == orientation
    turned = orientation not in ("identity", "flip_left_right")
    assert ("orientation_corrected" in codes(breast.notes)) == turned
    # the views are of every n-th pixel, which are others from the other side: edges differ by a pixel of the view
    assert np.abs(intensity - usual).mean() < 0.03
    # the spot is where it is, both ways
    spot = np.array([0.42 * rows, 0.3 * columns])
    row, column = geometry.to_source(straight.to_model(spot) * np.divide(geometry.size, straight.size))
    there = stored[int(np.clip(row, 0, stored.shape[0] - 1)), int(np.clip(column, 0, stored.shape[1] - 1))]
    assert there == 3600
    # box and mask are the source's
    assert breast.mask.shape == tuple(-(-side // breast.stride) for side in stored.shape)
    assert stored[breast.mask_at(np.arange(stored.shape[0]), np.arange(stored.shape[1]))].mean() > 1000


def test_a_header_that_the_picture_contradicts_turns_nothing() -> None:
    picture = film()
    processor = MammoImageProcessor(size=SIZE)
    usual = processor.fit(mammogram(picture, ["A", "F"]))[0]
    # the muscle is above, the chest wall at the left
    for directions in (["A", "H"], ["P", "H"], ["F", "P"], ["H", "A"]):
        intensity, geometry, breast = processor.fit_breast(mammogram(picture, directions))
        assert "orientation_contradicted" in codes(breast.notes)
        assert geometry.orientation == "identity"
        np.testing.assert_array_equal(intensity, usual)


def test_policies_turn_without_looking_or_never() -> None:
    picture = film()
    header = MammoImageProcessor(size=SIZE, orientation="header").fit_breast(mammogram(picture, ["A", "H"]))
    assert header[1].orientation == "flip_top_bottom"
    stored = mammogram(picture[::-1], ["A", "H"])
    ignored = MammoImageProcessor(size=SIZE, orientation="ignore").fit_breast(stored)
    assert (ignored[1].orientation, ignored[2].notes) == ("identity", ())
    with pytest.raises(UsageError, match="agreeing"):
        MammoImageProcessor(orientation="always")


@pytest.mark.parametrize("laterality", ["L", "R"])
def test_the_usual_hanging_of_each_side_is_upright(laterality: str) -> None:
    wall, medial = ("A", "R") if laterality == "L" else ("P", "L")
    side = {"A": "left", "P": "right"}[wall]
    for down in ("F", f"F{medial}", medial, f"{medial}F"):
        assert upright_by_header((wall, down), laterality) == ("identity", side)
    assert upright_by_header((wall, _OPPOSITE[medial]), laterality) == ("flip_top_bottom", side)


def test_directions_that_say_nothing_turn_nothing() -> None:
    for directions in ((), ("A",), ("A", "A"), ("F", "R"), ("A", "X")):
        assert upright_by_header(directions, "L") is None
    # a side that is not known says nothing of right and left
    assert all(upright_by_header(pair, "") is None for pair in product("AP", "LR"))
