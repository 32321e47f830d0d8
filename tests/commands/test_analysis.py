import json

import pytest
from safetensors import safe_open
from transformers import AutoModel, AutoModelForImageClassification

from mammo_hf import MammoImageProcessor, MammoSwinForImageClassification
from mammo_hf.cli import main
from mammo_hf.data.phantom import write_phantom

QUICK = ["--model", "nano", "--image_size", "112", "--device", "cpu", "--num_workers", "0", "--batch_size", "8"]


@pytest.fixture(scope="module")
def collection(tmp_path_factory):
    root = tmp_path_factory.mktemp("phantom") / "cbis"
    write_phantom(root, patients=12, seed=0, size=(224, 112), num_proc=1, progress=False)
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
        assert all(name.endswith((".json", ".safetensors")) for name in names)
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
    plots = {path.name for path in (run / "plots").iterdir()}
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
    write_phantom(root, patients=4, seed=0, size=(224, 112), num_proc=1, progress=False)
    for path in root.glob("*train*.csv"):
        path.write_text(path.read_text().replace("BENIGN_WITHOUT_CALLBACK", "MALIGNANT").replace("BENIGN", "MALIGNANT"))
    where = ["--root_dir", str(root), "--output_dir", str(tmp_path / "out")]
    assert main(["analysis", *where, "--train_cls", *QUICK]) == 1
    assert "malignant" in capsys.readouterr().err
