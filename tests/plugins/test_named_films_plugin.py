"""The door for sources of others: a distribution of its own, found by its entry point and by its films."""

from __future__ import annotations

import tomllib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from mammo_hf.data.datasets.discovery import source_names
from mammo_hf.data.loading import load
from mammo_hf.testing import check_source

PLUGIN = Path(__file__).resolve().parents[2] / "plugins" / "mammo-hf-named-films"


@pytest.fixture
def installed(tmp_path, monkeypatch):
    # what pip leaves, written by hand from the plugin's own pyproject
    project = tomllib.loads((PLUGIN / "pyproject.toml").read_text())["project"]
    (group,) = project["entry-points"]
    info = tmp_path / "site" / "mammo_hf_named_films-0.1.0.dist-info"
    info.mkdir(parents=True)
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {project['name']}\nVersion: 0.1.0\n")
    lines = [f"{name} = {value}" for name, value in project["entry-points"][group].items()]
    (info / "entry_points.txt").write_text("\n".join([f"[{group}]", *lines, ""]))
    monkeypatch.syspath_prepend(str(PLUGIN))
    monkeypatch.syspath_prepend(str(tmp_path / "site"))


def test_is_found_by_its_entry_point_and_recognises_its_films(installed, tmp_path):
    films = tmp_path / "films"
    films.mkdir()
    for name in ("p01_L_CC_benign", "p02_R_MLO_malignant"):
        Image.fromarray(np.arange(200, dtype=np.uint8).reshape(20, 10)).save(films / f"{name}.png")
    assert "named-films" in source_names()
    check_source("named-films", films)
    assert load(films).column("pathology") == ["benign", "malignant"]
