import json
import re
from pathlib import Path

import huggingface_hub
import pytest
import torch
from loopback_hub import Repository
from transformers import SwinConfig, SwinForImageClassification, ViTImageProcessor

from mammo_hf import MammoImageProcessor, MammoSwinForImageClassification
from mammo_hf.errors import DataError, UsageError
from mammo_hf.inference.scoring import load_classifier
from mammo_hf.models.checkpoint import (
    kind_of_start,
    load_processor,
    load_starting_weights,
    locate,
    read_tasks,
    repository_of,
    starting_config,
)
from mammo_hf.testing import TASKS, tiny_classifier

TINY = {"embed_dim": 8, "depths": [2, 2], "num_heads": [1, 2], "drop_path_rate": 0.0}


def asked(hub):
    """The requests for models; the client may make some of its own kind."""
    return [line for line in hub.asked if "/models/" in line or "/resolve/" in line]


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    """A cache and a working folder of the test's own."""
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path / "cache"))
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    return tmp_path / "cache"


def publish(hub, name, folder, branch="main", extra=()):
    """Commit a folder's files to a repository of the loopback Hub; returns the commit."""
    repository = hub.repositories.setdefault(name, Repository())
    files = {path.name: path.read_bytes() for path in Path(folder).iterdir()}
    return repository.commit(branch, files | dict.fromkeys(extra, b"x"))


@pytest.fixture
def stock(tmp_path):
    """A stock Swin of colour images, with the processor that is saved next to one."""
    model = SwinForImageClassification(SwinConfig(**TINY, image_size=56)).eval()
    model.save_pretrained(tmp_path / "stock")
    ViTImageProcessor(image_mean=[0.485, 0.456, 0.406], image_std=[0.229, 0.224, 0.225]).save_pretrained(
        tmp_path / "stock"
    )
    return model, tmp_path / "stock"


def test_a_stock_swin_by_its_hub_name_starts_training(hub, stock, caplog):
    model, folder = stock
    commit = publish(hub, "lab/swin-tiny", folder, extra=("pytorch_model.bin", "tf_model.h5", "run.py"))
    processor = MammoImageProcessor(size=(112, 56))
    config = starting_config("lab/swin-tiny", processor.canvas, num_channels=1, tasks=TASKS)
    network = MammoSwinForImageClassification(config).eval()
    with caplog.at_level("INFO"):
        load_starting_weights(network, "lab/swin-tiny", processor)
    assert "lab/swin-tiny" in caplog.text
    found = locate("lab/swin-tiny")
    assert (repository_of(found), found.name) == ("lab/swin-tiny", commit)
    assert sorted(path.name for path in found.iterdir()) == sorted(path.name for path in folder.iterdir())
    assert kind_of_start("lab/swin-tiny") == "checkpoint"
    grey = torch.rand(1, 1, 112, 56)
    theirs = (grey - torch.tensor([0.485, 0.456, 0.406])[:, None, None]) / torch.tensor([0.229, 0.224, 0.225])[
        :, None, None
    ]
    torch.testing.assert_close(
        network.swin.embeddings((grey - 0.25) / 0.25)[0], model.swin.embeddings(theirs)[0], rtol=1e-5, atol=1e-5
    )


def test_a_revision_is_what_it_was_and_a_cached_commit_needs_no_request(hub, tmp_path):
    commits = []
    for seed in (0, 1):
        tiny_classifier(seed=seed).save_pretrained(tmp_path / str(seed))
        MammoImageProcessor(size=(112, 56)).save_pretrained(tmp_path / str(seed))
        commits.append(publish(hub, "lab/mammo", tmp_path / str(seed)))
    hub.repositories["lab/mammo"].branches["v1"] = commits[0]
    for name, commit in (
        ("lab/mammo", commits[1]),
        ("lab/mammo@v1", commits[0]),
        (f"lab/mammo@{commits[0]}", commits[0]),
    ):
        assert locate(name).name == commit
        assert read_tasks(locate(name)) == TASKS
    assert load_processor("lab/mammo@v1").canvas == (112, 56)
    before = len(asked(hub))
    locate(f"lab/mammo@{commits[0]}")
    assert len(asked(hub)) == before
    classifiers = [load_classifier(name)[0] for name in ("lab/mammo@v1", tmp_path / "0")]
    assert torch.equal(*(classifier.classifier.weight for classifier in classifiers))
    with pytest.raises(UsageError, match=r"lab/mammo@v9: .* has no revision 'v9'"):
        locate("lab/mammo@v9")


def test_the_cache_is_read_if_the_hub_cannot_be_reached(hub, stock, monkeypatch):
    commit = publish(hub, "lab/swin", stock[1])
    locate("lab/swin")
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    assert locate("lab/swin").name == commit
    with pytest.raises(UsageError, match=r"no such folder here, and .* HF_HUB_OFFLINE is set"):
        locate("lab/other")
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", False)
    hub.close()
    huggingface_hub.close_session()
    assert locate("lab/swin").name == commit
    with pytest.raises(UsageError, match="cannot be reached"):
        locate("lab/other")


@pytest.mark.parametrize(
    "name",
    [
        "./lab",
        "../lab",
        "/lab/swin",
        "~/swin",
        "lab/swin/best",
        "out/cls",
        "swin.pth",
        "lab/swin.pth",
        "a b",
        Path("lab"),
    ],
)
def test_names_that_look_like_paths_make_no_request(hub, name):
    Path("out").mkdir()
    with pytest.raises(UsageError, match="there is no such folder or file"):
        locate(name)
    assert asked(hub) == []


@pytest.mark.parametrize("name", ["nobody/nothing", "nothing", "nobody/nothing@v1", "nobody/nothing@" + "0" * 40])
def test_other_names_make_one_request_and_are_refused_with_both_readings(hub, name):
    with pytest.raises(
        UsageError, match="there is no such folder here, and from the Hugging Face Hub: there is no such model"
    ) as caught:
        locate(name)
    assert len(asked(hub)) == 1
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("name", ["lab/swin", "lab/swin@" + "0" * 40])
def test_a_hub_that_fails_is_asked_once(hub, stock, name):
    publish(hub, "lab/swin", stock[1])
    hub.fail("GET", 503)
    with pytest.raises(UsageError, match="answers with the error 503"):
        locate(name)
    assert len(asked(hub)) == 1


def test_gated_weights_are_named_as_such(hub, stock, monkeypatch):
    publish(hub, "lab/swin", stock[1])
    error = huggingface_hub.errors.GatedRepoError.__new__(huggingface_hub.errors.GatedRepoError)

    def refuse(*_, **__):
        raise error

    monkeypatch.setattr("mammo_hf.models.checkpoint.snapshot_download", refuse)
    with pytest.raises(UsageError, match=r"terms have to be accepted .*/lab/swin"):
        locate("lab/swin")


def test_a_size_is_a_name_and_misspelled_ones_are_recognised(hub):
    assert locate("tiny") == Path("tiny")
    assert asked(hub) == []
    with pytest.raises(UsageError, match="did you mean tiny"):
        locate("tinny")
    Path("out/cls").mkdir(parents=True)
    assert locate("out/cls") == Path("out/cls")
    with pytest.raises(UsageError, match=re.escape("did you mean out/cls?")):
        locate("out/cls2")


def test_what_is_not_a_classifier_is_refused_with_the_reason(tmp_path):
    with pytest.raises(UsageError, match="tiny: is the name of a model size"):
        read_tasks("tiny")
    with pytest.raises(UsageError, match="there is no model here"):
        read_tasks(tmp_path)
    (tmp_path / "config.json").write_text(
        json.dumps({"model_type": "swin", "architectures": ["MammoSwinForMaskedImageModeling"]})
    )
    with pytest.raises(UsageError, match=r"is a pre-trained encoder, which has no classifier; .*mammo-hf finetune"):
        read_tasks(tmp_path)
    ViTImageProcessor().save_pretrained(tmp_path)
    with pytest.raises(UsageError, match="of a ViTImageProcessor"):
        load_processor(tmp_path)
    (tmp_path / "preprocessor_config.json").write_text("[]")
    with pytest.raises(DataError, match=r"no preprocessor_config\.json that can be read"):
        load_processor(tmp_path)
