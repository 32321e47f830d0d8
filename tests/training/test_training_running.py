"""New starts, resumes and interrupts of a Trainer's output folder."""

from __future__ import annotations

import json
import os

import pytest

from mammo_hf.errors import DataError, UsageError
from mammo_hf.models.checkpoint import load_model, load_processor, read_config
from mammo_hf.models.modeling_mammo_swin import MammoSwinForImageClassification
from mammo_hf.training.trainer import SaveOnInterrupt, checkpoint_to_resume, clear_for_a_new_start


def checkpoint(output, step, planned):
    folder = output / f"checkpoint-{step}"
    folder.mkdir(parents=True)
    (folder / "trainer_state.json").write_text(json.dumps({"global_step": step, "max_steps": planned}))
    return folder


def test_a_finished_run_makes_room(tmp_path):
    checkpoint(tmp_path, 4, 8)
    checkpoint(tmp_path, 8, 8)
    (tmp_path / "model.safetensors").touch()
    clear_for_a_new_start(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["model.safetensors"]
    clear_for_a_new_start(tmp_path / "nowhere")


def test_an_unfinished_run_is_not_thrown_away(tmp_path):
    kept = checkpoint(tmp_path, 4, 8)
    with pytest.raises(UsageError, match=r"unfinished here \(step 4 of 8\); go on with --resume"):
        clear_for_a_new_start(tmp_path)
    assert kept.is_dir()
    (kept / "trainer_state.json").write_text("{")
    with pytest.raises(UsageError, match="unfinished"):
        clear_for_a_new_start(tmp_path)


def test_which_checkpoint_is_resumed(tmp_path):
    checkpoint(tmp_path, 4, 8)
    newest = str(checkpoint(tmp_path, 12, 16))
    assert checkpoint_to_resume(tmp_path, None) is None
    assert checkpoint_to_resume(tmp_path, "False") is None
    assert checkpoint_to_resume(tmp_path, True) == checkpoint_to_resume(tmp_path, "true") == newest
    assert checkpoint_to_resume(tmp_path, newest) == newest
    for output, resume in ((tmp_path / "empty", True), (tmp_path, str(tmp_path))):
        with pytest.raises(UsageError, match="checkpoint to resume from"):
            checkpoint_to_resume(output, resume)


def test_a_forked_worker_does_not_take_the_interrupt_for_its_own(monkeypatch):
    guard = SaveOnInterrupt()
    process = os.getpid()
    monkeypatch.setattr(os, "getpid", lambda: process + 1)
    guard._note(2, None)
    assert not guard.interrupted
    monkeypatch.undo()
    guard._note(2, None)
    assert guard.interrupted


def test_folders_without_a_model_say_so(tmp_path):
    with pytest.raises(UsageError, match="there is no model here"):
        read_config(tmp_path)
    (tmp_path / "config.json").write_text('{"model_type": "vit"}')
    with pytest.raises(UsageError, match="of type 'vit'"):
        read_config(tmp_path)
    with pytest.raises(DataError, match=r"preprocessor_config\.json"):
        load_processor(tmp_path)
    (tmp_path / "config.json").write_text('{"model_type": "swin"}')
    (tmp_path / "model.safetensors").write_text("{x")
    with pytest.raises(DataError, match="cannot be loaded"):
        load_model(MammoSwinForImageClassification, tmp_path)
