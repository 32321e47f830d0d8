"""Whatever a stranger's file holds: one kind of error, soon, and without eating the machine."""

from __future__ import annotations

import json
import os
import struct
import subprocess
import sys
import tracemalloc
import zlib
from pathlib import Path

import hostile
import numpy as np
import pytest
from pydicom.uid import DeflatedExplicitVRLittleEndian, RLELossless

from mammo_hf.dicom import MammogramError, mammogram_dataset, read_mammogram

# The slowest file takes about a second of one core; the limit is for work that grows without bound.
MEMORY_MB, CPU_SECONDS = 200, 10.0


@pytest.fixture(scope="module")
def measured() -> dict[str, dict]:
    """Each file is read in a process of its own kind, whose largest size is then that of the reading."""
    script = Path(hostile.__file__)
    result = subprocess.run([sys.executable, str(script)], capture_output=True, text=True, check=True)
    return {line["name"]: line for line in map(json.loads, result.stdout.splitlines())}


@pytest.mark.parametrize("name", hostile.HOSTILE)
def test_a_hostile_file_is_refused_soon_and_cheaply(name: str, measured: dict[str, dict]) -> None:
    found = measured[name]
    assert found["error"].startswith("MammogramError: ")
    # CPU time: how busy the machine is with other things does not count
    assert found["seconds"] < CPU_SECONDS
    assert found["megabytes"] < MEMORY_MB


@pytest.mark.parametrize("name", hostile.HARMLESS)
def test_an_odd_file_is_read_all_the_same(name: str, measured: dict[str, dict]) -> None:
    assert measured[name]["error"] == "none"
    assert (read_mammogram(hostile.HARMLESS[name]()).pixels[0] == hostile.PIXELS).all()


def test_the_limit_on_pixels_can_be_raised(tmp_path: Path) -> None:
    path = tmp_path / "sparse.dcm"
    data = hostile.plain(Rows=9000, Columns=9000)
    start = data.index(b"\xe0\x7f\x10\0") + 12
    size = 9000 * 9000 * 2
    path.write_bytes(data[: start - 4] + size.to_bytes(4, "little") + data[start:])
    os.truncate(path, start + size)  # a hole in the file: it takes no room
    with pytest.raises(Exception, match="raise max_pixels"):
        read_mammogram(path)
    mammogram = read_mammogram(path, max_pixels=9000 * 9000)
    assert (mammogram.frame(0).ravel()[: hostile.PIXELS.size] == hostile.PIXELS.ravel()).all()


def test_the_items_of_a_sequence_cost_as_little_as_the_file(tmp_path: Path) -> None:
    def with_groups(count: int) -> bytes:
        return hostile.before_pixels(
            hostile.plain(),
            struct.pack("<HH2sHL", 0x5200, 0x9230, b"SQ", 0, 8 * count)
            + struct.pack("<HHL", 0xFFFE, 0xE000, 0) * count,
        )

    with pytest.raises(MammogramError, match="more items"):
        read_mammogram(with_groups(90_000))
    tracemalloc.start()
    read_mammogram(with_groups(19_000))
    assert tracemalloc.get_traced_memory()[1] < 50e6
    tracemalloc.stop()


def test_a_deflated_volume_is_handed_to_the_decompressor_once(monkeypatch: pytest.MonkeyPatch) -> None:
    pixels = np.random.default_rng(0).integers(0, 4096, (60, 512, 512)).astype(np.uint16)
    dataset = mammogram_dataset(pixels, bits_stored=12, TransferSyntaxUID=DeflatedExplicitVRLittleEndian)
    content, handed, real = hostile.content(dataset), [0], zlib.decompressobj

    class Counting:
        def __init__(self, bits: int) -> None:
            self._real = real(bits)

        def decompress(self, data: bytes, size: int) -> bytes:
            handed[0] += len(data)
            return self._real.decompress(data, size)

        def __getattr__(self, name: str) -> object:
            return getattr(self._real, name)

    monkeypatch.setattr(zlib, "decompressobj", Counting)
    assert np.array_equal(read_mammogram(content).frame(59), pixels[-1])
    assert handed[0] < 3 * len(content)


def test_run_lengths_are_unpacked_no_further_than_the_frame() -> None:
    segment = b"\x81\0" * (1 << 16)  # stands for 8 MB
    frame = struct.pack("<16L", 2, 64, 64 + len(segment), *[0] * 13) + segment * 2
    tracemalloc.start()
    read_mammogram(hostile.encapsulated(frame, RLELossless))
    assert tracemalloc.get_traced_memory()[1] < 4e6
    tracemalloc.stop()
