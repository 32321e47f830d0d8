"""An INT8 classifier is written if its scores are those of the model, and refused with the figure that is not."""

from __future__ import annotations

import csv
import importlib.util
import json
import sys
from concurrent.futures import ThreadPoolExecutor
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from mammo_hf import MammoImageProcessor, load
from mammo_hf.cli import main
from mammo_hf.errors import DataError, UsageError
from mammo_hf.evaluation.scored import Scored
from mammo_hf.hub.privacy_check import refuse_identifiers
from mammo_hf.hub.pushed_files import files_to_push
from mammo_hf.inference import int8
from mammo_hf.inference.exported import ExportedClassifier, export_classifier
from mammo_hf.inference.int8 import _refuse, compared
from mammo_hf.phantom.writing import write_phantom
from mammo_hf.testing import tiny_classifier

CONFIG = SimpleNamespace(tasks=[{"name": "pathology", "labels": ["benign", "malignant"]}], calibration=None)


def film_scores() -> tuple[Scored, np.ndarray]:
    """Return labels, and logits that separate them in part, of three images per patient."""
    count = 300
    random = np.random.default_rng(0)
    labels = random.integers(0, 2, count)
    odds = 1.5 * labels + random.normal(0, 1, count)
    patients = [str(number // 3) for number in range(count)]
    return Scored(np.stack([0 * odds, odds], 1), labels[:, None], patients), random


@pytest.mark.parametrize(
    ("noise", "shift", "reason"),
    [
        (0.01, 0.0, None),
        (1.0, 0.0, "AUC may fall"),
        (0.0, 1.0, "Brier score may rise"),
        (0.0, -0.08, r"probabilities change by 0\.01"),
        (0.0, np.nan, "not finite|NaN|not a number|may fall"),
    ],
)
def test_the_guard_refuses_each_figure_that_is_too_far_off(noise, shift, reason):
    images, random = film_scores()
    after = images.logits.copy()
    after[:, 1] += noise * random.normal(0, 1, len(after)) + shift
    if reason is None:
        found = compared(CONFIG, images, after, 200, 0)
        _refuse(found["tasks"], "model")
        low, high = found["tasks"]["pathology"]["auroc_interval"]
        assert low <= np.subtract(*found["tasks"]["pathology"]["auroc"][::-1]) <= high
        assert (found["images"], found["patients"]) == (300, 100)
    else:
        with pytest.raises(DataError, match=reason):
            _refuse(compared(CONFIG, images, after, 200, 0)["tasks"], "model")


def test_test_images_of_one_class_cannot_be_compared():
    images, _ = film_scores()
    one = Scored(images.logits, np.zeros_like(images.labels), images.patients)
    with pytest.raises(DataError, match="pathology cannot be compared"):
        compared(CONFIG, one, images.logits, 200, 0)


@pytest.mark.parametrize(("more", "reason"), [(["--int8"], "--dataset: is needed"), (["--dataset", "x"], "--int8")])
def test_int8_and_its_dataset_go_together(tmp_path, capsys, more, reason):
    assert main(["export", "onnx", "model", "--output_dir", str(tmp_path / "out"), *more]) == 2
    assert reason in capsys.readouterr().err


def test_an_openvino_that_is_not_installed_is_one_sentence(tmp_path, monkeypatch):
    (tmp_path / "model.xml").write_text("<net/>")
    (tmp_path / "tasks.json").write_text('[{"name": "a", "labels": ["b", "c"], "calibration": null}]')
    monkeypatch.setitem(sys.modules, "openvino", None)
    with pytest.raises(UsageError, match="openvino is not installed") as refused:
        ExportedClassifier(tmp_path)
    assert "[openvino]" in str(refused.value)
    found = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name == "openvino" else found(name))
    with pytest.raises(UsageError, match="openvino is not installed"):
        export_classifier(None, None, tmp_path / "out", format="openvino")


@pytest.mark.slow
def test_openvino_scores_as_pytorch_does_from_two_threads(tmp_path):
    pytest.importorskip("openvino", reason="openvino is not installed (the extra openvino)")
    model = tiny_classifier().eval()
    assert export_classifier(model, MammoImageProcessor(size=(112, 56)), tmp_path / "out", format="openvino") < 1e-4
    files = files_to_push(tmp_path / "out")
    assert {"model.xml", "model.bin", "tasks.json"} <= set(files)
    refuse_identifiers({name: files[name] for name in ("model.xml", "model.bin", "README.md")}, paths=[str(tmp_path)])
    loaded, pixels = ExportedClassifier(tmp_path / "out").of_one_thread(), torch.randn(3, 1, 112, 56)
    with torch.inference_mode(), ThreadPoolExecutor(2) as threads:
        expected = model(pixels).logits
        for found in threads.map(loaded, [pixels] * 4):
            torch.testing.assert_close(found.logits, expected, atol=1e-4, rtol=1e-4)


@pytest.mark.slow
def test_a_classifier_becomes_int8_if_the_guard_allows_it(tmp_path, capsys, monkeypatch):
    pytest.importorskip("onnxruntime")
    tiny_classifier().save_pretrained(tmp_path / "model")
    MammoImageProcessor(size=(112, 56)).save_pretrained(tmp_path / "model")
    films, limits = tmp_path / "films", ("LEAST_AUROC", "MOST_BRIER", "MOST_CHANGE")
    write_phantom(films, patients=24, seed=0, size=(224, 112), test_fraction=0.5, progress=False)
    line = ["export", "onnx", str(tmp_path / "model"), "--int8", "--num_workers", "0", "--dataset", str(films)]
    # The weights are random, so that the scores of all images are close: what the guard allows is set by hand
    for limit, allowed in zip(limits, (-1, 1, 0), strict=True):
        monkeypatch.setattr(int8, limit, allowed)
    assert main([*line, "--output_dir", str(tmp_path / "out")]) != 0
    assert "in INT8: pathology: probabilities change by" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()
    monkeypatch.setattr(int8, "MOST_CHANGE", 0.05)
    assert main([*line, "--output_dir", str(tmp_path / "out")]) == 0
    assert "INT8" in capsys.readouterr().out
    found = json.loads((tmp_path / "out" / "int8.json").read_text())
    assert 0 < found["tasks"]["pathology"]["mean_change"] <= 0.05
    files = files_to_push(tmp_path / "out")
    assert "int8.json" in files
    assert b"## INT8" in files["README.md"]
    assert main(["predict", str(tmp_path / "out"), str(films), "--output", str(tmp_path / "s.csv")]) == 0
    assert list(csv.DictReader((tmp_path / "s.csv").open()))
    benign = load(films).where(lambda row: row["split"] == "train" and row["pathology"] == "benign")
    with pytest.raises(DataError, match="have the label benign of pathology"):
        int8._calibrating(benign, "pathology", 0)
