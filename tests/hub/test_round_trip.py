"""What was pushed is loaded by its name from an empty cache: by stock transformers, and by our pipeline."""

import json
import re
import subprocess
import sys

import huggingface_hub
import numpy as np
import pytest
import torch
from hub_fixtures import change_json
from PIL import Image

from mammo_hf.data.terms import PHANTOMS, write_terms
from mammo_hf.errors import install
from mammo_hf.hub.push import push
from mammo_hf.metrics.calibration import calibrated
from mammo_hf.models.configuration_mammo_swin import MammoSwinConfig
from mammo_hf.models.modeling_mammo_swin import MammoSwinForImageClassification, MammoSwinForMaskedImageModeling
from mammo_hf.processing.image_processing_mammo import MammoImageProcessor

NAME = "lab/mammo"
# a process in which mammo_hf cannot be imported: whatever it loads comes from the Hub
STOCK = r"""
import contextlib, io, json, os, re, sys
class Blocked:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] == "mammo_hf":
            raise ImportError(f"{name} is not installed here")
sys.meta_path.insert(0, Blocked())
import numpy as np, torch
from huggingface_hub import hf_hub_download
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

def code_of(name):
    with open(hf_hub_download(name, "README.md"), encoding="utf-8") as card:
        return [code for code in re.findall("```python\n(.*?)```", card.read(), re.S) if "mammo_hf" not in code]

def run(code, picture=None):
    if picture:
        os.replace(picture, "breast.png")
    space, printed = {}, io.StringIO()
    with contextlib.redirect_stdout(printed), torch.no_grad():
        exec(code, space)
    return space.get("logits", space.get("tokens")).tolist(), printed.getvalue()

by_processor, by_numpy = code_of(name)
told["card_logits"], told["scores"] = run(by_processor)
told["from_canvas"], told["from_large"] = run(by_numpy, "canvas.png")[0], run(by_numpy, "large.png")[0]
told["card_tokens"] = [run(code_of("lab/encoder")[0])[0], run(code_of("lab/encoder")[1])[0]]
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
    MammoImageProcessor(size=(112, 56)).save_pretrained(folder)
    write_terms(folder, [PHANTOMS])
    push(folder, "lab/encoder")
    return model.swin


def save_16_bits(intensity, path):
    Image.fromarray(np.rint(intensity * 65535).astype(np.uint16)).save(path)


def pictures_for_the_card(folder, image, checkpoint):
    """A film, the breast on the canvas and a breast that is larger; returns the tensor of the last."""
    processor = MammoImageProcessor.from_pretrained(checkpoint)
    save_16_bits(image / 255, folder / "mammogram.png")
    save_16_bits(processor.fit(image)[0], folder / "canvas.png")
    save_16_bits(image[7:151, :77] / 255, folder / "large.png")
    steps = dict.fromkeys(("crop_to_breast", "blank_outside_breast", "orient", "invert_negatives"), False)
    whole = MammoImageProcessor.from_dict(processor.to_dict() | steps)
    return whole(image[7:151, :77], return_tensors="pt")["pixel_values"]


@pytest.mark.slow
def test_stock_transformers_loads_it_by_name_where_mammo_hf_is_not(hub, checkpoint, image, tmp_path):
    first = push(checkpoint, NAME).commit
    _, before = logits_of(checkpoint, image)
    model = MammoSwinForImageClassification.from_pretrained(checkpoint)
    model.classifier.bias.data += 1
    model.save_pretrained(checkpoint)
    push(checkpoint, NAME)
    pixels, after = logits_of(checkpoint, image)
    encoder = encoder_pushed(tmp_path / "mim")
    large = pictures_for_the_card(tmp_path, image, checkpoint)
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
        tokens = encoder(pixels).last_hidden_state
        np.testing.assert_allclose(told["from_large"], model.eval()(large).logits, atol=1e-4)
    np.testing.assert_allclose(told["tokens"], tokens, atol=1e-6)
    # the card's own code: with the repository's processor, and with numpy from a picture of 16 bits
    np.testing.assert_allclose(told["card_logits"], after, atol=1e-6)
    np.testing.assert_allclose(told["from_canvas"], after, atol=1e-4)
    np.testing.assert_allclose(told["card_tokens"][0], tokens, atol=1e-6)
    assert np.shape(told["card_tokens"][1]) == np.shape(told["tokens"])
    wanted = [
        calibrated(after[:, part], model.config.calibration[task]) for task, part in model.config.task_slices.items()
    ]
    found = [float(number) for number in re.findall(r": (\d\.\d+(?:e-\d+)?)", told["scores"])]
    np.testing.assert_allclose(found, np.concatenate(wanted, axis=1)[0], atol=1e-5)
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
