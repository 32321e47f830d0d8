from __future__ import annotations

import json

import numpy as np
import pytest
from PIL import Image

from mammo_hf.cli import main
from mammo_hf.cli.split_report import draw_report
from mammo_hf.data.splits import read_split
from mammo_hf.phantom.writing import write_phantom


@pytest.fixture(scope="module")
def collection(tmp_path_factory):
    root = tmp_path_factory.mktemp("phantom")
    write_phantom(root, patients=8, seed=0, size=(112, 56), num_workers=1, progress=False)
    return root


def test_report_picture_and_saved_split_are_written(collection, tmp_path, capsys):
    assert main(["split-report", str(collection), str(tmp_path / "one"), "--seed", "3"]) == 0
    report = json.loads((tmp_path / "one" / "split.json").read_text())
    assert "no leak found" in capsys.readouterr().out
    assert set(report["splits"]) == {"train", "validation", "test"}
    splits = read_split(tmp_path / "one" / "patients.json")
    assert sum(side["patients"] for side in report["splits"].values()) == len(splits)
    with Image.open(tmp_path / "one" / "split.png") as picture:
        assert len(np.unique(np.asarray(picture.convert("L")))) > 10
    assert (tmp_path / "one" / "split.png").stat().st_size < 200_000
    saved = str(tmp_path / "one" / "patients.json")
    assert main(["split-report", str(collection), str(tmp_path / "two"), "--saved", saved, "--seed", "4"]) == 0
    assert read_split(tmp_path / "two" / "patients.json") == splits


def test_many_values_are_drawn_together(tmp_path):
    counts = {f"scanner {number}": {"train": number + 1} for number in range(20)}
    report = {
        "splits": {"train": {"patients": 20, "images": 210}},
        "tasks": {},
        "facts": {"vendor": counts},
        "moved": [{"patient": "x"}],
    }
    assert draw_report(report, tmp_path / "split.png", "made up").stat().st_size < 200_000


def test_a_wrong_folder_is_one_line_and_status_two(tmp_path, capsys):
    assert main(["split-report", str(tmp_path / "none"), str(tmp_path / "out")]) == 2
    assert "no such folder" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()
