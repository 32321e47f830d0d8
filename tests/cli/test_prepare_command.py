import json

import pytest

from mammo_hf.cli import main
from mammo_hf.phantom.writing import write_phantom

SMALL = ["--image_size", "112", "--shard_size", "8"]


@pytest.fixture(scope="module")
def collection(tmp_path_factory):
    root = tmp_path_factory.mktemp("phantom") / "cbis"
    write_phantom(root, patients=8, seed=0, size=(224, 112), num_workers=1, progress=False)
    return root


@pytest.mark.slow
def test_prepared_once_and_then_trained_on_by_name(collection, tmp_path, capsys):
    out = tmp_path / "a folder"
    assert main(["prepare", str(collection), "--output_dir", str(out), *SMALL]) == 0
    assert "32 images" in capsys.readouterr().out
    assert main(["prepare", str(collection), "--output_dir", str(out), *SMALL]) == 0
    assert "none read now" in capsys.readouterr().out
    where = ["--root_dir", str(out), "--output_dir", str(tmp_path / "run"), "--log_mode", "file"]
    options = ["--train_mim", "--model", "nano", "--mim_epochs", "1", "--use_cpu", "--num_workers", "0"]
    assert main(["analysis", *where, *options, "--batch_size", "8"]) == 0
    metrics = json.loads((tmp_path / "run" / "metrics.json").read_text())
    assert metrics["mim"]["image_size"] == [112, 112]
    assert not (tmp_path / "run" / "prepared").exists()


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["nowhere"], "nowhere"),
        (["COLLECTION", "--ray_address", "auto"], "--ray"),
        (["COLLECTION", "--image_size", "1", "2", "3"], "image size"),
        (["COLLECTION", "--lesion_task", "weather"], "weather"),
        (["COLLECTION", "--output_dir", "COLLECTION/phantom.json", "--image_size", "64", "32"], "cannot be written"),
        (["COLLECTION", "--shard_size", "0"], "shard_size"),
        (["COLLECTION", "--num_workers", "-1"], "num_workers"),
        (["COLLECTION", "--size", "64"], "did you mean"),
        (["COLLECTION", "--format", "png"], "png"),
    ],
)
def test_wrong_use_is_one_line_and_status_two(collection, tmp_path, capsys, monkeypatch, arguments, says):
    monkeypatch.chdir(tmp_path)
    given = [argument.replace("COLLECTION", str(collection)) for argument in arguments]
    where = [] if "--output_dir" in given else ["--output_dir", "out"]
    assert main(["prepare", *given, *where]) == 2
    error = capsys.readouterr().err.strip().splitlines()[-1]
    assert error.startswith("error: ")
    assert says in error
