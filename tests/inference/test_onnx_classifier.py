"""An exported classifier scores files as the one that it was made from does."""

from __future__ import annotations

import csv
import json
import shutil

import numpy as np
import pytest
from bag_heads import write_exams, write_head
from PIL import Image

from mammo_hf import MammoImageProcessor
from mammo_hf.cli import main
from mammo_hf.errors import DataError
from mammo_hf.hub.pushed_files import files_to_push
from mammo_hf.inference.exported import export_classifier, load_exported
from mammo_hf.inference.predict import identity
from mammo_hf.testing import tiny_classifier

pytestmark = pytest.mark.slow

pytest.importorskip("onnxruntime")


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    """A checkpoint, what was exported from it, and a folder of films."""
    root = tmp_path_factory.mktemp("exported")
    model, processor = tiny_classifier(lesion_task="pathology"), MammoImageProcessor(size=(112, 56))
    model.config.score_from = "mean"
    model.config.calibration = {"pathology": {"method": "platt", "slope": 0.5, "intercept": 1.0}}
    model.save_pretrained(root / "checkpoint")
    processor.save_pretrained(root / "checkpoint")
    export_classifier(model, processor, root / "onnx")
    (root / "films").mkdir()
    for number in range(5):
        pixels = np.random.default_rng(number).integers(0, 256, (150, 90)).astype(np.uint8)
        Image.fromarray(pixels).save(root / "films" / f"{number}.png")
    return root


def scored(folders, model, output, *more):
    assert main(["predict", str(folders / model), str(folders / "films"), "--output", str(output), *more]) == 0
    return list(csv.DictReader(output.open()))


@pytest.mark.parametrize("more", [[], ["--tta", "--batch_size", "2"]])
def test_the_table_is_the_checkpoints(folders, tmp_path, more):
    own, theirs = (scored(folders, name, tmp_path / f"{name}.csv", *more) for name in ("checkpoint", "onnx"))
    assert len(own) == len(theirs) == 5
    for one, other in zip(own, theirs, strict=True):
        assert list(one) == list(other)
        assert one["file"] == other["file"]
        scores = [[float(value) for name, value in row.items() if ":" in name] for row in (one, other)]
        assert scores[0] == pytest.approx(scores[1], abs=1e-4)


def test_another_export_of_the_same_name_is_told_apart(folders, tmp_path):
    other = shutil.copytree(folders / "onnx", tmp_path / "other")
    before = identity(other)
    assert before == identity(other)
    (other / "model.onnx").write_bytes((other / "model.onnx").read_bytes() + b"\0")
    assert identity(other) != before


@pytest.mark.parametrize("more", [["--explainer", "grad_cam"], ["--dtype", "bfloat16"]])
def test_what_only_a_checkpoint_can_do_is_refused(folders, tmp_path, capsys, more):
    line = ["predict", str(folders / "onnx"), str(folders / "films"), "--output", str(tmp_path / "scores.csv")]
    assert main([*line, *more]) == 2
    assert more[0] in capsys.readouterr().err.strip().splitlines()[-1]
    assert not (tmp_path / "scores.csv").exists()


@pytest.mark.parametrize("name", ["model.onnx", "tasks.json", "preprocessor_config.json"])
def test_a_damaged_export_is_named(folders, tmp_path, name):
    broken = shutil.copytree(folders / "onnx", tmp_path / "broken")
    (broken / name).write_text("no such thing")
    with pytest.raises(DataError, match=r"model.onnx|tasks.json|preprocessor_config"):
        load_exported(broken)
    (broken / name).write_text(json.dumps([{"weather": 1}]))
    with pytest.raises(DataError):
        load_exported(broken)


@pytest.mark.parametrize("copied", [True, False])
def test_a_head_over_features_scores_exams_with_its_encoder_copied_or_named(tmp_path, copied):
    head, films, encoder = write_head(tmp_path / "head"), write_exams(tmp_path / "films"), str(tmp_path / "vit")
    line = ["export", "onnx", str(head), "--output_dir", str(tmp_path / "onnx")]
    assert main([*line, *(["--encoder", encoder] if copied else [])]) == 0
    graphs = {path.name for path in (tmp_path / "onnx").glob("encoder_*")}
    assert graphs == ({"encoder_64x32.onnx", "encoder_64x64.onnx"} if copied else set())
    assert [task["level"] for task in json.loads((tmp_path / "onnx" / "tasks.json").read_text())] == ["exam", "exam"]
    pushed = files_to_push(tmp_path / "onnx")
    assert graphs | {"model.onnx", "config.json"} <= set(pushed)
    assert b"a head over features" in pushed["README.md"]
    tables = []
    for model in ("head", "onnx"):
        output = tmp_path / f"{model}.csv"
        assert main(["predict", str(tmp_path / model), str(films), "--output", str(output)]) == 0
        tables.append(list(csv.DictReader(output.open())))
        if copied:  # the graphs are enough
            (tmp_path / "vit").rename(tmp_path / "away") if model == "head" else None
    assert [row["level"] for row in tables[0]] == [row["level"] for row in tables[1]]
    for one, other in zip(*tables, strict=True):
        scores = [[float(value) for name, value in row.items() if ":" in name] for row in (one, other)]
        assert scores[0] == pytest.approx(scores[1], abs=1e-3)
