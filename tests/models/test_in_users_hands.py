"""Our models in a transformers user's hands: plain Trainer, hooks of accelerate, adapters, other tasks."""

import logging

import numpy as np
import pytest
import torch
from accelerate import cpu_offload, disk_offload, dispatch_model
from torch.utils.data import Dataset
from transformers import (
    AutoConfig,
    EarlyStoppingCallback,
    SwinConfig,
    SwinForImageClassification,
    Trainer,
    TrainingArguments,
)
from transformers.models.swin.modeling_swin import SwinAttention, SwinStage

from mammo_hf import (
    BlockwiseMasking,
    MammoSwinConfig,
    MammoSwinForImageClassification,
    MammoSwinForMaskedImageModeling,
)
from mammo_hf.errors import DataError, UsageError
from mammo_hf.models.sparse_encoder import passed_over_modules_are_plain, warn_dense

SMALL = {"embed_dim": 8, "depths": [2, 2], "num_heads": [1, 2], "image_size": (112, 56), "drop_path_rate": 0.0}
THREE = {"embed_dim": 8, "depths": [2, 2, 2], "num_heads": [1, 2, 2], "image_size": (224, 112), "drop_path_rate": 0.0}
ONE = {"pathology": ["benign", "malignant"]}
TWO = {**ONE, "density": ["a", "b", "c"]}


def classifier(tasks=None, **changes):
    """A classifier whose rows differ enough to be told from new ones."""
    model = MammoSwinForImageClassification(MammoSwinConfig(**SMALL | changes, tasks=tasks))
    with torch.no_grad():
        model.classifier.weight.normal_()
    return model.eval()


def masked_model(**changes):
    model = MammoSwinForMaskedImageModeling(MammoSwinConfig(**THREE | changes)).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.1 * torch.randn_like(parameter))
    return model


def masked_batch(size=(224, 112)):
    masks = [BlockwiseMasking()(size, seed=0, index=index) for index in range(2)]
    return {"pixel_values": torch.randn(2, 1, *size), "bool_masked_pos": torch.from_numpy(np.stack(masks))}


class Examples(Dataset):
    """Eight images of a stage; two labels where a model has two tasks."""

    def __init__(self, stage="one"):
        self.stage = stage

    def __len__(self):
        return 8

    def __getitem__(self, index):
        pixels = torch.randn(1, 112, 56, generator=torch.Generator().manual_seed(index))
        if self.stage == "masked":
            return {"pixel_values": pixels, "bool_masked_pos": torch.arange(28 * 14) // 14 % 8 < 4}
        labels = [index % 2, index % 3]
        return {"pixel_values": pixels, "labels": torch.tensor(labels if self.stage == "two" else labels[0])}


def trainer_of(model, folder, stage="one", **settings):
    arguments = TrainingArguments(
        str(folder),
        use_cpu=True,
        report_to="none",
        disable_tqdm=True,
        per_device_train_batch_size=4,
        **{"num_train_epochs": 2, "logging_strategy": "no", "save_strategy": "no", **settings},
    )
    images = Examples(stage)
    return Trainer(model, arguments, train_dataset=images, eval_dataset=images, compute_metrics=tutorial_metrics)


def tutorial_metrics(prediction):
    """Metrics that take the predictions for one array."""
    if not isinstance(prediction.label_ids, np.ndarray):  # of a masked model: there are none
        return {"images": len(prediction.predictions)}
    return {"labels": prediction.label_ids.ndim, "accuracy": float(np.argmax(prediction.predictions, -1).mean())}


# Labels


@pytest.mark.parametrize(
    ("tasks", "labels"),
    [
        (ONE, torch.eye(2).long()),
        (ONE, torch.eye(2)),
        (ONE, torch.tensor([0.0, 1.0])),
        (TWO, torch.zeros(2, 3).long()),
        (TWO, torch.zeros(2, 1).long()),
        (TWO, torch.zeros(2).long()),
        (TWO, torch.zeros(3, 2).long()),
    ],
)
def test_labels_of_another_shape_are_refused(tasks, labels):
    with pytest.raises(UsageError, match="labels"):
        classifier(tasks)(torch.randn(2, 1, 112, 56), labels=labels)


def test_labels_of_one_task_may_be_a_vector():
    model, pixels = classifier(ONE), torch.randn(2, 1, 112, 56)
    vector = torch.tensor([0, 1])
    assert torch.equal(model(pixels, labels=vector).loss, model(pixels, labels=vector[:, None]).loss)


def test_lesion_targets_of_another_grid_are_refused_and_no_batch_leaves_the_head_without_a_gradient():
    model, pixels = classifier(ONE, lesion_task="pathology"), torch.randn(2, 1, 112, 56)
    with pytest.raises(UsageError, match="lesion_targets"):
        model(pixels, lesion_targets=torch.zeros(2, 7, 7).long())
    model(pixels, labels=torch.tensor([0, 1])).loss.backward()
    assert all(parameter.grad is not None for parameter in model.parameters())
    assert model.lesion_head.weight.grad.abs().max() == 0
    assert model(pixels, lesion_targets=torch.ones(2, 14, 7).long()).loss > 0


# Configurations


def test_rows_of_tasks_that_stay_are_kept(tmp_path, caplog):
    before = classifier(TWO, class_weights={"density": [1, 2, 3]}, lesion_task="pathology")
    before.save_pretrained(tmp_path)
    with caplog.at_level(logging.WARNING, "mammo_hf"):
        after = MammoSwinForImageClassification.from_pretrained(
            tmp_path, tasks={"birads": ["1", "2"], "density": ["a", "b", "c"]}
        )
    assert "kept: density; that are new: birads" in caplog.text
    assert torch.equal(after.classifier.weight[2:], before.classifier.weight[2:])
    assert after.classifier.weight[:2].std() < 0.1  # of a new layer
    assert after.config.class_weights == {"density": [1.0, 2.0, 3.0]}
    assert (after.config.lesion_task, after.lesion_head) == (None, None)
    after.save_pretrained(tmp_path / "again")
    again = MammoSwinForImageClassification.from_pretrained(tmp_path / "again")
    assert torch.equal(again.classifier.weight, after.classifier.weight)


def test_weights_may_be_given_without_a_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "config.json").write_text("no model's")  # what is in the current folder is not looked at
    (tmp_path / "model.safetensors").write_text("no weights")
    given = classifier()
    loaded = type(given).from_pretrained(None, config=given.config, state_dict=given.state_dict())
    assert torch.equal(loaded.classifier.weight, given.classifier.weight)


@pytest.mark.parametrize(
    "asked",
    [{"num_labels": 3}, {"id2label": {0: "neg", 1: "pos"}}, {"id2label": {index: f"x{index}" for index in range(5)}}],
)
def test_other_labels_replace_the_tasks_as_in_stock_swin(tmp_path, asked):
    classifier(TWO).save_pretrained(tmp_path)
    model = MammoSwinForImageClassification.from_pretrained(tmp_path, **asked)
    rows = asked.get("num_labels", len(asked.get("id2label", {})))
    assert (model.config.tasks, model.config.num_labels, model.classifier.out_features) == (None, rows, rows)
    assert model(torch.randn(2, 1, 112, 56), labels=torch.tensor([0, 1])).loss > 0


@pytest.mark.parametrize(
    "wrong",
    [
        {"class_weights": {"nothing": [1, 2]}},
        {"class_weights": {"pathology": [0, 1]}},
        {"class_weights": {"pathology": [1, float("nan")]}},
        {"lesion_task": "nothing"},
        {"score_from": "lesion"},
        {"label_smoothing": 7},
        {"patch_size": [4, 2]},
        {"image_size": 100},
        {"problem_type": "multi_label_classification"},
        {"task_weights": {"pathology": 0, "density": 0}},
        {"lesion_loss_weight": -1},
    ],
    ids=str,
)
def test_a_wrong_value_is_refused_whatever_way_it_comes(tmp_path, wrong):
    classifier(TWO).save_pretrained(tmp_path)
    config = MammoSwinConfig.from_pretrained(tmp_path)
    attributes = MammoSwinConfig.from_pretrained(tmp_path)
    for name, value in wrong.items():
        setattr(attributes, name, value)
    ways = [
        lambda: MammoSwinForImageClassification.from_pretrained(tmp_path, **wrong),
        lambda: MammoSwinForImageClassification(attributes),
    ]
    if "image_size" not in wrong:  # which a model may refuse, a configuration not: another window may fit it
        ways += [lambda: config.update(wrong), lambda: attributes.save_pretrained(tmp_path / "wrong")]
    for way in ways:
        with pytest.raises(UsageError):
            way()
    assert config.to_dict() == MammoSwinConfig.from_pretrained(tmp_path).to_dict()


@pytest.mark.parametrize(
    "needs_tasks",
    [
        {"class_weights": {"pathology": [1, 2]}},
        {"label_smoothing": 0.3},
        {"ordinal_tasks": ["density"]},
        {"lesion_task": "pathology"},
    ],
    ids=str,
)
def test_options_of_tasks_are_refused_without_tasks(needs_tasks):
    with pytest.raises(UsageError):
        MammoSwinConfig(**SMALL, **needs_tasks)


def test_attributes_and_update_bring_labels_that_fit():
    config = MammoSwinConfig(**SMALL, tasks=TWO, class_weights={"pathology": {"malignant": 2, "benign": 1}})
    assert config.class_weights == {"pathology": [1.0, 2.0]}
    config.update({"image_size": 112, "tasks": {"birads": ["1", "2"]}, "class_weights": {"birads": [1, 3]}})
    assert (config.image_size, config.num_labels, config.class_weights) == ([112, 112], 2, {"birads": [1.0, 3.0]})
    config.tasks = TWO
    assert (config.num_labels, config.class_weights) == (5, None)
    for name, value in (("num_labels", 7), ("id2label", {0: "x", 1: "y"})):
        with pytest.raises((UsageError, DataError)):
            setattr(config, name, value)


def test_a_model_whose_tasks_were_changed_afterwards_neither_runs_nor_saves(tmp_path):
    model = classifier(TWO)
    model.config.tasks = {"birads": ["1", "2"]}
    for way in (lambda: model(torch.randn(1, 1, 112, 56)), lambda: model.save_pretrained(tmp_path)):
        with pytest.raises(UsageError, match="tasks"):
            way()


def test_a_stock_configuration_is_taken_over(tmp_path):
    before = classifier(TWO)
    before.save_pretrained(tmp_path)
    stock = AutoConfig.from_pretrained(tmp_path)
    assert type(stock) is SwinConfig
    model = MammoSwinForImageClassification.from_pretrained(tmp_path, config=stock)
    assert model.config.tasks == before.config.tasks
    assert torch.equal(model.classifier.weight, before.classifier.weight)
    assert MammoSwinForMaskedImageModeling(SwinConfig(**SMALL)).config.mim_decoder == "conv"


def test_another_format_is_refused_and_a_newer_transformers_named(tmp_path, caplog):
    classifier(TWO).save_pretrained(tmp_path)
    text = (tmp_path / "config.json").read_text()
    (tmp_path / "config.json").write_text(text.replace('"mammo_hf_format": 1', '"mammo_hf_format": 2'))
    with pytest.raises(DataError, match="format 2 of mammo_hf, this version reads 1"):
        MammoSwinForImageClassification.from_pretrained(tmp_path)
    own = MammoSwinConfig.from_dict({"transformers_version": "99.1.0"})
    assert own.model_type == "swin"
    assert "99.1.0" in caplog.text


# Trainer


@pytest.mark.parametrize("lesion_task", [None, "pathology"])
def test_a_plain_trainer_evaluates_and_keeps_the_best_model_whole(tmp_path, lesion_task):
    model = classifier(ONE, lesion_task=lesion_task)
    settings = {"eval_strategy": "epoch", "save_strategy": "epoch", "load_best_model_at_end": True}
    trainer = trainer_of(model, tmp_path, **settings, learning_rate=1e-2, metric_for_best_model="accuracy")
    trainer.add_callback(EarlyStoppingCallback(2))
    trainer.train()
    assert trainer.label_names == ["labels"]
    best = MammoSwinForImageClassification.from_pretrained(trainer.state.best_model_checkpoint)
    for name, value in best.state_dict().items():
        torch.testing.assert_close(trainer.model.state_dict()[name], value, msg=name)
    prediction = trainer.predict(Examples())
    assert prediction.predictions.shape == (8, 2)
    assert prediction.label_ids.shape == (8,)
    assert {"test_loss", "test_accuracy"} <= set(prediction.metrics)


def test_a_plain_trainer_evaluates_a_masked_model(tmp_path):
    model = MammoSwinForMaskedImageModeling(MammoSwinConfig(**SMALL))
    trainer = trainer_of(model, tmp_path, "masked", eval_strategy="epoch", max_steps=4, gradient_accumulation_steps=2)
    trainer.train()
    assert trainer.evaluate()["eval_loss"] > 0
    assert model(**{name: value[None] for name, value in Examples("masked")[0].items()}, return_loss=False).loss is None


@pytest.mark.parametrize("stage", ["one", "two", "masked"])
def test_an_update_is_the_same_however_it_is_divided(tmp_path, stage):
    losses = []
    for batch, accumulated in ((4, 1), (1, 4)):
        torch.manual_seed(0)
        make = MammoSwinForMaskedImageModeling if stage == "masked" else MammoSwinForImageClassification
        model = make(MammoSwinConfig(**SMALL, tasks={"one": ONE, "two": TWO}.get(stage)))
        settings = {"max_steps": 1, "seed": 0, "gradient_accumulation_steps": accumulated}
        trainer = trainer_of(model, tmp_path, stage, **settings)
        trainer.args.per_device_train_batch_size = batch
        trainer._train_batch_size = batch
        losses.append(trainer.train().training_loss)
    assert losses[0] == pytest.approx(losses[1], rel=1e-4)


# Hooks, devices and adapters


@pytest.mark.parametrize("how", ["cpu_offload", "disk_offload", "stages on disk"])
def test_weights_that_accelerate_moves_give_the_same(tmp_path, how):
    warn_dense.cache_clear()
    model, batch = masked_model(), masked_batch()
    with torch.no_grad():
        wanted = model(**batch).reconstruction
        if how == "cpu_offload":
            cpu_offload(model, execution_device=torch.device("cpu"))
        elif how == "disk_offload":
            disk_offload(model, tmp_path, execution_device=torch.device("cpu"))
        else:
            places = {f"swin.encoder.layers.{index}": "disk" for index in range(3)}
            places |= dict.fromkeys(("swin.embeddings", "swin.layernorm", "decoder", "deep_mask_token"), "cpu")
            model = dispatch_model(model, places, main_device="cpu", offload_dir=tmp_path, force_hooks=True)
        torch.testing.assert_close(model(**batch).reconstruction, wanted, rtol=1e-4, atol=1e-5)


def test_hooks_of_a_user_are_called(caplog):
    warn_dense.cache_clear()
    model, batch, called = masked_model(), masked_batch(), []
    wanted = model(**batch).loss
    for module in model.modules():
        if isinstance(module, SwinStage | SwinAttention):
            module.register_forward_hook(lambda module, *_: called.append(module))
    for _ in range(2):
        torch.testing.assert_close(model(**batch).loss, wanted)
    assert len(called) == 2 * (3 + 6)
    assert caplog.text.count("hooked") == 1


def test_asking_for_hidden_states_once_leaves_the_packed_encoder_in_use():
    model = masked_model()
    assert passed_over_modules_are_plain(model.swin)
    model(**masked_batch(), output_hidden_states=True)
    assert passed_over_modules_are_plain(model.swin)
    model.swin.encoder.layers[0].blocks[0].register_forward_hook(lambda *_: None)
    assert not passed_over_modules_are_plain(model.swin)


def test_weights_on_the_meta_device_can_be_assigned():
    for model, batch in (
        (masked_model(), masked_batch()),
        (classifier(TWO), {"pixel_values": torch.randn(1, 1, 112, 56)}),
    ):
        with torch.device("meta"):
            empty = type(model)(model.config).eval()
        empty.load_state_dict(model.state_dict(), assign=True)
        with torch.no_grad():
            torch.testing.assert_close(empty(**batch)[0], model(**batch)[0])


@pytest.mark.parametrize("reentrant", [True, False])
def test_two_sizes_in_one_backward_under_gradient_checkpointing(reentrant):
    model = classifier(ONE, image_size=112)
    model.train()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.3 * torch.randn_like(parameter))
    sizes = [torch.randn(2, 1, 112, 112), torch.randn(2, 1, 56, 56)]
    gradients = []
    for checkpointing in (False, True):
        if checkpointing:
            model.gradient_checkpointing_enable({"use_reentrant": reentrant})
        model.zero_grad()
        sum(model(pixels, labels=torch.tensor([0, 1])).loss for pixels in sizes).backward()
        gradients.append([parameter.grad for parameter in model.parameters()])
    for one, other in zip(*gradients, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-5)


def test_a_tuple_of_the_classifier():
    model, pixels = classifier(TWO), torch.randn(2, 1, 112, 56)
    labels = torch.tensor([[0, 2], [1, -100]])
    loss, logits = model(pixels, labels=labels, return_dict=False)
    whole = model(pixels, labels=labels)
    assert torch.equal(loss, whole.loss)
    assert torch.equal(logits, whole.logits)


@pytest.mark.slow
def test_it_compiles_in_one_graph_with_labels_and_lesions():
    model, pixels = classifier(TWO, lesion_task="pathology", ordinal_tasks=["density"]), torch.randn(2, 1, 112, 56)
    given = {"labels": torch.tensor([[0, 2], [1, -100]]), "lesion_targets": torch.randint(-1, 3, (2, 14, 7))}
    given["lesion_targets"][given["lesion_targets"] < 0] = -100
    compiled = torch.compile(model, backend="eager", fullgraph=True)
    torch.testing.assert_close(compiled(pixels, **given).loss, model(pixels, **given).loss)


def test_adapters_train_where_they_are_put(tmp_path):
    peft = pytest.importorskip("peft")
    model, batch = masked_model(), masked_batch()
    adapted = peft.get_peft_model(model, peft.LoraConfig(r=2, target_modules=["q_proj", "projection"]))
    adapted(**batch).loss.backward()
    without = [name for name, p in adapted.named_parameters() if p.requires_grad and p.grad is None]
    assert not without
    base = classifier(TWO, lesion_task="pathology")
    base.save_pretrained(tmp_path / "base")
    settings = peft.LoraConfig(r=2, target_modules=["q_proj"], modules_to_save=["classifier"])
    base.name_or_path = str(tmp_path / "base")
    adapted = peft.get_peft_model(base, settings)
    trainer = trainer_of(
        adapted, tmp_path, "two", eval_strategy="epoch", save_strategy="epoch", load_best_model_at_end=True
    )
    trainer.compute_metrics = None
    trainer.train()
    assert trainer.label_names == ["labels"]
    assert trainer.state.best_metric > 0
    pixels = torch.randn(2, 1, 112, 56)
    wanted = adapted.eval()(pixels).logits
    adapted.merge_and_unload().save_pretrained(tmp_path / "merged")
    for kind in (MammoSwinForImageClassification, SwinForImageClassification):
        torch.testing.assert_close(
            kind.from_pretrained(tmp_path / "merged")(pixels).logits, wanted, rtol=1e-4, atol=1e-5
        )
