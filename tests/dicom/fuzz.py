"""Files of every kind, damaged at random from a seed. A script, so that a decoder that kills its process is seen.

``python tests/dicom/fuzz.py FIRST COUNT`` reads as many damaged files and prints, as JSON, how many of each kind were
read, how many refused, and what went wrong otherwise: another exception, too much time or memory, a person's name.
Kinds are the bytes of DICOM files, their compressed frames alone, their elements, and pictures. Decoders run in
readers, as in commands. The number of the file in hand is written to standard error before it is read.
"""

from __future__ import annotations

import json
import logging
import resource
import signal
import struct
import sys
import traceback
import warnings
import zlib
from collections.abc import Callable
from io import BytesIO, StringIO

import imagecodecs
import numpy as np
from PIL import Image
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
from mammo_hf.errors import MammoError
from mammo_hf.isolation import isolating
from mammo_hf.processing.image_source import open_image, read_levels

SECONDS = 20  # much more than any of these files can take, even on a busy machine; a decoder has ten
MEGABYTES = 200
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


def drawn() -> np.ndarray:
    """Pixels of 12 bits, uint16 (40, 48)."""
    rows, columns = np.mgrid[:40, :48]
    return (40 * rows + 20 * columns + np.random.default_rng(0).integers(0, 30, (40, 48))).astype(np.uint16)


Stream = tuple[bytes, str, np.ndarray]  # a compressed frame, its transfer syntax, and its pixels


def codestreams() -> list[Stream]:
    """A frame of every native codec."""
    pixels = drawn()
    eight = (pixels >> 4).astype(np.uint8)
    return [
        (imagecodecs.jpeg2k_encode(pixels, level=0, codecformat="j2k"), JPEG2000Lossless, pixels),
        (imagecodecs.jpegls_encode(pixels), JPEGLSLossless, pixels),
        (imagecodecs.jpeg8_encode(pixels, lossless=True, bitspersample=16), JPEGLosslessSV1, pixels),
        (imagecodecs.htj2k_encode(pixels), HTJ2KLossless, pixels),
        (imagecodecs.jpeg8_encode(pixels, bitspersample=12), JPEGExtended12Bit, pixels),
        (imagecodecs.jpeg8_encode(eight), JPEGBaseline8Bit, eight),
    ]


def corpus() -> list[bytes]:
    """Sound files: every transfer syntax, both kinds of tables, windows, padding, functional groups."""
    pixels = drawn()
    volume = np.stack([pixels, pixels // 2, pixels // 3])
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
    files += [_compressed([frame], syntax, decoded, **window) for frame, syntax, decoded in codestreams()]
    groups = [_item(FrameVOILUTSequence=[_item(WindowCenter=1000 * n + 500, WindowWidth=900)]) for n in range(3)]
    shared = [_item(PixelMeasuresSequence=[_item(PixelSpacing=[0.1, 0.1])])]
    functional = {"SharedFunctionalGroupsSequence": shared, "PerFrameFunctionalGroupsSequence": groups}
    files.append(_saved(mammogram_dataset(volume, bits_stored=12, **functional, **_person())))
    frames = [imagecodecs.jpeg2k_encode(frame, level=0, codecformat="j2k") for frame in volume]
    files.append(_compressed(frames, JPEG2000Lossless, volume, **functional))
    return files


def damaged(data: bytes, rng: np.random.Generator, head: int = 2000, order: str = "<") -> bytes:
    """One to three damages: single bytes, numbers at their ends, parts that are lost, doubled, moved or blank."""
    content = bytearray(data)
    for _ in range(rng.integers(1, 4)):
        # the header is where most of what can go wrong stands
        end = min(len(content), head) if rng.random() < 0.6 else len(content)
        place = int(rng.integers(0, max(1, end)))
        length = int(rng.integers(1, 200))
        kind = rng.integers(0, 7)
        if kind == 0:
            content[place : place + 1] = bytes([rng.integers(0, 256)])
        elif kind == 1:
            number, size = _NUMBERS[rng.integers(0, len(_NUMBERS))], int(rng.choice([2, 4]))
            wide = struct.pack(f"{order}Q", number)
            content[place : place + size] = wide[:size] if order == "<" else wide[-size:]
        elif kind == 2:
            del content[place : place + length]
        elif kind == 3:
            content[place:place] = content[place : place + length]
        elif kind == 4:
            other = int(rng.integers(0, len(content) + 1))
            content[place : place + length] = content[other : other + length]
        elif kind == 5:
            content[place : place + length] = bytes(rng.integers(0, 256, length, dtype=np.uint8))
        elif rng.random() < 0.3:
            del content[place:]
    return bytes(content)


_NUMBERS = (0, 1, 8, 0xFFFF, 0x7FFF, 0x8000, 0xFFFFFFFF, 0xFFFFFFFE, 0x7FFFFFFF, 0x80000000)


def damaged_codestream(streams: list[Stream], number: int, rng: np.random.Generator) -> bytes:
    """Damage a compressed frame alone, mostly its markers, in a file that is sound."""
    frame, syntax, pixels = streams[number % len(streams)]
    broken = damaged(frame, rng, head=160, order=">")
    if rng.random() < 0.5:
        broken = broken[: -(len(broken) % 2) or None] + (b"\xff\xd9" if frame.endswith(b"\xff\xd9") else b"")
    return _compressed([broken if len(broken) > 1 else bytes(2)], syntax, pixels)


# Elements of a file in explicit little endian: what a header is made of.

_VALUES = (
    *(b"", b"\\", b"nan", b"-1", b"1e400", b"0\\0", b"1" * 5000, b"\xff" * 64, b"1.2.3", b"MONOCHROME1", b"\0" * 8),
    *(struct.pack("<L", number) for number in _NUMBERS),
)
_LONG = (b"OB", b"OW", b"OF", b"SQ", b"UN", b"UT", b"UC", b"UR")
_VRS = (*_LONG, b"US", b"SS", b"DS", b"IS", b"CS", b"LO", b"PN", b"UI", b"FD", b"AT", b"??")


def elements(data: bytes) -> tuple[bytes, list[tuple[bytes, bytes, bytes]]]:
    """Preamble and meta information; then tag, VR and value of each element of the data set."""
    position = 132 + 12 + struct.unpack_from("<L", data, 140)[0]
    start, found = data[:position], []
    while position < len(data):
        tag, vr = data[position : position + 4], data[position + 4 : position + 6]
        length = (
            struct.unpack_from("<L", data, position + 8)[0]
            if vr in _LONG
            else struct.unpack_from("<H", data, position + 6)[0]
        )
        position += 12 if vr in _LONG else 8
        end = len(data) if length == 0xFFFFFFFF else position + length
        found.append((tag, vr, data[position:end]))
        position = end
    return start, found


def element(tag: bytes, vr: bytes, value: bytes, length: int | None = None) -> bytes:
    """An element with the length that is given, right or wrong."""
    length = len(value) if length is None else length
    if vr in _LONG:
        return tag + vr + struct.pack("<HL", 0, length & 0xFFFFFFFF) + value
    return tag + vr + struct.pack("<H", length & 0xFFFF) + value


def damaged_structure(data: bytes, rng: np.random.Generator) -> bytes:
    """Elements lost, doubled, moved, of another VR, length or value, or nested deeply."""
    start, parts = elements(data)
    written = [element(*part) for part in parts]
    for _ in range(rng.integers(1, 5)):
        at = int(rng.integers(0, len(parts)))
        tag, vr, value = parts[at]
        kind = rng.integers(0, 7)
        if kind == 0:
            written[at] = b""
        elif kind == 1:
            written[at] *= int(rng.choice([2, 300]))
        elif kind == 2:
            written[at] = element(tag, _VRS[rng.integers(0, len(_VRS))], value)
        elif kind == 3:
            written[at] = element(tag, vr, value, int(rng.choice(_NUMBERS)))
        elif kind == 4:
            written[at] = element(tag, vr, _VALUES[rng.integers(0, len(_VALUES))])
        elif kind == 5:
            depth, undefined = int(rng.choice([3, 40, 2000])), 0xFFFFFFFF
            item = b"\xfe\xff\x00\xe0" + struct.pack("<L", undefined)
            written[at] = element(tag, b"SQ", item, undefined) * depth
        else:
            other = int(rng.integers(0, len(parts)))
            written[at], written[other] = written[other], written[at]
    return start + b"".join(written)


# Pictures.


def pictures() -> list[bytes]:
    """Sound PNG, TIFF and PGM of 8 and 16 bits, and a JPEG."""
    rows, columns = np.mgrid[:40, :48]
    sixteen = (900 * rows + 500 * columns).astype(np.uint16)
    eight = (sixteen >> 8).astype(np.uint8)
    files = [
        b"P5\n48 40\n255\n" + eight.tobytes(),
        b"P5 # twelve bits\n48 40 4095\n" + (sixteen >> 4).astype(">u2").tobytes(),
    ]
    files.append(b"P2\n48 40\n255\n" + " ".join(map(str, eight.ravel())).encode())
    for pixels, kind, options in (
        *((one, "PNG", {}) for one in (eight, sixteen)),
        *(
            (one, "TIFF", {"compression": how})
            for one in (eight, sixteen)
            for how in (None, "tiff_lzw", "tiff_adobe_deflate")
        ),
        (eight, "JPEG", {}),
    ):
        file = BytesIO()
        Image.fromarray(pixels).save(file, kind, **options)
        files.append(file.getvalue())
    return files


def damaged_picture(data: bytes, rng: np.random.Generator) -> bytes:
    """Damage a picture; half of the PNGs have right checksums afterwards, so that more than these are tried."""
    content = bytearray(damaged(data, rng, head=120, order="><"[int(rng.integers(0, 2))]))
    position = 8
    while content[1:4] == b"PNG" and rng.random() < 0.9 and position + 12 <= len(content):
        end = position + 8 + struct.unpack_from(">L", content, position)[0]
        if end + 4 > len(content):
            break
        content[end : end + 4] = struct.pack(">L", zlib.crc32(content[position + 4 : end]))
        position = end + 4
    return bytes(content)


def read_picture(content: bytes) -> str:
    """Says "read" or "refused" of the three ways in which commands read a picture."""
    outcome = "read"
    for way in (lambda: open_image(content).view(slice(None)), lambda: read_levels(content)):
        try:
            values = way()
        except MammoError:
            outcome = "refused"
        else:
            assert np.isfinite(values).all()
    return outcome


def read_dicom(content: bytes) -> str:
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


def makers() -> dict[str, Callable[[int, np.random.Generator], bytes]]:
    """How each kind of damage makes a file of a seed."""
    files, streams, shown = corpus(), codestreams(), pictures()
    explicit = [file for file in files if b"1.2.840.10008.1.2.1\0" in file[:400]]
    return {
        "bytes": lambda seed, rng: damaged(files[seed % len(files)], rng),
        "codestream": lambda seed, rng: damaged_codestream(streams, seed, rng),
        "structure": lambda seed, rng: damaged_structure(explicit[seed % len(explicit)], rng),
        "picture": lambda seed, rng: damaged_picture(shown[seed % len(shown)], rng),
    }


def main(first: int, count: int) -> None:
    """Reads the damaged files of some seeds, the kinds in turn."""
    logging.basicConfig(stream=_LOGGED, level=logging.DEBUG)
    for content in corpus():
        assert read_dicom(content) == "read"
    for content in pictures():
        assert read_picture(content) == "read"
    kinds = makers()
    counts = {kind: {"read": 0, "refused": 0} for kind in kinds}
    problems = {}
    for seed in range(first, first + count):
        print(seed, file=sys.stderr, flush=True)
        kind, rng = list(kinds)[seed % len(kinds)], np.random.default_rng(seed)
        content = kinds[kind](seed // len(kinds), rng)
        before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        signal.alarm(SECONDS)
        try:
            counts[kind][(read_picture if kind == "picture" else read_dicom)(content)] += 1
            grown = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1000
            assert grown < MEGABYTES, f"{grown:.0f} MB more memory"
        except Exception as error:
            problems[seed] = f"{kind}: {type(error).__name__}: {error}"
        signal.alarm(0)
    print(json.dumps({**counts, "problems": problems}))


if __name__ == "__main__":
    with isolating():
        main(int(sys.argv[1]), int(sys.argv[2]))
