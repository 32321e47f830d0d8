"""An image that is not like the training images is flagged at every door, and no score changes by it."""

from __future__ import annotations

import csv
from pathlib import Path
from threading import Lock

import numpy as np
import pytest
import torch
from safetensors.numpy import load_file, save_file
from transformers import pipeline

from mammo_hf import MammogramClassificationPipeline, predict
from mammo_hf.app.exam import read_exam
from mammo_hf.errors import DataError
from mammo_hf.inference.scoring import load_classifier
from mammo_hf.models.training_statistics import STATISTICS, TrainingStatistics, pooled_features

CODE = "unlike_training_images"


@pytest.fixture
def statistics(checkpoint, archive):
    """Statistics by which the first file alone is unlike the training images."""
    model, processor = load_classifier(checkpoint)
    files = sorted(archive.glob("?.dcm"))
    pixels = torch.cat([processor(file, return_tensors="pt")["pixel_values"] for file in files])
    with torch.no_grad(), pooled_features(model) as seen:
        model(pixels)
    features = seen[0].numpy()
    mean, others = features[1], (features[2:] - features[1]).T
    away = features[0] - mean
    away -= others @ np.linalg.lstsq(others, away, rcond=None)[0]  # the direction that only the first file goes into
    away /= np.linalg.norm(away)
    found = TrainingStatistics(mean, np.outer(away, away), 1.0).distances(features)
    assert found[0] > 2 * found[1:].max()
    return TrainingStatistics(mean, np.outer(away, away), float(found[0]) / 2)


def rows_of(table: Path) -> list[dict[str, str]]:
    with table.open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def test_the_table_says_so_and_the_scores_stay(checkpoint, archive, statistics, tmp_path):
    predict(checkpoint, archive, tmp_path / "before.csv", num_workers=0)
    statistics.save(checkpoint)
    result = predict(checkpoint, archive, tmp_path / "after.csv", num_workers=0)
    before, after = rows_of(tmp_path / "before.csv"), rows_of(tmp_path / "after.csv")
    assert [CODE in row["notes"].split(";") for row in after] == [True] + [False] * (len(after) - 1)
    assert [{**row, "notes": ""} for row in after] == [{**row, "notes": ""} for row in before]
    assert result is not None
    assert result.notes[CODE] == 1


def test_explaining_and_several_views_flag_the_same_images(checkpoint, archive, statistics, tmp_path):
    statistics.save(checkpoint)
    for name, options in {"explained": {"explainer": "grad_cam"}, "views": {"tta": True}}.items():
        predict(checkpoint, archive, tmp_path / f"{name}.csv", num_workers=0, **options)
        assert [CODE in row["notes"] for row in rows_of(tmp_path / f"{name}.csv")][:2] == [True, False]


def test_pipeline_and_page_say_so(checkpoint, archive, statistics):
    statistics.save(checkpoint)
    model, processor = load_classifier(checkpoint)
    read = MammogramClassificationPipeline(model=model, image_processor=processor)
    first, second = (read(str(archive / name)) for name in ("0.dcm", "1.dcm"))
    assert all(CODE in one["notes"] for one in first)
    assert not any(CODE in one.get("notes", ()) for one in second)
    read.save_pretrained(checkpoint.with_name("saved"))
    assert pipeline("mammogram-classification", model=str(checkpoint.with_name("saved")))(archive / "0.dcm") == first
    *_, exam = read_exam(model, processor, [archive / "0.dcm", archive / "1.dcm"], lock=Lock())
    assert [note for note in exam.notes if "not like the images that the model was trained on" in note]
    assert sum("not like" in note for note in exam.notes) == 1


def test_statistics_of_another_network_are_refused(checkpoint, statistics):
    statistics.save(checkpoint)
    found = load_file(checkpoint / STATISTICS)
    save_file({**found, "mean": found["mean"][:-1]}, checkpoint / STATISTICS)
    with pytest.raises(DataError, match="damaged"):
        load_classifier(checkpoint)
