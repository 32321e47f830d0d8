"""``predict --defer``: what the model is least sure of is left to a person, by a threshold from validation."""

import csv
import json
from types import SimpleNamespace

import numpy as np
import pytest

import mammo_hf
from mammo_hf.errors import UsageError
from mammo_hf.evaluation.classifier import fit_on_validation, store_fits
from mammo_hf.evaluation.scored import Scored
from mammo_hf.explainers.targets import deferral_thresholds

TASKS = [{"name": "pathology", "labels": ["benign", "malignant"]}]


def test_the_threshold_would_leave_the_fraction_of_validation():
    rng = np.random.default_rng(0)
    labels = rng.integers(0, 2, 200)
    logits = np.stack([np.zeros(200), rng.normal(2 * labels - 1, 1.5)], axis=1)
    images = Scored(logits=logits, labels=labels[:, None], patients=[f"{at // 2:016x}" for at in range(200)])
    config = SimpleNamespace(tasks=TASKS, calibration=None, operating_points=None, confidences=None)
    store_fits(config, fit_on_validation(TASKS, images))
    fit = config.calibration["pathology"]
    odds = np.exp(logits[:, 1] * fit["slope"] + fit["intercept"])
    sure = np.maximum(odds, 1) / (1 + odds)
    for fraction in (0.1, 0.25, 0.5):
        threshold = deferral_thresholds(config, fraction, "image")["pathology"]
        assert (sure < threshold).mean() == pytest.approx(fraction, abs=0.01)
    assert set(config.confidences["pathology"]) == {"image", "breast", "exam"}


def test_the_least_sure_are_noted_by_image_and_exam(checkpoint, archive, tmp_path):
    config = json.loads((checkpoint / "config.json").read_text())
    with pytest.raises(UsageError, match="holds no confidences of validation by image"):
        mammo_hf.predict(checkpoint, archive, tmp_path / "a.csv", defer=0.5, num_workers=0)
    with pytest.raises(UsageError, match="defer"):
        mammo_hf.predict(checkpoint, archive, tmp_path / "a.csv", defer=1.0, num_workers=0)
    sure = sorted(highest for highest, _, _ in scores(checkpoint, archive, tmp_path / "plain.csv"))
    middle = (sure[len(sure) // 2 - 1] + sure[len(sure) // 2]) / 2
    percentiles = {level: [middle] * 101 for level in ("image", "exam")}
    (checkpoint / "config.json").write_text(json.dumps(config | {"confidences": {"pathology": percentiles}}))
    found = scores(checkpoint, archive, tmp_path / "found.csv", defer=0.5, level="exam")
    assert {level for _, _, level in found} == {"exam", "image"}
    assert {"left_to_a_person" in notes for _, notes, _ in found} == {True, False}
    assert all(("views_missing" in notes) == (level == "exam") for _, notes, level in found)  # no exam has four views
    for highest, notes, _ in found:
        assert ("left_to_a_person" in notes) == (highest < middle)


def scores(checkpoint, archive, output, **options):
    """Highest probability, notes and level of each row."""
    mammo_hf.predict(checkpoint, archive, output, num_workers=0, **options)
    found = []
    for row in csv.DictReader(output.open()):
        highest = max(float(row[f"pathology:{label}"]) for label in ("benign", "malignant"))
        found.append((highest, row["notes"].split(";"), row.get("level", "image")))
    return found
