"""New starts, resumes and interrupts of a Trainer's output folder."""

from __future__ import annotations

import json
import os

import pytest
import yaml

from mammo_hf.errors import DataError, UsageError
from mammo_hf.models.checkpoint import load_model, load_processor, read_config
from mammo_hf.models.modeling_mammo_swin import MammoSwinForImageClassification
from mammo_hf.training.classification import REFUSED_HERE, ClassificationConfig
from mammo_hf.training.trainer import SaveOnInterrupt, check_output, resolve_config


def checkpoint(output, step, planned):
    folder = output / f"checkpoint-{step}"
    folder.mkdir(parents=True)
    (folder / "trainer_state.json").write_text(json.dumps({"global_step": step, "max_steps": planned}))
    return folder


def finished(output):
    for name in ("config.json", "metrics.json", "model.safetensors"):
        (output / name).write_text("{}")


def test_a_finished_training_is_replaced_only_on_request(tmp_path):
    checkpoint(tmp_path, 8, 8)
    finished(tmp_path)
    with pytest.raises(
        UsageError, match="holds a finished training; give another `output_dir`, `overwrite_output_dir=True`"
    ):
        check_output(tmp_path, None, overwrite=False)
    assert check_output(tmp_path, None, overwrite=True) is None
    assert check_output(tmp_path, "true", overwrite=False) == str(tmp_path / "checkpoint-8")
    assert (tmp_path / "model.safetensors").is_file()  # a check removes nothing


def test_an_unfinished_run_is_not_thrown_away(tmp_path):
    kept = checkpoint(tmp_path, 4, 8)
    with pytest.raises(UsageError, match=r"unfinished here \(step 4 of 8\); resume it with `resume_from_checkpoint"):
        check_output(tmp_path, None, overwrite=False)
    # one that a full disk has cut short could not be resumed: the one before is
    (checkpoint(tmp_path, 6, 8) / "trainer_state.json").write_text('{"global_step": 6')
    assert check_output(tmp_path, True, overwrite=False) == str(kept)
    with pytest.raises(UsageError, match=r"step 4 of 8"):
        check_output(tmp_path, None, overwrite=False)


def test_a_first_checkpoint_that_was_cut_short_hinders_no_new_start(tmp_path):
    (checkpoint(tmp_path, 4, 8) / "trainer_state.json").write_text("{")
    assert check_output(tmp_path, None, overwrite=False) is None
    with pytest.raises(UsageError, match="has no checkpoint to resume from; start without resuming"):
        check_output(tmp_path, True, overwrite=False)


def test_an_empty_folder_and_none_are_free(tmp_path):
    assert check_output(tmp_path, None, overwrite=False) is None
    assert check_output(tmp_path / "nowhere", "false", overwrite=False) is None


def test_which_checkpoint_is_resumed(tmp_path):
    checkpoint(tmp_path, 4, 8)
    newest = str(checkpoint(tmp_path, 12, 16))
    for resume in (True, "true", newest):
        assert check_output(tmp_path, resume, overwrite=False) == newest
    for output, resume in ((tmp_path / "empty", True), (tmp_path, str(tmp_path))):
        with pytest.raises(UsageError, match="checkpoint to resume from"):
            check_output(output, resume, overwrite=False)


def test_options_are_set_on_a_copy_and_completed_anew(tmp_path):
    config = ClassificationConfig(str(tmp_path), use_cpu=True, num_train_epochs=2)
    other = config.with_options(learning_rate=0.25, lr_scheduler_type="linear", metric_for_best_model="loss")
    assert (config.learning_rate, config.lr_scheduler_type) == (5e-4, "cosine")
    assert (other.learning_rate, other.lr_scheduler_type, other.num_train_epochs) == (0.25, "linear", 2)
    assert (config.greater_is_better, other.greater_is_better) == (True, False)
    config.weight_decay = 0.5  # set on the object itself: kept, too
    assert config.with_options().weight_decay == 0.5


@pytest.mark.parametrize(
    ("options", "source", "says"),
    [
        ({"num_train_epoch": 3}, "num_train_epoch", "did you mean num_train_epochs?"),
        ({"do_predict": True}, "do_predict", "use predict"),
        ({"do_train": True}, "do_train", "always trains"),
        ({"prediction_loss_only": True}, "prediction_loss_only", "choose the best epoch"),
        ({"batch_eval_metrics": True}, "batch_eval_metrics", "not a mean over batches"),
        ({"neftune_noise_alpha": 5.0}, "neftune_noise_alpha", "embeddings of words"),
        ({"use_liger_kernel": True}, "use_liger_kernel", "language models"),
        ({"load_best_model_at_end": True, "eval_strategy": "no"}, None, "eval strategy to match"),
        ({"deepspeed": "none.json"}, None, "Trainer refuses its arguments"),
        ({"learning_rate": float("nan")}, "learning_rate", "must be above 0"),
        ({"validation_fraction": 0.9}, "test_fraction", "below 0.1"),
        ({"tune": "everything"}, "tune", "use full, last_stage, head"),
        ({"fsdp": "full_shard"}, "fsdp", "accelerate launch or torchrun"),
        ({"report_to": "no_such_tracker"}, None, "Trainer refuses its arguments"),
        ({"optim": "adamw_8bit"}, None, "Trainer refuses its arguments: You need to install 'bitsandbytes'"),
    ],
)
def test_what_cannot_be_honoured_is_refused_before_an_image_is_read(tmp_path, options, source, says):
    with pytest.raises(UsageError) as caught:
        resolve_config(ClassificationConfig, None, tmp_path, {"use_cpu": True, **options}, REFUSED_HERE)
    assert caught.value.source == source
    assert says in str(caught.value)


def test_the_saved_configuration_repeats_the_run(tmp_path):
    options = {"use_cpu": True, "learning_rate": 0.125, "tasks": ["density"], "label_percentage": 25, "seed": 7}
    config = resolve_config(ClassificationConfig, None, tmp_path, options)
    config.save(model="nano")
    content = yaml.safe_load((tmp_path / "run.yaml").read_text())
    assert content.pop("model") == "nano"
    assert "output_dir" not in content
    again = resolve_config(ClassificationConfig, None, tmp_path / "other", content)
    assert {**again.to_dict(), "output_dir": ""} == {**config.to_dict(), "output_dir": ""}


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
    with pytest.raises(DataError, match=r"model\.safetensors: is damaged"):
        load_model(MammoSwinForImageClassification, tmp_path)
