import json
from pathlib import Path

import pytest
import torch
from small_archive import write_dicom
from transformers import ViTConfig, ViTForImageClassification, ViTImageProcessor

from mammo_hf.errors import MammoError, UsageError
from mammo_hf.inference.predict import identity, predict
from mammo_hf.inference.scoring import load_classifier
from mammo_hf.testing import tiny_classifier


def test_a_folder_gives_model_and_processor_ready_to_read(checkpoint, processor):
    model, found = load_classifier(str(checkpoint), dtype=torch.bfloat16)
    assert not model.training
    assert model.dtype is torch.bfloat16
    assert found.to_dict() == processor.to_dict()


def test_a_model_that_was_trained_again_is_another(checkpoint):
    before = identity(checkpoint)
    assert identity(checkpoint) == before
    tiny_classifier(seed=1).save_pretrained(checkpoint)
    assert identity(checkpoint) != before
    assert identity(Path("/cache/models--lab--model/snapshots/0123")) == "lab/model@0123"


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
        (_cut_weights, r"model\.safetensors: is damaged"),
        (_another_model, "is a model of type 'vit'"),
        (_three_channels, "with 1 channels, its model takes .* with 3"),
        (_odd_size, "20"),
    ],
)
def test_a_folder_that_lacks_something_says_what(checkpoint, spoil, problem):
    spoil(checkpoint)
    with pytest.raises(MammoError, match=problem) as caught:
        load_classifier(str(checkpoint))
    assert "\n" not in str(caught.value)


def test_a_path_that_is_nowhere_is_told_of_in_one_line(tmp_path):
    with pytest.raises(MammoError, match="gone: there is no such folder or file") as caught:
        load_classifier(tmp_path / "gone")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("read", [load_classifier, lambda folder: predict(folder, folder, folder / "scores.csv")])
def test_a_pre_trained_encoder_is_refused_with_the_reason(checkpoint, read):
    path = checkpoint / "config.json"
    config = json.loads(path.read_text()) | {"architectures": ["MammoSwinForMaskedImageModeling"], "tasks": None}
    path.write_text(json.dumps(config))
    write_dicom(checkpoint / "a.dcm")
    with pytest.raises(UsageError, match="is a pre-trained encoder, which has no classifier; train one first"):
        read(checkpoint)
