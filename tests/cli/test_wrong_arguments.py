"""Every option of every command, broken: one line, status 2 or 1, and before any image is read."""

from __future__ import annotations

import shutil

import pytest

from mammo_hf.cli import main
from mammo_hf.models.configuration_mammo_swin import SIZES, MammoSwinConfig
from mammo_hf.phantom.writing import write_phantom

STAGES = {
    "analysis": ["--train_mim", "--train_cls", "--model", "nano", "--num_workers", "0", "--use_cpu"],
    "pretrain": ["--model", "nano", "--use_cpu", "true", "--num_workers", "0"],
    "finetune": ["--model", "nano", "--use_cpu", "true", "--num_workers", "0"],
}


@pytest.fixture(scope="module")
def collection(tmp_path_factory):
    root = tmp_path_factory.mktemp("phantom") / "cbis"
    write_phantom(root, patients=4, seed=0, size=(224, 112), num_workers=1, progress=False)
    return root


@pytest.fixture
def fails(collection, tmp_path, capsys, monkeypatch):
    """Runs a command that must fail before an image is prepared, and gives its status and its error line."""

    def run(command, *changes, root=collection, out=tmp_path / "out"):
        monkeypatch.setattr(
            "mammo_hf.data.training_data.prepare_images", lambda *a, **k: pytest.fail("images were read")
        )
        where = "--root_dir" if command == "analysis" else "--dataset"
        arguments = [where, str(root), "--output_dir", str(out), "--image_size", "112", *STAGES[command]]
        try:
            status = main([command, *arguments, *map(str, changes)])
        except SystemExit as end:
            status = end.code
        return status, capsys.readouterr().err.strip().splitlines()[-1]

    return run


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        (["--image_size", "0"], "image size of 0"),
        (["--image_size", "1", "2", "3"], "image size of 1 2 3"),
        (["--image_size", "100"], "112 x 112, the nearest size that fits"),
        (["--model", "huge"], "huge: there is no such folder"),
        (["--missing_label_percentage", "0"], "--missing_label_percentage: is 0"),
        (["--missing_label_percentage", "-5"], "--missing_label_percentage: is -5"),
        (["--missing_label_percentage", "200"], "--missing_label_percentage: is 200"),
        (["--missing_label_percentage", "nan"], "--missing_label_percentage: is nan"),
        (["--validation_fraction", "1"], "--validation_fraction: is 1"),
        (["--test_fraction", "0.9"], "--test_fraction: is 0.9; it must be at least 0, and below 0.85 with"),
        (["--test_fraction", "nan"], "--test_fraction: is nan"),
        (["--split_file", "nowhere.json"], "nowhere.json: no such file"),
        (["--label_file", "nowhere.json"], "nowhere.json: no such file"),
        (["--batch_size", "0"], "batch_size: is 0"),
        (["--num_workers", "-1"], "--num_workers: is -1"),
        (["--mim_epochs", "0"], "--mim_epochs: is 0"),
        (["--cls_epochs", "nan"], "--cls_epochs: is nan"),
        (["--cls_learning_rate", "-1"], "--cls_learning_rate: is -1"),
        (["--lesion_loss", "-1"], "--lesion_loss: is -1"),
        (["--seed", "-1"], "--seed: is -1"),
        (["--dicom_path", "nowhere.txt"], "nowhere.txt: no such file"),
        (["--resume"], "has no checkpoint to resume from; start without --resume"),
        (["--batch_size", "many"], "invalid int value"),
        (["--log_mode", "paper"], "invalid choice"),
    ],
)
def test_the_seeds_command(fails, changes, says):
    status, error = fails("analysis", *changes)
    assert (status, says in error) == (2, True), error


@pytest.mark.parametrize("command", ["pretrain", "finetune"])
@pytest.mark.parametrize(
    ("changes", "says"),
    [
        (["--image_size", "100"], "112 x 112, the nearest size that fits"),
        (["--per_device_train_batch_size", "0"], "batch_size: is 0"),
        (["--num_train_epochs", "-1"], "--num_train_epochs: is -1"),
        (["--learning_rate", "nan"], "--learning_rate: is nan"),
        (["--seed", "-1"], "--seed: is -1"),
        (["--num_workers", "-1"], "--num_workers: is -1"),
        (["--validation_fraction", "0"], "--validation_fraction: is 0"),
        (["--test_fraction", "-0.1"], "--test_fraction: is -0.1"),
        (["--split_file", "nowhere.json"], "nowhere.json: no such file"),
        (["--resume_from_checkpoint", "true"], "no checkpoint to resume from"),
        (["--resume_from_checkpoint", "nowhere"], "nowhere: is not a checkpoint"),
        (["--eval_strategy", "no", "--load_best_model_at_end", "true"], "Trainer refuses its arguments"),
        (["--unknown", "1"], "--unknown"),
    ],
)
def test_the_stages(fails, command, changes, says):
    status, error = fails(command, *changes)
    assert (status, says in error) == (2, True), error


@pytest.mark.parametrize("command", STAGES)
def test_a_root_that_is_a_file_or_not_there(fails, command, tmp_path):
    (tmp_path / "file").touch()
    for root in (tmp_path / "file", tmp_path / "nowhere"):
        status, error = fails(command, root=root)
        assert (status, error.startswith(f"error: {root}: is not a folder; give --")) == (2, True), error


@pytest.mark.parametrize("command", STAGES)
@pytest.mark.parametrize("place", ["prepared", "plots", "metrics.json", ""])
def test_something_else_where_an_output_belongs(fails, command, place, tmp_path):
    if (command, place) == ("analysis", "plots"):
        pytest.skip("this command's plots are in the folders of its checkpoints")
    blocked = tmp_path / "out" / place
    if place:
        blocked.parent.mkdir()
    blocked.write_text("{not ours")
    status, error = fails(command)
    assert (status, str(blocked) in error) == (2, True), error


@pytest.mark.parametrize("place", ["checkpoints", "checkpoints/classifier", "visualizations"])
def test_a_file_where_a_folder_of_the_seeds_command_belongs(fails, place, tmp_path):
    blocked = tmp_path / "out" / place
    blocked.parent.mkdir(parents=True)
    blocked.write_text("x")
    status, error = fails("analysis", "--visualize")
    assert (status, str(blocked) in error, "cannot be written to" in error) == (2, True, True), error


def test_a_log_that_cannot_be_written_and_an_output_below_proc(fails, tmp_path):
    (tmp_path / "out" / "training_log.txt").mkdir(parents=True)
    status, error = fails("analysis", "--log_mode", "file")
    assert (status, "training_log.txt: cannot be written to" in error) == (2, True), error
    # not even root makes a folder there
    status, error = fails("analysis", out="/proc/mammo_hf")
    assert (status, "/proc/mammo_hf: cannot be written to" in error) == (2, True), error


@pytest.mark.parametrize("command", ["analysis", "finetune"])
def test_labels_that_teach_nothing_are_told_before_pre_training(fails, command, collection, tmp_path):
    root = tmp_path / "cbis"
    shutil.copytree(collection, root)
    for path in root.glob("*train*.csv"):
        path.write_text(path.read_text().replace("BENIGN_WITHOUT_CALLBACK", "MALIGNANT").replace("BENIGN", "MALIGNANT"))
    status, error = fails(command, root=root)
    assert (status, "'malignant' only" in error) == (1, True), error
    for path in root.glob("*.csv"):
        path.write_text(path.read_text().split("\n")[0] + "\n")
    status, error = fails(command, root=root)
    assert (status, "no labels at all" in error) == (1, True), error


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        (["--image_size", "224", "100"], "224 x 112, the nearest size that fits"),
        (["--model", "tiny", "--image_size", "224", "112"], "224 x 224, the nearest size that fits"),
        (["--window_size", "8"], "128 x 128, the nearest size that fits"),
        (["--mask_block_size", "18"], "18 pixels is not a multiple of the patch of 4; use 16"),
        (["--mask_block_size", "32"], "not tiled by blocks of 32 pixels"),
        (["--mask_ratio", "0"], "mask ratio of 0.0 is not between 0 and 1"),
        (["--mask_ratio", "1"], "mask ratio of 1.0 is not between 0 and 1"),
        (["--mask_within", "nipple"], "--mask_within: is 'nipple'; use image, breast"),
        (["--loss_region", "breast"], "--loss_region: is 'breast'"),
        (["--normalized_patch", "15"], "patches of 15 pixels do not tile"),
        (["--mim_decoder", "deep"], "--mim_decoder: is 'deep'; use conv, linear"),
        (["--probes", "linear", "forest"], "--probes: is 'forest'"),
        (["--layer_decay", "1.5"], "--layer_decay: is 1.5"),
        (["--weight_average", "1"], "--weight_average: is 1.0"),
    ],
)
def test_what_stage_1_cannot_do_is_told_before_an_image_is_read(fails, changes, says):
    status, error = fails("pretrain", *changes)
    assert status == 2, error
    assert says in error


def test_nothing_to_explain_is_told_before_training(fails, collection, tmp_path):
    root = tmp_path / "cbis"
    write_phantom(root, patients=12, seed=0, size=(112, 112), num_workers=1, progress=False)
    for path in root.glob("*test*.csv"):
        path.write_text(path.read_text().split("\n")[0] + "\n")
    status, error = fails("analysis", "--visualize", root=root)
    assert (status, "no labelled test image" in error) == (1, True), error


def test_no_images_and_one_patient(fails, collection, tmp_path):
    root = tmp_path / "cbis"
    shutil.copytree(collection, root)
    shutil.rmtree(root / "full mammogram images")
    status, error = fails("pretrain", root=root)
    assert (status, f"{root}: holds no image for the 8 rows" in error) == (1, True), error
    write_phantom(tmp_path / "one", patients=1, seed=0, size=(112, 112), num_workers=1, progress=False)
    status, error = fails("pretrain", root=tmp_path / "one")
    assert (status, "1 training patient(s) cannot be split" in error) == (1, True), error


def test_a_folder_without_tables_names_all_four(fails, collection, tmp_path):
    root = tmp_path / "cbis"
    shutil.copytree(collection, root)
    for path in root.glob("*.csv"):
        path.unlink()
    status, error = fails("analysis", root=root)
    tables = [f"{kind}_case_description_{split}_set.csv" for kind in ("mass", "calc") for split in ("train", "test")]
    assert (status, [name for name in tables if name not in error]) == (1, []), error


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        (["--count", "0"], "--count: is 0"),
        (["--num_workers", "-1"], "--num_workers: is -1"),
        (["--explainer", "gradcam"], "did you mean grad_cam"),
        (["--explainers", "grad_cam"], "did you mean --explainer"),
        ([], "is a pre-trained encoder, which has no classifier"),
    ],
)
@pytest.mark.parametrize("command", ["explain", "predict"])
def test_explain_and_predict(collection, tmp_path, capsys, command, changes, says):
    config = MammoSwinConfig(**SIZES["nano"], image_size=(112, 112), architectures=["MammoSwinForMaskedImageModeling"])
    config.save_pretrained(tmp_path / "mim")
    if changes[:1] == ["--count"] and command == "predict":
        changes, says = ["--batch_size", "0"], "--batch_size: is 0"
    if changes[:1] == ["--explainer"] and command == "predict":
        says = "did you mean grad_cam"
    output = {"explain": ["--output_dir", str(tmp_path / "out")], "predict": ["--output", str(tmp_path / "out.csv")]}
    assert main([command, str(tmp_path / "mim"), str(collection), *output[command], *changes]) == 2
    assert says in capsys.readouterr().err
    assert not (tmp_path / "out").exists()
    assert not (tmp_path / "out.csv").exists()
