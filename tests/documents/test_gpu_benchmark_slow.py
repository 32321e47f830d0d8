"""`benchmarks/gpu.py` runs on a CPU with tiny sizes, so that it works when a GPU is at hand."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


@pytest.mark.slow
def test_it_writes_one_table_of_all_parts(tmp_path):
    tiny = ["--model", "nano", "--image_size", "224", "112", "--batch_size", "2", "--rounds", "1"]
    tiny += ["--images", "24", "--frame", "512", "256"]
    command = [sys.executable, "benchmarks/gpu.py", *tiny, "--output", str(tmp_path / "gpu.md")]
    paths = os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")])
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, env=os.environ | {"PYTHONPATH": paths})
    assert done.returncode == 0, done.stderr[-2000:]
    rows = re.findall(r"^\| (\w+) \| (.+) \| ([\d.]+) \| (.+) \|$", (tmp_path / "gpu.md").read_text(), re.MULTILINE)
    assert {part for part, *_ in rows} == {"mim", "classification", "predict", "explain"}
    assert all(float(ratio) > 0 for *_, ratio, _ in rows)
