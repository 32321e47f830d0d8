"""Stage 1 in processes of its own: two of them, and one that is killed."""

import json
import os
import re
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
from transformers import AutoModel, SwinConfig, SwinForImageClassification
from two_processes import trained_by_one_and_by_two

from mammo_hf.phantom.writing import write_phantom

pytestmark = pytest.mark.slow

ROOT = Path(__file__).resolve().parents[2]

WORKER = """
import sys
sys.path.insert(0, {tests!r})
import torch
torch.set_num_threads(1)
from made_images import Made, network, trainer

def train(out, processes, case):
    model = network()
    run = trainer(out, model, Made(20), per_device_train_batch_size=4 // processes, max_steps=5, optim="sgd",
                  learning_rate=0.1, gradient_checkpointing=case == "checkpointing")
    assert run.args.world_size == processes, run.args.world_size
    run.train()
    if run.is_world_process_zero():
        model.save_pretrained(out)
        run.state.save_to_json(out + "/state.json")
"""


def losses(path):
    history = json.loads(Path(path).read_text())["log_history"]
    return {entry["step"]: entry["loss"] for entry in history if "loss" in entry}


def test_two_processes_equal_one_with_the_same_batch(tmp_path):
    for one, two in trained_by_one_and_by_two(WORKER, tmp_path, "plain", "checkpointing").values():
        for step, loss in losses(one / "state.json").items():
            assert losses(two / "state.json")[step] == pytest.approx(loss, abs=1e-5)


@pytest.fixture(scope="module")
def collection(tmp_path_factory):
    root = tmp_path_factory.mktemp("phantom") / "cbis"
    write_phantom(root, patients=12, seed=0, size=(224, 112), num_workers=1, progress=False)
    return root


def test_killed_and_resumed_it_ends_bit_for_bit_where_it_would_have(collection, tmp_path):
    command = [sys.executable, str(ROOT / "scripts/run_mim.py"), "--dataset", str(collection), "--model", "nano"]
    command += ["--image_size", "112", "--use_cpu", "true", "--per_device_train_batch_size", "4", "--report_to", "none"]
    command += ["--num_workers", "0", "--seed", "0", "--max_steps", "12", "--logging_steps", "1"]
    command += [
        "--save_strategy",
        "steps",
        "--save_steps",
        "2",
        "--load_best_model_at_end",
        "false",
        "--learning_rate",
        "1e-3",
        "--weight_average",
        "0.9",
    ]
    command += ["--prepared_dir", str(tmp_path / "prepared"), "--disable_tqdm", "true", "--mask_within", "breast"]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    whole, killed = tmp_path / "whole", tmp_path / "killed"
    subprocess.run([*command, "--output_dir", str(whole)], check=True, timeout=400, env=environment)
    process = subprocess.Popen([*command, "--output_dir", str(killed)], env=environment)
    deadline = time.monotonic() + 300
    while not (killed / "checkpoint-4" / "trainer_state.json").is_file():
        assert process.poll() is None
        assert time.monotonic() < deadline
        time.sleep(0.01)
    process.kill()
    process.wait()
    assert not (killed / "model.safetensors").is_file()
    resume = ["--resume_from_checkpoint", "true"]
    subprocess.run([*command, "--output_dir", str(killed), *resume], check=True, timeout=400, env=environment)
    curves = [losses(folder / "checkpoint-12" / "trainer_state.json") for folder in (whole, killed)]
    assert len(curves[0]) == 12
    assert curves[0] == curves[1]
    assert (whole / "model.safetensors").read_bytes() == (killed / "model.safetensors").read_bytes()


def test_both_stages_start_from_a_stock_checkpoint_of_colour_images(collection, tmp_path):
    shape = {"embed_dim": 16, "depths": [2, 2], "num_heads": [1, 2]}
    stock = SwinForImageClassification(SwinConfig(**shape, image_size=48, window_size=6, num_labels=3))
    stock.save_pretrained(tmp_path / "stock")
    common = ["--dataset", str(collection), "--image_size", "112", "56", "--window_size", "7", "--use_cpu", "true"]
    common += ["--report_to", "none", "--num_workers", "0", "--max_steps", "1", "--learning_rate", "1e-9"]
    common += ["--per_device_train_batch_size", "4", "--prepared_dir", str(tmp_path / "prepared")]
    said = {}
    for command, option, heads in (
        ("mim", "--model", ("decoder.", "deep_mask_token", "swin.embeddings.mask_token")),
        ("classification", "--model", ("classifier.", "lesion_head.")),
    ):
        out = tmp_path / command
        line = [sys.executable, str(ROOT / f"scripts/run_{command}.py"), option, str(tmp_path / "stock")]
        line += ["--output_dir", str(out), *common, "--disable_tqdm", "true"]
        if command == "mim":
            line += ["--mask_block_size", "8"]
        done = subprocess.run(line, capture_output=True, text=True, timeout=300)
        assert done.returncode == 0, done.stderr
        (said[command],) = re.findall(r"stock: \d+ tensors loaded, new: (.*)", done.stderr)
        assert all(name.startswith(heads) for name in said[command].split(", ")), said
        trained = AutoModel.from_pretrained(out)
        assert trained.config.window_size == 7
        kernel, colours = (model.embeddings.patch_embeddings.projection.weight for model in (trained, stock.swin))
        torch.testing.assert_close(kernel, colours.sum(1, keepdim=True), rtol=0, atol=1e-6)
        depth = trained.encoder.layers[1].blocks[1].mlp.fc1.weight
        torch.testing.assert_close(depth, stock.swin.encoder.layers[1].blocks[1].mlp.fc1.weight, rtol=0, atol=1e-6)
