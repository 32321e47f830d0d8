from __future__ import annotations

import numpy as np
import pytest

from mammo_hf.dicom import MammogramError, Photometric, mammogram_dataset
from mammo_hf.dicom.pixels import ImagePixel, image_pixel


def test_size_and_type() -> None:
    volume = mammogram_dataset(np.zeros((3, 4, 5), np.int16), bits_stored=12, photometric="MONOCHROME1")
    assert image_pixel(volume, []) == ImagePixel(Photometric.MONOCHROME1, 4, 5, 3, 16, 12, 11, True)
    flat = image_pixel(mammogram_dataset(np.zeros((4, 5), np.uint8)), [])
    assert (flat.frames, flat.dtype, flat.nbytes) == (1, np.dtype(np.uint8), 20)


def test_a_missing_number_of_frames_is_one_and_a_high_bit_that_cannot_be_is_the_usual_one() -> None:
    odd = image_pixel(mammogram_dataset(np.zeros((4, 5), np.uint16), bits_stored=12, NumberOfFrames="", HighBit=3), [])
    assert (odd.frames, odd.high_bit) == (1, 11)
    assert image_pixel(mammogram_dataset(np.zeros((4, 5), np.uint16), HighBit=None), []).high_bit == 15


@pytest.mark.parametrize(
    ("keywords", "message"),
    [
        *(({keyword: None}, f"{keyword} is missing") for keyword in ("Rows", "Columns", "BitsStored", "BitsAllocated")),
        ({"PixelRepresentation": None}, "PixelRepresentation is missing"),
        ({"PhotometricInterpretation": None}, "PhotometricInterpretation is missing"),
        ({"PhotometricInterpretation": "RGB", "SamplesPerPixel": 3}, "colour image"),
        ({"PhotometricInterpretation": "PALETTE COLOR"}, "colour image"),
        ({"SamplesPerPixel": 3}, "colour image"),
        ({"Rows": 0}, "0 x 5 pixels"),
        ({"Rows": [4, 0]}, "Rows has 2 values"),
        ({"Rows": 65535, "Columns": 65535}, "more than 67108864 pixels"),
        ({"Rows": 4096, "Columns": 4096, "NumberOfFrames": "99999"}, "more than 67108864 pixels"),
        *(({"NumberOfFrames": number}, "NumberOfFrames is above 99999") for number in ("100000", "9" * 12)),
        ({"PhotometricInterpretation": "MONOCHROME"}, "neither MONOCHROME1 nor MONOCHROME2"),
        ({"BitsAllocated": 32}, "16 bits stored in 32"),
        ({"BitsAllocated": 1, "BitsStored": 1}, "1 bits stored in 1"),
        ({"BitsAllocated": 8}, "16 bits stored in 8"),
        ({"BitsStored": 0}, "0 bits stored"),
        ({"PixelRepresentation": 2}, "pixel representation 2"),
    ],
)
def test_what_no_mammogram_says_is_refused(keywords: dict[str, object], message: str) -> None:
    dataset = mammogram_dataset(np.zeros((4, 5), np.uint16), **keywords)
    with pytest.raises(MammogramError, match=message):
        image_pixel(dataset, [])


def test_the_limit_on_pixels_is_of_a_frame_and_can_be_moved() -> None:
    dataset = mammogram_dataset(np.zeros((3, 4, 5), np.uint8))
    assert image_pixel(dataset, [], max_pixels=20).frames == 3
    with pytest.raises(MammogramError, match="raise max_pixels"):
        image_pixel(dataset, [], max_pixels=19)


def test_all_frames_together_may_have_sixteen_times_as_many() -> None:
    assert image_pixel(mammogram_dataset(np.zeros((16, 4, 5), np.uint8)), [], max_pixels=20).frames == 16
    with pytest.raises(MammogramError, match="17 frames of 4 x 5"):
        image_pixel(mammogram_dataset(np.zeros((17, 4, 5), np.uint8)), [], max_pixels=20)
