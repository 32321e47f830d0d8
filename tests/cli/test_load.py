from __future__ import annotations

import json
import shlex
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from mammo_hf.cli import main
from mammo_hf.cli.running import print_next
from mammo_hf.data.splits import read_split
from mammo_hf.phantom.writing import write_phantom


@pytest.fixture(scope="module")
def collection(tmp_path_factory):
    root = tmp_path_factory.mktemp("phantom")
    write_phantom(root, patients=8, seed=0, size=(112, 56), num_workers=1, progress=False)
    return root


def test_the_collection_is_shown_as_its_source_states_it(collection, capsys):
    assert main(["load", str(collection)]) == 0
    text = capsys.readouterr().out
    assert text.startswith("cbis-ddsm: ")
    assert "validation" not in text
    assert "images by pathology" in text
    assert "terms: drawn by mammo_hf" in text
    assert "no leak found" in text
    assert text.splitlines()[-1] == f"next: mammo-hf prepare {collection} --output_dir PREPARED"


def test_the_next_command_can_be_pasted_whatever_its_paths_hold(capsys):
    print_next("load", Path("my films") / "a'b;c", "--output_dir", "OUT")
    line = capsys.readouterr().out.removeprefix("next: ")
    assert shlex.split(line) == ["mammo-hf", "load", "my films/a'b;c", "--output_dir", "OUT"]


def test_split_summary_and_picture_are_written(collection, tmp_path, capsys):
    out = tmp_path / "one"
    assert main(["load", f"cbis-ddsm:{collection}", "--output_dir", str(out), "--seed", "3"]) == 0
    summary = json.loads((out / "summary.json").read_text())
    assert set(summary["splits"]) == {"train", "validation", "test"}
    splits = read_split(out / "split.json")
    assert json.loads((out / "split.json").read_text())["seed"] == 3
    assert sum(one["patients"] for one in summary["splits"].values()) == len(splits)
    with Image.open(out / "summary.png") as picture:
        assert len(np.unique(np.asarray(picture.convert("L")))) > 10
    assert (out / "summary.png").stat().st_size < 200_000
    saved = ["--split_file", str(out / "split.json"), "--seed", "4"]
    assert main(["load", str(collection), "--output_dir", str(tmp_path / "two"), *saved]) == 0
    assert read_split(tmp_path / "two" / "split.json") == splits
    capsys.readouterr()
    assert main(["load", str(collection), "--validation_fraction", "0.3"]) == 0
    assert "validation: " in capsys.readouterr().out


def test_errors_speak_the_language_of_the_command(tmp_path, capsys):
    assert main(["load", str(tmp_path / "none"), "--output_dir", str(tmp_path / "out")]) == 2
    assert "no such folder" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()
    for source in (str(tmp_path), "cbis-ddsm", f"csv:{tmp_path}", f"ddsm:{tmp_path}", f"folder:{tmp_path}"):
        assert main(["load", source]) in (1, 2)
        assert "load(" not in capsys.readouterr().err
