import csv
import json
import shutil

import numpy as np
import pytest
from PIL import Image
from safetensors import safe_open
from transformers import AutoModel, AutoModelForImageClassification

from mammo_hf import MammoImageProcessor, MammoSwinForImageClassification, prepare
from mammo_hf.cli import main
from mammo_hf.data.prepare.folder import open_prepared
from mammo_hf.data.prepared_row import pixels_of
from mammo_hf.phantom.writing import write_phantom

pytestmark = pytest.mark.slow

QUICK = ["--model", "nano", "--image_size", "112", "--use_cpu", "--num_workers", "0", "--batch_size", "8"]


@pytest.fixture(scope="module")
def collection(tmp_path_factory):
    root = tmp_path_factory.mktemp("phantom") / "cbis"
    write_phantom(root, patients=12, seed=0, size=(224, 112), num_workers=1, progress=False)
    return root


@pytest.fixture(scope="module")
def run(collection, tmp_path_factory):
    out = tmp_path_factory.mktemp("run")
    stages = ["--train_mim", "--train_cls", "--visualize", "--mim_epochs", "1", "--cls_epochs", "1"]
    where = ["--root_dir", str(collection), "--output_dir", str(out), "--log_mode", "file"]
    assert main(["analysis", *where, *stages, *QUICK]) == 0
    return out


def test_both_checkpoints_load_and_hold_safetensors_alone(run):
    for stage in ("mim", "classifier"):
        folder = run / "checkpoints" / stage
        names = {path.name for path in folder.iterdir()}
        assert {"config.json", "model.safetensors", "preprocessor_config.json"} <= names
        beside = {"README.md", "card", "plots", "run.yaml", *(name for name in names if name.startswith("checkpoint-"))}
        assert all(name.endswith((".json", ".safetensors")) for name in names - beside)
        assert MammoImageProcessor.from_pretrained(folder).size == {"height": 112, "width": 112}
    AutoModel.from_pretrained(run / "checkpoints" / "mim")
    AutoModelForImageClassification.from_pretrained(run / "checkpoints" / "classifier")
    model = MammoSwinForImageClassification.from_pretrained(run / "checkpoints" / "classifier")
    assert model.config.lesion_task == "pathology"
    with safe_open(run / "checkpoints" / "classifier" / "model.safetensors", "pt") as file:
        assert any(key.startswith("lesion_head.") for key in file.keys())  # noqa: SIM118 (no dict)


def test_figures_plots_and_pictures_are_written(run):
    metrics = json.loads((run / "metrics.json").read_text())
    assert metrics["mim"]["validation_loss"] > 0
    pathology = metrics["classifier"]["test"]["pathology"]
    assert pathology["n_images"] == 6
    assert "auroc" in pathology
    plots = {path.name for path in run.glob("checkpoints/*/plots/*")}
    assert {"mim_loss.png", "mim_reconstruction.png", "classifier_loss.png", "classifier_metrics.png"} <= plots
    assert len(list((run / "visualizations").glob("*.png"))) == 6
    assert (run / "training_log.txt").read_text()


def test_nothing_saved_names_a_patient_or_a_path(run, collection):
    for path in (run / "checkpoints").rglob("*.json"):
        text = path.read_text()
        assert "P_0000" not in text
        assert str(collection) not in text
    assert "P_0000" not in (run / "metrics.json").read_text()


def test_later_stages_use_the_checkpoints_that_are_there(run, collection):
    where = ["--root_dir", str(collection), "--output_dir", str(run), "--log_mode", "file"]
    before = (run / "prepared" / "prepared.json").stat().st_mtime_ns
    assert main(["analysis", *where, "--visualize", *QUICK]) == 0
    assert (run / "prepared" / "prepared.json").stat().st_mtime_ns == before  # nothing had changed


def test_settings_of_how_images_are_read_reach_the_pixels(run, collection, tmp_path):
    chosen = {"on_missing_window": "robust", "blank_pectoral_muscle": True}
    flags = ["--on_missing_window", "robust", "--blank_pectoral_muscle"]
    where = ["--root_dir", str(collection), "--output_dir", str(tmp_path / "run"), "--log_mode", "file"]
    assert main(["analysis", *where, "--train_mim", "--mim_epochs", "1", *QUICK, *flags]) == 0
    prepare(str(collection), tmp_path / "prepared", image_size=(112, 112), processor_settings=chosen)
    usual, expected, found = (
        {row["image_id"]: pixels_of(row) for row in open_prepared(folder)}
        for folder in (run / "prepared", tmp_path / "prepared", tmp_path / "run" / "prepared")
    )
    assert len(found) >= 6
    assert all(np.array_equal(image, expected[name]) for name, image in found.items())
    assert not all(np.array_equal(image, usual[name]) for name, image in found.items())
    saved = MammoImageProcessor.from_pretrained(tmp_path / "run" / "checkpoints" / "mim").to_dict()
    assert {name: saved[name] for name in chosen} == chosen


@pytest.mark.parametrize(
    ("changes", "status", "says"),
    [
        (["--root_dir", "nowhere", "--train_mim"], 2, "nowhere"),
        (["--visualize"], 2, "--train_cls"),
        ([], 2, "nothing to do"),
        (["--train_mim", "--model", "huge"], 2, "huge"),
        (["--train_mim", "--image_size", "96", "40"], 2, "does not fit"),
        (["--train_cls", "--tasks", "weather"], 2, "weather"),
    ],
)
def test_wrong_use_is_one_line_and_status_two(collection, tmp_path, capsys, changes, status, says):
    arguments = ["--root_dir", str(collection), "--output_dir", str(tmp_path / "out"), *QUICK, *changes]
    assert main(["analysis", *arguments]) == status
    error = capsys.readouterr().err.strip().splitlines()[-1]
    assert error.startswith("error: ")
    assert says in error


def test_an_empty_folder_is_a_data_error(tmp_path, capsys):
    (tmp_path / "empty").mkdir()
    where = ["--root_dir", str(tmp_path / "empty"), "--output_dir", str(tmp_path / "out")]
    assert main(["analysis", *where, "--train_mim"]) == 1
    assert "empty" in capsys.readouterr().err


def test_an_output_that_cannot_be_written(collection, tmp_path, capsys):
    (tmp_path / "file").touch()
    where = ["--root_dir", str(collection), "--output_dir", str(tmp_path / "file" / "out")]
    assert main(["analysis", *where, "--train_mim"]) == 2
    assert "cannot be written" in capsys.readouterr().err


def test_one_class_only_in_training_is_a_data_error(tmp_path, capsys):
    root = tmp_path / "cbis"
    write_phantom(root, patients=4, seed=0, size=(224, 112), num_workers=1, progress=False)
    for path in root.glob("*train*.csv"):
        path.write_text(path.read_text().replace("BENIGN_WITHOUT_CALLBACK", "MALIGNANT").replace("BENIGN", "MALIGNANT"))
    where = ["--root_dir", str(root), "--output_dir", str(tmp_path / "out")]
    assert main(["analysis", *where, "--train_cls", *QUICK]) == 1
    assert "malignant" in capsys.readouterr().err


def test_broken_files_are_rejected_by_name_and_the_run_goes_on(collection, tmp_path):
    root, out = tmp_path / "cbis", tmp_path / "out"
    shutil.copytree(collection, root)
    films = sorted((root / "full mammogram images").rglob("*Training*/**/*.dcm"))
    masks = sorted((root / "ROI mask images").rglob("*Training*/**/*.dcm"))
    films[0].write_text("a text file")
    films[1].write_bytes(films[1].read_bytes()[:-1000])
    masks[-1].write_bytes(masks[-1].read_bytes()[:-1000])
    shutil.rmtree(masks[-2].parents[2])
    described = next(path for path in root.glob("*train*.csv") if len(path.read_text().splitlines()) > 3)
    with described.open(newline="") as file:
        folder = list(csv.reader(file))[-1][11].split("/")[0]
    shutil.rmtree(root / "full mammogram images" / folder)
    where = ["--root_dir", str(root), "--output_dir", str(out), "--log_mode", "file", "--mim_epochs", "1"]
    assert main(["analysis", *where, "--train_mim", *QUICK]) == 0
    with (out / "prepared" / "rejected.csv").open(newline="") as file:
        rejected = {row["source"]: row["reason"] for row in csv.DictReader(file)}
    assert "not a DICOM file" in rejected[str(films[0])]
    assert "cut short" in rejected[str(films[1])]
    if folder not in str(masks[-1]):  # the film of that mask stays, without the lesion's place
        assert "cut short" in rejected[str(masks[-1])]
    assert any(str(described) in source and "no image" in reason for source, reason in rejected.items())
    log = (out / "training_log.txt").read_text()
    assert f"{len(rejected)} files or rows were left out" in log
    assert "1 of 24 table rows have no image" in log
    assert "validation loss" in log  # the file holds the training's figures, not only our own words


def test_one_class_in_test_and_a_batch_larger_than_the_set(collection, tmp_path):
    root, out = tmp_path / "cbis", tmp_path / "out"
    shutil.copytree(collection, root)
    for path in root.glob("*test*.csv"):
        path.write_text(path.read_text().replace("BENIGN_WITHOUT_CALLBACK", "MALIGNANT").replace("BENIGN", "MALIGNANT"))
    where = ["--root_dir", str(root), "--output_dir", str(out), "--log_mode", "file", "--cls_epochs", "1"]
    assert main(["analysis", *where, "--train_cls", *QUICK[:-1], "500"]) == 0
    pathology = json.loads((out / "metrics.json").read_text())["classifier"]["test"]["pathology"]
    assert (pathology["auroc"], pathology["auroc_reason"]) == (None, "no image is labelled benign")
    assert not (out / "checkpoints" / "classifier" / "plots" / "roc.png").exists()
    assert "a batch of 500 is larger than" in (out / "training_log.txt").read_text()


def test_a_list_of_everything_adds_no_crop_mask_or_test_image(collection, tmp_path):
    listed = tmp_path / "list.txt"
    files = [str(path) for path in sorted(collection.rglob("*.dcm"))]
    listed.write_text("\n".join(["", *files, "  ", "/nowhere/x.dcm"]))
    out = tmp_path / "out"
    where = ["--root_dir", str(collection), "--output_dir", str(out), "--log_mode", "file", "--mim_epochs", "1"]
    assert main(["analysis", *where, "--train_mim", "--dicom_path", str(listed), *QUICK]) == 0
    log = (out / "training_log.txt").read_text()
    assert "left out of pre-training: 24 crops, 24 ROI masks, 12 images of test patients" in log
    assert "/nowhere/x.dcm" in (out / "prepared" / "rejected.csv").read_text()
    assert json.loads((out / "metrics.json").read_text())["mim"]["train_images"] == 28


def test_again_into_the_same_output_and_resuming(collection, tmp_path, capsys):
    out = tmp_path / "out"
    command = ["analysis", "--root_dir", str(collection), "--output_dir", str(out), "--log_mode", "file", *QUICK]
    command += ["--train_mim", "--train_cls", "--cls_epochs", "1", "--mim_epochs"]
    assert main([*command, "2"]) == 0
    assert main([*command, "1"]) == 2
    assert "holds a finished training" in capsys.readouterr().err.splitlines()[-1]
    # a shorter run, next to whose checkpoints the longer one's must not stay
    assert main([*command, "1", "--overwrite_output_dir"]) == 0
    (mim,) = (out / "checkpoints" / "mim").glob("checkpoint-*")
    first = json.loads((out / "metrics.json").read_text())
    # as if stage 1 had been interrupted, before stage 2 began
    state = json.loads((mim / "trainer_state.json").read_text())
    (mim / "trainer_state.json").write_text(json.dumps(state | {"max_steps": 99}))
    (mim.parent / "metrics.json").unlink()
    shutil.rmtree(out / "checkpoints" / "classifier")
    capsys.readouterr()
    assert main([*command, "1"]) == 2
    assert "unfinished" in capsys.readouterr().err.splitlines()[-1]
    assert main([*command, "1", "--resume"]) == 0
    assert json.loads((out / "metrics.json").read_text()) == first


def test_pictures_alone_take_the_classifiers_own_size(run, collection, tmp_path):
    out = tmp_path / "run"
    shutil.copytree(run, out)
    shutil.rmtree(out / "visualizations")
    where = ["--root_dir", str(collection), "--output_dir", str(out), "--log_mode", "file"]
    assert main(["analysis", *where, "--visualize", "--image_size", "224", "112"]) == 0
    with (
        Image.open(out / "visualizations" / "001.png") as now,
        Image.open(run / "visualizations" / "001.png") as before,
    ):
        assert now.size == before.size
