"""Stage 1's Trainer on tensors made up here: how an update may be split up, and what stops it."""

import errno

import numpy as np
import pytest
import torch
from made_images import Made, network, trainer
from safetensors import SafetensorError
from transformers import TrainerCallback, TrainingArguments

from mammo_hf import MammoSwinForMaskedImageModeling
from mammo_hf.data.torch_datasets import MaskedCollator
from mammo_hf.errors import UsageError
from mammo_hf.training.callbacks import FILE, WeightAverage
from mammo_hf.training.mim import MimTrainer
from mammo_hf.training.trainer import Diverged, check_output, last_whole_checkpoint


def weights(model):
    return {name: value.detach().clone() for name, value in model.named_parameters()}


@pytest.mark.parametrize("checkpointing", [False, True])
def test_four_micro_batches_of_one_equal_one_of_four(tmp_path, checkpointing):
    results = []
    for size, steps in ((4, 1), (1, 4)):
        model = network()
        run = trainer(
            tmp_path,
            model,
            per_device_train_batch_size=size,
            gradient_accumulation_steps=steps,
            gradient_checkpointing=checkpointing,
            optim="sgd",
            learning_rate=0.1,
        )
        run.train()
        results.append((weights(model), [entry["loss"] for entry in run.state.log_history if "loss" in entry]))
    (one, losses), (four, losses_of_four) = results
    assert losses == pytest.approx(losses_of_four, rel=1e-4)
    for name in one:
        torch.testing.assert_close(one[name], four[name], rtol=1e-5, atol=1e-6)
    assert not torch.equal(one["deep_mask_token"], weights(network())["deep_mask_token"])
    assert torch.equal(one["swin.embeddings.mask_token"], torch.zeros(1, 1, 8))


def test_a_loss_that_is_no_number_stops_and_names_the_last_checkpoint(tmp_path):
    run = trainer(
        tmp_path,
        network(loss_region="all"),
        Made(broken=5),
        per_device_train_batch_size=2,
        save_strategy="steps",
        save_steps=1,
        max_steps=4,
    )
    with pytest.raises(Diverged, match="checkpoint-2"):
        run.train()
    stored = MammoSwinForMaskedImageModeling.from_pretrained(tmp_path / "checkpoint-2")
    assert all(torch.isfinite(value).all() for value in stored.parameters())


class BreaksItsWeights(TrainerCallback):
    """As a gradient that overflows does: the loss of the step was finite, the weights after it are not."""

    def on_step_end(self, args, state, control, model=None, **kwargs):
        if state.global_step == 3:
            with torch.no_grad():
                model.deep_mask_token.fill_(float("nan"))


def test_broken_weights_do_not_become_a_checkpoint(tmp_path):
    steps = {"save_strategy": "steps", "save_steps": 1, "max_steps": 4}
    run = trainer(tmp_path, network(), per_device_train_batch_size=2, **steps)
    run.add_callback(BreaksItsWeights())
    with pytest.raises(Diverged, match="weights are no longer finite after step 3") as caught:
        run.train()
    assert "checkpoint-2" in str(caught.value)
    assert last_whole_checkpoint(tmp_path).endswith("checkpoint-2")
    assert not (tmp_path / "checkpoint-3" / "model.safetensors").exists()


def test_a_checkpoint_cut_short_is_not_resumed_from(tmp_path):
    for step in (2, 10):
        (tmp_path / f"checkpoint-{step}").mkdir()
        (tmp_path / f"checkpoint-{step}" / "model.safetensors").touch()
    assert last_whole_checkpoint(tmp_path) is None
    (tmp_path / "checkpoint-2" / "trainer_state.json").write_text("{}")
    assert last_whole_checkpoint(tmp_path).endswith("checkpoint-2")


@pytest.mark.parametrize(
    "error",
    [
        OSError(errno.ENOSPC, "No space left on device"),
        SafetensorError("I/O error: No space left on device"),
        RuntimeError("PytorchStreamWriter failed writing file data/0: file write failed"),
    ],
)
def test_a_checkpoint_without_room_is_removed_and_the_advice_works(tmp_path, monkeypatch, error):
    options = {"per_device_train_batch_size": 2, "save_strategy": "steps", "save_steps": 1, "max_steps": 2}
    write = MimTrainer._save_optimizer_and_scheduler

    def full_at(step):
        def save(self, output_dir):
            if self.state.global_step == step:
                raise error
            write(self, output_dir)

        monkeypatch.setattr(MimTrainer, "_save_optimizer_and_scheduler", save)

    full_at(1)
    with pytest.raises(
        UsageError, match=r"step 1 cannot be written: it takes about \d+ kB, .* free space, then run it"
    ):
        trainer(tmp_path, network(), **options).train()
    assert not list(tmp_path.glob("checkpoint-*"))
    assert check_output(tmp_path, None, overwrite=False) is None
    full_at(2)
    with pytest.raises(UsageError, match="resume from checkpoint-1 with `resume_from_checkpoint=True`"):
        trainer(tmp_path, network(), **options).train()
    full_at(0)
    resumed = trainer(tmp_path, network(), **options)
    resumed.train(resume_from_checkpoint=check_output(tmp_path, True, overwrite=False))
    assert resumed.state.global_step == 2


@pytest.mark.parametrize("steps", [3, 4])
def test_a_training_that_was_ended_after_its_last_step_is_not_trained_further(tmp_path, steps):
    # an epoch has four steps: three end within it
    options = {"per_device_train_batch_size": 2, "save_strategy": "steps", "save_steps": 1, "max_steps": steps}
    first = trainer(tmp_path, network(), **options)
    first.train()
    resumed = trainer(tmp_path, network(), **options)
    resumed.train(resume_from_checkpoint=str(tmp_path / f"checkpoint-{steps}"))
    assert resumed.state.global_step == steps
    for name, value in first.model.state_dict().items():
        assert torch.equal(resumed.model.state_dict()[name], value), name


def test_an_average_is_what_is_evaluated_saved_and_resumed(tmp_path):
    model = network()
    average = WeightAverage(model, 0.5)
    run = trainer(tmp_path, model, average=average, per_device_train_batch_size=2, save_strategy="steps", save_steps=3)
    run.train()
    assert (tmp_path / "checkpoint-3" / FILE).is_file()
    own = run.model(**MaskedCollator(model.config)([Made()[0]])).loss.item()
    averaged = run.evaluate()["eval_loss"]
    average.apply()
    assert run.evaluate()["eval_loss"] == pytest.approx(averaged, rel=1e-6)
    assert run.model(**MaskedCollator(model.config)([Made()[0]])).loss.item() != own
    again = network()
    resumed = trainer(tmp_path, again, average=WeightAverage(again, 0.5), per_device_train_batch_size=2)
    resumed._load_from_checkpoint(str(tmp_path / "checkpoint-3"))
    for name, value in average.average.items():
        assert torch.equal(resumed.average.average[name], value), name


def test_the_collator_packs_once_for_the_model():
    model = network().eval()
    examples = [Made()[index] for index in range(2)]
    batch = MaskedCollator(model.config)(examples)
    assert next(iter(batch)) == "pixel_values"
    assert batch["visible"].batch_size == 2
    unpacked = MaskedCollator(model.config, pack=False)(examples)
    assert "visible" not in unpacked
    assert torch.equal(model(**batch).loss, model(**unpacked).loss)
    assert "visible" not in MaskedCollator(network(sparse_encoder=False).config)(examples)
    assert np.isfinite(model(**batch).loss.item())


def test_trainers_own_push_is_refused_before_anything_is_sent(tmp_path):
    args = TrainingArguments(str(tmp_path), use_cpu=True, report_to="none", push_to_hub=True)
    with pytest.raises(UsageError, match="Trainer's own push is not used"):
        MimTrainer(torch.nn.Linear(1, 1), args)
