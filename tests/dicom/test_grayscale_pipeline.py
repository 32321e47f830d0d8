"""The whole grayscale pipeline at once: any file that the standard allows is shown as pydicom shows it.

Where pydicom departs from the standard the file is not drawn here; each departure has a test of its own in
``test_intensity`` or ``test_lookup_table``.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from io import BytesIO
from typing import Any

import numpy as np
import pydicom
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydicom.dataset import Dataset
from pydicom.pixels import apply_modality_lut, apply_voi_lut
from pydicom.uid import (
    DeflatedExplicitVRLittleEndian,
    ExplicitVRBigEndian,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
)

from mammo_hf.dicom import mammogram_dataset, read_mammogram

SYNTAXES = [
    *(ImplicitVRLittleEndian, ExplicitVRLittleEndian),
    *(DeflatedExplicitVRLittleEndian, ExplicitVRBigEndian),
]
EXPLANATIONS = ["NORMAL", "HARDER", "SOFTER", "BRIGHTER"]


@dataclass(frozen=True)
class Drawn:
    """A file, and what to ask of it."""

    content: bytes = field(repr=False)
    options: dict[str, Any]
    chosen: int  # which of its windows or VOI LUTs is to be used
    by_lut: bool
    ends: tuple[float, float]  # of the range that the last stage can give
    inverted: bool
    background: tuple[int, int] | None


def lut(first: int, depth: int, count: int, rng: np.random.Generator, order: str, name: str = "") -> Dataset:
    item = Dataset()
    entries = rng.integers(0, 1 << depth, count)
    entries[0] = (1 << depth) - 1  # the largest entry needs the bits that are announced: else we depart from pydicom
    item.add_new("LUTDescriptor", "SS" if first < 0 else "US", [count % (1 << 16), first, depth])
    item.add_new("LUTData", "OW", entries.astype(f"{order}u2").tobytes())
    item.LUTExplanation = name
    return item


def decimal(value: float) -> str:
    return f"{value:.6g}"[:16]


@st.composite
def files(draw: st.DrawFn) -> Drawn:
    syntax = draw(st.sampled_from(SYNTAXES))
    order = ">" if syntax == ExplicitVRBigEndian else "<"
    bits = draw(st.integers(8, 16))
    signed, inverted = draw(st.booleans()), draw(st.booleans())
    rng = np.random.default_rng(draw(st.integers(0, 10**6)))
    low = -(1 << bits - 1) if signed else 0
    high = low + (1 << bits) - 1
    kind = np.dtype(("i" if signed else "u") + ("1" if bits == 8 else "2"))
    pixels = rng.integers(low, high + 1, (7, 9)).astype(kind)
    keywords: dict[str, Any] = {"RescaleSlope": None, "RescaleIntercept": None, "RescaleType": None}
    values = [float(low), float(high)]
    modality = draw(st.sampled_from(["none", "rescale", "lut"]))
    if modality == "rescale":
        slope, intercept = draw(st.integers(1, 64)) / 8, float(draw(st.integers(-4000, 4000)))
        keywords.update(RescaleSlope=decimal(slope), RescaleIntercept=decimal(intercept))
        values = [low * slope + intercept, high * slope + intercept]
    elif modality == "lut":
        depth = draw(st.sampled_from([8, 16]))  # pydicom takes no others
        # its first mapped value lies among the inputs, as the standard asks
        table = lut(draw(st.integers(low, 0)), depth, 1 << min(bits, 12), rng, order)
        keywords["ModalityLUTSequence"] = [table]
        values = [0.0, float((1 << depth) - 1)]
    has_lut, has_window = draw(st.booleans()), draw(st.booleans())
    # of a fractional input pydicom clips the index in the type of the input
    has_lut &= modality != "rescale"
    number = draw(st.integers(1, 4))
    names = draw(st.permutations(EXPLANATIONS))[:number]
    first = 0
    if has_lut:
        first = low if signed and modality == "none" else 0
        depth = draw(st.sampled_from([10, 12, 14, 16]))
        keywords["VOILUTSequence"] = [
            lut(first, depth, draw(st.integers(300, 5000)), rng, order, name) for name in names
        ]
    if has_window:
        span = values[1] - values[0]
        keywords["WindowCenter"] = [decimal(values[0] + draw(st.floats(-0.2, 1.2)) * span) for _ in names]
        keywords["WindowWidth"] = [decimal(max(1.0, draw(st.floats(0, 1.5)) * span)) for _ in names]
        keywords["WindowCenterWidthExplanation"] = list(names)
        keywords["VOILUTFunction"] = draw(st.sampled_from(["LINEAR", "LINEAR_EXACT", "SIGMOID", None]))
    prefer = draw(st.sampled_from(["lut", "window"]))
    by_lut = has_lut and (prefer == "lut" or not has_window)
    how = draw(st.sampled_from(["default", "index", "explanation"])) if has_lut or has_window else "default"
    chosen = names.index("NORMAL") if "NORMAL" in names and how == "default" else 0
    if how != "default":
        chosen = draw(st.integers(0, number - 1))
    window = {"default": "NORMAL", "index": chosen, "explanation": names[chosen].lower()}[how]
    background = None
    if draw(st.booleans()):
        ends = sorted(draw(st.lists(st.integers(low, high), min_size=2, max_size=2)))
        value, limit = ends if draw(st.booleans()) else ends[::-1]
        keywords["PixelPaddingValue"] = value
        if draw(st.booleans()):
            keywords["PixelPaddingRangeLimit"] = limit
            background = (ends[0], ends[1])
        else:
            background = (value, value)
    shape = draw(st.sampled_from(["IDENTITY", "INVERSE", None]))
    photometric = "MONOCHROME1" if inverted else "MONOCHROME2"
    dataset = mammogram_dataset(
        pixels,
        bits_stored=bits,
        photometric=photometric,
        PresentationLUTShape=shape,
        TransferSyntaxUID=syntax,
        **keywords,
    )
    file = BytesIO()
    dataset.save_as(file, enforce_file_format=True)
    return Drawn(
        content=file.getvalue(),
        options={"prefer": prefer, "window": window, "on_missing_window": "full_range"},
        chosen=chosen,
        by_lut=by_lut,
        ends=(0.0, float((1 << depth) - 1)) if by_lut else (values[0], values[1]),
        inverted=inverted or shape == "INVERSE",
        background=background,
    )


def by_pydicom(drawn: Drawn) -> np.ndarray:
    dataset = pydicom.dcmread(BytesIO(drawn.content))
    pixels = dataset.pixel_array.astype(np.int32)  # in the file's own type its index can wrap around
    values = apply_modality_lut(pixels, dataset)
    values = values if values.dtype.kind == "f" else values.astype(np.int32)
    shown = apply_voi_lut(values, dataset, index=drawn.chosen, prefer_lut=drawn.by_lut).astype(np.float64)
    ends = drawn.ends
    if "ModalityLUTSequence" in dataset and not drawn.by_lut and "WindowCenter" not in dataset:
        # without a VOI stage the range is that of the table's entries in reach
        stored = 1 << dataset.BitsStored
        every = np.arange(stored) - (stored // 2 if dataset.PixelRepresentation else 0)
        reached = apply_modality_lut(every, dataset)
        ends = (float(reached.min()), float(reached.max()))
    share = (shown - ends[0]) / (ends[1] - ends[0])
    share = 1 - share if drawn.inverted else share
    if drawn.background is not None:
        share[(pixels >= drawn.background[0]) & (pixels <= drawn.background[1])] = 0
    return share


@pytest.mark.filterwarnings("ignore")
@settings(max_examples=400)
@given(files())
def test_any_file_is_shown_as_pydicom_shows_it(drawn: Drawn) -> None:
    mammogram = read_mammogram(drawn.content, **drawn.options)
    np.testing.assert_allclose(mammogram.intensity(0), by_pydicom(drawn), rtol=0, atol=2e-6)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
@settings(max_examples=2_000)
@given(files())
def test_any_of_many_files_is_shown_as_pydicom_shows_it(drawn: Drawn) -> None:
    mammogram = read_mammogram(drawn.content, **drawn.options)
    np.testing.assert_allclose(mammogram.intensity(0), by_pydicom(drawn), rtol=0, atol=2e-6)
