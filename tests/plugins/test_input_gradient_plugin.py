"""The door for explainers of others: a distribution of its own, found by its entry point."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

PLUGIN = Path(__file__).resolve().parents[2] / "plugins" / "mammo-hf-input-gradient"

FOUND = """
from mammo_hf.explainers import explainers, find_explainer
from mammo_hf.testing import check_explainer
found = explainers()["input_gradient"]
assert found.reason is None, found.reason
check_explainer("input_gradient")
print(find_explainer("input_gradient").__file__)
"""


def run(*command, path):
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(map(str, path))}
    done = subprocess.run(
        [sys.executable, *map(str, command)], env=environment, cwd=path[0], capture_output=True, text=True, timeout=300
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.mark.slow
def test_is_found_by_its_entry_point(tmp_path):
    # what pip leaves, written by hand from the plugin's own pyproject
    import tomllib

    project = tomllib.loads((PLUGIN / "pyproject.toml").read_text())["project"]
    (group,) = project["entry-points"]
    info = tmp_path / "mammo_hf_input_gradient-0.1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {project['name']}\nVersion: 0.1.0\n")
    lines = [f"{name} = {value}" for name, value in project["entry-points"][group].items()]
    (info / "entry_points.txt").write_text("\n".join([f"[{group}]", *lines, ""]))
    assert str(PLUGIN) in run("-c", FOUND, path=[tmp_path, PLUGIN])


@pytest.mark.slow
def test_installs_on_its_own_and_passes_its_tests(tmp_path):
    site = tmp_path / "site"
    source = tmp_path / "source"
    # from a copy, because setuptools builds inside the source folder
    source.mkdir()
    for name in ("pyproject.toml", "README.md", "mammo_hf_input_gradient.py"):
        (source / name).write_bytes((PLUGIN / name).read_bytes())
    options = ["--quiet", "--disable-pip-version-check", "--no-deps", "--no-build-isolation", "--no-index"]
    run("-m", "pip", "install", *options, "--target", site, source, path=[tmp_path])
    assert str(site) in run("-c", FOUND, path=[site])
    listed = run("-c", "from mammo_hf.cli import main; main()", "explainers", path=[site])
    assert any(line.split()[:2] == ["input_gradient", "ready"] for line in listed.splitlines())
    # its own tests, against the installed module and not the one beside them
    tests = PLUGIN / "tests"
    passed = run(
        "-m", "pytest", "-q", "-p", "no:cacheprovider", "--rootdir", tmp_path, "-c", os.devnull, tests, path=[site]
    )
    assert "3 passed" in passed
