import csv
import os
import signal
import subprocess
import sys
import time

import pytest
from small_archive import write_dicom

from mammo_hf import MammoImageProcessor
from mammo_hf.cli import main
from mammo_hf.testing import tiny_classifier


@pytest.fixture
def checkpoint(tmp_path):
    tiny_classifier().save_pretrained(tmp_path / "model")
    MammoImageProcessor(size=(112, 56)).save_pretrained(tmp_path / "model")
    return str(tmp_path / "model")


@pytest.fixture
def folder(tmp_path):
    for number in range(12):
        write_dicom(tmp_path / "images" / f"{number:02d}.dcm", number)
    return tmp_path / "images"


def rows_of(path):
    with open(path, newline="") as file:
        return list(csv.DictReader(file))


def test_a_folder_becomes_a_table(checkpoint, folder, tmp_path, capsys):
    output = tmp_path / "out" / "scores.csv"
    assert main(["predict", checkpoint, str(folder), "--output", str(output), "--num_workers", "0"]) == 0
    assert f"12 images in {output}" in capsys.readouterr().out
    assert [row["file"] for row in rows_of(output)] == [str(folder / f"{number:02d}.dcm") for number in range(12)]


def test_a_list_with_a_missing_file_in_the_middle_ends_with_status_3(checkpoint, folder, tmp_path, capsys):
    names = ["images/00.dcm", "images/gone.dcm", "images/01.dcm", "images/00.dcm"]
    (tmp_path / "list.txt").write_text("\n".join(names))
    arguments = ["predict", checkpoint, str(tmp_path / "list.txt"), "--output", str(tmp_path / "scores.parquet")]
    assert main([*arguments, "--num_workers", "0"]) == 3
    said = capsys.readouterr()
    assert "2 files were rejected" in said.err
    assert (tmp_path / "scores.parquet").is_file()
    reasons = {os.path.basename(row["file"]): row["reason"] for row in rows_of(tmp_path / "scores.rejected.csv")}
    assert set(reasons) == {"gone.dcm", "00.dcm"}
    assert "no such file" in reasons["gone.dcm"]


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (["--batch_size", "0"], "--batch_size"),
        (["--num_workers", "-1"], "--num_workers"),
        (["--explainer", "nothing"], "nothing"),
        (["--device", "cuda"], "CUDA"),
        (["--output", "scores.txt"], "not a table"),
    ],
)
def test_wrong_arguments_are_told_of_in_one_line(checkpoint, folder, tmp_path, capsys, change, said):
    if said == "CUDA":
        import torch

        if torch.cuda.is_available():
            pytest.skip("there is CUDA here")
    arguments = ["predict", checkpoint, str(folder), "--output", str(tmp_path / "scores.csv"), *change]
    assert main(arguments) == 2
    error = capsys.readouterr().err.strip().splitlines()[-1]
    assert error.startswith("error:")
    assert said in error


def test_a_model_that_is_not_there_is_told_of_in_one_line(folder, tmp_path, capsys):
    assert main(["predict", str(tmp_path / "gone"), str(folder), "--output", str(tmp_path / "scores.csv")]) == 2
    assert "gone" in capsys.readouterr().err


def _command(checkpoint, folder, output):
    code = "import sys; from mammo_hf.cli import main; sys.exit(main())"
    return [sys.executable, "-c", code, "predict", checkpoint, str(folder), "--output", str(output)]


@pytest.mark.slow
def test_a_run_that_was_killed_goes_on_and_gives_the_same(checkpoint, folder, tmp_path):
    whole, cut = tmp_path / "whole.csv", tmp_path / "cut.csv"
    options = ["--batch_size", "1", "--num_workers", "2"]
    subprocess.run([*_command(checkpoint, folder, whole), *options], check=True, capture_output=True)
    killed = 0
    while not cut.exists():
        run = subprocess.Popen([*_command(checkpoint, folder, cut), *options], stdout=subprocess.DEVNULL, stderr=-3)
        if killed < 2:
            _wait_for_rows(tmp_path / "cut.csv.part", 4 * (killed + 1), run)
            killed += 1
            run.kill()
        assert run.wait() in (0, -signal.SIGKILL)
    assert killed == 2
    assert cut.read_bytes() == whole.read_bytes()
    assert not (tmp_path / "cut.csv.part").exists()


def _wait_for_rows(folder, count, run):
    end = time.monotonic() + 120
    while time.monotonic() < end and run.poll() is None:
        if sum(path.read_text().count("\n") for path in folder.glob("*.csv")) >= count:
            return
        time.sleep(0.005)


@pytest.mark.slow
def test_ctrl_c_ends_it_with_one_line(checkpoint, folder, tmp_path):
    output = tmp_path / "scores.csv"
    command = [*_command(checkpoint, folder, output), "--batch_size", "1", "--num_workers", "2"]
    run = subprocess.Popen(command, stderr=subprocess.PIPE, text=True, start_new_session=True)
    _wait_for_rows(tmp_path / "scores.csv.part", 1, run)
    os.killpg(run.pid, signal.SIGINT)
    _, said = run.communicate(timeout=60)
    assert run.returncode == 130
    assert "Traceback" not in said
    assert said.strip().splitlines()[-1] == "error: interrupted"


@pytest.mark.slow
def test_two_processes_give_the_same_rows(checkpoint, folder, tmp_path):
    (folder / "03-broken.dcm").write_bytes(b"nothing")
    alone, both = tmp_path / "alone.csv", tmp_path / "both.csv"
    options = ["--batch_size", "2", "--device", "cpu", "--num_workers", "0"]
    assert subprocess.run([*_command(checkpoint, folder, alone), *options], capture_output=True).returncode == 3
    launch = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node", "2"]
    done = subprocess.run(
        [*launch, "-m", "mammo_hf", "predict", checkpoint, str(folder), "--output", str(both), *options],
        capture_output=True,
        text=True,
    )
    assert "1 files were rejected" in done.stderr
    assert both.read_bytes() == alone.read_bytes()
    assert rows_of(tmp_path / "both.rejected.csv") == rows_of(tmp_path / "alone.rejected.csv")
