import csv
import json

import numpy as np
import pytest
from PIL import Image
from small_archive import write_dicom

import mammo_hf
from mammo_hf.cli import main
from mammo_hf.errors import DataError, UsageError
from mammo_hf.models.checkpoint import MAP_TESTS


def test_files_are_drawn_and_listed(checkpoint, archive, tmp_path):
    result = mammo_hf.explain(checkpoint, archive, tmp_path / "out", num_workers=0)
    assert (result.images, result.rejected) == (9, 1)
    assert str(result).startswith(f"9 images in {tmp_path / 'out'}; 1 files rejected")
    rows = list(csv.DictReader((tmp_path / "out" / "index.csv").open()))
    assert {row["warrant"] for row in rows} == {"not measured"}
    names = sorted(path.name for path in archive.iterdir())
    drawn = [name for name in names if name != "4-cut.dcm"]
    assert [row["image"] for row in rows] == [str(archive / name) for name in drawn]
    assert [row["picture"] for row in rows] == [f"{names.index(name) + 1:03d}.png" for name in drawn]
    assert {row["label"] for row in rows} == {"pathology:malignant"}
    page = (tmp_path / "out" / "index.html").read_text()
    assert "its folder holds no such figures" in page
    assert all(row["picture"] in page and f"{100 * float(row['score']):.0f} %" in page for row in rows)
    (rejected,) = csv.DictReader((tmp_path / "out" / "rejected.csv").open())
    assert rejected["file"] == str(archive / "4-cut.dcm")
    # the image alone and three maps
    assert np.asarray(Image.open(tmp_path / "out" / "001.png")).shape[1] > 4 * 56


def test_tests_of_maps_are_shown_for_the_label_that_they_are_of(checkpoint, archive, tmp_path):
    good = {"value": -0.2, "interval": [-0.3, -0.1], "images": 9}
    about = {"target": "pathology:malignant", "images": 9, "patients": 8, "collection": "films"}
    tests = dict.fromkeys(("placement", "sanity", "faithfulness"), good)
    (checkpoint / MAP_TESTS).write_text(json.dumps({"explainers": {"grad_cam": about | tests}}))
    for target, warrant, line in (
        (None, "placement not passed; sanity passed; faithfulness passed", "tested for pathology:malignant on 9 such"),
        ("benign", "not measured", "and faithfulness: not measured for pathology:benign."),
    ):
        out = tmp_path / f"{target}"
        mammo_hf.explain(checkpoint, archive / "0.dcm", out, explainer="grad_cam", target=target, num_workers=0)
        (row,) = csv.DictReader((out / "index.csv").open())
        assert row["warrant"] == warrant
        assert line in (out / "index.html").read_text()


def test_a_file_an_explainer_and_a_label_can_be_chosen(checkpoint, archive, tmp_path):
    result = mammo_hf.explain(
        str(checkpoint), archive / "0.dcm", tmp_path / "out", explainer="grad_cam", target="density:b", num_workers=0
    )
    assert (result.images, result.rejected, result.rejects) == (1, 0, None)
    (row,) = csv.DictReader((tmp_path / "out" / "index.csv").open())
    assert row["label"] == "density:b"
    assert not (tmp_path / "out" / "rejected.csv").exists()


def test_the_command_takes_several_files(checkpoint, archive, tmp_path, capsys):
    files = [str(archive / f"{number}.dcm") for number in range(3)]
    line = ["explain", str(checkpoint), *files, "--output_dir", str(tmp_path / "out"), "--num_workers", "0"]
    assert main([*line, "--explainer", "grad_cam", "--count", "2"]) == 0
    assert f"2 images in {tmp_path / 'out'}" in capsys.readouterr().out


def test_what_cannot_be_explained_is_refused_before_anything_is_written(checkpoint, archive, tmp_path):
    out = tmp_path / "out"
    with pytest.raises(UsageError, match="did you mean grad_cam"):
        mammo_hf.explain(checkpoint, archive, out, explainer="gradcam")
    with pytest.raises(UsageError, match="no such file or folder"):
        mammo_hf.explain(checkpoint, tmp_path / "gone", out)
    (tmp_path / "exported").mkdir()
    (tmp_path / "exported" / "model.onnx").touch()
    with pytest.raises(UsageError, match="an exported model cannot be explained"):
        mammo_hf.explain(tmp_path / "exported", archive, out)
    write_dicom(checkpoint / "a.dcm")
    (checkpoint / "preprocessor_config.json").unlink()
    with pytest.raises(DataError, match=r"no preprocessor_config.json"):
        mammo_hf.explain(checkpoint, archive, out)
    assert not out.exists()
