"""Applying a model loads nothing of what trains models, draws figures or reads collections."""

import subprocess
import sys
from pathlib import Path

import pytest

import mammo_hf.inference

HEAVY = ("pandas", "datasets", "matplotlib", "mammo_hf.training", "mammo_hf.evaluation", "mammo_hf.data.collection")
# `int8` is not among them: it compares a model with itself on the images of a collection
MODULES = sorted({path.stem for path in Path(mammo_hf.inference.__file__).parent.glob("*.py")} - {"int8"})


@pytest.mark.parametrize("names", [["mammo_hf.inference"], [f"mammo_hf.inference.{name}" for name in MODULES]])
def test_inference_loads_no_training_figures_or_collections(names):
    code = (
        "import importlib, sys\n"
        f"for name in {[name.removesuffix('.__init__') for name in names]}: importlib.import_module(name)\n"
        f"print(*[name for name in {HEAVY} if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == []


@pytest.mark.parametrize("command", ["predict", "explain", "explainers", "export", "app"])
def test_help_loads_no_torch(command):
    code = (
        "import sys\nfrom mammo_hf.cli import main\n"
        f"try: main(['{command}', '--help'])\nexcept SystemExit: pass\n"
        "sys.exit('torch' in sys.modules or 'numpy' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "example:" in done.stdout
