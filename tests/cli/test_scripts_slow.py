"""The scripts as a user starts them: two processes, Ctrl-C and resuming, a plugin installed on its own."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from mammo_hf.phantom.writing import write_phantom

pytestmark = pytest.mark.slow

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def collection(tmp_path_factory):
    root = tmp_path_factory.mktemp("phantom") / "cbis"
    write_phantom(root, patients=12, seed=0, size=(224, 112), num_workers=1, progress=False)
    return root


def quick(collection, out):
    return [
        *("--dataset", str(collection), "--output_dir", str(out), "--image_size", "112", "--use_cpu", "true"),
        *("--per_device_train_batch_size", "4", "--report_to", "none", "--num_workers", "0", "--seed", "0"),
    ]


def test_two_processes_train_both_stages(collection, tmp_path):
    launch = [sys.executable, "-m", "torch.distributed.run", "--nproc_per_node", "2", "--master_port", "0"]
    launch += ["--rdzv_backend", "c10d", "--rdzv_endpoint", "localhost:0"]
    mim = [str(ROOT / "scripts/run_mim.py"), "--model", "nano", "--num_train_epochs", "1"]
    subprocess.run([*launch, *mim, *quick(collection, tmp_path / "mim")], check=True, timeout=300)
    assert json.loads((tmp_path / "mim" / "metrics.json").read_text())["mim"]["processes"] == 2
    classification = [str(ROOT / "scripts/run_classification.py"), "--model", str(tmp_path / "mim")]
    classification += ["--num_train_epochs", "1"]
    subprocess.run([*launch, *classification, *quick(collection, tmp_path / "cls")], check=True, timeout=300)
    figures = json.loads((tmp_path / "cls" / "metrics.json").read_text())["classifier"]
    assert figures["processes"] == 2
    assert figures["test"]["pathology"]["n_images"] == 6


def test_an_interrupt_leaves_a_checkpoint_that_resumes(collection, tmp_path):
    out = tmp_path / "mim"
    script = [sys.executable, str(ROOT / "scripts/run_mim.py"), "--model", "nano", *quick(collection, out)]
    script += ["--num_train_epochs", "30", "--logging_steps", "1", "--disable_tqdm", "true"]
    with (tmp_path / "log").open("w") as log:
        process = subprocess.Popen(script, stdout=log, stderr=log)
        deadline = time.monotonic() + 120
        while "step 4 of" not in (tmp_path / "log").read_text() and time.monotonic() < deadline:
            time.sleep(0.1)
        process.send_signal(signal.SIGINT)
        assert process.wait(timeout=120) == 130
    assert "error: " in (tmp_path / "log").read_text().splitlines()[-1]
    checkpoint = max(out.glob("checkpoint-*"), key=lambda path: int(path.name.split("-")[1]))
    step = json.loads((checkpoint / "trainer_state.json").read_text())["global_step"]
    assert step > 0
    script[script.index("30")] = "3"
    done = subprocess.run([*script, "--resume_from_checkpoint", "true"], capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    assert (out / "model.safetensors").is_file()


def test_ctrl_c_in_each_part_of_the_seeds_command_and_resuming(collection, tmp_path):
    """The signal goes to the whole group, as from a terminal: the workers that read images get it as well."""
    out, log = tmp_path / "out", tmp_path / "log"
    script = [sys.executable, str(ROOT / "scripts/mammogram_analysis.py"), "--root_dir", str(collection)]
    script += ["--output_dir", str(out), "--model", "nano", "--image_size", "112", "--use_cpu"]
    script += ["--num_workers", "2", "--log_mode", "file", "--train_mim", "--train_cls", "--mim_epochs", "2"]
    script += ["--cls_epochs", "30"]

    def interrupted(when, *more):
        with log.open("w") as file:
            process = subprocess.Popen([*script, *more], stdout=file, stderr=file, start_new_session=True)
            deadline = time.monotonic() + 200
            while not when(process.pid) and process.poll() is None and time.monotonic() < deadline:
                time.sleep(0.05)
            os.killpg(process.pid, signal.SIGINT)
            status = process.wait(timeout=120)
        text = log.read_text()
        assert (status, "Traceback" in text) == (130, False), text
        return text.splitlines()[-1]

    # while torch is imported, however long the interpreter takes to come so far
    assert interrupted(lambda pid: "libtorch" in Path(f"/proc/{pid}/maps").read_text()) == "error: interrupted"
    assert interrupted(lambda pid: (out / "prepared" / "layout.json").exists()).endswith("error: interrupted")
    logged = out / "training_log.txt"
    assert "--resume" in interrupted(lambda pid: "pathology accuracy" in logged.read_text())
    (step,) = {
        json.loads(path.read_text())["max_steps"] for path in out.glob("checkpoints/classifier/*/trainer_state.json")
    }
    done = subprocess.run([*script, "--resume"], capture_output=True, text=True, timeout=400)
    assert done.returncode == 0, done.stderr
    assert (out / "checkpoints" / "classifier" / f"checkpoint-{step}").is_dir()
    assert (out / "checkpoints" / "classifier" / "model.safetensors").is_file()


def test_the_plugin_installs_on_its_own_and_is_found(tmp_path):
    plugin = ROOT / "plugins" / "mammo-hf-input-gradient"
    install = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--no-build-isolation"]
    subprocess.run([*install, "--target", str(tmp_path), str(plugin)], check=True, timeout=300)
    environment = {**os.environ, "PYTHONPATH": str(tmp_path)}
    listed = subprocess.run(
        [sys.executable, "-m", "mammo_hf", "explainers"], capture_output=True, text=True, env=environment, cwd=ROOT
    )
    lines = dict(line.split(None, 1) for line in listed.stdout.splitlines())
    assert lines["input_gradient"].split()[0] == "ready", listed.stderr
    check = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", str(plugin / "tests")]
    subprocess.run(check, check=True, timeout=300, env=environment, cwd=ROOT)
