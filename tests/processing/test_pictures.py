"""Pictures that collections come in: each is read exactly, or refused with what to do."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from PIL import Image

from mammo_hf import MammoImageProcessor
from mammo_hf.data.findings import read_mask
from mammo_hf.dicom import mammogram_dataset
from mammo_hf.errors import DataError
from mammo_hf.files import walk
from mammo_hf.processing.image_source import open_image

SHAPES = st.tuples(st.integers(1, 9), st.integers(1, 9))


def written(picture: Image.Image, kind: str, **options: object) -> bytes:
    file = io.BytesIO()
    picture.save(file, kind, **options)
    return file.getvalue()


def read(image: object) -> np.ndarray:
    source = open_image(image)
    return source.view(slice(None), slice(None))


@given(st.data(), st.sampled_from(["PNG", "TIFF"]), st.sampled_from([np.uint8, np.uint16, np.bool_]))
def test_gray_pictures_of_1_8_and_16_bits(data: st.DataObject, kind: str, dtype: type) -> None:
    values = data.draw(arrays(dtype, SHAPES))
    largest = 1 if dtype is np.bool_ else np.iinfo(dtype).max
    picture = Image.fromarray(values)
    for image in (picture, written(picture, kind)):
        np.testing.assert_array_equal(read(image), values.astype(np.float32) / np.float32(largest))


@given(
    st.data(), st.sampled_from(["P2", "P5"]), st.integers(1, 65535), st.sampled_from(["\n", " ", "\t", "\r\n", "#\n"])
)
def test_pgm_of_any_largest_value_text_or_binary(data: st.DataObject, kind: str, largest: int, space: str) -> None:
    values = data.draw(arrays(np.uint16, SHAPES, elements=st.integers(0, largest)))
    rows, columns = values.shape
    content = f"{kind}{space}# drawn\n{columns} {rows}\n{largest}\n".encode()
    if kind == "P5":
        content += values.astype(">u2" if largest > 255 else "u1").tobytes()
    else:
        content += b"# more\n" + " ".join(map(str, values.ravel())).encode()
    np.testing.assert_array_equal(read(content), (values / largest).astype(np.float32))
    with pytest.raises(DataError, match="damaged or cut off"):
        read(content[: len(content) - (1 if kind == "P5" else len(str(values.ravel()[-1])))])


@given(st.data(), st.sampled_from(["TIFF", None]), st.sampled_from([1.0, 2.0, 4095.0]))
def test_floating_point_is_read_from_0_to_1_and_refused_beyond(
    data: st.DataObject, kind: str | None, top: float
) -> None:
    values = data.draw(arrays(np.float32, SHAPES, elements=st.floats(0, top, width=32)))
    image = Image.fromarray(values)
    image = image if kind is None else written(image, kind)
    if values.max() > 1:
        with pytest.raises(DataError, match=r"outside \[0, 1\]; save it as 16-bit"):
            read(image)
    else:
        np.testing.assert_array_equal(read(image), values)


@given(st.data(), st.sampled_from(["TIFF", None]))
def test_integers_of_32_bits_are_refused(data: st.DataObject, kind: str | None) -> None:
    image = Image.fromarray(data.draw(arrays(np.int32, SHAPES)))
    with pytest.raises(DataError, match="32 bits"):
        read(image if kind is None else written(image, kind))


FORMS = [("RGB", "PNG"), ("RGB", "TIFF"), ("RGBA", "PNG"), ("P", "PNG"), ("LA", "PNG"), ("CMYK", "TIFF")]


@given(st.data(), st.sampled_from(FORMS))
def test_gray_in_colour_channels_is_read(data: st.DataObject, form: tuple[str, str]) -> None:
    values, (mode, kind) = data.draw(arrays(np.uint8, SHAPES)), form
    gray = Image.fromarray(values)
    ink = [Image.new("L", gray.size)] * 3 + [Image.fromarray(255 - values)]
    gray = Image.merge("CMYK", ink) if mode == "CMYK" else gray.convert(mode)
    for image in (gray, written(gray, kind)):
        np.testing.assert_array_equal(read(image), values.astype(np.float32) / np.float32(255))


@given(st.data(), st.integers(4, 200))
def test_false_colour_is_refused(data: st.DataObject, difference: int) -> None:
    values = data.draw(arrays(np.uint8, (4, 5)))
    other, first = values.copy(), int(values[0, 0])
    other[0, 0] = first + difference if first + difference < 256 else first - difference if first >= difference else 0
    false = np.stack([values, values, other.astype(np.uint8)], -1)
    picture = Image.fromarray(false)
    for image in (picture, written(picture, "PNG"), written(picture, "TIFF"), false, np.moveaxis(false, -1, 0)):
        with pytest.raises(DataError, match="in colour; leave it out"):
            read(image)


@given(st.data())
def test_a_negative_tiff_is_turned(data: st.DataObject) -> None:
    values = data.draw(arrays(np.uint16, SHAPES))
    content = written(Image.fromarray(values), "TIFF", tiffinfo={262: 0})
    np.testing.assert_allclose(read(content), 1 - values / 65535, atol=1e-6)


def test_what_pillow_would_cut_to_8_bits_or_pass_over_is_refused() -> None:
    first, second = Image.new("L", (5, 4)), Image.new("L", (5, 4), 9)
    with pytest.raises(DataError, match="several pictures"):
        read(written(first, "TIFF", save_all=True, append_images=[second]))
    with pytest.raises(DataError, match="transparent"):
        read(written(Image.new("LA", (5, 4), (80, 10)), "PNG"))


@pytest.mark.parametrize("shape", [(1, 40), (40, 1), (1, 1), (2, 300), (3, 3)])
def test_a_picture_one_pixel_wide_goes_through_the_processor(shape: tuple[int, int]) -> None:
    values = np.arange(shape[0] * shape[1], dtype=np.uint16).reshape(shape) * 150
    intensity, geometry = MammoImageProcessor(size=(64, 32)).fit(Image.fromarray(values))
    assert intensity.shape == (64, 32)
    assert geometry.source_size == shape


@pytest.mark.parametrize("start", [b"II*\0", b"MM\0*", b"\xff\xd8\xff\xe0", b"\x89PNG\r\n\x1a\n", b"P5 1 1", b"\0\0"])
def test_a_dicom_file_whose_preamble_is_another_formats_is_dicom_at_every_door(start: bytes, tmp_path: Path) -> None:
    pixels = np.arange(64, dtype=np.uint16).reshape(8, 8) * 1000
    dataset = mammogram_dataset(pixels)
    dataset.preamble = start.ljust(128, b"\0")
    path = tmp_path / "1-1"
    dataset.save_as(path, enforce_file_format=True)
    for image in (path, path.read_bytes()):
        np.testing.assert_allclose(read(image), pixels / 65535, atol=1e-7)
    np.testing.assert_array_equal(read_mask(str(path)), pixels > 0)
    assert list(walk(tmp_path)) == [str(path)]
