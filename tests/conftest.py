"""What every test shares: one thread a process, a fixed seed, no network, and the real images where they are there."""

from __future__ import annotations

import importlib
import os
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

# before anything imports torch or a Hugging Face package
os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
os.environ["HF_HUB_OFFLINE"] = "1"
os.environ["HF_DATASETS_OFFLINE"] = "1"
os.environ["MPLBACKEND"] = "Agg"
os.environ["MAMMO_HF_SALT"] = "a salt for the tests"

import numpy as np
import pytest
from hypothesis import HealthCheck, settings

settings.register_profile(
    "mammo", deadline=None, derandomize=True, max_examples=60, suppress_health_check=[HealthCheck.too_slow]
)
settings.load_profile("mammo")

# a shell starts what runs in the background without Ctrl-C, and what the tests start would inherit that
signal.signal(signal.SIGINT, signal.default_int_handler)

ROOT = Path(__file__).resolve().parent.parent


@pytest.fixture(autouse=True)
def _seeded() -> None:
    np.random.seed(0)
    try:
        import torch
    except ImportError:
        return
    torch.manual_seed(0)
    torch.set_num_threads(1)


@pytest.fixture(scope="session")
def program() -> Callable[[str], ModuleType]:
    """Import of a script or benchmark by its path in the project: their folders are not on the import path."""

    def load(path: str) -> ModuleType:
        folder = str((ROOT / path).parent)
        sys.path.insert(0, folder)
        try:
            return importlib.import_module(Path(path).stem)
        finally:
            sys.path.remove(folder)

    return load


@pytest.fixture(scope="session")
def real_data() -> Path:
    """The folder of real mammograms and label tables; skips where it is not there."""
    folder = Path(os.environ.get("MAMMO_HF_TEST_DATA", ROOT.parent / "shared" / "data"))
    if not folder.is_dir():
        pytest.skip(f"no real data at {folder} (set MAMMO_HF_TEST_DATA)")
    return folder


@pytest.fixture(scope="session")
def real_dicom(real_data: Path) -> Path:
    """The folder of real DICOM files that stands beside the real data; skips where it is not there."""
    folder = real_data.parent / "dicom"
    if not folder.is_dir():
        pytest.skip(f"no real DICOM files at {folder}")
    return folder
