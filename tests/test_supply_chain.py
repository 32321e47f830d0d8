"""What the package brings along: no GPL, an SBOM of all of it, and the same files from every build."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
# packages that state a licence of this family, with the reason why they are admitted
ADMITTED = {
    "docutils": "for the project's own checks only (twine); the parts under the GPL are not in its wheel",
}


@pytest.fixture(scope="module")
def script(program):
    return program("scripts/supply_chain.py")


def test_nothing_that_is_installed_is_under_the_gpl_alone(script):
    packages = script.shipped(left_out=set())
    assert {"torch", "transformers", "pydicom", "pytest"} <= set(packages)
    stated = {name: script.licence_of(package) for name, package in packages.items()}
    assert [name for name, licence in stated.items() if not licence] == []
    refused = {name for name, licence in stated.items() if not script.is_free(licence)}
    assert refused <= set(ADMITTED)
    assert not refused & set(script.shipped()), "an exception is for development alone"


@pytest.mark.parametrize(
    ("expression", "free"),
    [
        ("MIT", True),
        ("GPL-3.0-only", False),
        ("LGPL-2.1-or-later", False),
        ("AGPL-3.0-only", False),
        ("MIT OR GPL-2.0-only", True),
        ("MIT AND GPL-2.0-only", False),
        ("(MIT OR GPL-2.0-only) AND LGPL-3.0-only", False),
        ("GPL-2.0-only OR BSD-3-Clause AND LGPL-2.1-only", False),
        ("GPL-2.0-or-later WITH Classpath-exception-2.0", False),
        ("Apache-2.0 WITH LLVM-exception AND MIT", True),
    ],
)
def test_an_expression_counts_by_its_free_branch(script, expression, free):
    assert script.is_free(expression) is free


@pytest.mark.parametrize("text", ["", "MIT AND", "(MIT", "MIT MIT", "OR MIT"])
def test_what_is_no_expression_is_refused(script, text):
    with pytest.raises(ValueError, match="not an SPDX expression"):
        script.is_free(text)


def test_the_sbom_lists_every_package_and_its_needs(script):
    packages = script.shipped()
    found = json.loads(json.dumps(script.sbom(packages)))
    assert (found["bomFormat"], found["specVersion"]) == ("CycloneDX", "1.6")
    references = {part["bom-ref"] for part in found["components"]} | {found["metadata"]["component"]["bom-ref"]}
    assert len(references) == len(packages)
    assert {one for needs in found["dependencies"] for one in needs["dependsOn"]} <= references
    assert found == json.loads(json.dumps(script.sbom(script.shipped())))


@pytest.mark.slow
def test_two_builds_are_equal_to_the_bit(tmp_path):
    pytest.importorskip("build", reason="build is not installed (the extra dev)")
    left_out = shutil.ignore_patterns(".*", "build", "dist", "*.egg-info", "__pycache__")
    built = []
    for number, umask in enumerate((0o022, 0o077)):
        project = shutil.copytree(ROOT, tmp_path / f"project{number}", ignore=left_out)
        for path in project.rglob("*.py"):
            os.utime(path, (10**9 + number, 10**9 + number))
        command = [
            sys.executable,
            "-m",
            "build",
            "--no-isolation",
            "--outdir",
            str(tmp_path / f"{number}"),
            str(project),
        ]
        subprocess.run(command, check=True, capture_output=True, umask=umask, timeout=280)
        built.append({path.name: path.read_bytes() for path in (tmp_path / f"{number}").iterdir()})
    assert len(built[0]) == 2
    assert built[0] == built[1]
