"""Files of every kind, damaged at random from a seed. A script, so that a decoder that kills its process is seen.

``python tests/dicom/fuzz.py FIRST COUNT`` reads as many damaged files and prints, as JSON, how many were read, how many
refused, and what went wrong otherwise. The number of the file in hand is written to standard error before it is read.
"""

from __future__ import annotations

import json
import logging
import signal
import struct
import sys
import traceback
import warnings
from io import BytesIO, StringIO

import imagecodecs
import numpy as np
from pydicom.dataset import Dataset
from pydicom.encaps import encapsulate
from pydicom.uid import (
    DeflatedExplicitVRLittleEndian,
    ExplicitVRBigEndian,
    ExplicitVRLittleEndian,
    HTJ2KLossless,
    ImplicitVRLittleEndian,
    JPEG2000Lossless,
    JPEGBaseline8Bit,
    JPEGExtended12Bit,
    JPEGLosslessSV1,
    JPEGLSLossless,
    RLELossless,
)

from mammo_hf.dicom import MammogramError, mammogram_dataset, read_mammogram

SECONDS = 20  # much more than any of these files can take, even on a busy machine
_LOGGED = StringIO()
PERSON = ("Zyxwvut^Quentin", "IDENT-90210", "19510203")


def _item(**keywords: object) -> Dataset:
    item = Dataset()
    for keyword, value in keywords.items():
        setattr(item, keyword, value)
    return item


def _person() -> dict[str, object]:
    return dict(zip(("PatientName", "PatientID", "PatientBirthDate"), PERSON, strict=True))


def _saved(dataset: Dataset) -> bytes:
    file = BytesIO()
    dataset.save_as(file, enforce_file_format=True)
    return file.getvalue()


def _compressed(frames: list[bytes], syntax: str, pixels: np.ndarray, **keywords: object) -> bytes:
    dataset = mammogram_dataset(pixels, TransferSyntaxUID=syntax, **_person(), **keywords)
    dataset["PixelData"].is_undefined_length = True
    dataset.PixelData = encapsulate(frames, has_bot=len(frames) > 1)
    return _saved(dataset)


def corpus() -> list[bytes]:
    """Sound files: every transfer syntax, both kinds of tables, windows, padding, functional groups."""
    rng = np.random.default_rng(0)
    rows, columns = np.mgrid[:40, :48]
    pixels = (40 * rows + 20 * columns + rng.integers(0, 30, (40, 48))).astype(np.uint16)
    eight, volume = (pixels >> 4).astype(np.uint8), np.stack([pixels, pixels // 2, pixels // 3])
    window = {"WindowCenter": ["2000", "1500"], "WindowWidth": ["3000", "900"], "VOILUTFunction": "SIGMOID"}
    table = _item(LUTDescriptor=[4096, 0, 12], LUTData=np.arange(4096, dtype="<u2").tobytes(), LUTExplanation="NORMAL")
    native = [ExplicitVRLittleEndian, ImplicitVRLittleEndian, ExplicitVRBigEndian, DeflatedExplicitVRLittleEndian]
    files = [
        _saved(mammogram_dataset(pixels, bits_stored=12, TransferSyntaxUID=syntax, **window, **_person()))
        for syntax in native
    ]
    luts = {"VOILUTSequence": [table], "ModalityLUTSequence": [table], "PixelPaddingValue": 0}
    files.append(_saved(mammogram_dataset(pixels, bits_stored=12, **luts, **_person())))
    raw = {"PresentationIntentType": "FOR PROCESSING", "photometric": "MONOCHROME1"}
    files.append(_saved(mammogram_dataset(pixels, bits_stored=12, **raw, **_person())))
    run_lengths = mammogram_dataset(pixels, bits_stored=12, **_person())
    run_lengths.compress(RLELossless)
    files.append(_saved(run_lengths))
    codecs = {
        JPEG2000Lossless: imagecodecs.jpeg2k_encode(pixels, level=0, codecformat="j2k"),
        JPEGLSLossless: imagecodecs.jpegls_encode(pixels),
        JPEGLosslessSV1: imagecodecs.jpeg8_encode(pixels, lossless=True, bitspersample=16),
        HTJ2KLossless: imagecodecs.htj2k_encode(pixels),
        JPEGExtended12Bit: imagecodecs.jpeg8_encode(pixels, bitspersample=12),
    }
    files += [_compressed([frame], syntax, pixels, **window) for syntax, frame in codecs.items()]
    files.append(_compressed([imagecodecs.jpeg8_encode(eight)], JPEGBaseline8Bit, eight))
    groups = [_item(FrameVOILUTSequence=[_item(WindowCenter=1000 * n + 500, WindowWidth=900)]) for n in range(3)]
    shared = [_item(PixelMeasuresSequence=[_item(PixelSpacing=[0.1, 0.1])])]
    functional = {"SharedFunctionalGroupsSequence": shared, "PerFrameFunctionalGroupsSequence": groups}
    files.append(_saved(mammogram_dataset(volume, bits_stored=12, **functional, **_person())))
    frames = [imagecodecs.jpeg2k_encode(frame, level=0, codecformat="j2k") for frame in volume]
    files.append(_compressed(frames, JPEG2000Lossless, volume, **functional))
    return files


def damaged(data: bytes, rng: np.random.Generator) -> bytes:
    """One to three damages: single bytes, numbers at their ends, parts that are lost, doubled, moved or blank."""
    content = bytearray(data)
    for _ in range(rng.integers(1, 4)):
        # the header is where most of what can go wrong stands
        end = min(len(content), 2000) if rng.random() < 0.6 else len(content)
        place = int(rng.integers(0, max(1, end)))
        length = int(rng.integers(1, 200))
        kind = rng.integers(0, 7)
        if kind == 0:
            content[place : place + 1] = bytes([rng.integers(0, 256)])
        elif kind == 1:
            number = (0, 1, 0xFFFFFFFF, 0xFFFFFFFE, 0x7FFFFFFF, 0x80000000, 0xFFFF, 8)[rng.integers(0, 8)]
            content[place : place + 4] = struct.pack("<L", number)
        elif kind == 2:
            del content[place : place + length]
        elif kind == 3:
            content[place:place] = content[place : place + length]
        elif kind == 4:
            other = int(rng.integers(0, len(content)))
            content[place : place + length] = content[other : other + length]
        elif kind == 5:
            content[place : place + length] = bytes(rng.integers(0, 256, length, dtype=np.uint8))
        elif rng.random() < 0.3:
            del content[place:]
    return bytes(content)


def read(content: bytes) -> str:
    """Says "read" or "refused"; raises for anything else that happens."""
    _LOGGED.seek(0)
    _LOGGED.truncate()
    with warnings.catch_warnings(record=True) as warned:
        warnings.simplefilter("always")
        try:
            mammogram = read_mammogram(content)
            intensity = mammogram.intensity()
            said = repr(mammogram) + repr(mammogram.header.contradictions)
        except MammogramError as error:
            said = "".join(traceback.format_exception(error))
            outcome = "refused"
        else:
            assert intensity.dtype == np.float32
            assert 0 <= intensity.min() <= intensity.max() <= 1
            outcome = "read"
    said += "".join(str(warning.message) for warning in warned) + _LOGGED.getvalue()
    assert not any(name in said for name in PERSON), "a person is named"
    return outcome


def main(first: int, count: int) -> None:
    """Reads the damaged files of some seeds."""
    logging.basicConfig(stream=_LOGGED, level=logging.DEBUG)
    files = corpus()
    for content in files:
        assert read(content) == "read"
    counts = {"read": 0, "refused": 0}
    problems = {}
    for seed in range(first, first + count):
        print(seed, file=sys.stderr, flush=True)
        content = damaged(files[seed % len(files)], np.random.default_rng(seed))
        signal.alarm(SECONDS)
        try:
            counts[read(content)] += 1
        except Exception as error:
            problems[seed] = f"{type(error).__name__}: {error}"
        signal.alarm(0)
    print(json.dumps({**counts, "problems": problems}))


if __name__ == "__main__":
    main(int(sys.argv[1]), int(sys.argv[2]))
