"""Two processes that learn from unlabelled images as well end where one with the same batches does."""

import json

import pytest
from two_processes import trained_by_one_and_by_two

pytestmark = pytest.mark.slow

WORKER = """
import sys
sys.path.insert(0, {tests!r})
import torch
torch.set_num_threads(1)
from made_labelled import classifier, images, trainer

def train(out, processes, method):
    model = classifier(class_weights={{"pathology": [0.5, 2.0]}})
    labelled = [(0, 0), (1, 2), (0, 1), (1, 0), (1, -100), (0, 2), (-100, 1), (1, 1)]
    unlabelled = [(1, -100), (0, 1), (1, 2), (0, -100), (1, 1), (0, 0)]
    run = trainer(out, model, images(labelled), unlabelled=unlabelled, method=method, confidence=0.5, max_steps=4,
                  per_device_train_batch_size=4 // processes, optim="sgd", learning_rate=0.1)
    assert run.args.world_size == processes, run.args.world_size
    run.train()
    if run.is_world_process_zero():
        model.save_pretrained(out)
        run.state.save_to_json(out + "/state.json")
        run.thresholds.save(out)
"""


def test_two_processes_equal_one_with_the_same_batch(tmp_path):
    for outs in trained_by_one_and_by_two(WORKER, tmp_path, "pseudo_label", "mean_teacher").values():
        thresholds = [json.loads((out / "class_thresholds.json").read_text()) for out in outs]
        assert thresholds[0]["pathology"] == pytest.approx(thresholds[1]["pathology"], abs=1e-6)
        logs = [json.loads((out / "state.json").read_text())["log_history"] for out in outs]
        counted = [
            [entry["pathology_pseudo_labels"] for entry in log if "pathology_pseudo_labels" in entry] for log in logs
        ]
        assert counted[0] == counted[1]
        assert sum(counted[0]) > 0
        for first, second in zip(*logs, strict=True):
            if "loss" in first:
                assert first["loss"] == pytest.approx(second["loss"], abs=1e-5)
