"""JPEG 2000 and HTJ2K at a fraction of their size: how far the picture is from the exact one; what is read whole."""

from __future__ import annotations

from functools import cache
from io import BytesIO

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from pydicom.encaps import encapsulate
from pydicom.uid import HTJ2KLossless, JPEG2000Lossless

from mammo_hf import MammoImageProcessor
from mammo_hf.dicom import MammogramError, mammogram_dataset, read_mammogram, reduced
from mammo_hf.dicom.reduced import halvings, low_band
from mammo_hf.isolation import isolating
from mammo_hf.notes import codes
from mammo_hf.phantom.exam import draw_exam
from mammo_hf.processing.geometry import area_weights, low_band_weights

imagecodecs = pytest.importorskip("imagecodecs")
SHAPE = (2300, 1168)
BOUNDS = {"1/2": 0.0015, "1/4": 0.004}
LINEAR = {"WindowCenter": 2048, "WindowWidth": 4096}
TABLES = [
    LINEAR,
    LINEAR | {"PixelPaddingValue": 60},
    {"WindowCenter": 2300, "WindowWidth": 2600, "VOILUTFunction": "SIGMOID"},
]


@cache
def phantom(seed: int) -> np.ndarray:
    """A drawn mammogram of 12 bits."""
    return (draw_exam(seed, size=SHAPE).images["LEFT", "MLO"] >> 4).astype(np.uint16)


@cache
def breast() -> np.ndarray:
    """Half an ellipse at the left, with noise."""
    rows, columns = np.ogrid[:2100, :1000]
    inside = ((rows - 1050) / 900) ** 2 + (columns / 700) ** 2
    noise = np.random.default_rng(0).normal(0, 12, (2100, 1000))
    values = np.where(inside < 1, 1200 + 1800 * np.sqrt(np.clip(1 - inside, 0, 1)), 120) + noise
    return np.clip(np.rint(values), 0, 4095).astype(np.uint16)


def jpeg_2000(pixels: np.ndarray, bits: int = 12, **options: object) -> bytes:
    options = {"reversible": True, "level": 0, "codecformat": "j2k", "bitspersample": bits} | options
    return imagecodecs.jpeg2k_encode(pixels, **options)


def tiled(pixels: np.ndarray) -> bytes:
    file = BytesIO()
    Image.fromarray(pixels).save(file, "JPEG2000", no_jp2=True, tile_size=(512, 512), irreversible=False)
    return file.getvalue()


def high_throughput(pixels: np.ndarray, bits: int = 12) -> bytes:
    """A codestream that says how many bits it has, which imagecodecs' encoder takes from the words."""
    frame = bytearray(imagecodecs.htj2k_encode((pixels.astype(np.int32) - (1 << (bits - 1))).astype(np.int32)))
    frame[frame.find(b"\xff\x4f\xff\x51") + 42] = bits - 1
    return bytes(frame)


def file_of(frame: bytes, pixels: np.ndarray, syntax: str = JPEG2000Lossless, bits: int = 12, **changes) -> bytes:
    dataset = mammogram_dataset(np.zeros((2, 2), np.uint16), bits=bits, laterality="L", view="MLO")
    changes = (LINEAR if bits == 12 else {}) | changes
    dataset.Rows, dataset.Columns = pixels.shape
    for name, value in changes.items():
        setattr(dataset, name, value)
    dataset.PixelData = encapsulate([frame])
    dataset["PixelData"].VR = "OB"
    dataset.file_meta.TransferSyntaxUID = syntax
    file = BytesIO()
    dataset.save_as(file, enforce_file_format=True)
    return file.getvalue()


def both(content: bytes, size: tuple[int, int]):
    """Fit a file exactly and fast, and draw it fast where the exact one has its breast."""
    exact, fast = (MammoImageProcessor(size=size, decode=decode) for decode in ("exact", "fast"))
    picture, geometry, breast = exact.fit_breast(content)
    source = fast.open(content)
    found = fast.find_breast(source)
    return picture, fast.draw(source, breast, geometry), breast, found, source


@pytest.mark.slow
@settings(max_examples=4)
@given(
    size=st.sampled_from([(448, 224), (224, 112), (400, 160)]),
    encoded=st.sampled_from([(jpeg_2000, JPEG2000Lossless), (high_throughput, HTJ2KLossless)]),
    changes=st.sampled_from(TABLES),
    seed=st.integers(1, 12),
)
def test_the_picture_is_within_its_bounds_and_the_breast_is_the_same(size, encoded, changes, seed):
    pixels, (encode, syntax) = phantom(seed), encoded
    picture, drawn, exact, found, source = both(file_of(encode(pixels), pixels, syntax, **changes), size)
    assert np.sqrt(np.mean((drawn - picture) ** 2)) <= BOUNDS.get(source.decoded, 0)
    assert (found.chest_wall, found.orientation) == (exact.chest_wall, exact.orientation)
    assert codes(found.notes) == codes(exact.notes)
    # one image in a hundred may be off by two cells
    assert np.abs(np.subtract(found.box, exact.box)).max() <= 2 * max(found.stride, exact.stride)
    rows, columns = (np.arange(0, side, 4) for side in pixels.shape)
    one, other = exact.mask_at(rows, columns), found.mask_at(rows, columns)
    assert (one & other).sum() >= 0.98 * (one | other).sum()


def test_the_sizes_of_odd_images_and_a_reader_of_its_own():
    pixels = np.ascontiguousarray(breast()[:2093, :901])
    content = file_of(jpeg_2000(pixels), pixels)
    with isolating():
        read = read_mammogram(content, decode="fast")
        for level in range(1, read.levels + 1):
            assert read.frame(0, level).shape == (-(-2093 >> level), -(-901 >> level))
    whole = read_mammogram(content)
    assert whole.levels == 0
    np.testing.assert_array_equal(read.frame(0), whole.frame(0))  # asked for, it is exact
    assert read.header.contradictions == whole.header.contradictions


@pytest.mark.parametrize(("bits", "dtype"), [(8, np.uint8), (12, np.uint16), (16, np.uint16)])
@pytest.mark.parametrize("syntax", [JPEG2000Lossless, HTJ2KLossless])
def test_what_overshoots_is_saturated(bits, dtype, syntax):
    most = (1 << bits) - 1
    pixels = (np.random.default_rng(0).integers(0, 2, (512, 512)) * most).astype(dtype)
    encode = jpeg_2000 if syntax == JPEG2000Lossless else high_throughput
    allocated = {"BitsAllocated": 8 if bits == 8 else 16, "BitsStored": bits, "HighBit": bits - 1}
    content = file_of(encode(pixels, bits), pixels, syntax, bits if bits > 8 else 12, **allocated)
    low = read_mammogram(content, decode="fast").stored.at_level(1).astype(int)
    flat = np.array([1, 2, 6, 2, 1]) * [-1, 1, 1, 1, -1] / 8  # analysis of the reversible transform (T.800 F.4.8.1)
    rows = np.pad(pixels.astype(float), ((2, 2), (0, 0)), "reflect")
    once = sum(weight * rows[k : k + 512] for k, weight in enumerate(flat))[::2]
    columns = np.pad(once, ((0, 0), (2, 2)), "reflect")
    expected = np.clip(sum(weight * columns[:, k : k + 512] for k, weight in enumerate(flat))[:, ::2], 0, most)
    assert np.abs(low - expected).max() <= 2  # the transform rounds twice


def worst(level: int, most: int, side: int = 512) -> np.ndarray:
    """Pixels of 0 and ``most`` under which the low band's middle sample overshoots as far as it can."""
    flat = np.array([-1, 2, 6, 2, -1]) / 8
    weights = flat
    for step in range(1, level):
        spread = np.zeros(4 * (1 << step) + 1)
        spread[:: 1 << step] = flat
        weights = np.convolve(weights, spread)
    signs = np.ones(side)
    signs[side // 2 - len(weights) // 2 :][: len(weights)] = np.where(weights < 0, -1, 1)
    return (most * (np.outer(signs, signs) > 0)).astype(np.uint16)


@pytest.mark.parametrize("level", [1, 2, 3])
@pytest.mark.parametrize("most", [(1 << 14) - 1, 1 << 14, (1 << 16) - 1])
def test_words_of_16_bits_hold_what_overshoots(level, most, monkeypatch):
    for pixels in (worst(level, most), most - worst(level, most)):
        frame = imagecodecs.htj2k_encode(pixels, reversible=True)
        found = low_band(frame, "htj2k", level, most, True)
        monkeypatch.setattr(reduced, "_NARROW", 0)  # words of 32 bits
        wide = low_band(frame, "htj2k", level, most, True)
        monkeypatch.undo()
        np.testing.assert_array_equal(found, wide)
        assert wide[256 >> level, 256 >> level] in (0, most)


EXACT = {
    "tiles": lambda pixels: tiled(pixels),
    "no levels": lambda pixels: jpeg_2000(pixels, resolutions=1),
    "more bits than stored": lambda pixels: jpeg_2000(pixels << 2, 14),
}


@pytest.mark.parametrize("name", [*EXACT, "region", "steep", "padding next to white", "robust", "signed", "small"])
def test_what_cannot_be_halved_is_read_exactly(name):
    pixels, changes = breast(), {}
    if name == "small":
        pixels = np.ascontiguousarray(pixels[:1000, :700])
    frame = EXACT.get(name, jpeg_2000)(pixels)
    if name == "region":  # an RGN segment before the first tile part: no region of the component 0
        tile = frame.find(b"\xff\x90")
        frame = frame[:tile] + b"\xff\x5e\x00\x05\x00\x00\x00" + frame[tile:]
    if name == "padding next to white":
        changes = {
            "PhotometricInterpretation": "MONOCHROME1",
            "PixelPaddingValue": 0,
            "PresentationLUTShape": "INVERSE",
        }
    if name == "steep":
        changes = {"WindowCenter": 1500, "WindowWidth": 20}
    content = file_of(frame, pixels, **changes)
    if name == "robust":
        content = file_of(frame, pixels, PresentationIntentType="FOR PROCESSING")
    if name == "signed":
        content = file_of(frame, pixels, PixelRepresentation=1, BitsStored=13, HighBit=12)
    exact, fast = (MammoImageProcessor(size=(224, 112), decode=decode) for decode in ("exact", "fast"))
    source = fast.open(content)
    np.testing.assert_array_equal(fast.fit(source)[0], exact.fit(content)[0])
    assert source.decoded == "exact"


def test_fewer_levels_and_several_layers_are_read_as_far_as_they_go():
    pixels = breast()
    few = MammoImageProcessor(size=(224, 112), decode="fast")
    source = few.open(file_of(jpeg_2000(pixels, resolutions=2), pixels))
    few.fit(source)
    assert source.decoded == "1/2"
    wide, layered = pixels << 4, BytesIO()
    picture = Image.fromarray(wide)
    picture.save(layered, "JPEG2000", no_jp2=True, quality_layers=[40, 10, 0], irreversible=False)
    assert halvings(layered.getvalue()) == (5, True)
    sixteen = {"BitsStored": 16, "HighBit": 15, "WindowCenter": 1 << 15, "WindowWidth": 1 << 16}
    exact, drawn, *_, source = both(file_of(layered.getvalue(), pixels, **sixteen), (224, 112))
    assert source.decoded == "1/2"
    assert np.sqrt(np.mean((drawn - exact) ** 2)) <= BOUNDS["1/2"]


def test_a_frame_that_is_cut_off_or_damaged_is_refused_as_ever():
    pixels = breast()
    frame = jpeg_2000(pixels)
    with pytest.raises(MammogramError, match="no end marker"):
        read_mammogram(file_of(frame[: len(frame) // 2], pixels), decode="fast")
    for cut in (60, 90, 120):
        damaged = frame[:cut] + frame[cut + 30 :]
        with pytest.raises(MammogramError):
            read_mammogram(file_of(damaged, pixels), decode="fast").frame(0, 1)


@given(side=st.integers(40, 3000), new=st.integers(4, 30), level=st.integers(1, 4), start=st.integers(0, 12))
def test_the_samples_of_a_low_band_are_where_the_transform_puts_them(side, new, level, start):
    # A ramp survives the transform without loss, and so its mean under every target pixel
    weights = low_band_weights(start, side, new, side, level)
    samples = np.arange(weights.shape[1]) * float(1 << level)
    pixels = np.minimum(np.arange(start, side), samples[-1])  # behind the last sample it repeats
    np.testing.assert_allclose(weights @ samples, area_weights(side - start, new) @ pixels, rtol=1e-4, atol=1e-3)
    np.testing.assert_allclose(weights.sum(1), 1, rtol=1e-5)


@pytest.mark.slow
def test_real_mammograms_are_within_the_bounds(real_dicom):
    encoded = {"fo-dicom/GH133.dcm": (jpeg_2000, JPEG2000Lossless), "nema/MG1_J2KI": (high_throughput, HTJ2KLossless)}
    for name, (encode, syntax) in encoded.items():
        read = read_mammogram(real_dicom / name, any_anatomy=True)
        frame, header = encode(read.frame(0)), read.dataset
        named = ("WindowCenter", "WindowWidth", "VOILUTFunction", "PixelPaddingValue", "PixelPaddingRangeLimit")
        keep = {key: header[key].value for key in named if key in header}
        content = file_of(frame, read.frame(0), syntax, **keep)
        for size in ((896, 448), (448, 224)):
            picture, drawn, exact, found, source = both(content, size)
            assert np.sqrt(np.mean((drawn - picture) ** 2)) <= BOUNDS.get(source.decoded, 0)
            assert np.abs(np.subtract(found.box, exact.box)).max() <= 2 * max(found.stride, exact.stride)
            assert found.chest_wall == exact.chest_wall
