"""What importing a light module must not load."""

import subprocess
import sys

import pytest

HEAVY = ("datasets", "pandas", "matplotlib", "mammo_hf.training")


@pytest.mark.parametrize("module", ["mammo_hf.isolation", "mammo_hf.files", "mammo_hf.data.augmentation"])
def test_what_prediction_needs_of_the_data_loads_nothing_heavy(module):
    code = f"import sys, {module}; print([name for name in {HEAVY} if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_prepares_help_imports_no_torch():
    code = (
        "import sys\nfrom mammo_hf.cli import main\n"
        "try:\n    main(['prepare', '--help'])\nexcept SystemExit:\n    pass\n"
        "print([name for name in ('torch', 'transformers', 'datasets') if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "[]"
    assert "example:" in done.stdout
