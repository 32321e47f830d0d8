"""Thousands of damaged files: each is read or refused, none hangs, ends the process, or names its patient."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

SCRIPT = Path(__file__).with_name("fuzz.py")


def fuzz(first: int, count: int) -> dict:
    result = subprocess.run([sys.executable, str(SCRIPT), str(first), str(count)], capture_output=True, text=True)
    assert result.returncode == 0, f"ended at seed {result.stderr.splitlines()[-1:]} with {result.returncode}"
    return json.loads(result.stdout)


@pytest.mark.parametrize(("first", "count"), [(0, 800), pytest.param(800, 16_000, marks=pytest.mark.slow)])
def test_damaged_files_are_read_or_refused(first: int, count: int) -> None:
    pytest.importorskip("imagecodecs")
    found = fuzz(first, count)
    assert found.pop("problems") == {}
    for kind, outcomes in found.items():
        # neither so little damage that nothing is tried, nor so much that nothing gets through the first check
        assert outcomes["read"] > count / 80, kind
        assert outcomes["refused"] > count / 80, kind
