"""The release as a stranger gets it: built, checked, installed alone, and used.

Building and installing take nothing from the network. The fresh environment gets no second copy of the dependencies: a
.pth file in it names this environment's site-packages. Python adds a folder that a .pth file names to ``sys.path``
without reading that folder's own .pth files, so the editable install of this project, which is one of them, is not seen
there; and what the fresh environment holds itself comes first.
"""

from __future__ import annotations

import importlib.metadata
import os
import re
import shutil
import subprocess
import sys
import sysconfig
import tarfile
import tomllib
import zipfile
from pathlib import Path

import pytest

pytestmark = pytest.mark.slow
pytest.importorskip("build", reason="build is not installed (the extra dev)")

ROOT = Path(__file__).resolve().parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
LEFT_OUT = shutil.ignore_patterns(".*", "build", "dist", "*.egg-info", "__pycache__", "demo", "outputs", "results")

# everything that the package reads from beside its modules
READS = """
import importlib.metadata
import evaluate
import mammo_hf
from mammo_hf.data.datasets.discovery import find_source, source_names
from mammo_hf.evaluation import METRIC_MODULE
from mammo_hf.evaluation.hf_metrics import METRICS
print(mammo_hf.__file__)
print(importlib.metadata.version("mammo-hf"))
for name in source_names():
    assert find_source(name).LICENCE
for name in METRICS:
    evaluate.load(METRIC_MODULE, name)
"""


def run(*command, cwd, **changes):
    kept = {key: value for key, value in os.environ.items() if key not in ("PYTHONPATH", "VIRTUAL_ENV")}
    done = subprocess.run(
        [str(part) for part in command], cwd=cwd, env=kept | changes, capture_output=True, text=True, timeout=580
    )
    assert done.returncode == 0, f"{command}\n{done.stdout[-2000:]}\n{done.stderr[-3000:]}"
    return done.stdout


@pytest.fixture(scope="module")
def dist(tmp_path_factory):
    """sdist, and the wheel that is built from it, of a copy of the project."""
    folder = tmp_path_factory.mktemp("release")
    project = shutil.copytree(ROOT, folder / "project", ignore=LEFT_OUT)
    run(sys.executable, "-m", "build", "--no-isolation", "--outdir", folder / "dist", project, cwd=folder)
    return folder / "dist"


@pytest.fixture(scope="module")
def fresh(dist, tmp_path_factory):
    """An environment with the wheel and the captum plugin in it, and this environment's dependencies behind them."""
    folder = tmp_path_factory.mktemp("fresh")
    run(sys.executable, "-m", "venv", "--without-pip", folder / "venv", cwd=folder)
    python = folder / "venv" / "bin" / "python"
    pip = [sys.executable, "-m", "pip", "--python", python, "install", "--quiet", "--no-deps", "--no-index"]
    run(*pip, next(dist.glob("*.whl")), cwd=folder)
    plugin = shutil.copytree(ROOT / "plugins" / "mammo-hf-captum", folder / "plugin", ignore=LEFT_OUT)
    site = Path(run(python, "-c", "import sysconfig; print(sysconfig.get_path('purelib'))", cwd=folder).strip())
    (site / "dependencies.pth").write_text(sysconfig.get_path("purelib") + "\n")
    run(*pip, "--no-build-isolation", plugin, cwd=folder)
    return folder


def test_what_is_built_passes_twine(dist):
    assert len(list(dist.iterdir())) == 2
    out = run(sys.executable, "-m", "twine", "check", "--strict", *sorted(dist.iterdir()), cwd=dist)
    assert out.count("PASSED") == 2


def test_the_wheel_holds_every_file_of_the_package_and_nothing_else(dist):
    wanted = {
        path.relative_to(ROOT).as_posix()
        for path in (ROOT / "mammo_hf").rglob("*")
        if path.is_file() and "__pycache__" not in path.parts
    }
    with zipfile.ZipFile(next(dist.glob("*.whl"))) as wheel:
        names = wheel.namelist()
    info = {name for name in names if ".dist-info/" in name}
    assert set(names) - info == wanted
    assert {name.split("/", 1)[1] for name in info} >= {"METADATA", "entry_points.txt", "licenses/LICENSE"}


def test_the_sdist_builds_and_holds_readme_and_licence(dist):
    with tarfile.open(next(dist.glob("*.tar.gz"))) as sdist:
        names = {name.partition("/")[2] for name in sdist.getnames()}
    assert {"pyproject.toml", "README.md", "LICENSE", "mammo_hf/py.typed"} <= names


def test_one_version_everywhere(dist):
    import mammo_hf

    cited = re.search(r"^version: (.+)$", (ROOT / "CITATION.cff").read_text(encoding="utf-8"), re.MULTILINE)
    assert PROJECT["version"] == mammo_hf.__version__ == cited[1]
    assert next(dist.glob("*.whl")).name.startswith(f"mammo_hf-{PROJECT['version']}-")
    assert importlib.metadata.version("mammo-hf") == PROJECT["version"]


def test_installed_alone_it_is_the_wheel_that_runs_and_reads_its_own_files(fresh):
    where, version = run(fresh / "venv/bin/python", "-c", READS, cwd=fresh).splitlines()[:2]
    assert Path(where).is_relative_to(fresh / "venv")
    assert version == PROJECT["version"]


def test_the_command_is_there_and_draws_phantoms(fresh):
    command = fresh / "venv/bin/mammo-hf"
    assert "usage: mammo-hf COMMAND" in run(command, "--help", cwd=fresh)
    assert run(command, "--version", cwd=fresh).strip() == f"mammo-hf {PROJECT['version']}"
    drawn = ["--output_dir", "phantom", "--patients", "1", "--image_size", "224", "112", "--num_workers", "1"]
    run(command, "phantom", *drawn, cwd=fresh)
    assert len(list((fresh / "phantom").glob("full mammogram images/**/*.dcm"))) == 4


def test_the_plugin_is_found(fresh):
    lines = {line.split()[0]: line for line in run(fresh / "venv/bin/mammo-hf", "explainers", cwd=fresh).splitlines()}
    assert "ready" in lines["grad_cam"]
    for name in ("captum_integrated_gradients", "captum_occlusion", "captum_smooth_grad"):
        assert "ready" in lines[name] or "needs captum" in lines[name]


def test_the_demonstration_runs_with_the_wheel(fresh):
    """Short: that the whole way runs, with templates, style and all, where only the wheel is."""
    short = ["--patients", "12", "--mim_epochs", "1", "--cls_epochs", "1", "--output_dir", "demo"]
    run(fresh / "venv/bin/python", ROOT / "scripts" / "demo.py", *short, cwd=fresh, OMP_NUM_THREADS="1")
    for name in ("story.png", "metrics.json", "classifier/model.safetensors"):
        assert (fresh / "demo" / name).is_file(), name
