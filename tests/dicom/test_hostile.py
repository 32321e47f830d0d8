"""Whatever a stranger's file holds: one kind of error, soon, and without eating the machine."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import hostile
import pytest

from mammo_hf.dicom import read_mammogram

MEMORY_MB, CPU_SECONDS = 200, 1.0


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
