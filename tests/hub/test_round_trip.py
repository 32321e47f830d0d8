"""What was pushed is loaded by its name from an empty cache: by stock transformers, and by our pipeline."""

import json
import subprocess
import sys

import huggingface_hub
import numpy as np
import pytest
import torch
from hub_fixtures import change_json

from mammo_hf.data.terms import PHANTOMS, write_terms
from mammo_hf.errors import install
from mammo_hf.hub.push import push
from mammo_hf.models.configuration_mammo_swin import MammoSwinConfig
from mammo_hf.models.modeling_mammo_swin import MammoSwinForImageClassification, MammoSwinForMaskedImageModeling
from mammo_hf.processing.image_processing_mammo import MammoImageProcessor

NAME = "lab/mammo"
# a process in which mammo_hf cannot be imported: whatever it loads comes from the Hub
STOCK = """
import json, sys
class Blocked:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] == "mammo_hf":
            raise ImportError(f"{name} is not installed here")
sys.meta_path.insert(0, Blocked())
import numpy as np, torch
from PIL import Image
from transformers import AutoImageProcessor, AutoModel, AutoModelForImageClassification
torch.set_num_threads(1)
name, first, folder = sys.argv[1:]
image = np.load(f"{folder}/image.npy")

def read(**how):
    processor = AutoImageProcessor.from_pretrained(name, trust_remote_code=True, **how)
    pixels = processor(image, return_tensors="pt")["pixel_values"]
    model = AutoModelForImageClassification.from_pretrained(name, **how).eval()
    with torch.no_grad():
        return processor, pixels.tolist(), model(pixels).logits.tolist(), model.config

processor, pixels, logits, config = read()
picture = processor(Image.fromarray(image), return_tensors="pt")["pixel_values"].tolist()
try:
    processor("mammogram.dcm")
    dicom = "was read"
except Exception as error:
    dicom = str(error)
told = {"kind": type(config).__name__, "tasks": config.tasks, "pixels": pixels, "picture": picture, "dicom": dicom}
encoder = AutoModel.from_pretrained("lab/encoder").eval()
with torch.no_grad():
    told |= {"tokens": encoder(torch.tensor(pixels)).last_hidden_state.tolist()}
told |= {"logits": logits, "pinned": read(revision=first)[2], "offline": read(local_files_only=True)[2]}
json.dump(told, open(f"{folder}/told.json", "w"))
assert not [name for name in sys.modules if name.partition(".")[0] == "mammo_hf"]
"""


@pytest.fixture
def image():
    pixels = np.zeros((160, 100), np.uint8)
    pixels[10:150, :70] = np.random.default_rng(0).integers(60, 250, (140, 70))
    return pixels


def logits_of(folder, image):
    pixels = MammoImageProcessor.from_pretrained(folder)(image, return_tensors="pt")["pixel_values"]
    with torch.no_grad():
        return pixels, MammoSwinForImageClassification.from_pretrained(folder).eval()(pixels).logits.numpy()


def encoder_pushed(folder):
    """A model of stage 1 on the Hub, and its encoder."""
    config = MammoSwinConfig(embed_dim=8, depths=[2, 2], num_heads=[1, 2], image_size=(112, 56))
    model = MammoSwinForMaskedImageModeling(config).eval()
    model.save_pretrained(folder)
    write_terms(folder, [PHANTOMS])
    push(folder, "lab/encoder")
    return model.swin


def test_stock_transformers_loads_it_by_name_where_mammo_hf_is_not(hub, checkpoint, image, tmp_path):
    first = push(checkpoint, NAME).commit
    _, before = logits_of(checkpoint, image)
    model = MammoSwinForImageClassification.from_pretrained(checkpoint)
    model.classifier.bias.data += 1
    model.save_pretrained(checkpoint)
    push(checkpoint, NAME)
    pixels, after = logits_of(checkpoint, image)
    encoder = encoder_pushed(tmp_path / "mim")
    np.save(tmp_path / "image.npy", image)
    (tmp_path / "stock.py").write_text(STOCK)
    command = [sys.executable, str(tmp_path / "stock.py"), NAME, first, str(tmp_path)]
    environment = hub.environment(tmp_path / "cache", token=None)
    done = subprocess.run(command, env=environment, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-3000:]
    told = json.loads((tmp_path / "told.json").read_text())
    assert told["kind"] == "SwinConfig"
    assert [task["name"] for task in told["tasks"]] == ["pathology", "density"]
    np.testing.assert_array_equal(np.float32(told["pixels"]), pixels.numpy())
    np.testing.assert_array_equal(told["picture"], told["pixels"])
    for key, logits in (("logits", after), ("pinned", before), ("offline", after)):
        np.testing.assert_allclose(told[key], logits, atol=1e-6, err_msg=key)
    with torch.no_grad():
        np.testing.assert_allclose(told["tokens"], encoder(pixels).last_hidden_state, atol=1e-6)
    assert install() in told["dicom"]


@pytest.fixture
def cache(monkeypatch, tmp_path):
    """An empty cache of this process's client."""
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


def test_our_pipeline_loads_it_by_name(hub, checkpoint, image, cache):
    from transformers import pipeline

    push(checkpoint, NAME)
    here = pipeline("mammogram-classification", model=str(checkpoint))(image)
    there = pipeline("mammogram-classification", model=NAME)(image)
    assert any(cache.glob("models--lab--mammo/snapshots/*/model.safetensors"))
    assert [row["label"] for row in there] == [row["label"] for row in here]
    np.testing.assert_allclose([row["score"] for row in there], [row["score"] for row in here], atol=1e-6)
    hub.faults.clear()
    hub.fail(".", 500)
    offline = MammoSwinForImageClassification.from_pretrained(NAME, local_files_only=True)
    assert offline.config.calibration["pathology"]["method"] == "platt"


def test_a_revision_stays_what_it_was(hub, checkpoint, cache):
    first = push(checkpoint, NAME).commit
    change_json(checkpoint / "config.json", label_smoothing=0.25)
    push(checkpoint, NAME)
    loaded = [MammoSwinForImageClassification.from_pretrained(NAME, revision=r) for r in (first, None)]
    assert [model.config.label_smoothing for model in loaded] == [0.0, 0.25]


def test_a_download_that_breaks_goes_on_where_it_was(hub, checkpoint, cache, monkeypatch):
    monkeypatch.setattr(huggingface_hub.constants, "DOWNLOAD_CHUNK_SIZE", 1000)
    push(checkpoint, NAME)
    hub.fail("GET .*/resolve/.*safetensors", 0, times=1)
    path = huggingface_hub.hf_hub_download(NAME, "model.safetensors")
    assert len(hub.ranges) == 1
    assert hub.ranges[0] != "bytes=0-"
    with open(path, "rb") as file:
        assert file.read() == (checkpoint / "model.safetensors").read_bytes()
