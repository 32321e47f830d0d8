"""``mammo-hf evaluate``: a checkpoint on a collection, and each wrong argument told in one line."""

from __future__ import annotations

import json
import shutil

import pytest

from mammo_hf import MammoImageProcessor
from mammo_hf.cli import main
from mammo_hf.data.loading import load
from mammo_hf.data.splits import save_training_split
from mammo_hf.models.configuration_mammo_swin import SIZES, MammoSwinConfig
from mammo_hf.phantom.writing import write_phantom
from mammo_hf.testing import tiny_classifier

POINT = {"threshold": 0.4, "sensitivity": 0.9, "specificity": 0.5}


@pytest.fixture(scope="module")
def collection(tmp_path_factory):
    root = tmp_path_factory.mktemp("phantom") / "cbis"
    write_phantom(root, patients=24, seed=0, size=(224, 112), num_workers=1, progress=False)
    return root


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory):
    folder = tmp_path_factory.mktemp("model") / "classifier"
    model = tiny_classifier()
    model.config.calibration = {"pathology": {"method": "platt", "slope": 0.5, "intercept": -0.25}}
    points = {unit: {"sensitivity_90": POINT, "specificity_90": POINT} for unit in ("image", "breast", "patient")}
    model.config.operating_points = {"pathology": points}
    model.save_pretrained(folder)
    MammoImageProcessor(size=(112, 56)).save_pretrained(folder)
    return folder


def _run(checkpoint, collection, out, *more):
    fixed = ("--num_workers", "0", "--resamples", "100", "--device", "cpu")
    arguments = [str(checkpoint), "--dataset", str(collection), "--output_dir", str(out), *fixed]
    return main(["evaluate", *arguments, *map(str, more)])


def test_any_collection_is_read_as_the_checkpoint_says(checkpoint, collection, tmp_path, capsys):
    before = (checkpoint / "config.json").read_text()
    assert _run(checkpoint, collection, tmp_path, "--external") == 0
    printed = capsys.readouterr().out
    report = json.loads((tmp_path / "report.json").read_text())
    found = report["tasks"]["pathology"]
    assert found["calibration"] == {"method": "platt", "slope": 0.5, "intercept": -0.25}
    assert found["operating_points"]["sensitivity_90"]["threshold"] == 0.4
    few = "without an interval (fewer than 5 patients with images of either class)"
    assert f"test pathology AUC {found['auroc']:.2f}, {few}" in printed
    assert report["collection"] == "mammo_hf phantoms"  # in the layout of another collection
    # the phantom's density d is no label of this model
    assert report["tasks"]["density"]["class_counts"].keys() == {"a", "b", "c"}
    steps = {step["step"]: step["images"] for step in report["flow"]}
    assert steps["of the test split"] >= steps["with a known label of any task: evaluated"] > 0
    external = next(item for item in report["checklists"]["CLAIM 2024"] if item["number"] == "33")
    assert external["answer"] == "This report: the model was not trained on this collection."
    html = (tmp_path / "report.html").read_text()
    assert "data:image/jpeg" in html
    assert str(tmp_path) not in html
    assert (checkpoint / "config.json").read_text() == before


def test_a_threshold_of_ones_own_and_a_report_without_pictures(checkpoint, collection, tmp_path):
    assert _run(checkpoint, collection, tmp_path, "--operating_point", "0.7", "--without_pictures") == 0
    report = json.loads((tmp_path / "report.json").read_text())
    at = report["tasks"]["pathology"]["operating_points"]["given"]
    assert at["threshold"] == 0.7
    html = (tmp_path / "report.html").read_text()
    assert "data:image/jpeg" not in html
    assert "Given with the command" in html
    # of twelve images every count of the table is below ten
    assert all(cell in (None, 0) for row in at["confusion"] for cell in row)


@pytest.mark.slow
def test_all_images_and_a_prepared_folder(checkpoint, collection, tmp_path):
    assert _run(checkpoint, collection, tmp_path / "a", "--split", "all", "--without_pictures") == 0
    whole = json.loads((tmp_path / "a" / "report.json").read_text())
    assert _run(checkpoint, tmp_path / "a" / "prepared", tmp_path / "b", "--without_pictures") == 0
    part = json.loads((tmp_path / "b" / "report.json").read_text())
    assert whole["tasks"]["pathology"]["n_images"] > part["tasks"]["pathology"]["n_images"] > 0
    # one path reads it from the files, the other from the prepared rows
    assert _run(checkpoint, collection, tmp_path / "c", "--without_pictures") == 0
    again = json.loads((tmp_path / "c" / "report.json").read_text())
    assert again["tasks"]["pathology"]["auroc"] == pytest.approx(part["tasks"]["pathology"]["auroc"])


def test_the_test_split_of_the_training_is_used_if_the_collection_has_none(checkpoint, collection, tmp_path):
    films, model = (shutil.copytree(of, tmp_path / name) for of, name in ((collection, "films"), (checkpoint, "model")))
    for table in films.rglob("*_test_set.csv"):
        table.unlink()
    for film in films.rglob("*-Test_P_*"):
        shutil.rmtree(film)
    trained_on = load("cbis-ddsm", films).split(seed=1, test_fraction=0.4)
    save_training_split(trained_on, model)
    assert _run(model, films, tmp_path / "out", "--without_pictures") == 0
    report = json.loads((tmp_path / "out" / "report.json").read_text())
    images = {step["step"]: step["images"] for step in report["flow"]}["of the test split"]
    assert images == len(trained_on.where(split="test")) > 0
    answers = {item["number"]: item["answer"] for item in report["checklists"]["CLAIM 2024"]}
    assert answers["32"] == "This report: the model was trained on other patients of the same collection."
    assert not any("was trained" in warning for warning in report["warnings"])


def test_patients_that_the_model_was_trained_on_are_reported_and_never_external(
    checkpoint, collection, tmp_path, capsys
):
    model = shutil.copytree(checkpoint, tmp_path / "model")
    table = load("cbis-ddsm", collection)
    save_training_split(table, model)
    assert _run(model, collection, tmp_path / "out", "--split", "all", "--without_pictures") == 0
    report = json.loads((tmp_path / "out" / "report.json").read_text())
    train, every = (len(set(part.column("patient"))) for part in (table.where(split="train"), table))
    assert f"trained or chosen on {train} of these {every} patients" in report["warnings"][0]
    assert f"trained or chosen on {train} of these {every} patients" in capsys.readouterr().out
    answers = {item["number"]: item["answer"] for item in report["checklists"]["CLAIM 2024"]}
    assert (answers["32"], answers["33"]) == (None, None)
    assert _run(model, collection, tmp_path / "no", "--split", "all", "--external") == 2
    assert "--external: the model was trained or chosen on" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("changes", "status", "says"),
    [
        (["--split", "validation"], 1, "has no 'validation' split, it has test (24 images), train"),
        (["--operating_point", "high"], 2, "--operating_point: is 'high'; use from-checkpoint"),
        (["--operating_point", "1.5"], 2, "--operating_point: is 1.5"),
        (["--dataset", "nowhere"], 2, "nowhere: "),
        (["--resamples", "5"], 2, "--resamples: is 5"),
        (["--batch_size", "0"], 2, "--batch_size: is 0"),
        (["--num_workers", "-1"], 2, "--num_workers: is -1"),
        (["--label_efficiency", "nowhere.json"], 2, "nowhere.json: cannot be read as the summary"),
    ],
)
def test_wrong_arguments(checkpoint, collection, tmp_path, capsys, monkeypatch, changes, status, says):
    monkeypatch.setattr("mammo_hf.evaluation.evaluate.prepared_images", lambda *a, **k: pytest.fail("images were read"))
    assert _run(checkpoint, collection, tmp_path, *changes) == status
    error = capsys.readouterr().err.strip().splitlines()[-1]
    assert says in error


@pytest.mark.parametrize(
    "content",
    [
        "[]",
        '{"rows": 5}',
        '{"rows": [{"arm": "scratch"}]}',
        '{"rows": [{"arm": "scratch", "baseline": false, "percentage": 10, "auroc": "high", "interval": null}]}',
        '{"rows": [{"arm": "scratch", "baseline": false, "percentage": 10, "auroc": 0.5, "interval": [0.4]}]}',
    ],
)
def test_a_summary_that_is_none_is_refused_before_an_image_is_read(
    checkpoint, collection, tmp_path, capsys, monkeypatch, content
):
    monkeypatch.setattr("mammo_hf.evaluation.evaluate.prepared_images", lambda *a, **k: pytest.fail("images were read"))
    summary = tmp_path / "summary.json"
    summary.write_text(content)
    assert _run(checkpoint, collection, tmp_path / "out", "--label_efficiency", str(summary)) == 2
    assert f"{summary}: cannot be read as the summary" in capsys.readouterr().err.strip().splitlines()[-1]


def test_checkpoints_that_are_none(collection, tmp_path, capsys):
    assert _run(tmp_path / "nothing", collection, tmp_path / "out") == 2
    assert "there is no such folder or file" in capsys.readouterr().err
    MammoSwinConfig(**SIZES["nano"], image_size=(112, 112)).save_pretrained(tmp_path / "mim")
    assert _run(tmp_path / "mim", collection, tmp_path / "out") == 2
    assert "is not a classifier" in capsys.readouterr().err


def test_a_collection_without_a_label_that_the_model_knows(checkpoint, collection, tmp_path, capsys):
    root = tmp_path / "cbis"
    shutil.copytree(collection, root)
    for path in root.glob("*.csv"):
        path.write_text(path.read_text().split("\n")[0] + "\n")
    assert _run(checkpoint, root, tmp_path / "out") == 1
    error = capsys.readouterr().err.strip().splitlines()[-1]
    assert "split" in error or "label" in error
