"""Every requirement has a lower bound, and what we pin lies within what we admit."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

import pytest
from packaging.requirements import Requirement

ROOT = Path(__file__).resolve().parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]


@pytest.fixture(scope="module")
def script(program):
    return program("scripts/lowest_versions.py")


def plain(name):
    return re.sub(r"[-_.]+", "-", name).lower()


def test_it_prints_the_lower_bound_of_every_requirement(script, capsys):
    script.main(["codecs", "onnx"])
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == len(PROJECT["dependencies"]) + 4
    assert "pydicom==3.0" in lines
    assert any(line.startswith("onnxruntime==") for line in lines)


def test_a_requirement_without_one_is_refused(script):
    assert script.lowest("ray[data]>=2.40,<4") == "ray==2.40"
    with pytest.raises(ValueError, match="no lower bound"):
        script.lowest("numpy<3")


def test_every_requirement_has_one_and_what_we_pin_is_admitted(script):
    pins = dict(line.split("==") for line in (ROOT / "constraints.txt").read_text().split())
    pins = {plain(name): version for name, version in pins.items()}
    extras = PROJECT["optional-dependencies"].values()
    for requirement in [*PROJECT["dependencies"], *(one for extra in extras for one in extra)]:
        parsed = Requirement(requirement)
        if parsed.name != "mammo-hf":
            assert script.lowest(requirement)
            assert parsed.specifier.contains(pins[plain(parsed.name)]), requirement
