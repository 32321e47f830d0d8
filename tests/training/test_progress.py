import logging
import socket
from types import SimpleNamespace

import pytest
from transformers import Trainer, TrainerControl, TrainerState
from transformers.trainer_callback import PrinterCallback, ProgressCallback

from mammo_hf.training.callbacks import LoggedFigures, ProgressBar, show_progress
from mammo_hf.training.trainer import SwinTrainer

EVALUATION = {"eval_loss": 0.5, "eval_pathology_auroc": 0.75, "eval_runtime": 1.0, "eval_samples_per_second": 3.0}


class Bar:
    def __init__(self):
        self.lines, self.postfix = [], None

    def write(self, line):
        self.lines.append(line)

    def set_postfix_str(self, text):
        self.postfix = text


class FakeTrainer:
    def __init__(self, callback):
        self.callbacks = [callback]

    def pop_callback(self, kind):
        found = [callback for callback in self.callbacks if isinstance(callback, kind)]
        self.callbacks = [callback for callback in self.callbacks if callback not in found]
        return found[0] if found else None

    def add_callback(self, callback):
        self.callbacks.append(callback)


@pytest.fixture
def state():
    return TrainerState(epoch=2.0, global_step=20, max_steps=40, is_world_process_zero=True)


def test_a_loss_stands_beside_the_bar_and_an_evaluation_above_it(state):
    progress = ProgressBar()
    progress.training_bar = Bar()
    progress.on_log(None, state, TrainerControl(), logs={"loss": 0.25, "learning_rate": 1e-3})
    assert progress.training_bar.postfix == "loss 0.25"
    progress.on_log(None, state, TrainerControl(), logs=EVALUATION)
    assert progress.training_bar.lines == ["epoch 2: validation loss 0.5, pathology auroc 0.75"]


def test_without_a_bar_the_same_goes_to_the_log(state, caplog):
    with caplog.at_level(logging.INFO):
        LoggedFigures().on_log(None, state, TrainerControl(), logs={"loss": 0.25})
        LoggedFigures().on_log(None, state, TrainerControl(), logs=EVALUATION)
    assert caplog.messages == ["step 20 of 40: loss 0.25", "epoch 2: validation loss 0.5, pathology auroc 0.75"]


@pytest.mark.parametrize(("before", "after"), [(ProgressCallback, ProgressBar), (PrinterCallback, LoggedFigures)])
def test_ours_stand_in_the_place_of_trainers_own(before, after):
    trainer = FakeTrainer(before())
    show_progress(trainer)
    assert [type(callback) for callback in trainer.callbacks] == [after]


def test_trackers_are_told_no_name_of_the_machine_if_it_is_not_wanted(tmp_path, monkeypatch):
    tensorboard = pytest.importorskip("torch.utils.tensorboard", reason="tensorboard is not installed")

    def train(self):
        tensorboard.SummaryWriter(tmp_path / str(self.args.name_host)).close()
        return socket.gethostname()

    monkeypatch.setattr(socket, "gethostname", lambda: "mammo-pc-7")
    monkeypatch.setattr(Trainer, "train", train)
    trainer = object.__new__(SwinTrainer)
    for wanted in (True, False):
        trainer.args = SimpleNamespace(name_host=wanted)
        assert trainer.train() == ("mammo-pc-7" if wanted else "host")
        [written] = (tmp_path / str(wanted)).iterdir()
        assert ("mammo-pc-7" in written.name) is wanted
    assert socket.gethostname() == "mammo-pc-7"
