"""The notebook is clean as it lies there, and runs."""

from __future__ import annotations

import importlib.util
import re
import time

import pytest
from document_blocks import ROOT

nbformat = pytest.importorskip("nbformat", reason="nbclient is not installed (the extra dev)")

TOUR = ROOT / "docs" / "tour.ipynb"


@pytest.fixture
def tour():
    return nbformat.read(TOUR, as_version=4)


def test_it_is_a_valid_notebook_without_outputs(tour):
    nbformat.validate(tour)
    assert TOUR.read_text(encoding="utf-8") == nbformat.writes(tour) + "\n"
    for cell in tour.cells:
        if cell.cell_type == "code":
            assert cell.outputs == []
            assert cell.execution_count is None
        assert not re.search(r"(?<![\w.\])])/(?:home|root|tmp|work|data|Users)\b", cell.source), cell.source


def test_its_links_lead_to_pages(tour):
    for cell in tour.cells:
        for target in re.findall(r"\]\(([\w./-]+)\)", cell.source):
            assert (TOUR.parent / target).is_file(), target


@pytest.mark.slow
@pytest.mark.skipif(importlib.util.find_spec("ipykernel") is None, reason="ipykernel is not installed (the extra dev)")
def test_it_runs(tour, tmp_path, monkeypatch):
    from nbclient import NotebookClient

    monkeypatch.delenv("MPLBACKEND", raising=False)  # the kernel draws into the notebook
    started = time.monotonic()
    NotebookClient(tour, timeout=300, kernel_name="python3", resources={"metadata": {"path": str(tmp_path)}}).execute()
    print(f"{time.monotonic() - started:.0f} s")
    drawn = [
        output for cell in tour.cells for output in cell.get("outputs", []) if "image/png" in output.get("data", {})
    ]
    assert len(drawn) == 2
    printed = "".join(output.get("text", "") for cell in tour.cells for output in cell.get("outputs", []))
    assert "pathology malignant" in printed
