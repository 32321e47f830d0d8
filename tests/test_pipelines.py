import subprocess
import sys

import numpy as np
import pytest
from transformers import pipeline

from mammo_hf import Explanation, MammoImageProcessor
from mammo_hf.dicom import mammogram_dataset
from mammo_hf.testing import TASKS, tiny_classifier


@pytest.fixture
def checkpoint(tmp_path):
    tiny_classifier().save_pretrained(tmp_path / "model")
    MammoImageProcessor(size=(112, 56)).save_pretrained(tmp_path / "model")
    return tmp_path / "model"


def test_a_file_becomes_scores_and_explanations(checkpoint, tmp_path):
    pixels = np.random.default_rng(0).integers(0, 4096, (300, 150)).astype(np.uint16)
    mammogram_dataset(pixels, bits_stored=12).save_as(tmp_path / "a.dcm", enforce_file_format=True)
    read = pipeline("mammogram-classification", model=str(checkpoint))
    results = read(str(tmp_path / "a.dcm"), explainer="grad_cam")
    assert [(r["task"]) for r in results] == ["pathology"] * 2 + ["density"] * 3
    for task in TASKS:
        scores = [r["score"] for r in results if r["task"] == task["name"]]
        assert sum(scores) == pytest.approx(1, abs=1e-5)
        assert scores == sorted(scores, reverse=True)
        assert {r["label"] for r in results if r["task"] == task["name"]} == set(task["labels"])
    explained = [r for r in results if "explanation" in r]
    assert len(explained) == 2
    assert isinstance(explained[0]["explanation"], Explanation)
    assert explained[0]["explanation"].target == (f"pathology:{results[0]['label']}",)
    assert explained[0]["explanation"].in_source().shape == (300, 150)
    assert len(read(pixels, top_k=1)) == 2


def test_scores_are_calibrated_as_the_configuration_says(checkpoint, tmp_path):
    pixels = np.random.default_rng(0).integers(0, 4096, (300, 150)).astype(np.uint16)
    before = {r["label"]: r["score"] for r in pipeline("mammogram-classification", model=str(checkpoint))(pixels)}
    model = tiny_classifier()
    model.config.calibration = {
        "pathology": {"method": "platt", "slope": 0.5, "intercept": 1.0},
        "density": {"method": "temperature", "temperature": 4.0},
    }
    model.save_pretrained(checkpoint)
    after = {r["label"]: r["score"] for r in pipeline("mammogram-classification", model=str(checkpoint))(pixels)}
    log_odds = np.log(before["malignant"] / before["benign"])
    assert after["malignant"] == pytest.approx(1 / (1 + np.exp(-0.5 * log_odds - 1)), rel=1e-4)
    softened = np.array([before[label] for label in "abc"]) ** 0.25
    assert [after[label] for label in "abc"] == pytest.approx(list(softened / softened.sum()), rel=1e-4)


@pytest.mark.parametrize(
    "first", ["import mammo_hf.pipelines", "from mammo_hf import MammogramClassificationPipeline", "import mammo_hf"]
)
def test_the_task_is_registered_whatever_is_imported_first(first):
    # our module loads transformers' registry, and the registry's loading loads our module: either may come first
    then = "from transformers.pipelines import PIPELINE_REGISTRY as r; r.check_task('mammogram-classification')"
    done = subprocess.run([sys.executable, "-c", f"{first}\n{then}"], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
