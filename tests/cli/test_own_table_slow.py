"""A stranger's table and a folder: train, evaluate and predict without a mapping."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image

from mammo_hf.cli import main

pytestmark = pytest.mark.slow


def write_films(folder):
    folder.mkdir()
    lines = ["Datei;Pat.-Nr.;label"]
    rows, columns = np.mgrid[:224, :112]
    for patient in range(12):
        for view in range(2):
            tissue = np.random.default_rng(10 * patient + view).integers(80, 180, (14, 7))
            picture = (np.hypot(rows - 112, columns) < 90) * np.kron(tissue, np.ones((16, 16)))
            Image.fromarray(picture.astype(np.uint8)).save(folder / f"p{patient}_{view}.png")
            lines.append(f"p{patient}_{view}.png;{patient:04d};{patient % 2}")
    return "\n".join(lines) + "\n"


def test_a_table_and_a_folder_are_enough(tmp_path):
    text = write_films(tmp_path / "films")
    for path in (tmp_path / "labels.csv", tmp_path / "films" / "labels.csv"):
        path.write_text(text)
    dataset, model = f"{tmp_path / 'labels.csv'}:{tmp_path / 'films'}", str(tmp_path / "cls")
    small = ["--num_workers", "0"]
    training = ["--model", "nano", "--image_size", "224", "112", "--max_steps", "2", "--report_to", "none", *small]
    assert main(["finetune", "--dataset", dataset, "--output_dir", model, *training]) == 0
    report = ["--output_dir", str(tmp_path / "report"), "--resamples", "100", "--without_pictures", *small]
    assert main(["evaluate", model, "--dataset", dataset, *report]) == 0
    scores = tmp_path / "scores.csv"
    assert main(["predict", model, str(tmp_path / "films" / "labels.csv"), "--output", str(scores), *small]) == 0
    assert scores.read_text().splitlines()[0].endswith("label:0,label:1")
    assert len(scores.read_text().splitlines()) == 25
