import json
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from mammo_hf import MammoImageProcessor
from mammo_hf.data.terms import Terms, read_terms, write_terms
from mammo_hf.errors import DataError, UsageError
from mammo_hf.inference import exported as onnx_model
from mammo_hf.inference.exported import export_classifier
from mammo_hf.inference.scoring import calibrated_scores, image_logits
from mammo_hf.testing import tiny_classifier

pytestmark = pytest.mark.slow

onnxruntime = pytest.importorskip("onnxruntime")


@pytest.fixture(scope="module")
def exported(tmp_path_factory):
    model, processor = tiny_classifier(lesion_task="pathology"), MammoImageProcessor(size=(112, 56))
    model.config.score_from = "mean"
    model.config.calibration = {"pathology": {"method": "platt", "slope": 0.5, "intercept": 1.0}}
    folder = tmp_path_factory.mktemp("export") / "onnx"
    difference = export_classifier(model, processor, folder)
    return model, processor, folder, difference


def test_the_files_alone_give_the_model_s_scores(exported):
    model, _, folder, difference = exported
    assert difference < 1e-4
    assert sorted(path.name for path in folder.iterdir()) == [
        *("model.onnx", "preprocessor_config.json", "tasks.json", "terms.json"),
    ]
    image = np.random.default_rng(0).integers(0, 65536, (300, 150)).astype(np.uint16)
    pixels = MammoImageProcessor.from_pretrained(folder)([image] * 4, return_tensors="np")["pixel_values"]
    (logits,) = onnxruntime.InferenceSession(folder / "model.onnx").run(None, {"pixel_values": pixels})
    with torch.no_grad():
        of_torch = image_logits(model, torch.from_numpy(pixels)).numpy()
    assert logits == pytest.approx(of_torch, abs=1e-4)
    scores = calibrated_scores(model.config, of_torch)
    for task in json.loads((folder / "tasks.json").read_text()):
        part = logits[:, slice(*task["logits"])].astype(np.float64)
        if task["calibration"] is not None:
            log_odds = task["calibration"]["slope"] * (part[:, 1] - part[:, 0]) + task["calibration"]["intercept"]
            part = np.stack([np.zeros_like(log_odds), log_odds], axis=1)
        own = np.exp(part) / np.exp(part).sum(axis=1, keepdims=True)
        assert own == pytest.approx(scores[task["name"]], abs=1e-4)
        assert len(task["labels"]) == own.shape[1]


def test_a_folder_that_holds_something_is_left_alone(exported):
    model, processor, folder, _ = exported
    with pytest.raises(UsageError, match="already exists"):
        export_classifier(model, processor, folder)


def test_a_model_that_came_out_wrong_is_not_kept(exported, tmp_path, monkeypatch):
    model, processor, _, _ = exported
    written = SimpleNamespace(graph=SimpleNamespace(all_nodes=lambda: ()))
    program = SimpleNamespace(save=lambda path: path.write_bytes(b"a model"), model=written)
    monkeypatch.setattr(torch.onnx, "export", lambda *arguments, **options: program)
    monkeypatch.setattr(onnx_model, "_difference", lambda *anything: 0.5)
    with pytest.raises(DataError, match=r"differ by 0\.5"):
        export_classifier(model, processor, tmp_path / "wrong")
    assert list(tmp_path.iterdir()) == []


def test_without_the_extra_it_is_named(exported, tmp_path, monkeypatch):
    model, processor, _, _ = exported
    monkeypatch.setattr(onnx_model.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(UsageError, match=r'pip install "\.\[onnx\]"'):
        export_classifier(model, processor, tmp_path / "out")


def test_the_working_folders_terms_are_not_taken_for_a_models_own(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    write_terms(tmp_path, (Terms("another's", "free", weights="allowed", clause="as you like"),))
    model = tiny_classifier()
    model.name_or_path = ""
    export_classifier(model, MammoImageProcessor(size=(112, 56)), tmp_path / "out")
    assert [one.name for one in read_terms(tmp_path / "out")] == ["a model without a name"]
