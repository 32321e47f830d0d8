"""Features of a frozen encoder: what is pooled, and when what is on disk may be used again."""

from pathlib import Path

import datasets
import numpy as np
import pytest
import torch

from mammo_hf.data.loading import load
from mammo_hf.data.torch_datasets import PreparedImages
from mammo_hf.data.training_data import prepared_images, usable_tasks
from mammo_hf.models.configuration_mammo_swin import SIZES, MammoSwinConfig
from mammo_hf.models.modeling_mammo_swin import MammoSwinForImageClassification
from mammo_hf.phantom.writing import write_phantom
from mammo_hf.processing.image_processing_mammo import MammoImageProcessor
from mammo_hf.studies import features
from mammo_hf.studies.cells import FROZEN_RANDOM
from mammo_hf.studies.features import frozen_encoder, frozen_features

PROCESSOR = MammoImageProcessor(size=(112, 112))


@pytest.fixture(scope="module")
def prepared(tmp_path_factory: pytest.TempPathFactory) -> datasets.Dataset:
    root = tmp_path_factory.mktemp("phantom")
    write_phantom(root / "cbis", patients=5, seed=0, size=(224, 112), num_workers=1, progress=False)
    table = load(root / "cbis")
    return prepared_images(table, PROCESSOR, root / "prepared", tasks=usable_tasks(table, ("pathology",)))


def test_a_random_encoder_is_its_seeds() -> None:
    first, again, other = (frozen_encoder(FROZEN_RANDOM, "nano", PROCESSOR, seed).state_dict() for seed in (0, 0, 1))
    assert all(torch.equal(value, again[name]) for name, value in first.items())
    assert not all(torch.equal(value, other[name]) for name, value in first.items())


def test_a_classifier_of_other_tasks_gives_its_encoder(tmp_path: Path) -> None:
    tasks = [{"name": "density", "labels": ["a", "b", "c", "d"]}]
    config = MammoSwinConfig(**SIZES["nano"], image_size=(112, 112), tasks=tasks, ordinal_tasks=["density"])
    model = MammoSwinForImageClassification(config)
    model.save_pretrained(tmp_path)
    encoder = frozen_encoder(str(tmp_path), "nano", PROCESSOR)
    assert not encoder.training
    for name, value in encoder.state_dict().items():
        assert torch.equal(value, model.swin.state_dict()[name]), name


def test_what_is_pooled_is_what_the_encoder_gives(
    prepared: datasets.Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(features, "BATCH_SIZE", 3)  # the last batch is not full
    encoder = frozen_encoder(FROZEN_RANDOM, "nano", PROCESSOR)
    found = frozen_features(encoder, prepared, PROCESSOR, tmp_path / "features")
    images = PreparedImages(prepared, PROCESSOR)
    pixels = torch.stack([images.normalized(images.intensity_and_lesions(i)[0]) for i in range(len(images))])
    with torch.no_grad():
        tokens = encoder(pixels).last_hidden_state
    assert len(found["mean"]) == len(prepared)
    np.testing.assert_allclose(found["mean"], tokens.mean(1), atol=1e-5)
    # nano's three stages hand on 64 and 128 channels and end in 128
    assert found["all_stages"].shape == (len(prepared), 64 + 128 + 128)
    np.testing.assert_allclose(found["all_stages"][:, -128:], found["mean"], atol=1e-6)


def test_features_on_disk_serve_the_same_weights_alone(
    prepared: datasets.Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    encoder = frozen_encoder(FROZEN_RANDOM, "nano", PROCESSOR)
    first = frozen_features(encoder, prepared, PROCESSOR, tmp_path)["mean"]
    other = frozen_encoder(FROZEN_RANDOM, "nano", PROCESSOR, seed=1)
    changed = frozen_features(other, prepared, PROCESSOR, tmp_path)["mean"]
    assert np.abs(changed - first).max() > 1e-3
    monkeypatch.setattr(features, "_compute", lambda *arguments: pytest.fail("they are there"))
    np.testing.assert_array_equal(frozen_features(other, prepared, PROCESSOR, tmp_path)["mean"], changed)


def test_broken_off_features_are_made_again(prepared: datasets.Dataset, tmp_path: Path) -> None:
    encoder = frozen_encoder(FROZEN_RANDOM, "nano", PROCESSOR)
    first = frozen_features(encoder, prepared, PROCESSOR, tmp_path)["mean"]
    (tmp_path / "all_stages.npy").unlink()
    again = frozen_features(encoder, prepared, PROCESSOR, tmp_path)
    np.testing.assert_array_equal(again["mean"], first)
    assert len(again["all_stages"]) == len(prepared)
