"""What is frozen stays as it was, also under weight decay, and what is not moves."""

import pytest
import torch
from made_labelled import classifier, images, trainer
from transformers.models.swin.modeling_swin import SwinDropPath

from mammo_hf.training.callbacks import HeadFirst, freeze

LABELS = [(0, 1), (1, 2), (0, 0), (1, 1)]


def moved(model, before):
    after = dict(model.named_parameters())
    return {name for name in before if not torch.equal(before[name], after[name])}


@pytest.mark.parametrize(
    ("tune", "still", "moves"),
    [
        ("head", ("swin.",), ("classifier.weight",)),
        (
            "last_stage",
            ("swin.embeddings", "swin.encoder.layers.0.blocks"),
            ("swin.encoder.layers.1.blocks.0.mlp.fc1.weight", "swin.encoder.layers.0.downsample.reduction.weight"),
        ),
        ("full", (), ("swin.embeddings.patch_embeddings.projection.weight",)),
    ],
)
def test_only_what_is_tuned_moves(tmp_path, tune, still, moves):
    model = classifier(drop_path_rate=0.3)
    freeze(model, tune)
    before = {name: value.detach().clone() for name, value in model.named_parameters()}
    trainer(tmp_path, model, images(LABELS), per_device_train_batch_size=4, weight_decay=0.5).train()
    changed = moved(model, before)
    assert changed.issuperset(moves)
    assert not [name for name in changed if still and name.startswith(still)]


def test_the_depth_of_a_frozen_part_is_not_drawn_at_random():
    model = classifier(drop_path_rate=0.9)
    freeze(model, "head")
    model.train()
    pixels = torch.randn(2, 1, 112, 56)
    assert torch.equal(model.swin(pixels).last_hidden_state, model.swin(pixels).last_hidden_state)
    assert any(isinstance(part, SwinDropPath) for part in model.modules())


def test_the_encoder_waits_for_its_head(tmp_path):
    model = classifier()
    run = trainer(tmp_path, model, images(LABELS), per_device_train_batch_size=4, max_steps=2, weight_decay=0.5)
    run.add_callback(HeadFirst(2))
    before = {name: value.detach().clone() for name, value in model.named_parameters()}
    run.train()
    assert moved(model, before) == {"classifier.weight", "classifier.bias"}
    run = trainer(tmp_path, model, images(LABELS), per_device_train_batch_size=4, max_steps=3)
    run.add_callback(HeadFirst(2))
    run.train()
    assert "swin.embeddings.patch_embeddings.projection.weight" in moved(model, before)
