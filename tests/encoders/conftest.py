from __future__ import annotations

from pathlib import Path

import pydicom
import pytest
from families import save_family
from hub_fixtures import checkpoint, hub, trained

import mammo_hf
from mammo_hf.phantom.writing import write_phantom

__all__ = ["checkpoint", "hub", "trained"]


@pytest.fixture(scope="session")
def phantom_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("phantom") / "cbis"
    write_phantom(root, patients=3, seed=0, size=(448, 224), num_workers=1, progress=False)
    for path in root.rglob("*.dcm"):
        dataset = pydicom.dcmread(path)
        dataset.ImagerPixelSpacing = [0.3, 0.3]  # the published films have none
        dataset.save_as(path)
    return root


@pytest.fixture(scope="session")
def collection(phantom_folder: Path) -> mammo_hf.Collection:
    return mammo_hf.load(phantom_folder)


@pytest.fixture(scope="session")
def vit(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_family("vit", tmp_path_factory.mktemp("encoders") / "vit")


@pytest.fixture(scope="session")
def embedded(collection, vit, tmp_path_factory) -> Path:
    """Features of the phantoms, in three shards, by one process."""
    out = tmp_path_factory.mktemp("embedded") / "features"
    mammo_hf.embed(collection, out, encoder=vit, spacing=0.4, shard_size=4)
    return out


@pytest.fixture
def content():
    """From a folder to each file's bytes by name, without its lock."""

    def read(folder: Path) -> dict[str, bytes]:
        files = sorted(path for path in Path(folder).rglob("*") if path.is_file() and path.name != ".lock")
        return {str(path.relative_to(folder)): path.read_bytes() for path in files}

    return read
