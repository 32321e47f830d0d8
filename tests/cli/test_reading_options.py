"""Every command that opens a collection takes the options of reading one, by one mechanism."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from PIL import Image

from mammo_hf.cli import main
from mammo_hf.cli.running import Parser, reading_options
from mammo_hf.cli.stages import parse_stage
from mammo_hf.data import READING
from mammo_hf.data.loading import OPTIONS

FLAGS = {"dicom_path": ["list.txt"], "max_missing": ["0.9"], "stratum": ["scanner"], "accept": ["one_patient"]} | {
    "overrides": ["fixes.csv"]
}
WORDS = [word for name, values in FLAGS.items() for word in (f"--{name}", *values)]


@pytest.fixture
def table(tmp_path):
    """Ten rows with boxes, half of them in the background; four rows have a film."""
    rows, columns = np.mgrid[:224, :112]
    for number in range(4):
        tissue = np.kron(np.random.default_rng(number).integers(80, 180, (14, 7)), np.ones((16, 16)))
        film = (np.hypot(rows - 112, columns) < 90) * tissue
        Image.fromarray(film.astype(np.uint8)).save(tmp_path / f"{number}.png")
    lines = [
        f"{number}.png,p{number},{('benign', 'malignant')[number % 2]},{x},90,20,20"
        for number, x in enumerate([30, 100] * 5)
    ]
    (tmp_path / "labels.csv").write_text("\n".join(["path,patient,pathology,x,y,width,height", *lines]))
    return tmp_path / "labels.csv"


def test_options_are_those_of_load():
    assert set(FLAGS) == set(READING) <= set(OPTIONS)
    parser = Parser("mammo-hf x", "", "")
    parser.add_reading_options()
    given = vars(parser.parse_args(WORDS))
    assert reading_options(given) == {name: values for name, values in FLAGS.items() if name == "accept"} | {
        "dicom_path": "list.txt",
        "max_missing": 0.9,
        "stratum": "scanner",
        "overrides": "fixes.csv",
    }
    assert given == {}


COMMANDS = ("load", "prepare", "evaluate", "explain", "crops", "label-efficiency", "evaluate-explanations", "analysis")


@pytest.mark.parametrize("command", COMMANDS)
def test_commands_take_all_of_them(command, capsys):
    with pytest.raises(SystemExit):
        main([command, "--help"])
    shown = capsys.readouterr().out
    assert [name for name in READING if f"--{name} " not in shown] == []


@pytest.mark.parametrize("stage", ["pretrain", "finetune"])
def test_stages_take_all_of_them_and_repeat_those_of_a_run(stage, tmp_path):
    module = __import__(f"mammo_hf.cli.{stage}", fromlist=["parser"])
    (tmp_path / "run.yaml").write_text("dicom_path: earlier.txt\nstratum: site\n")
    given = parse_stage(module.parser(), ["--config", str(tmp_path / "run.yaml"), "--max_missing", "0.9"])
    assert given == {"dicom_path": "earlier.txt", "stratum": "site", "max_missing": 0.9}


def test_a_table_with_few_of_its_films_is_read_only_if_that_is_asked_for(table, tmp_path, capsys):
    crops = ["crops", str(table), "--lesions", "--output_dir", str(tmp_path / "crops")]
    for words in (["load", str(table)], crops):
        assert main(words) == 1
        problem = "6 of 10 files that its table names do not exist (60%)"
        assert f"error: {table}: {problem}" in (shown := capsys.readouterr().err)
        assert "allow it: --max_missing 1" in shown
        assert main([*words, "--max_missing", "0.9"]) == 0
        assert "4 images" in capsys.readouterr().out
    assert main([*(word for word in crops if word != "--lesions"), "--max_missing", "0.9"]) == 0
    assert main(["crops", str(table.parent), "--output_dir", str(tmp_path / "crops"), "--max_missing", "0.9"]) == 2
    assert "--max_missing: needs --lesions" in capsys.readouterr().err


def test_a_study_reads_its_collection_with_them(table, tmp_path):
    from mammo_hf.studies.label_efficiency import Study, StudySettings

    settings = StudySettings(str(table), "pathology", tmp_path / "out", (112, 56), reading={"max_missing": 0.9})
    assert len(Study(settings).table) == 4
    chosen = Study(replace(settings, processor_settings={"orientation": "header"}))
    assert chosen.processor.orientation == "header"


def test_several_sources_are_no_collection(tmp_path, capsys):
    assert main(["explain", "tiny", "a.png", "b.png", "--output_dir", str(tmp_path), "--max_missing", "1"]) == 2
    assert "--max_missing: is for a single collection" in capsys.readouterr().err
