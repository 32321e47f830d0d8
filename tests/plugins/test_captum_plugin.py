"""The plugin that authors copy: listed with its reason where captum is missing, ready where it is there."""

import importlib.util
import os
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
PLUGIN = ROOT / "plugins" / "mammo-hf-captum"
NAMES = ("captum_integrated_gradients", "captum_occlusion", "captum_smooth_grad")

LIST = """
import importlib.util
if {hidden}:
    find = importlib.util.find_spec
    importlib.util.find_spec = lambda name, *rest: None if name == "captum" else find(name, *rest)
from mammo_hf.cli import main
main(["explainers"])
"""


@pytest.fixture(scope="module")
def installed(tmp_path_factory):
    """What pip leaves, written by hand from the plugin's own pyproject."""
    project = tomllib.loads((PLUGIN / "pyproject.toml").read_text())["project"]
    (group,) = project["entry-points"]
    site = tmp_path_factory.mktemp("site")
    info = site / "mammo_hf_captum-0.1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {project['name']}\nVersion: 0.1.0\n")
    lines = [f"{name} = {value}" for name, value in project["entry-points"][group].items()]
    (info / "entry_points.txt").write_text("\n".join([f"[{group}]", *lines, ""]))
    return site


def listed(installed, *, hidden):
    path = [str(installed), str(PLUGIN), os.environ.get("PYTHONPATH", "")]
    done = subprocess.run(
        [sys.executable, "-c", LIST.format(hidden=hidden)],
        env={**os.environ, "PYTHONPATH": os.pathsep.join(path)},
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0, done.stderr
    return {line.split()[0]: line for line in done.stdout.splitlines()}


@pytest.mark.slow
def test_without_captum_it_is_listed_with_its_reason_and_the_others_are_ready(installed):
    lines = listed(installed, hidden=True)
    for name in NAMES:
        assert "needs captum" in lines[name]
    assert "ready" in lines["grad_cam"]


@pytest.mark.slow
@pytest.mark.skipif(importlib.util.find_spec("captum") is None, reason="captum is not installed")
def test_with_captum_it_is_ready_and_passes_its_tests(installed):
    lines = listed(installed, hidden=False)
    assert all("ready" in lines[name] for name in NAMES)
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider"],
        cwd=PLUGIN,
        capture_output=True,
        text=True,
        timeout=900,
    )
    assert done.returncode == 0, done.stdout


def test_the_walk_through_shows_the_plugin_as_it_is():
    page = (ROOT / "docs" / "writing_an_explainer.md").read_text()
    code = page.split("```python\n")[1].split("```")[0]
    assert len(code.strip().splitlines()) < 60
    module = (PLUGIN / "mammo_hf_captum" / "integrated_gradients.py").read_text()
    # what the page prints is the module, apart from its docstring
    assert code.strip().split('"""\n', 1)[1] in module
    pyproject = page.split("```toml\n")[1].split("```")[0]
    assert pyproject.strip() in (PLUGIN / "pyproject.toml").read_text()
