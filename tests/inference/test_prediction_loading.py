import json

import pytest
import torch
from transformers import ViTConfig, ViTForImageClassification, ViTImageProcessor

from mammo_hf.errors import MammoError
from mammo_hf.inference.loading import identity, load_classifier
from mammo_hf.testing import tiny_classifier


def test_a_folder_gives_model_and_processor_ready_to_read(checkpoint, processor):
    model, found = load_classifier(str(checkpoint), dtype=torch.bfloat16)
    assert not model.training
    assert model.dtype is torch.bfloat16
    assert found.to_dict() == processor.to_dict()


def test_a_model_that_was_trained_again_is_another(checkpoint):
    model, _ = load_classifier(str(checkpoint))
    before = identity(str(checkpoint), model)
    assert identity(str(checkpoint), model) == before
    tiny_classifier(seed=1).save_pretrained(checkpoint)
    assert identity(str(checkpoint), model) != before
    snapshot = checkpoint.parent / "models--lab--model" / "snapshots" / "0123"
    snapshot.mkdir(parents=True)
    assert identity(snapshot, model) == "lab/model@0123 torch.float32"


def _without_processor(folder):
    (folder / "preprocessor_config.json").unlink()


def _another_processor(folder):
    ViTImageProcessor().save_pretrained(folder)


def _without_config(folder):
    (folder / "config.json").unlink()


def _without_weights(folder):
    (folder / "model.safetensors").unlink()


def _cut_weights(folder):
    path = folder / "model.safetensors"
    path.write_bytes(path.read_bytes()[:1000])


def _another_model(folder):
    config = ViTConfig(hidden_size=8, num_hidden_layers=1, num_attention_heads=1, intermediate_size=8, image_size=32)
    ViTForImageClassification(config).save_pretrained(folder)


def _three_channels(folder):
    tiny_classifier(num_channels=3).save_pretrained(folder)


def _odd_size(folder):
    path = folder / "preprocessor_config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"size": {"height": 20, "width": 20}}))


@pytest.mark.parametrize(
    ("spoil", "problem"),
    [
        (_without_processor, "no preprocessor_config.json"),
        (_another_processor, "of a ViTImageProcessor"),
        (_without_config, "there is no model here"),
        (_without_weights, "cannot be loaded"),
        (_cut_weights, "cannot be loaded"),
        (_another_model, "of type 'vit'"),
        (_three_channels, "gives 1 channels, its model takes 3"),
        (_odd_size, "20"),
    ],
)
def test_a_folder_that_lacks_something_says_what(checkpoint, spoil, problem):
    spoil(checkpoint)
    with pytest.raises(MammoError, match=problem) as caught:
        load_classifier(str(checkpoint))
    assert "\n" not in str(caught.value)


def test_a_name_that_is_nowhere_is_told_of_in_one_line():
    with pytest.raises(MammoError, match="nobody/nothing: there is no such folder here") as caught:
        load_classifier("nobody/nothing")
    assert "\n" not in str(caught.value)
