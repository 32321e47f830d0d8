"""Files that were made to do harm, and those that merely are something else. Run as a script: what each of them costs.

``python tests/dicom/hostile.py`` prints a line of JSON for each: the error, CPU seconds, and by how many MB the process
has grown at its largest.
"""

from __future__ import annotations

import json
import os
import resource
import struct
import tempfile
import time
import warnings
import zlib
from collections.abc import Callable
from io import BytesIO
from pathlib import Path

import numpy as np
from pydicom.dataset import Dataset
from pydicom.encaps import encapsulate
from pydicom.uid import (
    DeflatedExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
    JPEG2000Lossless,
    RLELossless,
)

from mammo_hf.dicom import MammogramError, mammogram_dataset, read_mammogram

PIXELS = np.arange(64 * 64, dtype=np.uint16).reshape(64, 64)
DEEP = 50_000


def content(dataset: Dataset) -> bytes:
    file = BytesIO()
    dataset.save_as(file, enforce_file_format=True)
    return file.getvalue()


def plain(**keywords: object) -> bytes:
    return content(mammogram_dataset(PIXELS, bits_stored=12, **keywords))


def before_pixels(data: bytes, element: bytes) -> bytes:
    """A file with one more element, in explicit VR, in front of its pixels."""
    place = data.index(b"\xe0\x7f\x10\0")
    return data[:place] + element + data[place:]


def nested(undefined: bool) -> bytes:
    """A VOI LUT sequence in a VOI LUT sequence in ..."""
    if undefined:
        level = struct.pack("<HH2sHL", 0x28, 0x3010, b"SQ", 0, 0xFFFFFFFF) + struct.pack(
            "<HHL", 0xFFFE, 0xE000, 0xFFFFFFFF
        )
        return before_pixels(plain(), level * DEEP)
    inner = b""
    for _ in range(3000):
        item = struct.pack("<HHL", 0xFFFE, 0xE000, len(inner)) + inner
        inner = struct.pack("<HH2sHL", 0x28, 0x3010, b"SQ", 0, len(item)) + item
    return before_pixels(plain(), inner)


def deflated(body: bytes) -> bytes:
    """A deflated file whose data set unpacks to ``body``."""
    whole = plain(TransferSyntaxUID=DeflatedExplicitVRLittleEndian)
    start = 132 + 12 + struct.unpack("<L", whole[140:144])[0]
    packer = zlib.compressobj(1, zlib.DEFLATED, -zlib.MAX_WBITS)
    return whole[:start] + packer.compress(body) + packer.flush()


def deflated_bomb(*, in_header: bool, rows: int) -> bytes:
    header = plain(Rows=rows, Columns=rows)
    body = header[132 + 12 + struct.unpack("<L", header[140:144])[0] :]
    place = body.index(b"\xe0\x7f\x10\0")
    zeros = bytes(250_000_000)
    if in_header:
        # an attribute that is asked for, so that it is not skipped
        return deflated(body[:place] + struct.pack("<HH2sHL", 0x28, 0x3010, b"OB", 0, len(zeros)) + zeros)
    return deflated(body[:place] + struct.pack("<HH2sHL", 0x7FE0, 0x10, b"OW", 0, len(zeros)) + zeros)


def codestream(rows: int, columns: int) -> bytes:
    """The beginning of a JPEG 2000 image of any size."""
    size = struct.pack(">HHIIIIIIIIH", 41, 0, columns, rows, 0, 0, columns, rows, 0, 0, 1) + bytes([11, 1, 1])
    return b"\xff\x4f\xff\x51" + size + b"\xff\xd9"


def encapsulated(frame: bytes, syntax: str, **keywords: object) -> bytes:
    dataset = mammogram_dataset(PIXELS, bits_stored=12, TransferSyntaxUID=syntax, **keywords)
    dataset["PixelData"].is_undefined_length = True
    dataset.PixelData = encapsulate([frame])
    return content(dataset)


def run_lengths() -> bytes:
    segment = b"\x81\0" * 4000  # each pair stands for 128 zeros
    offsets = struct.pack("<16L", 2, 64, 64 + len(segment), *[0] * 13)
    return encapsulated(offsets + segment * 2, RLELossless, Rows=8000, Columns=8000)


def window(center: str, width: str, **keywords: object) -> bytes:
    data = plain(WindowCenter="11111", WindowWidth="22222", **keywords)
    return data.replace(b"11111 ", center.encode().ljust(6)).replace(b"22222 ", width.encode().ljust(6))


def many_elements() -> bytes:
    return before_pixels(plain(), struct.pack("<HH2sH", 0x28, 0x30, b"DS", 0) * 600_000)


def implicit_length() -> bytes:
    data = plain(TransferSyntaxUID=ImplicitVRLittleEndian)
    place = data.index(b"\x28\0\x04\0") + 4
    return data[:place] + struct.pack("<L", 0xFFFFFFF0) + data[place + 4 :]


def changed(old: bytes, new: bytes, **keywords: object) -> bytes:
    data = plain(**keywords)
    assert old in data
    return data.replace(old, new, 1)


def wrong_group_length() -> bytes:
    data = bytearray(plain())
    assert data[136:140] == b"UL\x04\0"
    data[140:144] = struct.pack("<L", 0x7FFFFFFF)
    return bytes(data)


def _item(**keywords: object) -> Dataset:
    item = Dataset()
    for keyword, value in keywords.items():
        setattr(item, keyword, value)
    return item


def windows(frames: int, bits: int) -> bytes:
    """A volume with a window of each frame's own."""
    groups = [_item(FrameVOILUTSequence=[_item(WindowCenter=frame, WindowWidth=900)]) for frame in range(frames)]
    volume = np.zeros((frames, 2, 2), np.uint16)
    return content(mammogram_dataset(volume, bits_stored=bits, PerFrameFunctionalGroupsSequence=groups))


# odd, but nothing is wrong with what they show
HARMLESS: dict[str, Callable[[], bytes]] = {
    "sequences within sequences, with lengths": lambda: nested(False),
    "a wrong length of the file meta information": wrong_group_length,
    "a negative number of frames": lambda: changed(b"IS\x02\x000 ", b"IS\x02\x00-1", NumberOfFrames="0"),
    "window of NaN": lambda: window("nan", "100"),
    "width of NaN": lambda: window("100", "nan"),
    "width of infinity": lambda: window("100", "inf"),
    "width of zero": lambda: window("100", "0"),
    "negative width": lambda: window("100", "-50"),
    "sigmoid of width zero": lambda: window("100", "0", VOILUTFunction="SIGMOID"),
    "slope of NaN": lambda: changed(b"DS\x02\x001 ", b"DS\x02\x00na"),
    "LUT without its data": lambda: plain(VOILUTSequence=[_item(LUTDescriptor=[4096, 0, 12], LUTData=b"\1\0\2\0")]),
    "an empty VOI LUT and an empty window": lambda: plain(VOILUTSequence=[Dataset()], WindowCenter="", WindowWidth=""),
}

HOSTILE: dict[str, Callable[[], bytes]] = {
    "nothing": lambda: b"",
    "pdf": lambda: b"%PDF-1.7\n" + bytes(5000),
    "picture": lambda: b"\x89PNG\r\n\x1a\n" + bytes(5000),
    "text": lambda: b"no image at all " * 400,
    "zeros": lambda: bytes(100_000),
    "preamble and nothing": lambda: bytes(128) + b"DICM",
    "truncated header": lambda: plain()[:600],
    "truncated pixels": lambda: plain()[:-2000],
    "truncated after the pixels' tag": lambda: plain()[: plain().index(b"\xe0\x7f\x10\0") + 4],
    "over-long": lambda: plain(PixelData=PIXELS.tobytes() * 3),
    "65535 x 65535": lambda: plain(Rows=65535, Columns=65535),
    "46341 x 46341": lambda: plain(Rows=46341, Columns=46341),
    "100,000 frames": lambda: plain(NumberOfFrames="100000"),
    "99,999 frames": lambda: plain(NumberOfFrames="99999"),
    "4 GB in an attribute": implicit_length,
    "600,000 attributes": many_elements,
    "sequences within sequences, without lengths": lambda: nested(True),
    "deflated bomb in the header": lambda: deflated_bomb(in_header=True, rows=64),
    "deflated bomb in the pixels": lambda: deflated_bomb(in_header=False, rows=64),
    "deflated bomb of a large image": lambda: deflated_bomb(in_header=False, rows=30000),
    "deflated rubbish": lambda: plain(TransferSyntaxUID=DeflatedExplicitVRLittleEndian)[:400] + b"rubbish" * 99,
    "JPEG 2000 bomb": lambda: encapsulated(codestream(60000, 60000), JPEG2000Lossless, Rows=60000, Columns=60000),
    "JPEG 2000 bomb behind a small header": lambda: encapsulated(codestream(60000, 60000), JPEG2000Lossless),
    "JPEG 2000 header and no more": lambda: encapsulated(codestream(64, 64), JPEG2000Lossless),
    "JPEG 2000 header of the largest image": lambda: encapsulated(
        codestream(8192, 8192), JPEG2000Lossless, Rows=8192, Columns=8192
    ),
    "run-length bomb": run_lengths,
    "4,000 frames with a window each": lambda: windows(4000, 8),
    "600 frames of 16 bits with a window each": lambda: windows(600, 16),
    "colour": lambda: plain(PhotometricInterpretation="RGB", SamplesPerPixel=3),
    "CT": lambda: plain(Modality="CT"),
    "report": lambda: plain(Modality="SR", PixelData=None),
    "no pixels": lambda: plain(PixelData=None),
}


def _measure(path: Path) -> dict[str, object]:
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    started = time.process_time()
    try:
        read_mammogram(path)
        error = "none"
    except MammogramError as found:
        error = f"MammogramError: {found.problem}"
    except BaseException as found:
        error = f"{type(found).__name__}: {found}"
    seconds = time.process_time() - started
    return {"error": error, "seconds": seconds, "megabytes": _growth(before)}


def _growth(before: int) -> float:
    return (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1024


def main() -> None:
    """Makes each file in a process of its own, so that making it does not count, and reads it in this one."""
    warnings.simplefilter("ignore")
    read_mammogram(plain())  # what is imported at the first file is not the file's
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "hostile.dcm"
        for name, make in {**HOSTILE, **HARMLESS}.items():
            child = os.fork()
            if not child:
                path.write_bytes(make())
                os._exit(0)
            assert os.waitpid(child, 0)[1] == 0, name
            print(json.dumps({"name": name, **_measure(path)}), flush=True)


if __name__ == "__main__":
    main()
