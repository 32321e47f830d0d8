"""The README's ten lines run as they are printed, from a folder of DICOM to a pushed model."""

from __future__ import annotations

import functools

import pytest
from document_blocks import ROOT, blocks
from hub_fixtures import hub

import mammo_hf
from mammo_hf.phantom.writing import write_phantom

__all__ = ["hub"]
pytestmark = pytest.mark.slow


def test_the_ten_lines_of_the_readme(tmp_path, monkeypatch, hub, capsys):
    (block,) = (block for block in blocks(ROOT / "README.md", "python") if "mammo_hf.push" in block.text)
    assert len([line for line in block.text.splitlines() if line.strip()]) <= 10
    write_phantom(tmp_path / "data/cbis", patients=12, seed=0, size=(224, 112), num_workers=1, progress=False)
    (tmp_path / "data/archive").symlink_to("cbis/full mammogram images", target_is_directory=True)
    monkeypatch.chdir(tmp_path)
    # what makes it short: a small model, small images, two updates
    small = {"max_steps": 2, "use_cpu": True, "num_workers": 0, "disable_tqdm": True}
    prepare, pretrain, finetune = mammo_hf.prepare, mammo_hf.pretrain, mammo_hf.finetune
    monkeypatch.setattr(mammo_hf, "prepare", functools.partial(prepare, image_size=(112, 112), num_workers=0))
    monkeypatch.setattr(mammo_hf, "pretrain", lambda *a, **k: pretrain(*a, **{**k, **small, "model": "nano"}))
    monkeypatch.setattr(mammo_hf, "finetune", lambda *a, **k: finetune(*a, **{**k, **small}))
    names: dict[str, object] = {}
    exec(compile("\n" * (block.line - 1) + block.text, "README.md", "exec"), names)
    for path in ("prepared/prepared.json", "out/mim/split.json", "out/mim/run.yaml", "out/cls/label_subset.json"):
        assert (tmp_path / path).is_file(), path
    for path in ("out/cls/README.md", "out/report/report.html", "scores.csv"):
        assert (tmp_path / path).is_file(), path
    assert list((tmp_path / "out/explanations").glob("*.png"))
    assert "AUC" in capsys.readouterr().out
    assert {"config.json", "model.safetensors", "README.md"} <= set(hub.files("lab/mammo-swin"))
