"""A small phantom collection, and the content of a prepared folder in a form that compares."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from mammo_hf import Collection, MammoImageProcessor, load
from mammo_hf.phantom.writing import write_phantom


@pytest.fixture(scope="session")
def phantom_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("phantom") / "cbis"
    write_phantom(root, patients=4, seed=0, size=(224, 112), num_workers=1, progress=False)
    return root


@pytest.fixture
def own_folder(phantom_folder: Path, tmp_path: Path) -> Path:
    """A copy that a test may damage."""
    return Path(shutil.copytree(phantom_folder, tmp_path / "collection"))


@pytest.fixture(scope="session")
def collection(phantom_folder: Path) -> Collection:
    return load(phantom_folder)


@pytest.fixture
def small() -> MammoImageProcessor:
    return MammoImageProcessor(size=(64, 32))


@pytest.fixture
def content():
    """From a prepared folder to each file's bytes by name, without its lock and what the command alone adds."""
    others = {".lock", "README.md"}

    def read(folder: Path) -> dict[str, bytes]:
        files = sorted(path for path in Path(folder).rglob("*") if path.is_file() and path.name not in others)
        return {str(path.relative_to(folder)): path.read_bytes() for path in files}

    return read
